//! Is this folder an index, and one of ours? Format, parameters, and who else has it open.

use std::path::Path;
use std::sync::PoisonError;

use rocksdb::{DB, ErrorKind, Options, WriteBatch};

use super::{FORMAT_VERSION, Inner, META, PARTS, corrupt, storage};
use crate::index::IndexError;

impl Inner {
    fn get_meta<const N: usize>(&self, key: &str) -> Result<Option<[u8; N]>, IndexError> {
        let value =
            self.db.get_cf(self.family(META), key).map_err(storage("read the index header"))?;
        value.map(|bytes| header_field(key, &bytes)).transpose()
    }

    /// Checks format and parameters, or writes them into an index that is new.
    pub(super) fn check_meta(&mut self) -> Result<(), IndexError> {
        let Some(next) = self.check_header()? else {
            let mut batch = WriteBatch::default();
            batch.put_cf(self.family(META), "format", FORMAT_VERSION.to_be_bytes());
            batch.put_cf(self.family(META), "params", self.params.digest().to_be_bytes());
            return self.commit(batch);
        };
        *self.next_position.get_mut().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Checks format and parameters, and tells the next free position; `None` of an index that has
    /// no header yet.
    pub(super) fn check_header(&self) -> Result<Option<u32>, IndexError> {
        let digest = self.params.digest();
        let Some(format) = self.get_meta("format")? else { return Ok(None) };
        let actual = u32::from_be_bytes(format);
        if actual != FORMAT_VERSION {
            return Err(IndexError::FormatVersion { expected: FORMAT_VERSION, actual });
        }
        let actual = self.get_meta("params")?.map(u64::from_be_bytes);
        let actual = actual.ok_or_else(|| corrupt("its header has no parameter digest"))?;
        if actual != digest {
            return Err(IndexError::ParamsMismatch { expected: digest, actual });
        }
        Ok(Some(self.get_meta("next")?.map_or(0, u32::from_be_bytes)))
    }
}

/// Refuses an index of another format, whose column families RocksDB could not open with ours.
pub(super) fn check_format(path: &Path) -> Result<(), IndexError> {
    let mut families =
        DB::list_cf(&Options::default(), path).map_err(|source| open_error(path, source))?;
    families.retain(|family| family != "default");
    families.sort_unstable();
    let mut ours = PARTS;
    ours.sort_unstable();
    // None at all is what a crash has left of a creation.
    if families.is_empty() || families.iter().all(|family| ours.contains(&family.as_str())) {
        return Ok(());
    }
    if !families.iter().any(|family| family == META) {
        return Err(IndexError::NotAnIndex { path: path.to_owned() });
    }
    let db = DB::open_cf_for_read_only(&Options::default(), path, [META], false)
        .map_err(|source| open_error(path, source))?;
    let meta = db.cf_handle(META).ok_or_else(|| corrupt("it has no header"))?;
    let format = db.get_cf(meta, "format").map_err(storage("read the index header"))?;
    let format = format.ok_or_else(|| corrupt("its header has no format version"))?;
    let actual = u32::from_be_bytes(header_field("format", &format)?);
    Err(IndexError::FormatVersion { expected: FORMAT_VERSION, actual })
}

fn header_field<const N: usize>(key: &str, bytes: &[u8]) -> Result<[u8; N], IndexError> {
    bytes.try_into().map_err(|_| corrupt(format!("header field {key} has a wrong length")))
}

pub(super) fn open_error(path: &Path, source: rocksdb::Error) -> IndexError {
    if is_locked(&source) {
        IndexError::InUse { path: path.to_owned() }
    } else {
        storage("open the index")(source)
    }
}

/// True if the folder has files that RocksDB does not make. Those that it does may be what a crash
/// has left of a creation.
pub(super) fn holds_other_files(path: &Path) -> bool {
    const STARTS: [&str; 7] =
        ["LOCK", "LOG", "IDENTITY", "MANIFEST-", "OPTIONS-", "0", "lost+found"];
    let Ok(entries) = path.read_dir() else { return false };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    names.any(|name| !STARTS.iter().any(|start| name.to_string_lossy().starts_with(start)))
}

/// True if another process has the index open. RocksDB says so only in words: of the file LOCK,
/// with the system's error for a lock that is held, or its own for one held by this process.
fn is_locked(error: &rocksdb::Error) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::IOError
        && text.contains("/LOCK")
        && (text.contains("lock hold by current process") || text.contains("While lock file"))
}
