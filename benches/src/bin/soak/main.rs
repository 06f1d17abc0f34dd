//! A real server under everything at once, for as long as one likes: every answer is checked, and its
//! memory watched.
//!
//! Parts of the soak run side by side, each against the daemon in a process of its own: recordings
//! are added and removed all the time ([`changes`]), tracks come, are replaced and go
//! ([`passing`]), clips are asked in every way the API has ([`clips`]), streams are followed, broken off
//! and taken up again ([`streams`]), and callers send nonsense ([`nonsense`]). The [`ledger`] knows which
//! recording was there at which time, so each answer is right or wrong: what was there throughout must
//! be found, what was not must not be named, whatever happened in between. An answer that does not come
//! is a wrong one, and all parts must end in time ([`parts`]). Then the server is told to stop, and the
//! index on disk must be whole and hold what was acknowledged, no more, no less.

mod calls;
mod changes;
mod clips;
mod judge;
mod ledger;
mod nonsense;
mod parts;
mod passing;
mod sound;
mod streams;
mod tally;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use earmark_benches::daemon::{Daemon, complaints};
use earmark_benches::work::tell;
use fingerprint_core::index::{Index, RocksIndex};
use fingerprint_core::params::Params;

use crate::ledger::Ledger;
use crate::parts::Ended;
use crate::sound::Sound;
use crate::tally::Tally;

/// Runs a server under adds, removals, clips, streams and nonsense at once, and checks every answer.
#[derive(Debug, Parser)]
#[command(name = "soak", max_term_width = 100)]
struct Cli {
    /// How long
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Streams at a time, in real time
    #[arg(long, value_name = "N", default_value_t = 24)]
    streams: usize,
    /// Callers that ask for clips, one after the other
    #[arg(long, value_name = "N", default_value_t = 4)]
    callers: usize,
    /// Time that such a caller waits between two clips
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = humantime::parse_duration)]
    pause: Duration,
    /// Decides what is asked; the order of events is decided by the machine
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// How long any answer may take, and how long a busy server's refusals are put up with
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    answer_time_max: Duration,
    /// How long all may take to end once the time is over: the last streams play half a minute more, and wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    end_time_max: Duration,
    /// The server's program instead of the one beside this
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

/// What the parts of the soak share.
struct Soak {
    /// Address of the server with its scheme.
    url: String,
    sound: Sound,
    ledger: Ledger,
    tally: Tally,
    /// When to stop.
    end: Instant,
    /// Far more than a server that does well needs, also on a busy machine; whoever waits for longer waits in vain.
    answer_time_max: Duration,
    seed: u64,
}

impl Soak {
    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("soak: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Whether all was right.
fn run(cli: &Cli) -> Result<bool> {
    let program = Daemon::program(cli.server.as_deref())?;
    let folder = tempfile::tempdir().context("no folder for the index could be made")?;
    let index = folder.path().join("index");
    let sound = Sound::read()?;
    let daemon = Daemon::start(&program, &index)?;
    tell(&format!(
        "{} recordings, {} streams, {} callers, {}; server {}",
        sound.recordings.len(),
        cli.streams,
        cli.callers,
        humantime::format_duration(cli.duration),
        daemon.pid()
    ));
    let soak = Arc::new(Soak {
        url: daemon.url(),
        ledger: Ledger::new(sound.recordings.len()),
        sound,
        tally: Tally::default(),
        end: Instant::now() + cli.duration,
        answer_time_max: cli.answer_time_max,
        seed: cli.seed,
    });
    let runtime = tokio::runtime::Runtime::new().context("no threads can be started")?;
    let ended = runtime.block_on(parts::run(cli, &soak, daemon.pid()));
    // Whoever still waits for an answer is not waited for.
    runtime.shutdown_background();
    match daemon.stop() {
        Ok(log) => check_log(&soak.tally, &log),
        Err(error) => soak.tally.wrong_at_the_end(&format!("{error:#}")),
    }
    let Some(Ended { kept, memory }) = ended? else {
        soak.tally.report();
        return Ok(false);
    };
    check_index(&soak, &index, &kept)?;
    let has_grown = memory.report();
    Ok(soak.tally.report() && !has_grown)
}

/// A server that is asked for everything has nothing to complain about itself.
fn check_log(tally: &Tally, log: &str) {
    for line in complaints(log) {
        tally.wrong(&format!("the server's log: {line}"));
    }
}

/// What is on disk is whole, and is what was acknowledged.
fn check_index(soak: &Soak, path: &Path, kept: &BTreeSet<String>) -> Result<()> {
    let index = RocksIndex::open(path, &Params::default())
        .with_context(|| format!("index {} cannot be opened again", path.display()))?;
    let stored: BTreeSet<String> =
        index.tracks(None, usize::MAX)?.into_iter().map(|track| track.id.to_string()).collect();
    let acknowledged: BTreeSet<String> = soak
        .ledger
        .present()
        .map(|number| soak.sound.recordings[number].id.clone())
        .chain(kept.iter().cloned())
        .collect();
    for id in stored.symmetric_difference(&acknowledged) {
        let place = if stored.contains(id) {
            "is in the index, and was removed"
        } else {
            "was added, and is not in the index"
        };
        soak.tally.wrong(&format!("after the end: track {id} {place}"));
    }
    ensure!(!stored.is_empty(), "the index is empty: nothing was soaked");
    drop(index);
    let report = RocksIndex::check(path, &Params::default(), &|_| {})
        .with_context(|| format!("index {} cannot be checked", path.display()))?;
    for fault in &report.faults {
        soak.tally.wrong(&format!("after the end: {fault}"));
    }
    soak.tally.add("tracks in the index at the end", stored.len() as u64);
    Ok(())
}
