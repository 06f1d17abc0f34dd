//! The answers of `earmark match`, as tables, JSON or CSV.

use anyhow::Result;

use super::{clock, csv_line, json, line, printable, table};
use crate::args::Format;
use crate::contract::{MatchRow, QueryRow, Status};

/// Columns of the CSV form: those of the answer, then those of one match.
const CSV_HEADER: [&str; 19] = [
    "query",
    "status",
    "error",
    "duration_s",
    "elapsed_ms",
    "track_id",
    "title",
    "artist",
    "isrc",
    "score",
    "confidence",
    "e_value",
    "query_start_s",
    "query_end_s",
    "reference_start_s",
    "reference_end_s",
    "reference_offset_s",
    "speed",
    "pitch",
];
/// Least change of speed or pitch that is told: smaller ones are within the error of short clips.
const PLAYED_CHANGE_MIN: f64 = 0.005;
/// Columns of one match among them.
const CSV_MATCH_LEN: usize = 14;

/// Prints what stands above all answers.
pub(crate) fn print_header(format: Format) -> Result<()> {
    match format {
        Format::Csv => Ok(line(&csv_line(CSV_HEADER)?)?),
        Format::Human | Format::Json => Ok(()),
    }
}

/// Prints one answer.
pub(crate) fn print(row: &QueryRow, format: Format) -> Result<()> {
    match format {
        Format::Human => Ok(line(&human(row))?),
        Format::Json => json(row),
        Format::Csv => csv(row)?.iter().try_for_each(|text| Ok(line(text)?)),
    }
}

fn human(row: &QueryRow) -> String {
    let query = if row.query == "-" { "standard input" } else { &row.query };
    let outcome = match row.status {
        Status::Matched => "",
        Status::NoMatch => "no match",
        Status::TooShort => "too short to tell",
        Status::Silent => "silent",
        Status::Error => {
            let reason = row.error.as_deref().unwrap_or("unknown error");
            // Most reasons begin with the path already.
            let text = if reason.starts_with(query) {
                reason.to_owned()
            } else {
                format!("{query}: {reason}")
            };
            return printable(&text);
        }
    };
    let length = row.duration_s.map(clock).unwrap_or_default();
    let head = format!("{} ({length}): {outcome}", printable(query));
    if row.matches.is_empty() {
        return head;
    }
    let mut table = table([
        "title",
        "artist",
        "track id",
        "in the clip",
        "in the track",
        "played",
        "confidence",
    ]);
    for found in &row.matches {
        let text = |field: &Option<String>| field.as_deref().map(printable).unwrap_or_default();
        let range = |from, to| format!("{} – {}", clock(from), clock(to));
        table.add_row([
            text(if found.title.is_some() { &found.title } else { &found.file_name }),
            text(&found.artist),
            printable(&found.track_id),
            range(found.query_start_s, found.query_end_s),
            range(found.reference_start_s, found.reference_end_s),
            played(found),
            found.confidence.map(percent).unwrap_or_default(),
        ]);
    }
    let notes: Vec<String> = row.matches.iter().filter_map(note).collect();
    let text = format!("{}\n{table}", head.trim_end());
    if notes.is_empty() { text } else { format!("{text}\n{}", notes.join("\n")) }
}

/// What the table has no room for: where the track is not heard, and where else it fits.
fn note(found: &MatchRow) -> Option<String> {
    let gaps: Vec<String> = found
        .gaps
        .iter()
        .map(|gap| format!("{} – {}", clock(gap.query_start_s), clock(gap.query_end_s)))
        .collect();
    let others: Vec<String> =
        found.alternatives.iter().map(|other| clock(other.reference_start_s)).collect();
    let parts = [("not heard at", gaps), ("fits as well from", others)];
    let told: Vec<String> = parts
        .into_iter()
        .filter(|(_, places)| !places.is_empty())
        .map(|(what, places)| format!("{what} {}", places.join(", ")))
        .collect();
    let told = told.join("; ");
    (!told.is_empty()).then(|| format!("{}: {told}", printable(&found.track_id)))
}

/// What a track is called where there is room for one name only.
pub(super) fn title(found: &MatchRow) -> String {
    let title = found.title.as_ref().or(found.file_name.as_ref()).unwrap_or(&found.track_id);
    match &found.artist {
        Some(artist) => format!("{artist} – {title}"),
        None => title.clone(),
    }
}

/// How the clip plays the track: what was done to its speed, tempo or pitch, if anything.
pub(super) fn played(found: &MatchRow) -> String {
    let (Some(speed), Some(pitch)) = (found.speed, found.pitch) else { return String::new() };
    let is_changed = |factor: f64| (factor - 1.0).abs() >= PLAYED_CHANGE_MIN;
    let change = |factor: f64| format!("{:+.1} %", (factor - 1.0) * 100.0);
    let cents = 1200.0 * pitch.log2();
    match (is_changed(speed), is_changed(pitch)) {
        (false, false) => "unchanged".to_owned(),
        (true, true) if (speed / pitch - 1.0).abs() < PLAYED_CHANGE_MIN => {
            format!("speed {}", change(speed))
        }
        (true, false) => format!("tempo {}", change(speed)),
        (false, true) => format!("pitch {cents:+.0} cents"),
        (true, true) => format!("tempo {}, pitch {cents:+.0} cents", change(speed)),
    }
}

/// A confidence in per cent, never rounded up to certainty.
pub(super) fn percent(confidence: f64) -> String {
    let tenths = (confidence * 1000.0).floor() / 10.0;
    if confidence < 1.0 && tenths >= 99.9 { "> 99.9 %".into() } else { format!("{tenths:.1} %") }
}

/// One line for each match, or one with empty columns.
fn csv(row: &QueryRow) -> Result<Vec<String>> {
    let answer = [
        row.query.clone(),
        row.status.as_str().to_owned(),
        row.error.clone().unwrap_or_default(),
        number(row.duration_s),
        row.elapsed_ms.to_string(),
    ];
    if row.matches.is_empty() {
        let columns = answer.into_iter().chain(std::iter::repeat_n(String::new(), CSV_MATCH_LEN));
        return Ok(vec![csv_line(columns)?]);
    }
    let match_line = |found: &MatchRow| csv_line(answer.iter().cloned().chain(csv_columns(found)));
    row.matches.iter().map(match_line).collect()
}

fn csv_columns(found: &MatchRow) -> [String; CSV_MATCH_LEN] {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    [
        found.track_id.clone(),
        text(&found.title),
        text(&found.artist),
        text(&found.isrc),
        found.score.to_string(),
        number(found.confidence),
        number(found.e_value),
        found.query_start_s.to_string(),
        found.query_end_s.to_string(),
        found.reference_start_s.to_string(),
        found.reference_end_s.to_string(),
        found.reference_offset_s.to_string(),
        number(found.speed),
        number(found.pitch),
    ]
}

/// As in JSON: tiny numbers have an exponent instead of a hundred zeros.
fn number(value: Option<f64>) -> String {
    value.map(|value| format!("{value:?}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: Status, matches: Vec<MatchRow>) -> QueryRow {
        let error = (status == Status::Error).then(|| "clip.wav: could not be read".to_owned());
        QueryRow {
            query: "clip.wav".into(),
            duration_s: Some(10.0),
            elapsed_ms: 1.5,
            status,
            matches,
            error,
        }
    }

    fn found() -> MatchRow {
        MatchRow {
            track_id: "T1".into(),
            title: None,
            artist: Some("A\u{1b}[2J".into()),
            isrc: None,
            score: 100.0,
            confidence: Some(0.9999),
            e_value: Some(3.1e-106),
            query_start_s: 0.0,
            query_end_s: 10.0,
            reference_start_s: 60.0,
            reference_end_s: 70.0,
            reference_offset_s: 60.0,
            speed: Some(1.0),
            pitch: None,
            gaps: Vec::new(),
            alternatives: Vec::new(),
            file_name: Some("take 7.wav".into()),
        }
    }

    #[test]
    fn the_table_says_what_and_where_and_cannot_be_abused() {
        let text = human(&row(Status::Matched, vec![found()]));
        for part in ["clip.wav (0:10.0)", "take 7.wav", "T1", "1:00.0 – 1:10.0", "> 99.9 %"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn gaps_and_other_places_stand_below_the_table() {
        use crate::contract::{AlternativeRow, GapRow};
        let gap = GapRow { query_start_s: 3.5, query_end_s: 6.5 };
        let other = AlternativeRow { reference_start_s: 90.0, reference_end_s: 99.0, score: 80.0 };
        let found = MatchRow { gaps: vec![gap], alternatives: vec![other], ..found() };
        let text = human(&row(Status::Matched, vec![found]));
        let note = "T1: not heard at 0:03.5 – 0:06.5; fits as well from 1:30.0";
        assert_eq!(text.lines().last(), Some(note));
    }

    #[test]
    fn an_outcome_without_matches_is_one_line() {
        assert_eq!(human(&row(Status::NoMatch, Vec::new())), "clip.wav (0:10.0): no match");
        assert_eq!(human(&row(Status::Error, Vec::new())), "clip.wav: could not be read");
    }

    #[test]
    fn every_csv_line_has_all_columns() {
        for row in [row(Status::NoMatch, vec![]), row(Status::Matched, vec![found(), found()])] {
            for text in csv(&row).unwrap() {
                assert_eq!(text.split(',').count(), CSV_HEADER.len(), "{text}");
                assert_eq!(text.contains("3.1e-106"), !row.matches.is_empty(), "{text}");
            }
        }
    }

    #[test]
    fn a_change_of_speed_is_told_by_its_kind() {
        let told =
            |speed, pitch| played(&MatchRow { speed: Some(speed), pitch: Some(pitch), ..found() });
        assert_eq!(told(1.001, 0.999), "unchanged");
        assert_eq!(told(1.08, 1.0795), "speed +8.0 %");
        assert_eq!(told(0.9, 1.0), "tempo -10.0 %");
        assert_eq!(told(1.0, 0.8909), "pitch -200 cents");
        assert_eq!(told(1.04, 1.0595), "tempo +4.0 %, pitch +100 cents");
    }

    #[test]
    fn certainty_is_not_claimed_by_rounding() {
        assert_eq!(percent(0.9995), "> 99.9 %");
        assert_eq!(percent(0.9989), "99.8 %");
        assert_eq!(percent(1.0), "100.0 %");
    }
}
