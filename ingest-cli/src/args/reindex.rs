//! `earmark reindex`: its flags and its help.

use std::path::PathBuf;

use clap::Args;

use super::TextFormat;

const REINDEX_HELP: &str = "\
Exit codes: 0 the new index is complete, 2 an error or a damaged track, 130 interrupted (143 by
SIGTERM).

Ids, metadata, durations and times of adding stay as they are; no audio is read. OLD is only read,
and may be in use by another process, but tracks that are added to it meanwhile are missing in the
new index.

Interrupted or failed: run the same command again, it goes on where it stopped. Until it is complete
no other command opens the new index. A track whose stored peaks are damaged is told and left out;
ingest its file again. The journal of ingest (OLD.journal) is copied too.

JSON (--format json): one object:
  old_index, new_index    folders
  old_format_version, format_version
  copied, kept, removed, damaged
                          tracks: copied by this run; there before it; there before it, but no
                          longer in OLD; damaged in OLD and left out
  audio_s, elapsed_s      length of the tracks that were copied or kept; time of this run
  old_bytes, new_bytes    sizes on disk
  complete                whether the new index can be used";

#[derive(Debug, Args)]
#[command(after_help = REINDEX_HELP)]
pub(crate) struct ReindexArgs {
    /// Folder of the old index; it is not changed
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,
    /// Folder of the new index: a new or empty one, or that of an interrupted run
    #[arg(long = "index", value_name = "DIR")]
    pub(crate) new: PathBuf,
    /// How to print the summary
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub(crate) format: TextFormat,
}
