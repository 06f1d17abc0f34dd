//! Messages of `earmark.v1` → the types of the commands. The server is another party: whatever
//! cannot be true is refused with a message that names the field.

use anyhow::{Context, Result, bail};
use earmark_proto::v1;
use fingerprint_core::index::backup::{Backup, BackupState, Contents};
use fingerprint_core::index::{
    BlockCacheStats, Change, IndexStats, ListLengths, Metadata, SegmentClass,
};
use fingerprint_core::matching::{MatchOptions, MatchStatus, SpeedSearch};
use fingerprint_core::units::TrackId;

use super::{Answer, Stats, Stored, Track};

pub(super) fn metadata(metadata: &Metadata) -> v1::Metadata {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    v1::Metadata {
        title: text(&metadata.title),
        artist: text(&metadata.artist),
        album: text(&metadata.album),
        isrc: text(&metadata.isrc),
        attributes: metadata.attributes.clone().into_iter().collect(),
    }
}

pub(super) fn speed_search(speed_search: SpeedSearch) -> v1::SpeedSearch {
    match speed_search {
        SpeedSearch::Off => v1::SpeedSearch::Off,
        SpeedSearch::Auto => v1::SpeedSearch::Auto,
        SpeedSearch::Full => v1::SpeedSearch::Full,
    }
}

/// Options of a search as a server takes them.
pub(crate) fn match_options(options: &MatchOptions) -> v1::MatchOptions {
    v1::MatchOptions {
        max_matches: u32::try_from(options.matches_max).unwrap_or(u32::MAX),
        min_confidence: options.confidence_min,
        max_false_accepts: Some(options.false_accepts_max),
        speed_search: speed_search(options.speed_search).into(),
        ..v1::MatchOptions::default()
    }
}

pub(super) fn answer(response: v1::MatchResponse) -> Result<Answer> {
    let status = match response.status() {
        v1::MatchStatus::Matched => MatchStatus::Matched,
        v1::MatchStatus::NoMatch => MatchStatus::NoMatch,
        v1::MatchStatus::TooShort => MatchStatus::TooShort,
        v1::MatchStatus::Silent => MatchStatus::Silent,
        v1::MatchStatus::Unspecified => {
            bail!("the server sent the unknown match status {}", response.status)
        }
    };
    let matches = response.matches.into_iter().map(Into::into).collect();
    Ok(Answer { duration_s: response.duration_s, status, matches })
}

pub(super) fn backup(backup: v1::Backup) -> Result<Backup> {
    let taken_at = backup.taken_at.unwrap_or_default().seconds;
    let state = match backup.state() {
        v1::backup::State::Verified => {
            let digest = &backup.params_digest;
            BackupState::Verified(Contents {
                track_count: backup.track_count,
                duration_s: backup.duration_s,
                format_version: backup.format_version,
                params_digest: u64::from_str_radix(digest, 16)
                    .with_context(|| format!("the server sent {digest:?} as params_digest"))?,
            })
        }
        v1::backup::State::Unverified => BackupState::Unverified,
        v1::backup::State::Damaged => {
            BackupState::Damaged { what: "the server's log says what".to_owned() }
        }
        v1::backup::State::Unspecified => {
            bail!("the server sent the unknown backup state {}", backup.state)
        }
    };
    Ok(Backup {
        id: backup.backup_id,
        taken_at_s: u64::try_from(taken_at).context("the server sent a taken_at before 1970")?,
        bytes: backup.bytes,
        added_bytes: backup.added_bytes,
        state,
    })
}

pub(super) fn track(track: v1::Track) -> Result<Track> {
    let id = TrackId::new(track.track_id).context("the server sent a wrong track_id")?;
    let known = |text: String| Some(text).filter(|text| !text.is_empty());
    let metadata = track.metadata.unwrap_or_default();
    let content_hash = track
        .content_hash
        .parse()
        .with_context(|| format!("the server sent a wrong content_hash of track {id}"))?;
    Ok(Track {
        id,
        metadata: Metadata {
            title: known(metadata.title),
            artist: known(metadata.artist),
            album: known(metadata.album),
            isrc: known(metadata.isrc),
            attributes: metadata.attributes.into_iter().collect(),
        },
        duration_s: track.duration_s,
        content_hash,
        peak_count: track.peak_count,
        posting_count: track.posting_count,
        added_at_ms: track.added_at.as_ref().and_then(added_at_ms),
    })
}

pub(super) fn stored(response: v1::AddTrackResponse) -> Result<Stored> {
    let change = match response.change() {
        v1::add_track_response::Change::Inserted => Change::Inserted,
        v1::add_track_response::Change::Replaced => Change::Replaced,
        v1::add_track_response::Change::MetadataUpdated => Change::MetadataUpdated,
        v1::add_track_response::Change::Unchanged => Change::Unchanged,
        v1::add_track_response::Change::Unspecified => {
            bail!("the server sent the unknown change {}", response.change)
        }
    };
    let track = track(response.track.context("the server did not say which track it stored")?)?;
    let duplicate_of: Result<_, _> = response.duplicate_of.into_iter().map(TrackId::new).collect();
    Ok(Stored {
        id: track.id,
        content_hash: track.content_hash,
        duration_s: track.duration_s,
        change,
        posting_count: track.posting_count,
        duplicate_of: duplicate_of.context("the server sent a wrong id in duplicate_of")?,
    })
}

/// Sizes and counts. What an older server does not tell is zero or `None`.
pub(super) fn stats(stats: v1::GetStatsResponse) -> Result<Stats> {
    let digest = &stats.params_digest;
    let params_digest = u64::from_str_radix(digest, 16)
        .with_context(|| format!("the server sent {digest:?} as digest of its parameters"))?;
    let class = |class: v1::SegmentClass| SegmentClass {
        postings_min: class.postings_min,
        segment_count: class.segment_count,
        posting_count: class.posting_count,
    };
    let lengths = |lengths: v1::ListLengths| ListLengths {
        list_count: lengths.list_count,
        median: lengths.median,
        p90: lengths.p90,
        p99: lengths.p99,
        p999: lengths.p999,
        longest: lengths.longest,
    };
    let cache = |cache: v1::BlockCache| BlockCacheStats {
        hit_count: cache.hit_count,
        miss_count: cache.miss_count,
        block_count: cache.block_count,
        bytes: cache.bytes,
        bytes_max: cache.bytes_max,
    };
    Ok(Stats {
        index: IndexStats {
            track_count: stats.track_count,
            duration_s: stats.duration_s,
            posting_count: stats.posting_count,
            peak_count: stats.peak_count,
            bytes_by_part: stats.bytes_by_part.into_iter().collect(),
            format_version: stats.format_version,
            params_digest,
            purgeable_posting_count: stats.purgeable_posting_count,
            buffered_posting_count: stats.buffered_posting_count,
            segments_by_size: stats.segments_by_size.into_iter().map(class).collect(),
            list_lengths: stats.list_lengths.map(lengths),
            block_cache: stats.block_cache.map(cache),
            resident_bytes: stats.resident_bytes,
        },
        server_version: Some(stats.server_version),
    })
}

fn added_at_ms(time: &prost_types::Timestamp) -> Option<u64> {
    let seconds = u64::try_from(time.seconds).ok()?;
    seconds.checked_mul(1000)?.checked_add(u64::try_from(time.nanos).ok()? / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_track() -> v1::Track {
        v1::Track { track_id: "a".into(), content_hash: "0".repeat(64), ..v1::Track::default() }
    }

    #[test]
    fn what_cannot_be_true_is_refused_and_named() {
        assert!(track(sent_track()).is_ok());
        let id = track(v1::Track { track_id: String::new(), ..sent_track() }).unwrap_err();
        assert!(format!("{id:#}").contains("track_id"), "{id:#}");
        let hash = track(v1::Track { content_hash: "x".into(), ..sent_track() }).unwrap_err();
        assert!(format!("{hash:#}").contains("content_hash"), "{hash:#}");
        assert!(answer(v1::MatchResponse::default()).is_err());
        assert!(stored(v1::AddTrackResponse::default()).is_err());
    }

    #[test]
    fn what_an_older_server_does_not_tell_is_not_known() {
        let sent = v1::GetStatsResponse {
            params_digest: "00ff".into(),
            track_count: 3,
            ..v1::GetStatsResponse::default()
        };
        let read = stats(sent.clone()).unwrap().index;
        assert_eq!((read.track_count, read.params_digest), (3, 255));
        assert_eq!((read.list_lengths, read.block_cache, read.resident_bytes), (None, None, None));
        let wrong = v1::GetStatsResponse { params_digest: "digest".into(), ..sent };
        assert!(format!("{:#}", stats(wrong).unwrap_err()).contains("parameters"));
    }

    #[test]
    fn times_outside_the_range_are_not_known() {
        let time = |seconds, nanos| added_at_ms(&prost_types::Timestamp { seconds, nanos });
        assert_eq!(time(1, 999_999_999), Some(1_999));
        assert_eq!(time(-1, 0), None);
        assert_eq!(time(i64::MAX, 0), None);
        assert_eq!(time(0, -1), None);
    }

    #[test]
    fn an_empty_text_is_a_field_that_is_not_known() {
        let sent = metadata(&Metadata { title: Some("t".into()), ..Metadata::default() });
        assert_eq!((sent.title.as_str(), sent.artist.as_str()), ("t", ""));
        let read = track(v1::Track { metadata: Some(sent), ..sent_track() }).unwrap();
        assert_eq!((read.metadata.title.as_deref(), read.metadata.artist), (Some("t"), None));
    }
}
