//! What adding and removing mean, once for both implementations.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{IndexError, NewTrack, POSITION_MS, Posting, Span, TrackRecord};
use crate::landmark::reference_landmarks;
use crate::params::Params;
use crate::peaks::Peak;

/// Everything that is stored for one track.
pub(super) struct Entry {
    pub(super) record: TrackRecord,
    pub(super) peaks: Vec<Peak>,
    /// Ascending, without repeats, with their buckets.
    pub(super) postings: Vec<(u32, Posting)>,
}

/// A batch is one change, so it can say only one thing about a track.
pub(super) fn refuse_repeated_ids(tracks: &[NewTrack]) -> Result<(), IndexError> {
    let mut ids: Vec<_> = tracks.iter().map(|track| &track.id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(IndexError::RepeatedId { id: pair[0].clone() }),
        None => Ok(()),
    }
}

/// The peaks of a fingerprint that an index keeps.
fn reference_peaks(peaks: &[Peak], params: &Params) -> Vec<Peak> {
    peaks.iter().filter(|peak| peak.rank <= params.reference_rank_max).copied().collect()
}

/// Postings of a constellation at `span`; the same from the stored peaks as from the fingerprint.
pub(super) fn postings(peaks: &[Peak], span: Span, params: &Params) -> Vec<(u32, Posting)> {
    let mut postings: Vec<_> = reference_landmarks(peaks, params)
        .into_iter()
        .map(|landmark| {
            let position = span.start + landmark.anchor_ms / POSITION_MS;
            (landmark.key.bucket, Posting { cell: landmark.key.cell, position })
        })
        .collect();
    postings.sort_unstable();
    postings.dedup();
    postings
}

/// Lays `track` out on the timeline from `start` on.
pub(super) fn lay_out(track: &NewTrack, start: u32, params: &Params) -> Result<Entry, IndexError> {
    let fingerprint = &track.fingerprint;
    let steps = fingerprint.duration_ms / u64::from(POSITION_MS) + 1;
    let last_ms = fingerprint.peaks.last().map_or(0, |peak| peak.time_ms);
    let steps = steps.max(u64::from(last_ms / POSITION_MS) + 1);
    // Peak times are 32-bit milliseconds.
    let limit = u64::from(u32::MAX / POSITION_MS);
    if steps > limit {
        return Err(IndexError::TooLong {
            id: track.id.clone(),
            duration_s: fingerprint.duration_s(),
            limit_s: limit as f64 * f64::from(POSITION_MS) / 1e3,
        });
    }
    let hours = f64::from(start) * f64::from(POSITION_MS) / 3.6e6;
    let len = u32::try_from(steps).map_err(|_| IndexError::Full { hours })?;
    start.checked_add(len).ok_or(IndexError::Full { hours })?;
    let span = Span { start, len };
    let peaks = reference_peaks(&fingerprint.peaks, params);
    let postings = postings(&peaks, span, params);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let record = TrackRecord {
        id: track.id.clone(),
        metadata: track.metadata.clone(),
        duration_s: fingerprint.duration_s(),
        content_hash: fingerprint.content_hash,
        peak_count: count(peaks.len()),
        posting_count: count(postings.len()),
        added_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        span,
    };
    Ok(Entry { record, peaks, postings })
}
