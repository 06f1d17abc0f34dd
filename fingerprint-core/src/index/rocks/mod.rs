//! The index on disk: this folder is the only place that touches RocksDB.
//!
//! # What is stored (format version 1; byte for byte in `docs/formats.md`)
//!
//! ```text
//! earmark.json    which release can read the rest (header.rs), beside RocksDB's own files
//!
//! column family   key → value
//! meta            "format" → u32, "params" → u64, "next" → u32 (next free position)
//! tracks          track id → TrackRecord as JSON
//! content         content hash (32 bytes) | track id → (empty)
//! constellations  span start u32 → the track's peaks (crate::constellation)
//! postings        row key u32 → row (index/posting.rs), combined by a merge operator
//! ```
//!
//! Numbers are big-endian, so that RocksDB's order by bytes is the order of numbers. One write
//! batch with a synced log carries all that a change touches: a track is there whole or not at
//! all, and what is acknowledged survives a crash.

mod change;
mod header;
mod options;
mod read;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub use options::StoreOptions;
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, Direction, ErrorKind, IteratorMode, WriteBatch};

use self::change::Changes;
use super::{
    Added, Index, IndexError, IndexStats, NewTrack, Posting, Span, Timeline, TrackRecord, write,
};
use crate::constellation;
use crate::hash::KeyRange;
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// Version of everything that is stored.
pub const FORMAT_VERSION: u32 = 1;

const META: &str = "meta";
const TRACKS: &str = "tracks";
const CONTENT: &str = "content";
const CONSTELLATIONS: &str = "constellations";
const POSTINGS: &str = "postings";
const PARTS: [&str; 5] = [META, TRACKS, CONTENT, CONSTELLATIONS, POSTINGS];

const META_FORMAT: &str = "format";
const META_PARAMS: &str = "params";
const META_NEXT: &str = "next";

/// Share of the postings, in percent, that may lie in unmerged files without
/// [`RocksIndex::finish_bulk`] rewriting all of them.
const UNMERGED_PERCENT_MAX: u64 = 20;

/// An index in a folder.
#[derive(Debug)]
pub struct RocksIndex {
    db: DB,
    params: Params,
    /// Next free position; held while writing, so that there is one writer at a time.
    next_position: Mutex<u32>,
    live: RwLock<Live>,
}

#[derive(Debug, Clone, Default)]
struct Live {
    timeline: Arc<Timeline>,
    stats: IndexStats,
}

/// Tells damaged files from a failing disk: the first will not go away.
fn storage(action: &'static str) -> impl Fn(rocksdb::Error) -> IndexError {
    move |source| match source.kind() {
        ErrorKind::Corruption => corrupt(format!("trying to {action}: {source}")),
        _ => IndexError::Storage { action, source: Box::new(source) },
    }
}

fn corrupt(what: impl Into<String>) -> IndexError {
    IndexError::Corrupt { what: what.into() }
}

impl RocksIndex {
    /// Opens the index in folder `path` with the default [`StoreOptions`].
    ///
    /// # Errors
    ///
    /// [`IndexError::Missing`] if there is none, [`IndexError::NotAnIndex`] if there is something
    /// else, [`IndexError::InUse`], or that it was written by another release, with other
    /// parameters, or is damaged.
    pub fn open(path: &Path, params: &Params) -> Result<Self, IndexError> {
        Self::open_with(path, params, &StoreOptions::default())
    }

    /// Opens the index in folder `path`.
    ///
    /// # Errors
    ///
    /// As [`RocksIndex::open`].
    pub fn open_with(
        path: &Path,
        params: &Params,
        store: &StoreOptions,
    ) -> Result<Self, IndexError> {
        header::check_or_create(path, params.digest(), false)?;
        Self::start(path, params, store)
    }

    /// Opens the index in folder `path`, or makes an empty one if there is nothing, with the
    /// default [`StoreOptions`].
    ///
    /// # Errors
    ///
    /// As [`RocksIndex::open`], without [`IndexError::Missing`].
    pub fn create_or_open(path: &Path, params: &Params) -> Result<Self, IndexError> {
        Self::create_or_open_with(path, params, &StoreOptions::default())
    }

    /// Opens the index in folder `path`, or makes an empty one if there is nothing.
    ///
    /// # Errors
    ///
    /// As [`RocksIndex::open`], without [`IndexError::Missing`].
    pub fn create_or_open_with(
        path: &Path,
        params: &Params,
        store: &StoreOptions,
    ) -> Result<Self, IndexError> {
        header::check_or_create(path, params.digest(), true)?;
        Self::start(path, params, store)
    }

    fn start(path: &Path, params: &Params, store: &StoreOptions) -> Result<Self, IndexError> {
        let database = options::database(store);
        let db = DB::open_cf_descriptors(&database, path, options::families(store));
        let db = db.map_err(|source| {
            if is_locked(&source) {
                IndexError::InUse { path: path.to_owned() }
            } else {
                storage("open the index")(source)
            }
        })?;
        let mut index =
            Self { db, params: *params, next_position: Mutex::new(0), live: RwLock::default() };
        index.check_meta()?;
        index.load_tracks()?;
        Ok(index)
    }

    /// Ends a bulk ingest: writes everything to files, and [compacts](RocksIndex::compact) if
    /// that is worth its time, which a few tracks more in a large index are not.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`].
    pub fn finish_bulk(&self) -> Result<(), IndexError> {
        self.flush()?;
        let files = self.db.live_files().map_err(storage("list the files of the index"))?;
        let postings = || files.iter().filter(|file| file.column_family_name == POSTINGS);
        let bottom = postings().map(|file| file.level).max().unwrap_or(0);
        let size = |file: &rocksdb::LiveFile| file.size as u64;
        let all: u64 = postings().map(size).sum();
        let merged = postings().filter(|file| bottom > 0 && file.level == bottom).map(size);
        if (all - merged.sum::<u64>()) * 100 > all * UNMERGED_PERCENT_MAX {
            self.compact()?;
        }
        Ok(())
    }

    /// Rewrites everything compactly, so that rows are read in one piece and removed tracks take
    /// no space. Takes about a second for ten hours of audio; readers and writers go on
    /// meanwhile, and nothing is lost if it is interrupted.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`].
    pub fn compact(&self) -> Result<(), IndexError> {
        self.flush()?;
        for part in PARTS {
            self.db.compact_range_cf(self.family(part), None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        PARTS.into_iter().try_for_each(|part| {
            self.db.flush_cf(self.family(part)).map_err(storage("flush the index"))
        })
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

    /// Writes the header fields of a new database, or holds those of an old one against the file
    /// `earmark.json`, which may have been copied from another index.
    fn check_meta(&mut self) -> Result<(), IndexError> {
        let digest = self.params.digest();
        let Some(format) = self.get_meta(META_FORMAT)? else {
            let mut batch = WriteBatch::default();
            batch.put_cf(self.family(META), META_FORMAT, FORMAT_VERSION.to_be_bytes());
            batch.put_cf(self.family(META), META_PARAMS, digest.to_be_bytes());
            return self.commit(batch);
        };
        let actual = u32::from_be_bytes(format);
        if actual != FORMAT_VERSION {
            return Err(IndexError::FormatVersion { expected: FORMAT_VERSION, actual });
        }
        let actual = self.get_meta(META_PARAMS)?.map(u64::from_be_bytes);
        let actual = actual.ok_or_else(|| corrupt("its header has no parameter digest"))?;
        if actual != digest {
            return Err(IndexError::ParamsMismatch { expected: digest, actual });
        }
        let next = self.get_meta(META_NEXT)?.map_or(0, u32::from_be_bytes);
        *self.next_position.get_mut().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Makes the resident table from the stored tracks.
    fn load_tracks(&mut self) -> Result<(), IndexError> {
        let mut stats = IndexStats {
            format_version: FORMAT_VERSION,
            params_digest: self.params.digest(),
            ..IndexStats::default()
        };
        let mut entries = Vec::new();
        for item in self.db.iterator_cf(self.family(TRACKS), IteratorMode::Start) {
            let (key, value) = item.map_err(storage("list the tracks"))?;
            let record = parse_record(&key, &value)?;
            stats.count(&record);
            entries.push((record.span, record.id));
        }
        let timeline = Timeline::new(entries)?;
        let next = *self.next_position.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, id)) = timeline.entries().last().filter(|(span, _)| span.end() > next) {
            return Err(corrupt(format!("track {id} lies beyond the end of the timeline")));
        }
        let live = Live { timeline: Arc::new(timeline), stats };
        *self.live.get_mut().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(())
    }

    fn live(&self) -> Live {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), IndexError> {
        self.db.write_opt(batch, &options::durable()).map_err(storage("write to the index"))
    }

    /// Writes `changes` and then makes them visible to readers. The second step copies the table
    /// of tracks once a batch.
    fn apply(&self, mut changes: Changes<'_>) -> Result<(), IndexError> {
        let batch = changes.take_batch();
        if !batch.is_empty() {
            self.commit(batch)?;
        }
        let (added, removed) = (changes.added, changes.removed);
        if added.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let mut live = self.live();
        removed.iter().for_each(|record| live.stats.uncount(record));
        added.iter().for_each(|record| live.stats.count(record));
        let mut gone: Vec<Span> = removed.iter().map(|record| record.span).collect();
        gone.sort_unstable();
        let new = added.into_iter().map(|record| (record.span, record.id));
        live.timeline = Arc::new(live.timeline.changed(&gone, new)?);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(())
    }
}

/// RocksDB has no error kind for it, and its messages differ by who holds the lock.
fn is_locked(error: &rocksdb::Error) -> bool {
    let text = error.to_string();
    text.contains("While lock file: ") || text.contains("lock hold by current process")
}

impl Index for RocksIndex {
    fn add(&self, tracks: &[NewTrack]) -> Result<Vec<Added>, IndexError> {
        write::refuse_repeated_ids(tracks)?;
        let mut next = self.next_position.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Changes::new(self, *next);
        let added = tracks.iter().map(|track| changes.add(track)).collect::<Result<Vec<_>, _>>()?;
        let after = changes.next_position;
        self.apply(changes)?;
        *next = after;
        Ok(added)
    }

    fn remove(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        let next = self.next_position.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = self.track(id)? else { return Ok(None) };
        let mut changes = Changes::new(self, *next);
        changes.remove(record.clone())?;
        self.apply(changes)?;
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

    fn read_postings(
        &self,
        ranges: &[KeyRange],
        visit: &mut dyn FnMut(usize, &[Posting]),
    ) -> Result<(), IndexError> {
        read::read_postings(self, ranges, visit)
    }

    fn constellation(&self, span_start: u32) -> Result<Option<Arc<[Peak]>>, IndexError> {
        let value = self
            .db
            .get_pinned_cf(self.family(CONSTELLATIONS), span_start.to_be_bytes())
            .map_err(storage("read a constellation"))?;
        let decode = |bytes: DBPinnableSlice<'_>| {
            constellation::decode(&bytes)
                .map(Arc::from)
                .map_err(|error| corrupt(format!("the {error} (position {span_start})")))
        };
        value.map(decode).transpose()
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
