//! What was acknowledged, and who has the index open: a small file beside the database.
//!
//! RocksDB's log and its list of files (the MANIFEST) end where reading them fails. A log that has been
//! cut, or in which the length of a record has flipped, therefore looks like one that ended earlier, and
//! everything behind that place would be gone without a word. So each change has a number, which is
//! written with it, and this file says which number was acknowledged last, and how long the
//! MANIFEST was at least. `rocks/recovery.rs` compares.
//!
//! The file is written after the change is on disk, and without waiting for the disk, which costs some
//! microseconds. A process that is killed leaves it exact; after a power cut it may name an earlier
//! change, never a later one.
//!
//! Its lock tells who has the index open before anything of the database is touched.
//!
//! # Layout (format version 2)
//!
//! ```text
//! change          u64: number of the last change that was acknowledged
//! manifest        u64: number of the MANIFEST that was in use then
//! manifest bytes  u64: its length before that change, or more
//! process         u32: who has the index open, or had it last
//! digest          32 bytes, BLAKE3 of all the bytes before
//! ```
//!
//! Integers are big-endian. A file that is missing or damaged says nothing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{io_failure, lock};
use crate::index::IndexError;

/// Name of the file.
pub(super) const FILE: &str = "acknowledged";
const CONTENT_BYTES: usize = 28;
const DIGEST_BYTES: usize = 32;

/// What must be in the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// Number of a change that is on disk; they begin with 1.
    pub(super) change: u64,
    /// Number of a MANIFEST; 0 if none is known.
    pub(super) manifest: u64,
    /// What that MANIFEST has at least.
    pub(super) manifest_bytes: u64,
}

/// The file, held by this process.
#[derive(Debug)]
pub(super) struct Acknowledged {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    claim: Claim,
    /// Nothing is written into the file: what it claims shall stay.
    is_quiet: bool,
}

impl Acknowledged {
    /// Takes the index in `folder` for this process.
    ///
    /// # Errors
    ///
    /// [`IndexError::InUse`] if another one has it, or that the file cannot be opened.
    pub(super) fn take(folder: &Path) -> Result<Self, IndexError> {
        let mut options = OpenOptions::new();
        let opened =
            options.read(true).write(true).create(true).truncate(false).open(folder.join(FILE));
        let mut file = opened.map_err(io_failure("open the file \"acknowledged\""))?;
        lock_file(&file, folder)?;
        let (claim, _) = read(&file).unwrap_or_default();
        // Should it fail, only the name of the process is missing.
        let _ = write(&mut file, claim);
        let state = State { file, claim, is_quiet: false };
        Ok(Self { folder: folder.to_owned(), state: Mutex::new(state) })
    }

    /// Keeps others from changing the index in `folder`, and changes nothing. `None` if there is no
    /// such file, which anybody who may change the index makes.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub(super) fn hold(folder: &Path) -> Result<Option<Self>, IndexError> {
        let file = match File::open(folder.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io_failure("open the file \"acknowledged\""))?,
        };
        lock_file(&file, folder)?;
        let (claim, _) = read(&file).unwrap_or_default();
        let state = State { file, claim, is_quiet: true };
        Ok(Some(Self { folder: folder.to_owned(), state: Mutex::new(state) }))
    }

    /// What the last process to have the index acknowledged.
    pub(super) fn claim(&self) -> Claim {
        lock(&self.state).claim
    }

    /// Goes on behind the last change that is in the index, but claims what the last process did, until
    /// somebody [begins](Self::begin).
    pub(super) fn begin_quietly(&self, change: u64) {
        let mut state = lock(&self.state);
        (state.claim.change, state.is_quiet) = (change, true);
    }

    /// Number of the last change.
    pub(super) fn last_change(&self) -> u64 {
        lock(&self.state).claim.change
    }

    /// Begins with the number of the last change that is in the index, which has just been opened.
    pub(super) fn begin(&self, change: u64) {
        let mut state = lock(&self.state);
        state.is_quiet = false;
        state.acknowledge(Claim { change, ..manifest_of(&self.folder) });
        // Once, so that a power cut does not take it back to long ago.
        let _ = state.file.sync_data();
    }

    /// Gives the next change its number, and notes it once `write` has brought it to the disk.
    pub(super) fn commit(
        &self,
        write: impl FnOnce(u64) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut state = lock(&self.state);
        let change = state.claim.change.saturating_add(1);
        // Before the change, so that what is told is on disk by then.
        let manifest = manifest_of(&self.folder);
        write(change)?;
        state.acknowledge(Claim { change, ..manifest });
        Ok(())
    }
}

impl Drop for Acknowledged {
    fn drop(&mut self) {
        // A program that is just being started by this one may share the file for a moment, and
        // would hold the lock with it.
        let _ = lock(&self.state).file.unlock();
    }
}

impl State {
    fn acknowledge(&mut self, claim: Claim) {
        self.claim = claim;
        if !self.is_quiet {
            // If it fails, less is claimed: the change itself is safe.
            let _ = write(&mut self.file, claim);
        }
    }
}

fn lock_file(file: &File, folder: &Path) -> Result<(), IndexError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let process = read(file).map(|(_, process)| process);
            Err(IndexError::InUse { path: folder.to_owned(), process })
        }
        // There are file systems without such locks; RocksDB has a lock of its own.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(io_failure("lock the index")(error)),
    }
}

/// What was acknowledged of the index in `folder`, whoever has it open.
pub(super) fn claim_of(folder: &Path) -> Claim {
    let file = File::open(folder.join(FILE));
    file.ok().and_then(|file| read(&file)).map_or_else(Claim::default, |(claim, _)| claim)
}

/// The MANIFEST that is in use and its length; none if that cannot be found out.
pub(super) fn manifest_of(folder: &Path) -> Claim {
    let found = || {
        let current = fs::read_to_string(folder.join("CURRENT")).ok()?;
        let name = current.trim_end();
        let manifest = name.strip_prefix("MANIFEST-")?.parse().ok()?;
        let manifest_bytes = fs::metadata(folder.join(name)).ok()?.len();
        Some(Claim { change: 0, manifest, manifest_bytes })
    };
    found().unwrap_or_default()
}

/// What the file says; `None` if it cannot be read.
fn read(file: &File) -> Option<(Claim, u32)> {
    let mut bytes = Vec::new();
    file.take(1 << 10).read_to_end(&mut bytes).ok()?;
    decode(&bytes)
}

fn write(file: &mut File, claim: Claim) -> io::Result<()> {
    let bytes = encode(claim, std::process::id());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&bytes)?;
    // Nothing behind it, whatever was there.
    file.set_len(bytes.len() as u64)
}

fn encode(claim: Claim, process: u32) -> Vec<u8> {
    let numbers = [claim.change, claim.manifest, claim.manifest_bytes].map(u64::to_be_bytes);
    let mut bytes = numbers.concat();
    bytes.extend(process.to_be_bytes());
    let digest = blake3::hash(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<(Claim, u32)> {
    let (content, digest) = bytes.split_at_checked(CONTENT_BYTES)?;
    if digest.len() != DIGEST_BYTES || blake3::hash(content).as_bytes() != digest {
        return None;
    }
    let (numbers, process) = content.split_last_chunk()?;
    let mut numbers =
        numbers.chunks_exact(8).map(|number| number.try_into().map(u64::from_be_bytes));
    let mut next = || numbers.next()?.ok();
    let claim = Claim { change: next()?, manifest: next()?, manifest_bytes: next()? };
    Some((claim, u32::from_be_bytes(*process)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_version_2() {
        let claim = Claim { change: 0x0102, manifest: 5, manifest_bytes: 0x0304 };
        let bytes = encode(claim, 9);
        let (content, digest) = bytes.split_at(CONTENT_BYTES);
        let zeros = [0; 6];
        let expected =
            [&zeros[..], &[1, 2], &zeros, &[0, 5], &zeros, &[3, 4], &[0, 0, 0, 9]].concat();
        assert_eq!(content, expected);
        assert_eq!(digest, blake3::hash(content).as_bytes());
        assert_eq!(decode(&bytes), Some((claim, 9)));
    }

    #[test]
    fn a_damaged_file_says_nothing() {
        let mut bytes = encode(Claim { change: 7, ..Claim::default() }, 1);
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode(&[]), None);
        bytes[7] ^= 1;
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn what_fails_is_not_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let acknowledged = Acknowledged::take(folder.path()).unwrap();
        let commit = |result: Result<(), IndexError>| {
            let mut given = 0;
            let done = acknowledged.commit(|change| {
                given = change;
                result
            });
            (given, done.is_ok(), acknowledged.claim().change)
        };
        assert_eq!(commit(Ok(())), (1, true, 1));
        let failure = IndexError::Corrupt { what: "a test".to_owned() };
        assert_eq!(commit(Err(failure)), (2, false, 1));
        assert_eq!(commit(Ok(())), (2, true, 2));
        assert!(matches!(
            Acknowledged::take(folder.path()),
            Err(IndexError::InUse { process: Some(process), .. }) if process == std::process::id()
        ));
        drop(acknowledged);
        assert_eq!(Acknowledged::take(folder.path()).unwrap().claim().change, 2);
    }
}
