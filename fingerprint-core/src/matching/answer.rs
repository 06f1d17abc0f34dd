//! What a search answers: matches, best first, and what it took.

use std::time::Duration;

use serde::Serialize;

use crate::index::Metadata;
use crate::units::TrackId;

/// How a search ended. None of these is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchStatus {
    /// At least one match.
    Matched,
    /// Nothing in the index is in this audio, as far as can be said.
    NoMatch,
    /// The audio is too short to tell: less than one second.
    TooShort,
    /// The audio is silent: below −90 dB, or without a single peak.
    Silent,
}

/// The answer to one query.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchReport {
    /// How it ended.
    pub status: MatchStatus,
    /// Best first.
    pub matches: Vec<Match>,
    /// What the search took.
    pub spent: StageTimes,
}

/// What the stages of a search took, all windows and passes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Reading postings.
    pub lookup: Duration,
    /// From postings to candidates.
    pub vote: Duration,
    /// Comparing candidates peak by peak.
    pub verify: Duration,
}

/// One stretch of one track found in the query.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// Which track.
    pub track_id: TrackId,
    /// What is known of it.
    pub metadata: Metadata,
    /// Evidence of the alignment against chance, in nats, of the best 15 s of it.
    pub score: f64,
    /// Confidence that the match is no accident, 0 to 1.
    pub confidence: f64,
    /// E-value: chance alignments this good that are expected when an index of this size is
    /// searched with a query of this length.
    pub e_value: f64,
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
    /// Track seconds that pass in one query second: above 1 if the query is faster.
    pub speed: f64,
    /// Query frequency over track frequency: above 1 if the query is higher.
    pub pitch: f64,
    /// Stretches inside the match in which the track is not heard though nothing covers it, such as
    /// silence or other material edited in; ascending.
    pub gaps: Vec<Gap>,
    /// Other places of the track that fit the same stretch of the query nearly as well, because
    /// the track repeats itself; best first.
    pub alternatives: Vec<Alternative>,
}

/// A stretch inside a match without the track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// Where it begins in the query, in seconds.
    pub query_start_s: f64,
    /// Where it ends in the query, in seconds.
    pub query_end_s: f64,
}

/// Another place of the track that fits the same stretch of the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alternative {
    /// Where the evidence begins in the track, in seconds.
    pub reference_start_s: f64,
    /// Where it ends in the track, in seconds.
    pub reference_end_s: f64,
    /// As [`Match::score`].
    pub score: f64,
}
