//! The built-in decoders: the only module that touches symphonia.

use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

use super::{DecodeError, DecodeSummary, Meter, Refusal};
use crate::resample::{RATE_MAX_HZ, RATE_MIN_HZ};

/// A file whose packets are this often damaged is not going to get better.
const BAD_PACKETS_MAX: u64 = 100_000;

/// symphonia's own decoders, and libopus for Opus, which it lacks.
static CODECS: LazyLock<CodecRegistry> = LazyLock::new(|| {
    let mut registry = CodecRegistry::new();
    symphonia::default::register_enabled_codecs(&mut registry);
    registry.register_audio_decoder::<symphonia_adapter_libopus::OpusDecoder>();
    registry
});

/// Decodes `source`, guessing the container by content; the extension only helps the guess.
pub(super) fn decode<'s>(
    source: Box<dyn MediaSource + 's>,
    extension: Option<&OsStr>,
    name: &str,
    meter: &mut Meter<'_>,
) -> Result<DecodeSummary, Refusal> {
    // The last line of defence: the decoders are safe code, but parse hostile bytes, and an index
    // out of bounds in one of them must not take the server down. Nothing that a panic could leave
    // half done is used again afterwards.
    catch_unwind(AssertUnwindSafe(|| Session::open(source, extension, name)?.run(meter)))
        .unwrap_or_else(|_| {
            Err(Refusal::TryFfmpeg {
                container: "unknown".to_owned(),
                codec: "unknown".to_owned(),
                reason: "the built-in decoder failed on it".to_owned(),
            })
        })
}

/// One file being decoded.
struct Session<'s> {
    name: String,
    format: Box<dyn FormatReader + 's>,
    track_id: u32,
    decoder: Box<dyn AudioDecoder>,
    codec: String,
    bad_packet_count: u64,
    last_error: String,
    /// Rate and channels of the first packet that was decoded.
    first: Option<(u32, usize)>,
}

impl<'s> Session<'s> {
    fn open(
        source: Box<dyn MediaSource + 's>,
        extension: Option<&OsStr>,
        name: &str,
    ) -> Result<Self, Refusal> {
        let mut hint = Hint::new();
        if let Some(extension) = extension.and_then(OsStr::to_str) {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(source, Default::default());
        let format = symphonia::default::get_probe()
            .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|error| Refusal::TryFfmpeg {
                container: "unknown".to_owned(),
                codec: "unknown".to_owned(),
                reason: error.to_string(),
            })?;
        let (track_id, decoder, codec) = open_track(&*format, name)?;
        Ok(Self {
            name: name.to_owned(),
            format,
            track_id,
            decoder,
            codec,
            bad_packet_count: 0,
            last_error: "it holds no audio packets".to_owned(),
            first: None,
        })
    }

    fn run(mut self, meter: &mut Meter<'_>) -> Result<DecodeSummary, Refusal> {
        let (mut interleaved, mut mono) = (Vec::new(), Vec::new());
        while self.bad_packet_count < BAD_PACKETS_MAX {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                // The next link of a chained Ogg file: other tracks, another decoder.
                Err(Error::ResetRequired) => {
                    (self.track_id, self.decoder, self.codec) =
                        open_track(&*self.format, &self.name)?;
                    continue;
                }
                Err(Error::IoError(source)) if source.kind() != io::ErrorKind::UnexpectedEof => {
                    return Err(Refusal::Final(DecodeError::Io { name: self.name, source }));
                }
                // The container is damaged or cut off here; what came before counts.
                Err(error) => {
                    self.count_bad(&error);
                    break;
                }
            };
            if packet.track_id != self.track_id {
                continue;
            }
            let decoded = match self.decoder.decode(&packet) {
                Ok(decoded) => decoded,
                Err(error) => {
                    if matches!(error, Error::ResetRequired) {
                        self.decoder.reset();
                    }
                    self.count_bad(&error);
                    continue;
                }
            };
            let (rate_hz, channel_count) =
                (decoded.spec().rate(), decoded.spec().channels().count());
            if !(RATE_MIN_HZ..=RATE_MAX_HZ).contains(&rate_hz) || channel_count == 0 {
                self.bad_packet_count += 1;
                self.last_error = format!("{rate_hz} Hz with {channel_count} channels is no audio");
                continue;
            }
            decoded.copy_to_vec_interleaved(&mut interleaved);
            mix_down(&interleaved, channel_count, &mut mono);
            self.first.get_or_insert((rate_hz, channel_count));
            if meter.pass(&mono, rate_hz) == ControlFlow::Break(()) {
                break;
            }
        }
        self.summary()
    }

    fn count_bad(&mut self, error: &Error) {
        self.bad_packet_count += 1;
        self.last_error = error.to_string();
    }

    fn summary(self) -> Result<DecodeSummary, Refusal> {
        let container = self.format.format_info().short_name.to_owned();
        let Some((sample_rate_hz, channel_count)) = self.first else {
            return Err(Refusal::TryFfmpeg {
                container,
                codec: self.codec,
                reason: self.last_error,
            });
        };
        Ok(DecodeSummary {
            container,
            codec: self.codec,
            sample_rate_hz,
            channel_count,
            duration_s: 0.0,
            bad_packet_count: self.bad_packet_count,
            by_ffmpeg: false,
        })
    }
}

/// Makes a decoder for the first audio track that one is known for.
fn open_track(
    format: &dyn FormatReader,
    name: &str,
) -> Result<(u32, Box<dyn AudioDecoder>, String), Refusal> {
    let container = format.format_info().short_name;
    let no_audio = || {
        let container = container.to_owned();
        Refusal::Final(DecodeError::NoAudio { name: name.to_owned(), container })
    };
    let audio: Vec<_> = format
        .tracks()
        .iter()
        .filter_map(|track| Some((track.id, track.codec_params.as_ref()?.audio()?)))
        .collect();
    let known = |params: &AudioCodecParameters| CODECS.get_audio_decoder(params.codec);
    // A track of an unknown codec may be audio that symphonia has no name for: ffmpeg may know.
    let unnamed = format.default_track(TrackType::Audio).is_some()
        || format.tracks().iter().any(|track| track.codec_params.is_none());
    let Some((id, params)) =
        audio.iter().find(|(_, params)| known(params).is_some()).or(audio.first()).copied()
    else {
        return Err(if unnamed {
            refuse(container, "unknown", "no decoder for it")
        } else {
            no_audio()
        });
    };
    let codec = known(params).map_or("unknown", |decoder| decoder.codec.info.short_name);
    let decoder = CODECS
        .make_audio_decoder(params, &AudioDecoderOptions::default())
        .map_err(|error| refuse(container, codec, &error.to_string()))?;
    Ok((id, decoder, codec.to_owned()))
}

fn refuse(container: &str, codec: &str, reason: &str) -> Refusal {
    let (container, codec) = (container.to_owned(), codec.to_owned());
    Refusal::TryFfmpeg { container, codec, reason: reason.to_owned() }
}

/// Replaces `mono` by the mean of the channels.
fn mix_down(interleaved: &[f32], channel_count: usize, mono: &mut Vec<f32>) {
    mono.clear();
    if channel_count == 1 {
        mono.extend_from_slice(interleaved);
    } else {
        let gain = 1.0 / channel_count as f32;
        let frames = interleaved.chunks_exact(channel_count);
        mono.extend(frames.map(|frame| frame.iter().sum::<f32>() * gain));
    }
}
