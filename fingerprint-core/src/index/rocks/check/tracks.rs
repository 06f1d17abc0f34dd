//! Records of tracks: can they be understood, and do the tracks lie side by side?

use std::collections::BTreeSet;

use super::tally::Tally;
use super::{Check, Fault, LostTrack};
use crate::index::rocks::{CONSTELLATIONS, CONTENT, TRACKS, content_key, parse_record};
use crate::index::{IndexError, Span, TrackRecord};
use crate::units::{ContentHash, TrackId};

/// A track whose record can be understood.
#[derive(Debug, Clone)]
pub(in crate::index::rocks) struct Known {
    pub(in crate::index::rocks) id: TrackId,
    pub(in crate::index::rocks) span: Span,
    pub(super) content_hash: ContentHash,
    pub(super) duration_s: f64,
    pub(super) peak_count: u32,
    pub(super) posting_count: u32,
    /// Its postings as they follow from its peaks.
    pub(super) expected: Tally,
    /// There is a row for it in content.
    pub(super) has_content: bool,
}

impl From<TrackRecord> for Known {
    fn from(record: TrackRecord) -> Self {
        Self {
            id: record.id,
            span: record.span,
            content_hash: record.content_hash,
            duration_s: record.duration_s,
            peak_count: record.peak_count,
            posting_count: record.posting_count,
            expected: Tally::default(),
            has_content: false,
        }
    }
}

impl Check<'_> {
    /// The tracks in the order of the timeline.
    pub(super) fn read_tracks(&mut self) -> Result<Vec<Known>, IndexError> {
        let mut rows = self.rows(TRACKS);
        let mut tracks = Vec::new();
        while let Some((key, value)) = rows.next()? {
            match parse_record(key, value) {
                Ok(record) if is_possible(record.span) => tracks.push(Known::from(record)),
                Ok(record) => {
                    let what = format!("the span of track {} is impossible", record.id);
                    self.lose_record(key, what);
                }
                Err(IndexError::Corrupt { what }) => self.lose_record(key, what),
                Err(error) => return Err(error),
            }
            if tracks.len().is_multiple_of(1_000) {
                self.tell("reading records", tracks.len(), tracks.len());
            }
        }
        self.note_damage(TRACKS, rows.damage);
        tracks.sort_unstable_by(|a, b| (a.span, &a.id).cmp(&(b.span, &b.id)));
        Ok(self.keep_apart(tracks))
    }

    fn lose_record(&mut self, key: &[u8], what: String) {
        let id = String::from_utf8_lossy(key).into_owned();
        self.lost.extend(TrackId::new(id.clone()).ok());
        self.faults.push(Fault::Record { track_id: id, what });
        self.delete(TRACKS, key);
    }

    /// Gives up tracks that begin where another one does. A track that ends behind the start of the next
    /// is no reason to give up either: how long it is follows from its peaks.
    fn keep_apart(&mut self, tracks: Vec<Known>) -> Vec<Known> {
        let mut kept: Vec<Known> = Vec::with_capacity(tracks.len());
        for track in tracks {
            match kept.last() {
                Some(last) if last.span.start == track.span.start => {
                    let (track_id, other) = (track.id.clone(), last.id.clone());
                    self.faults.push(Fault::SamePlace { track_id, other });
                    self.lose_track(&track, false);
                }
                _ => kept.push(track),
            }
        }
        kept
    }

    /// Takes note that a track is to be taken out.
    pub(super) fn lose_track(&mut self, track: &Known, has_peaks: bool) {
        self.lost.insert(track.id.clone());
        self.delete(TRACKS, track.id.as_str().as_bytes());
        self.delete(CONTENT, &content_key(&track.content_hash, &track.id));
        if has_peaks {
            self.delete(CONSTELLATIONS, &track.span.start.to_be_bytes());
        }
    }

    /// The tracks that are not lost. Those without a row in content are told.
    pub(super) fn keep_whole(&mut self, mut tracks: Vec<Known>) -> Vec<Known> {
        tracks.retain(|track| !self.lost.contains(&track.id));
        for track in tracks.iter().filter(|track| !track.has_content) {
            self.faults.push(Fault::ContentMissing { track_id: track.id.clone() });
            self.mending.content.push((track.content_hash, track.id.clone()));
        }
        tracks
    }

    /// Positions at which peaks may lie that are to be deleted anyway.
    pub(super) fn given_up_positions(&self) -> BTreeSet<u32> {
        let of_peaks = self.mending.deleted.iter().filter(|(part, _)| *part == CONSTELLATIONS);
        of_peaks
            .filter_map(|(_, key)| Some(u32::from_be_bytes(key.as_ref().try_into().ok()?)))
            .collect()
    }

    /// The tracks that cannot be saved, with what their records say of them.
    pub(super) fn describe_lost(&self) -> Result<Vec<LostTrack>, IndexError> {
        let metadata = |id: &TrackId| match self.inner.track(id) {
            Ok(record) => record.map(|record| record.metadata),
            // That is why it is lost.
            Err(_) => None,
        };
        let describe = |id: &TrackId| LostTrack { track_id: id.clone(), metadata: metadata(id) };
        Ok(self.lost.iter().map(describe).collect())
    }
}

fn is_possible(span: Span) -> bool {
    span.len > 0 && span.start.checked_add(span.len).is_some()
}
