//! Is a backup as it was written, and does it open?
//!
//! Bytes are compared by the checksums that RocksDB noted when it copied them. Opening is tried on a
//! folder of symbolic links to the files of the backup, for reading only: it tells whether they fit
//! together, without copying any.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rocksdb::DB;
use rocksdb::backup::BackupEngine;

use super::super::segments::{Segment, block_key, damaged, end_of, no_peaks};
use super::super::{BLOCKS, CONSTELLATIONS, Inner, Limits, Timeline, header, options, storage};
use super::folder::{BackedUp, Folder};
use super::snapshot::Scratch;
use super::{BackupError, Contents};
use crate::index::IndexError;
use crate::params::Params;

/// Read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A file of a backup that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// Numbers of the backups that need it.
    pub backups: Vec<u32>,
}

/// Reads all files of all backups in `folder`, or of the one of number `id`, and compares them with
/// their checksums. Takes as long as reading them. Gives what is damaged, nothing if all is well.
///
/// # Errors
///
/// [`BackupError::NoBackups`], [`BackupError::NoSuchBackup`], [`BackupError::Busy`], or that the folder
/// cannot be read.
pub fn verify(folder: &Path, id: Option<u32>) -> Result<Vec<Damage>, BackupError> {
    let folder = Folder::open(folder)?;
    let ids = match id {
        Some(id) => vec![folder.choose(Some(id))?],
        None => folder.ids()?,
    };
    if ids.is_empty() {
        return Err(BackupError::NoBackups { path: folder.path().to_owned() });
    }
    let mut found = Vec::new();
    // Each file once, with the checksums that backups expect of it.
    let mut expected: BTreeMap<String, (u32, Vec<u32>)> = BTreeMap::new();
    for id in ids {
        match folder.manifest(id) {
            Ok(manifest) => {
                for file in manifest.files {
                    let entry = expected.entry(file.path).or_insert((file.crc32c, Vec::new()));
                    entry.1.push(id);
                }
            }
            Err(BackupError::Damaged { file, what }) => {
                found.push(Damage { file, what, backups: vec![id] });
            }
            Err(error) => return Err(error),
        }
    }
    for (path, (crc32c, backups)) in expected {
        match check(&folder, &BackedUp { path, crc32c }) {
            Ok(()) => {}
            Err(BackupError::Damaged { file, what }) => found.push(Damage { file, what, backups }),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Verifies a backup that has just been written, and tells what it holds.
pub(super) fn verify_new(
    folder: &Folder,
    engine: &BackupEngine,
    id: u32,
    index: &Inner,
) -> Result<Contents, BackupError> {
    engine.verify_backup(id).map_err(|source| folder.failed("verify a backup", source))?;
    let manifest = folder.manifest(id)?;
    let before = folder.files_before(id)?;
    for file in manifest.files.iter().filter(|file| !before.contains(&file.path)) {
        check(folder, file)?;
    }
    let scratch = Scratch::new(&index.path)?;
    for file in &manifest.files {
        let target = std::path::absolute(folder.path().join(&file.path));
        let name = file.index_name().unwrap_or_default();
        target
            .and_then(|target| symlink(target, scratch.path().join(name)))
            .map_err(|source| folder.failed("try to open a backup", source))?;
    }
    let examined = examine(scratch.path(), &index.params);
    if let Err(BackupError::Index(IndexError::Corrupt { .. })) = examined {
        // Most likely in a file that an earlier backup has brought.
        manifest.files.iter().try_for_each(|file| check(folder, file))?;
    }
    examined
}

/// Compares a file with its checksum.
pub(super) fn check(folder: &Folder, expected: &BackedUp) -> Result<(), BackupError> {
    let file = folder.path().join(&expected.path);
    match checksum(&file) {
        Ok(crc32c) if crc32c == expected.crc32c => Ok(()),
        Ok(crc32c) => {
            let what = format!("its checksum is {crc32c:08x} instead of {:08x}", expected.crc32c);
            Err(BackupError::Damaged { file, what })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(BackupError::Damaged { file, what: "it is missing".to_owned() })
        }
        Err(source) => Err(BackupError::storage("read a backup", file, source)),
    }
}

fn checksum(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut crc = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(crc),
            len => crc = crc32c::crc32c_append(crc, &chunk[..len]),
        }
    }
}

/// Opens an index for reading only and looks whether its parts fit together.
pub(super) fn examine(path: &Path, params: &Params) -> Result<Contents, BackupError> {
    header::check_files(path)?;
    let db = DB::open_cf_descriptors_read_only(
        &options::database(),
        path,
        options::families(false),
        false,
    )
    .map_err(storage("open the copy"))?;
    let inner = Inner::new(db, path, params, Limits::default());
    if inner.check_header(None)?.is_none() {
        return Err(IndexError::Missing { path: path.to_owned() }.into());
    }
    let (stats, entries) = inner.read_tracks()?;
    let timeline = Timeline::new(entries)?;
    let segments = inner.read_segments(&[])?;
    for segment in &segments {
        inner.look_at_both_ends(segment)?;
    }
    let end = end_of(&segments);
    for (span, _) in timeline.entries().filter(|(span, _)| span.start >= end) {
        let key = span.start.to_be_bytes();
        let peaks = inner.db.get_pinned_cf(inner.family(CONSTELLATIONS), key);
        peaks.map_err(storage("read the peaks of a track"))?.ok_or_else(|| no_peaks(*span))?;
    }
    Ok(Contents {
        track_count: stats.track_count,
        duration_s: stats.duration_s,
        format_version: stats.format_version,
        params_digest: stats.params_digest,
    })
}

impl Inner {
    /// Refuses a segment whose first or last block is not there.
    fn look_at_both_ends(&self, segment: &Segment) -> Result<(), IndexError> {
        let Some(last) = segment.directory.block_count().checked_sub(1) else { return Ok(()) };
        for block in [0, last] {
            let key = block_key(segment.id, u32::try_from(block).unwrap_or(u32::MAX));
            let found = self.db.get_pinned_cf(self.family(BLOCKS), key);
            found.map_err(storage("read postings"))?.ok_or_else(|| damaged(segment.id, block))?;
        }
        Ok(())
    }
}
