//! Core types → messages.

use earmark_proto::v1;
use fingerprint_core::index::{Change, Metadata, TrackRecord};
use fingerprint_core::matching::{Match, MatchStatus};

pub(crate) fn metadata(metadata: Metadata) -> v1::Metadata {
    v1::Metadata {
        title: metadata.title.unwrap_or_default(),
        artist: metadata.artist.unwrap_or_default(),
        album: metadata.album.unwrap_or_default(),
        isrc: metadata.isrc.unwrap_or_default(),
        attributes: metadata.attributes.into_iter().collect(),
    }
}

/// An empty text means "not known".
pub(crate) fn metadata_in(metadata: v1::Metadata) -> Metadata {
    let known = |text: String| (!text.is_empty()).then_some(text);
    Metadata {
        title: known(metadata.title),
        artist: known(metadata.artist),
        album: known(metadata.album),
        isrc: known(metadata.isrc),
        attributes: metadata.attributes.into_iter().collect(),
    }
}

pub(crate) fn track(record: TrackRecord) -> v1::Track {
    let seconds = i64::try_from(record.added_at_ms / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(record.added_at_ms % 1000).unwrap_or(0) * 1_000_000;
    v1::Track {
        track_id: record.id.into(),
        metadata: Some(metadata(record.metadata)),
        duration_s: record.duration_s,
        content_hash: record.content_hash.to_string(),
        posting_count: record.posting_count,
        peak_count: record.peak_count,
        added_at: Some(prost_types::Timestamp { seconds, nanos }),
    }
}

pub(crate) fn change(change: Change) -> v1::add_track_response::Change {
    match change {
        Change::Inserted => v1::add_track_response::Change::Inserted,
        Change::Replaced => v1::add_track_response::Change::Replaced,
        Change::MetadataUpdated => v1::add_track_response::Change::MetadataUpdated,
        Change::Unchanged => v1::add_track_response::Change::Unchanged,
    }
}

pub(crate) fn match_status(status: MatchStatus) -> v1::MatchStatus {
    match status {
        MatchStatus::Matched => v1::MatchStatus::Matched,
        MatchStatus::NoMatch => v1::MatchStatus::NoMatch,
        MatchStatus::TooShort => v1::MatchStatus::TooShort,
        MatchStatus::Silent => v1::MatchStatus::Silent,
    }
}

pub(crate) fn found(found: Match) -> v1::Match {
    v1::Match {
        track_id: found.track_id.into(),
        metadata: Some(metadata(found.metadata)),
        score: found.score,
        confidence: Some(found.confidence),
        e_value: found.e_value,
        query_start_s: found.query_start_s,
        query_end_s: found.query_end_s,
        reference_start_s: found.reference_start_s,
        reference_end_s: found.reference_end_s,
        reference_offset_s: found.reference_offset_s,
        speed: Some(found.speed),
        pitch: found.pitch,
    }
}
