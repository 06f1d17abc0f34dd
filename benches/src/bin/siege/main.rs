//! A real server beset by clients at their worst, and what somebody else gets of it meanwhile.
//!
//! The assault grows from phase to phase, and what has begun goes on until the end: connections that are left open without
//! a word ([`idle`]), clips and uploads that stop on the way ([`stalled`]), small files that hold days of audio
//! ([`bombs`]), and streams in the widest format, faster than they can be taken ([`streams`]). Each kind comes from
//! addresses of its own, as the limits for one client are for one address. All the while a [`guest`] asks for one clip
//! after the other and must get its answers, and the server's memory must stay below a limit. In the end it must stop
//! when it is told to, with nothing in its log that a server does not say which does well.

mod assault;
mod bombs;
mod guest;
mod idle;
mod request;
mod stalled;
mod streams;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use earmark_benches::daemon::{Daemon, complaints, look};
use earmark_benches::work::tell;
use earmark_benches::{catalog, rocks_index, testdata};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::time::Instant;

use crate::assault::Assault;
use crate::guest::Guest;

/// A clip of the test data, of a recording that is in its catalog.
const CLIP: &str = "clips/cold_day_noisy.mp3";
/// Time between two looks at the server's memory.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Besets a server from all sides, and sees whether others are served and its memory stays bounded.
#[derive(Debug, Parser)]
#[command(name = "siege", max_term_width = 100)]
struct Cli {
    /// How long each of the five phases lasts
    #[arg(long, value_name = "TIME", default_value = "40s", value_parser = humantime::parse_duration)]
    phase: Duration,
    /// Connections that are left open
    #[arg(long, value_name = "N", default_value_t = 9_000)]
    connections: usize,
    /// Clips of 32 MiB that stop on the way
    #[arg(long, value_name = "N", default_value_t = 200)]
    clips: usize,
    /// Uploads that stop on the way
    #[arg(long, value_name = "N", default_value_t = 20)]
    uploads: usize,
    /// Callers that send days of silence, as clips of 1 MiB, one after the other
    #[arg(long, value_name = "N", default_value_t = 4)]
    bombs: usize,
    /// Streams of eight channels at 192 kHz, with gaps, sent as fast as they are taken
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    streams: usize,
    /// Most memory that the server may take, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4_096)]
    memory_max: u64,
    /// Least share of the guest's clips that must be answered in each phase, in percent; the others may be refused
    #[arg(long, value_name = "PERCENT", default_value_t = 90)]
    answered_min: usize,
    /// The index instead of a small one of the test data; --clip must be in it
    #[arg(long, value_name = "DIR", requires = "clip")]
    index: Option<PathBuf>,
    /// The guest's clip instead of one of the test data
    #[arg(long, value_name = "FILE", requires = "index")]
    clip: Option<PathBuf>,
    /// The server's program instead of the one beside this
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

/// What a phase came to.
struct Phase {
    name: &'static str,
    memory_mib: u64,
    guest: guest::Answers,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("siege: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Whether the server held out.
fn run(cli: &Cli) -> Result<bool> {
    allow_files(cli.connections)?;
    let program = Daemon::program(cli.server.as_deref())?;
    let folder = tempfile::tempdir().context("no folder for the index could be made")?;
    let index = match &cli.index {
        Some(index) => index.clone(),
        None => {
            let index = folder.path().join("index");
            drop(rocks_index(&index, &catalog()));
            index
        }
    };
    let clip = cli.clip.clone().unwrap_or_else(|| testdata(CLIP));
    let guest = Guest::new(&clip)?;
    let daemon = Daemon::start(&program, &index)?;
    tell(&format!(
        "server {} over {}; {} a phase",
        daemon.pid(),
        index.display(),
        humantime::format_duration(cli.phase)
    ));
    let runtime = tokio::runtime::Runtime::new().context("no threads can be started")?;
    let phases = runtime.block_on(beset(cli, &daemon, guest));
    // Those who beset it go on until they are ended: the server must stop all the same.
    let stopped = daemon.stop();
    runtime.shutdown_background();
    let phases = phases?;
    let mut faults: Vec<String> = phases.iter().flat_map(|phase| phase.faults(cli)).collect();
    match stopped {
        Ok(log) => {
            faults.extend(complaints(&log).map(|line| format!("the server's log: {line}")));
        }
        Err(error) => faults.push(format!("{error:#}")),
    }
    faults.iter().for_each(|fault| tell(&format!("WRONG: {fault}")));
    tell(&format!("{} wrong", faults.len()));
    Ok(faults.is_empty())
}

/// Lets everybody loose, one kind after the other.
async fn beset(cli: &Cli, daemon: &Daemon, guest: Guest) -> Result<Vec<Phase>> {
    let assault = Assault::new(daemon.address().parse().context("the server's address is none")?);
    let guest = guest.visit(daemon.url());
    let mut phases = Vec::new();
    for (name, begin) in [
        ("nobody else", (|_, _| {}) as fn(&Cli, &Arc<Assault>)),
        ("and connections without a word", |cli, assault| idle::begin(assault, cli.connections)),
        ("and clips and uploads that stop", |cli, assault| {
            stalled::begin(assault, cli.clips, cli.uploads);
        }),
        ("and days of silence", |cli, assault| bombs::begin(assault, cli.bombs)),
        ("and streams that flood", |cli, assault| streams::begin(assault, cli.streams)),
    ] {
        begin(cli, &assault);
        let end = Instant::now() + cli.phase;
        let mut memory_kib = 0;
        while Instant::now() < end {
            memory_kib = memory_kib.max(look(daemon.pid())?.resident_kib);
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        let phase = Phase { name, memory_mib: memory_kib >> 10, guest: guest.answers() };
        tell(&phase.line());
        phases.push(phase);
    }
    // What comes of it when the server is stopped is no news.
    assault.report();
    Ok(phases)
}

impl Phase {
    fn line(&self) -> String {
        format!("{}: at most {} MiB; guest: {}", self.name, self.memory_mib, self.guest)
    }

    /// What must not be.
    fn faults(&self, cli: &Cli) -> Vec<String> {
        let wrong = self.guest.wrong.iter();
        let mut faults: Vec<_> =
            wrong.map(|(what, count)| format!("a guest's clip, {count} times: {what}")).collect();
        if self.memory_mib > cli.memory_max {
            faults.push(format!("it took {} MiB", self.memory_mib));
        }
        let (answered, asked) = (self.guest.answered(), self.guest.asked);
        if asked == 0 || answered * 100 < asked * cli.answered_min {
            faults.push(format!("{answered} of a guest's {asked} clips were answered"));
        }
        faults.iter_mut().for_each(|fault| *fault = format!("{}: {fault}", self.name));
        faults
    }
}

/// Raises the limit of open files, of this process and of the server that it starts.
fn allow_files(connection_count: usize) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("the limit of open files cannot be raised")?;
    let files = limit.current.unwrap_or(u64::MAX);
    let wanted = connection_count as u64 + 2_000;
    ensure!(
        files >= wanted,
        "{files} files may be open, and {wanted} are needed: raise `ulimit -Hn`"
    );
    Ok(())
}
