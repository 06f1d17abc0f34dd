//! Commands that need the folder of an index for themselves, which a server cannot do for them.

use std::path::Path;

use anyhow::{Error, anyhow};
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
