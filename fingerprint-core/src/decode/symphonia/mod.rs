//! The built-in decoders: the only folder that touches symphonia.
//!
//! `open.rs` finds the container, the track and the decoder; `watched.rs` is what they read from;
//! this file runs them packet by packet.

mod open;
mod watched;

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::errors::Error;
use symphonia::core::formats::FormatReader;
use symphonia::core::io::MediaSource as _;
use symphonia::core::packet::Packet;

use super::mixdown::Mixdown;
use super::source::{KeptTooMuch, Source, TooLarge};
use super::{DecodeError, DecodeSummary, Meter, Refusal, Refused};
use crate::params::{RATE_MAX_HZ, RATE_MIN_HZ};
use open::Track;
use watched::{Fault, Watched};

/// A file whose packets are this often damaged is not going to get better.
const BAD_PACKETS_MAX: u64 = 100_000;
/// Nor is a container that fails this often in a row. Some demuxers find the next packet after a
/// damaged one, others fail for ever.
const CONTAINER_ERRORS_MAX: u32 = 16;
/// More channels than any layout in use has: the header lies.
const CHANNELS_MAX: usize = 32;
/// What stands for an error when a decoder panicked.
const PANICKED: &str = "the decoder panicked";

/// What to read, and how to call it.
pub(super) struct Request<'n, 's> {
    pub(super) source: Source<'s>,
    /// Name of the input in errors.
    pub(super) name: &'n str,
    /// Name of the container if symphonia finds none.
    pub(super) container: &'static str,
    /// Refuse what can only be decoded in part here.
    pub(super) whole_only: bool,
    /// Do not seek, even if the source can.
    pub(super) sequential: bool,
}

/// Decodes, guessing the container by its content.
pub(super) fn decode(
    request: Request<'_, '_>,
    meter: &mut Meter<'_, '_>,
) -> Result<DecodeSummary, Refusal> {
    let Request { source, name, container, whole_only, sequential } = request;
    let fault = Fault::default();
    let source = Box::new(Watched::new(source, sequential, fault.clone()));
    let result = Session::open(source, container, whole_only)
        .and_then(|session| session.run(meter))
        .map_err(|nothing| nothing.into_refusal(name));
    // Decoders take a failed read for the end, or hide it in an error of their own.
    match fault.take() {
        Some(error) => Err(Refusal::Final(read_error(error, name))),
        None => result,
    }
}

/// Names the error of a reader.
pub(super) fn read_error(source: io::Error, name: &str) -> DecodeError {
    let name = name.to_owned();
    let inner = source.get_ref();
    if let Some(TooLarge { limit_bytes }) = inner.and_then(|inner| inner.downcast_ref()) {
        DecodeError::TooLarge { name, limit_bytes: *limit_bytes }
    } else if let Some(KeptTooMuch { limit_bytes }) = inner.and_then(|inner| inner.downcast_ref()) {
        let reason = format!("no built-in decoder found audio in its first {limit_bytes} bytes");
        DecodeError::NotStreamable { name, reason }
    } else {
        DecodeError::Io { name, source }
    }
}

/// Why there is nothing from the built-in decoders.
enum Nothing {
    /// ffmpeg may know it.
    Refused(Refused),
    /// There is no audio track in the container of this name.
    NoAudio(String),
}

impl Nothing {
    fn refused(container: &str, codec: &str, reason: impl Into<String>) -> Self {
        let (container, codec) = (container.to_owned(), codec.to_owned());
        Self::Refused(Refused { container, codec, reason: reason.into(), partial: false })
    }

    fn into_refusal(self, name: &str) -> Refusal {
        match self {
            Self::Refused(refused) => Refusal::TryFfmpeg(refused),
            Self::NoAudio(container) => {
                Refusal::Final(DecodeError::NoAudio { name: name.to_owned(), container })
            }
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Refused(refused) => &refused.reason,
            Self::NoAudio(_) => "it holds no audio track",
        }
    }
}

/// Runs a piece of symphonia, and makes an error of a panic.
///
/// This is the last line of defence: the decoders are safe code, but parse hostile bytes, and an
/// index out of bounds in one of them must not take the server down. Callers throw away what a
/// panic may have left half done.
fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::DecodeError(PANICKED)))
}

/// One file being decoded.
struct Session<'s> {
    format: Box<dyn FormatReader + 's>,
    track: Track,
    whole_only: bool,
    /// The demuxer does not know the length, so it has to read beyond the end to find it.
    open_ended: bool,
    mixdown: Mixdown,
    bad_packet_count: u64,
    last_error: String,
    /// Rate and channels of the first packet that was decoded.
    first: Option<(u32, usize)>,
}

/// What the container gave.
enum Next {
    Packet(Packet),
    /// Another track begins, in a chained Ogg file.
    Link,
    Damaged,
    End,
}

impl<'s> Session<'s> {
    fn open(
        source: Box<Watched<'s>>,
        container: &'static str,
        whole_only: bool,
    ) -> Result<Self, Nothing> {
        let open_ended = !source.is_seekable();
        let format = open::container(source)
            .map_err(|error| Nothing::refused(container, "unknown", error.to_string()))?;
        let track = open::track(&*format, whole_only)?;
        Ok(Self {
            format,
            track,
            whole_only,
            open_ended,
            mixdown: Mixdown::default(),
            bad_packet_count: 0,
            last_error: "it holds no audio packets".to_owned(),
            first: None,
        })
    }

    fn run(mut self, meter: &mut Meter<'_, '_>) -> Result<DecodeSummary, Nothing> {
        let (mut interleaved, mut mono) = (Vec::new(), Vec::new());
        let mut container_errors = 0;
        while self.bad_packet_count < BAD_PACKETS_MAX && container_errors < CONTAINER_ERRORS_MAX {
            let packet = match self.next() {
                Next::Packet(packet) => packet,
                Next::Damaged => {
                    container_errors += 1;
                    continue;
                }
                Next::Link => match open::track(&*self.format, self.whole_only) {
                    Ok(track) => {
                        self.track = track;
                        continue;
                    }
                    Err(nothing) if self.first.is_none() => return Err(nothing),
                    Err(nothing) => {
                        self.count_bad(nothing.reason());
                        break;
                    }
                },
                Next::End => break,
            };
            container_errors = 0;
            if packet.track_id != self.track.id {
                continue;
            }
            let Some((rate_hz, channel_count)) = self.decode_packet(&packet, &mut interleaved)
            else {
                continue;
            };
            self.mixdown.mix(&mut interleaved, channel_count, &mut mono);
            // All of a packet may be padding.
            if !mono.is_empty() && meter.pass(&mono, rate_hz) == ControlFlow::Break(()) {
                break;
            }
        }
        self.summary()
    }

    fn next(&mut self) -> Next {
        match guarded(|| self.format.next_packet()) {
            Ok(Some(packet)) => Next::Packet(packet),
            Ok(None) => Next::End,
            Err(Error::ResetRequired) => Next::Link,
            Err(Error::IoError(error))
                if self.open_ended && error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Next::End
            }
            Err(error) => {
                self.count_bad(&error.to_string());
                match error {
                    // Cut off, or a failed read, which ends it as well.
                    Error::IoError(_) | Error::DecodeError(PANICKED) => Next::End,
                    _ => Next::Damaged,
                }
            }
        }
    }

    /// Decodes to interleaved samples; returns rate and channels, or `None` if it is damaged.
    fn decode_packet(
        &mut self,
        packet: &Packet,
        interleaved: &mut Vec<f32>,
    ) -> Option<(u32, usize)> {
        let decoder = &mut self.track.decoder;
        let decoded = guarded(|| {
            let decoded = decoder.decode(packet)?;
            let (rate_hz, channels) = (decoded.spec().rate(), decoded.spec().channels().count());
            decoded.copy_to_vec_interleaved(interleaved);
            Ok((rate_hz, channels))
        });
        match decoded {
            Ok((rate_hz, channel_count)) => match implausible(Some(rate_hz), channel_count) {
                None => {
                    self.first.get_or_insert((rate_hz, channel_count));
                    return Some((rate_hz, channel_count));
                }
                Some(reason) => self.count_bad(&reason),
            },
            Err(error) => {
                self.count_bad(&error.to_string());
                match error {
                    Error::ResetRequired => self.track.decoder.reset(),
                    // What the panic left behind is thrown away. A decoder for this track was
                    // made before, so it can be made again.
                    Error::DecodeError(PANICKED) => {
                        if let Ok(track) = open::track(&*self.format, self.whole_only) {
                            self.track = track;
                        }
                    }
                    _ => {}
                }
            }
        }
        None
    }

    fn count_bad(&mut self, reason: &str) {
        self.bad_packet_count += 1;
        if self.last_error != reason {
            reason.clone_into(&mut self.last_error);
        }
    }

    fn summary(self) -> Result<DecodeSummary, Nothing> {
        let container = self.format.format_info().short_name;
        let Some((sample_rate_hz, channel_count)) = self.first else {
            return Err(Nothing::refused(container, &self.track.codec, self.last_error));
        };
        Ok(DecodeSummary {
            container: container.to_owned(),
            codec: self.track.codec,
            sample_rate_hz,
            channel_count,
            duration_s: 0.0,
            bad_packet_count: self.bad_packet_count,
            by_ffmpeg: false,
        })
    }
}

/// What is wrong with this rate and this number of channels, if anything is.
fn implausible(rate_hz: Option<u32>, channel_count: usize) -> Option<String> {
    let rate_is_plausible =
        rate_hz.is_none_or(|rate_hz| (RATE_MIN_HZ..=RATE_MAX_HZ).contains(&rate_hz));
    (!rate_is_plausible || channel_count == 0 || channel_count > CHANNELS_MAX).then(|| {
        let rate_hz = rate_hz.unwrap_or(0);
        format!(
            "its header says {channel_count} channels at {rate_hz} Hz, outside 1 to \
             {CHANNELS_MAX} channels at {RATE_MIN_HZ} to {RATE_MAX_HZ} Hz"
        )
    })
}
