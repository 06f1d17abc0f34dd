//! Encoded audio → mono samples at their original rate.
//!
//! Position in the flow: **audio → samples** → spectrogram. Decoders are tried in this order:
//!
//! 1. the built-in ones (`symphonia.rs`): MP3, AAC-LC, FLAC, Vorbis, Opus, ALAC, PCM, ADPCM in
//!    their usual containers, video files included;
//! 2. an `ffmpeg` on the PATH (`ffmpeg.rs`) for what they lack: HE-AAC, WMA, AC-3, AMR, …
//!
//! Samples are streamed to a sink, never collected, so the length of a file costs no memory. A
//! stream that cannot seek is spooled to a temporary file first, because some containers keep
//! their table of contents at the end.
//!
//! Input is hostile: every length is limited, damaged packets are skipped and counted.

mod error;
mod ffmpeg;
mod symphonia;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::DecodeError;
use tempfile::NamedTempFile;

/// Where encoded audio comes from.
pub enum Input<'a> {
    /// A file.
    Path(&'a Path),
    /// A whole file in memory.
    Bytes(&'a [u8]),
    /// A stream that cannot seek, such as standard input.
    Stream(Box<dyn Read + 'a>),
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Input<'_> {
    /// What error messages call it.
    fn name(&self) -> String {
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
    /// Longest audio that is decoded, in seconds; more is an error (default 24 h).
    pub duration_max_s: f64,
    /// Largest stream in bytes (default 8 GiB); more is an error. Files and bytes in memory are
    /// as large as they are.
    pub input_max_bytes: u64,
    /// The program for what the built-in decoders lack (default `ffmpeg`, looked up on the
    /// PATH); `None` never starts one.
    pub ffmpeg: Option<PathBuf>,
    /// Longest run of that program (default 10 minutes).
    pub ffmpeg_timeout: Duration,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            duration_max_s: 24.0 * 3600.0,
            input_max_bytes: 8 << 30,
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
    /// Sample rate in Hz (the first one, if it changes; that of the output with ffmpeg).
    pub sample_rate_hz: u32,
    /// Channels (the first number, if it changes; 1 with ffmpeg).
    pub channel_count: usize,
    /// Seconds decoded.
    pub duration_s: f64,
    /// Damaged packets that were skipped.
    pub bad_packet_count: u64,
    /// True if the external program decoded it.
    pub by_ffmpeg: bool,
}

/// Takes mono samples (full scale ±1) and their rate in Hz; `Break` ends decoding early.
pub type Sink<'a> = &'a mut dyn FnMut(&[f32], u32) -> ControlFlow<()>;

/// Counts what passes to the caller's sink and stops at the limit.
struct Meter<'a> {
    sink: Sink<'a>,
    duration_s: f64,
    duration_max_s: f64,
    too_long: bool,
}

impl Meter<'_> {
    fn pass(&mut self, samples: &[f32], rate_hz: u32) -> ControlFlow<()> {
        self.duration_s += samples.len() as f64 / f64::from(rate_hz.max(1));
        if self.duration_s > self.duration_max_s {
            self.too_long = true;
            return ControlFlow::Break(());
        }
        (self.sink)(samples, rate_hz)
    }
}

/// Why the built-in decoders did not deliver.
enum Refusal {
    /// Another decoder may do better.
    TryFfmpeg { container: String, codec: String, reason: String },
    /// It would not help.
    Final(DecodeError),
}

/// Decodes `input`, mixes it to mono (the mean of its channels) and hands it to `sink` in chunks
/// with their sample rate in Hz. An early end by the sink is a success.
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
    let io_error = |source| DecodeError::Io { name: name.clone(), source };
    let mut meter =
        Meter { sink, duration_s: 0.0, duration_max_s: options.duration_max_s, too_long: false };
    // What is decoded from is either a file or bytes in memory; a stream becomes a file.
    let spooled;
    let (path, bytes) = match input {
        Input::Path(path) => (Some(path), &[][..]),
        Input::Bytes(bytes) => (None, bytes),
        Input::Stream(stream) => {
            spooled = spool(stream, options.input_max_bytes, &name)?;
            (Some(spooled.path()), &[][..])
        }
    };
    let outcome = if let Some(path) = path {
        let file = File::open(path).map_err(io_error)?;
        if file.metadata().map_err(io_error)?.is_dir() {
            return Err(io_error(io::ErrorKind::IsADirectory.into()));
        }
        symphonia::decode(Box::new(file), path.extension(), &name, &mut meter)
    } else {
        symphonia::decode(Box::new(io::Cursor::new(bytes)), None, &name, &mut meter)
    };
    let summary = match outcome {
        Ok(summary) => summary,
        Err(Refusal::Final(error)) => return Err(error),
        Err(Refusal::TryFfmpeg { container, codec, reason }) => {
            let known = ffmpeg::Known { name: &name, container, codec, reason };
            match path {
                Some(path) => ffmpeg::decode(path, &known, options, &mut meter)?,
                None => {
                    let copy = spool(Box::new(bytes), options.input_max_bytes, &name)?;
                    ffmpeg::decode(copy.path(), &known, options, &mut meter)?
                }
            }
        }
    };
    if meter.too_long {
        return Err(DecodeError::TooLong { name, limit_s: options.duration_max_s });
    }
    Ok(DecodeSummary { duration_s: meter.duration_s, ..summary })
}

/// Copies a stream to a temporary file.
fn spool(
    stream: Box<dyn Read + '_>,
    limit_bytes: u64,
    name: &str,
) -> Result<NamedTempFile, DecodeError> {
    let io_error = |source| DecodeError::Io { name: name.to_owned(), source };
    let mut file = NamedTempFile::new().map_err(io_error)?;
    // One byte more than allowed tells a stream at the limit from one beyond it.
    let mut limited = stream.take(limit_bytes.saturating_add(1));
    let copied = io::copy(&mut limited, &mut file).map_err(io_error)?;
    if copied > limit_bytes {
        return Err(DecodeError::TooLarge { name: name.to_owned(), limit_bytes });
    }
    file.flush().map_err(io_error)?;
    Ok(file)
}
