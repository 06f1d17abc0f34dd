//! What `earmark ingest` did: a row for each file, and the closing summary.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fingerprint_core::units::TrackId;
use serde::Serialize;

use super::{clock, count, counted, json, line, printable};
use crate::args::TextFormat;
use crate::contract::to_milli;

/// Failures that the summary repeats; the report has all.
const FAILURES_SHOWN: usize = 20;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileStatus {
    /// A new track.
    Added,
    /// The track had other audio, which is gone now.
    Replaced,
    /// The track had other metadata.
    Updated,
    /// The track is there as it was.
    Unchanged,
    /// Nothing was stored: another file of this run had the same audio and gave the track.
    Duplicate,
    /// Listed before in this run, and done once.
    Repeated,
    Failed,
}

/// One row of the report.
#[derive(Debug)]
pub(crate) struct FileRow {
    path: String,
    status: FileStatus,
    track_id: String,
    pub(crate) duplicate_of: Vec<String>,
    duration_s: Option<f64>,
    elapsed_ms: f64,
    /// Why it failed, or what is worth knowing.
    pub(crate) detail: String,
}

/// The counts of a run: one line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) files: u64,
    added: u64,
    replaced: u64,
    updated: u64,
    unchanged: u64,
    /// Files whose audio is also that of another track or of another file of this run.
    duplicates: u64,
    /// Files that were listed more than once; done once.
    repeated: u64,
    pub(crate) failed: u64,
    pub(crate) interrupted: bool,
    /// Seconds of audio that were read.
    pub(crate) audio_s: f64,
    pub(crate) elapsed_s: f64,
    #[serde(skip)]
    started: Instant,
    #[serde(skip)]
    failures: Vec<String>,
}

impl FileStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Replaced => "replaced",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Duplicate => "duplicate",
            Self::Repeated => "repeated",
            Self::Failed => "failed",
        }
    }
}

impl FileRow {
    pub(crate) fn new(path: &Path, elapsed_ms: f64) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            status: FileStatus::Failed,
            track_id: String::new(),
            duplicate_of: Vec::new(),
            duration_s: None,
            elapsed_ms: to_milli(elapsed_ms),
            detail: String::new(),
        }
    }

    pub(crate) fn failed(mut self, error: &anyhow::Error) -> Self {
        self.detail = format!("{error:#}");
        self
    }

    pub(crate) fn repeated(mut self) -> Self {
        self.status = FileStatus::Repeated;
        self
    }

    pub(crate) fn ended(mut self, status: FileStatus, id: &TrackId, duration_s: f64) -> Self {
        self.status = status;
        self.track_id = id.to_string();
        self.duration_s = Some(to_milli(duration_s));
        self
    }

    /// What a person who watches should know.
    pub(crate) fn worth_telling(&self) -> Option<String> {
        if self.detail.is_empty() {
            return None;
        }
        // Most reasons begin with the path already.
        let text = if self.detail.starts_with(&self.path) {
            self.detail.clone()
        } else {
            format!("{}: {}", self.path, self.detail)
        };
        Some(if self.status == FileStatus::Failed { format!("failed: {text}") } else { text })
    }
}

impl Summary {
    pub(crate) fn new() -> Self {
        Self {
            files: 0,
            added: 0,
            replaced: 0,
            updated: 0,
            unchanged: 0,
            duplicates: 0,
            repeated: 0,
            failed: 0,
            interrupted: false,
            audio_s: 0.0,
            elapsed_s: 0.0,
            started: Instant::now(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn count(&mut self, row: &FileRow) {
        self.files += 1;
        let counter = match row.status {
            FileStatus::Added => Some(&mut self.added),
            FileStatus::Replaced => Some(&mut self.replaced),
            FileStatus::Updated => Some(&mut self.updated),
            FileStatus::Unchanged => Some(&mut self.unchanged),
            FileStatus::Repeated => Some(&mut self.repeated),
            FileStatus::Failed => Some(&mut self.failed),
            // Counted below, as all files with a twin are.
            FileStatus::Duplicate => None,
        };
        if let Some(counter) = counter {
            *counter += 1;
        }
        self.duplicates += u64::from(!row.duplicate_of.is_empty());
        self.audio_s += row.duration_s.unwrap_or(0.0);
        if row.status == FileStatus::Failed && self.failures.len() < FAILURES_SHOWN {
            self.failures.extend(row.worth_telling());
        }
    }

    /// Tracks whose audio was added or replaced.
    pub(crate) fn written_count(&self) -> u64 {
        self.added + self.replaced
    }

    /// Stops the clock.
    pub(crate) fn end(&mut self) {
        self.elapsed_s = to_milli(self.started.elapsed().as_secs_f64());
        self.audio_s = to_milli(self.audio_s);
    }

    /// Seconds of audio for each second since the start.
    pub(crate) fn speed(&self) -> f64 {
        self.audio_s / self.started.elapsed().as_secs_f64().max(1e-3)
    }
}

/// What stands beside the number of files while a job runs.
pub(crate) fn so_far(summary: &Summary) -> String {
    let failed = match summary.failed {
        0 => String::new(),
        failed => format!(" · {} failed", count(failed)),
    };
    format!("{} of audio · {:.0}× real time{failed}", clock(summary.audio_s), summary.speed())
}

/// Prints the closing summary.
pub(crate) fn print(summary: &Summary, format: TextFormat) -> Result<()> {
    if format == TextFormat::Json {
        return json(summary);
    }
    for text in human(summary) {
        line(&text)?;
    }
    Ok(())
}

fn human(summary: &Summary) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}: {} added, {} replaced, {} updated, {} unchanged, {} failed; {}, \
             {} listed twice",
            counted(summary.files, "file"),
            count(summary.added),
            count(summary.replaced),
            count(summary.updated),
            count(summary.unchanged),
            count(summary.failed),
            counted(summary.duplicates, "duplicate"),
            count(summary.repeated),
        ),
        format!("{} of audio in {}", clock(summary.audio_s), clock(summary.elapsed_s)),
    ];
    lines.extend(summary.failures.iter().map(|text| printable(text)));
    let hidden = summary.failed.saturating_sub(FAILURES_SHOWN as u64);
    if hidden > 0 {
        lines.push(format!("and {} more that failed (--report FILE lists them)", count(hidden)));
    }
    if summary.interrupted {
        lines.push("interrupted; run the same command again to go on where it stopped".into());
    } else if summary.files == 0 {
        lines.push(
            "no audio files were found; name files themselves if their extension is unusual".into(),
        );
    }
    lines
}

/// Columns of the report.
const REPORT_HEADER: [&str; 7] =
    ["path", "status", "track_id", "duplicate_of", "duration_s", "elapsed_ms", "detail"];

/// The `--report` file: one row a file, in the order in which they were finished.
#[derive(Debug)]
pub(crate) struct ReportFile {
    writer: csv::Writer<File>,
    path: PathBuf,
}

impl ReportFile {
    /// Makes the file anew and writes its header.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let context = || format!("report {} cannot be written", path.display());
        refuse_other_file(path)?;
        let mut writer = csv::Writer::from_path(path).with_context(context)?;
        writer.write_record(REPORT_HEADER).with_context(context)?;
        Ok(Self { writer, path: path.to_owned() })
    }

    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn write(&mut self, row: &FileRow) -> Result<()> {
        let duration_s = row.duration_s.map(|value| value.to_string()).unwrap_or_default();
        self.writer
            .write_record([
                row.path.as_str(),
                row.status.as_str(),
                row.track_id.as_str(),
                &row.duplicate_of.join(" "),
                &duration_s,
                &row.elapsed_ms.to_string(),
                &row.detail,
            ])
            .with_context(|| format!("report {} cannot be written", self.path.display()))
    }

    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.writer
            .flush()
            .with_context(|| format!("report {} cannot be written", self.path.display()))
    }
}

/// Refuses to write over a file that is no report: a recording or a manifest, named by mistake.
fn refuse_other_file(path: &Path) -> Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0) {
        return Ok(());
    }
    let header = REPORT_HEADER.join(",");
    let mut start = vec![0; header.len()];
    if (&file).read_exact(&mut start).is_ok() && start == header.as_bytes() {
        return Ok(());
    }
    let name = path.display();
    bail!("report {name} is there already and is no report; remove it or choose another name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(path: &str, reason: &str) -> FileRow {
        FileRow::new(Path::new(path), 0.0).failed(&anyhow::anyhow!(reason.to_owned()))
    }

    #[test]
    fn the_summary_repeats_the_first_failures_and_counts_the_rest() {
        let mut summary = Summary::new();
        for i in 0..=FAILURES_SHOWN {
            summary.count(&failed(&format!("{i}.mp3"), "broken"));
        }
        let lines = human(&summary);
        assert!(lines[0].starts_with("21 files: 0 added"), "{lines:?}");
        assert_eq!(
            lines.iter().filter(|text| text.starts_with("failed: ")).count(),
            FAILURES_SHOWN
        );
        assert!(lines.last().unwrap().starts_with("and 1 more"), "{lines:?}");
    }

    #[test]
    fn the_path_is_named_once() {
        assert_eq!(failed("a.mp3", "broken").worth_telling().unwrap(), "failed: a.mp3: broken");
        let named = failed("a.mp3", "a.mp3: broken").worth_telling().unwrap();
        assert_eq!(named, "failed: a.mp3: broken");
    }

    #[test]
    fn a_stored_duplicate_counts_twice_and_one_that_is_not_stored_once() {
        let id = TrackId::new("t").unwrap();
        let mut summary = Summary::new();
        for status in [FileStatus::Added, FileStatus::Duplicate] {
            let mut row = FileRow::new(Path::new("a"), 0.0).ended(status, &id, 2.0);
            row.duplicate_of.push("other".into());
            summary.count(&row);
        }
        assert_eq!((summary.files, summary.added, summary.duplicates), (2, 1, 2));
        assert!((summary.audio_s - 4.0).abs() < 1e-9);
    }
}
