//! Backups: consistent, incremental, verified copies of an index that is in use.
//!
//! ```text
//! index ─ snapshot ─▶ frozen index ─ RocksDB's backup engine ─▶ folder ─ verify ─▶ note
//!                                                               folder ─ restore ─▶ index
//! ```
//!
//! # What a backup holds
//!
//! RocksDB's backup engine copies the files of a database, and shares those that do not change
//! between backups; it is safe beside writers as far as all that is written passes through the log.
//! Our segments do not: their files are taken over by RocksDB, and only the directory goes through
//! the log. The engine looks at the files first and at the log a moment later, so a segment that came
//! in between would have a directory and no blocks. Therefore a *snapshot* is backed up: hard links to
//! all files, made while no segment comes to count (`snapshot.rs`), which takes as long as writing
//! what is in memory only. The copying, which may take hours, then holds nobody up.
//!
//! So a backup holds every change that was acknowledged before it began, none in part, and perhaps
//! some that came meanwhile.
//!
//! # When it counts
//!
//! After it has been written, sizes of all its files are compared, those that are new are read back
//! and their checksums compared, and it is opened: header, tracks, directories, a block at each end of
//! each segment, peaks of what is in no segment (`verify.rs`). Only then a note is put beside it, with
//! what it holds. Files that an earlier backup has brought are not read again: that is for
//! [`verify`].
//!
//! # The folder
//!
//! ```text
//! meta/ID                     files of a backup with their checksums, written by RocksDB
//! private/ID/ shared_checksum/  the files, written by RocksDB
//! earmark/ID.json             the note: what it holds, that it has been verified (folder.rs)
//! earmark/lock                held by who writes here, and shared by who reads
//! ```
//!
//! # Source
//!
//! RocksDB wiki, "How to backup RocksDB".

mod error;
mod folder;
mod restore;
mod snapshot;
mod verify;

use std::num::NonZeroU32;
use std::path::Path;

pub use error::BackupError;
use folder::{Folder, Note};
pub use restore::restore;
use serde::{Deserialize, Serialize};
pub(super) use snapshot::SNAPSHOT;
pub use verify::{Damage, verify};

use super::{RocksIndex, lock};

/// Reads bytes as the list of a backup's files; see [`super::read_as_every_row`].
pub(super) fn read_list(bytes: &[u8]) {
    let _ = folder::parse(bytes);
}

/// A backup in a folder of backups.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// Its number: the higher, the later.
    pub id: u32,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub taken_at_s: u64,
    /// Size of all its files in bytes, those that it shares with other backups included.
    pub bytes: u64,
    /// Size of those of its files that no earlier backup in the folder has.
    pub added_bytes: u64,
    /// Whether it can be relied on.
    pub state: BackupState,
}

/// Whether a backup can be relied on.
#[derive(Debug, Clone, PartialEq)]
pub enum BackupState {
    /// It has been verified when it was made, and its files are all there, each in its size.
    Verified(Contents),
    /// It was interrupted before it was verified.
    Unverified,
    /// Files are missing or have other sizes.
    Damaged {
        /// Which file, and what is wrong with it.
        what: String,
    },
}

/// What an index, or a backup of it, holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// Live tracks.
    pub track_count: u64,
    /// Their length together, in seconds.
    pub duration_s: f64,
    /// Format version of the index.
    pub format_version: u32,
    /// Digest of the fingerprint parameters.
    pub params_digest: u64,
}

impl RocksIndex {
    /// Writes a backup of this index into `folder`, which is made if there is none, and verifies it.
    /// Others may search, add and remove meanwhile. Of a folder that has backups already, only what
    /// is new is copied. With `keep`, backups older than the last so many verified ones are deleted
    /// afterwards.
    ///
    /// # Errors
    ///
    /// [`BackupError`]; the backups that were there before stay as they are.
    pub fn back_up(&self, folder: &Path, keep: Option<NonZeroU32>) -> Result<Backup, BackupError> {
        let inner = &self.inner;
        let _one = lock(&inner.backing_up);
        folder::refuse_index_folder(folder, &inner.path)?;
        let folder = Folder::create(folder)?;
        let identity = inner.identity()?;
        folder.refuse_other_index(&identity)?;
        folder.delete_orphaned_notes()?;
        let mut engine = folder.engine()?;
        let snapshot = inner.snapshot()?;
        engine
            .create_new_backup(snapshot.db())
            .map_err(|source| folder.failed("write a backup", source))?;
        drop(snapshot);
        let id = engine.get_backup_info().iter().map(|info| info.backup_id).max();
        let id = id.ok_or_else(|| BackupError::NoBackups { path: folder.path().to_owned() })?;
        let contents = verify::verify_new(&folder, &engine, id, inner)?;
        folder.write_note(
            id,
            &Note {
                index: identity,
                manifest: folder.manifest(id)?.digest,
                contents,
                bytes: folder.backup(id)?.bytes,
            },
        )?;
        if let Some(keep) = keep {
            // RocksDB counts those that were never verified as well.
            let ids = folder.ids()?;
            let mut verified = ids.iter().rev().filter(|id| folder.note(**id).is_some());
            let oldest = verified.nth(keep.get() as usize - 1);
            let kept = ids.iter().filter(|id| oldest.is_none_or(|oldest| *id >= oldest)).count();
            engine
                .purge_old_backups(kept)
                .map_err(|source| folder.failed("delete old backups", source))?;
            folder.delete_orphaned_notes()?;
        }
        folder.backup(id)
    }
}

/// The backups in `folder`, the oldest first. Looks at names and sizes of their files.
///
/// # Errors
///
/// [`BackupError::NoBackups`], [`BackupError::Busy`] while one is being written, or
/// [`BackupError::Storage`].
pub fn list(folder: &Path) -> Result<Vec<Backup>, BackupError> {
    Folder::open(folder)?.backups()
}

#[cfg(test)]
mod tests;
