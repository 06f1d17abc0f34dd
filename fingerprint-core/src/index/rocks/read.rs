//! Reading posting lists: the blocks of a few hundred ranges at a time, fetched together.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rocksdb::ReadOptions;

use super::segments::{Segment, Store, block_key, damaged};
use super::{BLOCKS, Inner, storage};
use crate::hash::KeyRange;
use crate::index::block::Block;
use crate::index::{IndexError, Posting};

/// Ranges whose blocks are fetched together, at most …
const RANGES_MAX: usize = 512;
/// … and blocks after which no further range is taken in, which bounds the memory to some MiB.
const BLOCKS_MAX: usize = 1_024;

/// Memory of the blocks that are kept, 512 MiB, …
const CACHE_BYTES: u64 = 512 << 20;
/// … and how many these are, about.
const CACHED_BLOCKS: usize = 180_000;

/// What is told of each range that is not empty: its place and its postings.
pub(super) type Visit<'v> = dyn FnMut(usize, &[Posting]) -> ControlFlow<()> + 'v;

impl Inner {
    /// [`crate::index::Index::read_postings`].
    pub(super) fn read_ranges(
        &self,
        ranges: &[KeyRange],
        visit: &mut Visit<'_>,
    ) -> Result<(), IndexError> {
        let store = self.store();
        let mut hints = vec![0; store.segments.len()];
        let mut postings = Vec::new();
        let mut first = 0;
        while first < ranges.len() {
            let plan = Plan::new(&store, &ranges[first..], &mut hints);
            let fetched = self.fetch(&store, &plan)?;
            let mut cursors: Vec<_> = store
                .segments
                .iter()
                .zip(&plan.of_segments)
                .zip(&fetched)
                .map(|((segment, wanted), rows)| Cursor::new(segment, wanted, rows))
                .collect();
            for (i, range) in ranges[first..first + plan.range_count].iter().enumerate() {
                postings.clear();
                for cursor in &mut cursors {
                    cursor.read(i, range, &mut postings)?;
                }
                store.buffers().for_each(|buffer| buffer.read(range, &mut postings));
                if !postings.is_empty() && visit(first + i, &postings).is_break() {
                    return Ok(());
                }
            }
            first += plan.range_count;
        }
        Ok(())
    }

    /// The blocks of a plan, segment by segment.
    fn fetch(&self, store: &Store, plan: &Plan) -> Result<Vec<Vec<Arc<[u8]>>>, IndexError> {
        let wanted = store.segments.iter().zip(&plan.of_segments);
        wanted.map(|(segment, wanted)| self.fetch_blocks(segment.id, &wanted.blocks)).collect()
    }

    fn fetch_blocks(&self, segment: u32, blocks: &[u32]) -> Result<Vec<Arc<[u8]>>, IndexError> {
        let mut fetched: Vec<Option<Arc<[u8]>>> = blocks
            .iter()
            .map(|block| self.blocks.get(&BlockId { segment, block: *block }))
            .collect();
        let missing: Vec<u32> =
            blocks.iter().zip(&fetched).filter(|(_, got)| got.is_none()).map(|(b, _)| *b).collect();
        let keys: Vec<_> = missing.iter().map(|block| block_key(segment, *block)).collect();
        let family = self.family(BLOCKS);
        let options = ReadOptions::default();
        let rows = self.db.batched_multi_get_cf_opt(family, &keys, true, &options);
        let mut rows = rows.into_iter().zip(missing);
        for place in fetched.iter_mut().filter(|place| place.is_none()) {
            let Some((row, block)) = rows.next() else { break };
            let row = row.map_err(storage("read postings"))?;
            let bytes: Arc<[u8]> = (*row.ok_or_else(|| damaged(segment, block as usize))?).into();
            self.blocks.insert(BlockId { segment, block }, Arc::clone(&bytes));
            *place = Some(bytes);
        }
        Ok(fetched.into_iter().flatten().collect())
    }
}

/// A block of a segment, as the key of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BlockId {
    segment: u32,
    block: u32,
}

/// What a cached block weighs: its bytes and what is kept about it.
#[derive(Debug, Clone)]
pub(super) struct BlockWeight;

impl Weighter<BlockId, Arc<[u8]>> for BlockWeight {
    fn weight(&self, _: &BlockId, bytes: &Arc<[u8]>) -> u64 {
        bytes.len() as u64 + 64
    }
}

/// Blocks read lately. A search reads thousands, and the database's own cache takes longer to find
/// one.
pub(super) type BlockCache = Cache<BlockId, Arc<[u8]>, BlockWeight>;

/// A cache of [`CACHE_BYTES`].
pub(super) fn new_cache() -> BlockCache {
    Cache::with_weighter(CACHED_BLOCKS, CACHE_BYTES, BlockWeight)
}

/// The blocks of one segment that some ranges need.
#[derive(Default)]
struct Wanted {
    /// Ascending.
    blocks: Vec<u32>,
    /// For each range, the places of its blocks in `blocks`.
    of_ranges: Vec<Range<usize>>,
}

/// The blocks that the next ranges need.
struct Plan {
    range_count: usize,
    of_segments: Vec<Wanted>,
}

impl Plan {
    /// As many of `ranges`, which are ascending, as are worth fetching together. `hints` are blocks
    /// of each segment before which nothing is wanted any more.
    fn new(store: &Store, ranges: &[KeyRange], hints: &mut [usize]) -> Self {
        let mut of_segments: Vec<Wanted> =
            store.segments.iter().map(|_| Wanted::default()).collect();
        let mut range_count = 0;
        for range in ranges.iter().take(RANGES_MAX) {
            range_count += 1;
            let mut block_count = 0;
            for ((segment, wanted), hint) in
                store.segments.iter().zip(&mut of_segments).zip(&mut *hints)
            {
                let (low, high) = segment.directory.stretch.bounds(range);
                let blocks = segment.directory.blocks(low, high, *hint);
                *hint = blocks.start;
                wanted.push(blocks);
                block_count += wanted.blocks.len();
            }
            if block_count >= BLOCKS_MAX {
                break;
            }
        }
        Self { range_count, of_segments }
    }
}

impl Wanted {
    /// Takes in the blocks of the next range; they do not begin before those of the last.
    fn push(&mut self, blocks: Range<usize>) {
        let behind = self.blocks.last().map_or(0, |last| *last as usize + 1);
        // From the start of the last range to `behind`, no block is left out.
        let first = self.blocks.len() - behind.saturating_sub(blocks.start);
        let new = blocks.start.max(behind)..blocks.end;
        self.blocks.extend(new.map(|block| u32::try_from(block).expect("blocks have 32 bits")));
        self.of_ranges.push(first..first + blocks.len());
    }
}

/// Reads ranges, in ascending order, from the fetched blocks of one segment.
struct Cursor<'a> {
    segment: &'a Segment,
    wanted: &'a Wanted,
    rows: &'a [Arc<[u8]>],
    /// The block that is open, by its place in `rows`.
    open: Option<(usize, Block<'a>)>,
}

impl<'a> Cursor<'a> {
    fn new(segment: &'a Segment, wanted: &'a Wanted, rows: &'a [Arc<[u8]>]) -> Self {
        Self { segment, wanted, rows, open: None }
    }

    /// Appends the postings of the `i`th range of the plan.
    fn read(
        &mut self,
        i: usize,
        range: &KeyRange,
        postings: &mut Vec<Posting>,
    ) -> Result<(), IndexError> {
        let stretch = self.segment.directory.stretch;
        let (low, high) = stretch.bounds(range);
        for place in self.wanted.of_ranges[i].clone() {
            let number = self.wanted.blocks[place] as usize;
            let damaged = || damaged(self.segment.id, number);
            if self.open.as_ref().is_none_or(|(open, _)| *open != place) {
                let first = self.segment.directory.first_of(number);
                let block = Block::open(&self.rows[place], first).ok_or_else(damaged)?;
                self.open = Some((place, block));
            }
            let Some((_, block)) = &self.open else { continue };
            let take = |number| postings.extend(stretch.posting_in(range, number));
            block.visit(low, high, take).ok_or_else(damaged)?;
        }
        Ok(())
    }
}
