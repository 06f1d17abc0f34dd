//! Are RocksDB's files there, as long as its list of them says? What is in them, their readers see.

use std::io::ErrorKind;

use super::Check;
use super::rows::Damage;
use crate::index::IndexError;
use crate::index::rocks::{PARTS, io_failure, storage};

impl Check<'_> {
    /// Notes parts of which a table is gone or has another length than it should, whatever was in it:
    /// opening the index would fail.
    pub(super) fn check_tables(&mut self) -> Result<(), IndexError> {
        let tables = self.inner.db.live_files().map_err(storage("list the tables"))?;
        for table in tables {
            let Some(part) = PARTS.into_iter().find(|part| *part == table.column_family_name)
            else {
                continue;
            };
            let path = self.inner.path.join(table.name.trim_start_matches('/'));
            let what = match path.metadata() {
                Ok(metadata) if metadata.len() == table.size as u64 => continue,
                Ok(metadata) => format!("has {} of {} bytes", metadata.len(), table.size),
                Err(error) if error.kind() == ErrorKind::NotFound => "is missing".to_owned(),
                Err(error) => return Err(io_failure("look at a table")(error)),
            };
            // Another folder in its place is no damage.
            self.inner.refuse_exchanged()?;
            let what = Some(format!("{} {what}", path.display()));
            self.note_damage(part, Damage { place_count: 1, what });
        }
        Ok(())
    }
}
