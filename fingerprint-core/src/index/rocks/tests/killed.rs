//! A copy of an index that is open: what a process leaves behind that is killed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// The files as a process leaves them that is killed. Threads of the index may be writing and deleting
/// files meanwhile, so what is copied counts only if nothing has changed while it was.
pub(in crate::index::rocks) fn killed(folder: &Path) -> TempDir {
    for _ in 0..1_000 {
        let (before, copy) = (files_of(folder), tempfile::tempdir().unwrap());
        let is_copied =
            before.keys().all(|name| fs::copy(folder.join(name), copy.path().join(name)).is_ok());
        if is_copied && files_of(folder) == before {
            return copy;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{} does not come to rest", folder.display());
}

/// The files of a folder by name, and what changes when one of them is written.
fn files_of(folder: &Path) -> BTreeMap<OsString, (u64, u64, SystemTime)> {
    let of_entry = |entry: fs::DirEntry| {
        // A file that was just deleted is none.
        let file = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some((entry.file_name(), (file.ino(), file.len(), file.modified().unwrap())))
    };
    fs::read_dir(folder).unwrap().filter_map(|entry| of_entry(entry.unwrap())).collect()
}
