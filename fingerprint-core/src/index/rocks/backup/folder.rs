//! A folder of backups: what lies where in it, and who may write there.
//!
//! RocksDB writes `meta/ID` last of all, so a backup that has one is complete. Its lines (version 1):
//! time in seconds; sequence number; perhaps `metadata …`; number of files; then for each file its
//! path in the folder, `crc32`, and its CRC-32C as a decimal number.
//!
//! Our own note, `earmark/ID.json`, says that the backup has been verified and what it holds, and has
//! the BLAKE3 digest of `meta/ID`, which has no checksum of its own.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use rocksdb::Env;
use rocksdb::backup::{BackupEngine, BackupEngineOptions};
use serde::{Deserialize, Serialize};

use super::{Backup, BackupError, BackupState, Contents};

const META: &str = "meta";
const OURS: &str = "earmark";

/// A folder of backups that this process may read, or write as well.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Held as long as the folder is used; none on a medium that cannot be written.
    _lock: Option<File>,
}

/// The files of a backup.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) taken_at_s: u64,
    pub(super) files: Vec<BackedUp>,
    /// BLAKE3 of `meta/ID`, hexadecimal.
    pub(super) digest: String,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BackedUp {
    /// Path in the folder.
    pub(super) path: String,
    pub(super) crc32c: u32,
}

/// What we note of a backup that has been verified.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// What RocksDB calls the index.
    pub(super) index: String,
    /// [`Manifest::digest`].
    pub(super) manifest: String,
    pub(super) contents: Contents,
    /// Size of all its files in bytes; 0 in notes that do not say it.
    #[serde(default)]
    pub(super) bytes: u64,
}

/// Refuses backups in the folder of the index itself.
pub(super) fn refuse_index_folder(folder: &Path, index: &Path) -> Result<(), BackupError> {
    let index = index.canonicalize().unwrap_or_else(|_| index.to_owned());
    // The folder may not be there yet; something above it is.
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let is_inside = absolute
        .ancestors()
        .find_map(|above| above.canonicalize().ok())
        .is_some_and(|above| above.starts_with(&index));
    if is_inside { Err(BackupError::InsideIndex { path: folder.to_owned() }) } else { Ok(()) }
}

impl Folder {
    /// For writing; made if there is none.
    pub(super) fn create(path: &Path) -> Result<Self, BackupError> {
        let failed = |source| BackupError::storage("make a folder", path.to_owned(), source);
        let is_new = path.read_dir().map_or(true, |mut entries| entries.next().is_none());
        if !is_new && !path.join(META).is_dir() && !path.join(OURS).is_dir() {
            return Err(BackupError::NotABackupFolder { path: path.to_owned() });
        }
        fs::create_dir_all(path.join(OURS)).map_err(failed)?;
        let file = File::create(path.join(OURS).join("lock")).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(BackupError::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// For reading.
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        if !path.join(META).is_dir() {
            return Err(BackupError::NoBackups { path: path.to_owned() });
        }
        let lock = File::open(path.join(OURS).join("lock")).ok();
        if lock
            .as_ref()
            .is_some_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
        {
            return Err(BackupError::Busy { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What to tell of something that went wrong in the folder.
    pub(super) fn failed(
        &self,
        action: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> BackupError {
        BackupError::storage(action, self.path.clone(), source)
    }

    /// RocksDB's engine for this folder.
    pub(super) fn engine(&self) -> Result<BackupEngine, BackupError> {
        Env::new()
            .and_then(|env| BackupEngine::open(&BackupEngineOptions::new(&self.path)?, &env))
            .map_err(|source| self.failed("look at the backups", source))
    }

    /// Numbers of all complete backups, ascending.
    pub(super) fn ids(&self) -> Result<Vec<u32>, BackupError> {
        let failed = |source: io::Error| self.failed("look at the backups", source);
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.path.join(META)).map_err(failed)? {
            // Those that are being written have other names.
            ids.extend(
                entry
                    .map_err(failed)?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<u32>().ok()),
            );
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The number if there is such a backup; the latest verified one if none is given.
    pub(super) fn choose(&self, id: Option<u32>) -> Result<u32, BackupError> {
        let path = self.path.clone();
        let ids = self.ids()?;
        match id {
            _ if ids.is_empty() => Err(BackupError::NoBackups { path }),
            Some(id) if ids.contains(&id) => Ok(id),
            Some(id) => {
                let known: Vec<_> = ids.iter().map(u32::to_string).collect();
                Err(BackupError::NoSuchBackup { path, id, known: known.join(", ") })
            }
            None => {
                let verified = ids.into_iter().rev().find(|id| self.note(*id).is_some());
                verified.ok_or(BackupError::NoneVerified { path })
            }
        }
    }

    /// The files of a backup.
    pub(super) fn manifest(&self, id: u32) -> Result<Manifest, BackupError> {
        let file = self.path.join(META).join(id.to_string());
        let bytes = fs::read(&file)
            .map_err(|source| self.failed("read a backup's list of files", source))?;
        let digest = blake3::hash(&bytes).to_hex().to_string();
        let damaged =
            |what: &str| BackupError::Damaged { file: file.clone(), what: what.to_owned() };
        if self.note(id).is_some_and(|note| note.manifest != digest) {
            return Err(damaged("it is not as it was when the backup was verified"));
        }
        parse(&bytes)
            .map(|(taken_at_s, files)| Manifest { taken_at_s, files, digest })
            .ok_or_else(|| damaged("it is no list of files"))
    }

    fn note_path(&self, id: u32) -> PathBuf {
        self.path.join(OURS).join(format!("{id}.json"))
    }

    /// What was noted when the backup was verified.
    pub(super) fn note(&self, id: u32) -> Option<Note> {
        serde_json::from_slice(&fs::read(self.note_path(id)).ok()?).ok()
    }

    pub(super) fn write_note(&self, id: u32, note: &Note) -> Result<(), BackupError> {
        let failed = |source: io::Error| self.failed("note that a backup is verified", source);
        let json = serde_json::to_vec(note).map_err(|source| failed(source.into()))?;
        let new = self.note_path(id).with_extension("new");
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&new, self.note_path(id)).map_err(failed)?;
        File::open(self.path.join(OURS)).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Deletes notes of backups that are gone: RocksDB may give their numbers out again.
    pub(super) fn delete_orphaned_notes(&self) -> Result<(), BackupError> {
        let failed = |source: io::Error| self.failed("delete old notes", source);
        let ids = if self.path.join(META).is_dir() { self.ids()? } else { Vec::new() };
        for entry in fs::read_dir(self.path.join(OURS)).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_note = path.extension().is_some_and(|extension| extension == "json");
            let id = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok());
            if is_note && id.is_none_or(|id| !ids.contains(&id)) {
                fs::remove_file(path).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Refuses backups of an index beside those of another.
    pub(super) fn refuse_other_index(&self, identity: &str) -> Result<(), BackupError> {
        let ids = if self.path.join(META).is_dir() { self.ids()? } else { Vec::new() };
        if ids.iter().filter_map(|id| self.note(*id)).any(|note| note.index != identity) {
            return Err(BackupError::OtherIndex { path: self.path.clone() });
        }
        Ok(())
    }

    /// All backups, the oldest first.
    pub(super) fn backups(&self) -> Result<Vec<Backup>, BackupError> {
        let mut before = HashSet::new();
        let mut backups = Vec::new();
        for id in self.ids()? {
            backups.push(self.describe(id, &before)?);
            before.extend(self.files(id));
        }
        Ok(backups)
    }

    /// One backup.
    pub(super) fn backup(&self, id: u32) -> Result<Backup, BackupError> {
        self.describe(id, &self.files_before(id)?)
    }

    /// What can be said of a backup without reading its files. `before` are those of all older ones.
    fn describe(&self, id: u32, before: &HashSet<String>) -> Result<Backup, BackupError> {
        let damaged = |what| BackupState::Damaged { what };
        let mut backup =
            Backup { id, taken_at_s: 0, bytes: 0, added_bytes: 0, state: BackupState::Unverified };
        let manifest = match self.manifest(id) {
            Ok(manifest) => manifest,
            Err(BackupError::Damaged { file, what }) => {
                backup.state = damaged(format!("{}: {what}", file.display()));
                return Ok(backup);
            }
            Err(error) => return Err(error),
        };
        backup.taken_at_s = manifest.taken_at_s;
        let mut missing = None;
        for file in &manifest.files {
            let Ok(found) = fs::metadata(self.path.join(&file.path)) else {
                missing = Some(format!("{} is missing", self.path.join(&file.path).display()));
                continue;
            };
            backup.bytes += found.len();
            backup.added_bytes += if before.contains(&file.path) { 0 } else { found.len() };
        }
        if let Some(note) = self.note(id) {
            backup.state = if note.bytes == 0 || note.bytes == backup.bytes {
                BackupState::Verified(note.contents)
            } else {
                damaged(format!("its files have {} bytes instead of {}", backup.bytes, note.bytes))
            };
        }
        if let Some(what) = missing {
            backup.state = damaged(what);
        }
        Ok(backup)
    }

    /// Paths of the files of all backups before this one.
    pub(super) fn files_before(&self, id: u32) -> Result<HashSet<String>, BackupError> {
        let earlier = self.ids()?.into_iter().filter(|other| *other < id);
        Ok(earlier.flat_map(|id| self.files(id)).collect())
    }

    /// Paths of the files of a backup. Of a damaged one nothing is known.
    fn files(&self, id: u32) -> impl Iterator<Item = String> {
        let files = self.manifest(id).map(|manifest| manifest.files).unwrap_or_default();
        files.into_iter().map(|file| file.path)
    }
}

impl BackedUp {
    /// What the file is called in an index: RocksDB appends to the number of a table where it came
    /// from, and its size, as in `shared_checksum/000012_sSESSION_4096.sst`.
    pub(super) fn index_name(&self) -> Option<String> {
        let name = Path::new(&self.path).file_name()?.to_str()?;
        match (
            self.path.starts_with("shared_checksum/"),
            name.split_once('_'),
            name.rsplit_once('.'),
        ) {
            (true, Some((number, _)), Some((_, extension))) => {
                Some(format!("{number}.{extension}"))
            }
            _ => Some(name.to_owned()),
        }
    }
}

/// Reads `meta/ID`; `None` if it is damaged.
pub(super) fn parse(bytes: &[u8]) -> Option<(u64, Vec<BackedUp>)> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines().peekable();
    let taken_at_s = lines.next()?.parse().ok()?;
    let _sequence_number: u64 = lines.next()?.parse().ok()?;
    lines.next_if(|line| line.starts_with("metadata "));
    let count: usize = lines.next()?.parse().ok()?;
    let files = lines.map(parse_file).collect::<Option<Vec<_>>>()?;
    (files.len() == count && count > 0).then_some((taken_at_s, files))
}

fn parse_file(line: &str) -> Option<BackedUp> {
    let mut fields = line.split(' ');
    let (path, kind, crc32c) = (fields.next()?, fields.next()?, fields.next()?);
    // Nothing that leads out of the folder.
    let is_below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let file = BackedUp { path: path.to_owned(), crc32c: crc32c.parse().ok()? };
    (kind == "crc32" && fields.next().is_none() && is_below && !path.is_empty()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "1764168000\n77\n2\nprivate/3/CURRENT crc32 12\n\
                        shared_checksum/000012_sABC_4096.sst crc32 4294967295\n";

    #[test]
    fn lists_of_files_are_read() {
        let (taken_at_s, files) = parse(LIST.as_bytes()).unwrap();
        assert_eq!((taken_at_s, files.len()), (1_764_168_000, 2));
        let names: Vec<_> = files.iter().map(|file| file.index_name().unwrap()).collect();
        assert_eq!(names, ["CURRENT", "000012.sst"]);
        assert_eq!(files[1].crc32c, u32::MAX);
        assert!(parse(LIST.replacen("77", "77\nmetadata 00ff", 1).as_bytes()).is_some());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (part, by) in [
            ("1764168000", "soon"),
            ("\n2\n", "\n3\n"),
            ("\n2\n", "\n"),
            ("crc32 12", "crc32"),
            ("crc32 12", "crc33 12"),
            ("crc32 12", "crc32 12 13"),
            ("crc32 12", "crc32 4294967296"),
            ("private/3/CURRENT", "private/../../CURRENT"),
            ("private/3/CURRENT", "/etc/CURRENT"),
        ] {
            assert!(LIST.contains(part));
            assert_eq!(parse(LIST.replacen(part, by, 1).as_bytes()), None, "{part} {by}");
        }
        assert_eq!(parse(b"\xff"), None);
        assert_eq!(parse(b""), None);
    }
}
