//! `earmark`: ingest a catalog of recordings, match clips against it.
//!
//! ```text
//! args ─▶ one module a command ─▶ catalog (an index of this machine, or a server)
//!                    └──────────▶ report (the only place that prints)
//! ```

mod args;
mod backup;
mod bench_server;
mod catalog;
mod check;
mod compact;
mod contract;
mod folder;
mod guard;
mod ingest;
mod interrupt;
mod keys;
mod match_cmd;
mod monitor;
mod reindex;
mod report;
mod restore;
mod stats;
mod tracks;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use fingerprint_core::background;
use tikv_jemallocator::Jemalloc;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};

/// A search takes thousands of pieces of memory and gives them back; this allocator wastes little of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What decoders find odd in a file they say as errors, in lines of their own; users are told in words of ours.
/// Whoever wants theirs sets EARMARK_LOG to `symphonia=warn`, say.
const LOG_QUIET: &str = "symphonia=off";
/// What is logged without EARMARK_LOG.
const LOG_DEFAULT: &str = "error,earmark=warn,fingerprint_core=warn";
/// Exit code of every error.
const EXIT_ERROR: u8 = 2;
/// Exit code if nobody reads the output any more: that of a program that SIGPIPE ended.
const EXIT_READER_GONE: u8 = 141;

fn main() -> ExitCode {
    guard::install();
    start_log();
    match run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        // Who reads our output has seen enough, as in `earmark tracks list | head`. What was not
        // printed may hold an error, so this is no success either.
        Err(error) if report::reader_is_gone(&error) => ExitCode::from(EXIT_READER_GONE),
        Err(error) => {
            report::note(&format!("earmark: {error:#}"));
            ExitCode::from(EXIT_ERROR)
        }
    }
}

/// Logs to standard error, in colour if that is a terminal and NO_COLOR is not set.
fn start_log() {
    let filter = |level: &str| EnvFilter::builder().parse(format!("{LOG_QUIET},{level}"));
    let asked = std::env::var("EARMARK_LOG").ok().and_then(|level| filter(&level).ok());
    let filter = asked.unwrap_or_else(|| filter(LOG_DEFAULT).expect("the default is valid"));
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal() && !is_plain)
        .with_writer(io::stderr)
        .init();
}

/// Runs a command and gives its exit code.
fn run(command: Command) -> Result<u8> {
    if can_wait(&command) {
        // Before the first thread is started.
        background::step_back();
    }
    match command {
        Command::Ingest(args) => ingest::run(&args),
        Command::Match(args) => match_cmd::run(&args),
        Command::Monitor(args) => monitor::run(&args),
        Command::Tracks(command) => tracks::run(&command),
        Command::Stats(args) => stats::run(&args),
        Command::Keys(command) => keys::run(command),
        Command::BenchServer(args) => bench_server::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Reindex(args) => reindex::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Compact(args) => compact::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "earmark", &mut script);
            report::raw(&script)?;
            Ok(0)
        }
        Command::Man { dir } => {
            write_manual(dir.as_deref())?;
            Ok(0)
        }
    }
}

/// True of jobs that nobody waits for while others search on the same machine.
fn can_wait(command: &Command) -> bool {
    matches!(
        command,
        Command::Ingest(_)
            | Command::Reindex(_)
            | Command::Check(_)
            | Command::Compact(_)
            | Command::Backup(_)
    )
}

fn write_manual(dir: Option<&Path>) -> Result<()> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return Ok(report::raw(&page)?);
    };
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("{}: the manual pages cannot be written", dir.display()))
}
