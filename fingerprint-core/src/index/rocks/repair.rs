//! Making a damaged index whole again, from what can still be read of it.
//!
//! Position in the flow: none; a check (`check.rs`) says what is wrong, this mends it. Postings follow
//! from peaks, so they are always made anew; a track without its record or its peaks cannot be kept, and
//! is named.
//!
//! Nothing is deleted before what replaces it is on disk, so it may be killed at any time and begun
//! anew:
//!
//! 1. Parts of which rows cannot be read are written anew (`salvage.rs`).
//! 2. One write batch deletes what belongs to nothing, and mends records and header.
//! 3. Segments are written for all tracks that are not in a whole one. They count, in the place of the
//!    damaged ones, from one write batch on.
//! 4. The table of lengths is counted anew.
//! 5. What is there now is what was acknowledged, whatever the log has lost.
//! 6. The index is opened as ever, and checked again.
//!
//! If the log is damaged, RocksDB deletes it when it opens the database, and tables that a cut list of
//! files does not name. So all files are kept in the folder `lost` before.

mod salvage;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::WriteBatch;
#[cfg(test)]
pub(super) use salvage::{copy_rows, rewrite};
pub(super) use salvage::{is_pending, keep_all, refuse_pending};
use serde::Serialize;

use super::check::{self, Access, CheckProgress, CheckReport, Findings, Mending, OnCheckProgress};
use super::segments::Segment;
use super::{CONTENT, INCOMING, Inner, META, RocksIndex, SEGMENTS, content_key, lens};
use crate::hash::SLOT_COUNT;
use crate::index::IndexError;
use crate::index::buffer::Buffer;
use crate::index::segment::Stretch;
use crate::params::Params;

/// What a repair found, and what it left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RepairReport {
    /// The index as it was.
    pub before: CheckReport,
    /// The index as it is now; `None` if nothing had to be mended.
    pub after: Option<CheckReport>,
    /// Segments that were written anew.
    pub segment_count: u64,
    /// Folder in which files are kept that hold rows which cannot be read. Whoever does not want to try
    /// to save more of them may delete it.
    pub kept_files: Option<PathBuf>,
}

impl RocksIndex {
    /// Checks the index in folder `path`, which no other process may have open, and mends what is wrong.
    /// Tracks that cannot be saved are taken out; the report names them. May be interrupted at any
    /// time, even killed: what was not mended then is mended by the next call.
    ///
    /// # Errors
    ///
    /// As [`RocksIndex::check`], and [`IndexError::Storage`] if writing fails.
    pub fn repair(
        path: &Path,
        params: &Params,
        on_progress: OnCheckProgress<'_>,
    ) -> Result<RepairReport, IndexError> {
        let (mut inner, log_fault) = check::open(path, params, Access::Repair)?;
        salvage::finish(&mut inner)?;
        let findings = check::run(&inner, log_fault, on_progress)?;
        if findings.report.is_whole() {
            let before = findings.report;
            return Ok(RepairReport { before, after: None, segment_count: 0, kept_files: None });
        }
        salvage::rewrite(&mut inner, &findings.mending.damaged_parts)?;
        inner.mend_rows(&findings)?;
        let segment_count = inner.mend_postings(&findings, on_progress)?;
        inner.end_repair();
        drop(inner);
        let kept_files = salvage::kept_files(path);
        let index = Self::open(path, params)?;
        index.inner.merge_what_is_due();
        index.flush()?;
        drop(index);
        let after = Some(Self::check(path, params, on_progress)?);
        Ok(RepairReport { before: findings.report, after, segment_count, kept_files })
    }
}

impl Inner {
    /// Deletes rows that belong to nothing, and mends records and header.
    pub(super) fn mend_rows(&self, findings: &Findings) -> Result<(), IndexError> {
        let mending = &findings.mending;
        let mut batch = WriteBatch::default();
        for (part, key) in &mending.deleted {
            batch.delete_cf(self.family(part), key);
        }
        for (hash, id) in &mending.content {
            batch.put_cf(self.family(CONTENT), content_key(hash, id), []);
        }
        for record in &mending.records {
            self.put_record(record, &mut batch)?;
        }
        if mending.header {
            self.put_header(&mut batch)?;
            batch.put_cf(self.family(META), "next", findings.end.to_be_bytes());
        }
        self.commit(batch)
    }

    /// Claims what is there: from now on nothing is missing of what was acknowledged.
    fn end_repair(&self) {
        if let Some(acknowledged) = &self.acknowledged {
            acknowledged.begin(acknowledged.last_change());
        }
    }

    /// Makes postings anew for all tracks that are not in a whole segment, and counts lengths. Gives the
    /// number of segments written.
    fn mend_postings(
        &self,
        findings: &Findings,
        on_progress: OnCheckProgress<'_>,
    ) -> Result<u64, IndexError> {
        let mending = &findings.mending;
        let is_good = |segment: &&Arc<Segment>| !mending.bad_segments.contains(&segment.id);
        let mut segments: Vec<_> = findings.segments.iter().filter(is_good).cloned().collect();
        let mut written = 0;
        if mending.needs_postings() {
            let new = self.make_segments(findings, &segments, on_progress)?;
            written = new.len() as u64;
            self.replace_bad(mending, &new)?;
            segments.extend(new);
            segments.sort_unstable_by_key(|segment| segment.directory.stretch.start);
        } else if !mending.lengths {
            return Ok(0);
        }
        let end = segments.last().map_or(0, |segment| segment.directory.stretch.end);
        let mut table = vec![0; SLOT_COUNT as usize];
        for (slot, len) in self.count_blocks(&segments)? {
            table[slot as usize] = len;
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(META), lens::KEY, lens::encode(&table, end));
        self.commit(batch)?;
        Ok(written)
    }

    /// Writes segments for the tracks that are in none of `good`. They do not count yet.
    pub(super) fn make_segments(
        &self,
        findings: &Findings,
        good: &[Arc<Segment>],
        on_progress: OnCheckProgress<'_>,
    ) -> Result<Vec<Arc<Segment>>, IndexError> {
        // Files of a repair or a merge that was interrupted. What cannot be deleted is in nobody's way.
        let _ = fs::remove_dir_all(self.path.join(INCOMING));
        self.next_segment.store(findings.next_segment, Ordering::Relaxed);
        let mut made = Vec::new();
        let mut done = 0;
        for gap in gaps(good, findings.end) {
            let tracks = &findings.tracks;
            let first = tracks.partition_point(|track| track.span.start < gap.start);
            let end = tracks.partition_point(|track| track.span.start < gap.end);
            let mut buffer = Buffer::new(gap.start);
            for (place, track) in tracks.iter().enumerate().take(end).skip(first) {
                self.make_again(track.span, |postings| buffer.add(postings))?;
                done += 1;
                let (step, total) = ("writing postings", tracks.len() as u64);
                on_progress(CheckProgress { step, done, total });
                let is_last = place + 1 == end;
                if is_last || buffer.len() >= self.limits.buffer_postings {
                    let behind = if is_last { gap.end } else { track.span.end() };
                    let stretch = Stretch { start: buffer.start, end: behind };
                    let segment = self.write_segment(stretch, &mut |push| buffer.for_each(push))?;
                    made.push(Arc::new(segment));
                    buffer = Buffer::new(behind);
                }
            }
        }
        Ok(made)
    }

    /// Makes new segments count in the place of those that are damaged.
    pub(super) fn replace_bad(
        &self,
        mending: &Mending,
        new: &[Arc<Segment>],
    ) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        let directories = self.family(SEGMENTS);
        for id in &mending.bad_segments {
            batch.delete_cf(directories, id.to_be_bytes());
        }
        for key in &mending.bad_directories {
            batch.delete_cf(directories, key);
        }
        for segment in new {
            batch.put_cf(directories, segment.id.to_be_bytes(), segment.directory.encode());
        }
        // Should we be killed before it is counted, opening counts it.
        batch.delete_cf(self.family(META), lens::KEY);
        self.commit(batch)?;
        let ids = mending.bad_directories.iter().filter_map(|key| key.as_ref().try_into().ok());
        for id in ids.map(u32::from_be_bytes).chain(mending.bad_segments.iter().copied()) {
            self.delete_blocks(id)?;
        }
        Ok(())
    }
}

/// The parts of the timeline up to `end` that no segment covers, ascending.
fn gaps(segments: &[Arc<Segment>], end: u32) -> Vec<Range<u32>> {
    let mut gaps = Vec::new();
    let mut start = 0;
    let stretches = segments.iter().map(|segment| segment.directory.stretch);
    for stretch in stretches.chain([Stretch { start: end, end }]) {
        if start < stretch.start {
            gaps.push(start..stretch.start);
        }
        start = start.max(stretch.end);
    }
    gaps
}
