//! A part of the database of which rows cannot be read is written anew, with those that can.
//!
//! RocksDB cannot do without a damaged file: its next compaction would fail, and every write after
//! it. So the rows that can be read are copied to files beside the database, the column family is
//! dropped and made anew, and takes the copies over.
//!
//! ```text
//! repair/PART.new   copies that are being written
//! repair/PART       all copies of the part; from now on they count, and the family does not
//! repair/PART.done  the family has taken them over; being deleted
//! lost              the files that the family had, for whoever wants to try to save more
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::SstFileWriter;

use crate::index::IndexError;
use crate::index::rocks::check::Rows;
use crate::index::rocks::{Inner, PARTS, corrupt, options, storage};

/// Folder in that of the index for copies of rows.
const REPAIR: &str = "repair";
/// Folder in that of the index for files with rows that cannot be read.
const LOST: &str = "lost";
/// Files are begun anew at this size.
const FILE_BYTES: u64 = 256 << 20;

/// True if a repair was interrupted while a part was being replaced: the index must not be used.
pub(in crate::index::rocks) fn is_pending(path: &Path) -> bool {
    PARTS.iter().any(|part| path.join(REPAIR).join(part).exists())
}

/// Refuses an index of which a part is not in its place.
pub(in crate::index::rocks) fn refuse_pending(path: &Path) -> Result<(), IndexError> {
    if is_pending(path) { Err(corrupt("a repair of it was interrupted")) } else { Ok(()) }
}

/// Ends what an interrupted repair had begun.
pub(super) fn finish(inner: &mut Inner) -> Result<(), IndexError> {
    for part in PARTS {
        if inner.path.join(REPAIR).join(part).exists() {
            replace(inner, part)?;
        }
    }
    tidy_up(&inner.path.join(REPAIR));
    Ok(())
}

/// Folder with files that a repair has replaced, if there is one.
pub(super) fn kept_files(path: &Path) -> Option<PathBuf> {
    Some(path.join(LOST)).filter(|lost| lost.exists())
}

/// Keeps everything as it is before RocksDB opens a database whose log is damaged: it deletes what it
/// cannot read. What an earlier repair has kept stays.
pub(in crate::index::rocks) fn keep_all(path: &Path) -> Result<(), IndexError> {
    let keep = || -> io::Result<()> {
        let lost = path.join(LOST);
        fs::create_dir_all(&lost)?;
        for entry in fs::read_dir(path)? {
            let (name, from) = entry.map(|entry| (entry.file_name(), entry.path()))?;
            let (to, is_table) = (lost.join(&name), from.extension().is_some_and(|e| e == "sst"));
            if !from.is_file() || to.exists() {
                continue;
            }
            // Tables are never written to; the rest may be.
            if !is_table || fs::hard_link(&from, &to).is_err() {
                fs::copy(from, to)?;
            }
        }
        sync_folder(&lost)
    };
    keep().map_err(failed("keep the files of a damaged index"))
}

/// Writes parts anew with the rows that can be read.
pub(in crate::index::rocks) fn rewrite(
    inner: &mut Inner,
    parts: &BTreeSet<&'static str>,
) -> Result<(), IndexError> {
    for part in parts {
        inner.refuse_exchanged()?;
        keep_files(inner, part).map_err(failed("keep damaged files"))?;
        copy_rows(inner, part)?;
        replace(inner, part)?;
    }
    Ok(())
}

/// Keeps the files of a part from being deleted with it.
fn keep_files(inner: &Inner, part: &str) -> io::Result<()> {
    let lost = inner.path.join(LOST);
    fs::create_dir_all(&lost)?;
    let files = inner.db.live_files().map_err(io::Error::other)?;
    for file in files.iter().filter(|file| file.column_family_name == part) {
        let name = file.name.trim_start_matches('/');
        let (from, to) = (inner.path.join(name), lost.join(format!("{part}-{name}")));
        // A repair that was interrupted may have kept it already; and it may be gone.
        if from.exists() && !to.exists() && fs::hard_link(&from, &to).is_err() {
            // Not all file systems have links.
            fs::copy(from, to)?;
        }
    }
    sync_folder(&lost)
}

/// Copies the rows of a part that can be read to files, which count once all are there.
pub(in crate::index::rocks) fn copy_rows(
    inner: &Inner,
    part: &'static str,
) -> Result<(), IndexError> {
    let failed_write = storage("copy rows that can be read");
    let folder = inner.path.join(REPAIR);
    let unfinished = folder.join(format!("{part}.new"));
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir_all(&unfinished).map_err(failed("make a folder for copies of rows"))?;
    let options = options::quiet(part);
    let mut file: Option<SstFileWriter<'_>> = None;
    let mut file_count = 0;
    let mut rows = Rows::new(inner, part, &[], None);
    while let Some((key, value)) = rows.next()? {
        if file.as_mut().is_none_or(|file| file.file_size() >= FILE_BYTES) {
            if let Some(mut full) = file.take() {
                full.finish().map_err(&failed_write)?;
            }
            let new = SstFileWriter::create(&options);
            new.open(unfinished.join(format!("{file_count}.sst"))).map_err(&failed_write)?;
            file_count += 1;
            file = Some(new);
        }
        if let Some(file) = &mut file {
            file.put(key, value).map_err(&failed_write)?;
        }
    }
    if let Some(mut last) = file {
        last.finish().map_err(&failed_write)?;
    }
    let finished = || {
        sync_folder(&unfinished)?;
        fs::rename(&unfinished, folder.join(part))?;
        sync_folder(&folder)
    };
    finished().map_err(failed("make copies of rows count"))
}

/// Makes a part anew from the copies of its rows.
fn replace(inner: &mut Inner, part: &'static str) -> Result<(), IndexError> {
    let folder = inner.path.join(REPAIR).join(part);
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let files = list().map_err(failed("list copies of rows"))?;
    inner.refuse_exchanged()?;
    inner.db.drop_cf(part).map_err(storage("give a damaged part up"))?;
    inner.db.create_cf(part, &options::quiet(part)).map_err(storage("make a part anew"))?;
    if !files.is_empty() {
        inner
            .db
            .ingest_external_file_cf(inner.family(part), files)
            .map_err(storage("take over copies of rows"))?;
    }
    // In one step, because deleting is many.
    let repair = inner.path.join(REPAIR);
    fs::rename(&folder, repair.join(format!("{part}.done")))
        .and_then(|()| sync_folder(&repair))
        .map_err(failed("make a part anew"))?;
    tidy_up(&repair);
    Ok(())
}

/// Deletes copies that are of no use any more. What stays is in nobody's way.
fn tidy_up(repair: &Path) {
    for part in PARTS {
        let _ = fs::remove_dir_all(repair.join(format!("{part}.done")));
    }
    // Goes only if nothing is left in it.
    let _ = fs::remove_dir(repair);
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> IndexError {
    move |source| IndexError::Storage { action, source: Box::new(source) }
}
