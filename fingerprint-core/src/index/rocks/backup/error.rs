//! Why a backup could not be written, verified or restored.

use std::path::PathBuf;

use super::super::failure::is_full;
use crate::index::IndexError;

/// Why a backup could not be written, verified or restored.
///
/// One variant per thing a caller can *do*: see to the index ([`Index`](Self::Index)), to the disk
/// ([`Storage`](Self::Storage), [`Full`](Self::Full)), wait ([`Busy`](Self::Busy)), name another
/// folder or number (those from [`NoBackups`](Self::NoBackups) on), or take another backup
/// ([`Damaged`](Self::Damaged)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The index itself is at fault, or the copy of it is.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A folder could not be read or written; the cause is in `source`.
    #[error("failed to {action} in {}", path.display())]
    Storage {
        /// What was being done, as an infinitive.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's or the engine's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk is full.
    #[error("no space is left to {action} in {}; free some, or choose a folder on another disk", path.display())]
    Full {
        /// What was being done, as an infinitive.
        action: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Somebody else writes there.
    #[error("another backup or restore is at work in {}; wait until it has ended", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A file of a backup is not as it was written.
    #[error(
        "backup file {} is damaged: {what}; restore another backup (earmark backup FOLDER --list); a damaged file in shared_checksum may be deleted, and the next backup copies it again", file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There are no backups in the folder.
    #[error("no backups in {}; make one with earmark backup {} --index DIR", path.display(), path.display())]
    NoBackups {
        /// The folder.
        path: PathBuf,
    },
    /// None of the backups in the folder has been verified.
    #[error(
        "no backup in {} has been verified; name one with --backup ID to restore it all the same (earmark backup {} --list)", path.display(), path.display()
    )]
    NoneVerified {
        /// The folder.
        path: PathBuf,
    },
    /// There is no backup of this number.
    #[error("no backup {id} in {}; there are {known}", path.display())]
    NoSuchBackup {
        /// The folder.
        path: PathBuf,
        /// The number that was asked for.
        id: u32,
        /// The numbers that there are.
        known: String,
    },
    /// The folder holds other things than backups.
    #[error("{} holds other files and no backups; choose a new or empty folder", path.display())]
    NotABackupFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds backups of another index.
    #[error("{} holds backups of another index; choose a folder for each index", path.display())]
    OtherIndex {
        /// The folder.
        path: PathBuf,
    },
    /// Backups would lie in the index that they shall outlive.
    #[error("{} is in the folder of the index; choose one outside, best on another disk", path.display())]
    InsideIndex {
        /// The folder.
        path: PathBuf,
    },
    /// There is something where an index shall be restored.
    #[error("{} is not empty, and nothing is ever restored over an index; choose a new folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The place for the restored index has no name, as `/` or `..`.
    #[error("{} does not name a folder to be made; give the restored index a name", path.display())]
    NoName {
        /// The place.
        path: PathBuf,
    },
}

impl BackupError {
    /// Of what a system call or RocksDB said.
    pub(super) fn storage(
        action: &'static str,
        path: PathBuf,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        if is_full(&source.to_string()) {
            Self::Full { action, path }
        } else {
            Self::Storage { action, path, source }
        }
    }
}
