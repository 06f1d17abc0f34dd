//! Reading what is stored about tracks: their records, their peaks, their sizes.

use std::ops::Range;

use rocksdb::{Direction, IteratorMode};

use super::{CONSTELLATIONS, CONTENT, FORMAT_VERSION, Inner, TRACKS, corrupt, storage};
use crate::index::{IndexError, IndexStats, Span, TrackRecord, stored_peaks};
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

impl Inner {
    /// The stored tracks, and what they add up to.
    pub(super) fn read_tracks(&self) -> Result<(IndexStats, Vec<(Span, TrackId)>), IndexError> {
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
        Ok((stats, entries))
    }

    pub(super) fn track(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        let key = id.as_str().as_bytes();
        let value = self.db.get_cf(self.family(TRACKS), key).map_err(storage("read a track"))?;
        value.map(|value| parse_record(key, &value)).transpose()
    }

    pub(super) fn tracks(
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

    pub(super) fn tracks_with_content(
        &self,
        hash: &ContentHash,
    ) -> Result<Vec<TrackId>, IndexError> {
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

    pub(super) fn peaks(
        &self,
        span_start: u32,
        window: Range<u32>,
    ) -> Result<Option<Vec<Peak>>, IndexError> {
        let value = self
            .db
            .get_pinned_cf(self.family(CONSTELLATIONS), span_start.to_be_bytes())
            .map_err(storage("read the peaks of a track"))?;
        let Some(bytes) = value else {
            return match self.owner_of(span_start) {
                Some(id) => Err(corrupt(format!("track {id} has no peaks"))),
                None => Ok(None),
            };
        };
        let peaks = stored_peaks::decode(&bytes, window);
        peaks.map(Some).ok_or_else(|| {
            corrupt(format!("the peaks of the track at position {span_start} are damaged"))
        })
    }
}

/// Key of a track in the family that finds duplicates.
pub(super) fn content_key(hash: &ContentHash, id: &TrackId) -> Vec<u8> {
    [&hash.0, id.as_str().as_bytes()].concat()
}

pub(super) fn parse_record(key: &[u8], value: &[u8]) -> Result<TrackRecord, IndexError> {
    let id = String::from_utf8_lossy(key);
    let record: TrackRecord = serde_json::from_slice(value)
        .map_err(|error| corrupt(format!("the record of track {id} is damaged: {error}")))?;
    if record.id.as_str() != id {
        return Err(corrupt(format!("the record of track {id} names track {}", record.id)));
    }
    Ok(record)
}
