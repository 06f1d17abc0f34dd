//! The index on disk: the only module that touches RocksDB.
//!
//! # Column families (format version 1)
//!
//! ```text
//! meta            "format" → u32, "params" → u64, "next" → u32 (next free position), big-endian;
//!                 "lens" → lengths of the posting lists (below), may be missing
//! tracks          track id → TrackRecord as JSON
//! content         content hash (32 bytes) | track id → (empty)
//! constellations  span start u32 → the track's peaks (crate::constellation)
//! postings        bucket u32 → row (index/posting.rs), combined by a merge operator
//! ```
//!
//! Keys are big-endian, so that RocksDB's order by bytes is the order of numbers.
//!
//! A change is one write batch with a synced log: a track is there whole or not at all, and what
//! is acknowledged survives a crash. Only the postings of new tracks are written before it, part
//! by part, because those of a day would need hundreds of megabytes at once; nobody can see them
//! until the batch says which track lies at their positions.
//!
//! # Memory
//!
//! At most about 650 MiB, however large the index, apart from the table of tracks: 256 MiB of
//! RocksDB's blocks, 256 MiB of decoded posting lists (`rocks/shelves.rs`), 64 MiB of
//! constellations, 64 MiB of changes that are not in files yet, and 6 MiB of lengths.
//!
//! # The lengths of the posting lists (format version 1)
//!
//! ```text
//! position  u32, big-endian: the postings of tracks that begin before it are counted
//! lengths   until the digest, of each bucket that is not empty, ascending: buckets left out
//!           since the one before (varint), postings (varint); varints as in index/posting.rs
//! digest    32 bytes, BLAKE3 of all the bytes before
//! ```
//!
//! A copy of a resident table, there only to open faster: whatever is wrong with it, the table is
//! made anew from the rows (`rocks/lens.rs`). Releases that do not know it leave it as it is; its
//! position tells what they have added.

mod change;
mod lens;
mod options;
mod read;
mod shelves;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use change::Pending;
use dashmap::DashMap;
use lens::BucketLens;
use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DB, Direction, ErrorKind, IteratorMode,
    WriteBatch, WriteOptions,
};

use shelves::{Limits, Shelves};

use super::{Added, Index, IndexError, IndexStats, NewTrack, Posting, Timeline, TrackRecord};
use crate::constellation;
use crate::hash::KeyRange;
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// Version of everything that is stored.
pub const FORMAT_VERSION: u32 = 1;
const CACHE_BYTES: usize = 256 << 20;
/// Peaks of constellations read lately that are kept in memory: 64 MiB.
const CACHED_PEAKS_MAX: usize = 8 << 20;
const META: &str = "meta";
const TRACKS: &str = "tracks";
const CONTENT: &str = "content";
const CONSTELLATIONS: &str = "constellations";
const POSTINGS: &str = "postings";
const PARTS: [&str; 5] = [META, TRACKS, CONTENT, CONSTELLATIONS, POSTINGS];

/// An index in a folder.
#[derive(Debug)]
pub struct RocksIndex {
    db: DB,
    params: Params,
    /// Next free position; held while writing, so that there is one writer at a time.
    next_position: Mutex<u32>,
    live: RwLock<Live>,
    lens: BucketLens,
    /// Position up to which the stored copy of `lens` counts; changed by the writer only.
    lens_saved_at: AtomicU32,
    shelves: Shelves,
    /// Constellations by span start: the passes and windows of a search ask for the same ones.
    constellations: DashMap<u32, Arc<[Peak]>>,
    /// Peaks in `constellations`, about.
    cached_peaks: AtomicUsize,
}

#[derive(Debug, Clone, Default)]
struct Live {
    timeline: Arc<Timeline>,
    stats: IndexStats,
}

fn storage(action: &'static str) -> impl Fn(rocksdb::Error) -> IndexError {
    move |source| IndexError::Storage { action, source: Box::new(source) }
}

fn corrupt(what: impl Into<String>) -> IndexError {
    IndexError::Corrupt { what: what.into() }
}

impl RocksIndex {
    /// Opens the index in folder `path`.
    ///
    /// # Errors
    ///
    /// [`IndexError::Missing`] if there is none, [`IndexError::InUse`], or that it was written by
    /// another release or is damaged.
    pub fn open(path: &Path, params: &Params) -> Result<Self, IndexError> {
        if !path.join("CURRENT").exists() {
            return Err(IndexError::Missing { path: path.to_owned() });
        }
        Self::create_or_open(path, params)
    }

    /// Opens the index in folder `path`, or makes an empty one.
    ///
    /// # Errors
    ///
    /// As [`RocksIndex::open`], with [`IndexError::NotAnIndex`] in the place of
    /// [`IndexError::Missing`].
    pub fn create_or_open(path: &Path, params: &Params) -> Result<Self, IndexError> {
        Self::create_or_open_with(path, params, Limits::default())
    }

    fn create_or_open_with(
        path: &Path,
        params: &Params,
        limits: Limits,
    ) -> Result<Self, IndexError> {
        if !path.join("CURRENT").exists() && holds_other_files(path) {
            return Err(IndexError::NotAnIndex { path: path.to_owned() });
        }
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let families =
            PARTS.map(|part| ColumnFamilyDescriptor::new(part, options::family(part, &cache)));
        let db =
            DB::open_cf_descriptors(&options::database(), path, families).map_err(|source| {
                if is_locked(&source) {
                    IndexError::InUse { path: path.to_owned() }
                } else {
                    storage("open the index")(source)
                }
            })?;
        let mut index = Self {
            db,
            params: *params,
            next_position: Mutex::new(0),
            live: RwLock::default(),
            lens: BucketLens::new(),
            lens_saved_at: AtomicU32::new(0),
            shelves: Shelves::new(limits),
            constellations: DashMap::new(),
            cached_peaks: AtomicUsize::new(0),
        };
        index.check_meta()?;
        let next_position = index.load_tracks()?;
        index.load_lens(next_position)?;
        Ok(index)
    }

    /// Rewrites the postings compactly and empties the log. Worth its time at the end of a bulk
    /// ingest: rows are then read in one piece. Loses nothing if it is interrupted.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`].
    pub fn compact(&self) -> Result<(), IndexError> {
        let next = self.next_position.lock().unwrap_or_else(PoisonError::into_inner);
        self.save_lens(*next)?;
        drop(next);
        for part in PARTS {
            self.db.flush_cf(self.family(part)).map_err(storage("flush the index"))?;
            self.db.compact_range_cf(self.family(part), None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    fn family(&self, part: &'static str) -> &ColumnFamily {
        self.db.cf_handle(part).expect("all column families are made when the index is opened")
    }

    fn get_meta<const N: usize>(&self, key: &str) -> Result<Option<[u8; N]>, IndexError> {
        let value =
            self.db.get_cf(self.family(META), key).map_err(storage("read the index header"))?;
        let array = |bytes: Vec<u8>| {
            bytes.try_into().map_err(|_| corrupt(format!("header field {key} has a wrong length")))
        };
        value.map(array).transpose()
    }

    fn check_meta(&mut self) -> Result<(), IndexError> {
        let digest = self.params.digest();
        let Some(format) = self.get_meta("format")? else {
            let mut batch = WriteBatch::default();
            batch.put_cf(self.family(META), "format", FORMAT_VERSION.to_be_bytes());
            batch.put_cf(self.family(META), "params", digest.to_be_bytes());
            return self.commit(batch);
        };
        let actual = u32::from_be_bytes(format);
        if actual != FORMAT_VERSION {
            return Err(IndexError::FormatVersion { expected: FORMAT_VERSION, actual });
        }
        let actual = self.get_meta("params")?.map(u64::from_be_bytes);
        let actual = actual.ok_or_else(|| corrupt("its header has no parameter digest"))?;
        if actual != digest {
            return Err(IndexError::ParamsMismatch { expected: digest, actual });
        }
        let next = self.get_meta("next")?.map_or(0, u32::from_be_bytes);
        *self.next_position.get_mut().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Makes the resident table from the stored tracks. Returns the next free position.
    fn load_tracks(&mut self) -> Result<u32, IndexError> {
        let stats = IndexStats {
            format_version: FORMAT_VERSION,
            params_digest: self.params.digest(),
            ..IndexStats::default()
        };
        let mut live = Live { stats, ..Live::default() };
        let mut entries = Vec::new();
        for item in self.db.iterator_cf(self.family(TRACKS), IteratorMode::Start) {
            let (key, value) = item.map_err(storage("list the tracks"))?;
            let record = parse_record(&key, &value)?;
            live.stats.count(&record);
            entries.push((record.span, record.id));
        }
        live.timeline = Arc::new(Timeline::new(entries)?);
        // Should the header be older than the tracks, no position is given out again for it.
        let end = live.timeline.entries().last().map_or(0, |(span, _)| span.end());
        let next = self.next_position.get_mut().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(end);
        let next_position = *next;
        *self.live.get_mut().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(next_position)
    }

    fn live(&self) -> Live {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), IndexError> {
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        self.db.write_opt(batch, &durable).map_err(storage("write to the index"))
    }
}

impl Index for RocksIndex {
    fn add(&self, tracks: &[NewTrack]) -> Result<Vec<Added>, IndexError> {
        let mut next = self.next_position.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<_> = tracks.iter().map(|track| &track.id).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(IndexError::RepeatedId { id: pair[0].clone() });
        }
        self.save_lens_if_old(*next)?;
        self.add_distinct(tracks, &mut next)
    }

    fn remove(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        let _writer = self.next_position.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = self.track(id)? else { return Ok(None) };
        let mut batch = WriteBatch::default();
        let mut pending = Pending::default();
        self.remove_into(record.clone(), &mut pending, &mut batch)?;
        self.commit(batch)?;
        self.publish(&pending)?;
        Ok(Some(record))
    }

    fn track(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        let key = id.as_str().as_bytes();
        let value = self.db.get_cf(self.family(TRACKS), key).map_err(storage("read a track"))?;
        value.map(|value| parse_record(key, &value)).transpose()
    }

    fn tracks(
        &self,
        after: Option<&TrackId>,
        limit: usize,
    ) -> Result<Vec<TrackRecord>, IndexError> {
        let from = after.map_or(IteratorMode::Start, |id| {
            IteratorMode::From(id.as_str().as_bytes(), Direction::Forward)
        });
        let skip = |key: &[u8]| after.is_some_and(|id| id.as_str().as_bytes() == key);
        self.db
            .iterator_cf(self.family(TRACKS), from)
            .map(|item| item.map_err(storage("list the tracks")))
            .filter(|item| !item.as_ref().is_ok_and(|(key, _)| skip(key)))
            .take(limit)
            .map(|item| item.and_then(|(key, value)| parse_record(&key, &value)))
            .collect()
    }

    fn tracks_with_content(&self, hash: &ContentHash) -> Result<Vec<TrackId>, IndexError> {
        let from = IteratorMode::From(&hash.0, Direction::Forward);
        let mut ids = Vec::new();
        for item in self.db.iterator_cf(self.family(CONTENT), from) {
            let (key, _) = item.map_err(storage("look for duplicates"))?;
            let Some(id) = key.strip_prefix(hash.0.as_slice()) else { break };
            let id = std::str::from_utf8(id).ok().and_then(|id| TrackId::new(id).ok());
            ids.push(id.ok_or_else(|| corrupt(format!("content {hash} has a damaged track id")))?);
        }
        Ok(ids)
    }

    fn bucket_len(&self, bucket: u32) -> u32 {
        self.lens.get(bucket)
    }

    fn read_postings(
        &self,
        ranges: &[KeyRange],
        visit: &mut dyn FnMut(usize, &[Posting]) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.read_ranges(ranges, visit)
    }

    fn constellation(&self, span_start: u32) -> Result<Option<Arc<[Peak]>>, IndexError> {
        if let Some(peaks) = self.constellations.get(&span_start) {
            return Ok(Some(Arc::clone(&peaks)));
        }
        let value = self
            .db
            .get_pinned_cf(self.family(CONSTELLATIONS), span_start.to_be_bytes())
            .map_err(storage("read a constellation"))?;
        let Some(bytes) = value else { return Ok(None) };
        let peaks: Arc<[Peak]> = constellation::decode(&bytes)
            .map_err(|error| corrupt(format!("the {error} (position {span_start})")))?
            .into();
        // Forgetting all at once is rare and needs no list of what was used when.
        if self.cached_peaks.fetch_add(peaks.len(), Ordering::Relaxed) > CACHED_PEAKS_MAX {
            self.constellations.clear();
            self.cached_peaks.store(peaks.len(), Ordering::Relaxed);
        }
        self.constellations.insert(span_start, Arc::clone(&peaks));
        Ok(Some(peaks))
    }

    fn timeline(&self) -> Arc<Timeline> {
        self.live().timeline
    }

    fn stats(&self) -> Result<IndexStats, IndexError> {
        let mut stats = self.live().stats;
        for part in PARTS {
            let size = |property| self.db.property_int_value_cf(self.family(part), property);
            let files =
                size("rocksdb.live-sst-files-size").map_err(storage("measure the index"))?;
            let memory =
                size("rocksdb.size-all-mem-tables").map_err(storage("measure the index"))?;
            stats.bytes_by_part.insert(part.to_owned(), files.unwrap_or(0) + memory.unwrap_or(0));
        }
        Ok(stats)
    }
}

/// True if the folder has files that RocksDB does not make. Those that it does may be what a crash
/// has left of a creation.
fn holds_other_files(path: &Path) -> bool {
    const STARTS: [&str; 7] =
        ["LOCK", "LOG", "IDENTITY", "MANIFEST-", "OPTIONS-", "0", "lost+found"];
    let Ok(entries) = path.read_dir() else { return false };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    names.any(|name| !STARTS.iter().any(|start| name.to_string_lossy().starts_with(start)))
}

/// True if another process has the index open. RocksDB says so only in words: of the file LOCK,
/// with the system's error for a lock that is held, or its own for one held by this process.
fn is_locked(error: &rocksdb::Error) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::IOError
        && text.contains("/LOCK")
        && (text.contains("lock hold by current process") || text.contains("While lock file"))
}

fn content_key(hash: &ContentHash, id: &TrackId) -> Vec<u8> {
    [&hash.0, id.as_str().as_bytes()].concat()
}

fn parse_record(key: &[u8], value: &[u8]) -> Result<TrackRecord, IndexError> {
    let id = String::from_utf8_lossy(key);
    let record: TrackRecord = serde_json::from_slice(value)
        .map_err(|error| corrupt(format!("the record of track {id} is damaged: {error}")))?;
    if record.id.as_str() != id {
        return Err(corrupt(format!("the record of track {id} names track {}", record.id)));
    }
    Ok(record)
}

#[cfg(test)]
mod tests;
