//! Following an index that another process writes: any number of processes may search one index.
//!
//! RocksDB's *secondary instance* reads manifest and log of the writer's folder, and goes on reading
//! them whenever it is told to catch up. Readers see one instance while another, which nobody reads,
//! is brought up to date; then they are exchanged. So no search waits, and one that is running keeps
//! all the blocks that its directories name: RocksDB keeps the files of an instance open
//! (`max_open_files` −1), also those that the writer has deleted since.
//!
//! # What a secondary instance does not do
//!
//! Seen with RocksDB 11.8.1, and minded here:
//!
//! - What it has read from the log stays in memory, before all files. If the writer writes a newer
//!   value of a key to a file and deletes that piece of log before it is read, the *old* value is
//!   answered. So an instance is used on only while no table but those of blocks, which are never
//!   rewritten, comes or goes; else a fresh one is opened.
//! - It reads the manifest first and the log a moment later, and passes over a log that has been deleted
//!   in between. So it is told to catch up twice: what was deleted after the first time shows in
//!   the tables after the second.
//! - Files that RocksDB has taken over are in the manifest only, so a directory may be there before
//!   its blocks. Then it catches up once more.
//! - A table that is missing or cut makes it show, without a word, what had been written before that table
//!   was, and what is in the log. So whoever opens one also opens the index for reading only, which refuses.
//!
//! # Cost
//!
//! Without a change, two looks into the folder. With one, all track records are read (about 0.3 s for
//! 100,000 tracks), and postings are made of the peaks of new tracks, as opening an index does, until
//! they are in a segment. A fresh instance, about once for each 64 MiB that are written and whenever
//! the writer opens, closes or backs up its index, opens all files and reads the log, both twice.
//!
//! # Source
//!
//! RocksDB wiki, "Read-only and Secondary instances"; `db_impl_secondary.cc`.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use rocksdb::DB;

use super::acknowledged::{self, Claim};
use super::header::{CHANGE, check_files, folder_number, is_index, open_error};
use super::lens::BucketLens;
use super::read::BlockCache;
use super::recovery::{check_current, check_manifest, cut_off};
use super::segments::{Segment, Store, block_key, end_of, no_peaks};
use super::{
    BLOCKS, Inner, Limits, Live, RocksIndex, Timeline, lock, options, read, repair, storage,
};
use crate::hash::KeyRange;
use crate::index::buffer::Buffer;
use crate::index::{Added, Index, IndexError, IndexStats, NewTrack, Posting, Span, TrackRecord};
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// How often it is tried to open or to catch up when the writer changes files meanwhile, …
const ATTEMPTS: usize = 25;
/// … and the pause before.
const PAUSE: Duration = Duration::from_millis(5);

/// An index that another process may write, for reading only. It shows what had been written when
/// it last [caught up](Self::catch_up).
#[derive(Debug)]
pub struct FollowerIndex {
    path: PathBuf,
    /// For RocksDB's own log.
    scratch: PathBuf,
    params: Params,
    /// What readers see.
    current: RwLock<Arc<Inner>>,
    // What all instances share.
    lens: Arc<BucketLens>,
    blocks: Arc<BlockCache>,
    /// Held by the one that catches up.
    progress: Mutex<Progress>,
}

/// How far a follower has come.
#[derive(Debug)]
struct Progress {
    /// What the system calls the folder: another one may be put in its place.
    folder: u64,
    /// The instance that readers saw before.
    spare: Option<Arc<Inner>>,
    /// What is in the state that readers see.
    shown: Option<State>,
    /// Postings behind the last segment.
    buffer: Arc<Buffer>,
    /// Position before which the tracks behind the last segment are in the buffer.
    buffered_to: u32,
}

/// What an instance knows of; equal if it is the same.
#[derive(Debug, PartialEq, Eq)]
struct State {
    sequence_number: u64,
    tables: BTreeSet<Table>,
}

/// A file of RocksDB: its column family, and its name.
type Table = (String, String);

impl RocksIndex {
    /// Opens the index in folder `path` for reading only, whether or not another process has it
    /// open for writing, and as often as wanted. It shows what has been written by now. RocksDB keeps
    /// logs of its own in folder `scratch`, which is made if there is none, and must be no other
    /// follower's.
    ///
    /// # Errors
    ///
    /// [`IndexError::Missing`] if there is no index, or that it was written by another release or is
    /// damaged.
    pub fn follow(
        path: &Path,
        scratch: &Path,
        params: &Params,
    ) -> Result<FollowerIndex, IndexError> {
        if !is_index(path)? {
            return Err(IndexError::Missing { path: path.to_owned() });
        }
        let (lens, blocks) = (Arc::new(BucketLens::new()), Arc::new(read::new_cache()));
        let shared = || (Arc::clone(&lens), Arc::clone(&blocks));
        let first = between_changes(|| open(path, scratch, params, shared()));
        let first = Arc::new(first.map_err(|error| or_damage(path, error))?);
        let progress = Progress {
            folder: folder_number(path)?,
            spare: None,
            shown: None,
            buffer: Arc::new(Buffer::new(0)),
            buffered_to: 0,
        };
        let follower = FollowerIndex {
            path: path.to_owned(),
            scratch: scratch.to_owned(),
            params: *params,
            current: RwLock::new(first),
            lens,
            blocks,
            progress: Mutex::new(progress),
        };
        follower.catch_up()?;
        Ok(follower)
    }
}

/// Opens an index that its writer may be changing: again, for a while, if it saw what passes.
///
/// # Errors
///
/// Those of the last attempt.
pub(super) fn between_changes<T>(
    mut open: impl FnMut() -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    for _ in 1..ATTEMPTS {
        match open() {
            Err(error) if may_pass(&error) => thread::sleep(PAUSE),
            opened => return opened,
        }
    }
    open()
}

/// True of what an instance may see that is opened while the writer exchanges files, even an index
/// without a header.
fn may_pass(error: &IndexError) -> bool {
    matches!(
        error,
        IndexError::Storage { .. } | IndexError::Corrupt { .. } | IndexError::Missing { .. }
    )
}

/// What is wrong with the files, if that is why an instance saw what it should not: it passes over files
/// that it cannot read, and does not say so.
fn or_damage(path: &Path, error: IndexError) -> IndexError {
    if !may_pass(&error) {
        return error;
    }
    if let Err(pending) = repair::refuse_pending(path) {
        return pending;
    }
    check_current(path).and_then(|()| check_tables(path)).err().unwrap_or(error)
}

/// Refuses an index of which a table is missing or has another length than RocksDB's list says.
fn check_tables(path: &Path) -> Result<(), IndexError> {
    let (options, families) = (options::database(), options::families(true));
    DB::open_cf_descriptors_read_only(&options, path, families, false)
        .map_err(|source| open_error(path, source))?;
    Ok(())
}

/// A fresh instance of a whole index, with nothing loaded yet.
fn open(
    path: &Path,
    scratch: &Path,
    params: &Params,
    (lens, blocks): (Arc<BucketLens>, Arc<BlockCache>),
) -> Result<Inner, IndexError> {
    repair::refuse_pending(path)?;
    // Before the files are looked at, which then have at least that.
    let claim = acknowledged::claim_of(path);
    check_files(path)?;
    check_manifest(path, claim)?;
    let mut options = options::database();
    options.set_max_open_files(-1);
    let db =
        DB::open_cf_descriptors_as_secondary(&options, path, scratch, options::families(false))
            .map_err(|source| open_error(path, source))?;
    // Afterwards: what the writer has exchanged since shows when the instance catches up.
    check_tables(path)?;
    let inner = Inner { lens, blocks, ..Inner::new(db, path, params, Limits::default()) };
    // None is of an index that is being made this very moment.
    let header = inner.check_header(None)?;
    header.ok_or_else(|| IndexError::Missing { path: path.to_owned() })?;
    Ok(inner)
}

impl FollowerIndex {
    /// Folder of the index.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes visible what has been written since the last time; says whether that was anything.
    /// When it returns, all that was acknowledged before the call is seen, and tracks that were
    /// removed before it have stopped answering. Searches go on meanwhile, and see the index as it
    /// was before.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`] or [`IndexError::Corrupt`]; readers go on seeing the index as it was
    /// before, and it can be tried again. [`IndexError::Exchanged`] if there is another folder in its
    /// place, which only a new follower can show.
    pub fn catch_up(&self) -> Result<bool, IndexError> {
        let mut progress = lock(&self.progress);
        if folder_number(&self.path)? != progress.folder {
            return Err(IndexError::Exchanged { path: self.path.clone() });
        }
        let current = self.current();
        let known = current.store().segments.clone();
        let (next, segments) = self.up_to_date(progress.spare.take(), &known)?;
        let state = next.state()?;
        if progress.shown.as_ref() == Some(&state) {
            progress.spare = Some(Arc::new(next));
            return Ok(false);
        }
        self.load(&next, segments, &mut progress)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        progress.shown = Some(state);
        let old_buffer = Arc::clone(&current.store().active);
        if !Arc::ptr_eq(&old_buffer, &progress.buffer) {
            self.lens.uncount(&old_buffer);
        }
        progress.spare = Some(current);
        Ok(true)
    }

    fn current(&self) -> Arc<Inner> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// An instance that knows all that has been written by now, and its segments.
    fn up_to_date(
        &self,
        spare: Option<Arc<Inner>>,
        known: &[Arc<Segment>],
    ) -> Result<(Inner, Vec<Arc<Segment>>), IndexError> {
        // Not while a search reads it.
        let mut instance = spare.and_then(Arc::into_inner);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let claim = acknowledged::claim_of(&self.path);
            let caught_up = self.try_to_catch_up(&mut instance, known, claim);
            match caught_up {
                Ok(Some(segments)) => {
                    if let Some(instance) = instance {
                        return Ok((instance, segments));
                    }
                }
                Ok(None) if attempt == ATTEMPTS => {
                    // Behind what was acknowledged before this attempt.
                    if let Some(instance) = &instance
                        && instance.last_change()? < claim.change
                    {
                        return Err(cut_off(instance.last_change()?, claim.change));
                    }
                    let error = IndexError::Storage {
                        action: "catch up with the index",
                        source: "its writer changes it all the time; try again".into(),
                    };
                    return Err(or_damage(&self.path, error));
                }
                // Files may have been deleted under an instance that is being opened.
                Err(error) if may_pass(&error) && attempt < ATTEMPTS => instance = None,
                Err(error) => return Err(or_damage(&self.path, error)),
                Ok(None) => {}
            }
            thread::sleep(PAUSE);
        }
    }

    /// Brings an instance up to date, a fresh one if there is none, and gives its segments. `None` if
    /// another attempt is needed; the instance is gone then if it cannot be used on.
    fn try_to_catch_up(
        &self,
        instance: &mut Option<Inner>,
        known: &[Arc<Segment>],
        claim: Claim,
    ) -> Result<Option<Vec<Arc<Segment>>>, IndexError> {
        let next = match instance {
            Some(next) => next,
            None => {
                let shared = (Arc::clone(&self.lens), Arc::clone(&self.blocks));
                instance.insert(open(&self.path, &self.scratch, &self.params, shared)?)
            }
        };
        let before = next.rewritten_tables()?;
        for _ in 0..2 {
            next.db.try_catch_up_with_primary().map_err(storage("catch up with the index"))?;
        }
        if next.rewritten_tables()? != before {
            *instance = None;
            return Ok(None);
        }
        // A log that was cut looks as if its writer had not gone on.
        if next.last_change()? < claim.change {
            return Ok(None);
        }
        let segments = next.read_segments(known)?;
        Ok(next.have_blocks(&segments)?.then_some(segments))
    }

    /// Loads what readers need into an instance that is up to date.
    fn load(
        &self,
        next: &Inner,
        segments: Vec<Arc<Segment>>,
        progress: &mut Progress,
    ) -> Result<(), IndexError> {
        let (stats, entries) = next.read_tracks()?;
        let timeline = Timeline::new(entries)?;
        let end = end_of(&segments);
        let shown = self.current().store();
        if progress.buffer.start != end {
            let old = std::mem::replace(&mut progress.buffer, Arc::new(Buffer::new(end)));
            progress.buffered_to = end;
            if !Arc::ptr_eq(&old, &shown.active) {
                // Nobody has ever seen it: what came after failed.
                self.lens.uncount(&old);
            }
        }
        // Before the old buffer is counted no more, so that no length is ever too low.
        if !same(&segments, &shown.segments) || progress.shown.is_none() {
            next.load_lens(&segments, end)?;
        }
        let is_new = |(span, _): &&(Span, TrackId)| span.start >= progress.buffered_to;
        let new: Vec<_> = timeline.entries().filter(is_new).map(|(span, _)| *span).collect();
        for span in &new {
            if !next.buffer_again(*span, &progress.buffer)? {
                return Err(no_peaks(*span));
            }
            progress.buffered_to = span.end();
        }
        let active = Arc::clone(&progress.buffer);
        next.change_store(|_| Store { segments, frozen: None, active });
        next.change_live(Live { timeline: Arc::new(timeline), stats });
        Ok(())
    }
}

fn same(a: &[Arc<Segment>], b: &[Arc<Segment>]) -> bool {
    a.iter().map(|segment| segment.id).eq(b.iter().map(|segment| segment.id))
}

impl Inner {
    fn last_change(&self) -> Result<u64, IndexError> {
        Ok(self.get_meta(CHANGE)?.map_or(0, u64::from_be_bytes))
    }

    fn state(&self) -> Result<State, IndexError> {
        Ok(State { sequence_number: self.db.latest_sequence_number(), tables: self.tables()? })
    }

    fn tables(&self) -> Result<BTreeSet<Table>, IndexError> {
        let files = self.db.live_files().map_err(storage("list the files of the index"))?;
        Ok(files.into_iter().map(|file| (file.column_family_name, file.name)).collect())
    }

    /// Tables whose rows may be written anew. Blocks never are.
    fn rewritten_tables(&self) -> Result<BTreeSet<Table>, IndexError> {
        let mut tables = self.tables()?;
        tables.retain(|(family, _)| family != BLOCKS);
        Ok(tables)
    }

    /// True if each segment has its blocks. They come together, and go together.
    fn have_blocks(&self, segments: &[Arc<Segment>]) -> Result<bool, IndexError> {
        for segment in segments.iter().filter(|segment| segment.directory.block_count() > 0) {
            let first = self.db.get_pinned_cf(self.family(BLOCKS), block_key(segment.id, 0));
            if first.map_err(storage("read postings"))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Index for FollowerIndex {
    fn add(&self, _: &[NewTrack]) -> Result<Vec<Added>, IndexError> {
        Err(IndexError::ReadOnly { path: self.path.clone() })
    }

    fn remove(&self, _: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        Err(IndexError::ReadOnly { path: self.path.clone() })
    }

    fn track(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        self.current().track(id)
    }

    fn tracks(
        &self,
        after: Option<&TrackId>,
        limit: usize,
    ) -> Result<Vec<TrackRecord>, IndexError> {
        self.current().tracks(after, limit)
    }

    fn tracks_with_content(&self, hash: &ContentHash) -> Result<Vec<TrackId>, IndexError> {
        self.current().tracks_with_content(hash)
    }

    fn bucket_len(&self, bucket: u32) -> u32 {
        self.lens.get(bucket)
    }

    fn read_postings(
        &self,
        ranges: &[KeyRange],
        visit: &mut dyn FnMut(usize, &[Posting]) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.current().read_ranges(ranges, visit)
    }

    fn peaks(&self, span_start: u32, window: Range<u32>) -> Result<Option<Vec<Peak>>, IndexError> {
        self.current().peaks(span_start, window)
    }

    fn timeline(&self) -> Arc<Timeline> {
        self.current().live().timeline
    }

    fn stats(&self) -> Result<IndexStats, IndexError> {
        self.current().stats()
    }
}

#[cfg(test)]
mod tests;
