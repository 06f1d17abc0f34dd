//! Commands that need the folder of an index for themselves, which a server cannot do for them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use fingerprint_core::index::IndexError;

/// What to do about an index that could not be opened.
pub(crate) fn explain(error: IndexError, dir: &Path) -> Error {
    let dir = dir.display();
    match error {
        IndexError::InUse { .. } => anyhow!(
            "index {dir} is in use by another process; end that first: this command needs the index for itself"
        ),
        IndexError::Storage { .. } => Error::from(error).context(format!(
            "index {dir} cannot be worked on; if the disk is sound and has room, restore the folder from \
             a backup, or ingest the catalog into a new one"
        )),
        error => error.into(),
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
