//! Is this folder an index, and one of ours? Format, parameters, and who else has it open.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::PoisonError;

use rocksdb::{ColumnFamily, DB, Options, WriteBatch};

use super::acknowledged::Acknowledged;
use super::backup::SNAPSHOT;
use super::recovery::check_logs;
use super::{
    FORMAT_VERSION, INCOMING, Inner, META, PARTS, acknowledged, corrupt, filling, io_failure,
    storage,
};
use crate::index::IndexError;
use crate::params::Params;

/// Header field: all parameters by name, as JSON. What differs can then be told by its name.
pub(super) const VALUES: &str = "values";

/// Key of the number of the last change.
pub(super) const CHANGE: &str = "change";

impl Inner {
    pub(super) fn get_meta<const N: usize>(
        &self,
        key: &str,
    ) -> Result<Option<[u8; N]>, IndexError> {
        let value =
            self.db.get_cf(self.family(META), key).map_err(storage("read the index header"))?;
        value.map(|bytes| field(key, &bytes)).transpose()
    }

    /// Becomes the one that may write, and goes on with the number of the last change that is there.
    pub(super) fn take_over(&mut self, acknowledged: Acknowledged) -> Result<(), IndexError> {
        let change = self.get_meta(CHANGE);
        let acknowledged = self.acknowledged.insert(acknowledged);
        acknowledged.begin(change?.map_or(0, u64::from_be_bytes));
        Ok(())
    }

    /// Numbers changes on from the last that is there, without claiming less than was acknowledged. If
    /// that number cannot be read, they go on behind the last that is claimed.
    pub(super) fn go_on_quietly(&self) {
        if let (Some(acknowledged), Ok(change)) = (&self.acknowledged, self.get_meta(CHANGE)) {
            acknowledged.begin_quietly(change.map_or(0, u64::from_be_bytes));
        }
    }

    /// Checks format, completeness and parameters, or writes them into an index that is new. `filling`
    /// is the index whose tracks are to be copied into it.
    pub(super) fn check_meta(&mut self, filling: Option<&str>) -> Result<(), IndexError> {
        let Some(next) = self.check_header(filling)? else {
            let mut batch = WriteBatch::default();
            self.put_header(&mut batch)?;
            if let Some(from) = filling {
                batch.put_cf(self.family(META), filling::KEY, from);
            }
            return self.commit(batch);
        };
        *self.next_position.get_mut().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Adds what an index says of itself to `batch`: format and parameters.
    pub(super) fn put_header(&self, batch: &mut WriteBatch) -> Result<(), IndexError> {
        let meta = self.family(META);
        batch.put_cf(meta, "format", FORMAT_VERSION.to_be_bytes());
        batch.put_cf(meta, "params", self.params.digest().to_be_bytes());
        batch.put_cf(meta, VALUES, values_json(&self.params)?);
        Ok(())
    }

    /// Checks format, completeness and parameters, and tells the next free position; `None` of an index
    /// that has no header yet. `filling` as above.
    pub(super) fn check_header(&self, filling: Option<&str>) -> Result<Option<u32>, IndexError> {
        let digest = self.params.digest();
        let Some(format) = self.get_meta("format")? else { return Ok(None) };
        let actual = u32::from_be_bytes(format);
        if actual != FORMAT_VERSION {
            return Err(other_format(&self.path, actual));
        }
        self.check_filling(filling)?;
        let actual = self.get_meta("params")?.map(u64::from_be_bytes);
        let actual = actual.ok_or_else(|| corrupt("its header has no parameter digest"))?;
        if actual != digest {
            let path = self.path.clone();
            return Err(IndexError::ParamsMismatch { path, expected: digest, actual });
        }
        Ok(Some(self.get_meta("next")?.map_or(0, u32::from_be_bytes)))
    }
}

impl Inner {
    /// Refuses to write if the folder is not the one any more that was opened: RocksDB goes by names, and
    /// would spoil what is there now.
    ///
    /// # Errors
    ///
    /// [`IndexError::Exchanged`].
    pub(super) fn refuse_exchanged(&self) -> Result<(), IndexError> {
        if self.folder.is_some() && self.folder == folder_number(&self.path).ok() {
            return Ok(());
        }
        // Else it would delete, by their names, files that it does not know.
        let _ = self.db.disable_file_deletions();
        Err(IndexError::Exchanged { path: self.path.clone() })
    }
}

/// What the system calls a folder, whatever its name is.
pub(super) fn folder_number(path: &Path) -> Result<u64, IndexError> {
    let metadata = path.metadata().map_err(io_failure("look at the folder of the index"))?;
    Ok(metadata.ino())
}

/// True if there is an index in the folder.
///
/// # Errors
///
/// [`IndexError::Corrupt`] if there is one without the file that says which its files are. To make a
/// new one in its place would delete them.
pub(super) fn is_index(path: &Path) -> Result<bool, IndexError> {
    let failed = io_failure("look into the folder of the index");
    let entries = match path.read_dir() {
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(false);
        }
        entries => entries.map_err(&failed)?,
    };
    if path.join("CURRENT").try_exists().map_err(&failed)? {
        return Ok(true);
    }
    for entry in entries {
        // A creation that a crash has ended has neither tables nor, before CURRENT, a log.
        let name = entry.map_err(&failed)?.file_name();
        if numbered(&name.to_string_lossy()).is_some_and(|end| end == "sst" || end == "log") {
            let path = path.display();
            return Err(corrupt(format!("{path} is damaged: its file CURRENT is missing")));
        }
    }
    Ok(false)
}

/// What follows the number in the name of a file of RocksDB, such as 000012.sst.
fn numbered(name: &str) -> Option<&str> {
    const DIGITS_MIN: usize = 6;
    let (number, end) = name.split_once('.')?;
    let is_number = number.len() >= DIGITS_MIN && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(end)
}

/// Takes an index of our format for this process, if its log can be read to an end. In a folder of
/// another format nothing is left.
///
/// # Errors
///
/// [`IndexError::InUse`], [`IndexError::Corrupt`], or those of [`check_format`].
pub(super) fn take(path: &Path) -> Result<Acknowledged, IndexError> {
    if !path.join(acknowledged::FILE).exists() {
        check_files(path)?;
    }
    // Before anything is read that another process may be writing.
    let acknowledged = Acknowledged::take(path)?;
    check_files(path)?;
    Ok(acknowledged)
}

/// Refuses files over which RocksDB would not get, and an index of another format.
pub(super) fn check_files(path: &Path) -> Result<(), IndexError> {
    check_logs(path)?;
    check_format(path)
}

/// True if a crash has ended the making of this index before anything was written into it.
pub(super) fn is_blank(path: &Path) -> Result<bool, IndexError> {
    check_logs(path)?;
    let families = families(path)?;
    let has = |part: &str| families.iter().any(|family| family == part);
    if PARTS.iter().all(|part| has(part)) {
        return Ok(false);
    }
    if !has(META) {
        return Ok(true);
    }
    let db = DB::open_cf_for_read_only(&Options::default(), path, [META], false)
        .map_err(|source| open_error(path, source))?;
    let format = db.get_cf(family(&db, META)?, "format");
    Ok(format.map_err(storage("read the index header"))?.is_none())
}

/// Refuses an index of another format, whose column families RocksDB could not open with ours.
fn check_format(path: &Path) -> Result<(), IndexError> {
    let families = families(path)?;
    // None at all is what a crash has left of a creation.
    let Some(unknown) = families.iter().find(|family| !PARTS.contains(&family.as_str())) else {
        return Ok(());
    };
    if !families.iter().any(|family| family == META) {
        return Err(IndexError::NotAnIndex { path: path.to_owned() });
    }
    let db = DB::open_cf_for_read_only(&Options::default(), path, [META], false)
        .map_err(|source| open_error(path, source))?;
    let format =
        db.get_cf(family(&db, META)?, "format").map_err(storage("read the index header"))?;
    let format = format.ok_or_else(|| corrupt("its header has no format version"))?;
    match u32::from_be_bytes(field("format", &format)?) {
        FORMAT_VERSION => Err(corrupt(format!("format {FORMAT_VERSION} has no part {unknown}"))),
        actual => Err(other_format(path, actual)),
    }
}

/// What to tell of an index of another format than ours: older ones can be made new, those of later
/// releases only be read by them.
pub(super) fn other_format(path: &Path, actual: u32) -> IndexError {
    let (path, expected) = (path.to_owned(), FORMAT_VERSION);
    if actual < expected {
        IndexError::FormatVersion { path, expected, actual }
    } else {
        IndexError::NewerFormat { path, expected, actual }
    }
}

/// The column families of a folder, without RocksDB's own, which is empty.
pub(super) fn families(path: &Path) -> Result<Vec<String>, IndexError> {
    let mut families =
        DB::list_cf(&Options::default(), path).map_err(|source| open_error(path, source))?;
    families.retain(|family| family != "default");
    Ok(families)
}

/// A column family of an index that was opened with it.
pub(super) fn family<'d>(db: &'d DB, part: &str) -> Result<&'d ColumnFamily, IndexError> {
    db.cf_handle(part).ok_or_else(|| corrupt(format!("its part {part} is missing")))
}

fn values_json(params: &Params) -> Result<Vec<u8>, IndexError> {
    serde_json::to_vec(&params.values()).map_err(|source| IndexError::Storage {
        action: "encode the parameters",
        source: Box::new(source),
    })
}

/// A header field of fixed width.
pub(super) fn field<const N: usize>(key: &str, bytes: &[u8]) -> Result<[u8; N], IndexError> {
    bytes.try_into().map_err(|_| corrupt(format!("header field {key} has a wrong length")))
}

pub(super) fn open_error(path: &Path, source: rocksdb::Error) -> IndexError {
    if is_locked(&source) {
        IndexError::InUse { path: path.to_owned(), process: None }
    } else if source.kind() == rocksdb::ErrorKind::Corruption && !names_file(&source) {
        corrupt(format!("its log is damaged: {source}"))
    } else {
        storage("open the index")(source)
    }
}

/// True if RocksDB says which file is damaged, which it does of all but its log.
fn names_file(error: &rocksdb::Error) -> bool {
    let text = error.to_string();
    [".sst", "MANIFEST", "CURRENT"].iter().any(|name| text.contains(name))
}

/// True if the folder has files that RocksDB does not make. Those that it does may be what a crash
/// has left of a creation.
pub(super) fn holds_other_files(path: &Path) -> bool {
    const NAMES: [&str; 6] =
        [acknowledged::FILE, INCOMING, SNAPSHOT, "LOCK", "IDENTITY", "lost+found"];
    const STARTS: [&str; 3] = ["LOG", "MANIFEST-", "OPTIONS-"];
    let Ok(entries) = path.read_dir() else { return false };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    let is_ours = |name: &str| {
        NAMES.contains(&name)
            || STARTS.iter().any(|start| name.starts_with(start))
            || numbered(name).is_some_and(|end| ["sst", "log", "dbtmp"].contains(&end))
    };
    names.any(|name| !is_ours(&name.to_string_lossy()))
}

/// True if another process has the index open. RocksDB says so only in words: of the file LOCK,
/// with the system's error for a lock that is held, or its own for one held by this process.
fn is_locked(error: &rocksdb::Error) -> bool {
    let text = error.to_string();
    error.kind() == rocksdb::ErrorKind::IOError
        && text.contains("/LOCK")
        && (text.contains("lock hold by current process") || text.contains("While lock file"))
}
