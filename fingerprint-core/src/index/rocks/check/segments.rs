//! Segments: directories, and everything that their blocks hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::parallel::work_off;
use super::rows::{Damage, Rows};
use super::tally::Tally;
use super::tracks::Known;
use super::{Check, Fault};
use crate::hash::{SLOT_COUNT, slot_of};
use crate::index::IndexError;
use crate::index::block::{BLOCK_LEN, Block};
use crate::index::rocks::segments::{Segment, block_key, parse_block_key};
use crate::index::rocks::{BLOCKS, SEGMENTS};
use crate::index::segment::{Directory, Entry};

/// Blocks of one task: a few MiB.
const TASK_BLOCKS: usize = 2_048;

/// What the segments hold.
pub(super) struct Held {
    /// Postings of each track, by its place in the list of tracks.
    pub(super) of_tracks: Vec<Tally>,
    /// By number of the segment.
    of_segments: BTreeMap<u32, InSegment>,
    /// Postings of each slot.
    lengths: Box<[u32]>,
}

/// What was seen of one segment.
#[derive(Default)]
struct InSegment {
    posting_count: u64,
    purgeable_count: u64,
    bad_blocks: BTreeMap<u32, String>,
}

/// Numbers of segments.
pub(super) struct Numbers {
    /// Segments whose blocks are there and whose directory is not.
    pub(super) leftover_count: u64,
    /// Above all that are in use.
    pub(super) next: u32,
}

impl Held {
    fn new(track_count: usize) -> Self {
        Self {
            of_tracks: vec![Tally::default(); track_count],
            of_segments: BTreeMap::new(),
            lengths: vec![0; SLOT_COUNT as usize].into(),
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.of_tracks.iter_mut().zip(other.of_tracks).for_each(|(sum, tally)| sum.merge(tally));
        self.lengths.iter_mut().zip(&other.lengths).for_each(|(sum, len)| *sum += len);
        for (id, other) in other.of_segments {
            let seen = self.of_segments.entry(id).or_default();
            seen.posting_count += other.posting_count;
            seen.purgeable_count += other.purgeable_count;
            seen.bad_blocks.extend(other.bad_blocks);
        }
        self
    }

    pub(super) fn purgeable_count(&self) -> u64 {
        self.of_segments.values().map(|segment| segment.purgeable_count).sum()
    }

    /// True if the lengths are those of `table`, slot by slot, which leaves empty ones out.
    pub(super) fn has_lengths(&self, table: &[(u32, u32)]) -> bool {
        let held = (0..).zip(self.lengths.iter().copied()).filter(|(_, len)| *len > 0);
        held.eq(table.iter().copied().filter(|(_, len)| *len > 0))
    }
}

/// Where tracks begin, to find the track of a position.
pub(super) struct Places<'t> {
    tracks: &'t [Known],
    starts: Vec<u32>,
}

impl<'t> Places<'t> {
    pub(super) fn new(tracks: &'t [Known]) -> Self {
        Self { tracks, starts: tracks.iter().map(|track| track.span.start).collect() }
    }

    /// Place of the track at `position`.
    #[inline]
    pub(super) fn find(&self, position: u32) -> Option<usize> {
        let place = self.starts.partition_point(|start| *start <= position).checked_sub(1)?;
        (position < self.tracks[place].span.end()).then_some(place)
    }
}

/// Neighbouring blocks of a segment.
pub(super) struct Part<'s> {
    pub(super) segment: &'s Segment,
    first: usize,
    end: usize,
}

impl<'s> Part<'s> {
    /// All parts of a segment.
    pub(super) fn of(segment: &'s Segment) -> impl Iterator<Item = Self> {
        let count = segment.directory.block_count();
        let part = move |first| Self { segment, first, end: (first + TASK_BLOCKS).min(count) };
        (0..count).step_by(TASK_BLOCKS).map(part)
    }
}

impl Check<'_> {
    /// The segments whose directory can be read, in the order of the timeline.
    pub(super) fn read_directories(&mut self) -> Result<Vec<Arc<Segment>>, IndexError> {
        let mut rows = self.rows(SEGMENTS);
        let mut segments = Vec::new();
        while let Some((key, value)) = rows.next()? {
            let id = key.try_into().map(u32::from_be_bytes).ok();
            match (id, Directory::decode(value)) {
                (Some(id), Some(directory)) => segments.push(Arc::new(Segment { id, directory })),
                (id, _) => {
                    self.faults.push(Fault::Directory { segment: id });
                    self.mending.bad_directories.push(key.into());
                }
            }
        }
        self.note_damage(SEGMENTS, rows.damage);
        segments.sort_unstable_by_key(|segment| segment.directory.stretch.start);
        for pair in segments.windows(2) {
            if pair[0].directory.stretch.end > pair[1].directory.stretch.start {
                let (segment, other) = (pair[1].id, pair[0].id);
                self.faults.push(Fault::SegmentOverlap { segment, other });
                self.mending.bad_segments.extend([segment, other]);
            }
        }
        Ok(segments)
    }

    /// Adds up the postings of all segments.
    pub(super) fn read_blocks(
        &mut self,
        tracks: &[Known],
        segments: &[Arc<Segment>],
    ) -> Result<Held, IndexError> {
        let places = Places::new(tracks);
        let parts: Vec<Part<'_>> = segments.iter().flat_map(|segment| Part::of(segment)).collect();
        let work = |held: &mut Held, part: &Part<'_>| {
            let id = part.segment.id;
            let mut seen = InSegment::default();
            let bad_blocks = self.for_each_entry(part, |entry| {
                seen.posting_count += 1;
                held.lengths[slot_of(entry.posting().key.bucket) as usize] += 1;
                match places.find(entry.position()) {
                    Some(place) => held.of_tracks[place].add(entry),
                    None => seen.purgeable_count += 1,
                }
            })?;
            let sum = held.of_segments.entry(id).or_default();
            sum.posting_count += seen.posting_count;
            sum.purgeable_count += seen.purgeable_count;
            sum.bad_blocks.extend(bad_blocks);
            Ok(())
        };
        let on_done = |done| self.tell("reading postings", done, parts.len());
        let held = work_off(&parts, || Held::new(tracks.len()), work, on_done)?;
        let held = held.into_iter().reduce(Held::merge).unwrap_or_else(|| Held::new(tracks.len()));
        for segment in segments {
            self.judge_segment(segment, held.of_segments.get(&segment.id));
        }
        Ok(held)
    }

    fn judge_segment(&mut self, segment: &Segment, seen: Option<&InSegment>) {
        let recorded = segment.directory.posting_count;
        let actual = seen.map_or(0, |seen| seen.posting_count);
        let bad_blocks = seen.map(|seen| &seen.bad_blocks).filter(|blocks| !blocks.is_empty());
        if let Some((first, what)) = bad_blocks.and_then(BTreeMap::first_key_value) {
            self.faults.push(Fault::Blocks {
                segment: segment.id,
                block_count: bad_blocks.map_or(0, |blocks| blocks.len() as u64),
                first: *first,
                what: what.clone(),
            });
        } else if recorded != actual {
            self.faults.push(Fault::SegmentCount { segment: segment.id, recorded, actual });
        } else {
            return;
        }
        self.mending.bad_segments.insert(segment.id);
    }

    /// Calls `visit` with every entry of a part that can be read. Says which blocks cannot.
    pub(super) fn for_each_entry(
        &self,
        part: &Part<'_>,
        mut visit: impl FnMut(Entry),
    ) -> Result<BTreeMap<u32, String>, IndexError> {
        let number = |block: usize| u32::try_from(block).unwrap_or(u32::MAX);
        let (id, directory) = (part.segment.id, &part.segment.directory);
        let (from, until) = (block_key(id, number(part.first)), block_key(id, number(part.end)));
        let mut rows = Rows::new(self.inner, BLOCKS, &from, Some(&until));
        let mut bad = BTreeMap::new();
        let mut numbers = Vec::with_capacity(BLOCK_LEN);
        let mut next = part.first;
        while let Some((key, bytes)) = rows.next()? {
            // Rows of another form are in nobody's way.
            let Some((_, block)) = parse_block_key(key) else { continue };
            let block = block as usize;
            (next..block).for_each(|block| drop(bad.insert(number(block), String::new())));
            next = block + 1;
            match decode(directory, block, bytes, &mut numbers) {
                Ok(()) => {
                    let entry = |number| directory.stretch.unpack(number);
                    numbers.iter().filter_map(|number| entry(*number)).for_each(&mut visit);
                }
                Err(what) => drop(bad.insert(number(block), what.to_owned())),
            }
        }
        (next..part.end).for_each(|block| drop(bad.insert(number(block), String::new())));
        name_gaps(&mut bad, &rows.damage);
        Ok(bad)
    }

    /// The numbers of segments that are in use.
    pub(super) fn read_numbers(&self, segments: &[Arc<Segment>]) -> Result<Numbers, IndexError> {
        let bad = self.mending.bad_directories.iter();
        let bad = bad.filter_map(|key| Some(u32::from_be_bytes(key.as_ref().try_into().ok()?)));
        let known: BTreeSet<u32> = segments.iter().map(|segment| segment.id).chain(bad).collect();
        let mut last = known.last().copied();
        let mut leftover_count = 0;
        let mut from = block_key(0, 0);
        loop {
            let mut rows = Rows::new(self.inner, BLOCKS, &from, None);
            let Some((key, _)) = rows.next()? else { break };
            let Some((id, _)) = parse_block_key(key) else { break };
            leftover_count += u64::from(!known.contains(&id));
            last = last.max(Some(id));
            let Some(next) = id.checked_add(1) else { break };
            from = block_key(next, 0);
        }
        Ok(Numbers { leftover_count, next: last.map_or(0, |id| id.saturating_add(1)) })
    }
}

/// Says why blocks are not there: there is no row for them, or it cannot be read.
fn name_gaps(bad: &mut BTreeMap<u32, String>, damage: &Damage) {
    let what = match &damage.what {
        Some(what) => format!("cannot be read: {what}"),
        None => "is missing".to_owned(),
    };
    bad.values_mut().filter(|text| text.is_empty()).for_each(|text| text.clone_from(&what));
}

/// Decodes a block into `numbers`. Says what is wrong if it does not fit its place in the directory.
fn decode(
    directory: &Directory,
    block: usize,
    bytes: &[u8],
    numbers: &mut Vec<u64>,
) -> Result<(), &'static str> {
    numbers.clear();
    let decoded = Block::open(bytes, directory.first_of(block)).and_then(|b| b.decode(numbers));
    decoded.ok_or("cannot be understood")?;
    let next = (block + 1 < directory.block_count()).then(|| directory.first_of(block + 1));
    if numbers.last().zip(next).is_some_and(|(last, next)| *last >= next) {
        return Err("reaches into the next");
    }
    if numbers.iter().any(|number| directory.stretch.unpack(*number).is_none()) {
        return Err("holds postings outside of its segment");
    }
    Ok(())
}
