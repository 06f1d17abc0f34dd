//! JSON of the HTTP interface. Names, units and ranges are those of `earmark.v1`; what is unknown is
//! null.

use std::collections::BTreeMap;

use earmark_proto::v1;
use earmark_proto::v1::add_track_response::Change;
use serde::Serialize;
use utoipa::ToSchema;

/// The answer to one clip.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MatchAnswer {
    status: MatchStatus,
    /// Best first.
    matches: Vec<Match>,
    /// Length of the clip in seconds.
    duration_s: f64,
    /// Time the server spent on it, in milliseconds.
    elapsed_ms: f64,
    /// As the caller said.
    request_id: Option<String>,
}

/// How a search ended.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MatchStatus {
    /// `matches` has at least one match.
    Matched,
    /// Nothing of the catalog is in the clip.
    NoMatch,
    /// The clip is too short to be searched for.
    TooShort,
    /// Nothing is heard in the clip.
    Silent,
}

/// One stretch of one track, found in the clip.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Match {
    /// Id of the track.
    #[schema(examples("cold-day"))]
    track_id: String,
    metadata: Metadata,
    /// Evidence against chance, in nats.
    #[schema(examples(213.4))]
    score: f64,
    /// Confidence that it is no accident, 0 to 1.
    #[schema(examples(0.999))]
    confidence: Option<f64>,
    /// Chance alignments this good to be expected.
    #[schema(examples(1.5e-12))]
    e_value: Option<f64>,
    /// Where the stretch begins in the clip, in seconds.
    #[schema(examples(0.0))]
    query_start_s: f64,
    /// Where the stretch ends in the clip, in seconds.
    #[schema(examples(8.0))]
    query_end_s: f64,
    /// Where the stretch begins in the track, in seconds.
    #[schema(examples(12.0))]
    reference_start_s: f64,
    /// Where the stretch ends in the track, in seconds.
    #[schema(examples(20.0))]
    reference_end_s: f64,
    /// Track time at clip time 0, in seconds.
    #[schema(examples(12.0))]
    reference_offset_s: f64,
    /// Track seconds that pass in one second of the clip.
    #[schema(examples(1.0))]
    speed: Option<f64>,
    /// Clip frequency over track frequency.
    #[schema(examples(1.0))]
    pitch: Option<f64>,
    /// Stretches inside in which the track is not heard.
    gaps: Vec<Gap>,
    /// Other places of the track that fit nearly as well.
    alternatives: Vec<Alternative>,
}

/// A stretch of the clip.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Gap {
    /// Where it begins in the clip, in seconds.
    query_start_s: f64,
    /// Where it ends in the clip, in seconds.
    query_end_s: f64,
}

/// Another place of the track.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alternative {
    /// Where it begins in the track, in seconds.
    reference_start_s: f64,
    /// Where it ends in the track, in seconds.
    reference_end_s: f64,
    /// Evidence against chance, in nats.
    score: f64,
}

/// What is known of a recording besides its audio.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Metadata {
    /// Title of the recording.
    #[schema(examples("Cold Day"))]
    title: Option<String>,
    /// Who performs it.
    artist: Option<String>,
    /// Where it was published.
    album: Option<String>,
    /// International Standard Recording Code.
    isrc: Option<String>,
    /// Whatever else the caller has told.
    #[schema(examples(json!({"policy": "block"})))]
    attributes: BTreeMap<String, String>,
}

/// A stored recording.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Track {
    /// The caller's id, or one that follows from the audio.
    #[schema(examples("cold-day"))]
    track_id: String,
    metadata: Metadata,
    /// Its length in seconds.
    #[schema(examples(183.2))]
    duration_s: f64,
    /// BLAKE3 of the decoded audio, 64 hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    content_hash: String,
    /// Its postings in the index; without any (0) it can never be found: it is silent, or too short.
    #[schema(value_type = u64)]
    posting_count: u32,
    /// Its peaks in the index.
    #[schema(value_type = u64)]
    peak_count: u32,
    /// When it was added or last replaced, in milliseconds since 1970-01-01 UTC.
    #[schema(examples(1_790_000_000_000_i64))]
    added_at_ms: Option<i64>,
}

/// What adding did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddedTrack {
    /// The track as it is stored.
    track: Option<Track>,
    change: TrackChange,
    /// Other tracks with the very same audio.
    duplicate_of: Vec<String>,
}

/// What adding changed.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TrackChange {
    /// The track is new.
    Inserted,
    /// The track was there with other audio.
    Replaced,
    /// The track was there with this audio and other metadata.
    MetadataUpdated,
    /// The track was there as it is.
    Unchanged,
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
    /// Tracks in the index.
    track_count: u64,
    /// Their length together, in seconds.
    duration_s: f64,
    /// Their postings.
    posting_count: u64,
    /// Their peaks.
    peak_count: u64,
    /// Bytes by part of the index.
    bytes_by_part: BTreeMap<String, u64>,
    /// Format of the index.
    #[schema(value_type = u64)]
    format_version: u32,
    /// Which parameters it was made with; fingerprints must be of the same.
    params_digest: String,
    /// Release of the server.
    server_version: String,
    /// Postings of removed tracks, until a merge leaves them out.
    purgeable_posting_count: u64,
    /// Postings that are in memory only; nothing is lost with them.
    buffered_posting_count: u64,
    /// Memory of the server that is resident, in bytes, if its system tells.
    resident_bytes: Option<u64>,
}

fn known(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl From<v1::MatchResponse> for MatchAnswer {
    fn from(answer: v1::MatchResponse) -> Self {
        let status = match answer.status() {
            v1::MatchStatus::Matched => MatchStatus::Matched,
            v1::MatchStatus::NoMatch | v1::MatchStatus::Unspecified => MatchStatus::NoMatch,
            v1::MatchStatus::TooShort => MatchStatus::TooShort,
            v1::MatchStatus::Silent => MatchStatus::Silent,
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
            Change::Inserted => TrackChange::Inserted,
            Change::Replaced => TrackChange::Replaced,
            Change::MetadataUpdated => TrackChange::MetadataUpdated,
            Change::Unchanged | Change::Unspecified => TrackChange::Unchanged,
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
