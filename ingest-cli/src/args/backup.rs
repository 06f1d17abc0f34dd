//! The arguments of `earmark backup` and `earmark restore`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{ConnectArgs, Target, TargetArgs, TextFormat};

const BACKUP_HELP: &str = "\
Exit codes: 0 done, 2 an error, or with --verify: something is damaged.

A backup holds all that was in the catalog when the command was given. The first copies the whole
index, later ones into the same folder only what is new. Each is verified: sizes of all files,
checksums of the new ones, and that it opens. Files of earlier backups are read by --verify only.

Only one process can have an index open. If that is earmark-server, it makes the backup itself, in
the folder that it was started with (--backup-dir): earmark backup --server URL.

JSON: one object a backup: backup_id, taken_at, bytes, added_bytes (of files that no earlier backup
has), state (verified, unverified or damaged), track_count and duration_s (null unless verified),
damage (text, or null).";

#[derive(Debug, Args)]
#[command(after_help = BACKUP_HELP)]
pub(crate) struct BackupArgs {
    /// Folder for the backups of this index; a server has its own
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Folder of the index on this machine [env: EARMARK_INDEX]
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    index: Option<PathBuf>,
    /// Address of earmark-server, e.g. http://127.0.0.1:50051 [env: EARMARK_SERVER]
    #[arg(long, value_name = "URL", conflicts_with = "folder")]
    server: Option<String>,
    /// Longest wait for the server
    #[arg(long, value_name = "TIME", default_value = "1day", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Delete older backups than the last N afterwards
    #[arg(long, value_name = "N", conflicts_with_all = ["list", "verify"])]
    pub(crate) keep: Option<NonZeroU32>,
    /// List the backups instead of making one
    #[arg(long)]
    pub(crate) list: bool,
    /// Read all files of the backups and compare them with their checksums, instead of making one
    #[arg(long, requires = "folder", conflicts_with = "list")]
    pub(crate) verify: bool,
    /// How to print the backups
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub(crate) format: TextFormat,
}

impl BackupArgs {
    /// The catalog to back up.
    ///
    /// # Errors
    ///
    /// As [`TargetArgs::resolve`].
    pub(crate) fn target(&self) -> Result<Target> {
        let (index, server) = (self.index.clone(), self.server.clone());
        let connect = self.connect.clone();
        TargetArgs { index, server, timeout: self.timeout, connect }.resolve()
    }
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Folder of the backups
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Folder for the index; it must be empty, or not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) index: PathBuf,
    /// Number of the backup (earmark backup FOLDER --list) [default: the latest verified one]
    #[arg(long, value_name = "ID")]
    pub(crate) backup: Option<u32>,
    /// How to print what was restored
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub(crate) format: TextFormat,
}
