//! The index in memory: the obvious implementation, kept as test oracle and bench baseline.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    Added, Change, Index, IndexError, IndexStats, NewTrack, Posting, Timeline, TrackRecord, write,
};
use crate::hash::{Key, KeyRange};
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// An index that is gone when it is dropped.
#[derive(Debug)]
pub struct MemoryIndex {
    params: Params,
    state: RwLock<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    next_position: u32,
    tracks: BTreeMap<TrackId, (TrackRecord, Arc<[Peak]>)>,
    postings: BTreeSet<Posting>,
}

impl MemoryIndex {
    /// An empty index for fingerprints made with `params`.
    #[must_use]
    pub fn new(params: &Params) -> Self {
        Self { params: *params, state: RwLock::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, id: &TrackId) -> Option<TrackRecord> {
        let (record, _) = self.tracks.remove(id)?;
        let span = record.span;
        self.postings.retain(|posting| !span.contains(posting.position));
        Some(record)
    }

    fn with_content(&self, hash: &ContentHash) -> Vec<TrackId> {
        let same = self.tracks.values().filter(|(record, _)| record.content_hash == *hash);
        same.map(|(record, _)| record.id.clone()).collect()
    }

    fn add(&mut self, track: &NewTrack, params: &Params) -> Result<Added, IndexError> {
        let hash = &track.fingerprint.content_hash;
        let mut duplicate_of = self.with_content(hash);
        duplicate_of.retain(|id| *id != track.id);
        let mut change = Change::Inserted;
        if let Some((old, _)) = self.tracks.get_mut(&track.id) {
            if old.content_hash == *hash {
                let changed = old.metadata != track.metadata;
                old.metadata = track.metadata.clone();
                let change = if changed { Change::MetadataUpdated } else { Change::Unchanged };
                return Ok(Added { change, duplicate_of, record: old.clone() });
            }
            change = Change::Replaced;
        }
        let mut entry = write::lay_out(&track.into(), self.next_position, params)?;
        self.remove(&track.id);
        self.next_position = entry.record.span.end();
        write::for_each_part(&entry.peaks, entry.record.span, params, |postings| {
            entry.record.count_postings(postings.len());
            self.postings.extend(postings);
            Ok::<_, IndexError>(())
        })?;
        let record = entry.record.clone();
        self.tracks.insert(track.id.clone(), (entry.record, entry.peaks.into()));
        Ok(Added { change, duplicate_of, record })
    }
}

impl Index for MemoryIndex {
    fn add(&self, tracks: &[NewTrack]) -> Result<Vec<Added>, IndexError> {
        write::refuse_repeated_ids(tracks)?;
        let mut state = self.write();
        // Work on a copy: a batch is stored as a whole or not at all.
        let mut next = state.clone();
        let added =
            tracks.iter().map(|track| next.add(track, &self.params)).collect::<Result<_, _>>()?;
        *state = next;
        Ok(added)
    }

    fn remove(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        Ok(self.write().remove(id))
    }

    fn track(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        Ok(self.read().tracks.get(id).map(|(record, _)| record.clone()))
    }

    fn tracks(
        &self,
        after: Option<&TrackId>,
        limit: usize,
    ) -> Result<Vec<TrackRecord>, IndexError> {
        let state = self.read();
        let behind = state.tracks.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        Ok(behind.take(limit).map(|(_, (record, _))| record.clone()).collect())
    }

    fn tracks_with_content(&self, hash: &ContentHash) -> Result<Vec<TrackId>, IndexError> {
        Ok(self.read().with_content(hash))
    }

    fn bucket_len(&self, bucket: u32) -> u32 {
        let state = self.read();
        let bounds = |cell| Posting { key: Key { bucket, cell }, position: 0 };
        let len = state.postings.range(bounds(0)..=bounds(u16::MAX)).count();
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    fn read_postings(
        &self,
        ranges: &[KeyRange],
        visit: &mut dyn FnMut(usize, &[Posting]) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let state = self.read();
        for (i, range) in ranges.iter().enumerate() {
            let bounds =
                |bucket: &u32, cell| Posting { key: Key { bucket: *bucket, cell }, position: 0 };
            let stretch = bounds(range.buckets.start(), 0)..=bounds(range.buckets.end(), u16::MAX);
            let in_stretch = state.postings.range(stretch);
            let wanted: Vec<_> = in_stretch.filter(|p| range.contains(p.key)).copied().collect();
            if !wanted.is_empty() && visit(i, &wanted).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn peaks(&self, span_start: u32, window: Range<u32>) -> Result<Option<Vec<Peak>>, IndexError> {
        let state = self.read();
        let found = state.tracks.values().find(|(record, _)| record.span.start == span_start);
        let in_window = |peak: &&Peak| window.contains(&peak.time_ms);
        Ok(found.map(|(_, peaks)| peaks.iter().filter(in_window).copied().collect()))
    }

    fn timeline(&self) -> Arc<Timeline> {
        let state = self.read();
        let entries = state.tracks.values().map(|(r, _)| (r.span, r.id.clone())).collect();
        Arc::new(Timeline::new(entries).expect("spans are given out one behind the other"))
    }

    fn stats(&self) -> Result<IndexStats, IndexError> {
        let mut stats = IndexStats { params_digest: self.params.digest(), ..IndexStats::default() };
        self.read().tracks.values().for_each(|(record, _)| stats.count(record));
        Ok(stats)
    }
}
