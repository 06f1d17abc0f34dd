//! Postings against the peaks of their tracks, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::parallel::work_off;
use super::segments::{Held, Part, Places};
use super::tracks::Known;
use super::{Check, Fault};
use crate::index::rocks::segments::Segment;
use crate::index::segment::Entry;
use crate::index::{IndexError, POSITION_MS};

/// Postings that are compared one by one in a segment, at most: 64 MiB with those that they are
/// compared with.
const CLOSER_POSTINGS_MAX: u64 = 4 << 20;
/// Examples of a fault.
const EXAMPLES_MAX: usize = 5;

/// Differences between the postings of some tracks and those that they should have.
#[derive(Default)]
struct Difference {
    missing: u64,
    foreign: u64,
    doubled: u64,
    is_at_least: bool,
    examples: Vec<String>,
}

impl Check<'_> {
    /// Each track should lie in one segment, or behind all of them.
    pub(super) fn check_coverage(&mut self, tracks: &[Known], segments: &[Arc<Segment>]) {
        let end = segments.iter().map(|segment| segment.directory.stretch.end).max().unwrap_or(0);
        let mut uncovered = Vec::new();
        for track in tracks {
            let span = track.span;
            let place = segments.partition_point(|s| s.directory.stretch.start <= span.start);
            let before = place.checked_sub(1).map(|place| &segments[place]);
            let behind = segments.get(place);
            let own = before.filter(|segment| span.start < segment.directory.stretch.end);
            let limit = own.map(|segment| segment.directory.stretch.end);
            let limit = limit.or(behind.map(|segment| segment.directory.stretch.start));
            if limit.is_some_and(|limit| span.end() > limit) {
                self.faults.push(Fault::Straddling { track_id: track.id.clone() });
                let touched = segments.iter().filter(|segment| {
                    let stretch = segment.directory.stretch;
                    stretch.start < span.end() && span.start < stretch.end
                });
                self.mending.bad_segments.extend(touched.map(|segment| segment.id));
            } else if own.is_none() && span.start < end {
                uncovered.push(track);
            }
        }
        self.mending.uncovered = !uncovered.is_empty();
        // A directory that cannot be read says it already.
        if !uncovered.is_empty() && self.mending.bad_directories.is_empty() {
            self.faults.push(Fault::Uncovered {
                track_count: uncovered.len() as u64,
                posting_count: uncovered.iter().map(|track| track.expected.count).sum(),
                examples: uncovered.iter().take(EXAMPLES_MAX).map(|t| t.id.clone()).collect(),
            });
        }
    }

    /// Compares what the segments hold with what follows from the peaks.
    pub(super) fn compare_postings(
        &mut self,
        tracks: &[Known],
        segments: &[Arc<Segment>],
        held: &Held,
    ) -> Result<(), IndexError> {
        for segment in segments {
            let stretch = segment.directory.stretch;
            let first = tracks.partition_point(|track| track.span.start < stretch.start);
            let end = tracks.partition_point(|track| track.span.start < stretch.end);
            let differ = |place: &usize| tracks[*place].expected != held.of_tracks[*place];
            let places: Vec<usize> = (first..end).filter(differ).collect();
            if places.is_empty() {
                continue;
            }
            let difference = self.look_closer(tracks, segments, segment, &places, held)?;
            self.mending.bad_segments.insert(segment.id);
            self.faults.push(Fault::Postings {
                segment: segment.id,
                track_count: places.len() as u64,
                missing: difference.missing,
                foreign: difference.foreign,
                doubled: difference.doubled,
                is_at_least: difference.is_at_least,
                examples: difference.examples,
            });
        }
        Ok(())
    }

    /// Compares the postings of the tracks at `places` one by one; those of the last ones only by number,
    /// if they are too many.
    fn look_closer(
        &self,
        tracks: &[Known],
        segments: &[Arc<Segment>],
        segment: &Segment,
        places: &[usize],
        held: &Held,
    ) -> Result<Difference, IndexError> {
        let mut sum = 0;
        let fits = |place: &&usize| {
            sum += tracks[**place].expected.count.max(held.of_tracks[**place].count);
            sum <= CLOSER_POSTINGS_MAX
        };
        let closer = &places[..places.iter().take_while(fits).count()];
        let mut difference = Difference::default();
        for place in &places[closer.len()..] {
            let (expected, actual) = (tracks[*place].expected.count, held.of_tracks[*place].count);
            difference.missing += expected.saturating_sub(actual);
            difference.foreign += actual.saturating_sub(expected);
            difference.is_at_least = true;
        }
        // A segment that overlaps this one may hold postings of its tracks.
        let stretch = segment.directory.stretch;
        let overlaps = |other: &&Arc<Segment>| {
            let other = other.directory.stretch;
            other.start < stretch.end && stretch.start < other.end
        };
        let sources: Vec<_> = segments.iter().filter(overlaps).cloned().collect();
        let mut actual = self.read_tracks_of(&sources, tracks, closer)?;
        for place in closer {
            let mut held = actual.remove(place).unwrap_or_default();
            held.sort_unstable();
            difference.take(&tracks[*place], &self.expected(&tracks[*place])?, &held);
        }
        Ok(difference)
    }

    /// The entries of the tracks at `places` in these segments, unsorted.
    fn read_tracks_of(
        &self,
        segments: &[Arc<Segment>],
        tracks: &[Known],
        places: &[usize],
    ) -> Result<BTreeMap<usize, Vec<Entry>>, IndexError> {
        type Entries = BTreeMap<usize, Vec<Entry>>;
        let positions = Places::new(tracks);
        let parts: Vec<Part<'_>> = segments.iter().flat_map(|segment| Part::of(segment)).collect();
        let work = |entries: &mut Entries, part: &Part<'_>| {
            self.for_each_entry(part, |entry| {
                let place = positions.find(entry.position());
                if let Some(place) = place.filter(|place| places.binary_search(place).is_ok()) {
                    entries.entry(place).or_default().push(entry);
                }
            })?;
            Ok(())
        };
        let on_done = |done| self.tell("comparing postings", done, parts.len());
        let mut all = Entries::new();
        for entries in work_off(&parts, Entries::new, work, on_done)? {
            for (place, entries) in entries {
                all.entry(place).or_default().extend(entries);
            }
        }
        Ok(all)
    }

    /// The entries that a track should have, ascending.
    fn expected(&self, track: &Known) -> Result<Vec<Entry>, IndexError> {
        let mut entries = Vec::new();
        self.inner.make_again(track.span, |postings| {
            entries.extend(postings.iter().map(|posting| Entry::new(*posting)));
        })?;
        entries.sort_unstable();
        Ok(entries)
    }
}

impl Difference {
    /// Takes in the differences of a track, both ascending.
    fn take(&mut self, track: &Known, expected: &[Entry], held: &[Entry]) {
        let mut rest = expected.iter().copied().peekable();
        for (i, entry) in held.iter().enumerate() {
            while let Some(missing) = rest.next_if(|wanted| wanted < entry) {
                self.missing += 1;
                self.name(track, missing, "is missing");
            }
            if i > 0 && held[i - 1] == *entry {
                self.doubled += 1;
                self.name(track, *entry, "is there twice");
            } else if rest.next_if_eq(entry).is_none() {
                self.foreign += 1;
                self.name(track, *entry, "is foreign");
            }
        }
        for missing in rest {
            self.missing += 1;
            self.name(track, missing, "is missing");
        }
    }

    fn name(&mut self, track: &Known, entry: Entry, what: &str) {
        if self.examples.len() < EXAMPLES_MAX {
            let key = entry.posting().key;
            let steps = entry.position().saturating_sub(track.span.start);
            let seconds = f64::from(steps) * f64::from(POSITION_MS) / 1e3;
            let (bucket, cell, id) = (key.bucket, key.cell, &track.id);
            let text =
                format!("bucket {bucket} cell {cell} of track {id} at {seconds:.1} s {what}");
            self.examples.push(text);
        }
    }
}
