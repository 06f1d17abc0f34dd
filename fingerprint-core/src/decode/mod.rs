//! Encoded audio → mono samples at their original rate.
//!
//! Position in the flow: **audio → samples** → spectrogram.
//!
//! ```text
//! first bytes ─ sniff ─┬▶ plainly no audio ──▶ error
//!                      ├▶ a container that symphonia lacks ─────────▶ ffmpeg ─┐
//!                      └▶ anything else ──▶ symphonia ─┬─ refuses ──▶ ffmpeg ─┤
//!                                                      └─────── mixdown ◀─────┘──▶ sink
//! ```
//!
//! - built in (`symphonia/`): MP1, MP2, MP3, AAC-LC, FLAC, Vorbis, Opus of up to two channels,
//!   ALAC, PCM, ADPCM in MP4, Matroska and WebM, Ogg, WAV, AIFF, CAF, ADTS or bare; of a video
//!   file, the default audio track;
//! - by an `ffmpeg` on the PATH (`ffmpeg.rs`): HE-AAC and AAC of more than two channels, Opus of
//!   more than two channels, WMA, AC-3, DTS, AMR, Speex, WavPack, Monkey's Audio, …, and the
//!   containers AVI, FLV, ASF, MPEG-TS, MPEG-PS, ….
//!
//! Samples are streamed to a sink, never collected, so the length of a file costs no memory. So
//! are streams that cannot seek, unless the container keeps its table of contents at the end or
//! ffmpeg is needed: then they become a temporary file (`source.rs`).
//!
//! Input is hostile: every length is limited, damaged packets are skipped and counted, and a
//! decoder that panics takes nothing with it.

mod aac;
mod error;
mod ffmpeg;
mod mixdown;
mod sniff;
mod source;
mod symphonia;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::DecodeError;
use sniff::{HEAD_BYTES, Kind, MATROSKA};
use source::{Source, Stream};
use tempfile::NamedTempFile;

/// Extensions by which audio and video files are known in folders: all that the decoders read
/// and the usual ones that ffmpeg adds. `ts` is left out: most such files are source code.
pub const EXTENSIONS: [&str; 53] = [
    "3g2", "3gp", "aac", "ac3", "adts", "aif", "aifc", "aiff", "amr", "ape", "asf", "au", "avi",
    "caf", "dff", "dsf", "dts", "eac3", "f4a", "flac", "flv", "m2ts", "m4a", "m4b", "m4p", "m4r",
    "m4v", "mka", "mkv", "mov", "mp1", "mp2", "mp3", "mp4", "mpa", "mpc", "mpeg", "mpg", "mpga",
    "mts", "oga", "ogg", "ogv", "opus", "snd", "spx", "tta", "vob", "wav", "wave", "webm", "wma",
    "wv",
];

/// Where encoded audio comes from.
pub enum Input<'a> {
    /// A file. What is no regular file (a pipe, say) is read as a stream.
    Path(&'a Path),
    /// A whole file in memory.
    Bytes(&'a [u8]),
    /// A stream that cannot seek, such as standard input.
    Stream(Box<dyn Read + Send + 'a>),
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Input<'_> {
    /// What error messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Bytes(bytes) => format!("audio of {} bytes", bytes.len()),
            Self::Stream(_) => "the audio stream".to_owned(),
        }
    }
}

/// Limits and choices of decoding.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Longest audio that is decoded, in seconds; more is an error (default 30 h: a day's
    /// recording, which no encoder ends to the second).
    pub duration_max_s: f64,
    /// Largest stream in bytes (default 8 GiB); more is an error. Files and bytes in memory are
    /// as large as they are.
    pub input_max_bytes: u64,
    /// Most bytes of a stream that are kept, on disk, for a second look, until its first samples are out
    /// (default: all that may come). For streams that may never end; more is
    /// [`DecodeError::NotStreamable`].
    pub kept_max_bytes: u64,
    /// The program for what the built-in decoders lack (default `ffmpeg`, looked up on the
    /// PATH); `None` never starts one. Streams that may never end do without: it would wait for their end.
    pub ffmpeg: Option<PathBuf>,
    /// Longest run of that program (default 10 minutes), the time that the sink takes included.
    pub ffmpeg_timeout: Duration,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            duration_max_s: 30.0 * 3600.0,
            input_max_bytes: 8 << 30,
            kept_max_bytes: u64::MAX,
            ffmpeg: Some(PathBuf::from("ffmpeg")),
            ffmpeg_timeout: Duration::from_secs(600),
        }
    }
}

/// What was decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeSummary {
    /// Container as the demuxer names it, e.g. `ogg`; `unknown` if only ffmpeg could read it.
    pub container: String,
    /// Codec, e.g. `vorbis`; `unknown` if only ffmpeg could read it.
    pub codec: String,
    /// Sample rate in Hz (the first one, if it changes).
    pub sample_rate_hz: u32,
    /// Channels (the first number, if it changes).
    pub channel_count: usize,
    /// Seconds decoded.
    pub duration_s: f64,
    /// Damaged packets that were skipped; with ffmpeg, the lines of its complaints.
    pub bad_packet_count: u64,
    /// True if the external program decoded it.
    pub by_ffmpeg: bool,
}

/// Takes mono samples (full scale ±1, at most ±8, never NaN) and their rate in Hz; `Break` ends
/// decoding early.
pub type Sink<'a> = &'a mut dyn FnMut(&[f32], u32) -> ControlFlow<()>;

/// Counts what passes to the caller's sink and stops at the limit.
struct Meter<'a, 's> {
    sink: Sink<'a>,
    /// Stops keeping its bytes as soon as samples are out.
    stream: Option<Stream<'s>>,
    duration_s: f64,
    duration_max_s: f64,
    too_long: bool,
}

impl Meter<'_, '_> {
    fn pass(&mut self, samples: &[f32], rate_hz: u32) -> ControlFlow<()> {
        if let Some(stream) = self.stream.take() {
            stream.forget();
        }
        let duration_s = self.duration_s + samples.len() as f64 / f64::from(rate_hz.max(1));
        if duration_s > self.duration_max_s {
            self.too_long = true;
            return ControlFlow::Break(());
        }
        self.duration_s = duration_s;
        (self.sink)(samples, rate_hz)
    }
}

/// Why the built-in decoders did not deliver. The sink has had nothing of `TryFfmpeg`.
enum Refusal {
    /// Another decoder may do better.
    TryFfmpeg(Refused),
    /// It would not help.
    Final(DecodeError),
}

/// What the built-in decoders found out before they gave up.
struct Refused {
    container: String,
    codec: String,
    reason: String,
    /// They can decode a part of it.
    partial: bool,
}

/// How to read a container of this name, first and second: `true` from start to end, `false` with
/// seeking.
///
/// Some demuxers (Matroska, AIFF) refuse a file that is cut off if they can look for its end, and
/// others a file whose tables are behind the audio if they cannot. Matroska is read from start to
/// end first, because with seeking its demuxer goes through the whole file before it begins.
fn attempts(container: &str) -> [bool; 2] {
    if container == MATROSKA { [true, false] } else { [false, true] }
}

/// Decodes `input`, mixes it to mono and hands it to `sink` in chunks with their sample rate in
/// Hz. An early end by the sink is a success.
///
/// Mono is the mean of the channels; where one channel of a stereo recording is the mirror image
/// of the other, so that they would cancel, it is half their difference. The samples are the same
/// whether they come from a path, from memory or from a stream.
///
/// # Errors
///
/// [`DecodeError`]. The sink may have had samples before.
pub fn decode(
    input: Input<'_>,
    options: &DecodeOptions,
    sink: Sink<'_>,
) -> Result<DecodeSummary, DecodeError> {
    let name = input.name();
    let duration_max_s = options.duration_max_s;
    let meter = Meter { sink, stream: None, duration_s: 0.0, duration_max_s, too_long: false };
    let mut job = Job { name: &name, options, meter };
    let summary = match input {
        Input::Path(path) => job.decode_path(path),
        Input::Bytes(bytes) => job.decode_seekable(Place::Memory(bytes)),
        Input::Stream(stream) => job.decode_stream(stream),
    }?;
    if job.meter.too_long {
        return Err(DecodeError::TooLong { name, limit_s: duration_max_s });
    }
    Ok(DecodeSummary { duration_s: job.meter.duration_s, ..summary })
}

/// Bytes that can be read again from their start.
#[derive(Clone, Copy)]
enum Place<'a> {
    File(&'a Path),
    Memory(&'a [u8]),
}

/// One input on its way through the decoders.
struct Job<'j, 's> {
    name: &'j str,
    options: &'j DecodeOptions,
    meter: Meter<'j, 's>,
}

impl<'s> Job<'_, 's> {
    fn decode_path(&mut self, path: &Path) -> Result<DecodeSummary, DecodeError> {
        let file = File::open(path).map_err(|error| self.io_error(error))?;
        let metadata = file.metadata().map_err(|error| self.io_error(error))?;
        if metadata.is_dir() {
            return Err(self.io_error(io::ErrorKind::IsADirectory.into()));
        }
        if metadata.is_file() {
            self.decode_seekable(Place::File(path))
        } else {
            self.decode_stream(Box::new(file))
        }
    }

    fn decode_seekable(&mut self, place: Place<'_>) -> Result<DecodeSummary, DecodeError> {
        let (_, head) = self.open(place)?;
        match sniff::sniff(&head) {
            Kind::NoAudio(what) => Err(self.no_audio(what)),
            Kind::Foreign(container, codec) => {
                let reason = "no built-in decoder knows this container".to_owned();
                self.run_ffmpeg(place, container.to_owned(), codec.to_owned(), reason)
            }
            Kind::Maybe(container) => {
                self.decode_known(place, container, self.options.ffmpeg.is_some())
            }
        }
    }

    /// Tries the built-in decoders, then ffmpeg.
    fn decode_known(
        &mut self,
        place: Place<'_>,
        container: &'static str,
        whole_only: bool,
    ) -> Result<DecodeSummary, DecodeError> {
        let mut refusal = None;
        for sequential in attempts(container) {
            let (source, _) = self.open(place)?;
            let name = self.name;
            let request = symphonia::Request { source, name, container, whole_only, sequential };
            match symphonia::decode(request, &mut self.meter) {
                Ok(summary) => return Ok(summary),
                Err(Refusal::Final(error)) => return Err(error),
                Err(Refusal::TryFfmpeg(refused)) => {
                    // What the first one says is nearer to the cause.
                    refusal.get_or_insert(refused);
                }
            }
        }
        let refused = refusal.expect("there are two attempts");
        let partial = refused.partial;
        match self.run_ffmpeg(place, refused.container, refused.codec, refused.reason) {
            // A part is better than nothing.
            Err(DecodeError::NeedsFfmpeg { .. }) if partial => {
                self.decode_known(place, container, false)
            }
            result => result,
        }
    }

    fn run_ffmpeg(
        &mut self,
        place: Place<'_>,
        container: String,
        codec: String,
        reason: String,
    ) -> Result<DecodeSummary, DecodeError> {
        let known = ffmpeg::Known { name: self.name, container, codec, reason };
        match place {
            Place::File(path) => ffmpeg::decode(path, &known, self.options, &mut self.meter),
            Place::Memory(bytes) => {
                // Through a file and not through a pipe: some demuxers need to seek.
                let copy = NamedTempFile::new().and_then(|mut file| {
                    file.write_all(bytes)?;
                    file.flush()?;
                    Ok(file)
                });
                let copy = copy.map_err(|error| self.io_error(error))?;
                ffmpeg::decode(copy.path(), &known, self.options, &mut self.meter)
            }
        }
    }

    fn decode_stream(
        &mut self,
        stream: Box<dyn Read + Send + 's>,
    ) -> Result<DecodeSummary, DecodeError> {
        let stream = Stream::new(stream, self.options.input_max_bytes, self.options.kept_max_bytes);
        let head = stream.head().map_err(|error| self.io_error(error))?;
        match sniff::sniff(&head) {
            Kind::NoAudio(what) => return Err(self.no_audio(what)),
            // Without the program the rest of the stream is of no use.
            Kind::Foreign(container, codec) if self.options.ffmpeg.is_none() => {
                return Err(self.not_streamable(container, codec));
            }
            Kind::Foreign(..) => {}
            Kind::Maybe(container) => {
                self.meter.stream = Some(stream.clone());
                let request = symphonia::Request {
                    source: Source::Stream(stream.reader()),
                    name: self.name,
                    container,
                    whole_only: self.options.ffmpeg.is_some(),
                    sequential: true,
                };
                match symphonia::decode(request, &mut self.meter) {
                    Ok(summary) => return Ok(summary),
                    Err(Refusal::Final(
                        error @ (DecodeError::Io { .. }
                        | DecodeError::TooLarge { .. }
                        | DecodeError::NotStreamable { .. }),
                    )) => return Err(error),
                    // It may be that it cannot be read without seeking.
                    Err(_) => self.meter.stream = None,
                }
            }
        }
        let file = stream.into_file().map_err(|error| self.io_error(error))?;
        match self.decode_seekable(Place::File(file.path())) {
            Err(DecodeError::NeedsFfmpeg { container, codec, .. })
                if self.options.ffmpeg.is_none() =>
            {
                Err(self.not_streamable(&container, &codec))
            }
            result => result,
        }
    }

    /// Opens a place for reading from its start, and reads its first bytes.
    fn open<'p>(&self, place: Place<'p>) -> Result<(Source<'p>, Vec<u8>), DecodeError> {
        match place {
            Place::Memory(bytes) => {
                let head = bytes[..bytes.len().min(HEAD_BYTES)].to_vec();
                Ok((Source::Bytes(io::Cursor::new(bytes)), head))
            }
            Place::File(path) => {
                let open = || {
                    let mut file = File::open(path)?;
                    let mut head = Vec::with_capacity(HEAD_BYTES);
                    (&file).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
                    file.rewind()?;
                    Ok((Source::File(file), head))
                };
                open().map_err(|error| self.io_error(error))
            }
        }
    }

    fn io_error(&self, error: io::Error) -> DecodeError {
        symphonia::read_error(error, self.name)
    }

    fn not_streamable(&self, container: &str, codec: &str) -> DecodeError {
        let reason =
            format!("{container}/{codec} is not built in, and ffmpeg is only used for whole files");
        DecodeError::NotStreamable { name: self.name.to_owned(), reason }
    }

    fn no_audio(&self, what: &str) -> DecodeError {
        DecodeError::Unrecognised { name: self.name.to_owned(), reason: format!("it is {what}") }
    }
}
