//! Between the messages of `earmark.v1` and the types of the core.
//!
//! What comes in is hostile: every limit that the .proto files promise is checked here. What goes
//! out is copied field by field; an unknown text is empty on the wire and `None` in the core.

use earmark_proto::v1;
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::backup::{Backup, BackupState};
use fingerprint_core::index::{
    BlockCacheStats, Change, IndexStats, ListLengths, Metadata, SegmentClass, TrackRecord,
};
use fingerprint_core::matching::{
    Alternative, Gap, Match, MatchOptions, MatchReport, MatchStatus, SpeedSearch,
};
use fingerprint_core::params::Params;
use fingerprint_core::units::TrackId;
use tonic::Status;

use crate::reason::Reason;
use crate::status;

/// Largest metadata of a track: all names and values together.
pub(crate) const METADATA_BYTES_MAX: usize = 64 << 10;
/// Most matches a query may ask for.
pub(crate) const MATCHES_MAX: u32 = 1_000;
/// Most tracks of a page.
pub(crate) const PAGE_MAX: u32 = 1_000;
const PAGE_DEFAULT: usize = 100;
/// Longest name of a request in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Marks the tokens of this release.
const TOKEN_PREFIX: &str = "p1-";
/// Most peaks of a second of a fingerprint.
///
/// Neighbourhoods of 181 bins by 11 frames with at most 6 ranks each leave real audio near 92
/// peaks a second and below 600 in the worst case. Denser ones are made up, and matching them
/// would take time that grows with the square.
pub(crate) const PEAKS_PER_SECOND_MAX: usize = 2_000;

/// Refuses a name of a request that is too long.
pub(crate) fn check_request_id(request_id: &str) -> Result<(), Status> {
    if request_id.len() > REQUEST_ID_BYTES_MAX {
        let text = format!(
            "request_id has {} bytes, at most {REQUEST_ID_BYTES_MAX} are allowed",
            request_id.len()
        );
        return Err(Reason::ArgumentInvalid.status(text));
    }
    Ok(())
}

/// A backup. What is damaged in one is for the log: it has paths of this machine in it.
pub(crate) fn backup_message(backup: Backup) -> v1::Backup {
    let seconds = i64::try_from(backup.taken_at_s).unwrap_or(i64::MAX);
    let mut message = v1::Backup {
        backup_id: backup.id,
        taken_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        bytes: backup.bytes,
        added_bytes: backup.added_bytes,
        ..v1::Backup::default()
    };
    let state = match backup.state {
        BackupState::Verified(contents) => {
            message.track_count = contents.track_count;
            message.duration_s = contents.duration_s;
            message.format_version = contents.format_version;
            message.params_digest = format!("{:016x}", contents.params_digest);
            v1::backup::State::Verified
        }
        BackupState::Unverified => v1::backup::State::Unverified,
        BackupState::Damaged { what } => {
            tracing::warn!(backup_id = backup.id, what, "a backup is damaged");
            v1::backup::State::Damaged
        }
    };
    message.set_state(state);
    message
}

/// The id of a request.
pub(crate) fn track_id(id: String) -> Result<TrackId, Status> {
    TrackId::new(id).map_err(|error| status::from_track_id(&error))
}

/// The search options of a request; unset means the defaults.
pub(crate) fn match_options(options: Option<v1::MatchOptions>) -> Result<MatchOptions, Status> {
    let options = options.unwrap_or_default();
    if options.max_matches > MATCHES_MAX {
        let text = format!(
            "options.max_matches is {}, at most {MATCHES_MAX} are allowed",
            options.max_matches
        );
        return Err(Reason::ArgumentInvalid.status(text));
    }
    if !(0.0..=1.0).contains(&options.min_confidence) {
        let text =
            format!("options.min_confidence is {}, it must be 0 to 1", options.min_confidence);
        return Err(Reason::ArgumentInvalid.status(text));
    }
    let default = MatchOptions::default();
    let false_accepts_max = options.max_false_accepts.unwrap_or(default.false_accepts_max);
    if !(false_accepts_max > 0.0 && false_accepts_max <= 1.0) {
        let text = format!(
            "options.max_false_accepts is {false_accepts_max}, it must be above 0 and at most 1"
        );
        return Err(Reason::ArgumentInvalid.status(text));
    }
    let speed_search = speed_search(options.speed_search, "options")?;
    Ok(MatchOptions {
        matches_max: match options.max_matches {
            0 => default.matches_max,
            n => n as usize,
        },
        confidence_min: options.min_confidence,
        false_accepts_max,
        speed_search,
    })
}

/// Whether changed recordings are searched for; `within` names the message that says so.
pub(crate) fn speed_search(number: i32, within: &str) -> Result<SpeedSearch, Status> {
    match v1::SpeedSearch::try_from(number) {
        Ok(v1::SpeedSearch::Unspecified | v1::SpeedSearch::Auto) => Ok(SpeedSearch::Auto),
        Ok(v1::SpeedSearch::Off) => Ok(SpeedSearch::Off),
        Ok(v1::SpeedSearch::Full) => Ok(SpeedSearch::Full),
        Err(_) => {
            let text = format!("{within}.speed_search {number} is unknown");
            Err(Reason::ArgumentInvalid.status(text))
        }
    }
}

/// A fingerprint that came over the wire, no longer than `duration_max_s` seconds and no denser
/// than audio can be.
pub(crate) fn fingerprint(
    bytes: &[u8],
    duration_max_s: f64,
    params: &Params,
) -> Result<Fingerprint, Status> {
    let fingerprint = Fingerprint::from_bytes(bytes, params).map_err(status::from_fingerprint)?;
    if fingerprint.duration_s() > duration_max_s {
        let text = format!(
            "the fingerprint lasts {:.0} s, longer than the limit of {duration_max_s:.0} s; split it or raise the limit",
            fingerprint.duration_s()
        );
        return Err(Reason::TooLarge.status(text));
    }
    let too_dense = fingerprint
        .peaks
        .windows(PEAKS_PER_SECOND_MAX + 1)
        .any(|run| run[PEAKS_PER_SECOND_MAX].time_ms.saturating_sub(run[0].time_ms) < 1_000);
    if too_dense {
        let text = format!(
            "the fingerprint has more than {PEAKS_PER_SECOND_MAX} peaks in a second, which no audio has; make it again from the audio"
        );
        return Err(Reason::ArgumentInvalid.status(text));
    }
    Ok(fingerprint)
}

/// The metadata of an upload.
pub(crate) fn metadata(metadata: Option<v1::Metadata>) -> Result<Metadata, Status> {
    let metadata = metadata.unwrap_or_default();
    let v1::Metadata { title, artist, album, isrc, attributes } = metadata;
    let texts = [&title, &artist, &album, &isrc].map(String::len).iter().sum::<usize>();
    let bytes =
        texts + attributes.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    if bytes > METADATA_BYTES_MAX {
        let text = format!(
            "metadata has {bytes} bytes, at most {METADATA_BYTES_MAX} are stored; shorten it"
        );
        return Err(Reason::ArgumentInvalid.status(text));
    }
    let known = |text: String| (!text.is_empty()).then_some(text);
    Ok(Metadata {
        title: known(title),
        artist: known(artist),
        album: known(album),
        isrc: known(isrc),
        attributes: attributes.into_iter().collect(),
    })
}

fn metadata_message(metadata: Metadata) -> v1::Metadata {
    v1::Metadata {
        title: metadata.title.unwrap_or_default(),
        artist: metadata.artist.unwrap_or_default(),
        album: metadata.album.unwrap_or_default(),
        isrc: metadata.isrc.unwrap_or_default(),
        attributes: metadata.attributes.into_iter().collect(),
    }
}

/// A stored track.
pub(crate) fn track_message(record: TrackRecord) -> v1::Track {
    let seconds = i64::try_from(record.added_at_ms / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(record.added_at_ms % 1_000 * 1_000_000)
        .expect("less than a second in nanoseconds");
    v1::Track {
        track_id: record.id.into(),
        metadata: Some(metadata_message(record.metadata)),
        duration_s: record.duration_s,
        content_hash: record.content_hash.to_string(),
        posting_count: record.posting_count,
        peak_count: record.peak_count,
        added_at: Some(prost_types::Timestamp { seconds, nanos }),
    }
}

/// What adding did.
pub(crate) fn change_message(change: Change) -> v1::add_track_response::Change {
    use v1::add_track_response::Change as Message;
    match change {
        Change::Inserted => Message::Inserted,
        Change::Replaced => Message::Replaced,
        Change::MetadataUpdated => Message::MetadataUpdated,
        Change::Unchanged => Message::Unchanged,
    }
}

/// The answer to a query of `duration_s` seconds that took `elapsed_ms` milliseconds.
pub(crate) fn match_response(
    report: MatchReport,
    duration_s: f64,
    elapsed_ms: f64,
    request_id: String,
) -> v1::MatchResponse {
    let status = match report.status {
        MatchStatus::Matched => v1::MatchStatus::Matched,
        MatchStatus::NoMatch => v1::MatchStatus::NoMatch,
        MatchStatus::TooShort => v1::MatchStatus::TooShort,
        MatchStatus::Silent => v1::MatchStatus::Silent,
    };
    let matches = report.matches.into_iter().map(match_message).collect();
    v1::MatchResponse { status: status.into(), matches, duration_s, elapsed_ms, request_id }
}

/// A match.
pub(crate) fn match_message(found: Match) -> v1::Match {
    let gap = |gap: Gap| v1::Gap { query_start_s: gap.query_start_s, query_end_s: gap.query_end_s };
    let alternative = |other: Alternative| v1::Alternative {
        reference_start_s: other.reference_start_s,
        reference_end_s: other.reference_end_s,
        score: other.score,
    };
    v1::Match {
        track_id: found.track_id.into(),
        metadata: Some(metadata_message(found.metadata)),
        score: found.score,
        confidence: Some(found.confidence),
        e_value: Some(found.e_value),
        query_start_s: found.query_start_s,
        query_end_s: found.query_end_s,
        reference_start_s: found.reference_start_s,
        reference_end_s: found.reference_end_s,
        reference_offset_s: found.reference_offset_s,
        speed: Some(found.speed),
        pitch: Some(found.pitch),
        gaps: found.gaps.into_iter().map(gap).collect(),
        alternatives: found.alternatives.into_iter().map(alternative).collect(),
    }
}

/// Sizes and counts.
pub(crate) fn stats_message(stats: IndexStats) -> v1::GetStatsResponse {
    let class = |class: SegmentClass| v1::SegmentClass {
        postings_min: class.postings_min,
        segment_count: class.segment_count,
        posting_count: class.posting_count,
    };
    let lengths = |lengths: ListLengths| v1::ListLengths {
        list_count: lengths.list_count,
        median: lengths.median,
        p90: lengths.p90,
        p99: lengths.p99,
        p999: lengths.p999,
        longest: lengths.longest,
    };
    let cache = |cache: BlockCacheStats| v1::BlockCache {
        hit_count: cache.hit_count,
        miss_count: cache.miss_count,
        block_count: cache.block_count,
        bytes: cache.bytes,
        bytes_max: cache.bytes_max,
    };
    v1::GetStatsResponse {
        track_count: stats.track_count,
        duration_s: stats.duration_s,
        posting_count: stats.posting_count,
        peak_count: stats.peak_count,
        bytes_by_part: stats.bytes_by_part.into_iter().collect(),
        format_version: stats.format_version,
        params_digest: format!("{:016x}", stats.params_digest),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        purgeable_posting_count: stats.purgeable_posting_count,
        buffered_posting_count: stats.buffered_posting_count,
        segments_by_size: stats.segments_by_size.into_iter().map(class).collect(),
        list_lengths: stats.list_lengths.map(lengths),
        block_cache: stats.block_cache.map(cache),
        resident_bytes: stats.resident_bytes,
    }
}

/// Tracks of a page, 1 to [`PAGE_MAX`].
pub(crate) fn page_len(page_size: u32) -> Result<usize, Status> {
    match page_size {
        0 => Ok(PAGE_DEFAULT),
        1..=PAGE_MAX => Ok(page_size as usize),
        _ => {
            let text = format!("page_size is {page_size}, at most {PAGE_MAX} are allowed");
            Err(Reason::ArgumentInvalid.status(text))
        }
    }
}

/// The token of the page behind `last`: its id in hexadecimal digits, so that clients do not
/// take it for an id.
pub(crate) fn page_token(last: &TrackId) -> String {
    let digits = last.as_str().bytes().map(|byte| format!("{byte:02x}"));
    digits.fold(TOKEN_PREFIX.to_owned(), |token, byte| token + &byte)
}

/// The id that a page begins behind; `None` for the first page.
pub(crate) fn page_after(token: &str) -> Result<Option<TrackId>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let parse = || {
        let digits = token.strip_prefix(TOKEN_PREFIX)?.as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let bytes = pairs.iter().map(|[high, low]| Some(hex(*high)? << 4 | hex(*low)?));
        let id = String::from_utf8(bytes.collect::<Option<_>>()?).ok()?;
        rest.is_empty().then(|| TrackId::new(id).ok()).flatten()
    };
    parse().map(Some).ok_or_else(|| {
        Reason::ArgumentInvalid.status(
            "page_token is not one of this server; pass next_page_token of the page before, or nothing for the first page",
        )
    })
}

#[cfg(test)]
mod tests;
