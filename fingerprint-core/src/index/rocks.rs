//! The index on disk: the only module that touches RocksDB.
//!
//! `docs/format.md` specifies what is stored.
//! Beside the database lies a small file that says what was acknowledged (`rocks/acknowledged.rs`), with
//! which opening compares (`rocks/recovery.rs`).
//!
//! # Writing
//!
//! A change is one write batch with a synced log: a track is there whole or not at all, and what
//! is acknowledged survives a crash. Its postings follow from its peaks, so they are not part of
//! the batch: they are gathered in memory (`index/buffer.rs`), and when they are two million they
//! become a segment (`rocks/segments.rs`). Opening makes those anew that had not become one.
//!
//! Segments are written as files of their own and taken over by RocksDB in one step; what counts is
//! the row in `segments`. Each stretch of the timeline belongs to one segment, so nothing is ever
//! rewritten but by a merge of neighbouring ones, in the background, two of about one size at a
//! time. A merge leaves out the postings of removed tracks, which nobody could see before either:
//! their positions belong to no track.
//!
//! Beside the process that writes, others may read (`rocks/follow.rs`), and backups be made
//! (`rocks/backup.rs`).
//!
//! # Memory
//!
//! 1 GiB of blocks of postings, 64 MiB of RocksDB's own, 64 MiB of changes that are not in files
//! yet, two buffers of 16 to 32 MiB, 12 MiB of lengths; and what grows with the index: directories (8
//! bytes a block), the timeline, and RocksDB's own indexes. A search of 100,000 tracks was seen at
//! 820 MiB in all.

mod acknowledged;
pub mod backup;
mod change;
mod check;
mod every_row;
mod failure;
mod filling;
mod follow;
mod format1;
mod header;
mod lens;
mod merge;
mod old;
mod options;
mod read;
mod records;
mod recovery;
mod reindex;
mod repair;
mod segments;
mod stats;

use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use acknowledged::Acknowledged;
use change::Pending;
pub use check::{CheckProgress, CheckReport, Fault, LostTrack, OnCheckProgress};
pub use every_row::read_as_every_row;
use failure::{corrupt, io_failure, storage};
pub use follow::FollowerIndex;
use header::{holds_other_files, is_index, open_error};
use lens::BucketLens;
use read::BlockCache;
use records::{content_key, parse_record};
use recovery::recovery_mode;
pub use reindex::{ReindexEvent, Reindexed, reindex};
pub use repair::RepairReport;
use rocksdb::{ColumnFamily, DB, FlushOptions, WriteBatch, WriteOptions};
use segments::{Segment, Store};

use super::buffer::Buffer;
use super::{
    Added, Index, IndexError, IndexStats, NewTrack, Posting, Timeline, TrackRecord, write,
};
use crate::background;
use crate::hash::KeyRange;
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// Version of everything that is stored.
pub const FORMAT_VERSION: u32 = 2;
/// Length of the content hash that begins the keys of `content`.
const HASH_BYTES: usize = 32;
const META: &str = "meta";
const TRACKS: &str = "tracks";
const CONTENT: &str = "content";
const CONSTELLATIONS: &str = "constellations";
const SEGMENTS: &str = "segments";
const BLOCKS: &str = "blocks";
const PARTS: [&str; 6] = [META, TRACKS, CONTENT, CONSTELLATIONS, SEGMENTS, BLOCKS];
/// Folder in that of the index for files that RocksDB has not taken over yet.
const INCOMING: &str = "incoming";

/// When postings become a segment, and segments one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Postings that are gathered in memory.
    pub(super) buffer_postings: usize,
    /// Neighbouring segments of about one size that are merged, at least 2.
    pub(super) fan_in: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Some 9 hours of music, 16 MiB. Writing them takes less than half a second, for which who adds
        // may have to wait.
        Self { buffer_postings: 2 << 20, fan_in: 2 }
    }
}

/// An index in a folder.
#[derive(Debug)]
pub struct RocksIndex {
    inner: Arc<Inner>,
    /// Threads that write or merge segments.
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads of an index share.
#[derive(Debug)]
struct Inner {
    db: DB,
    path: PathBuf,
    /// What the system calls the folder at `path`; `None` if it could not be asked.
    folder: Option<u64>,
    params: Params,
    limits: Limits,
    /// Next free position; held while writing, so that there is one writer at a time.
    next_position: Mutex<u32>,
    live: RwLock<Live>,
    /// Where postings are, as readers see it.
    store: RwLock<Arc<Store>>,
    lens: Arc<BucketLens>,
    /// Blocks read lately.
    blocks: Arc<BlockCache>,
    next_segment: AtomicU32,
    /// Held while the frozen buffer becomes a segment.
    flushing: Mutex<()>,
    /// Held while segments are merged.
    merging: Mutex<()>,
    /// Segments that were merged into others and may still be read.
    retired: Mutex<Vec<Arc<Segment>>>,
    /// Held while a segment comes to count, and while a snapshot for a backup is made, which must
    /// not fall in between.
    counting: Mutex<()>,
    /// Held while a change is written and becomes visible.
    changing: Mutex<()>,
    /// Held while a backup is made.
    backing_up: Mutex<()>,
    /// The index is being closed: merges end early.
    is_closing: AtomicBool,
    /// Of the one process that may write. Behind the database, which must be closed before another
    /// process may have the index.
    acknowledged: Option<Acknowledged>,
}

#[derive(Debug, Clone, Default)]
struct Live {
    timeline: Arc<Timeline>,
    stats: IndexStats,
}

/// What a panic of another thread leaves behind is whole: all state is replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RocksIndex {
    /// Opens the index in folder `path`.
    ///
    /// # Errors
    ///
    /// [`IndexError::Missing`] if there is none, [`IndexError::InUse`], or that it was written by
    /// another release, is not complete yet or is damaged.
    pub fn open(path: &Path, params: &Params) -> Result<Self, IndexError> {
        if !is_index(path)? {
            return Err(IndexError::Missing { path: path.to_owned() });
        }
        Self::create_or_open(path, params)
    }

    /// Folder of the index.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Opens the index in folder `path`, or makes an empty one.
    ///
    /// # Errors
    ///
    /// As [`RocksIndex::open`], with [`IndexError::NotAnIndex`] in the place of
    /// [`IndexError::Missing`].
    pub fn create_or_open(path: &Path, params: &Params) -> Result<Self, IndexError> {
        Self::open_with(path, params, Limits::default(), None)
    }

    /// Opens or makes an index; `filling` names the index whose tracks are to be copied into it.
    fn open_with(
        path: &Path,
        params: &Params,
        limits: Limits,
        filling: Option<&str>,
    ) -> Result<Self, IndexError> {
        let is_index = is_index(path)?;
        if !is_index && holds_other_files(path) {
            return Err(IndexError::NotAnIndex { path: path.to_owned() });
        }
        fs::create_dir_all(path).map_err(io_failure("make the folder of the index"))?;
        let acknowledged = if is_index { header::take(path)? } else { Acknowledged::take(path)? };
        let mut options = options::database();
        if is_index {
            repair::refuse_pending(path)?;
            options.set_wal_recovery_mode(recovery_mode(path, acknowledged.claim())?);
        }
        let db = DB::open_cf_descriptors(&options, path, options::families(false))
            .map_err(|source| open_error(path, source))?;
        let mut inner = Inner::new(db, path, params, limits);
        inner.take_over(acknowledged)?;
        inner.check_meta(filling)?;
        inner.load_tracks()?;
        inner.load_segments()?;
        Ok(Self { inner: Arc::new(inner), workers: Mutex::default() })
    }

    /// Writes everything that is in memory only to files, so that opening has nothing to make
    /// anew. Worth its time at the end of an ingest. Nothing is lost without it.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`].
    pub fn flush(&self) -> Result<(), IndexError> {
        let inner = &self.inner;
        let next = lock(&inner.next_position);
        inner.freeze(*next)?;
        inner.flush_frozen()?;
        inner.flush_tables()?;
        drop(next);
        self.merge_in_background();
        Ok(())
    }

    /// Merges all postings into one segment, without those of removed tracks, and empties the log.
    /// Takes about 15 s for each 1,000 hours of audio, while which the index can be used. Loses nothing
    /// if it is interrupted.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`] or [`IndexError::Corrupt`].
    pub fn compact(&self) -> Result<(), IndexError> {
        self.flush()?;
        let inner = &self.inner;
        inner.merge_all()?;
        inner.flush_tables()?;
        for part in PARTS.into_iter().filter(|part| *part != BLOCKS) {
            inner.db.compact_range_cf(inner.family(part), None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    /// Makes room for the postings of the next tracks. Waits only if those before the last ones
    /// are not in a segment yet.
    fn make_room(&self, next: u32) -> Result<(), IndexError> {
        let inner = &self.inner;
        if inner.store().active.len() < inner.limits.buffer_postings {
            return Ok(());
        }
        inner.freeze(next)?;
        let worker = Arc::clone(inner);
        self.spawn(move || {
            // If it fails, the next writer tries again and is told.
            if worker.flush_frozen().is_ok() {
                worker.merge_what_is_due();
            }
        });
        Ok(())
    }

    fn merge_in_background(&self) {
        let worker = Arc::clone(&self.inner);
        if worker.merge_due().is_some() {
            self.spawn(move || worker.merge_what_is_due());
        }
    }

    fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        let mut workers = lock(&self.workers);
        workers.retain(|worker| !worker.is_finished());
        let work = || {
            background::step_back();
            work();
        };
        let spawned = std::thread::Builder::new().name("earmark-segments".to_owned()).spawn(work);
        // Without a thread the work is done by the next writer, or when the index is opened again.
        workers.extend(spawned.ok());
    }
}

impl Drop for RocksIndex {
    fn drop(&mut self) {
        self.inner.is_closing.store(true, Ordering::Relaxed);
        for worker in lock(&self.workers).drain(..) {
            // A panic there has been reported already and has harmed nothing here.
            let _ = worker.join();
        }
        if self.inner.refuse_exchanged().is_err() {
            // Closing the database would write into the other folder; the process that ends closes it.
            std::mem::forget(Arc::clone(&self.inner));
            return;
        }
        let next = *lock(&self.inner.next_position);
        // What cannot be written now is made anew when the index is opened.
        let _ = self.inner.freeze(next).and_then(|()| self.inner.flush_frozen());
        self.inner.sweep();
    }
}

impl Inner {
    /// Of a database from which nothing has been loaded.
    fn new(db: DB, path: &Path, params: &Params, limits: Limits) -> Self {
        Self {
            db,
            path: path.to_owned(),
            folder: header::folder_number(path).ok(),
            params: *params,
            limits,
            next_position: Mutex::new(0),
            live: RwLock::default(),
            store: RwLock::new(Arc::new(Store::new(Vec::new(), Buffer::new(0)))),
            lens: Arc::new(BucketLens::new()),
            blocks: Arc::new(read::new_cache()),
            next_segment: AtomicU32::new(0),
            flushing: Mutex::new(()),
            merging: Mutex::new(()),
            retired: Mutex::default(),
            counting: Mutex::new(()),
            changing: Mutex::new(()),
            backing_up: Mutex::new(()),
            is_closing: AtomicBool::new(false),
            acknowledged: None,
        }
    }

    fn family(&self, part: &'static str) -> &ColumnFamily {
        self.db.cf_handle(part).expect("all column families are made when the index is opened")
    }

    /// Makes the resident table from the stored tracks.
    fn load_tracks(&mut self) -> Result<(), IndexError> {
        let (stats, entries) = self.read_tracks()?;
        let live = Live { timeline: Arc::new(Timeline::new(entries)?), stats };
        // Should the header be older than the tracks, no position is given out again for it.
        let end = live.timeline.entries().last().map_or(0, |(span, _)| span.end());
        let next = self.next_position.get_mut().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(end);
        *self.live.get_mut().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(())
    }

    fn live(&self) -> Live {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_live(&self, live: Live) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
    }

    fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what readers see.
    fn change_store(&self, change: impl FnOnce(&Store) -> Store) {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        *store = Arc::new(change(&store));
    }

    /// Writes a change. When this returns, it survives a crash.
    fn commit(&self, mut batch: WriteBatch) -> Result<(), IndexError> {
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let Some(acknowledged) = &self.acknowledged else {
            return Err(IndexError::ReadOnly { path: self.path.clone() });
        };
        self.refuse_exchanged()?;
        acknowledged.commit(|change| {
            batch.put_cf(self.family(META), header::CHANGE, change.to_be_bytes());
            self.db.write_opt(batch, &durable).map_err(storage("write to the index"))
        })
    }

    /// Writes what RocksDB has in memory to files, all parts together.
    fn flush_tables(&self) -> Result<(), IndexError> {
        self.refuse_exchanged()?;
        let parts = PARTS.map(|part| self.family(part));
        let parts: Vec<_> = parts.iter().collect();
        let flushed = self.db.flush_cfs_opt(&parts, &FlushOptions::default());
        flushed.map_err(storage("flush the index"))
    }

    /// The live track that begins at a position. Waits for a change that is being written.
    fn owner_of(&self, span_start: u32) -> Option<TrackId> {
        let _changing = lock(&self.changing);
        let timeline = self.live().timeline;
        let (span, id) = timeline.locate(span_start)?;
        (span.start == span_start).then(|| id.clone())
    }
}

impl Index for RocksIndex {
    fn add(&self, tracks: &[NewTrack]) -> Result<Vec<Added>, IndexError> {
        let mut next = lock(&self.inner.next_position);
        write::refuse_repeated_ids(tracks)?;
        self.make_room(*next)?;
        self.inner.add_distinct(tracks, &mut next)
    }

    fn remove(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        let inner = &self.inner;
        let _writer = lock(&inner.next_position);
        let Some(record) = inner.track(id)? else { return Ok(None) };
        let mut batch = WriteBatch::default();
        let mut pending = Pending::default();
        inner.remove_into(record.clone(), &mut pending, &mut batch);
        inner.change(batch, &pending)?;
        Ok(Some(record))
    }

    fn track(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        self.inner.track(id)
    }

    fn tracks(
        &self,
        after: Option<&TrackId>,
        limit: usize,
    ) -> Result<Vec<TrackRecord>, IndexError> {
        self.inner.tracks(after, limit)
    }

    fn tracks_with_content(&self, hash: &ContentHash) -> Result<Vec<TrackId>, IndexError> {
        self.inner.tracks_with_content(hash)
    }

    fn bucket_len(&self, bucket: u32) -> u32 {
        self.inner.lens.get(bucket)
    }

    fn read_postings(
        &self,
        ranges: &[KeyRange],
        visit: &mut dyn FnMut(usize, &[Posting]) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.inner.read_ranges(ranges, visit)
    }

    fn peaks(&self, span_start: u32, window: Range<u32>) -> Result<Option<Vec<Peak>>, IndexError> {
        self.inner.peaks(span_start, window)
    }

    fn timeline(&self) -> Arc<Timeline> {
        self.inner.live().timeline
    }

    fn stats(&self) -> Result<IndexStats, IndexError> {
        self.inner.stats()
    }
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;
