//! What an index of format 1 holds, as far as reindexing reads it. Nothing else knows that format:
//! when nobody has such an index any more, this file and the two places that call it can go.
//!
//! The layout is in `docs/format.md`. Its peaks are finer and reach one rank higher than those of
//! format 2, so that everything of format 2 follows from them; its postings are not read.

use serde::Deserialize;

use super::corrupt;
use super::old::OldTrack;
use crate::constellation;
use crate::index::{IndexError, Metadata};
use crate::params::Values;
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

pub(super) const VERSION: u32 = 1;

/// Digest of the one set of parameters that releases of format 1 had.
const PARAMS_DIGEST: u64 = 0x7c8f_7b92_f932_83eb;

/// Those of its parameters that stored peaks depend on.
const VALUES: [(&str, f64); 11] = [
    ("sample_rate_hz", 16_000.0),
    ("frame_len", 4_096.0),
    ("hop_len", 512.0),
    ("time_step_len", 16.0),
    ("freq_steps_per_bin", 16.0),
    ("band_low_hz", 150.0),
    ("band_high_hz", 5_500.0),
    ("floor_db", -100.0),
    ("rank_bins", 90.0),
    ("rank_frames", 5.0),
    ("reference_rank_max", 2.0),
];

/// A row of `tracks`, apart from what only its postings needed.
#[derive(Debug, Deserialize)]
struct Record {
    id: TrackId,
    metadata: Metadata,
    duration_s: f64,
    content_hash: ContentHash,
    added_at_ms: u64,
    span: Span,
}

#[derive(Debug, Deserialize)]
struct Span {
    start: u32,
}

/// The parameters that a digest stands for; `None` if no release had them.
pub(super) fn values(digest: u64) -> Option<Values> {
    let values = VALUES.into_iter().map(|(name, value)| (name.to_owned(), value));
    (digest == PARAMS_DIGEST).then(|| values.collect())
}

/// Reads a row of `tracks`.
pub(super) fn parse_track(key: &[u8], value: &[u8]) -> Result<OldTrack, IndexError> {
    let key = String::from_utf8_lossy(key);
    let record: Record = serde_json::from_slice(value)
        .map_err(|error| corrupt(format!("the record of track {key} is damaged: {error}")))?;
    if record.id.as_str() != key {
        return Err(corrupt(format!("the record of track {key} names track {}", record.id)));
    }
    Ok(OldTrack {
        id: record.id,
        metadata: record.metadata,
        duration_s: record.duration_s,
        content_hash: record.content_hash,
        added_at_ms: record.added_at_ms,
        span_start: record.span.start,
    })
}

/// Reads a row of `constellations`; `None` if it is damaged.
pub(super) fn decode_peaks(bytes: &[u8]) -> Option<Vec<Peak>> {
    constellation::decode(bytes).ok()
}
