//! placeholder
use serde::Serialize;

use crate::fingerprint::Fingerprint;
use crate::index::{Index, IndexError, Metadata};
use crate::params::Params;
use crate::units::TrackId;

/// What the caller wants of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchOptions {
    /// Most matches reported (default 10).
    pub matches_max: usize,
    /// Least confidence of a reported match, 0 to 1 (default 0: all above the built-in threshold).
    pub confidence_min: f64,
}

impl Default for MatchOptions {
    fn default() -> Self {
        Self { matches_max: 10, confidence_min: 0.0 }
    }
}

/// How a search ended. None of these is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchStatus {
    /// At least one match.
    Matched,
    /// Nothing in the index is in this audio, as far as can be said.
    NoMatch,
    /// The audio is too short to tell.
    TooShort,
    /// The audio is silent.
    Silent,
}

/// The answer to one query.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchReport {
    /// How it ended.
    pub status: MatchStatus,
    /// Best first.
    pub matches: Vec<Match>,
}

/// One stretch of one track found in the query.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// Which track.
    pub track_id: TrackId,
    /// What is known of it.
    pub metadata: Metadata,
    /// Log-likelihood ratio of the alignment against chance, in nats.
    pub score: f64,
    /// Probability that the match is no accident, 0 to 1.
    pub confidence: Option<f64>,
    /// Chance alignments this good expected for such a query in an index of this size.
    pub e_value: Option<f64>,
    /// Where the evidence begins in the query, in seconds.
    pub query_start_s: f64,
    /// Where it ends in the query, in seconds.
    pub query_end_s: f64,
    /// Where it begins in the track, in seconds.
    pub reference_start_s: f64,
    /// Where it ends in the track, in seconds.
    pub reference_end_s: f64,
    /// Track time at query time 0, in seconds; negative if the query begins before the track.
    pub reference_offset_s: f64,
    /// Track seconds that pass in one query second; 1.0 is unchanged.
    pub speed: Option<f64>,
    /// Query frequency over track frequency; 1.0 is unchanged.
    pub pitch: Option<f64>,
}

/// Searches `index` for the tracks that are in `query`.
///
/// # Errors
///
/// [`IndexError::Storage`] or [`IndexError::Corrupt`].
pub fn match_fingerprint(
    index: &dyn Index,
    query: &Fingerprint,
    options: &MatchOptions,
    params: &Params,
) -> Result<MatchReport, IndexError> {
    let _ = (index, query, options, params);
    todo!()
}
