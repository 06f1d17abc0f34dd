//! Making a new index of the tracks and peaks that another one holds, without their audio.
//!
//! Position in the flow: **old index** → tracks and stored peaks → new index. For an index of an
//! older format, and for one of the present format that was made with other parameters.
//!
//! A track is copied unless the new index holds it already, so a reindexing that was interrupted goes
//! on where it stopped without keeping any book, and one during which the old index has changed
//! catches up. Tracks are copied in the order of their ids, in batches of bounded size; each is one
//! synced write.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::filling::occupied;
use super::old::{OldIndex, OldTrack};
use super::{Limits, RocksIndex, lock};
use crate::index::write::Recording;
use crate::index::{Index, IndexError, TrackRecord};
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::TrackId;

/// When a batch is written: tracks that were looked at, or peaks (8 bytes each) to be copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    pub(super) tracks: u64,
    pub(super) peaks: usize,
}

/// Tracks of the new index that are read at a time to find those that the old one has not.
const PAGE_LEN: usize = 500;

/// What happens while an index is made of another one.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReindexEvent<'a> {
    /// Some more tracks of the old index are in the new one.
    Tracks {
        /// Tracks looked at, those that were there before included.
        done: u64,
        /// Tracks of the old index.
        total: u64,
        /// Length of those that were looked at, in seconds.
        duration_s: f64,
    },
    /// A track of the old index is damaged and not copied.
    Damaged {
        /// Which one, and what is wrong with it.
        what: &'a str,
    },
    /// All tracks are copied; their postings are being merged, which takes about 15 s for each 1,000
    /// hours and is not interrupted.
    Merging,
}

/// What a reindexing has done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reindexed {
    /// Format version of the old index.
    pub old_format_version: u32,
    /// Tracks that this run has copied.
    pub copied_count: u64,
    /// Tracks that were in the new index before this run.
    pub kept_count: u64,
    /// Tracks that were in the new index and are no longer in the old one.
    pub removed_count: u64,
    /// Damaged tracks of the old index, which are not in the new one.
    pub damaged_count: u64,
    /// Length of the tracks that were copied or kept, in seconds.
    pub duration_s: f64,
    /// The new index can be used; false if `on_event` has ended the run.
    pub is_complete: bool,
}

/// Makes an index in folder `new`, of the present format and for `params`, of the tracks in folder
/// `old`: ids, metadata, durations, content hashes and times of adding stay, peaks and postings
/// follow from the stored peaks. `old` is only read.
///
/// Until it is complete the index in `new` refuses to be opened. A run that was interrupted, by
/// `on_event` or by a crash, is continued by the next one with the same folders. `on_event` is
/// called on this thread, after each batch at least; `Break` ends the run after the batch.
///
/// Memory does not grow with the old index but by what any open index needs.
///
/// # Errors
///
/// [`IndexError::NothingToReindex`] if there is no index in `old`, [`IndexError::PeaksUnfit`] if its
/// peaks do not serve for `params`, [`IndexError::Occupied`] if `new` cannot take the index, and
/// all that opening and writing an index can end with.
pub fn reindex(
    old: &Path,
    new: &Path,
    params: &Params,
    on_event: &mut dyn FnMut(ReindexEvent<'_>) -> ControlFlow<()>,
) -> Result<Reindexed, IndexError> {
    // Peaks of 8 MiB, beside those of one track.
    let limits = BatchLimits { tracks: 256, peaks: 1 << 20 };
    reindex_with(old, new, params, (limits, Limits::default()), on_event)
}

pub(super) fn reindex_with(
    old: &Path,
    new: &Path,
    params: &Params,
    (limits, index_limits): (BatchLimits, Limits),
    on_event: &mut dyn FnMut(ReindexEvent<'_>) -> ControlFlow<()>,
) -> Result<Reindexed, IndexError> {
    let source = OldIndex::open(old, params)?;
    let from = fs::canonicalize(old).map_err(folder_error)?;
    let into = resolve(new)?;
    if into.starts_with(&from) {
        return Err(occupied(new, "it is the folder of the old index, or lies in it"));
    }
    fs::create_dir_all(new).map_err(folder_error)?;
    let from = from.to_string_lossy();
    let target = RocksIndex::open_with(new, params, index_limits, Some(&from));
    let target = target.map_err(|error| match error {
        IndexError::FormatVersion { .. }
        | IndexError::NewerFormat { .. }
        | IndexError::ParamsMismatch { .. } => {
            occupied(new, "it holds an index of another release, or one that this has begun")
        }
        error => error,
    })?;
    let total = source.track_count()?;
    let mut copy = Copying::new(&source, &target, limits, total, on_event);
    if copy.run()?.is_continue() {
        let _: ControlFlow<()> = (copy.on_event)(ReindexEvent::Merging);
        target.compact()?;
        target.inner.end_filling()?;
        copy.result.is_complete = true;
    }
    Ok(copy.result)
}

fn folder_error(source: std::io::Error) -> IndexError {
    IndexError::Storage { action: "find the folders of the indexes", source: Box::new(source) }
}

/// The folder with links resolved, as far as it is there.
fn resolve(path: &Path) -> Result<PathBuf, IndexError> {
    let path = std::path::absolute(path).map_err(folder_error)?;
    for ancestor in path.ancestors() {
        if let (Ok(there), Ok(rest)) = (fs::canonicalize(ancestor), path.strip_prefix(ancestor)) {
            return Ok(there.join(rest));
        }
    }
    Ok(path)
}

/// One run.
struct Copying<'a> {
    old: &'a OldIndex,
    new: &'a RocksIndex,
    limits: BatchLimits,
    on_event: &'a mut dyn FnMut(ReindexEvent<'_>) -> ControlFlow<()>,
    /// To be written next.
    batch: Vec<(OldTrack, Vec<Peak>)>,
    /// Peaks in it.
    batch_peaks: usize,
    done: u64,
    total: u64,
    result: Reindexed,
}

impl<'a> Copying<'a> {
    fn new(
        old: &'a OldIndex,
        new: &'a RocksIndex,
        limits: BatchLimits,
        total: u64,
        on_event: &'a mut dyn FnMut(ReindexEvent<'_>) -> ControlFlow<()>,
    ) -> Self {
        let result = Reindexed {
            old_format_version: old.format_version(),
            copied_count: 0,
            kept_count: 0,
            removed_count: 0,
            damaged_count: 0,
            duration_s: 0.0,
            is_complete: false,
        };
        Self {
            old,
            new,
            limits,
            on_event,
            batch: Vec::new(),
            batch_peaks: 0,
            done: 0,
            total,
            result,
        }
    }

    /// Copies what is missing and removes what is no longer there. `Break` if it shall not go on.
    fn run(&mut self) -> Result<ControlFlow<()>, IndexError> {
        let old = self.old;
        for track in old.tracks()? {
            match track {
                Ok(track) => self.take(track)?,
                Err(IndexError::Corrupt { what }) => self.pass_over(&what),
                Err(error) => return Err(error),
            }
            self.done += 1;
            let is_full = self.batch_peaks >= self.limits.peaks;
            if (is_full || self.done.is_multiple_of(self.limits.tracks)) && self.write()?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.write()?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        self.remove_others()?;
        Ok(ControlFlow::Continue(()))
    }

    /// Puts a track into the batch unless the new index holds it as it is.
    fn take(&mut self, mut track: OldTrack) -> Result<(), IndexError> {
        // All durations are whole milliseconds; reading them from text may miss by one bit.
        track.duration_s = (track.duration_s * 1e3).round() / 1e3;
        if self.new.track(&track.id)?.is_some_and(|there| is_same(&there, &track)) {
            self.result.kept_count += 1;
            self.result.duration_s += track.duration_s;
            return Ok(());
        }
        let peaks = match self.old.peaks(&track) {
            Err(IndexError::Corrupt { what }) => {
                self.pass_over(&what);
                return Ok(());
            }
            peaks => peaks?,
        };
        self.result.copied_count += 1;
        self.result.duration_s += track.duration_s;
        self.batch_peaks += peaks.len();
        self.batch.push((track, peaks));
        Ok(())
    }

    /// Tells of a damaged track, which is not copied.
    fn pass_over(&mut self, what: &str) {
        self.result.damaged_count += 1;
        // Whether to go on is asked after the batch.
        let _: ControlFlow<()> = (self.on_event)(ReindexEvent::Damaged { what });
    }

    /// Writes the batch, and asks whether to go on.
    fn write(&mut self) -> Result<ControlFlow<()>, IndexError> {
        if !self.batch.is_empty() {
            let recordings: Vec<_> = self.batch.iter().map(recording).collect();
            let mut next = lock(&self.new.inner.next_position);
            self.new.make_room(*next)?;
            self.new.inner.put_distinct(&recordings, &mut next)?;
            self.batch.clear();
            self.batch_peaks = 0;
        }
        let (done, total, duration_s) = (self.done, self.total, self.result.duration_s);
        Ok((self.on_event)(ReindexEvent::Tracks { done, total, duration_s }))
    }

    /// Removes the tracks that an earlier run has copied and the old index has lost since.
    fn remove_others(&mut self) -> Result<(), IndexError> {
        let wanted = self.result.copied_count + self.result.kept_count;
        let mut surplus = self.new.stats()?.track_count.saturating_sub(wanted);
        let mut after: Option<TrackId> = None;
        while surplus > 0 {
            let page = self.new.tracks(after.as_ref(), PAGE_LEN)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for record in page {
                if !self.old.holds(&record.id)? {
                    self.new.remove(&record.id)?;
                    self.result.removed_count += 1;
                    surplus = surplus.saturating_sub(1);
                }
            }
        }
        Ok(())
    }
}

fn is_same(there: &TrackRecord, track: &OldTrack) -> bool {
    // As reading them from text may miss by one bit.
    let same_duration = (there.duration_s - track.duration_s).abs() < 5e-4;
    same_duration
        && there.content_hash == track.content_hash
        && there.added_at_ms == track.added_at_ms
        && there.metadata == track.metadata
}

fn recording((track, peaks): &(OldTrack, Vec<Peak>)) -> Recording<'_> {
    Recording {
        id: &track.id,
        metadata: &track.metadata,
        duration_s: track.duration_s,
        content_hash: track.content_hash,
        added_at_ms: track.added_at_ms,
        peaks,
    }
}

#[cfg(test)]
mod tests;
