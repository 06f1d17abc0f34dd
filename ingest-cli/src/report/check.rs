//! What `earmark check` found and mended.

use std::path::PathBuf;

use anyhow::Result;
use fingerprint_core::index::{CheckReport, Fault, LostTrack, RepairReport};
use serde::Serialize;

use super::{clock, count, counted, json, line, printable};
use crate::args::TextFormat;
use crate::contract::{FILE_ATTRIBUTE, to_milli};

/// Faults and lost tracks that people are told of, each; JSON has all.
const SHOWN_MAX: usize = 20;

/// What came of a check: one line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct CheckRow<'a> {
    status: Status,
    track_count: u64,
    duration_s: f64,
    posting_count: u64,
    purgeable_posting_count: u64,
    segment_count: u64,
    leftover_segment_count: u64,
    faults: Vec<FaultRow<'a>>,
    lost: &'a [LostTrack],
    remaining: Vec<FaultRow<'a>>,
    written_segment_count: u64,
    kept_files: Option<&'a PathBuf>,
    elapsed_s: f64,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Whole,
    Faulty,
    Repaired,
    PartlyRepaired,
}

/// A fault in data and words.
#[derive(Debug, Serialize)]
struct FaultRow<'a> {
    #[serde(flatten)]
    fault: &'a Fault,
    message: String,
    way_out: &'static str,
}

impl<'a> From<&'a Fault> for FaultRow<'a> {
    fn from(fault: &'a Fault) -> Self {
        Self { fault, message: fault.to_string(), way_out: fault.way_out() }
    }
}

impl<'a> CheckRow<'a> {
    /// Of a check that mends nothing.
    pub(crate) fn checked(report: &'a CheckReport, elapsed_s: f64) -> Self {
        let status = if report.is_whole() { Status::Whole } else { Status::Faulty };
        Self {
            status,
            track_count: report.track_count,
            duration_s: to_milli(report.duration_s),
            posting_count: report.posting_count,
            purgeable_posting_count: report.purgeable_posting_count,
            segment_count: report.segment_count,
            leftover_segment_count: report.leftover_segment_count,
            faults: report.faults.iter().map(FaultRow::from).collect(),
            lost: &report.lost,
            remaining: Vec::new(),
            written_segment_count: 0,
            kept_files: None,
            elapsed_s: to_milli(elapsed_s),
        }
    }

    /// Of a repair.
    pub(crate) fn repaired(report: &'a RepairReport, elapsed_s: f64) -> Self {
        let row = Self::checked(&report.before, elapsed_s);
        let Some(after) = &report.after else { return row };
        Self {
            status: if after.is_whole() { Status::Repaired } else { Status::PartlyRepaired },
            remaining: after.faults.iter().map(FaultRow::from).collect(),
            written_segment_count: report.segment_count,
            kept_files: report.kept_files.as_ref(),
            ..row
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.status == Status::Whole
    }
}

/// Prints what came of a check.
pub(crate) fn print(row: &CheckRow<'_>, format: TextFormat) -> Result<()> {
    if format == TextFormat::Json {
        return json(row);
    }
    for text in human(row) {
        line(&printable(&text))?;
    }
    Ok(())
}

fn human(row: &CheckRow<'_>) -> Vec<String> {
    let mut lines = vec![format!(
        "{}, {} of audio, {} in {} and in memory, checked in {}",
        counted(row.track_count, "track"),
        clock(row.duration_s),
        counted(row.posting_count, "posting"),
        counted(row.segment_count, "segment"),
        clock(row.elapsed_s),
    )];
    if row.purgeable_posting_count > 0 {
        let postings = count(row.purgeable_posting_count);
        lines.push(format!("postings of no track: {postings}; earmark compact purges them"));
    }
    let mends = matches!(row.status, Status::Repaired | Status::PartlyRepaired);
    let fault = |row: &FaultRow<'_>| match mends {
        true => format!("fault: {}", row.message),
        false => format!("fault: {} ({})", row.message, row.way_out),
    };
    shorten(&mut lines, "faults", row.faults.iter().map(fault));
    if mends && row.faults.iter().any(|fault| matches!(fault.fault, Fault::Log { .. })) {
        lines.push(
            "lost: changes behind the damage of the log; ingest again what was added last, and remove again \
             what was removed last"
                .to_owned(),
        );
    }
    shorten(&mut lines, "lost tracks", row.lost.iter().map(lost));
    if row.written_segment_count > 0 {
        let segments = counted(row.written_segment_count, "segment");
        lines.push(format!("made anew: {segments} of postings"));
    }
    if let Some(folder) = row.kept_files {
        lines.push(format!(
            "files as they were before the repair are kept in {}; delete them when you need them no more",
            folder.display()
        ));
    }
    let fault = |row: &FaultRow<'_>| format!("still there: {} ({})", row.message, row.way_out);
    shorten(&mut lines, "faults", row.remaining.iter().map(fault));
    lines.push(match row.status {
        Status::Whole => "the index is whole".to_owned(),
        Status::Faulty => {
            let faults = counted(row.faults.len() as u64, "fault");
            format!("{faults}; mend with earmark check --repair")
        }
        Status::Repaired => "all repaired; the index is whole".to_owned(),
        Status::PartlyRepaired => {
            "not all could be repaired; restore the index from a backup, or ingest the catalog into a \
             new folder"
                .to_owned()
        }
    });
    lines
}

fn lost(track: &LostTrack) -> String {
    let metadata = track.metadata.as_ref();
    let known = metadata.and_then(|m| m.title.as_ref().or(m.attributes.get(FILE_ATTRIBUTE)));
    let known = known.map(|title| format!(" ({title})")).unwrap_or_default();
    let id = &track.track_id;
    format!("lost: track {id}{known}; ingest its recording again: earmark ingest FILE")
}

/// Adds the first few, and how many more there are.
fn shorten(lines: &mut Vec<String>, what: &str, texts: impl ExactSizeIterator<Item = String>) {
    let hidden = texts.len().saturating_sub(SHOWN_MAX);
    lines.extend(texts.take(SHOWN_MAX));
    if hidden > 0 {
        let hidden = count(hidden as u64);
        lines.push(format!("and {hidden} more {what} (--format json lists all)"));
    }
}

#[cfg(test)]
mod tests {
    use fingerprint_core::units::TrackId;

    use super::*;

    fn id(number: usize) -> TrackId {
        TrackId::new(format!("t{number}")).unwrap()
    }

    fn faulty(count: usize) -> CheckReport {
        let fault = |number| Fault::PeaksMissing { track_id: id(number) };
        let lost = |number| LostTrack { track_id: id(number), metadata: None };
        CheckReport {
            faults: (0..count).map(fault).collect(),
            lost: (0..count).map(lost).collect(),
            ..CheckReport::default()
        }
    }

    #[test]
    fn the_first_faults_are_told_and_the_rest_are_counted() {
        let report = faulty(SHOWN_MAX + 3);
        let lines = human(&CheckRow::checked(&report, 1.0));
        let told = lines.iter().filter(|line| line.starts_with("fault: track t")).count();
        assert_eq!(told, SHOWN_MAX);
        assert!(lines.iter().any(|line| line.starts_with("and 3 more faults")), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("and 3 more lost tracks")), "{lines:?}");
        assert!(lines.last().unwrap().starts_with("23 faults; mend with"));
    }

    #[test]
    fn json_has_kind_words_and_fields_of_each_fault() {
        let report = faulty(1);
        let json = serde_json::to_value(CheckRow::checked(&report, 1.0)).unwrap();
        assert_eq!(json["status"], "faulty");
        let fault = &json["faults"][0];
        assert_eq!((&fault["kind"], &fault["track_id"]), (&"peaks_missing".into(), &"t0".into()));
        assert_eq!(fault["message"], "track t0 has no peaks");
        assert!(fault["way_out"].as_str().unwrap().contains("--repair"));
        assert_eq!(json["lost"][0]["track_id"], "t0");
    }

    #[test]
    fn what_a_repair_could_not_mend_is_no_success() {
        let repaired = |after| RepairReport {
            before: faulty(1),
            after: Some(after),
            segment_count: 2,
            kept_files: None,
        };
        let good = repaired(CheckReport::default());
        let row = CheckRow::repaired(&good, 1.0);
        assert_eq!(row.status, Status::Repaired);
        assert!(human(&row).iter().any(|line| line.contains("2 segments")));
        let bad = repaired(faulty(1));
        let row = CheckRow::repaired(&bad, 1.0);
        assert_eq!(row.status, Status::PartlyRepaired);
        assert!(human(&row).iter().any(|line| line.starts_with("still there: track t0")));
    }
}
