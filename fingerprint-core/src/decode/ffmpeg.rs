//! Decoding by an external ffmpeg, for what the built-in decoders lack.
//!
//! The program reads hostile bytes, so it gets as little as possible: one local file, a list of
//! container formats that cannot refer to other files or hosts, no network protocol, a limit on
//! each allocation, a time limit. Its output is mono at the analysis rate, read as it comes.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{DecodeError, DecodeOptions, DecodeSummary, Meter};
use crate::params::SAMPLE_RATE_HZ;

/// Demuxers that may be used. Playlists (`hls`, `concat`, `dash`, …) are left out: they make
/// ffmpeg open other files.
const FORMATS: &str = "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,loas,\
    matroska,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,oga,ogg,rm,tak,truehd,tta,voc,w64,wav,webm,wv,xwma";
/// Largest single allocation of the program.
const ALLOCATION_MAX_BYTES: &str = "268435456";
/// How much of its complaints is kept.
const MESSAGE_BYTES_MAX: u64 = 2_000;

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
    meter: &mut Meter<'_>,
) -> Result<DecodeSummary, DecodeError> {
    let io_error = |source| DecodeError::Io { name: known.name.to_owned(), source };
    let Some(program) = &options.ffmpeg else {
        return Err(missing(known));
    };
    let mut child = match start(program, path) {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(known)),
        Err(error) => return Err(io_error(error)),
    };
    let mut output = child.stdout.take().expect("stdout is piped");
    let messages = child.stderr.take().expect("stderr is piped");
    let messages = thread::spawn(move || read_message(messages));
    let child = Arc::new(Mutex::new(child));
    let watchdog = Watchdog::start(Arc::clone(&child), options.ffmpeg_timeout);
    let read = read_samples(&mut output, meter);
    // Closing the pipe ends a program whose output is not wanted any more.
    drop(output);
    let timed_out = watchdog.stop();
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.kill();
    let _ = child.wait();
    let message = messages.join().unwrap_or_default();
    if read.map_err(io_error)? == 0 {
        let reason = if timed_out {
            format!("ffmpeg took longer than {} s", options.ffmpeg_timeout.as_secs())
        } else {
            format!("{}; ffmpeg says: {message}", known.reason)
        };
        return Err(failed(known, reason));
    }
    Ok(DecodeSummary {
        container: known.container.clone(),
        codec: known.codec.clone(),
        sample_rate_hz: SAMPLE_RATE_HZ,
        channel_count: 1,
        duration_s: 0.0,
        bad_packet_count: u64::from(timed_out),
        by_ffmpeg: true,
    })
}

fn start(program: &Path, path: &Path) -> io::Result<Child> {
    // An absolute path behind `file:` can be taken neither for an option nor for a protocol.
    let mut url = std::ffi::OsString::from("file:");
    url.push(std::path::absolute(path)?);
    Command::new(program)
        .args(["-nostdin", "-hide_banner", "-v", "error", "-max_alloc", ALLOCATION_MAX_BYTES])
        .args(["-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-i"])
        .arg(url)
        .args(["-map", "0:a:0", "-vn", "-sn", "-dn", "-ac", "1"])
        .args(["-ar", &SAMPLE_RATE_HZ.to_string(), "-f", "f32le", "pipe:1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Passes samples on and returns how many there were.
fn read_samples(output: &mut impl Read, meter: &mut Meter<'_>) -> io::Result<u64> {
    let (mut buffer, mut filled, mut count) = (vec![0_u8; 1 << 16], 0, 0);
    let mut samples = Vec::with_capacity(buffer.len() / 4);
    loop {
        let read = match output.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(count),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        filled += read;
        let (whole, rest) = buffer[..filled].as_chunks::<4>();
        samples.clear();
        samples.extend(whole.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        let rest_len = rest.len();
        buffer.copy_within(filled - rest_len..filled, 0);
        filled = rest_len;
        count += samples.len() as u64;
        if meter.pass(&samples, SAMPLE_RATE_HZ) == ControlFlow::Break(()) {
            return Ok(count);
        }
    }
}

fn read_message(mut messages: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = messages.by_ref().take(MESSAGE_BYTES_MAX).read_to_end(&mut kept);
    // A full pipe would block the program.
    let _ = io::copy(&mut messages, &mut io::sink());
    let text = String::from_utf8_lossy(&kept);
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(3)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Kills the program when its time is over.
struct Watchdog {
    done: mpsc::Sender<()>,
    thread: thread::JoinHandle<bool>,
}

impl Watchdog {
    fn start(child: Arc<Mutex<Child>>, timeout: Duration) -> Self {
        let (done, wait) = mpsc::channel();
        let thread = thread::spawn(move || {
            let timed_out = wait.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout);
            if timed_out {
                let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
            }
            timed_out
        });
        Self { done, thread }
    }

    /// True if the time was over.
    fn stop(self) -> bool {
        let _ = self.done.send(());
        self.thread.join().unwrap_or(false)
    }
}

fn missing(known: &Known<'_>) -> DecodeError {
    let (name, container) = (known.name.to_owned(), known.container.clone());
    let (codec, reason) = (known.codec.clone(), known.reason.clone());
    DecodeError::NeedsFfmpeg { name, container, codec, reason }
}

fn failed(known: &Known<'_>, reason: String) -> DecodeError {
    let name = known.name.to_owned();
    if known.container == "unknown" {
        return DecodeError::Unrecognised { name, reason };
    }
    let (container, codec) = (known.container.clone(), known.codec.clone());
    DecodeError::Undecodable { name, container, codec, reason }
}
