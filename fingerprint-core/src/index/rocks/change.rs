//! Adding, replacing and removing: what each writes, in which order, and when readers see it.

use std::sync::{Arc, PoisonError};

use rocksdb::WriteBatch;

use super::{CONSTELLATIONS, CONTENT, META, POSTINGS, RocksIndex, TRACKS, content_key, storage};
use crate::constellation;
use crate::index::posting::Row;
use crate::index::write::{self, Entry};
use crate::index::{Added, Change, Index, IndexError, NewTrack, Span, Timeline, TrackRecord};
use crate::peaks::Peak;

impl RocksIndex {
    /// Adds what removes `record` to `batch`.
    pub(super) fn remove_into(
        &self,
        record: TrackRecord,
        pending: &mut Pending,
        batch: &mut WriteBatch,
    ) -> Result<(), IndexError> {
        let span = record.span;
        // Its landmarks follow from its stored peaks, so removal needs no audio. A track whose peaks
        // are lost or damaged is removed all the same: its postings then stay, unseen.
        match self.constellation(span.start) {
            Ok(peaks) => self.drop_postings(&peaks.unwrap_or_default(), span, pending, batch)?,
            Err(IndexError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        batch.delete_cf(self.family(CONSTELLATIONS), span.start.to_be_bytes());
        batch.delete_cf(self.family(CONTENT), content_key(&record.content_hash, &record.id));
        batch.delete_cf(self.family(TRACKS), record.id.as_str());
        pending.removed.push(record);
        Ok(())
    }

    fn drop_postings(
        &self,
        peaks: &[Peak],
        span: Span,
        pending: &mut Pending,
        batch: &mut WriteBatch,
    ) -> Result<(), IndexError> {
        let drop = Row { drops: vec![span], ..Row::default() }.encode();
        let mut buckets = Vec::new();
        write::for_each_part(peaks, span, &self.params, |postings| {
            buckets.extend(postings.iter().map(|(bucket, _)| *bucket));
            Ok::<_, IndexError>(())
        })?;
        buckets.sort_unstable();
        for list in buckets.chunk_by(|a, b| a == b) {
            batch.merge_cf(self.family(POSTINGS), list[0].to_be_bytes(), &drop);
            pending.dropped.push((list[0], u32::try_from(list.len()).unwrap_or(u32::MAX)));
        }
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
                self.lens.count(list[0].0, u32::try_from(list.len()).unwrap_or(u32::MAX));
                let postings = list.iter().map(|(_, posting)| *posting).collect();
                let row = Row { postings, ..Row::default() }.encode();
                batch.merge_cf(self.family(POSTINGS), list[0].0.to_be_bytes(), row);
            }
            self.db.write(std::mem::take(&mut batch)).map_err(storage("write postings"))?;
            self.shelves.add(postings);
            Ok(())
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
            self.remove_into(old, pending, batch)?;
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
    pub(super) fn add_distinct(
        &self,
        tracks: &[NewTrack],
        next: &mut u32,
    ) -> Result<Vec<Added>, IndexError> {
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
    pub(super) fn publish(&self, pending: &Pending) -> Result<(), IndexError> {
        if pending.added.is_empty() && pending.removed.is_empty() {
            return Ok(());
        }
        let mut live = self.live();
        let mut gone: Vec<Span> = pending.removed.iter().map(|record| record.span).collect();
        gone.sort_unstable();
        let mut entries = live.timeline.entries().to_vec();
        entries.retain(|(span, _)| !gone.contains(span));
        entries.extend(pending.added.iter().map(|record| (record.span, record.id.clone())));
        live.timeline = Arc::new(Timeline::new(entries)?);
        for span in &gone {
            self.constellations.remove(&span.start);
        }
        pending.removed.iter().for_each(|record| live.stats.uncount(record));
        pending.added.iter().for_each(|record| live.stats.count(record));
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
        for (bucket, count) in &pending.dropped {
            self.lens.uncount(*bucket, *count);
        }
        self.shelves.remove(pending.dropped.iter().map(|(bucket, _)| *bucket), &gone);
        Ok(())
    }
}

/// What a batch will have changed.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) added: Vec<TrackRecord>,
    pub(super) removed: Vec<TrackRecord>,
    /// Buckets with postings of removed tracks, and how many.
    pub(super) dropped: Vec<(u32, u32)>,
}
