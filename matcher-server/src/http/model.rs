//! JSON of the HTTP interface. Names, units and ranges are those of `earmark.v1`; what is unknown is
//! null.

use std::collections::BTreeMap;

use earmark_proto::v1;
use earmark_proto::v1::add_track_response::Change;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How to search; in the query of the address, or fields of a form.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MatchQuery {
    /// Most matches to report, 1 to 1000; 10 if not given.
    pub(crate) max_matches: Option<u32>,
    /// Least confidence of a reported match, 0 to 1.
    pub(crate) min_confidence: Option<f64>,
    /// Most false accepts by chance that are put up with, above 0 and at most 1; 0.0001 if not given.
    pub(crate) max_false_accepts: Option<f64>,
    /// Whether tracks of changed speed, tempo or pitch are searched for: `off`, `auto` or `full`.
    pub(crate) speed_search: Option<SpeedSearch>,
    /// Longest time the server may take, in milliseconds.
    pub(crate) deadline_ms: Option<u32>,
    /// The caller's name for the request, up to 128 bytes; it comes back with the answer.
    pub(crate) request_id: Option<String>,
}

/// Whether changed tracks are searched for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SpeedSearch {
    /// Never.
    Off,
    /// Where no unchanged track is found beyond doubt.
    Auto,
    /// Everywhere.
    Full,
}

impl MatchQuery {
    pub(crate) fn into_options(self) -> (v1::MatchOptions, String) {
        let speed_search = match self.speed_search {
            None => v1::SpeedSearch::Unspecified,
            Some(SpeedSearch::Off) => v1::SpeedSearch::Off,
            Some(SpeedSearch::Auto) => v1::SpeedSearch::Auto,
            Some(SpeedSearch::Full) => v1::SpeedSearch::Full,
        };
        let options = v1::MatchOptions {
            max_matches: self.max_matches.unwrap_or_default(),
            min_confidence: self.min_confidence.unwrap_or_default(),
            max_false_accepts: self.max_false_accepts,
            speed_search: speed_search.into(),
            deadline_ms: self.deadline_ms.unwrap_or_default(),
        };
        (options, self.request_id.unwrap_or_default())
    }
}

/// The answer to one clip.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MatchAnswer {
    /// `matched`, `no_match`, `too_short` or `silent`.
    status: &'static str,
    /// Best first.
    matches: Vec<Match>,
    /// Length of the clip in seconds.
    duration_s: f64,
    /// Time the server spent on it, in milliseconds.
    elapsed_ms: f64,
    /// As the caller said.
    request_id: Option<String>,
}

/// One stretch of one track, found in the clip.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Match {
    track_id: String,
    metadata: Metadata,
    /// Evidence against chance, in nats.
    score: f64,
    /// Confidence that it is no accident, 0 to 1.
    confidence: Option<f64>,
    /// Chance alignments this good to be expected.
    e_value: Option<f64>,
    query_start_s: f64,
    query_end_s: f64,
    reference_start_s: f64,
    reference_end_s: f64,
    /// Track time at clip time 0.
    reference_offset_s: f64,
    /// Track seconds that pass in one second of the clip.
    speed: Option<f64>,
    /// Clip frequency over track frequency.
    pitch: Option<f64>,
    /// Stretches inside in which the track is not heard.
    gaps: Vec<Gap>,
    /// Other places of the track that fit nearly as well.
    alternatives: Vec<Alternative>,
}

/// A stretch of the clip.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Gap {
    query_start_s: f64,
    query_end_s: f64,
}

/// Another place of the track.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alternative {
    reference_start_s: f64,
    reference_end_s: f64,
    score: f64,
}

/// What is known of a recording besides its audio.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Metadata {
    title: Option<String>,
    artist: Option<String>,
    album: Option<String>,
    isrc: Option<String>,
    attributes: BTreeMap<String, String>,
}

/// A stored recording.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Track {
    track_id: String,
    metadata: Metadata,
    duration_s: f64,
    /// BLAKE3 of the decoded audio, 64 hexadecimal digits.
    content_hash: String,
    posting_count: u32,
    peak_count: u32,
    /// When it was added or last replaced, in milliseconds since 1970-01-01 UTC.
    added_at_ms: Option<i64>,
}

/// What adding did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddedTrack {
    track: Option<Track>,
    /// `inserted`, `replaced`, `metadata_updated` or `unchanged`.
    change: &'static str,
    /// Other tracks with the very same audio.
    duplicate_of: Vec<String>,
}

/// A page of tracks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrackPage {
    /// Ascending by id.
    tracks: Vec<Track>,
    /// `page_token` of the next page; null on the last.
    next_page_token: Option<String>,
}

/// Sizes and counts of the index.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    track_count: u64,
    duration_s: f64,
    posting_count: u64,
    peak_count: u64,
    bytes_by_part: BTreeMap<String, u64>,
    format_version: u32,
    params_digest: String,
    server_version: String,
    purgeable_posting_count: u64,
    buffered_posting_count: u64,
    resident_bytes: Option<u64>,
}

fn known(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl From<v1::MatchResponse> for MatchAnswer {
    fn from(answer: v1::MatchResponse) -> Self {
        let status = match answer.status() {
            v1::MatchStatus::Matched => "matched",
            v1::MatchStatus::NoMatch | v1::MatchStatus::Unspecified => "no_match",
            v1::MatchStatus::TooShort => "too_short",
            v1::MatchStatus::Silent => "silent",
        };
        Self {
            status,
            matches: answer.matches.into_iter().map(Match::from).collect(),
            duration_s: answer.duration_s,
            elapsed_ms: answer.elapsed_ms,
            request_id: known(answer.request_id),
        }
    }
}

impl From<v1::Match> for Match {
    fn from(found: v1::Match) -> Self {
        let gap =
            |gap: v1::Gap| Gap { query_start_s: gap.query_start_s, query_end_s: gap.query_end_s };
        let alternative = |other: v1::Alternative| Alternative {
            reference_start_s: other.reference_start_s,
            reference_end_s: other.reference_end_s,
            score: other.score,
        };
        Self {
            track_id: found.track_id,
            metadata: found.metadata.unwrap_or_default().into(),
            score: found.score,
            confidence: found.confidence,
            e_value: found.e_value,
            query_start_s: found.query_start_s,
            query_end_s: found.query_end_s,
            reference_start_s: found.reference_start_s,
            reference_end_s: found.reference_end_s,
            reference_offset_s: found.reference_offset_s,
            speed: found.speed,
            pitch: found.pitch,
            gaps: found.gaps.into_iter().map(gap).collect(),
            alternatives: found.alternatives.into_iter().map(alternative).collect(),
        }
    }
}

impl From<v1::Metadata> for Metadata {
    fn from(metadata: v1::Metadata) -> Self {
        Self {
            title: known(metadata.title),
            artist: known(metadata.artist),
            album: known(metadata.album),
            isrc: known(metadata.isrc),
            attributes: metadata.attributes.into_iter().collect(),
        }
    }
}

impl From<v1::Track> for Track {
    fn from(track: v1::Track) -> Self {
        let added_at_ms =
            track.added_at.map(|at| at.seconds * 1_000 + i64::from(at.nanos / 1_000_000));
        Self {
            track_id: track.track_id,
            metadata: track.metadata.unwrap_or_default().into(),
            duration_s: track.duration_s,
            content_hash: track.content_hash,
            posting_count: track.posting_count,
            peak_count: track.peak_count,
            added_at_ms,
        }
    }
}

impl From<v1::AddTrackResponse> for AddedTrack {
    fn from(added: v1::AddTrackResponse) -> Self {
        let change = match added.change() {
            Change::Inserted => "inserted",
            Change::Replaced => "replaced",
            Change::MetadataUpdated => "metadata_updated",
            Change::Unchanged | Change::Unspecified => "unchanged",
        };
        Self { track: added.track.map(Track::from), change, duplicate_of: added.duplicate_of }
    }
}

impl From<v1::ListTracksResponse> for TrackPage {
    fn from(page: v1::ListTracksResponse) -> Self {
        Self {
            tracks: page.tracks.into_iter().map(Track::from).collect(),
            next_page_token: known(page.next_page_token),
        }
    }
}

impl From<v1::GetStatsResponse> for Stats {
    fn from(stats: v1::GetStatsResponse) -> Self {
        Self {
            track_count: stats.track_count,
            duration_s: stats.duration_s,
            posting_count: stats.posting_count,
            peak_count: stats.peak_count,
            bytes_by_part: stats.bytes_by_part.into_iter().collect(),
            format_version: stats.format_version,
            params_digest: stats.params_digest,
            server_version: stats.server_version,
            purgeable_posting_count: stats.purgeable_posting_count,
            buffered_posting_count: stats.buffered_posting_count,
            resident_bytes: stats.resident_bytes,
        }
    }
}
