//! The command line.

use std::path::PathBuf;
use std::thread;

use clap::{Parser, ValueEnum};
use fingerprint_core::matching::SpeedSearch;

use crate::condition;

/// Longest query in seconds. Excerpts of one recording are held in memory, a few at a time.
const SECONDS_MAX: f64 = 120.0;

/// Measures how well Earmark recognises the recordings of a folder, by kind of damage.
///
/// The audio files of FOLDER are indexed, but for a share that is held out. Then excerpts of both
/// are cut and damaged, and each is matched: those of indexed recordings must be found, those of
/// held-out ones must not be answered. The table tells how often that was so; with --output, a file
/// has a row for each excerpt. The same seed gives the same excerpts, damage and answers.
///
/// A recording that is in the folder twice, remastered, say, is taken for the other one, and that
/// counts as wrong. The pairs that are taken for one another are listed below the table: listen to
/// them, and name those that are the same with --same.
#[derive(Debug, Parser)]
#[command(name = "recognition", max_term_width = 100, after_help = condition::help())]
pub(crate) struct Cli {
    /// Folder of audio files, searched with its subfolders
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Queries of indexed recordings for each condition and length
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) queries: u32,
    /// Queries of held-out recordings for each condition and length
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) negatives: u32,
    /// What decides all that is drawn
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(crate) seed: u64,
    /// Conditions, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) conditions: Vec<String>,
    /// Lengths of queries in seconds, separated by commas, for every condition [default: those in
    /// the list of conditions]
    #[arg(long, value_name = "SECONDS", value_delimiter = ',', value_parser = query_length)]
    pub(crate) lengths: Vec<f64>,
    /// Share of the recordings that is not indexed, below 1
    #[arg(long, value_name = "SHARE", default_value = "0.2", value_parser = share)]
    pub(crate) held_out: f64,
    /// Recordings below this length, in seconds, are passed over
    #[arg(long, value_name = "SECONDS", default_value = "25", value_parser = not_negative)]
    pub(crate) shortest: f64,
    /// Folder of speech or ambience to mix in, for the conditions that need it
    #[arg(long, value_name = "FOLDER")]
    pub(crate) noise: Option<PathBuf>,
    /// File whose lines name recordings that are the same, as they are listed, separated by tabs
    #[arg(long, value_name = "FILE")]
    pub(crate) same: Option<PathBuf>,
    /// Hours of synthetic music that the index is filled up with
    #[arg(long, value_name = "HOURS", default_value = "0", value_parser = not_negative)]
    pub(crate) distractors: f64,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Whether tracks of changed speed, tempo or pitch are searched for
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Changed::Auto)]
    pub(crate) speed_search: Changed,
    /// File for a row of tab-separated values for each query
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Folder to keep the index in, new or of an earlier run [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub(crate) index: Option<PathBuf>,
}

/// [`SpeedSearch`] as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Changed {
    /// Never
    Off,
    /// Where no unchanged track is found beyond doubt
    Auto,
    /// Always
    Full,
}

impl From<Changed> for SpeedSearch {
    fn from(changed: Changed) -> Self {
        match changed {
            Changed::Off => Self::Off,
            Changed::Auto => Self::Auto,
            Changed::Full => Self::Full,
        }
    }
}

impl Cli {
    /// Threads to work with, at least 1.
    pub(crate) fn job_count(&self) -> usize {
        self.jobs
            .map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from)
    }
}

fn query_length(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (1.0..=SECONDS_MAX).contains(&seconds) => Ok(seconds),
        _ => Err(format!("give seconds, 1 to {SECONDS_MAX}")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("give a share of 0 to below 1".to_owned()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("give a number, 0 or more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["recognition", "music", "--lengths", "2,5", "--jobs", "3"]);
        assert_eq!((cli.lengths.as_slice(), cli.job_count()), ([2.0, 5.0].as_slice(), 3));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(query_length("0.9").is_err() && query_length("121").is_err());
        assert!(share("1").is_err() && share("-0.1").is_err() && share("0").is_ok());
        assert!(not_negative("nan").is_err() && not_negative("-1").is_err());
    }
}
