//! Peaks: each track has some that can be read, there are no others, and the record counts them right.
//! The postings that follow from them are added up.

use std::collections::BTreeSet;
use std::convert::Infallible;

use super::parallel::work_off;
use super::rows::{Damage, Rows};
use super::tally::Tally;
use super::tracks::Known;
use super::{Check, Fault};
use crate::index::rocks::CONSTELLATIONS;
use crate::index::segment::Entry;
use crate::index::{IndexError, Span, stored_peaks, write};
use crate::params::Params;
use crate::peaks::Peak;

/// Tracks of one task: some seconds of work.
const TASK_TRACKS: usize = 64;

/// What one thread has found.
#[derive(Default)]
struct Seen {
    /// By place in the list of tracks.
    tracks: Vec<(usize, Peaks)>,
    /// Keys of rows that belong to no track.
    orphans: Vec<Box<[u8]>>,
    damage: Damage,
}

/// What is stored for a track.
enum Peaks {
    Missing,
    Damaged,
    Whole(Counts),
}

/// What follows from the peaks of a track.
struct Counts {
    peak_count: u32,
    /// Length of the track in steps.
    len: u32,
    postings: Tally,
}

impl Check<'_> {
    /// Reads all peaks and takes note of the postings that `tracks` should have. Gives the number of rows
    /// that belong to no track.
    pub(super) fn check_peaks(&mut self, tracks: &mut [Known]) -> Result<u64, IndexError> {
        let mut tasks: Vec<usize> = (0..tracks.len()).step_by(TASK_TRACKS).collect();
        if tasks.is_empty() {
            // Rows without any track.
            tasks.push(0);
        }
        let all = &*tracks;
        let work = |seen: &mut Seen, first: &usize| self.read_peaks(all, *first, seen);
        let on_done = |done| self.tell("making postings anew", done, tasks.len());
        let seen = work_off(&tasks, Seen::default, work, on_done)?;
        let given_up = self.given_up_positions();
        let mut orphans = Vec::new();
        let mut found = Vec::new();
        for seen in seen {
            self.note_damage(CONSTELLATIONS, seen.damage);
            orphans.extend(seen.orphans);
            found.extend(seen.tracks);
        }
        found.sort_unstable_by_key(|(place, _)| *place);
        let mut end_max = u32::MAX;
        for (place, peaks) in found.iter_mut().rev() {
            let start = tracks[*place].span.start;
            match peaks {
                Peaks::Missing => continue,
                Peaks::Whole(counts) if counts.len > end_max - start => *peaks = Peaks::Damaged,
                Peaks::Whole(_) | Peaks::Damaged => {}
            }
            // Peaks behind that are not those of the track before.
            end_max = start;
        }
        for (place, peaks) in found {
            self.judge_peaks(&mut tracks[place], peaks)?;
        }
        orphans.sort_unstable();
        Ok(self.tell_orphans(&orphans, &given_up))
    }

    /// Reads the rows of the tracks from place `first` on, and those between them.
    fn read_peaks(
        &self,
        tracks: &[Known],
        first: usize,
        seen: &mut Seen,
    ) -> Result<(), IndexError> {
        let end = (first + TASK_TRACKS).min(tracks.len());
        let start_of = |place: usize| tracks.get(place).map(|track| track.span.start.to_be_bytes());
        let from = start_of(first).filter(|_| first > 0);
        let until = start_of(end);
        let mut rows = Rows::new(
            self.inner,
            CONSTELLATIONS,
            from.as_ref().map_or(&[], |key| key.as_slice()),
            until.as_ref().map(|key| key.as_slice()),
        );
        let mut place = first;
        while let Some((key, value)) = rows.next()? {
            let position = key.try_into().map(u32::from_be_bytes).ok();
            while place < end && position.is_some_and(|at| tracks[place].span.start < at) {
                seen.tracks.push((place, Peaks::Missing));
                place += 1;
            }
            if place < end && position == Some(tracks[place].span.start) {
                let peaks = stored_peaks::decode(value, 0..u32::MAX);
                let start = tracks[place].span.start;
                let peaks = peaks
                    .filter(|peaks| start.checked_add(write::span_len(peaks)).is_some())
                    .map(|peaks| count(&peaks, start, &self.inner.params));
                seen.tracks.push((place, peaks.map_or(Peaks::Damaged, Peaks::Whole)));
                place += 1;
            } else {
                seen.orphans.push(key.into());
            }
        }
        seen.tracks.extend((place..end).map(|place| (place, Peaks::Missing)));
        seen.damage.merge(rows.damage);
        Ok(())
    }

    fn judge_peaks(&mut self, track: &mut Known, peaks: Peaks) -> Result<(), IndexError> {
        let track_id = track.id.clone();
        match peaks {
            Peaks::Missing => {
                self.faults.push(Fault::PeaksMissing { track_id });
                self.lose_track(track, false);
            }
            Peaks::Damaged => {
                self.faults.push(Fault::PeaksDamaged { track_id });
                self.lose_track(track, true);
            }
            Peaks::Whole(counts) => {
                track.expected = counts.postings;
                self.check_counts(track, &counts)?;
            }
        }
        Ok(())
    }

    /// Compares the record of a track with its peaks.
    fn check_counts(&mut self, track: &mut Known, counts: &Counts) -> Result<(), IndexError> {
        let posting_count = u32::try_from(counts.postings.count).unwrap_or(u32::MAX);
        let fields = [
            ("span.len", &mut track.span.len, counts.len),
            ("peak_count", &mut track.peak_count, counts.peak_count),
            ("posting_count", &mut track.posting_count, posting_count),
        ];
        let mut is_wrong = false;
        for (field, recorded, actual) in fields {
            if *recorded != actual {
                let (track_id, recorded) = (track.id.clone(), std::mem::replace(recorded, actual));
                self.faults.push(Fault::RecordField { track_id, field, recorded, actual });
                is_wrong = true;
            }
        }
        if is_wrong && let Some(mut record) = self.inner.track(&track.id)? {
            record.span = track.span;
            (record.peak_count, record.posting_count) = (track.peak_count, track.posting_count);
            self.mending.records.push(record);
        }
        Ok(())
    }

    fn tell_orphans(&mut self, orphans: &[Box<[u8]>], given_up: &BTreeSet<u32>) -> u64 {
        let mut count = 0;
        for key in orphans {
            let position = key.as_ref().try_into().map(u32::from_be_bytes).ok();
            self.delete(CONSTELLATIONS, key);
            if !position.is_some_and(|position| given_up.contains(&position)) {
                self.faults.push(Fault::PeaksOrphan { position });
                count += 1;
            }
        }
        count
    }
}

/// What follows from the peaks of a track that begins at `start`.
fn count(peaks: &[Peak], start: u32, params: &Params) -> Counts {
    let len = write::span_len(peaks);
    let mut postings = Tally::default();
    let done = write::for_each_part(peaks, Span { start, len }, params, |part| {
        part.iter().for_each(|posting| postings.add(Entry::new(*posting)));
        Ok::<_, Infallible>(())
    });
    match done {
        Ok(()) => {}
        Err(never) => match never {},
    }
    let peak_count = u32::try_from(peaks.len()).unwrap_or(u32::MAX);
    Counts { peak_count, len, postings }
}
