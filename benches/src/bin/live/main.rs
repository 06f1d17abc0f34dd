//! How streams are recognised in an index of any size: how soon, what falsely, and at what cost.
//!
//! Every recording of a folder is fingerprinted as a whole first; its hash tells whether the index has
//! it. Of those that it has, streams begin at random places, as they are and as MP3 of 64 kbit/s: the
//! time from their first sample to the first right event is what a listener waits for. Those that it
//! has not are one long stream in which nothing may be heard. Streams are cut into packets, as a sender
//! would; the matcher runs on the same thread, and its time is the cost of a second of a stream.

use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use earmark_benches::{find, percentile, seeded, work};
use fingerprint_core::decode::{DecodeOptions, Input, decode};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{FollowerIndex, Index, RocksIndex};
use fingerprint_core::listening::Listener;
use fingerprint_core::matching::SpeedSearch;
use fingerprint_core::matching::live::{LiveEvent, LiveOptions, Surroundings};
use fingerprint_core::params::{Params, Role};
use fingerprint_core::units::TrackId;
use tikv_jemallocator::Jemalloc;

/// As in the server.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Length of a packet in milliseconds.
const PACKET_MS: usize = 100;
/// Length of the streams whose first event is awaited, in seconds.
const STREAM_S: usize = 20;

/// Measures how streams are recognised: time to the first event, false events, and cost.
#[derive(Debug, Parser)]
#[command(name = "live", max_term_width = 100)]
struct Cli {
    /// Folder of recordings, of which some are in the index
    #[arg(value_name = "FOLDER")]
    music: PathBuf,
    /// Folder of the index, which is only read
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Streams of recordings that are in the index, for each condition
    #[arg(long, value_name = "N", default_value_t = 200)]
    streams: usize,
    /// Hours of the stream in which nothing may be heard; recordings are repeated at another speed
    /// if they do not suffice
    #[arg(long, value_name = "HOURS", default_value_t = 24.0)]
    foreign_hours: f64,
    /// Do not search for changed recordings
    #[arg(long)]
    unchanged_only: bool,
    /// Most false events an hour that are put up with
    #[arg(long, value_name = "RATE", default_value_t = LiveOptions::default().false_events_max)]
    max_false_events: f64,
    /// Print every event
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "live: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A recording of the folder.
struct Recording {
    path: PathBuf,
    duration_s: f64,
    /// Tracks of the index with the very same audio.
    tracks: Vec<TrackId>,
}

/// What became of one stream.
#[derive(Default)]
struct Outcome {
    /// Seconds from the first sample to the event that names the right track.
    first_s: Option<f64>,
    wrong_count: usize,
    analysis: Duration,
    search: Duration,
    stream_s: f64,
    bytes_max: usize,
}

fn run(cli: &Cli) -> Result<()> {
    let scratch = tempfile::tempdir().context("no folder for temporary files could be made")?;
    let params = Params::default();
    let index = RocksIndex::follow(&cli.index, scratch.path(), &params)
        .with_context(|| format!("index {}", cli.index.display()))?;
    let recordings = read(&cli.music, &index)?;
    let (known, foreign): (Vec<_>, Vec<_>) =
        recordings.into_iter().partition(|recording| !recording.tracks.is_empty());
    say(&format!("{} recordings are in the index, {} are not", known.len(), foreign.len()))?;
    for codec in [None, Some("64k")] {
        if !known.is_empty() && cli.streams > 0 {
            measure_known(cli, &index, &known, codec)?;
        }
    }
    if !foreign.is_empty() && cli.foreign_hours > 0.0 {
        measure_foreign(cli, &index, &foreign)?;
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("standard output is gone")
}

fn read(folder: &Path, index: &FollowerIndex) -> Result<Vec<Recording>> {
    let files = find::find(folder)?.files;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut recordings = Vec::new();
    let fingerprint = |i: usize| {
        let (options, params) = (DecodeOptions::default(), Params::default());
        Fingerprint::from_audio(Input::Path(&files[i]), &options, &params, Role::Track)
    };
    work::in_order(jobs, files.len(), fingerprint, |i, result| {
        if let Ok((fingerprint, _)) = result {
            let tracks = index.tracks_with_content(&fingerprint.content_hash)?;
            let duration_s = fingerprint.duration_s();
            recordings.push(Recording { path: files[i].clone(), duration_s, tracks });
        }
        Ok(())
    })?;
    Ok(recordings)
}

fn measure_known(
    cli: &Cli,
    index: &FollowerIndex,
    known: &[Recording],
    codec: Option<&str>,
) -> Result<()> {
    let name = codec.map_or("as they are".to_owned(), |rate| format!("MP3 {rate}"));
    let mut first: Vec<Duration> = Vec::new();
    let (mut total, mut missed) = (Outcome::default(), Vec::new());
    for number in 0..cli.streams {
        let recording = &known[number % known.len()];
        let mut rng = seeded(7, &format!("stream {number}"));
        let room_s = (recording.duration_s - STREAM_S as f64).max(0.0);
        let (samples, rate_hz) = cut(&recording.path, rng.f64() * room_s, STREAM_S as f64)?;
        let (samples, rate_hz) = match codec {
            None => (samples, rate_hz),
            Some(rate) => through_mp3(&samples, rate_hz, rate)?,
        };
        let outcome = stream(cli, index, &samples, rate_hz, Some(recording))?;
        match outcome.first_s {
            Some(seconds) => first.push(Duration::from_secs_f64(seconds)),
            None => missed.push(recording.path.display().to_string()),
        }
        total.add(&outcome);
    }
    first.sort_unstable();
    let at = |percent| percentile(&first, percent).map_or(f64::NAN, |time| time.as_secs_f64());
    say(&format!(
        "{name}: {} of {} streams recognised; first event after {:.2} s (p50), {:.2} s (p95), {:.2} s (last); {} wrong events",
        first.len(),
        cli.streams,
        at(50),
        at(95),
        at(100),
        total.wrong_count
    ))?;
    say(&format!("  {}", total.cost()))?;
    if !missed.is_empty() {
        say(&format!("  missed: {}", missed.join(", ")))?;
    }
    Ok(())
}

fn measure_foreign(cli: &Cli, index: &FollowerIndex, foreign: &[Recording]) -> Result<()> {
    let mut total = Outcome::default();
    let mut round = 0_u32;
    'all: loop {
        for recording in foreign {
            let (samples, rate_hz) = cut(&recording.path, 0.0, f64::MAX)?;
            // Played at another speed it is other audio, which is still not in the index.
            let rate_hz = rate_hz - rate_hz * (round % 5) / 50;
            let outcome = stream(cli, index, &samples, rate_hz, None)?;
            if outcome.wrong_count > 0 {
                say(&format!("  false: {} in {}", outcome.wrong_count, recording.path.display()))?;
            }
            total.add(&outcome);
            if total.stream_s >= cli.foreign_hours * 3_600.0 {
                break 'all;
            }
        }
        round += 1;
    }
    say(&format!(
        "foreign: {} false events in {:.1} hours",
        total.wrong_count,
        total.stream_s / 3_600.0
    ))?;
    say(&format!("  {}", total.cost()))
}

/// Sends samples in packets through a fingerprinter and a matcher.
fn stream(
    cli: &Cli,
    index: &FollowerIndex,
    samples: &[f32],
    rate_hz: u32,
    truth: Option<&Recording>,
) -> Result<Outcome> {
    let params = Params::default();
    let speed_search = if cli.unchanged_only { SpeedSearch::Off } else { SpeedSearch::Auto };
    let options = LiveOptions {
        speed_search,
        false_events_max: cli.max_false_events,
        ..LiveOptions::default()
    };
    let mut listener = Listener::new(options, &params, 0);
    let around = Surroundings { index, may_search_changes: &|| true, is_cancelled: &|| false };
    let mut outcome = Outcome::default();
    let mut events = Vec::new();
    let packet_len = (rate_hz as usize * PACKET_MS / 1_000).max(1);
    for (number, packet) in samples.chunks(packet_len).enumerate() {
        let started = Instant::now();
        listener.take_samples(packet, rate_hz)?;
        let analysed = Instant::now();
        listener.search(around, &mut events)?;
        outcome.search += analysed.elapsed();
        outcome.analysis += analysed - started;
        outcome.bytes_max = outcome.bytes_max.max(listener.bytes());
        let sent_s = ((number + 1) * packet_len) as f64 / f64::from(rate_hz);
        for event in events.drain(..) {
            note(cli, &event, sent_s, truth, &mut outcome)?;
        }
    }
    let sent_s = samples.len() as f64 / f64::from(rate_hz);
    listener.finish(around, &mut events)?;
    for event in events.drain(..) {
        note(cli, &event, sent_s, truth, &mut outcome)?;
    }
    outcome.stream_s = sent_s;
    Ok(outcome)
}

fn note(
    cli: &Cli,
    event: &LiveEvent,
    sent_s: f64,
    truth: Option<&Recording>,
    outcome: &mut Outcome,
) -> Result<()> {
    if cli.verbose {
        say(&format!("  {sent_s:8.2} {event:?}"))?;
    }
    if let LiveEvent::MatchStarted(started) = event {
        let is_right = truth.is_some_and(|truth| truth.tracks.contains(&started.found.track_id));
        if is_right {
            outcome.first_s.get_or_insert(sent_s);
        } else {
            outcome.wrong_count += 1;
            if truth.is_none() {
                say(&format!(
                    "  {:.1} s: {} at {:.1} nats, speed {:.3}, pitch {:.3}",
                    started.found.query_start_s,
                    started.found.track_id,
                    started.found.score,
                    started.found.speed,
                    started.found.pitch
                ))?;
            }
        }
    }
    Ok(())
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.wrong_count += other.wrong_count;
        self.analysis += other.analysis;
        self.search += other.search;
        self.stream_s += other.stream_s;
        self.bytes_max = self.bytes_max.max(other.bytes_max);
    }

    fn cost(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3 / self.stream_s;
        format!(
            "a second of a stream takes {:.2} ms to fingerprint and {:.2} ms to search; at most {} KiB of peaks and postings",
            ms(self.analysis),
            ms(self.search),
            self.bytes_max >> 10
        )
    }
}

/// Mono samples of a stretch of a file.
fn cut(path: &Path, from_s: f64, length_s: f64) -> Result<(Vec<f32>, u32)> {
    let (mut samples, mut rate, mut passed_s) = (Vec::new(), 0, 0.0);
    let to_s = from_s + length_s;
    decode(Input::Path(path), &DecodeOptions::default(), &mut |chunk, rate_hz| {
        rate = rate_hz;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` from float saturates"
        )]
        let place = |at_s: f64| {
            (((at_s - passed_s) * f64::from(rate_hz)).max(0.0) as usize).min(chunk.len())
        };
        samples.extend_from_slice(&chunk[place(from_s)..place(to_s)]);
        passed_s += chunk.len() as f64 / f64::from(rate_hz);
        if passed_s >= to_s { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok((samples, rate))
}

/// What an MP3 encoder leaves of samples.
fn through_mp3(samples: &[f32], rate_hz: u32, bit_rate: &str) -> Result<(Vec<f32>, u32)> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate_hz,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut wav = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut wav, spec)?;
    samples.iter().try_for_each(|sample| writer.write_sample(*sample))?;
    writer.finalize()?;
    let folder = tempfile::tempdir()?;
    let (input, output) = (folder.path().join("in.wav"), folder.path().join("out.mp3"));
    std::fs::write(&input, wav.into_inner())?;
    let ran = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-i"])
        .arg(&input)
        .args(["-b:a", bit_rate])
        .arg(&output)
        .stdin(Stdio::null())
        .output()
        .context("ffmpeg cannot be started; is it on the PATH?")?;
    if !ran.status.success() {
        bail!("ffmpeg failed: {}", String::from_utf8_lossy(&ran.stderr).trim());
    }
    cut(&output, 0.0, f64::MAX)
}
