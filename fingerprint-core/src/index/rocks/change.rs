//! What adding and removing tracks writes: one batch for all of it.
//!
//! The batch lists the rows in the order of their keys, each once for all tracks of the batch.
//! RocksDB inserts such a batch faster than one track after the other, and rows that tracks have
//! in common get fewer parts to merge.

use rocksdb::WriteBatch;

use super::{
    CONSTELLATIONS, CONTENT, META, META_NEXT, POSTINGS, RocksIndex, TRACKS, content_key, corrupt,
};
use crate::constellation;
use crate::index::posting::{Row, RowKey};
use crate::index::write::{self, Entry};
use crate::index::{Added, Change, Index, IndexError, NewTrack, Posting, Span, TrackRecord};
use crate::units::{ContentHash, TrackId};

/// A batch being put together. Nothing is written before [`Changes::into_batch`] is.
pub(super) struct Changes<'a> {
    index: &'a RocksIndex,
    batch: WriteBatch,
    /// Next free position once the batch is written.
    pub(super) next_position: u32,
    pub(super) added: Vec<TrackRecord>,
    pub(super) removed: Vec<TrackRecord>,
    postings: Vec<(RowKey, Posting)>,
    drops: Vec<(RowKey, Span)>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(index: &'a RocksIndex, next_position: u32) -> Self {
        Self {
            index,
            batch: WriteBatch::default(),
            next_position,
            added: Vec::new(),
            removed: Vec::new(),
            postings: Vec::new(),
            drops: Vec::new(),
        }
    }

    /// Adds one track, whose id must not occur in this batch before.
    pub(super) fn add(&mut self, track: &NewTrack) -> Result<Added, IndexError> {
        let hash = track.fingerprint.content_hash;
        let duplicate_of = self.duplicates(&hash, &track.id)?;
        let old = self.index.track(&track.id)?;
        if let Some(old) = old.as_ref().filter(|old| old.content_hash == hash) {
            let change = if old.metadata == track.metadata {
                Change::Unchanged
            } else {
                self.put_record(&TrackRecord { metadata: track.metadata.clone(), ..old.clone() })?;
                Change::MetadataUpdated
            };
            return Ok(Added { change, duplicate_of });
        }
        let change = if old.is_some() { Change::Replaced } else { Change::Inserted };
        if let Some(old) = old {
            self.remove(old)?;
        }
        let entry = write::lay_out(track, self.next_position, &self.index.params)?;
        self.next_position = entry.record.span.end();
        self.put_entry(entry)?;
        Ok(Added { change, duplicate_of })
    }

    /// Removes a stored track.
    pub(super) fn remove(&mut self, record: TrackRecord) -> Result<(), IndexError> {
        let span = record.span;
        // Its landmarks follow from its stored peaks, so removal needs no audio.
        let peaks = self
            .index
            .constellation(span.start)?
            .ok_or_else(|| corrupt(format!("track {} has lost its constellation", record.id)))?;
        let postings = write::postings(&peaks, span, &self.index.params);
        let rows = postings.iter().map(|(bucket, posting)| RowKey::new(*bucket, posting.cell));
        self.drops.extend(rows.map(|row| (row, span)));
        let index = self.index;
        self.batch.delete_cf(index.family(CONSTELLATIONS), span.start.to_be_bytes());
        self.batch.delete_cf(index.family(CONTENT), content_key(&record.content_hash, &record.id));
        self.batch.delete_cf(index.family(TRACKS), record.id.as_str());
        self.removed.push(record);
        Ok(())
    }

    /// Other tracks with this content once the batch is written, ascending.
    fn duplicates(&self, hash: &ContentHash, id: &TrackId) -> Result<Vec<TrackId>, IndexError> {
        let mut ids = self.index.tracks_with_content(hash)?;
        ids.retain(|stored| !self.removed.iter().any(|record| record.id == *stored));
        let added = self.added.iter().filter(|record| record.content_hash == *hash);
        ids.extend(added.map(|record| record.id.clone()));
        ids.retain(|other| other != id);
        ids.sort_unstable();
        Ok(ids)
    }

    fn put_entry(&mut self, entry: Entry) -> Result<(), IndexError> {
        let (index, record) = (self.index, entry.record);
        let mut peaks = Vec::new();
        constellation::encode(&entry.peaks, &mut peaks);
        self.batch.put_cf(index.family(CONSTELLATIONS), record.span.start.to_be_bytes(), peaks);
        self.batch.put_cf(index.family(CONTENT), content_key(&record.content_hash, &record.id), []);
        self.batch.put_cf(index.family(META), META_NEXT, record.span.end().to_be_bytes());
        self.put_record(&record)?;
        let postings = entry.postings.into_iter();
        self.postings
            .extend(postings.map(|(bucket, posting)| (RowKey::new(bucket, posting.cell), posting)));
        self.added.push(record);
        Ok(())
    }

    fn put_record(&mut self, record: &TrackRecord) -> Result<(), IndexError> {
        let json = serde_json::to_vec(record).map_err(|source| IndexError::Storage {
            action: "encode a track",
            source: Box::new(source),
        })?;
        self.batch.put_cf(self.index.family(TRACKS), record.id.as_str(), json);
        Ok(())
    }

    /// Appends the rows and hands the batch over.
    pub(super) fn take_batch(&mut self) -> WriteBatch {
        let family = self.index.family(POSTINGS);
        self.drops.sort_unstable();
        self.drops.dedup();
        for (row, span) in self.drops.drain(..) {
            self.batch.merge_cf(family, row.to_bytes(), Row::of_drop(span).encode());
        }
        // Tracks come one behind the other on the timeline, but rows do not.
        self.postings.sort_unstable();
        for row in self.postings.chunk_by(|a, b| a.0 == b.0) {
            let operand = Row::of_postings(row.iter().map(|(_, posting)| *posting)).encode();
            self.batch.merge_cf(family, row[0].0.to_bytes(), operand);
        }
        self.postings.clear();
        std::mem::take(&mut self.batch)
    }
}
