//! Merging segments, so that a search looks into few of them.
//!
//! Two neighbours of about one size become one, as in a log-structured merge tree with levels: there is
//! at most one segment of each size, and sizes are four times apart. So a posting is written again two or
//! three times for each fourfold growth of the index, which is cheap: decoding audio takes longer by far,
//! and a search pays for each segment that it has to look into. All happens in the background; who adds
//! tracks never waits for it.
//!
//! # Source
//!
//! P. O'Neil et al., "The Log-Structured Merge-Tree (LSM-Tree)", Acta Informatica 33, 1996.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, TryLockError};

use rocksdb::{DBRawIterator, ReadOptions};

use super::lens::LensChange;
use super::segments::{Segment, block_key, damaged};
use super::{BLOCKS, Inner, lock, storage};
use crate::index::IndexError;
use crate::index::block::{BLOCK_LEN, Block};
use crate::index::segment::{Entry, Stretch};

/// How much greater the segments of the next class are.
const GROWTH: u64 = 4;
/// Postings up to which all segments count as of one size.
const SMALL: u64 = 1 << 20;
/// Bytes that are read ahead of a merge, so that it does not wait for each block.
const READAHEAD_BYTES: usize = 2 << 20;

/// Fewest postings of a segment of a size class.
pub(super) fn tier_min(tier: u32) -> u64 {
    tier.checked_sub(1).map_or(0, |tier| SMALL * GROWTH.pow(tier))
}

/// The size class of a segment: each is four times the one before.
pub(super) fn tier(posting_count: u64) -> u32 {
    (posting_count / SMALL).checked_ilog(GROWTH).map_or(0, |log| log + 1)
}

/// The neighbours, of sizes in the order of the timeline, that are to be merged next: `fan_in` at least of
/// one tier, and the smaller ones between and beside them.
fn due(sizes: &[u64], fan_in: usize) -> Option<Range<usize>> {
    let tiers: Vec<u32> = sizes.iter().map(|size| tier(*size)).collect();
    let greatest = tiers.iter().copied().max()?;
    // Small ones first: they are many, and cost little.
    (0..=greatest).find_map(|tier| {
        let mut end = 0;
        let mut runs = tiers.chunk_by(|a, b| (*a <= tier) == (*b <= tier)).map(|run| {
            end += run.len();
            (end - run.len()..end, run.iter().filter(|t| **t == tier).count())
        });
        runs.find(|(_, count)| *count >= fan_in).map(|(places, _)| places)
    })
}

impl Inner {
    /// The segments that are to be merged next.
    pub(super) fn merge_due(&self) -> Option<Vec<Arc<Segment>>> {
        let store = self.store();
        let sizes: Vec<u64> =
            store.segments.iter().map(|segment| segment.directory.posting_count).collect();
        due(&sizes, self.limits.fan_in).map(|places| store.segments[places].to_vec())
    }

    /// Merges until nothing is due. Returns at once if another thread does so already. A segment
    /// that cannot be merged stays as it is, for those who read it to be told why.
    pub(super) fn merge_what_is_due(&self) {
        let _merging = match self.merging.try_lock() {
            Ok(merging) => merging,
            Err(TryLockError::Poisoned(merging)) => merging.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        while let Some(segments) = self.merge_due() {
            let is_merged = self.merge(&segments).is_ok();
            // Nobody may hold those that are to be deleted.
            drop(segments);
            self.sweep();
            if !is_merged || self.is_closing.load(Ordering::Relaxed) {
                break;
            }
        }
    }

    /// Merges all segments into one, unless there is one only and all its tracks are live.
    pub(super) fn merge_all(&self) -> Result<(), IndexError> {
        let _merging = lock(&self.merging);
        let segments = self.store().segments.clone();
        let stored: u64 = segments.iter().map(|segment| segment.directory.posting_count).sum();
        if segments.len() > 1 || stored > self.live().stats.posting_count {
            self.merge(&segments)?;
        }
        // Nobody may hold those that are to be deleted.
        drop(segments);
        self.sweep();
        Ok(())
    }

    fn merge(&self, segments: &[Arc<Segment>]) -> Result<(), IndexError> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(()) };
        let stretch =
            Stretch { start: first.directory.stretch.start, end: last.directory.stretch.end };
        let holes = self.live().timeline.holes(stretch.start..stretch.end);
        let mut sources = segments
            .iter()
            .map(|segment| Source::new(self, segment))
            .collect::<Result<Vec<_>, _>>()?;
        let mut change = LensChange { replaced: segments, ..LensChange::default() };
        let merged = self.write_segment(stretch, &mut |push| {
            merge_sources(&mut sources, |entry| {
                if holes.contains(entry.position()) {
                    change.purged.count(entry.posting().key.bucket);
                    return Ok(());
                }
                push(entry)
            })
        })?;
        self.replace_segments(merged, &change)
    }
}

/// Calls `visit` with the entries of all sources in ascending order.
fn merge_sources(
    sources: &mut [Source<'_>],
    mut visit: impl FnMut(Entry) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    loop {
        // The least source, and how far it may go before another has to.
        let mut least: Option<(Entry, usize)> = None;
        let mut bound: Option<Entry> = None;
        for (i, source) in sources.iter().enumerate() {
            let Some(head) = source.head else { continue };
            if least.is_none_or(|(entry, _)| head < entry) {
                bound = least.map(|(entry, _)| entry);
                least = Some((head, i));
            } else if bound.is_none_or(|entry| head < entry) {
                bound = Some(head);
            }
        }
        let Some((_, i)) = least else { return Ok(()) };
        while let Some(head) = sources[i].head.filter(|head| bound.is_none_or(|b| *head < b)) {
            visit(head)?;
            sources[i].advance()?;
        }
    }
}

/// One segment, read from its beginning to its end.
struct Source<'i> {
    inner: &'i Inner,
    segment: Arc<Segment>,
    rows: DBRawIterator<'i>,
    /// Block that is read next.
    next_block: usize,
    /// Numbers of the block before it.
    numbers: Vec<u64>,
    /// Place of the number behind `head`.
    at: usize,
    /// `None` at the end.
    head: Option<Entry>,
}

impl<'i> Source<'i> {
    fn new(inner: &'i Inner, segment: &Arc<Segment>) -> Result<Self, IndexError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD_BYTES);
        let mut rows = inner.db.raw_iterator_cf_opt(inner.family(BLOCKS), options);
        rows.seek(block_key(segment.id, 0));
        let mut source = Self {
            inner,
            segment: Arc::clone(segment),
            rows,
            next_block: 0,
            numbers: Vec::with_capacity(BLOCK_LEN),
            at: 0,
            head: None,
        };
        source.advance()?;
        Ok(source)
    }

    fn advance(&mut self) -> Result<(), IndexError> {
        if self.at == self.numbers.len() && !self.read_block()? {
            self.head = None;
            return Ok(());
        }
        let number = self.numbers[self.at];
        self.at += 1;
        let entry = self.segment.directory.stretch.unpack(number);
        self.head = Some(entry.ok_or_else(|| damaged(self.segment.id, self.next_block - 1))?);
        Ok(())
    }

    /// Reads the next block; false at the end.
    fn read_block(&mut self) -> Result<bool, IndexError> {
        let directory = &self.segment.directory;
        if self.next_block == directory.block_count() {
            return Ok(false);
        }
        if self.inner.is_closing.load(Ordering::Relaxed) {
            return Err(IndexError::Storage {
                action: "merge postings",
                source: "the index is being closed".into(),
            });
        }
        let (id, block) = (self.segment.id, self.next_block);
        self.numbers.clear();
        self.at = 0;
        let Some((key, bytes)) = self.rows.item() else {
            self.rows.status().map_err(storage("read postings"))?;
            return Err(damaged(id, block));
        };
        let is_next = key == block_key(id, u32::try_from(block).unwrap_or(u32::MAX));
        let decoded = Block::open(bytes, directory.first_of(block))
            .filter(|_| is_next)
            .and_then(|block| block.decode(&mut self.numbers));
        decoded.ok_or_else(|| damaged(id, block))?;
        // Else the merged numbers would not ascend.
        let is_apart = |last: &u64| {
            block + 1 == directory.block_count() || *last < directory.first_of(block + 1)
        };
        self.numbers.last().filter(|last| is_apart(last)).ok_or_else(|| damaged(id, block))?;
        self.rows.next();
        self.next_block += 1;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_begins_where_it_says() {
        for class in 1..8 {
            let least = tier_min(class);
            assert_eq!((tier(least - 1), tier(least)), (class - 1, class));
        }
        assert_eq!((tier_min(0), tier(0)), (0, 0));
    }

    #[test]
    fn two_neighbours_of_a_size_are_due() {
        const M: u64 = 1 << 20;
        let due = |sizes: &[u64]| due(sizes, 2);
        assert_eq!(due(&[]), None);
        assert_eq!(due(&[1]), None);
        assert_eq!(due(&[1, M - 1]), Some(0..2));
        assert_eq!(due(&[64 * M, 16 * M, 4 * M, 3 * M, 7]), None);
        assert_eq!(due(&[64 * M, 4 * M, 15 * M, 7]), Some(1..4));
        // Small ones first.
        assert_eq!(due(&[16 * M, 16 * M, 4 * M, 1, 1]), Some(3..5));
        assert_eq!(due(&[1000 * M, 16 * M, 17 * M, 4 * M, 1]), Some(1..5));
        // What lies between greater ones is not forgotten.
        assert_eq!(due(&[64 * M, 1, 1, 64 * M]), Some(1..3));
        assert_eq!(due(&[64 * M, 1, 64 * M]), Some(0..3));
    }
}
