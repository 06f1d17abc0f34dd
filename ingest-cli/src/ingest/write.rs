//! The writer: collects recordings into batches, adds them, and keeps the books.
//!
//! One batch is one synced write of the index, so batches make ingesting fast; a batch is also
//! written when its first track has waited a second, so that a slow job loses little when it is
//! interrupted. The journal learns of a track only after the catalog has confirmed it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use fingerprint_core::index::Change;
use fingerprint_core::units::{ContentHash, TrackId};

use super::journal::{Journal, Stamp};
use super::work::{Outcome, Worked};
use crate::catalog::{AddError, Audio, Catalog, Recording, Stored};
use crate::report::progress::Progress;
use crate::report::summary::{self, FileRow, FileStatus, ReportFile, Summary};

/// Detail of a file whose audio another file has brought.
const SAME_AUDIO: &str = "same audio as another file of this run";
/// Detail of a file that is stored, and nothing can be found in it.
const NOTHING_TO_FIND: &str = "it can never be found: it is silent, or too short";
/// Most tracks of one write.
const BATCH_LEN: usize = 32;
/// Most peaks of one write: about five hours of audio.
const BATCH_PEAKS: usize = 2_000_000;
/// Longest time that the first track of a batch waits.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// Adds what the workers made.
pub(super) struct Writer<'a> {
    catalog: &'a dyn Catalog,
    journal: &'a Journal,
    progress: &'a Progress,
    report: Option<ReportFile>,
    summary: Summary,
    batch: Vec<Pending>,
    /// Rows of files that need no adding, each with the number of those in the batch that were
    /// listed before it.
    held: Vec<(usize, FileRow)>,
    batch_peaks: usize,
    /// When the batch must be written.
    deadline: Instant,
    /// Ids that derive from the content of files of this run. A second file with the same audio
    /// is a duplicate, whose tags must not overwrite those of the first.
    derived: HashSet<TrackId>,
    has_journal_failed: bool,
}

/// A recording that waits to be added.
struct Pending {
    path: PathBuf,
    elapsed_ms: f64,
    stamp: Stamp,
    remark: Option<String>,
    /// True if the id derives from the content.
    is_derived: bool,
    recording: Box<Recording>,
}

impl<'a> Writer<'a> {
    /// # Errors
    ///
    /// If the report cannot be written.
    pub(super) fn new(
        catalog: &'a dyn Catalog,
        journal: &'a Journal,
        progress: &'a Progress,
        report: Option<&Path>,
    ) -> Result<Self> {
        Ok(Self {
            catalog,
            journal,
            progress,
            report: report.map(ReportFile::create).transpose()?,
            summary: Summary::new(),
            batch: Vec::new(),
            held: Vec::new(),
            batch_peaks: 0,
            deadline: Instant::now(),
            derived: HashSet::new(),
            has_journal_failed: false,
        })
    }

    pub(super) fn progress(&self) -> &'a Progress {
        self.progress
    }

    /// Tracks whose audio was added or replaced.
    pub(super) fn written_count(&self) -> u64 {
        self.summary.written_count()
    }

    /// Takes all that the workers send, in the order of its places, which begin with 0. For each
    /// file it takes it takes a token too, if there is one.
    ///
    /// # Errors
    ///
    /// If the catalog, the journal or the report fails: nothing more can be taken then.
    #[expect(clippy::needless_pass_by_value, reason = "who sends the tokens must see it dropped")]
    pub(super) fn drain(
        &mut self,
        results: &Receiver<(u64, Worked)>,
        tokens: Receiver<()>,
    ) -> Result<()> {
        // What was worked on before a file that was listed earlier.
        let mut early = BTreeMap::new();
        let mut next_place = 0;
        loop {
            let received = if self.batch.is_empty() {
                results.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                results.recv_deadline(self.deadline)
            };
            match received {
                Ok((place, worked)) => {
                    early.insert(place, worked);
                    while let Some(worked) = early.remove(&next_place) {
                        next_place += 1;
                        // No token only means that the feeder has ended.
                        let _ = tokens.try_recv();
                        self.take(worked)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.flush()?,
                Err(RecvTimeoutError::Disconnected) => {
                    // After a stop places are missing: those files were not begun.
                    early.into_values().try_for_each(|worked| self.take(worked))?;
                    return self.flush();
                }
            }
        }
    }

    /// Ends the report and gives the summary, and whether the report could be written.
    pub(super) fn finish(mut self) -> (Summary, Result<()>) {
        self.summary.end();
        let reported = self.report.take().map_or(Ok(()), ReportFile::finish);
        (self.summary, reported)
    }

    fn take(&mut self, worked: Worked) -> Result<()> {
        let Worked { path, elapsed_ms, outcome } = worked;
        let row = FileRow::new(&path, elapsed_ms);
        match outcome {
            Err(error) => self.book_in_turn(row.failed(&error)),
            Ok(Outcome::Repeated) => self.book_in_turn(row.repeated()),
            Ok(Outcome::Done { track_id, duration_s, is_derived }) => {
                // A second file with the same audio is told again, as in the run that added it.
                let is_second = is_derived && !self.derived.insert(track_id.clone());
                let status = if is_second { FileStatus::Duplicate } else { FileStatus::Unchanged };
                let mut row = row.ended(status, &track_id, duration_s);
                if is_second {
                    row.duplicate_of = vec![track_id.to_string()];
                    row.detail = SAME_AUDIO.into();
                }
                self.book_in_turn(row)
            }
            Ok(Outcome::Ready { recording, stamp, remark }) => {
                let is_derived = recording.id.is_none();
                self.put(Pending { path, elapsed_ms, stamp, remark, is_derived, recording })
            }
        }
    }

    fn put(&mut self, mut pending: Pending) -> Result<()> {
        if let (Audio::Fingerprint(fingerprint), true) =
            (&pending.recording.audio, pending.is_derived)
        {
            let id = TrackId::from_content(&fingerprint.content_hash);
            if !self.derived.insert(id.clone()) {
                let (content_hash, duration_s) =
                    (fingerprint.content_hash, fingerprint.duration_s());
                // The first file with this audio may still be waiting.
                self.flush()?;
                let mut row = FileRow::new(&pending.path, pending.elapsed_ms).ended(
                    FileStatus::Duplicate,
                    &id,
                    duration_s,
                );
                row.duplicate_of = vec![id.to_string()];
                row.detail = SAME_AUDIO.into();
                self.record(&[(pending.stamp, id, content_hash)]);
                return self.book(row);
            }
            pending.recording.id = Some(id);
        }
        if self.batch.is_empty() {
            self.deadline = Instant::now() + BATCH_WAIT;
        }
        if let Audio::Fingerprint(fingerprint) = &pending.recording.audio {
            self.batch_peaks += fingerprint.peaks.len();
        }
        self.batch.push(pending);
        let is_due = self.batch.len() == BATCH_LEN
            || self.batch_peaks >= BATCH_PEAKS
            // A steady stream of files must not put the deadline off.
            || Instant::now() >= self.deadline;
        if is_due { self.flush() } else { Ok(()) }
    }

    /// Adds the batch.
    fn flush(&mut self) -> Result<()> {
        self.batch_peaks = 0;
        if self.batch.is_empty() {
            return Ok(());
        }
        let (places, recordings): (Vec<_>, Vec<_>) =
            self.batch.drain(..).map(Pending::split).unzip();
        let results = self.catalog.add(recordings);
        assert_eq!(results.len(), places.len(), "one answer for each track");
        let mut confirmed = Vec::new();
        let mut rows = Vec::new();
        let mut broken = None;
        for (place, result) in places.into_iter().zip(results) {
            let row = FileRow::new(&place.path, place.elapsed_ms);
            rows.push(match result {
                Ok(stored) => {
                    let row = self.stored_row(row, &stored, &place);
                    confirmed.push((place.stamp, stored.id, stored.content_hash));
                    row
                }
                Err(AddError::Track(error)) => row.failed(&error),
                Err(AddError::Catalog(error)) => {
                    let row = row.failed(&error);
                    broken = broken.or(Some(error));
                    row
                }
            });
        }
        self.record(&confirmed);
        let mut held = std::mem::take(&mut self.held).into_iter().peekable();
        for (place, row) in rows.into_iter().enumerate() {
            while let Some((_, earlier)) = held.next_if(|(before, _)| *before <= place) {
                self.book(earlier)?;
            }
            self.book(row)?;
        }
        held.try_for_each(|(_, row)| self.book(row))?;
        broken.map_or(Ok(()), Err)
    }

    fn stored_row(&mut self, row: FileRow, stored: &Stored, place: &Place) -> FileRow {
        let mut status = match stored.change {
            Change::Inserted => FileStatus::Added,
            Change::Replaced => FileStatus::Replaced,
            Change::MetadataUpdated => FileStatus::Updated,
            Change::Unchanged => FileStatus::Unchanged,
        };
        let mut duplicate_of: Vec<_> = stored.duplicate_of.iter().map(TrackId::to_string).collect();
        // Where the server decodes, the content is known only now.
        if place.is_derived_there && !self.derived.insert(stored.id.clone()) {
            status = FileStatus::Duplicate;
            duplicate_of.push(stored.id.to_string());
        }
        let mut row = row.ended(status, &stored.id, stored.duration_s);
        let same = duplicate_of.first().map(|other| format!("same audio as track {other}"));
        let nothing = (stored.posting_count == 0).then(|| NOTHING_TO_FIND.to_owned());
        let known = [same, nothing, place.remark.clone()];
        row.detail = known.into_iter().flatten().collect::<Vec<_>>().join("; ");
        row.duplicate_of = duplicate_of;
        row
    }

    /// Tells the journal. One that cannot be written costs the next run time, and this one nothing.
    fn record(&mut self, confirmed: &[(Stamp, TrackId, ContentHash)]) {
        if let Err(error) = self.journal.record(confirmed)
            && !std::mem::replace(&mut self.has_journal_failed, true)
        {
            self.progress.note(&format!("{error:#}; the next run will read some files again"));
        }
    }

    /// Books a file behind those of the batch, so that the report keeps the order of the list.
    fn book_in_turn(&mut self, row: FileRow) -> Result<()> {
        if self.batch.is_empty() {
            return self.book(row);
        }
        self.held.push((self.batch.len(), row));
        Ok(())
    }

    /// Counts a file, shows it and reports it.
    fn book(&mut self, row: FileRow) -> Result<()> {
        self.summary.count(&row);
        if let Some(text) = row.worth_telling() {
            self.progress.note(&text);
        }
        self.progress.show(self.summary.files, || summary::so_far(&self.summary));
        self.report.as_mut().map_or(Ok(()), |report| report.write(&row))
    }
}

/// What is kept of a recording while the catalog has it.
struct Place {
    path: PathBuf,
    elapsed_ms: f64,
    stamp: Stamp,
    remark: Option<String>,
    /// True if the server derives the id from the content.
    is_derived_there: bool,
}

impl Pending {
    fn split(self) -> (Place, Recording) {
        let place = Place {
            path: self.path,
            elapsed_ms: self.elapsed_ms,
            stamp: self.stamp,
            remark: self.remark,
            is_derived_there: self.recording.id.is_none(),
        };
        (place, *self.recording)
    }
}
