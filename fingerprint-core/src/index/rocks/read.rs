//! Reading posting lists: the blocks of a few hundred ranges at a time, fetched together.

use std::ops::{ControlFlow, Range};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rocksdb::ReadOptions;

use super::segments::{Segment, Store, block_key, damaged};
use super::{BLOCKS, Inner, storage};
use crate::hash::{CELL_COUNT, KeyRange};
use crate::index::block::Block;
use crate::index::{IndexError, Posting};

/// Ranges whose blocks are fetched together, at most …
const RANGES_MAX: usize = 512;
/// … and blocks after which no further range is taken in, which bounds the memory to some MiB.
const BLOCKS_MAX: usize = 1_024;

/// Ranges of at most this many cells are read bucket by bucket …
const NARROW_CELLS: usize = CELL_COUNT as usize / 2;
/// … where a bucket has at least so many postings.
const LONG: u64 = 64;

/// Blocks that are read before it is known whether they come from the disk, …
const PROBED_BLOCKS: usize = 16;
/// … which they do if they take longer than this. Out of the page cache they take 50 µs.
const PROBED_TIME: Duration = Duration::from_micros(400);
/// Threads that read from a disk: one block takes 60 µs alone, and 25 µs with eight readers or more.
const READERS: usize = 8;

/// Memory of the blocks that are kept, 1 GiB, …
const CACHE_BYTES: u64 = 1 << 30;
/// … and how many these are, about.
const CACHED_BLOCKS: usize = 360_000;

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
        let mut rows = self.read_blocks(segment, &missing)?.into_iter().zip(missing);
        for place in fetched.iter_mut().filter(|place| place.is_none()) {
            let Some((bytes, block)) = rows.next() else { break };
            self.blocks.insert(BlockId { segment, block }, Arc::clone(&bytes));
            *place = Some(bytes);
        }
        Ok(fetched.into_iter().flatten().collect())
    }

    /// Reads blocks from the database; with several threads if the first ones came from the disk, which
    /// serves many readers in the time of two.
    fn read_blocks(&self, segment: u32, blocks: &[u32]) -> Result<Vec<Arc<[u8]>>, IndexError> {
        let (first, rest) = blocks.split_at(blocks.len().min(PROBED_BLOCKS));
        let started = Instant::now();
        let mut rows = self.read_some_blocks(segment, first)?;
        let is_from_disk = started.elapsed() > PROBED_TIME;
        if !is_from_disk || rest.is_empty() {
            rows.extend(self.read_some_blocks(segment, rest)?);
            return Ok(rows);
        }
        let shares = rest.chunks(rest.len().div_ceil(READERS));
        thread::scope(|scope| {
            let read = |share| scope.spawn(move || self.read_some_blocks(segment, share));
            let readers: Vec<_> = shares.map(read).collect();
            for reader in readers {
                // A panic goes on in this thread.
                rows.extend(reader.join().unwrap_or_else(|panic| resume_unwind(panic))?);
            }
            Ok(rows)
        })
    }

    fn read_some_blocks(&self, segment: u32, blocks: &[u32]) -> Result<Vec<Arc<[u8]>>, IndexError> {
        let keys: Vec<_> = blocks.iter().map(|block| block_key(segment, *block)).collect();
        let options = ReadOptions::default();
        let rows = self.db.batched_multi_get_cf_opt(self.family(BLOCKS), &keys, true, &options);
        let bytes = rows.into_iter().zip(blocks).map(|(row, block)| {
            let row = row.map_err(storage("read postings"))?;
            Ok((*row.ok_or_else(|| damaged(segment, *block as usize))?).into())
        });
        bytes.collect()
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
        let directory = &self.segment.directory;
        let stretch = directory.stretch;
        let (low, high) = stretch.bounds(range);
        for place in self.wanted.of_ranges[i].clone() {
            let number = self.wanted.blocks[place] as usize;
            let damaged = || damaged(self.segment.id, number);
            if self.open.as_ref().is_none_or(|(open, _)| *open != place) {
                let first = directory.first_of(number);
                let block = Block::open(&self.rows[place], first).ok_or_else(damaged)?;
                self.open = Some((place, block));
            }
            let Some((_, block)) = &self.open else { continue };
            let mut take = |number| postings.extend(stretch.posting_in(range, number));
            if range.cells.len() <= NARROW_CELLS && directory.bucket_len(number) >= LONG {
                // Passing over what lies between the cells of two buckets is worth its cost.
                for bucket in directory.buckets_in(number, range.buckets.clone()) {
                    let row = KeyRange { buckets: bucket..=bucket, cells: range.cells.clone() };
                    let (low, high) = stretch.bounds(&row);
                    block.visit(low, high, &mut take).ok_or_else(damaged)?;
                }
            } else {
                block.visit(low, high, take).ok_or_else(damaged)?;
            }
        }
        Ok(())
    }
}
