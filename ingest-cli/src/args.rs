//! The command line: what can be said, and what `--help` answers.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Recognise recordings: ingest a catalog, match clips against it.
#[derive(Debug, Parser)]
#[command(name = "earmark", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done (match: something matched), 1 nothing matched, \
    2 an error (ingest: also if any file failed).";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add recordings to an index, which is made if there is none.
    Ingest(IngestArgs),
    /// Say which recordings of an index are in the given clips, and where.
    Match(MatchArgs),
    /// List, show or remove tracks.
    #[command(subcommand)]
    Tracks(TracksCommand),
    /// Sizes and counts of an index.
    Stats(IndexArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff).
    Man,
}

#[derive(Debug, Args)]
pub(crate) struct IndexArgs {
    /// Folder of the index.
    #[arg(long, env = "EARMARK_INDEX", value_name = "DIR")]
    pub(crate) index: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// Audio files, and folders that are searched for them (ignore files are honoured).
    #[arg(required_unless_present = "manifest")]
    pub(crate) paths: Vec<PathBuf>,
    /// A .csv or .jsonl file with the column `path` (relative to the manifest's folder) and
    /// optionally track_id, title, artist, album, isrc; further columns are kept as attributes.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Write one row a file to this CSV file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) index: IndexArgs,
}

#[derive(Debug, Args)]
pub(crate) struct MatchArgs {
    /// Clips; `-` reads standard input.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) index: IndexArgs,
    /// How to print: human, json (one object a line, in the order of the arguments) or csv.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
    /// Most matches a clip.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) max_matches: usize,
    /// Least confidence of a match, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub(crate) min_confidence: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Human,
    Json,
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TracksCommand {
    /// Print the ids of all tracks, one JSON object a line.
    List(IndexArgs),
    /// Print all that is stored about a track, as JSON.
    Show {
        /// Its id.
        track_id: String,
        #[command(flatten)]
        index: IndexArgs,
    },
    /// Remove tracks; they never answer again.
    Remove {
        /// Their ids.
        #[arg(required = true)]
        track_ids: Vec<String>,
        #[command(flatten)]
        index: IndexArgs,
    },
}
