//! The segment: all postings of one stretch of the timeline, sorted by key, in blocks.
//!
//! Position in the flow: landmarks → **postings** → votes. This module maps postings to numbers,
//! numbers to blocks, and tells in which blocks the postings of a key range lie; it never opens a
//! database.
//!
//! A segment is written once and never changed. Postings of new tracks become a new segment, and
//! neighbouring segments are merged into greater ones, so that there are few. As positions are
//! given out in ascending order, each segment has a stretch of the timeline for itself.
//!
//! `docs/format.md` specifies the bytes: numbers, directory.

use std::ops::{Range, RangeInclusive};

use super::block::{self, BLOCK_LEN};
use super::varint::{read_varint, write_varint};
use super::{IndexError, Posting};
use crate::hash::{BUCKET_COUNT, CELL_COUNT, Key, KeyRange};

const DIGEST_BYTES: usize = 32;

/// A posting with its whole key as one number, whose order is that of the index: number of the
/// key, then position (32 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Entry(u64);

impl Entry {
    pub(super) fn new(posting: Posting) -> Self {
        Self(key_number(posting.key) << u32::BITS | u64::from(posting.position))
    }

    /// First and last entry that can lie in a range.
    pub(super) fn bounds(range: &KeyRange) -> (Self, Self) {
        let (low, high) = key_bounds(range);
        (Self(low << u32::BITS), Self(high << u32::BITS | u64::from(u32::MAX)))
    }

    pub(super) fn posting(self) -> Posting {
        Posting { key: key_of(self.0 >> u32::BITS), position: self.position() }
    }

    /// Key and position as one number.
    pub(super) fn number(self) -> u64 {
        self.0
    }

    pub(super) fn position(self) -> u32 {
        narrow(self.0 & u64::from(u32::MAX))
    }
}

fn key_number(key: Key) -> u64 {
    u64::from(key.bucket) * u64::from(CELL_COUNT) + u64::from(key.cell)
}

fn key_of(number: u64) -> Key {
    let cell = u16::try_from(number % u64::from(CELL_COUNT)).expect("cells are few");
    Key { bucket: narrow(number / u64::from(CELL_COUNT)), cell }
}

/// Numbers of the first and the last key of a range, which may reach beyond the cells of its buckets;
/// the first is the greater one if there is no such key.
fn key_bounds(range: &KeyRange) -> (u64, u64) {
    let low = *range.cells.start().min(&CELL_COUNT);
    let high = *range.cells.end().min(&(CELL_COUNT - 1));
    // Buckets that no key has are empty.
    let number = |bucket: &u32, cell| key_number(Key { bucket: *bucket.min(&BUCKET_COUNT), cell });
    (number(range.buckets.start(), low), number(range.buckets.end(), high))
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).expect("key numbers and positions have 32 bits")
}

/// A stretch of the timeline whose postings are or become one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// First position.
    pub(super) start: u32,
    /// Position behind the last, above `start`.
    pub(super) end: u32,
}

impl Stretch {
    /// Bits of a position from `start`.
    fn width(self) -> u32 {
        u32::BITS - (self.end - self.start - 1).leading_zeros()
    }

    fn pack(self, entry: Entry) -> u64 {
        (entry.0 >> u32::BITS) << self.width() | u64::from(entry.position() - self.start)
    }

    /// The entry of a number of this stretch. `None` if there is none, which happens to damaged
    /// blocks.
    pub(super) fn unpack(self, number: u64) -> Option<Entry> {
        let offset = number & ((1 << self.width()) - 1);
        let (key, position) = (number >> self.width(), u64::from(self.start) + offset);
        let is_key = key < u64::from(BUCKET_COUNT) * u64::from(CELL_COUNT);
        (is_key && position < u64::from(self.end)).then_some(Entry(key << u32::BITS | position))
    }

    /// First and last number that a posting of a range can have.
    pub(super) fn bounds(self, range: &KeyRange) -> (u64, u64) {
        let (low, high) = key_bounds(range);
        (low << self.width(), high << self.width() | ((1 << self.width()) - 1))
    }

    /// The posting of a number that lies within the [bounds](Self::bounds) of a range; `None` if it
    /// is of a cell that is left out.
    #[inline]
    pub(super) fn posting_in(self, range: &KeyRange, number: u64) -> Option<Posting> {
        // In 32 bits, in which dividing takes a third of the time.
        let key = u32::try_from(number >> self.width()).ok()?;
        let (bucket, cell) = (key / u32::from(CELL_COUNT), key % u32::from(CELL_COUNT));
        let cell = u16::try_from(cell).ok()?;
        if !range.cells.contains(&cell) {
            return None;
        }
        let offset = u32::try_from(number & ((1 << self.width()) - 1)).ok()?;
        // Damage must not end in a panic.
        let position = self.start.wrapping_add(offset);
        Some(Posting { key: Key { bucket, cell }, position })
    }
}

/// What is known of a segment without reading its blocks. Eight bytes a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) stretch: Stretch,
    pub(super) posting_count: u64,
    /// First number of each block, ascending.
    firsts: Vec<u64>,
}

impl Directory {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + 6 * self.firsts.len() + DIGEST_BYTES);
        bytes.extend_from_slice(&self.stretch.start.to_be_bytes());
        bytes.extend_from_slice(&self.stretch.end.to_be_bytes());
        bytes.extend_from_slice(&self.posting_count.to_be_bytes());
        bytes.extend_from_slice(&narrow(self.firsts.len() as u64).to_be_bytes());
        let mut before = 0;
        for first in &self.firsts {
            write_varint(&mut bytes, first - before);
            before = *first;
        }
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        bytes
    }

    /// Reads back what [`Directory::encode`] wrote; `None` if it is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>()?;
        if blake3::hash(content).as_bytes() != digest {
            return None;
        }
        let (start, rest) = content.split_first_chunk()?;
        let (end, rest) = rest.split_first_chunk()?;
        let (posting_count, rest) = rest.split_first_chunk()?;
        let (block_count, mut rest) = rest.split_first_chunk()?;
        let stretch = Stretch { start: u32::from_be_bytes(*start), end: u32::from_be_bytes(*end) };
        let block_count = u32::from_be_bytes(*block_count) as usize;
        // Each takes a byte at least.
        if stretch.start >= stretch.end || block_count > rest.len() {
            return None;
        }
        let mut firsts = Vec::with_capacity(block_count);
        let mut first = 0_u64;
        for _ in 0..block_count {
            first = first.checked_add(read_varint(&mut rest)?)?;
            firsts.push(first);
        }
        let posting_count = u64::from_be_bytes(*posting_count);
        let blocks = firsts.len() as u64;
        let is_count = (blocks..=blocks * BLOCK_LEN as u64).contains(&posting_count);
        // Of the last key at most.
        let is_number = |last: &u64| stretch.unpack(*last).is_some();
        let is_whole = rest.is_empty()
            && is_count
            && firsts.is_sorted_by(|a, b| a < b)
            && firsts.last().is_none_or(is_number);
        is_whole.then_some(Self { stretch, posting_count, firsts })
    }

    /// Number of blocks.
    pub(super) fn block_count(&self) -> usize {
        self.firsts.len()
    }

    /// First number of a block of this segment.
    pub(super) fn first_of(&self, block: usize) -> u64 {
        self.firsts[block]
    }

    /// Postings of a bucket in a block, about, if they are spread evenly over it.
    pub(super) fn bucket_len(&self, block: usize) -> u64 {
        let Some(next) = self.firsts.get(block + 1) else { return 0 };
        let span = (next - self.firsts[block]) >> self.stretch.width();
        BLOCK_LEN as u64 * u64::from(CELL_COUNT) / span.max(1)
    }

    /// Those of `buckets` that may have postings in a block.
    pub(super) fn buckets_in(
        &self,
        block: usize,
        buckets: RangeInclusive<u32>,
    ) -> RangeInclusive<u32> {
        let bucket = |number: u64| narrow((number >> self.stretch.width()) / u64::from(CELL_COUNT));
        let first = bucket(self.firsts[block]).max(*buckets.start());
        let last = self.firsts.get(block + 1).map_or(u32::MAX, |next| bucket(*next));
        first..=last.min(*buckets.end())
    }

    /// The blocks that may hold numbers of `low` to `high`. None of them is before `hint`: whoever
    /// asks for ascending ranges gives the first block of the answer before, which is found again
    /// faster.
    pub(super) fn blocks(&self, low: u64, high: u64, hint: usize) -> Range<usize> {
        let firsts = &self.firsts[hint.min(self.firsts.len())..];
        // The steps double until one is too far.
        let mut step = 1;
        while step < firsts.len() && firsts[step] <= low {
            step *= 2;
        }
        let (from, to) = (step / 2, (step + 1).min(firsts.len()));
        let behind = from + firsts[from..to].partition_point(|first| *first <= low);
        let start = behind.saturating_sub(1);
        let mut end = behind;
        while end < firsts.len() && firsts[end] <= high {
            end += 1;
        }
        hint + start..hint + end
    }
}

/// Cuts ascending entries of one stretch into blocks.
pub(super) struct SegmentBuilder<S> {
    stretch: Stretch,
    posting_count: u64,
    firsts: Vec<u64>,
    numbers: Vec<u64>,
    /// Takes each block, with its number, in ascending order.
    sink: S,
}

impl<S: FnMut(u32, &[u8]) -> Result<(), IndexError>> SegmentBuilder<S> {
    pub(super) fn new(stretch: Stretch, sink: S) -> Self {
        let numbers = Vec::with_capacity(BLOCK_LEN);
        Self { stretch, posting_count: 0, firsts: Vec::new(), numbers, sink }
    }

    /// Takes the next entry, which must be above the one before and of this stretch.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), IndexError> {
        self.numbers.push(self.stretch.pack(entry));
        if self.numbers.len() == BLOCK_LEN { self.finish_block() } else { Ok(()) }
    }

    fn finish_block(&mut self) -> Result<(), IndexError> {
        let Some(first) = self.numbers.first() else { return Ok(()) };
        let number = narrow(self.firsts.len() as u64);
        self.firsts.push(*first);
        self.posting_count += self.numbers.len() as u64;
        (self.sink)(number, &block::encode(&self.numbers))?;
        self.numbers.clear();
        Ok(())
    }

    /// The directory of the whole segment.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub(super) fn finish(mut self) -> Result<Directory, IndexError> {
        self.finish_block()?;
        let Self { stretch, posting_count, firsts, .. } = self;
        Ok(Directory { stretch, posting_count, firsts })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::index::block::Block;

    fn any_entries() -> impl Strategy<Value = BTreeSet<Entry>> {
        // Few buckets, so that ranges meet them.
        let bucket = prop_oneof![0_u32..3, BUCKET_COUNT - 3..BUCKET_COUNT];
        let entry = (bucket, 0..CELL_COUNT, 1_000_u32..300_000);
        let entry = entry.prop_map(|(bucket, cell, position)| {
            Entry::new(Posting { key: Key { bucket, cell }, position })
        });
        proptest::collection::btree_set(entry, 0..3_000)
    }

    const STRETCH: Stretch = Stretch { start: 1_000, end: 300_000 };

    fn build(entries: &BTreeSet<Entry>) -> (Directory, Vec<Vec<u8>>) {
        let mut blocks = Vec::new();
        let mut builder = SegmentBuilder::new(STRETCH, |number, bytes: &[u8]| {
            assert_eq!(number as usize, blocks.len());
            blocks.push(bytes.to_vec());
            Ok(())
        });
        entries.iter().for_each(|entry| builder.push(*entry).unwrap());
        let directory = builder.finish().unwrap();
        (directory, blocks)
    }

    #[test]
    fn directory_bytes_of_version_2() {
        let directory = Directory {
            stretch: Stretch { start: 1, end: 0x0203 },
            posting_count: 1_025,
            firsts: vec![5, 305],
        };
        let bytes = directory.encode();
        let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().unwrap();
        let expected = [0, 0, 0, 1, 0, 0, 2, 3, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 2, 5, 0xac, 2];
        assert_eq!(content, expected);
        assert_eq!(digest, blake3::hash(content).as_bytes());
        assert_eq!(Directory::decode(&bytes), Some(directory));
    }

    #[test]
    fn numbers_of_version_2() {
        let posting = Posting { key: Key { bucket: 3, cell: 7 }, position: 11 };
        let entry = Entry::new(posting);
        assert_eq!(entry.posting(), posting);
        // A stretch of nine steps needs four bits.
        let stretch = Stretch { start: 10, end: 19 };
        assert_eq!(stretch.pack(entry), (3 * 35 + 7) << 4 | 1);
        assert_eq!(stretch.unpack((3 * 35 + 7) << 4 | 1), Some(entry));
        assert_eq!(stretch.unpack((3 * 35 + 7) << 4 | 9), None);
        assert_eq!(
            Stretch { start: 10, end: 11 }
                .pack(Entry::new(Posting { key: Key { bucket: 0, cell: 1 }, position: 10 })),
            1
        );
        assert_eq!(Stretch { start: 0, end: u32::MAX }.width(), 32);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_blocks_of_a_range_hold_all_of_it(
            entries in any_entries(), bucket in 0_u32..3, dts in 0_u32..3, low in 0..CELL_COUNT,
            width in 0_u16..40, hints: bool,
        ) {
            let (directory, blocks) = build(&entries);
            prop_assert_eq!(directory.posting_count, entries.len() as u64);
            let range = KeyRange { buckets: bucket..=bucket + dts, cells: low..=low + width };
            let (low, high) = STRETCH.bounds(&range);
            let mut hint = 0;
            if hints && bucket > 0 {
                let (low, high) = STRETCH.bounds(&KeyRange { buckets: bucket - 1..=bucket, cells: 5..=9 });
                hint = directory.blocks(low, high, 0).start;
            }
            let mut found = BTreeSet::new();
            for i in directory.blocks(low, high, hint) {
                let mut numbers = Vec::new();
                let block = Block::open(&blocks[i], directory.first_of(i)).unwrap();
                block.decode(&mut numbers).unwrap();
                for number in numbers.into_iter().filter(|number| (low..=high).contains(number)) {
                    let entry = STRETCH.unpack(number).unwrap();
                    if let Some(posting) = STRETCH.posting_in(&range, number) {
                        prop_assert_eq!(posting, entry.posting());
                        found.insert(entry);
                    }
                }
            }
            let (first, last) = Entry::bounds(&range);
            prop_assume!(first <= last);
            let in_cells = |entry: &&Entry| range.contains(entry.posting().key);
            let expected: BTreeSet<_> =
                entries.range(first..=last).filter(in_cells).copied().collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn damaged_directories_are_noticed(entries in any_entries(), at: usize, flip in 1_u8..) {
            let (directory, _) = build(&entries);
            let mut bytes = directory.encode();
            prop_assert_eq!(Directory::decode(&bytes), Some(directory));
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert_eq!(Directory::decode(&bytes), None);
        }
    }

    #[test]
    fn directories_that_cannot_be_are_refused() {
        let whole = Directory {
            stretch: Stretch { start: 5, end: 9 },
            posting_count: 1_025,
            firsts: vec![0, 7_000],
        };
        let decoded = |change: &dyn Fn(&mut Directory)| {
            let mut directory = whole.clone();
            change(&mut directory);
            Directory::decode(&directory.encode())
        };
        assert_eq!(decoded(&|_| ()).as_ref(), Some(&whole));
        assert_eq!(decoded(&|directory| directory.posting_count = 1), None);
        assert_eq!(decoded(&|directory| directory.posting_count = u64::MAX), None);
        assert_eq!(decoded(&|directory| directory.firsts[1] = u64::MAX / 2), None);
        assert_eq!(decoded(&|directory| directory.stretch.end = 5), None);
    }
}
