//! Everything that is printed. Standard output is data, standard error is progress.
//!
//! # JSON contract
//!
//! `earmark match --format json` prints one [`QueryReport`] a line, in the order of the arguments.
//! Field names, their order and their units are stable; what is not computed is null.

use std::io::{self, Write};

use comfy_table::Table;
use fingerprint_core::matching::{Match, MatchStatus};
use serde::Serialize;

/// The answer to one clip.
#[derive(Debug, Serialize)]
pub(crate) struct QueryReport {
    /// The path as given.
    pub(crate) query: String,
    /// Length of the clip in seconds; null if it could not be decoded.
    pub(crate) duration_s: Option<f64>,
    /// Decoding, fingerprint and search, in milliseconds.
    pub(crate) elapsed_ms: f64,
    /// `matched`, `no_match`, `too_short`, `silent` or `error`.
    pub(crate) status: &'static str,
    /// Best first.
    pub(crate) matches: Vec<MatchRow>,
    /// What went wrong, or null.
    pub(crate) error: Option<String>,
}

/// One match; see [`Match`] for the meaning of the numbers.
#[derive(Debug, Serialize)]
pub(crate) struct MatchRow {
    track_id: String,
    title: Option<String>,
    artist: Option<String>,
    isrc: Option<String>,
    score: f64,
    confidence: f64,
    e_value: Option<f64>,
    query_start_s: f64,
    query_end_s: f64,
    reference_start_s: f64,
    reference_end_s: f64,
    reference_offset_s: f64,
    speed: f64,
    pitch: Option<f64>,
}

impl From<Match> for MatchRow {
    fn from(m: Match) -> Self {
        let milli = |x: f64| (x * 1e3).round() / 1e3;
        Self {
            track_id: m.track_id.to_string(),
            title: m.metadata.title,
            artist: m.metadata.artist,
            isrc: m.metadata.isrc,
            score: milli(m.score),
            confidence: m.confidence,
            e_value: m.e_value,
            query_start_s: milli(m.query_start_s),
            query_end_s: milli(m.query_end_s),
            reference_start_s: milli(m.reference_start_s),
            reference_end_s: milli(m.reference_end_s),
            reference_offset_s: milli(m.reference_offset_s),
            speed: m.speed,
            pitch: m.pitch,
        }
    }
}

pub(crate) fn status_name(status: MatchStatus) -> &'static str {
    match status {
        MatchStatus::Matched => "matched",
        MatchStatus::NoMatch => "no_match",
        MatchStatus::TooShort => "too_short",
        MatchStatus::Silent => "silent",
    }
}

/// Prints a line of data. A reader that went away is not an error.
pub(crate) fn line(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result,
    }
}

/// Prints a line of progress or a complaint.
pub(crate) fn note(text: &str) {
    // There is nowhere left to complain to if standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints any value as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(&serde_json::to_string(value)?)?)
}

/// Prints matches as a table for people.
pub(crate) fn human(report: &QueryReport) -> io::Result<()> {
    let Some(length) = report.duration_s else {
        return line(&format!("{}: {}", report.query, report.error.as_deref().unwrap_or("error")));
    };
    line(&format!("{} ({}): {}", report.query, clock(length), report.status.replace('_', " ")))?;
    if report.matches.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.set_header(["title", "artist", "track id", "in the clip", "in the track", "confidence"]);
    for m in &report.matches {
        let range = |from, to| format!("{} – {}", clock(from), clock(to));
        table.add_row([
            m.title.clone().unwrap_or_default(),
            m.artist.clone().unwrap_or_default(),
            m.track_id.clone(),
            range(m.query_start_s, m.query_end_s),
            range(m.reference_start_s, m.reference_end_s),
            format!("{:.4}", m.confidence),
        ]);
    }
    line(&table.to_string())
}

/// Prints matches as CSV rows: `query, status` and the fields of a match.
pub(crate) fn csv(report: &QueryReport, header: bool) -> anyhow::Result<()> {
    const HEADER: [&str; 10] = [
        "query",
        "status",
        "track_id",
        "title",
        "artist",
        "score",
        "confidence",
        "query_start_s",
        "query_end_s",
        "reference_offset_s",
    ];
    let mut writer = csv::Writer::from_writer(Vec::new());
    if header {
        writer.write_record(HEADER)?;
    }
    for m in &report.matches {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        writer.write_record([
            report.query.clone(),
            report.status.to_owned(),
            m.track_id.clone(),
            text(&m.title),
            text(&m.artist),
            m.score.to_string(),
            m.confidence.to_string(),
            m.query_start_s.to_string(),
            m.query_end_s.to_string(),
            m.reference_offset_s.to_string(),
        ])?;
    }
    if report.matches.is_empty() {
        let mut row = vec![report.query.clone(), report.status.to_owned()];
        row.resize(HEADER.len(), String::new());
        writer.write_record(row)?;
    }
    let text = String::from_utf8(writer.into_inner()?)?;
    if text.is_empty() { Ok(()) } else { Ok(line(text.trim_end())?) }
}

/// `m:ss.s`.
fn clock(seconds: f64) -> String {
    let tenths = (seconds * 10.0).round();
    let minutes = (tenths / 600.0).trunc();
    format!("{minutes:.0}:{:04.1}", (tenths - minutes * 600.0).abs() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_rounds_before_it_splits() {
        assert_eq!(clock(0.0), "0:00.0");
        assert_eq!(clock(59.96), "1:00.0");
        assert_eq!(clock(605.25), "10:05.3");
    }
}
