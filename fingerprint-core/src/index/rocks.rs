//! The index on disk: the only module that touches RocksDB.
//!
//! # Column families (format version 1)
//!
//! ```text
//! meta            "format" → u32, "params" → u64, "next" → u32 (next free position), big-endian
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

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, Direction, IteratorMode, MergeOperands, Options, WriteBatch, WriteOptions,
};

use super::posting::Row;
use super::write::{self, Entry};
use super::{
    Added, Change, Index, IndexError, IndexStats, NewTrack, Posting, Span, Timeline, TrackRecord,
};
use crate::constellation;
use crate::hash::KeyRange;
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// Version of everything that is stored.
pub const FORMAT_VERSION: u32 = 1;
const CACHE_BYTES: usize = 256 << 20;
/// Changes gathered in memory before they are written to files.
const WRITE_BUFFER_BYTES: usize = 64 << 20;
/// Rows that are stepped over before one is looked up.
const STEPS_MAX: usize = 8;
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
    /// As [`RocksIndex::open`], without [`IndexError::Missing`].
    pub fn create_or_open(path: &Path, params: &Params) -> Result<Self, IndexError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(1 << 20);
        options.set_db_write_buffer_size(WRITE_BUFFER_BYTES);
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let families =
            PARTS.map(|part| ColumnFamilyDescriptor::new(part, family_options(part, &cache)));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|source| {
            if source.to_string().contains("lock") {
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

    /// Rewrites the postings compactly and empties the log. Worth its time at the end of a bulk
    /// ingest: rows are then read in one piece. Loses nothing if it is interrupted.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`].
    pub fn compact(&self) -> Result<(), IndexError> {
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

    /// Makes the resident table from the stored tracks.
    fn load_tracks(&mut self) -> Result<(), IndexError> {
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
        *self.live.get_mut().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(())
    }

    fn live(&self) -> Live {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), IndexError> {
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        self.db.write_opt(batch, &durable).map_err(storage("write to the index"))
    }

    /// Adds what removes `record` to `batch`.
    fn remove_into(&self, record: &TrackRecord, batch: &mut WriteBatch) -> Result<(), IndexError> {
        let span = record.span;
        // Its landmarks follow from its stored peaks, so removal needs no audio.
        let peaks = self
            .constellation(span.start)?
            .ok_or_else(|| corrupt(format!("track {} has lost its constellation", record.id)))?;
        let drop = Row { drops: vec![span], ..Row::default() }.encode();
        let mut buckets = Vec::new();
        write::for_each_part(&peaks, span, &self.params, |postings| {
            buckets.extend(postings.chunk_by(|a, b| a.0 == b.0).map(|list| list[0].0));
            Ok::<_, IndexError>(())
        })?;
        buckets.sort_unstable();
        buckets.dedup();
        for bucket in buckets {
            batch.merge_cf(self.family(POSTINGS), bucket.to_be_bytes(), &drop);
        }
        batch.delete_cf(self.family(CONSTELLATIONS), span.start.to_be_bytes());
        batch.delete_cf(self.family(CONTENT), content_key(&record.content_hash, &record.id));
        batch.delete_cf(self.family(TRACKS), record.id.as_str());
        Ok(())
    }

    /// Writes the postings of a new track ahead of its record, a part of the track at a time.
    ///
    /// Nobody sees them: their positions belong to no track until the record is committed. If that
    /// never happens, they stay invisible, because the first thing that is written is that their
    /// positions have been given out. The log keeps the order of writes, so the synced write of
    /// the record makes these durable too.
    fn write_postings(&self, entry: &mut Entry<'_>) -> Result<(), IndexError> {
        let span = entry.record.span;
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(META), "next", span.end().to_be_bytes());
        write::for_each_part(&entry.peaks, span, &self.params, |postings| {
            entry.record.count_postings(postings.len());
            for list in postings.chunk_by(|a, b| a.0 == b.0) {
                let postings = list.iter().map(|(_, posting)| *posting).collect();
                let row = Row { postings, ..Row::default() }.encode();
                batch.merge_cf(self.family(POSTINGS), list[0].0.to_be_bytes(), row);
            }
            self.db.write(std::mem::take(&mut batch)).map_err(storage("write postings"))
        })
    }

    fn put_entry(&self, entry: &Entry<'_>, batch: &mut WriteBatch) -> Result<(), IndexError> {
        let record = &entry.record;
        let mut peaks = Vec::new();
        constellation::encode(&entry.peaks, &mut peaks);
        batch.put_cf(self.family(CONSTELLATIONS), record.span.start.to_be_bytes(), peaks);
        batch.put_cf(self.family(CONTENT), content_key(&record.content_hash, &record.id), []);
        batch.put_cf(self.family(META), "next", record.span.end().to_be_bytes());
        self.put_record(record, batch)
    }

    fn put_record(&self, record: &TrackRecord, batch: &mut WriteBatch) -> Result<(), IndexError> {
        let json = serde_json::to_vec(record).map_err(|source| IndexError::Storage {
            action: "encode a track",
            source: Box::new(source),
        })?;
        batch.put_cf(self.family(TRACKS), record.id.as_str(), json);
        Ok(())
    }

    /// Adds one track that occurs only once in its batch.
    fn add_into(
        &self,
        track: &NewTrack,
        next: &mut u32,
        pending: &mut Pending,
        batch: &mut WriteBatch,
    ) -> Result<Added, IndexError> {
        let hash = track.fingerprint.content_hash;
        let mut duplicate_of = self.tracks_with_content(&hash)?;
        duplicate_of.retain(|id| !pending.removed.iter().any(|r| r.id == *id));
        duplicate_of
            .extend(pending.added.iter().filter(|r| r.content_hash == hash).map(|r| r.id.clone()));
        duplicate_of.retain(|id| *id != track.id);
        duplicate_of.sort_unstable();
        duplicate_of.dedup();
        let mut change = Change::Inserted;
        if let Some(old) = self.track(&track.id)? {
            if old.content_hash == hash {
                let change = if old.metadata == track.metadata {
                    Change::Unchanged
                } else {
                    self.put_record(
                        &TrackRecord { metadata: track.metadata.clone(), ..old },
                        batch,
                    )?;
                    Change::MetadataUpdated
                };
                return Ok(Added { change, duplicate_of });
            }
            self.remove_into(&old, batch)?;
            pending.removed.push(old);
            change = Change::Replaced;
        }
        let mut entry = write::lay_out(track, *next, &self.params)?;
        // Given out whether or not the batch succeeds.
        *next = entry.record.span.end();
        self.write_postings(&mut entry)?;
        self.put_entry(&entry, batch)?;
        pending.added.push(entry.record);
        Ok(Added { change, duplicate_of })
    }

    /// Writes a batch of tracks with different ids.
    fn add_distinct(&self, tracks: &[NewTrack], next: &mut u32) -> Result<Vec<Added>, IndexError> {
        let mut batch = WriteBatch::default();
        let mut pending = Pending::default();
        let added = tracks
            .iter()
            .map(|track| self.add_into(track, next, &mut pending, &mut batch))
            .collect::<Result<_, _>>()?;
        if !batch.is_empty() {
            self.commit(batch)?;
        }
        self.publish(&pending)?;
        Ok(added)
    }

    /// Makes a written change visible to readers. Costs a copy of the table for each batch.
    fn publish(&self, pending: &Pending) -> Result<(), IndexError> {
        if pending.added.is_empty() && pending.removed.is_empty() {
            return Ok(());
        }
        let mut live = self.live();
        let gone: Vec<Span> = pending.removed.iter().map(|record| record.span).collect();
        let mut entries = live.timeline.entries().to_vec();
        entries.retain(|(span, _)| !gone.contains(span));
        entries.extend(pending.added.iter().map(|record| (record.span, record.id.clone())));
        live.timeline = Arc::new(Timeline::new(entries)?);
        pending.removed.iter().for_each(|record| live.stats.uncount(record));
        pending.added.iter().for_each(|record| live.stats.count(record));
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(())
    }
}

/// What a batch will have changed.
#[derive(Default)]
struct Pending {
    added: Vec<TrackRecord>,
    removed: Vec<TrackRecord>,
}

impl Index for RocksIndex {
    fn add(&self, tracks: &[NewTrack]) -> Result<Vec<Added>, IndexError> {
        let mut next = self.next_position.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<_> = tracks.iter().map(|track| &track.id).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(IndexError::RepeatedId { id: pair[0].clone() });
        }
        self.add_distinct(tracks, &mut next)
    }

    fn remove(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        let _writer = self.next_position.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = self.track(id)? else { return Ok(None) };
        let mut batch = WriteBatch::default();
        self.remove_into(&record, &mut batch)?;
        self.commit(batch)?;
        self.publish(&Pending { removed: vec![record.clone()], ..Pending::default() })?;
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
        visit: &mut dyn FnMut(usize, &[Posting]) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let mut rows = self.db.raw_iterator_cf(self.family(POSTINGS));
        let mut first = 0;
        for of_bucket in ranges.chunk_by(|a, b| a.bucket == b.bucket) {
            let bucket = of_bucket[0].bucket;
            seek_forward(&mut rows, bucket);
            let Some((key, bytes)) = rows.item() else { break };
            if key == bucket.to_be_bytes() {
                let row = Row::decode_bucket(bucket, bytes)?;
                for (j, range) in of_bucket.iter().enumerate() {
                    let low = row.postings.partition_point(|p| p.cell < *range.cells.start());
                    let high = row.postings.partition_point(|p| p.cell <= *range.cells.end());
                    if low < high && visit(first + j, &row.postings[low..high]).is_break() {
                        return Ok(());
                    }
                }
            }
            first += of_bucket.len();
        }
        rows.status().map_err(storage("read posting lists"))
    }

    fn constellation(&self, span_start: u32) -> Result<Option<Arc<[Peak]>>, IndexError> {
        let value = self
            .db
            .get_pinned_cf(self.family(CONSTELLATIONS), span_start.to_be_bytes())
            .map_err(storage("read a constellation"))?;
        let decode = |bytes: rocksdb::DBPinnableSlice<'_>| {
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

/// Moves to the first row at or behind `bucket`; `rows` must not be behind it already.
///
/// A search for changed recordings reads runs of neighbouring buckets, and stepping from row to
/// row costs a tenth of looking one up.
fn seek_forward(rows: &mut DBRawIterator<'_>, bucket: u32) {
    let wanted = bucket.to_be_bytes();
    for _ in 0..STEPS_MAX {
        match rows.key() {
            Some(key) if key < wanted.as_slice() => rows.next(),
            Some(_) => return,
            None => break,
        }
    }
    if rows.key().is_none_or(|key| key < wanted.as_slice()) {
        rows.seek(wanted);
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

fn family_options(part: &str, cache: &Cache) -> Options {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    if part == POSTINGS {
        blocks.set_block_size(4 << 10);
        blocks.set_bloom_filter(10.0, false);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES / 2);
        options.set_merge_operator("earmark.row.1", merge_full, merge_partial);
        // A row emptied by removals is not worth a key.
        options.set_compaction_filter("earmark.empty.1", |_, _, value| {
            let empty = Row::default().encode();
            if value == empty.as_slice() {
                rocksdb::CompactionDecision::Remove
            } else {
                rocksdb::CompactionDecision::Keep
            }
        });
    }
    options.set_block_based_table_factory(&blocks);
    options
}

/// Merges a row with everything below it. A damaged part makes the merge fail, which RocksDB
/// reports to whoever reads the row.
fn merge_full(_: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let rows = existing.into_iter().chain(operands).map(Row::decode).collect::<Option<Vec<_>>>()?;
    Some(Row { drops: Vec::new(), ..Row::merge(rows) }.encode())
}

/// Merges parts of a row that have others below them, so drops must stay.
fn merge_partial(_: &[u8], _: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let rows = operands.into_iter().map(Row::decode).collect::<Option<Vec<_>>>()?;
    Some(Row::merge(rows).encode())
}
