//! Is everything in the index that should be, and nothing else? Reads all of it and changes nothing.
//!
//! Position in the flow: none; this looks at what the rest of the index has written. Opening an index
//! stops at the first thing that it cannot understand; a check opens the database only, collects
//! [`Fault`]s, and goes on with what it can read.
//!
//! # How postings are compared
//!
//! The postings of each track are made anew from its stored peaks and added up (`tally.rs`); so are
//! those that the segments hold, by the track in whose place they lie. Where the two sums are equal,
//! the postings are the same. Where not, the postings of those tracks are read again and compared
//! one by one. So memory grows with the number of tracks (some 200 bytes each), not with that of
//! postings. Postings that are in no segment yet are not stored at all: opening makes them from the peaks.

mod content;
mod header;
mod parallel;
mod peaks;
mod postings;
mod report;
mod rows;
mod segments;
mod tables;
mod tally;
mod tracks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub use report::{CheckReport, Fault, LostTrack};
use rocksdb::{DB, DBRecoveryMode, Options};
use rows::Damage;
pub(super) use rows::Rows;
use tracks::Known;

use super::acknowledged::Acknowledged;
use super::failure::is_damage;
use super::recovery::{self, recovery_mode};
use super::segments::Segment;
use super::{Inner, Limits, RocksIndex, acknowledged, header as format, options, repair};
use crate::index::{IndexError, TrackRecord};
use crate::params::Params;
use crate::units::{ContentHash, TrackId};

/// Files that a check keeps open: few, because RocksDB reads those that it keeps open when it opens the
/// database, and fails if one is damaged.
const OPEN_FILES_MAX: i32 = 20;

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// What is being done, for people.
    pub step: &'static str,
    /// Parts of the step that are done.
    pub done: u64,
    /// Parts of the step.
    pub total: u64,
}

/// Takes the progress of a check, from any thread.
pub type OnCheckProgress<'p> = &'p (dyn Fn(CheckProgress) + Sync);

impl RocksIndex {
    /// Checks the index in folder `path`, which no other process may have open: header, records, rows of
    /// content and peaks, directories, blocks, the table of lengths, every posting against the peaks of
    /// its track and back, and every checksum. Nothing is changed, and what is wrong is no error but
    /// a [`Fault`].
    ///
    /// # Errors
    ///
    /// Those of [`RocksIndex::open`] if the folder cannot be read or was written by another release;
    /// [`IndexError::BeyondRepair`] if RocksDB cannot open it at all.
    pub fn check(
        path: &Path,
        params: &Params,
        on_progress: OnCheckProgress<'_>,
    ) -> Result<CheckReport, IndexError> {
        if is_new(path).map_err(beyond_repair)? {
            return Ok(CheckReport::default());
        }
        // A repair that is running holds it.
        let held = Acknowledged::hold(path)?;
        if repair::is_pending(path) {
            let faults = vec![Fault::Interrupted];
            return Ok(CheckReport { faults, ..CheckReport::default() });
        }
        drop(held);
        let (inner, log_fault) = open(path, params, Access::Read)?;
        Ok(run(&inner, log_fault, on_progress)?.report)
    }
}

/// What the caller is going to do with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing is written.
    Read,
    /// Changes that come behind a damaged place of the log are kept, those in it are lost.
    Repair,
}

/// True if nothing has ever been written into the index.
fn is_new(path: &Path) -> Result<bool, IndexError> {
    let is_claimed = acknowledged::claim_of(path).change > 0;
    Ok(!is_claimed && format::is_index(path)? && format::is_blank(path)?)
}

/// What keeps RocksDB from opening the database, no check can get over.
fn beyond_repair(error: IndexError) -> IndexError {
    match error {
        IndexError::Corrupt { what } => IndexError::BeyondRepair { what },
        error => error,
    }
}

/// Opens the database only, whatever is in it. Says so if its log is damaged.
///
/// # Errors
///
/// As [`RocksIndex::check`].
pub(super) fn open(
    path: &Path,
    params: &Params,
    access: Access,
) -> Result<(Inner, Option<Fault>), IndexError> {
    open_any(path, params, access).map_err(beyond_repair)
}

fn open_any(
    path: &Path,
    params: &Params,
    access: Access,
) -> Result<(Inner, Option<Fault>), IndexError> {
    if !format::is_index(path)? {
        return Err(IndexError::Missing { path: path.to_owned() });
    }
    let acknowledged = match access {
        Access::Read => {
            let held = Acknowledged::hold(path)?;
            format::check_files(path)?;
            held
        }
        Access::Repair => Some(format::take(path)?),
    };
    let mut options = options::database();
    options.set_max_open_files(OPEN_FILES_MAX);
    let claim = acknowledged.as_ref().map(Acknowledged::claim).unwrap_or_default();
    let (mode, log_fault) = match recovery_mode(path, claim) {
        // A part may be missing then, which the repair brings back.
        _ if repair::is_pending(path) => (DBRecoveryMode::PointInTime, None),
        Ok(mode) => (mode, None),
        Err(IndexError::Corrupt { what }) => (access.past_damage(), Some(Fault::Log { what })),
        Err(IndexError::Storage { source, .. }) => {
            (access.past_damage(), Some(Fault::Log { what: source.to_string() }))
        }
        Err(error) => return Err(error),
    };
    options.set_wal_recovery_mode(mode);
    if access == Access::Repair && log_fault.is_some() {
        repair::keep_all(path)?;
    }
    let open = |options: &Options| {
        let families = options::families(true);
        match access {
            Access::Read => DB::open_cf_descriptors_read_only(options, path, families, false),
            Access::Repair => DB::open_cf_descriptors(options, path, families),
        }
    };
    let mut opened = open(&options);
    if opened.is_err() && access == Access::Repair {
        // Some records of the log can be read and not be understood, over which RocksDB does not get.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        opened = open(&options);
    }
    if opened.as_ref().is_err_and(is_damage) {
        // It opens some of its tables at once. One that is gone is told when it is read, as others are.
        // RocksDB then also passes over what it cannot read of its log, without a word, and deletes it.
        if access == Access::Repair {
            repair::keep_all(path)?;
        }
        options.set_paranoid_checks(false);
        opened = open(&options).or(opened);
    }
    let db = opened.map_err(|error| format::open_error(path, error))?;
    let log_fault = match log_fault {
        None => recovery::fault_behind(&db, claim)?.map(|what| Fault::Log { what }),
        fault => fault,
    };
    let mut inner = Inner::new(db, path, params, Limits::default());
    // Held, so that nobody writes meanwhile. What it claims stays until a repair has ended.
    inner.acknowledged = acknowledged;
    if access == Access::Repair {
        inner.go_on_quietly();
    }
    Ok((inner, log_fault))
}

impl Access {
    /// How a damaged log is read.
    fn past_damage(self) -> DBRecoveryMode {
        match self {
            Self::Read => DBRecoveryMode::PointInTime,
            Self::Repair => DBRecoveryMode::SkipAnyCorruptedRecord,
        }
    }
}

/// What a check found, with what is needed to mend it.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) report: CheckReport,
    /// Whole tracks in the order of the timeline, as far as they are known.
    pub(super) tracks: Vec<Known>,
    /// Segments whose directory can be read, in the order of the timeline.
    pub(super) segments: Vec<Arc<Segment>>,
    /// A number that no segment has, nor a row of a segment that does not count.
    pub(super) next_segment: u32,
    /// Next position that may be given out.
    pub(super) end: u32,
    pub(super) mending: Mending,
}

/// What has to be written and deleted to make the index whole.
#[derive(Debug, Default)]
pub(super) struct Mending {
    /// Parts of which rows cannot be read, other than blocks.
    pub(super) damaged_parts: BTreeSet<&'static str>,
    /// Keys of rows to delete, by part.
    pub(super) deleted: Vec<(&'static str, Box<[u8]>)>,
    /// Rows of content to add.
    pub(super) content: Vec<(ContentHash, TrackId)>,
    /// Records to write anew.
    pub(super) records: Vec<TrackRecord>,
    /// The header needs to be written anew.
    pub(super) header: bool,
    /// So does the table of lengths.
    pub(super) lengths: bool,
    /// Segments of `Findings::segments` whose postings have to be made anew.
    pub(super) bad_segments: BTreeSet<u32>,
    /// Keys of directories that cannot be read.
    pub(super) bad_directories: Vec<Box<[u8]>>,
    /// Tracks before the end of the last segment are in none.
    pub(super) uncovered: bool,
}

impl Mending {
    /// True if postings have to be made anew.
    pub(super) fn needs_postings(&self) -> bool {
        !self.bad_segments.is_empty() || !self.bad_directories.is_empty() || self.uncovered
    }
}

/// A check that is going on.
struct Check<'c> {
    inner: &'c Inner,
    on_progress: OnCheckProgress<'c>,
    faults: Vec<Fault>,
    mending: Mending,
    /// Ids of tracks that cannot be kept.
    lost: BTreeSet<TrackId>,
    /// Damage by part, to be told once for each.
    damage: BTreeMap<&'static str, Damage>,
}

/// Checks an open database.
pub(super) fn run(
    inner: &Inner,
    log_fault: Option<Fault>,
    on_progress: OnCheckProgress<'_>,
) -> Result<Findings, IndexError> {
    let mut check = Check {
        inner,
        on_progress,
        faults: log_fault.into_iter().collect(),
        mending: Mending::default(),
        lost: BTreeSet::new(),
        damage: BTreeMap::new(),
    };
    let fields = check.read_header()?;
    let mut tracks = check.read_tracks()?;
    let unclaimed = check.check_content(&mut tracks)?;
    let orphan_count = check.check_peaks(&mut tracks)?;
    check.judge_unclaimed(unclaimed, orphan_count);
    let tracks = check.keep_whole(tracks);
    let segments = check.read_directories()?;
    check.check_tables()?;
    check.check_coverage(&tracks, &segments);
    let held = check.read_blocks(&tracks, &segments)?;
    check.compare_postings(&tracks, &segments, &held)?;
    let end = check.check_header(&fields, &tracks, &segments);
    check.check_lengths(&fields, &segments, &held);
    check.tell_damage();
    let lost = check.describe_lost()?;
    let numbers = check.read_numbers(&segments)?;
    let report = CheckReport {
        track_count: tracks.len() as u64,
        duration_s: tracks.iter().map(|track| track.duration_s).sum(),
        posting_count: tracks.iter().map(|track| track.expected.count).sum(),
        purgeable_posting_count: held.purgeable_count(),
        segment_count: segments.len() as u64,
        leftover_segment_count: numbers.leftover_count,
        faults: check.faults,
        lost,
    };
    let mending = check.mending;
    Ok(Findings { report, tracks, segments, next_segment: numbers.next, end, mending })
}

impl<'c> Check<'c> {
    fn tell(&self, step: &'static str, done: usize, total: usize) {
        (self.on_progress)(CheckProgress { step, done: done as u64, total: total as u64 });
    }

    fn rows(&self, part: &'static str) -> Rows<'c> {
        Rows::new(self.inner, part, &[], None)
    }

    fn note_damage(&mut self, part: &'static str, damage: Damage) {
        if damage.place_count > 0 {
            self.mending.damaged_parts.insert(part);
            self.damage.entry(part).or_default().merge(damage);
        }
    }

    fn delete(&mut self, part: &'static str, key: &[u8]) {
        self.mending.deleted.push((part, key.into()));
    }

    /// Tells of each part in which rows cannot be read, before everything else.
    fn tell_damage(&mut self) {
        let unreadable = std::mem::take(&mut self.damage).into_iter().map(|(part, damage)| {
            let what = damage.what.unwrap_or_default();
            Fault::Unreadable { part, place_count: damage.place_count, what }
        });
        self.faults.splice(0..0, unreadable.collect::<Vec<_>>());
    }
}
