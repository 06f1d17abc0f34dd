//! Adding, replacing and removing: what each writes, in which order, and when readers see it.

use std::convert::Infallible;
use std::sync::Arc;

use rocksdb::WriteBatch;

use super::{CONSTELLATIONS, CONTENT, Inner, META, TRACKS, content_key, lock};
use crate::index::buffer::Buffer;
use crate::index::write::{self, Entry, Recording};
use crate::index::{Added, Change, IndexError, NewTrack, Span, TrackRecord, stored_peaks};

impl Inner {
    /// Adds what removes `record` to `batch`. Its postings then belong to no track, and a merge
    /// leaves them out some time.
    pub(super) fn remove_into(
        &self,
        record: TrackRecord,
        pending: &mut Pending,
        batch: &mut WriteBatch,
    ) {
        batch.delete_cf(self.family(CONSTELLATIONS), record.span.start.to_be_bytes());
        batch.delete_cf(self.family(CONTENT), content_key(&record.content_hash, &record.id));
        batch.delete_cf(self.family(TRACKS), record.id.as_str());
        pending.removed.push(record);
    }

    /// Adds the postings of a new track to the buffer, a part of the track at a time.
    ///
    /// Nobody sees them: their positions belong to no track until the record is committed. If that
    /// never happens, they are left out when the buffer becomes a segment.
    fn buffer_postings(&self, entry: &mut Entry, buffer: &Buffer) {
        let done =
            write::for_each_part(&entry.peaks, entry.record.span, &self.params, |postings| {
                entry.record.count_postings(postings.len());
                self.lens.count_all(postings);
                buffer.add(postings);
                Ok::<_, Infallible>(())
            });
        match done {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    fn put_entry(&self, entry: &Entry, batch: &mut WriteBatch) -> Result<(), IndexError> {
        let record = &entry.record;
        let peaks = stored_peaks::encode(&entry.peaks);
        batch.put_cf(self.family(CONSTELLATIONS), record.span.start.to_be_bytes(), peaks);
        batch.put_cf(self.family(CONTENT), content_key(&record.content_hash, &record.id), []);
        batch.put_cf(self.family(META), "next", record.span.end().to_be_bytes());
        self.put_record(record, batch)
    }

    pub(super) fn put_record(
        &self,
        record: &TrackRecord,
        batch: &mut WriteBatch,
    ) -> Result<(), IndexError> {
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
                if old.metadata == track.metadata {
                    return Ok(Added { change: Change::Unchanged, duplicate_of, record: old });
                }
                let record = TrackRecord { metadata: track.metadata.clone(), ..old };
                self.put_record(&record, batch)?;
                return Ok(Added { change: Change::MetadataUpdated, duplicate_of, record });
            }
            self.remove_into(old, pending, batch);
            change = Change::Replaced;
        }
        let record = self.insert_into(&track.into(), next, pending, batch)?;
        Ok(Added { change, duplicate_of, record })
    }

    /// Adds a track whose id is not there, or is removed by the same batch.
    fn insert_into(
        &self,
        recording: &Recording<'_>,
        next: &mut u32,
        pending: &mut Pending,
        batch: &mut WriteBatch,
    ) -> Result<TrackRecord, IndexError> {
        let mut entry = write::lay_out(recording, *next, &self.params)?;
        // Given out whether or not the batch succeeds.
        *next = entry.record.span.end();
        self.buffer_postings(&mut entry, &self.store().active);
        self.put_entry(&entry, batch)?;
        pending.added.push(entry.record.clone());
        Ok(entry.record)
    }

    /// Writes a batch of tracks with different ids just as they are told, in the place of those of
    /// the same ids.
    pub(super) fn put_distinct(
        &self,
        recordings: &[Recording<'_>],
        next: &mut u32,
    ) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        let mut pending = Pending::default();
        for recording in recordings {
            if let Some(old) = self.track(recording.id)? {
                self.remove_into(old, &mut pending, &mut batch);
            }
            self.insert_into(recording, next, &mut pending, &mut batch)?;
        }
        self.change(batch, &pending)
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
        self.change(batch, &pending)?;
        Ok(added)
    }

    /// Writes a change and makes it visible to readers.
    pub(super) fn change(&self, batch: WriteBatch, pending: &Pending) -> Result<(), IndexError> {
        let _changing = lock(&self.changing);
        if !batch.is_empty() {
            self.commit(batch)?;
        }
        self.publish(pending)
    }

    /// Makes a written change visible to readers.
    fn publish(&self, pending: &Pending) -> Result<(), IndexError> {
        if pending.added.is_empty() && pending.removed.is_empty() {
            return Ok(());
        }
        let mut live = self.live();
        let mut gone: Vec<Span> = pending.removed.iter().map(|record| record.span).collect();
        gone.sort_unstable();
        let added = pending.added.iter().map(|record| (record.span, record.id.clone()));
        live.timeline = Arc::new(live.timeline.changed(&gone, added)?);
        pending.removed.iter().for_each(|record| live.stats.uncount(record));
        pending.added.iter().for_each(|record| live.stats.count(record));
        self.change_live(live);
        Ok(())
    }
}

/// What a batch will have changed.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) added: Vec<TrackRecord>,
    pub(super) removed: Vec<TrackRecord>,
}
