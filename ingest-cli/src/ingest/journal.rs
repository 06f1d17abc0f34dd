//! Which files the catalog has taken, so that a job that was interrupted goes on where it stopped.
//!
//! # Layout (JSON lines, appended, a later line about the same file counts)
//!
//! ```text
//! {"path":"/music/a.mp3","size":123,"mtime_ns":456,"said":"0123456789abcdef",
//!  "track_id":"T1","is_derived":false,"content_hash":"…64 hexadecimal digits…"}
//! ```
//!
//! A line is written only after the catalog confirmed the track, so what the journal knows is
//! true, and what it does not know costs one more reading. A file that was given several ids has
//! a line for each of them. It is never believed alone: a file
//! counts as done only if size, time of change and the caller's metadata (`said`) are the same
//! and the catalog still holds the track with this content. A line that cannot be read, such as
//! one cut off by a crash, is as good as none. Files whose paths are not UTF-8 are not noted.

use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use fingerprint_core::units::{ContentHash, TrackId};
use serde::{Deserialize, Serialize};

use super::item::Item;

/// Longest line that is read, in bytes: a path of 4 KiB with every byte escaped, and an id.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// The journal: the file, and what it says. The default one knows nothing and forgets everything.
#[derive(Debug, Default)]
pub(super) struct Journal {
    path: PathBuf,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// By [`key`].
    done: HashMap<[u8; 16], Done>,
}

/// What was known of a file when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Absolute; links are not resolved.
    pub(super) path: PathBuf,
    size: u64,
    mtime_ns: i64,
    /// Id that the caller gave it.
    given_id: Option<TrackId>,
    /// Digest of what the caller said about it.
    said: String,
}

/// What a file has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    size: u64,
    mtime_ns: i64,
    said: Box<str>,
    pub(super) track_id: TrackId,
    pub(super) content_hash: ContentHash,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    path: String,
    size: u64,
    mtime_ns: i64,
    said: String,
    track_id: TrackId,
    /// True if the caller gave no id.
    is_derived: bool,
    content_hash: ContentHash,
}

impl Stamp {
    /// Describes the file at `path` as it is now.
    ///
    /// # Errors
    ///
    /// If the working folder of a relative path is not known.
    pub(super) fn new(item: &Item, metadata: &Metadata) -> Result<Self> {
        let mtime_ns =
            metadata.modified().map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
                Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
                Err(before) => {
                    i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos)
                }
            });
        let path = std::path::absolute(&item.path).context("the working folder is not known")?;
        let (given_id, said) = (item.track_id.clone(), item.digest());
        Ok(Self { path, size: metadata.len(), mtime_ns, given_id, said })
    }
}

impl Journal {
    /// Reads the journal at `path`, or begins one.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let context = || {
            let name = path.display();
            format!("journal {name} cannot be opened; choose another place with --journal FILE")
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(context)?;
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).append(true).create(true).open(path).with_context(context)?;
        if !is_journal(&file).with_context(context)? {
            bail!(
                "journal {} is there already and is no journal; choose another place with --journal FILE",
                path.display()
            );
        }
        let done = read(&file).with_context(context)?;
        end_last_line(&mut file).with_context(context)?;
        Ok(Self { path: path.to_owned(), state: RwLock::new(State { file: Some(file), done }) })
    }

    /// What the file has become, if it has not changed since.
    pub(super) fn lookup(&self, stamp: &Stamp) -> Option<Done> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let done = state.done.get(&key(stamp.path.to_str()?, stamp.given_id.as_ref()))?;
        let same =
            done.size == stamp.size && done.mtime_ns == stamp.mtime_ns && *done.said == *stamp.said;
        same.then(|| done.clone())
    }

    /// Notes files that the catalog has confirmed.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn record(&self, confirmed: &[(Stamp, TrackId, ContentHash)]) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        for (stamp, track_id, content_hash) in confirmed {
            let Some(path) = stamp.path.to_str() else { continue };
            let done = Done {
                size: stamp.size,
                mtime_ns: stamp.mtime_ns,
                said: stamp.said.as_str().into(),
                track_id: track_id.clone(),
                content_hash: *content_hash,
            };
            // The file does not grow by what it says already.
            let key = key(path, stamp.given_id.as_ref());
            if state.done.get(&key) == Some(&done) {
                continue;
            }
            let line = Line {
                path: path.to_owned(),
                size: stamp.size,
                mtime_ns: stamp.mtime_ns,
                said: stamp.said.clone(),
                track_id: track_id.clone(),
                is_derived: stamp.given_id.is_none(),
                content_hash: *content_hash,
            };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
            state.done.insert(key, done);
        }
        let Some(file) = &mut state.file else { return Ok(()) };
        file.write_all(&lines)
            .with_context(|| format!("journal {} cannot be written", self.path.display()))
    }
}

/// A digest of path and given id, which is shorter than most paths.
fn key(path: &str, given_id: Option<&TrackId>) -> [u8; 16] {
    // Neither a path nor an id can hold a zero byte.
    let text = [path, given_id.map_or("", TrackId::as_str)].join("\0");
    let hash = blake3::hash(text.as_bytes());
    hash.as_bytes()[..16].try_into().expect("a hash has 32 bytes")
}

/// True unless a file begins with something else than a line of a journal: a recording, named by
/// mistake. Only its first byte tells, because the rest may have been cut off by a crash.
fn is_journal(mut file: &File) -> std::io::Result<bool> {
    let mut first = [0];
    let read = file.read(&mut first)?;
    file.rewind()?;
    Ok(read == 0 || first == *b"{")
}

fn read(file: &File) -> Result<HashMap<[u8; 16], Done>> {
    let mut reader = BufReader::new(file);
    let mut done = HashMap::new();
    let mut text = Vec::new();
    loop {
        text.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut text)? == 0 {
            return Ok(done);
        }
        if let Ok(line) = serde_json::from_slice::<Line>(&text) {
            let key = key(&line.path, (!line.is_derived).then_some(&line.track_id));
            let entry = Done {
                size: line.size,
                mtime_ns: line.mtime_ns,
                said: line.said.into(),
                track_id: line.track_id,
                content_hash: line.content_hash,
            };
            done.insert(key, entry);
        }
    }
}

/// What a crash has cut off must not swallow the next line.
fn end_last_line(file: &mut File) -> std::io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last != *b"\n" { file.write_all(b"\n") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(path: &Path, title: &str) -> Stamp {
        let mut item = Item::bare(path.to_owned());
        item.metadata.title = Some(title.to_owned());
        Stamp::new(&item, &path.metadata().unwrap()).unwrap()
    }

    fn hash(byte: u8) -> ContentHash {
        ContentHash([byte; 32])
    }

    #[test]
    fn a_file_is_done_until_it_or_what_is_said_of_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (audio, path) = (folder.path().join("a.wav"), folder.path().join("sub/x.journal"));
        std::fs::write(&audio, "one").unwrap();
        let (before, id) = (stamp(&audio, "said"), TrackId::new("T1").unwrap());
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.lookup(&before), None);
        journal.record(&[(before.clone(), id.clone(), hash(1))]).unwrap();
        for journal in [journal, Journal::open(&path).unwrap()] {
            let done = journal.lookup(&before).unwrap();
            assert_eq!((done.track_id, done.content_hash), (id.clone(), hash(1)));
            assert_eq!(journal.lookup(&stamp(&audio, "other")), None);
        }
        std::fs::write(&audio, "longer").unwrap();
        let after = stamp(&audio, "said");
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.lookup(&after), None);
        journal.record(&[(after.clone(), id, hash(2))]).unwrap();
        let reopened = Journal::open(&path).unwrap();
        assert_eq!(reopened.lookup(&after).unwrap().content_hash, hash(2), "the later line counts");
    }

    #[test]
    fn a_line_cut_off_by_a_crash_harms_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (audio, path) = (folder.path().join("a.wav"), folder.path().join("x.journal"));
        std::fs::write(&audio, "one").unwrap();
        std::fs::write(&path, "{not json\n{\"path\":\"/cut").unwrap();
        let (stamp, id) = (stamp(&audio, ""), TrackId::new("T1").unwrap());
        Journal::open(&path).unwrap().record(&[(stamp.clone(), id, hash(1))]).unwrap();
        assert!(Journal::open(&path).unwrap().lookup(&stamp).is_some());
    }

    #[test]
    fn a_file_with_two_ids_is_known_under_both() {
        let folder = tempfile::tempdir().unwrap();
        let (audio, path) = (folder.path().join("a.wav"), folder.path().join("x.journal"));
        std::fs::write(&audio, "one").unwrap();
        let stamps = [None, Some("A"), Some("B")].map(|id| {
            let track_id = id.map(|id| TrackId::new(id).unwrap());
            let item = Item { track_id, ..Item::bare(audio.clone()) };
            Stamp::new(&item, &audio.metadata().unwrap()).unwrap()
        });
        let derived = TrackId::from_content(&hash(1));
        let confirmed = stamps.clone().map(|stamp| {
            let id = stamp.given_id.clone().unwrap_or_else(|| derived.clone());
            (stamp, id, hash(1))
        });
        Journal::open(&path).unwrap().record(&confirmed).unwrap();
        let journal = Journal::open(&path).unwrap();
        let ids = stamps.map(|stamp| journal.lookup(&stamp).unwrap().track_id.to_string());
        assert_eq!(ids, [derived.to_string(), "A".to_owned(), "B".to_owned()]);
    }

    #[test]
    fn what_is_known_already_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let (audio, path) = (folder.path().join("a.wav"), folder.path().join("x.journal"));
        std::fs::write(&audio, "one").unwrap();
        let confirmed = [(stamp(&audio, ""), TrackId::new("T1").unwrap(), hash(1))];
        for _ in 0..2 {
            Journal::open(&path).unwrap().record(&confirmed).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}
