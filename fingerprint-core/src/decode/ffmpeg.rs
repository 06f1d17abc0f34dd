//! Decoding by an external ffmpeg, for what the built-in decoders lack.
//!
//! The program reads hostile bytes, so it gets as little as possible: one local file, a list of
//! container formats that cannot refer to other files or hosts, no network protocol, one thread, a
//! limit on each allocation, a time limit. It is asked for an AU file on a pipe: 32-bit floats
//! behind a header that says their rate and channels, so that its audio goes through the same
//! [mixdown](super::mixdown) as any other.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::mixdown::Mixdown;
use super::{DecodeError, DecodeOptions, DecodeSummary, Meter};
use crate::params::{RATE_MAX_HZ, RATE_MIN_HZ};

/// Demuxers that may be used. Playlists (`hls`, `concat`, `dash`, …) are left out: they make
/// ffmpeg open other files.
const FORMATS: &str = "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,\
                       flv,gsm,loas,matroska,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nut,oga,ogg,\
                       oma,rm,tak,truehd,tta,voc,w64,wav,webm,wtv,wv,xwma";
/// Largest single allocation of the program.
const ALLOCATION_MAX_BYTES: &str = "268435456";
/// How much of its complaints is kept.
const MESSAGE_BYTES_MAX: usize = 2_000;
/// What it says when the file has no audio track.
const NO_AUDIO_MESSAGE: &str = "matches no streams";
/// Longest duration that it is told, in seconds: it refuses what its clock cannot count.
const DURATION_MAX_S: f64 = 1e9;
/// More channels than any layout in use has.
const CHANNELS_MAX: u32 = 32;
/// Audio frames that are mixed at a time.
const BLOCK_FRAMES: usize = 4096;

/// What the built-in decoders found out.
pub(super) struct Known<'a> {
    pub(super) name: &'a str,
    pub(super) container: String,
    pub(super) codec: String,
    pub(super) reason: String,
}

/// Decodes the file at `path`.
pub(super) fn decode(
    path: &Path,
    known: &Known<'_>,
    options: &DecodeOptions,
    meter: &mut Meter<'_, '_>,
) -> Result<DecodeSummary, DecodeError> {
    let io_error = |source| DecodeError::Io { name: known.name.to_owned(), source };
    let Some(program) = &options.ffmpeg else {
        return Err(known.missing());
    };
    // One second more than allowed, so that a file beyond the limit is seen to be so.
    let duration_max_s = (options.duration_max_s + 1.0).max(1.0);
    let command = command(program, path, duration_max_s).map_err(io_error)?;
    let (run, output) = match Run::start(command, options.ffmpeg_timeout) {
        Ok(started) => started,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(known.missing()),
        Err(error) => return Err(io_error(error)),
    };
    let read = read_audio(output, meter);
    if !matches!(read, Ok(Audio::None | Audio::Some { is_stopped: false, .. })) {
        run.stop();
    }
    let end = run.end().map_err(io_error)?;
    if end.timed_out {
        let limit_s = options.ffmpeg_timeout.as_secs_f64();
        return Err(DecodeError::TooSlow { name: known.name.to_owned(), limit_s });
    }
    let (sample_rate_hz, channel_count, is_stopped) = match read.map_err(io_error)? {
        Audio::Some { rate_hz, channel_count, is_stopped } => (rate_hz, channel_count, is_stopped),
        Audio::None => return Err(known.failed(&end.complaints)),
        Audio::Implausible { rate_hz, channel_count } => {
            let reason = format!("ffmpeg found {channel_count} channels at {rate_hz} Hz");
            return Err(known.undecodable(reason));
        }
    };
    // A program that failed without a word has cut something off.
    let failed = !is_stopped && !end.status.success();
    Ok(DecodeSummary {
        container: known.container.clone(),
        codec: known.codec.clone(),
        sample_rate_hz,
        channel_count,
        duration_s: 0.0,
        bad_packet_count: end.complaint_count.max(u64::from(failed)),
        by_ffmpeg: true,
    })
}

fn command(program: &Path, path: &Path, duration_max_s: f64) -> io::Result<Command> {
    // An absolute path behind `file:` can be taken neither for an option nor for a protocol.
    let mut url = OsString::from("file:");
    url.push(std::path::absolute(path)?);
    let mut command = Command::new(program);
    command
        .args(["-nostdin", "-hide_banner", "-v", "error", "-max_alloc", ALLOCATION_MAX_BYTES])
        .args(["-threads", "1", "-protocol_whitelist", "file", "-format_whitelist", FORMATS])
        .args([OsStr::new("-i"), &url])
        .args(["-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1"])
        .args(["-threads", "1"]);
    if duration_max_s <= DURATION_MAX_S {
        command.args(["-t", &format!("{duration_max_s:.3}")]);
    }
    command
        .args(["-c:a", "pcm_f32be", "-f", "au", "pipe:1"])
        // Would make it write a log beside us.
        .env_remove("FFREPORT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// A running program. Dropping it stops it.
struct Run {
    child: Arc<Mutex<Child>>,
    /// Ends when the program does.
    complaints: Option<thread::JoinHandle<(String, u64)>>,
    /// Dropped to call the watchdog off.
    done: Option<mpsc::Sender<()>>,
    /// Says whether it had to stop the program.
    watchdog: Option<thread::JoinHandle<bool>>,
}

/// How a run ended.
struct End {
    status: ExitStatus,
    timed_out: bool,
    /// The first lines of its complaints …
    complaints: String,
    /// … and the number of all of them.
    complaint_count: u64,
}

impl Run {
    /// Starts a program and a watchdog that stops it when its time is over.
    fn start(mut command: Command, timeout: Duration) -> io::Result<(Self, ChildStdout)> {
        let mut child = command.spawn()?;
        let output = child.stdout.take().expect("stdout is piped");
        let errors = child.stderr.take().expect("stderr is piped");
        let child = Arc::new(Mutex::new(child));
        let (done, called_off) = mpsc::channel::<()>();
        let watched = Arc::clone(&child);
        let watchdog = thread::spawn(move || {
            let timed_out =
                called_off.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout);
            if timed_out {
                kill(&watched);
            }
            timed_out
        });
        let complaints = Some(thread::spawn(move || read_complaints(errors)));
        Ok((Self { child, complaints, done: Some(done), watchdog: Some(watchdog) }, output))
    }

    /// Stops the program.
    fn stop(&self) {
        kill(&self.child);
    }

    /// Waits for the end of the program, which its time limit brings about at the latest.
    fn end(mut self) -> io::Result<End> {
        let (complaints, complaint_count) =
            self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        self.done = None;
        let timed_out =
            self.watchdog.take().is_some_and(|watchdog| watchdog.join().unwrap_or(false));
        let status = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait()?;
        Ok(End { status, timed_out, complaints, complaint_count })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop();
        // Without this a stopped program would stay in the process table.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    }
}

fn kill(child: &Mutex<Child>) {
    // It may have ended by itself.
    let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
}

/// Reads all complaints, so that the program never waits for us, and keeps the first ones.
fn read_complaints(errors: ChildStderr) -> (String, u64) {
    let (mut kept, mut line_count) = (Vec::new(), 0);
    let mut errors = BufReader::new(errors);
    while let Ok(block) = errors.fill_buf() {
        if block.is_empty() {
            break;
        }
        line_count += block.iter().filter(|byte| **byte == b'\n').count() as u64;
        let room = MESSAGE_BYTES_MAX - kept.len();
        kept.extend_from_slice(&block[..block.len().min(room)]);
        let read = block.len();
        errors.consume(read);
    }
    let text = String::from_utf8_lossy(&kept);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    (lines.take(3).collect::<Vec<_>>().join("; "), line_count)
}

/// What was read from the program.
enum Audio {
    Some { rate_hz: u32, channel_count: usize, is_stopped: bool },
    Implausible { rate_hz: u32, channel_count: usize },
    None,
}

/// Passes the samples of an AU file on.
///
/// Header: `.snd`, then big-endian 32-bit numbers: offset of the samples, their bytes (unknown
/// here), encoding (6: 32-bit float), rate in Hz, channels; then an annotation up to the offset.
/// Source: Sun Microsystems, `audio_au.h` and the manual page audio(5).
fn read_audio(output: ChildStdout, meter: &mut Meter<'_, '_>) -> io::Result<Audio> {
    const HEADER_BYTES: usize = 24;
    const FLOAT_32: u32 = 6;
    let mut output = BufReader::with_capacity(1 << 16, output);
    let mut header = [0; HEADER_BYTES];
    if read_full(&mut output, &mut header)? < HEADER_BYTES {
        return Ok(Audio::None);
    }
    let (words, _) = header.as_chunks::<4>();
    let [offset, encoding, rate_hz, channels] =
        [1, 3, 4, 5].map(|word: usize| u32::from_be_bytes(words[word]));
    let annotation_bytes = u64::from(offset).saturating_sub(HEADER_BYTES as u64);
    if words[0] != *b".snd" || encoding != FLOAT_32 || annotation_bytes > 1 << 20 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "ffmpeg did not write an AU file"));
    }
    io::copy(&mut output.by_ref().take(annotation_bytes), &mut io::sink())?;
    let channel_count = channels as usize;
    if !(RATE_MIN_HZ..=RATE_MAX_HZ).contains(&rate_hz) || !(1..=CHANNELS_MAX).contains(&channels) {
        return Ok(Audio::Implausible { rate_hz, channel_count });
    }
    let mut block = vec![0; BLOCK_FRAMES * channel_count * size_of::<f32>()];
    let (mut interleaved, mut mono, mut mixdown) = (Vec::new(), Vec::new(), Mixdown::default());
    let mut is_some = false;
    loop {
        let read = read_full(&mut output, &mut block)?;
        let (samples, _) = block[..read].as_chunks::<4>();
        interleaved.clear();
        interleaved.extend(samples.iter().map(|bytes| f32::from_be_bytes(*bytes)));
        mixdown.mix(&mut interleaved, channel_count, &mut mono);
        is_some |= !mono.is_empty();
        if !is_some {
            return Ok(Audio::None);
        }
        let is_stopped = !mono.is_empty() && meter.pass(&mono, rate_hz) == ControlFlow::Break(());
        if is_stopped || read < block.len() {
            return Ok(Audio::Some { rate_hz, channel_count, is_stopped });
        }
    }
}

/// Fills the buffer as far as there is anything; returns how far.
fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Known<'_> {
    /// There is no program.
    fn missing(&self) -> DecodeError {
        let (name, container) = (self.name.to_owned(), self.container.clone());
        let (codec, reason) = (self.codec.clone(), self.reason.clone());
        DecodeError::NeedsFfmpeg { name, container, codec, reason }
    }

    /// The program decoded nothing.
    fn failed(&self, complaints: &str) -> DecodeError {
        let (name, container) = (self.name.to_owned(), self.container.clone());
        if complaints.contains(NO_AUDIO_MESSAGE) {
            return DecodeError::NoAudio { name, container };
        }
        let reason = format!("{}; ffmpeg says: {complaints}", self.reason);
        if self.container == "unknown" {
            return DecodeError::Unrecognised { name, reason };
        }
        self.undecodable(reason)
    }

    fn undecodable(&self, reason: String) -> DecodeError {
        let (container, codec) = (self.container.clone(), self.codec.clone());
        DecodeError::Undecodable { name: self.name.to_owned(), container, codec, reason }
    }
}
