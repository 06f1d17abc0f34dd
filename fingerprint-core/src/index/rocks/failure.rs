//! What went wrong below the index, as its callers are told: damage, and everything else.

use std::io;

use rocksdb::ErrorKind;

use crate::index::IndexError;

/// Words with which RocksDB tells that one of its files is gone.
const GONE: &str = "No such file or directory";

/// What an error of RocksDB is to the caller.
pub(super) fn storage(action: &'static str) -> impl Fn(rocksdb::Error) -> IndexError {
    move |source| {
        let text = source.to_string();
        if source.kind() == ErrorKind::Corruption || text.contains(GONE) {
            return corrupt(format!("files are damaged, seen while trying to {action}: {text}"));
        }
        let source = Box::new(source);
        IndexError::Storage { action, source }
    }
}

/// What an error of the file system is to the caller.
pub(super) fn io_failure(action: &'static str) -> impl Fn(io::Error) -> IndexError {
    move |error| IndexError::Storage { action, source: Box::new(error) }
}

/// Damage that we have found ourselves.
pub(super) fn corrupt(what: impl Into<String>) -> IndexError {
    IndexError::Corrupt { what: what.into() }
}
