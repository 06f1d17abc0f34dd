//! The arguments of `earmark check` and `earmark compact`, which need the folder of an index.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::{INDEX_ENV, TextFormat};

const CHECK_HELP: &str = "\
Exit codes: 0 the index is whole, 1 something is wrong (with --repair: was wrong; check again to get
0), 2 it could not be checked.

Everything is read: header, records, peaks, every checksum, and each posting is compared with the
peaks of its track. The index must not be in use; without --repair nothing is changed.

--repair makes postings anew from the stored peaks, deletes rows that belong to nothing, and takes
out tracks whose record or peaks are lost. It names them; ingest their recordings again.
It may be interrupted and begun anew. It needs as much free space as the postings take.

JSON (--format json): one object:
  status       whole, faulty, repaired (nothing is wrong any more) or partly_repaired
  track_count, duration_s, posting_count    what is whole; postings as they follow from the peaks
  purgeable_posting_count    postings of removed tracks that a merge will leave out; no fault
  segment_count, leftover_segment_count     in use; left by a crash, deleted when opened, no fault
  faults       what was found. Each one has kind, message and way_out, and fields of its kind
  lost         tracks that cannot be saved: track_id, metadata (null if it is lost too)
  remaining    faults that the repair has left; empty without --repair
  written_segment_count      segments that the repair has made anew
  kept_files   folder with files as they were before, if the repair replaced any
  elapsed_s";

#[derive(Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// Mend what is wrong
    #[arg(long)]
    pub(crate) repair: bool,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub(crate) format: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// How to print what was done
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub(crate) format: TextFormat,
}

/// Which index of this machine: for what a server cannot do while it has one open.
#[derive(Debug, Clone, Args)]
pub(crate) struct FolderArgs {
    /// Folder of the index on this machine [env: EARMARK_INDEX]
    #[arg(long, value_name = "DIR")]
    pub(crate) index: Option<PathBuf>,
}

impl FolderArgs {
    /// The folder, from the flag or the environment.
    ///
    /// # Errors
    ///
    /// If neither names one.
    pub(crate) fn resolve(&self) -> Result<PathBuf> {
        self.resolve_with(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn resolve_with(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
        let dir = self.index.clone().or_else(|| env(INDEX_ENV).map(PathBuf::from));
        dir.context("which index? give --index DIR; this works on a folder, not through a server")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::SERVER_ENV;

    #[test]
    fn a_folder_comes_from_the_flag_or_one_variable() {
        let env = |name: &str| (name == INDEX_ENV).then(|| OsString::from("from-env"));
        let none = FolderArgs { index: None };
        assert_eq!(none.resolve_with(env).unwrap(), PathBuf::from("from-env"));
        let flag = FolderArgs { index: Some("dir".into()) };
        assert_eq!(flag.resolve_with(env).unwrap(), PathBuf::from("dir"));
        let server = |name: &str| (name == SERVER_ENV).then(|| OsString::from("http://a"));
        let error = none.resolve_with(server).unwrap_err().to_string();
        assert!(error.contains("--index DIR"), "{error}");
    }
}
