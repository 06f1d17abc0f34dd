//! The command line: what can be asked, with the exit codes and the JSON contract in `--help`.
//!
//! Only declarations and their checks live here; each command has a module of its own.

mod backup;
mod bench_server;
mod connect;
mod keys;
mod monitor;
mod reindex;
mod upkeep;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
pub(crate) use backup::{BackupArgs, RestoreArgs};
pub(crate) use bench_server::BenchServerArgs;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use connect::{ConnectArgs, KEY_ENV};
use fingerprint_core::matching::SpeedSearch;
use fingerprint_core::units::TrackId;
pub(crate) use keys::KeysCommand;
pub(crate) use monitor::{MonitorArgs, PcmArg};
pub(crate) use reindex::ReindexArgs;
pub(crate) use upkeep::{CheckArgs, CompactArgs};

use crate::catalog::Access;

/// Environment variable that stands in for `--index`.
pub(crate) const INDEX_ENV: &str = "EARMARK_INDEX";
/// Environment variable that stands in for `--server`.
pub(crate) const SERVER_ENV: &str = "EARMARK_SERVER";

const EXIT_CODES: &str = "\
Exit codes:
  match    0 something matched, 1 nothing matched, 2 an error (as grep)
  monitor  0 something was recognised, 1 nothing was, 2 an error
  ingest   0 every file is in the catalog, 2 something failed, 130 interrupted
  backup   0 done, 2 an error, or with --verify: something is damaged
  tracks   0 done, 1 a track was not there, 2 an error
  keys     0 done, 1 a key was not there, 2 an error
  check    0 the index is whole, 1 something is or was wrong, 2 it could not be checked
  reindex  0 the new index is complete, 2 an error or a damaged track, 130 interrupted
  others   0 done, 2 an error
  all      141 if standard output was closed early

Environment:
  EARMARK_INDEX    folder of the index, where neither --index nor --server is given
  EARMARK_SERVER   URL of earmark-server, likewise
  EARMARK_KEY      key that the server wants, where there is no --key-file
  EARMARK_LOG      what is logged to standard error, e.g. debug (default: own warnings)";

const MATCH_HELP: &str = "\
Exit codes: 0 something matched, 1 nothing matched, 2 an error (as grep).

JSON (--format json): one object a line, in the order of the arguments:
  query        path as given; - is standard input
  duration_s   length of the decoded clip in seconds; null after an error
  elapsed_ms   time from reading the file to the answer
  status       matched, no_match, too_short, silent or error
  matches      best first; empty unless status is matched. Each one:
    track_id, title, artist, isrc
    score                the higher the surer, in nats
    confidence           0 to 1
    e_value              accidental matches this good to be expected in this index
    query_start_s, query_end_s            where in the clip
    reference_start_s, reference_end_s    where in the track
    reference_offset_s   track time at clip time 0; may be negative
    speed                track seconds in one clip second: 1 is unchanged, 1.05 is 5 % faster
    pitch                clip frequency over track frequency: 1 is unchanged, 1.0595 a semitone up
    gaps                 stretches of the clip inside the match in which the track is not heard
                         though nothing covers it: query_start_s, query_end_s
    alternatives         other places of the track that fit nearly as well, as it repeats itself:
                         reference_start_s, reference_end_s, score
  error        text if status is error, otherwise null
What is not known or not computed is null. CSV has one row a match, without gaps and alternatives,
and one row with empty match columns for a clip without any.";

const INGEST_HELP: &str = "\
Exit codes: 0 every file is in the catalog, 2 something failed or no file was found, 130
interrupted (143 by SIGTERM).

A manifest is a .csv (or .tsv) file with a header line, or a .jsonl file with one object a line.
Only path is required; relative paths start at the manifest's folder. track_id, title, artist,
album and isrc are taken as such, all further columns are kept as attributes. Tags of the file
fill what the manifest leaves out. Without track_id the id derives from the decoded audio.

Interrupted or failed jobs: run the same command again. A journal remembers which files the
catalog has taken; those that have not changed since are not read again (--force reads them).";

/// Audio fingerprinting: ingest a catalog of recordings and match clips against it.
#[derive(Debug, Parser)]
#[command(name = "earmark", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add recordings to the catalog: files, folders or a manifest
    Ingest(IngestArgs),
    /// Find out which tracks of the catalog are in audio or video files
    Match(MatchArgs),
    /// Follow a stream, such as a radio station, and tell which tracks are heard in it
    Monitor(MonitorArgs),
    /// List, show and remove tracks
    #[command(subcommand)]
    Tracks(TracksCommand),
    /// Show sizes and counts of the catalog
    Stats(StatsArgs),
    /// Find out whether an index is damaged, and repair it
    Check(CheckArgs),
    /// Merge all postings of an index, and give back the space of removed tracks
    Compact(CompactArgs),
    /// Make a backup of the catalog while it is in use, list backups, or verify them
    Backup(BackupArgs),
    /// Make an index of a backup
    Restore(RestoreArgs),
    /// Make a new index of an old one, which is of an older format or of other parameters
    Reindex(ReindexArgs),
    /// Make, list and revoke the keys of a server
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Measure what a server can do: clips at given rates, or many streams at a time
    BenchServer(BenchServerArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page (read it with: earmark man | man -l -)
    Man {
        /// Write the pages of all commands into this folder instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Which catalog: an index of this machine, or a server.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// Folder of the index on this machine [env: EARMARK_INDEX]
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub(crate) index: Option<PathBuf>,
    /// Address of earmark-server, e.g. http://127.0.0.1:50051 [env: EARMARK_SERVER]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Longest wait for one answer of the server
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// The catalog to work on, after flags and environment were weighed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An index of this machine.
    Index(PathBuf),
    /// A server, the longest wait for one answer, and how to get in.
    Server { url: String, timeout: Duration, connect: ConnectArgs },
}

#[derive(Debug, Args)]
#[command(after_help = INGEST_HELP)]
pub(crate) struct IngestArgs {
    /// Files, and folders that are searched through (ignore files are honoured)
    #[arg(value_name = "PATH", required_unless_present = "manifest")]
    pub(crate) paths: Vec<PathBuf>,
    /// List of recordings with their metadata, .csv or .jsonl
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Write one row a file, in the order in which they are listed: path, status, track_id,
    /// duplicate_of, duration_s, elapsed_ms, detail
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Files decoded at the same time [default: number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Read all files again, also those that the journal knows
    #[arg(long)]
    pub(crate) force: bool,
    /// Where to remember what is done [default: beside the index: DIR.journal]
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Send the files to the server instead of their fingerprints
    #[arg(long)]
    pub(crate) send_audio: bool,
    /// How to print the summary
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub(crate) format: TextFormat,
}

#[derive(Debug, Args)]
#[command(after_help = MATCH_HELP)]
pub(crate) struct MatchArgs {
    /// Audio or video files; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
    /// Most matches reported for a file
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) max_matches: u16,
    /// Least confidence of a reported match, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse_probability)]
    pub(crate) min_confidence: f64,
    /// Most false accepts by chance that are put up with, per file: above 0, at most 1
    #[arg(long, value_name = "P", default_value_t = 1e-4, value_parser = parse_rate)]
    pub(crate) max_false_accepts: f64,
    /// Whether to search for tracks of changed speed, tempo or pitch
    #[arg(long, value_enum, default_value_t = SpeedSearchArg::Auto)]
    pub(crate) speed_search: SpeedSearchArg,
    /// Files worked on at the same time [default: number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Send the files to the server instead of their fingerprints
    #[arg(long)]
    pub(crate) send_audio: bool,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

/// Whether an index is only read.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ReadingArgs {
    /// Open the index for reading only, also while another process has it open
    #[arg(long, conflicts_with = "server")]
    read_only: bool,
}

impl ReadingArgs {
    pub(crate) fn access(self) -> Access {
        if self.read_only { Access::ReadOnly } else { Access::Existing }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TracksCommand {
    /// List the tracks, ordered by id
    List {
        #[command(flatten)]
        target: TargetArgs,
        /// How to print the tracks
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
        /// Most tracks printed; all without it
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        reading: ReadingArgs,
    },
    /// Show everything that is stored about tracks
    Show {
        /// Ids of the tracks
        #[arg(value_name = "TRACK_ID", required = true, value_parser = track_id_parser())]
        ids: Vec<TrackId>,
        #[command(flatten)]
        target: TargetArgs,
        /// How to print the tracks
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
        #[command(flatten)]
        reading: ReadingArgs,
    },
    /// Remove tracks
    Remove {
        /// Ids of the tracks
        #[arg(value_name = "TRACK_ID", required = true, value_parser = track_id_parser())]
        ids: Vec<TrackId>,
        #[command(flatten)]
        target: TargetArgs,
        /// How to print what was removed
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How to print the figures
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub(crate) format: TextFormat,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

/// Whether tracks of changed speed, tempo or pitch are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SpeedSearchArg {
    /// Unchanged tracks only
    Off,
    /// Where no unchanged track is found beyond doubt
    Auto,
    /// Everywhere: also changed tracks under unchanged ones
    Full,
}

impl From<SpeedSearchArg> for SpeedSearch {
    fn from(arg: SpeedSearchArg) -> Self {
        match arg {
            SpeedSearchArg::Off => Self::Off,
            SpeedSearchArg::Auto => Self::Auto,
            SpeedSearchArg::Full => Self::Full,
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables to be read
    Human,
    /// One JSON object a line
    Json,
    /// Comma-separated values with a header line
    Csv,
}

/// How a single result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextFormat {
    /// Text to be read
    #[value(alias = "text")]
    Human,
    /// One JSON object a line
    Json,
}

impl TargetArgs {
    /// Weighs flags and environment: a flag beats every variable.
    ///
    /// # Errors
    ///
    /// If nothing says which catalog is meant, or the environment names two.
    pub(crate) fn resolve(&self) -> Result<Target> {
        self.resolve_with(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn resolve_with(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<Target> {
        let (timeout, connect) = (self.timeout, &self.connect);
        let server = |url: String| Target::Server { url, timeout, connect: connect.clone() };
        match (&self.index, &self.server) {
            (Some(dir), _) => return Ok(Target::Index(dir.clone())),
            (None, Some(url)) => return Ok(server(url.clone())),
            (None, None) => {}
        }
        match (env(INDEX_ENV), env(SERVER_ENV)) {
            (Some(_), Some(_)) => bail!(
                "both {INDEX_ENV} and {SERVER_ENV} are set; unset one, or give --index or --server"
            ),
            (Some(dir), None) => Ok(Target::Index(dir.into())),
            (None, Some(url)) => match url.into_string() {
                Ok(url) => Ok(server(url)),
                Err(_) => bail!("{SERVER_ENV} is not valid UTF-8; set it to a URL"),
            },
            (None, None) => bail!("which catalog? give --index DIR or --server URL"),
        }
    }
}

impl Target {
    /// Refuses `--send-audio` where there is nothing to send to.
    ///
    /// # Errors
    ///
    /// If audio shall be sent, but the catalog is an index of this machine.
    pub(crate) fn check_send_audio(&self, send_audio: bool) -> Result<()> {
        match self {
            Self::Index(_) if send_audio => bail!("--send-audio needs --server URL"),
            _ => Ok(()),
        }
    }
}

pub(crate) fn parse_probability(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("must lie between 0 and 1".into()) }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value > 0.0 && value <= 1.0 {
        Ok(value)
    } else {
        Err("must be above 0 and at most 1".into())
    }
}

fn track_id_parser() -> impl TypedValueParser<Value = TrackId> {
    OsStringValueParser::new().try_map(|id| match id.into_string() {
        Ok(id) => TrackId::new(id).map_err(|e| e.to_string()),
        Err(_) => Err("track ids are UTF-8".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(index: Option<&str>, server: Option<&str>) -> TargetArgs {
        TargetArgs {
            index: index.map(PathBuf::from),
            server: server.map(str::to_owned),
            timeout: Duration::from_secs(1),
            connect: ConnectArgs::default(),
        }
    }

    #[test]
    fn declarations_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn only_what_is_about_getting_in_stands_under_that_heading() {
        use clap::CommandFactory;
        let ours = ["ca_cert", "client_cert", "client_key", "key_file"];
        for command in Cli::command().get_subcommands() {
            let headed = command.get_arguments().filter(|arg| arg.get_help_heading().is_some());
            let others: Vec<_> =
                headed.filter(|arg| !ours.contains(&arg.get_id().as_str())).collect();
            assert!(others.is_empty(), "{}: {others:?}", command.get_name());
        }
    }

    #[test]
    fn a_flag_beats_every_variable() {
        let both = |_: &str| Some(OsString::from("from-env"));
        let index = target(Some("dir"), None).resolve_with(both).unwrap();
        assert_eq!(index, Target::Index("dir".into()));
        let server = target(None, Some("http://a")).resolve_with(both).unwrap();
        assert!(matches!(server, Target::Server { url, .. } if url == "http://a"));
    }

    #[test]
    fn one_variable_is_enough_and_two_are_an_error() {
        let only = |wanted: &'static str| {
            move |name: &str| (name == wanted).then(|| OsString::from("from-env"))
        };
        let none = target(None, None);
        assert_eq!(none.resolve_with(only(INDEX_ENV)).unwrap(), Target::Index("from-env".into()));
        assert!(matches!(none.resolve_with(only(SERVER_ENV)).unwrap(), Target::Server { .. }));
        let both = none.resolve_with(|_| Some("x".into())).unwrap_err();
        assert!(both.to_string().contains("unset one"), "{both}");
        let neither = none.resolve_with(|_| None).unwrap_err();
        assert!(neither.to_string().contains("--index DIR"), "{neither}");
    }

    #[test]
    fn probabilities_are_checked_at_both_ends() {
        assert_eq!(parse_probability("0"), Ok(0.0));
        assert_eq!(parse_probability("1"), Ok(1.0));
        for bad in ["-0.1", "1.0001", "NaN", "x", ""] {
            assert!(parse_probability(bad).is_err(), "{bad}");
        }
    }
}
