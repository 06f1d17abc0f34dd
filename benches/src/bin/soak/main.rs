//! A real server under everything at once, for as long as one likes: every answer is checked, and its
//! memory watched.
//!
//! Parts of the soak run side by side, each against the daemon in a process of its own: recordings
//! are added and removed all the time ([`changes`]), tracks come, are replaced and go
//! ([`passing`]), clips are asked in every way the API has ([`clips`]), streams are followed, broken off
//! and taken up again ([`streams`]), and callers send nonsense ([`nonsense`]). The [`ledger`] knows which
//! recording was there at which time, so each answer is right or wrong: what was there throughout must
//! be found, what was not must not be named, whatever happened in between. In the end the server is
//! told to stop, and the index on disk must be whole and hold what was acknowledged, no more, no less.

mod calls;
mod changes;
mod clips;
mod daemon;
mod judge;
mod ledger;
mod nonsense;
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
use earmark_benches::work::tell;
use fingerprint_core::index::{Index, RocksIndex};
use fingerprint_core::params::Params;
use tokio::task::JoinSet;

use crate::daemon::Daemon;
use crate::ledger::Ledger;
use crate::sound::Sound;
use crate::tally::Tally;

/// Name of the server's program, which lies beside this one.
const SERVER: &str = "earmark-server";

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
    let program = match &cli.server {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .context("the place of this program is not known; give --server FILE")?
            .with_file_name(SERVER),
    };
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
        seed: cli.seed,
    });
    let runtime = tokio::runtime::Runtime::new().context("no threads can be started")?;
    let (kept, memory) = runtime.block_on(all_parts(cli, &soak, daemon.pid()))?;
    let log = daemon.stop()?;
    check_log(&soak.tally, &log);
    check_index(&soak, &index, &kept)?;
    let has_grown = memory.report();
    Ok(soak.tally.report() && !has_grown)
}

/// Runs all parts to their end. Gives the passing tracks that were left, and what was watched.
async fn all_parts(
    cli: &Cli,
    soak: &Arc<Soak>,
    pid: u32,
) -> Result<(BTreeSet<String>, watch::Memory)> {
    let watching = tokio::spawn(watch::watch(Arc::clone(soak), pid));
    let passing = tokio::spawn(passing::run(Arc::clone(soak)));
    let mut parts = JoinSet::new();
    parts.spawn(changes::run(Arc::clone(soak)));
    parts.spawn(nonsense::run(Arc::clone(soak)));
    for number in 0..cli.callers {
        parts.spawn(clips::run(Arc::clone(soak), number, cli.pause));
    }
    for number in 0..cli.streams {
        parts.spawn(streams::run(Arc::clone(soak), number));
    }
    while let Some(part) = parts.join_next().await {
        part.context("a part of the soak broke down")??;
    }
    let kept = passing.await.context("a part of the soak broke down")??;
    let memory = watching.await.context("the watch broke down")??;
    Ok((kept, memory))
}

/// A server that is asked for everything has nothing to complain about itself.
fn check_log(tally: &Tally, log: &str) {
    for line in log.lines() {
        if line.contains(" ERROR ") || line.contains("panicked") {
            tally.wrong(&format!("the server's log: {line}"));
        }
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
