//! Restoring: a backup becomes an index, whole or not at all.
//!
//! RocksDB copies the files into a folder *beside* the place of the index, `NAME.restoring/index`,
//! comparing their checksums. There the copy is opened, and only then moved to its place, in one step.
//! A restore that is killed leaves that folder, which is no index and is used again by the next.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::backup::RestoreOptions;

use super::folder::{Folder, Manifest};
use super::verify::{check, examine};
use super::{Backup, BackupError, BackupState};
use crate::index::IndexError;
use crate::params::Params;

/// Makes an index in folder `index`, which must be empty or not exist, of the backup of number `id`
/// in `folder`; of the latest that has been verified if none is given. All its bytes are compared with
/// their checksums, and the copy is opened before it is put in its place. Gives the backup, with what
/// it holds.
///
/// # Errors
///
/// [`BackupError`]; there is no index in `index` then, unless the error says that it was made by another
/// release or with other parameters: it is there to be made new by a reindexing.
pub fn restore(
    folder: &Path,
    id: Option<u32>,
    index: &Path,
    params: &Params,
) -> Result<Backup, BackupError> {
    let folder = Folder::open(folder)?;
    let id = folder.choose(id)?;
    let manifest = folder.manifest(id)?;
    let staging = Staging::new(index)?;
    copy(&folder, id, &manifest, &staging)?;
    let contents = match examine(&staging.copy, params) {
        // Of another release: it can be made new where it is to be.
        Err(BackupError::Index(error)) if is_of_another_release(&error) => {
            staging.put_in_place(index)?;
            let error = examine(index, params).err();
            return Err(error.unwrap_or_else(|| BackupError::NotEmpty { path: index.to_owned() }));
        }
        contents => contents?,
    };
    staging.put_in_place(index)?;
    Ok(Backup { state: BackupState::Verified(contents), ..folder.backup(id)? })
}

fn is_of_another_release(error: &IndexError) -> bool {
    matches!(
        error,
        IndexError::FormatVersion { .. }
            | IndexError::NewerFormat { .. }
            | IndexError::ParamsMismatch { .. }
    )
}

fn copy(
    folder: &Folder,
    id: u32,
    manifest: &Manifest,
    staging: &Staging,
) -> Result<(), BackupError> {
    let to = &staging.copy;
    let restored = folder.engine()?.restore_from_backup(to, to, &RestoreOptions::default(), id);
    let Err(source) = restored else { return Ok(()) };
    let error = BackupError::storage("restore a backup", to.clone(), source);
    if !matches!(error, BackupError::Full { .. }) {
        // RocksDB does not always name the file that it could not use.
        manifest.files.iter().try_for_each(|file| check(folder, file))?;
    }
    Err(error)
}

/// The folder in which an index is put together.
struct Staging {
    folder: PathBuf,
    /// The index in it.
    copy: PathBuf,
    /// Held against another restore to the same place.
    _lock: File,
}

impl Staging {
    fn new(index: &Path) -> Result<Self, BackupError> {
        let name =
            index.file_name().ok_or_else(|| BackupError::NoName { path: index.to_owned() })?;
        refuse_if_used(index)?;
        let mut folder = index.to_owned();
        folder.set_file_name({
            let mut name = name.to_owned();
            name.push(".restoring");
            name
        });
        let failed = |source| BackupError::storage("make a folder", folder.clone(), source);
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BackupError::Busy { path: folder }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let copy = folder.join("index");
        // What a restore has left that was killed.
        match fs::remove_dir_all(&copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(Self { copy, folder, _lock: lock }),
        }
    }

    fn put_in_place(&self, index: &Path) -> Result<(), BackupError> {
        let failed = |source| BackupError::storage("put an index", index.to_owned(), source);
        sync(&self.copy).map_err(failed)?;
        // Takes the place of an empty folder, and of nothing else.
        match fs::rename(&self.copy, index) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(BackupError::NotEmpty { path: index.to_owned() });
            }
            moved => moved.map_err(failed)?,
        }
        let parent = index.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync(parent.unwrap_or(Path::new("."))).map_err(failed)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What stays is in nobody's way.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn refuse_if_used(index: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::storage("look", index.to_owned(), source);
    match fs::read_dir(index) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(BackupError::NotEmpty { path: index.to_owned() })
        }
        Err(error) => Err(failed(error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(BackupError::NotEmpty { path: index.to_owned() }),
        },
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
