//! `earmark`: ingest a catalog of recordings, match clips against it.

mod args;
mod ingest;
mod manifest;
mod match_clips;
mod report;

use std::io;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser};
use fingerprint_core::index::{Index, RocksIndex};
use fingerprint_core::params::Params;
use fingerprint_core::units::TrackId;

use crate::args::{Cli, Command, IndexArgs, TracksCommand};
use crate::match_clips::Outcome;

/// Tracks read at a time when listing.
const PAGE_LEN: usize = 1000;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            report::note(&format!("earmark: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ingest(args) => {
            return Ok(ExitCode::from(if ingest::run(&args)? { 0 } else { 2 }));
        }
        Command::Match(args) => {
            return Ok(ExitCode::from(match match_clips::run(&args)? {
                Outcome::Matched => 0,
                Outcome::NothingMatched => 1,
                Outcome::Failed => 2,
            }));
        }
        Command::Tracks(command) => tracks(&command)?,
        Command::Stats(args) => report::json(&open(&args)?.stats()?)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "earmark", &mut io::stdout());
        }
        Command::Man => clap_mangen::Man::new(Cli::command()).render(&mut io::stdout())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn open(args: &IndexArgs) -> anyhow::Result<RocksIndex> {
    Ok(RocksIndex::open(&args.index, &Params::default())?)
}

fn tracks(command: &TracksCommand) -> anyhow::Result<()> {
    match command {
        TracksCommand::List(args) => {
            let index = open(args)?;
            let mut after = None;
            loop {
                let page = index.tracks(after.as_ref(), PAGE_LEN)?;
                page.iter().try_for_each(report::json)?;
                match page.into_iter().last() {
                    Some(last) => after = Some(last.id),
                    None => return Ok(()),
                }
            }
        }
        TracksCommand::Show { track_id, index } => {
            let id = TrackId::new(track_id.as_str())?;
            let record = open(index)?.track(&id)?;
            report::json(&record.with_context(|| format!("there is no track {id}"))?)
        }
        TracksCommand::Remove { track_ids, index } => {
            let index = open(index)?;
            let mut missing = Vec::new();
            for id in track_ids {
                match index.remove(&TrackId::new(id.as_str())?)? {
                    Some(_) => report::note(&format!("removed {id}")),
                    None => missing.push(id.as_str()),
                }
            }
            if !missing.is_empty() {
                bail!("there is no track {}", missing.join(", "));
            }
            Ok(())
        }
    }
}
