//! What adding and removing mean, once for both implementations.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    IndexError, Metadata, NewTrack, POSITION_MS, Posting, Span, TrackRecord, stored_peaks,
};
use crate::landmark::{Landmark, reference_landmarks};
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// Postings are made for this much of a track at a time, in steps of the timeline (about half an
/// hour, 100,000 postings), so that a track of a day needs no more memory than one of an hour.
const PART_STEPS: u32 = 1 << 14;

/// What is known of a track before it has a place on the timeline.
pub(super) struct Recording<'a> {
    pub(super) id: &'a TrackId,
    pub(super) metadata: &'a Metadata,
    pub(super) duration_s: f64,
    pub(super) content_hash: ContentHash,
    /// Milliseconds since 1970-01-01 UTC.
    pub(super) added_at_ms: u64,
    /// Ascending; those of higher ranks are not kept.
    pub(super) peaks: &'a [Peak],
}

/// A track that is added now.
impl<'a> From<&'a NewTrack> for Recording<'a> {
    fn from(track: &'a NewTrack) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            id: &track.id,
            metadata: &track.metadata,
            duration_s: track.fingerprint.duration_s(),
            content_hash: track.fingerprint.content_hash,
            added_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            peaks: &track.fingerprint.peaks,
        }
    }
}

/// What is stored for one track besides its postings.
pub(super) struct Entry {
    /// Without the number of postings, which is known when they have been made.
    pub(super) record: TrackRecord,
    /// Those of the fingerprint up to [`Params::reference_rank_max`], as they are stored.
    pub(super) peaks: Vec<Peak>,
}

/// The peaks of a fingerprint that an index keeps, as coarse as it keeps them.
fn reference_peaks(peaks: &[Peak], params: &Params) -> Vec<Peak> {
    let kept = peaks.iter().filter(|peak| peak.rank <= params.reference_rank_max);
    let mut peaks: Vec<_> = kept.map(|peak| stored_peaks::coarse(*peak)).collect();
    peaks.sort_unstable();
    peaks.dedup();
    peaks
}

/// Refuses a batch that names a track twice.
pub(super) fn refuse_repeated_ids(tracks: &[NewTrack]) -> Result<(), IndexError> {
    let mut ids: Vec<_> = tracks.iter().map(|track| &track.id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(IndexError::RepeatedId { id: pair[0].clone() }),
        None => Ok(()),
    }
}

/// Calls `visit` with the postings of a constellation at `span`, part by part, sorted and
/// without repeats; the same from the stored peaks as from the fingerprint.
pub(super) fn for_each_part<E>(
    peaks: &[Peak],
    span: Span,
    params: &Params,
    mut visit: impl FnMut(&[Posting]) -> Result<(), E>,
) -> Result<(), E> {
    let mut anchors = 0..0;
    while anchors.end < peaks.len() {
        let part = peaks[anchors.end].time_ms / POSITION_MS / PART_STEPS;
        let len = peaks[anchors.end..]
            .partition_point(|peak| peak.time_ms / POSITION_MS / PART_STEPS == part);
        anchors = anchors.end..anchors.end + len;
        let landmarks = reference_landmarks(peaks, anchors.clone(), params);
        let posting = |landmark: Landmark| {
            let position = span.start + landmark.anchor_ms / POSITION_MS;
            Posting { key: landmark.key, position }
        };
        let mut postings: Vec<_> = landmarks.into_iter().map(posting).collect();
        postings.sort_unstable();
        postings.dedup();
        visit(&postings)?;
    }
    Ok(())
}

/// Steps of the timeline that a track with these peaks takes.
pub(super) fn span_len(peaks: &[Peak]) -> u32 {
    peaks.last().map_or(0, |peak| peak.time_ms) / POSITION_MS + 1
}

/// Lays a track out on the timeline from `start` on.
pub(super) fn lay_out(
    recording: &Recording<'_>,
    start: u32,
    params: &Params,
) -> Result<Entry, IndexError> {
    let peaks = reference_peaks(recording.peaks, params);
    // Positions are never given out twice, so a track gets no more than its peaks need, whatever
    // duration it claims.
    let len = span_len(&peaks);
    let hours = f64::from(start) * f64::from(POSITION_MS) / 3.6e6;
    start.checked_add(len).ok_or(IndexError::Full { hours })?;
    let span = Span { start, len };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let record = TrackRecord {
        id: recording.id.clone(),
        metadata: recording.metadata.clone(),
        duration_s: recording.duration_s,
        content_hash: recording.content_hash,
        peak_count: count(peaks.len()),
        posting_count: 0,
        added_at_ms: recording.added_at_ms,
        span,
    };
    Ok(Entry { record, peaks })
}
