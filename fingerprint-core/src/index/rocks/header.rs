//! The file `earmark.json` that makes a folder an index, read before the database is touched.
//!
//! It says which release can read the rest. The database cannot: a newer one may have column
//! families that this build does not know, and refuses to be opened without them; and an index
//! that another process uses could not even say which version it is.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{FORMAT_VERSION, corrupt};
use crate::index::IndexError;

const FILE: &str = "earmark.json";
const DRAFT: &str = "earmark.json.new";
/// What RocksDB makes first in a new folder and never deletes.
const DATABASE_FILE: &str = "CURRENT";

/// The contents of the file. Later versions may add fields, but not change these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Version of everything that is stored.
    pub(super) format: u32,
    /// Digest of the fingerprint parameters, 16 hexadecimal digits: JSON numbers are too short.
    pub(super) params: String,
    /// When the index was made, in milliseconds since 1970-01-01 UTC.
    pub(super) created_at_ms: u64,
}

/// Makes sure that `folder` holds an index that this build can read, making an empty one's header
/// if `create` and there is none.
pub(super) fn check_or_create(folder: &Path, digest: u64, create: bool) -> Result<(), IndexError> {
    if let Some(header) = read(folder)? {
        header.check(digest)?;
        return check_database(folder);
    }
    if !is_free(folder)? {
        return Err(IndexError::NotAnIndex { path: folder.to_owned() });
    }
    if !create {
        return Err(IndexError::Missing { path: folder.to_owned() });
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let header = Header {
        format: FORMAT_VERSION,
        params: format!("{digest:016x}"),
        created_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    };
    header.write(folder).map_err(file_error("create the index folder"))
}

fn file_error(action: &'static str) -> impl Fn(std::io::Error) -> IndexError {
    move |source| IndexError::Storage { action, source: Box::new(source) }
}

fn read(folder: &Path) -> Result<Option<Header>, IndexError> {
    let bytes = match fs::read(folder.join(FILE)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        result => result.map_err(file_error("read earmark.json of the index"))?,
    };
    let header = serde_json::from_slice(&bytes);
    header.map(Some).map_err(|error| corrupt(format!("{FILE} is damaged: {error}")))
}

/// True if there is nothing in `folder` that an index must not mix with.
fn is_free(folder: &Path) -> Result<bool, IndexError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(false),
        result => result.map_err(file_error("list the index folder"))?,
    };
    for entry in entries {
        let name = entry.map_err(file_error("list the index folder"))?.file_name();
        // A draft is left by a crash; the other is in every fresh file system.
        if name != DRAFT && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// RocksDB would take a folder without its first file for a new one, and delete the old data as
/// left over. Without data there is nothing to lose: the index was being made.
fn check_database(folder: &Path) -> Result<(), IndexError> {
    if folder.join(DATABASE_FILE).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(file_error("list the index folder"))? {
        let name = entry.map_err(file_error("list the index folder"))?.file_name();
        if Path::new(&name).extension().is_some_and(|end| end == "sst" || end == "log") {
            return Err(corrupt(format!("its file {DATABASE_FILE} is missing")));
        }
    }
    Ok(())
}

impl Header {
    fn check(&self, digest: u64) -> Result<(), IndexError> {
        if self.format != FORMAT_VERSION {
            return Err(IndexError::FormatVersion {
                expected: FORMAT_VERSION,
                actual: self.format,
            });
        }
        let actual = u64::from_str_radix(&self.params, 16)
            .map_err(|_| corrupt(format!("{FILE} has no parameter digest")))?;
        if actual != digest {
            return Err(IndexError::ParamsMismatch { expected: digest, actual });
        }
        Ok(())
    }

    /// Writes it whole or not at all.
    fn write(&self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = File::create(folder.join(DRAFT))?;
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(folder.join(DRAFT), folder.join(FILE))?;
        // The new name is durable only when the folder is.
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_is_refused_whatever_else_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"format": 9, "params": "?", "created_at_ms": 1, "new": true}"#;
        fs::write(folder.path().join(FILE), text).unwrap();
        let error = check_or_create(folder.path(), 7, true).unwrap_err();
        assert!(matches!(error, IndexError::FormatVersion { expected: 1, actual: 9 }), "{error}");
    }

    #[test]
    fn a_folder_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "x").unwrap();
        for create in [true, false] {
            let error = check_or_create(folder.path(), 7, create).unwrap_err();
            assert!(matches!(error, IndexError::NotAnIndex { .. }), "{error}");
        }
        let file = folder.path().join("thesis.tex");
        let error = check_or_create(&file, 7, true).unwrap_err();
        assert!(matches!(error, IndexError::NotAnIndex { .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_of_making_an_index_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(DRAFT), "{").unwrap();
        fs::create_dir(folder.path().join("lost+found")).unwrap();
        assert!(matches!(
            check_or_create(folder.path(), 7, false),
            Err(IndexError::Missing { .. })
        ));
        check_or_create(folder.path(), 7, true).unwrap();
        check_or_create(folder.path(), 7, false).unwrap();
    }

    #[test]
    fn data_without_its_database_is_not_taken_for_a_new_index() {
        let folder = tempfile::tempdir().unwrap();
        check_or_create(folder.path(), 7, true).unwrap();
        fs::write(folder.path().join("000007.sst"), "x").unwrap();
        let error = check_or_create(folder.path(), 7, true).unwrap_err();
        assert!(matches!(error, IndexError::Corrupt { .. }), "{error}");
    }
}
