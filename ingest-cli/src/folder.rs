//! The folder of an index: what to tell when it cannot be opened, and how large it is.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use fingerprint_core::index::IndexError;

/// Names the folder of an index that is damaged, which the index itself does not.
pub(crate) fn with_folder(error: IndexError, dir: &Path) -> Error {
    match error {
        IndexError::Corrupt { .. } | IndexError::BeyondRepair { .. } => {
            Error::from(error).context(format!("index {}", dir.display()))
        }
        error => error.into(),
    }
}

/// What to do about an index that could not be opened by a command that needs it for itself, which a
/// server cannot do for it.
pub(crate) fn explain(error: IndexError, dir: &Path) -> Error {
    match error {
        IndexError::InUse { .. } => anyhow!(
            "index {} is in use by another process; end that first: this command needs the index for itself",
            dir.display()
        ),
        IndexError::Storage { .. } => Error::from(error).context(format!(
            "index {} cannot be worked on; if the disk is sound and has room, restore the folder from \
             a backup, or ingest the catalog into a new one",
            dir.display()
        )),
        error => with_folder(error, dir),
    }
}

/// Bytes of all files of an index, without the words that RocksDB logs and the settings that it notes.
///
/// # Errors
///
/// If the folder cannot be read.
pub(crate) fn bytes(dir: &Path) -> Result<u64> {
    let context = || format!("folder {} cannot be measured", dir.display());
    let mut sum = 0;
    for entry in fs::read_dir(dir).with_context(context)? {
        let entry = entry.with_context(context)?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(context),
        };
        let name = entry.file_name();
        let name = name.to_string_lossy();
        sum += if metadata.is_dir() {
            bytes(&entry.path())?
        } else if name.starts_with("LOG") || name.starts_with("OPTIONS-") {
            0
        } else {
            metadata.len()
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_index_is_named() {
        let error = explain(IndexError::Corrupt { what: "no header".into() }, Path::new("a"));
        assert!(format!("{error:#}").starts_with("index a: index is corrupt: no header"));
    }

    #[test]
    fn an_index_in_use_is_told_without_a_server_that_could_not_help() {
        let error = explain(IndexError::InUse { path: "a".into(), process: None }, Path::new("a"))
            .to_string();
        assert!(error.contains("end that first") && !error.contains("--server"), "{error}");
        let source = Box::new(std::io::Error::other("no block"));
        let error = explain(IndexError::Storage { action: "read", source }, Path::new("a"));
        let text = format!("{error:#}");
        assert!(text.contains("backup") && text.ends_with("no block"), "{text}");
    }
}
