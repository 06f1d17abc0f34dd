//! placeholder
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where encoded audio comes from.
#[expect(missing_debug_implementations, reason = "placeholder")]
pub enum Input<'a> {
    /// A file.
    Path(&'a Path),
    /// A whole file in memory.
    Bytes(&'a [u8]),
    /// A stream that cannot seek, such as standard input.
    Stream(Box<dyn Read + Send + Sync>),
}

/// Limits and choices of decoding.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Longest audio that is decoded, in seconds; more is an error (default 24 h).
    pub duration_max_s: f64,
    /// Largest input in bytes (default 8 GiB); a longer stream is an error.
    pub input_max_bytes: u64,
    /// Use this program for what the built-in decoders lack (default: `ffmpeg`, looked up on the
    /// PATH); `None` never starts one.
    pub ffmpeg: Option<PathBuf>,
    /// Longest run of the external program (default 10 minutes).
    pub ffmpeg_timeout: Duration,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        todo!()
    }
}

/// What was decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeSummary {
    /// Container as the demuxer names it, e.g. `ogg`.
    pub container: String,
    /// Codec, e.g. `vorbis`.
    pub codec: String,
    /// Sample rate in Hz (the first one, if it changes).
    pub sample_rate_hz: u32,
    /// Channels (the first number, if it changes).
    pub channel_count: u16,
    /// Seconds decoded.
    pub duration_s: f64,
    /// Damaged packets that were skipped.
    pub bad_packet_count: u64,
    /// True if the external program decoded it.
    pub by_ffmpeg: bool,
}

/// Why audio could not be decoded. (placeholder: to be designed by who writes this module)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {}

/// Decodes `input`, mixes it to mono and hands it to `sink` in chunks with their sample rate in
/// Hz. The sink ends decoding early with `ControlFlow::Break`.
///
/// # Errors
///
/// [`DecodeError`].
pub fn decode(
    input: Input<'_>,
    options: &DecodeOptions,
    sink: &mut dyn FnMut(&[f32], u32) -> ControlFlow<()>,
) -> Result<DecodeSummary, DecodeError> {
    let _ = (input, options, sink);
    todo!()
}
