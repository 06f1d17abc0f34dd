//! A snapshot: the index as it is at one moment, in hard links, to be copied at leisure.
//!
//! It lies in the folder of the index, because links cannot leave a disk. What a crash leaves of one
//! is deleted before the next, and when the index is opened.

use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::DB;
use rocksdb::checkpoint::Checkpoint;

use super::super::{Inner, lock, options, storage};
use super::BackupError;
use crate::index::IndexError;

/// Folder in that of the index for snapshots, and for the trial opening of a backup.
pub(in crate::index::rocks) const SNAPSHOT: &str = "snapshot";

/// A folder that is deleted in the end.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it anew, in the folder of the index.
    pub(super) fn new(index: &Path) -> Result<Self, BackupError> {
        let path = index.join(SNAPSHOT);
        let failed = |source| BackupError::storage("make a snapshot", path.clone(), source);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed)?;
        }
        fs::create_dir(&path).map_err(failed)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is deleted the next time.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The index as it was at one moment. It is a database of its own.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Closed before its folder is deleted: fields are dropped in their order.
    db: DB,
    _scratch: Scratch,
}

impl Snapshot {
    pub(super) fn db(&self) -> &DB {
        &self.db
    }
}

impl Inner {
    /// What RocksDB calls this database. A restored one goes on under the same name.
    pub(super) fn identity(&self) -> Result<String, IndexError> {
        let identity = self.db.get_db_identity().map_err(storage("read the name of the index"))?;
        Ok(String::from_utf8_lossy(&identity).into_owned())
    }

    /// Writes to files what is in memory only, and links to all files.
    pub(super) fn snapshot(&self) -> Result<Snapshot, BackupError> {
        self.refuse_exchanged()?;
        let scratch = Scratch::new(&self.path)?;
        let path = scratch.path().join("index");
        let failed = |source| BackupError::storage("make a snapshot", path.clone(), source);
        let counting = lock(&self.counting);
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(&path))
            .map_err(failed)?;
        drop(counting);
        let still = options::families(true);
        let db = DB::open_cf_descriptors(&options::database(), &path, still).map_err(failed)?;
        Ok(Snapshot { db, _scratch: scratch })
    }
}
