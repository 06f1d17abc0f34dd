//! The mark of an index that is being made of another one: until it is taken away, nobody but
//! the reindexing may open the index, because tracks are missing in it.
//!
//! It is a header field, written in one batch with the rest of a new header and taken away last,
//! so there is no moment at which a half-made index could be taken for a whole one.

use std::path::Path;

use rocksdb::{IteratorMode, WriteBatch};

use super::{Inner, META, TRACKS, storage};
use crate::index::IndexError;

/// Header field; holds the folder of the index that this one is made of, as text.
pub(super) const KEY: &str = "filling";

/// What to tell of an index with the mark, whose content is `from`.
pub(super) fn incomplete(path: &Path, from: &[u8]) -> IndexError {
    let from = String::from_utf8_lossy(from).into_owned();
    IndexError::Incomplete { path: path.to_owned(), from }
}

/// Refuses a folder that cannot take a new index.
pub(super) fn occupied(path: &Path, what: impl Into<String>) -> IndexError {
    IndexError::Occupied { path: path.to_owned(), what: what.into() }
}

impl Inner {
    /// Lets nobody but the reindexing from `filling` open an index that it has begun, and the
    /// reindexing open no other one that holds tracks.
    pub(super) fn check_filling(&self, filling: Option<&str>) -> Result<(), IndexError> {
        let begun =
            self.db.get_cf(self.family(META), KEY).map_err(storage("read the index header"))?;
        match (begun, filling) {
            (None, None) => Ok(()),
            (Some(from), None) => Err(incomplete(&self.path, &from)),
            (Some(from), Some(same)) if from == same.as_bytes() => Ok(()),
            (Some(from), Some(_)) => {
                let from = String::from_utf8_lossy(&from).into_owned();
                Err(occupied(&self.path, format!("it was begun from {from}, not from this index")))
            }
            (None, Some(from)) => {
                let mut tracks = self.db.iterator_cf(self.family(TRACKS), IteratorMode::Start);
                if tracks.next().transpose().map_err(storage("list the tracks"))?.is_some() {
                    return Err(occupied(&self.path, "it holds a whole index"));
                }
                let mut batch = WriteBatch::default();
                batch.put_cf(self.family(META), KEY, from);
                self.commit(batch)
            }
        }
    }

    /// Takes the mark away: all tracks are there, on disk.
    pub(super) fn end_filling(&self) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(META), KEY);
        self.commit(batch)
    }
}
