//! What went wrong below the index, as its callers are told: the full disk, damage, and everything else.

use std::io;

use rocksdb::ErrorKind;

use crate::index::IndexError;

/// Words with which RocksDB tells that there is no room; it has no kind of error for it.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];
/// Words with which RocksDB tells that one of its files is gone.
const GONE: &str = "No such file or directory";

/// What an error of RocksDB is to the caller.
pub(super) fn storage(action: &'static str) -> impl Fn(rocksdb::Error) -> IndexError {
    move |source| {
        let text = source.to_string();
        if is_damage(&source) {
            return corrupt(format!("files are damaged, seen while trying to {action}: {text}"));
        }
        let source = Box::new(source);
        if is_full(&text) {
            return IndexError::DiskFull { action, source };
        }
        IndexError::Storage { action, source }
    }
}

/// True if files are damaged or gone, and not if a disk does not answer.
pub(super) fn is_damage(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::Corruption || error.to_string().contains(GONE)
}

/// True of what the system or RocksDB says of a full disk.
pub(super) fn is_full(text: &str) -> bool {
    FULL.iter().any(|full| text.contains(full))
}

/// What an error of the file system is to the caller.
pub(super) fn io_failure(action: &'static str) -> impl Fn(io::Error) -> IndexError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            IndexError::DiskFull { action, source: Box::new(error) }
        }
        _ => IndexError::Storage { action, source: Box::new(error) },
    }
}

/// Damage that we have found ourselves.
pub(super) fn corrupt(what: impl Into<String>) -> IndexError {
    IndexError::Corrupt { what: what.into() }
}
