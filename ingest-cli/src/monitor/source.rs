//! Where a stream comes from: a file, standard input, or an address; encoded, or bare samples.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use fingerprint_core::decode::{DecodeError, DecodeOptions, Input, decode};

use super::of;
use crate::args::PcmArg;

/// Samples of bare audio that are read at a time, of each channel.
const PCM_BLOCK_LEN: usize = 1_024;
/// Bytes of a station in which a decoder must find the first audio.
const STATION_KEPT_BYTES_MAX: u64 = 16 << 20;
/// Longest wait for a connection, and for the next bytes of a station.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A source that can be read from its beginning, or from now on.
#[derive(Debug)]
pub(super) struct Source {
    place: Place,
    pcm: Option<PcmArg>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Stdin,
    Address(String),
}

/// How a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// There is no more, or no more was wanted.
    AtItsEnd,
    /// A station, which has no end, has closed the connection.
    HungUp,
}

/// Takes samples and their rate in Hz; `Break` ends the source.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[f32], u32) -> ControlFlow<()>;

impl Source {
    /// # Errors
    ///
    /// If the address is of no known kind.
    pub(super) fn new(source: &Path, pcm: Option<PcmArg>) -> Result<Self> {
        let place = match source.to_str() {
            Some("-") => Place::Stdin,
            Some(text) if text.starts_with("http://") || text.starts_with("https://") => {
                Place::Address(text.to_owned())
            }
            Some(text) if text.contains("://") => {
                let scheme = text.split("://").next().unwrap_or_default();
                return Err(anyhow!(
                    "{scheme}:// cannot be read; use http(s), or ffmpeg -i {text} -f wav - | earmark monitor"
                ));
            }
            _ => Place::File(source.to_owned()),
        };
        Ok(Self { place, pcm })
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// True if it may have no end, and can be called again.
    pub(super) fn is_station(&self) -> bool {
        matches!(self.place, Place::Address(_))
    }

    /// Hands its samples to `sink`, as they come.
    pub(super) fn read(&self, sink: Sink<'_>) -> Result<Ended> {
        match &self.place {
            Place::File(path) => {
                let name = path.display().to_string();
                match self.pcm {
                    Some(pcm) => {
                        let file = File::open(path).map_err(|error| of(&name, error))?;
                        read_pcm(file, pcm, sink).map_err(|error| of(&name, error))?;
                    }
                    None => drop(decode(Input::Path(path), &endless(), sink)?),
                }
                Ok(Ended::AtItsEnd)
            }
            Place::Stdin => {
                // Of a file that comes through a pipe all may have to be kept.
                let kept_max_bytes = DecodeOptions::default().input_max_bytes;
                let options = DecodeOptions { kept_max_bytes, ..endless() };
                self.read_stream(Box::new(io::stdin()), "standard input", &options, sink)?;
                Ok(Ended::AtItsEnd)
            }
            Place::Address(address) => {
                let (body, has_end) = call(address)?;
                let mut wanted = true;
                // Without the external program, which would wait for the end of a station.
                let kept_max_bytes = STATION_KEPT_BYTES_MAX;
                let options = DecodeOptions { ffmpeg: None, kept_max_bytes, ..endless() };
                let read = self.read_stream(body, address, &options, &mut |samples, rate_hz| {
                    let flow = sink(samples, rate_hz);
                    wanted &= flow.is_continue();
                    flow
                });
                read.map_err(|error| with_way_out(error, address))?;
                Ok(if has_end || !wanted { Ended::AtItsEnd } else { Ended::HungUp })
            }
        }
    }

    fn read_stream(
        &self,
        stream: Box<dyn Read + Send>,
        name: &str,
        options: &DecodeOptions,
        sink: Sink<'_>,
    ) -> Result<()> {
        match self.pcm {
            Some(pcm) => read_pcm(stream, pcm, sink).map_err(|error| of(name, error)),
            None => decode(Input::Stream(stream), options, sink)
                .map(drop)
                .with_context(|| name.to_owned()),
        }
    }
}

/// Says how an address can be followed that must be decoded before.
fn with_way_out(error: anyhow::Error, address: &str) -> anyhow::Error {
    match error.downcast_ref() {
        Some(DecodeError::NotStreamable { .. }) => {
            anyhow!("{error:#}: ffmpeg -i {address} -f wav - | earmark monitor")
        }
        _ => error,
    }
}

/// A stream may go on for ever.
fn endless() -> DecodeOptions {
    DecodeOptions {
        duration_max_s: f64::MAX,
        input_max_bytes: u64::MAX,
        ffmpeg_timeout: Duration::from_secs(u64::from(u32::MAX)),
        ..DecodeOptions::default()
    }
}

/// Calls an address; the flag says whether the answer has an end.
fn call(address: &str) -> Result<(Box<dyn Read + Send>, bool)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_TIME_MAX))
        .timeout_recv_response(Some(PAUSE_MAX))
        .timeout_per_read(Some(PAUSE_MAX))
        .user_agent(concat!("earmark/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let answer = agent.get(address).call().with_context(|| format!("{address} does not answer"))?;
    let has_end = answer.headers().contains_key("content-length");
    Ok((Box::new(answer.into_body().into_reader()), has_end))
}

/// Reads bare 16-bit samples; a last piece of a frame is left out.
fn read_pcm(mut stream: impl Read, pcm: PcmArg, sink: Sink<'_>) -> io::Result<()> {
    let frame_bytes = 2 * usize::from(pcm.channel_count);
    let mut bytes = vec![0; PCM_BLOCK_LEN * frame_bytes];
    let mut samples = Vec::with_capacity(PCM_BLOCK_LEN);
    let mut held = 0;
    loop {
        let count = match stream.read(&mut bytes[held..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if count == 0 {
            return Ok(());
        }
        held += count;
        let whole = held / frame_bytes * frame_bytes;
        samples.clear();
        samples.extend(bytes[..whole].chunks_exact(frame_bytes).map(|frame| {
            let channels = frame.as_chunks::<2>().0.iter();
            let sum = channels.map(|x| f32::from(i16::from_le_bytes(*x))).sum::<f32>();
            sum / 32_768.0 / f32::from(pcm.channel_count)
        }));
        if !samples.is_empty() && sink(&samples, pcm.rate_hz).is_break() {
            return Ok(());
        }
        bytes.copy_within(whole..held, 0);
        held -= whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time, as a pipe may.
    struct Slow(Vec<u8>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() || buffer.is_empty() {
                return Ok(0);
            }
            buffer[0] = self.0.remove(0);
            Ok(1)
        }
    }

    #[test]
    fn bare_samples_are_mixed_however_they_come() {
        let bytes = [16_384, -16_384, 16_384, 0, 7_i16].map(i16::to_le_bytes).concat();
        let mut samples = Vec::new();
        let pcm = PcmArg { rate_hz: 8_000, channel_count: 2 };
        read_pcm(Slow(bytes), pcm, &mut |more, rate_hz| {
            assert_eq!(rate_hz, 8_000);
            samples.extend_from_slice(more);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(samples, [0.0, 0.25]);
    }

    #[test]
    fn unknown_kinds_of_addresses_are_refused_with_a_way_out() {
        let error = Source::new(Path::new("rtsp://x/y"), None).unwrap_err().to_string();
        assert!(error.contains("ffmpeg -i rtsp://x/y"), "{error}");
    }
}
