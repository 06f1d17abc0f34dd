//! What `earmark match --format json` prints: the contract that other programs rely on.
//!
//! Names, order and meaning of the fields are pinned by a golden test and described in
//! `earmark match --help`. A field may be added behind the others; none is renamed or removed.
//! What is not known or not computed is null, never a made-up value.

pub(crate) mod live;

use earmark_proto::v1;
use fingerprint_core::index::Metadata;
use fingerprint_core::matching::{Alternative, Gap, Match, MatchStatus};
use serde::Serialize;

/// The answer to one file: one line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct QueryRow {
    /// The path as given; `-` is standard input.
    pub(crate) query: String,
    /// Length of the decoded clip in seconds; null after an error.
    pub(crate) duration_s: Option<f64>,
    /// Time from reading the file to the answer, in milliseconds.
    pub(crate) elapsed_ms: f64,
    pub(crate) status: Status,
    /// Best first; empty unless `status` is `matched`.
    pub(crate) matches: Vec<MatchRow>,
    /// What went wrong, if `status` is `error`.
    pub(crate) error: Option<String>,
}

/// How the search for one file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Matched,
    NoMatch,
    TooShort,
    Silent,
    Error,
}

/// One stretch of one track, found in the clip. All times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MatchRow {
    pub(crate) track_id: String,
    pub(crate) title: Option<String>,
    pub(crate) artist: Option<String>,
    pub(crate) isrc: Option<String>,
    /// Log-likelihood ratio against chance, in nats.
    pub(crate) score: f64,
    /// Confidence that the match is no accident, 0 to 1.
    pub(crate) confidence: Option<f64>,
    /// Accidental matches this good to be expected in this index.
    pub(crate) e_value: Option<f64>,
    pub(crate) query_start_s: f64,
    pub(crate) query_end_s: f64,
    pub(crate) reference_start_s: f64,
    pub(crate) reference_end_s: f64,
    /// Track time at clip time 0; negative if the clip begins before the track.
    pub(crate) reference_offset_s: f64,
    /// Track seconds that pass in one clip second.
    pub(crate) speed: Option<f64>,
    /// Clip frequency over track frequency.
    pub(crate) pitch: Option<f64>,
    /// Stretches of the clip inside the match in which the track is not heard.
    pub(crate) gaps: Vec<GapRow>,
    /// Other places of the track that fit nearly as well, best first.
    pub(crate) alternatives: Vec<AlternativeRow>,
    /// What stands in for a missing title on a screen; no part of the contract.
    #[serde(skip)]
    pub(crate) file_name: Option<String>,
}

/// A stretch of the clip, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct GapRow {
    pub(crate) query_start_s: f64,
    pub(crate) query_end_s: f64,
}

/// A place in the track, in seconds, and how well it fits, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct AlternativeRow {
    pub(crate) reference_start_s: f64,
    pub(crate) reference_end_s: f64,
    pub(crate) score: f64,
}

impl GapRow {
    fn new(query_start_s: f64, query_end_s: f64) -> Self {
        Self { query_start_s: to_milli(query_start_s), query_end_s: to_milli(query_end_s) }
    }
}

impl AlternativeRow {
    fn new(reference_start_s: f64, reference_end_s: f64, score: f64) -> Self {
        Self {
            reference_start_s: to_milli(reference_start_s),
            reference_end_s: to_milli(reference_end_s),
            score: to_milli(score),
        }
    }
}

impl From<Gap> for GapRow {
    fn from(gap: Gap) -> Self {
        Self::new(gap.query_start_s, gap.query_end_s)
    }
}

impl From<v1::Gap> for GapRow {
    fn from(gap: v1::Gap) -> Self {
        Self::new(gap.query_start_s, gap.query_end_s)
    }
}

impl From<Alternative> for AlternativeRow {
    fn from(other: Alternative) -> Self {
        Self::new(other.reference_start_s, other.reference_end_s, other.score)
    }
}

impl From<v1::Alternative> for AlternativeRow {
    fn from(other: v1::Alternative) -> Self {
        Self::new(other.reference_start_s, other.reference_end_s, other.score)
    }
}

impl Status {
    /// The text of the contract.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::NoMatch => "no_match",
            Self::TooShort => "too_short",
            Self::Silent => "silent",
            Self::Error => "error",
        }
    }
}

impl From<MatchStatus> for Status {
    fn from(status: MatchStatus) -> Self {
        match status {
            MatchStatus::Matched => Self::Matched,
            MatchStatus::NoMatch => Self::NoMatch,
            MatchStatus::TooShort => Self::TooShort,
            MatchStatus::Silent => Self::Silent,
        }
    }
}

impl From<Match> for MatchRow {
    fn from(found: Match) -> Self {
        let Metadata { title, artist, isrc, mut attributes, .. } = found.metadata;
        Self {
            track_id: found.track_id.into(),
            title,
            artist,
            isrc,
            score: to_milli(found.score),
            confidence: Some(found.confidence),
            e_value: Some(to_order(found.e_value)),
            query_start_s: to_milli(found.query_start_s),
            query_end_s: to_milli(found.query_end_s),
            reference_start_s: to_milli(found.reference_start_s),
            reference_end_s: to_milli(found.reference_end_s),
            reference_offset_s: to_milli(found.reference_offset_s),
            speed: Some(to_factor(found.speed)),
            pitch: Some(to_factor(found.pitch)),
            gaps: found.gaps.into_iter().map(GapRow::from).collect(),
            alternatives: found.alternatives.into_iter().map(AlternativeRow::from).collect(),
            file_name: attributes.remove(FILE_ATTRIBUTE),
        }
    }
}

impl From<v1::Match> for MatchRow {
    fn from(found: v1::Match) -> Self {
        let v1::Metadata { title, artist, isrc, mut attributes, .. } =
            found.metadata.unwrap_or_default();
        let known = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            track_id: found.track_id,
            title: known(title),
            artist: known(artist),
            isrc: known(isrc),
            score: to_milli(found.score),
            confidence: found.confidence,
            e_value: found.e_value.map(to_order),
            query_start_s: to_milli(found.query_start_s),
            query_end_s: to_milli(found.query_end_s),
            reference_start_s: to_milli(found.reference_start_s),
            reference_end_s: to_milli(found.reference_end_s),
            reference_offset_s: to_milli(found.reference_offset_s),
            speed: found.speed.map(to_factor),
            pitch: found.pitch.map(to_factor),
            gaps: found.gaps.into_iter().map(GapRow::from).collect(),
            alternatives: found.alternatives.into_iter().map(AlternativeRow::from).collect(),
            file_name: attributes.remove(FILE_ATTRIBUTE),
        }
    }
}

/// Attribute that keeps the name of a file of which nothing else is known.
pub(crate) const FILE_ATTRIBUTE: &str = "file";

/// Thousandths are finer than any of these numbers is known.
pub(crate) fn to_milli(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Three digits of a number that is known to its order at best.
fn to_order(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// Hundredths of a per cent, finer than a change of speed or pitch is known.
fn to_factor(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query_row(status: Status) -> QueryRow {
        QueryRow {
            query: "clips/a b.mp3".into(),
            duration_s: Some(10.0),
            elapsed_ms: 12.345,
            status,
            matches: Vec::new(),
            error: None,
        }
    }

    fn match_row() -> MatchRow {
        MatchRow {
            track_id: "T1".into(),
            title: Some("Cold Day".into()),
            artist: None,
            isrc: None,
            score: 123.456,
            confidence: Some(0.9999),
            e_value: Some(1e-12),
            query_start_s: 0.5,
            query_end_s: 9.75,
            reference_start_s: 62.5,
            reference_end_s: 71.75,
            reference_offset_s: 62.0,
            speed: Some(1.0),
            pitch: None,
            gaps: vec![GapRow::new(3.5, 6.5)],
            alternatives: vec![AlternativeRow::new(90.0, 99.25, 98.7654)],
            file_name: Some("no part of the contract".into()),
        }
    }

    // Byte for byte: renaming, reordering or leaving out a field breaks programs out there.
    #[test]
    fn golden_match() {
        let row = QueryRow { matches: vec![match_row()], ..query_row(Status::Matched) };
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            concat!(
                r#"{"query":"clips/a b.mp3","duration_s":10.0,"elapsed_ms":12.345,"#,
                r#""status":"matched","matches":[{"track_id":"T1","title":"Cold Day","#,
                r#""artist":null,"isrc":null,"score":123.456,"confidence":0.9999,"#,
                r#""e_value":1e-12,"query_start_s":0.5,"query_end_s":9.75,"#,
                r#""reference_start_s":62.5,"reference_end_s":71.75,"#,
                r#""reference_offset_s":62.0,"speed":1.0,"pitch":null,"#,
                r#""gaps":[{"query_start_s":3.5,"query_end_s":6.5}],"#,
                r#""alternatives":[{"reference_start_s":90.0,"reference_end_s":99.25,"#,
                r#""score":98.765}]}],"error":null}"#
            )
        );
    }

    #[test]
    fn golden_error() {
        let error = Some("a.mp3: could not be read".into());
        let row = QueryRow { duration_s: None, error, ..query_row(Status::Error) };
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            concat!(
                r#"{"query":"clips/a b.mp3","duration_s":null,"elapsed_ms":12.345,"#,
                r#""status":"error","matches":[],"error":"a.mp3: could not be read"}"#
            )
        );
    }

    #[test]
    fn each_status_has_one_name() {
        use Status::{Error, Matched, NoMatch, Silent, TooShort};
        let all = [Matched, NoMatch, TooShort, Silent, Error];
        let names = ["matched", "no_match", "too_short", "silent", "error"];
        assert_eq!(serde_json::to_value(all).unwrap(), serde_json::json!(names));
        assert_eq!(all.map(Status::as_str), names);
    }
}
