//! Reading posting lists: from shelves that are kept in memory, or row by row.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use rocksdb::{DBRawIterator, ReadOptions};

use super::shelves::{ROW_COST, Shelf, ShelfBuilder, buckets_of, shelf_of};
use super::{POSTINGS, RocksIndex, storage};
use crate::hash::KeyRange;
use crate::index::posting::{damaged, decode_cells};
use crate::index::{IndexError, Posting};

/// Rows that are stepped over before one is looked up.
const STEPS_MAX: usize = 8;

/// What is told of each range that is not empty: its place and its postings.
pub(super) type Visit<'v> = dyn FnMut(usize, &[Posting]) -> ControlFlow<()> + 'v;

/// One call of [`RocksIndex::read_ranges`].
struct Reader<'i> {
    index: &'i RocksIndex,
    /// For rows that are read alone; made when the first one is.
    rows: Option<DBRawIterator<'i>>,
    /// For shelves that are decoded, and the mark of what it sees; made when the first one is.
    shelf_rows: Option<(u64, DBRawIterator<'i>)>,
    /// Postings that may yet be decoded for the cache.
    decoded_left: usize,
    /// Postings of the row that is read.
    buffer: Vec<Posting>,
}

impl RocksIndex {
    /// [`crate::index::Index::read_postings`].
    pub(super) fn read_ranges(
        &self,
        ranges: &[KeyRange],
        visit: &mut Visit<'_>,
    ) -> Result<(), IndexError> {
        let mut reader = Reader {
            index: self,
            rows: None,
            shelf_rows: None,
            decoded_left: self.shelves.limits.decoded_per_call_max,
            buffer: Vec::new(),
        };
        let mut first = 0;
        for of_shelf in ranges.chunk_by(|a, b| shelf_of(a.bucket) == shelf_of(b.bucket)) {
            let flow = match reader.shelf(shelf_of(of_shelf[0].bucket)) {
                Some(shelf) => visit_shelf(&shelf, first, of_shelf, visit),
                None => reader.visit_rows(first, of_shelf, visit)?,
            };
            if flow.is_break() {
                break;
            }
            first += of_shelf.len();
        }
        Ok(())
    }
}

impl<'i> Reader<'i> {
    /// A shelf that is kept, or can be kept from now on; `None` if its rows must be read alone.
    fn shelf(&mut self, shelf: u32) -> Option<Arc<Shelf>> {
        let shelves = &self.index.shelves;
        if let Some(kept) = shelves.get(shelf) {
            return Some(kept);
        }
        let lens = buckets_of(shelf).map(|bucket| self.index.lens.get(bucket) as usize);
        let (row_count, len) =
            lens.fold((0, 0), |(rows, sum), len| (rows + usize::from(len > 0), sum + len));
        let cost = len + row_count * ROW_COST;
        if len == 0 || cost > self.decoded_left || !shelves.has_room_for(len) {
            return None;
        }
        let Some(decoded) = self.decode(shelf, len) else {
            // Where the rows behind it lie is unknown now.
            self.shelf_rows = None;
            return None;
        };
        self.decoded_left -= cost;
        let decoded = Arc::new(decoded);
        shelves.keep(shelf, &decoded);
        Some(decoded)
    }

    /// Decodes a shelf of about `len` postings. `None` if a row cannot be read, which is for those
    /// who want that very row to know, or if it has more postings than are kept.
    fn decode(&mut self, shelf: u32, len: usize) -> Option<Shelf> {
        let (mark, rows) = self.shelf_rows.get_or_insert_with(|| {
            // First the mark, then the view: see `shelves`.
            let mark = self.index.shelves.last_change();
            // These rows are kept decoded, so their blocks would only take the room of others.
            let mut options = ReadOptions::default();
            options.fill_cache(false);
            let family = self.index.family(POSTINGS);
            (mark, self.index.db.raw_iterator_cf_opt(family, options))
        });
        let buckets = buckets_of(shelf);
        let mut builder = ShelfBuilder::with_capacity(len);
        seek_forward(rows, buckets.start);
        while let Some((key, row)) = rows.item() {
            let bucket = u32::from_be_bytes(key.try_into().ok()?);
            if bucket >= buckets.end {
                break;
            }
            decode_cells(row, &(0..=u16::MAX), builder.list(bucket))?;
            if builder.len() > self.index.shelves.limits.shelf_postings_max {
                return None;
            }
            rows.next();
        }
        rows.status().ok()?;
        Some(builder.finish(*mark))
    }

    /// Reads the rows of ranges, which are ascending, one by one.
    fn visit_rows(
        &mut self,
        first: usize,
        ranges: &[KeyRange],
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, IndexError> {
        let index = self.index;
        let mut first = first;
        for of_bucket in ranges.chunk_by(|a, b| a.bucket == b.bucket) {
            let bucket = of_bucket[0].bucket;
            if index.lens.get(bucket) > 0 {
                let rows = self
                    .rows
                    .get_or_insert_with(|| index.db.raw_iterator_cf(index.family(POSTINGS)));
                seek_forward(rows, bucket);
                match rows.item() {
                    Some((key, row)) if key == bucket.to_be_bytes() => {
                        self.buffer.clear();
                        decode_cells(row, &hull(of_bucket), &mut self.buffer)
                            .ok_or_else(|| damaged(bucket))?;
                        let flow = visit_list(&self.buffer, first, of_bucket, visit);
                        if flow.is_break() {
                            return Ok(flow);
                        }
                    }
                    Some(_) => {}
                    None => rows.status().map_err(storage("read posting lists"))?,
                }
            }
            first += of_bucket.len();
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Tells the postings of ranges that lie on one shelf; `first` is the place of the first range.
fn visit_shelf(
    shelf: &Shelf,
    first: usize,
    ranges: &[KeyRange],
    visit: &mut Visit<'_>,
) -> ControlFlow<()> {
    let mut first = first;
    for of_bucket in ranges.chunk_by(|a, b| a.bucket == b.bucket) {
        let list = shelf.list(of_bucket[0].bucket);
        if !list.is_empty() {
            visit_list(list, first, of_bucket, visit)?;
        }
        first += of_bucket.len();
    }
    ControlFlow::Continue(())
}

/// Tells the postings of ranges of one bucket, whose postings in these ranges are in `list`.
fn visit_list(
    list: &[Posting],
    first: usize,
    ranges: &[KeyRange],
    visit: &mut Visit<'_>,
) -> ControlFlow<()> {
    for (i, range) in ranges.iter().enumerate() {
        let low = list.partition_point(|p| p.cell < *range.cells.start());
        let from_low = &list[low..];
        let count = from_low.partition_point(|p| p.cell <= *range.cells.end());
        if count > 0 {
            visit(first + i, &from_low[..count])?;
        }
    }
    ControlFlow::Continue(())
}

/// Moves to the first row at or behind `bucket`; `rows` must not be behind it already.
///
/// A search for changed recordings reads runs of neighbouring buckets, and stepping from row to
/// row costs a tenth of looking one up.
fn seek_forward(rows: &mut DBRawIterator<'_>, bucket: u32) {
    let wanted = bucket.to_be_bytes();
    for _ in 0..STEPS_MAX {
        match rows.key() {
            Some(key) if key < wanted.as_slice() => rows.next(),
            Some(_) => return,
            None => break,
        }
    }
    if rows.key().is_none_or(|key| key < wanted.as_slice()) {
        rows.seek(wanted);
    }
}

/// The cells from the first to the last of some ranges.
fn hull(ranges: &[KeyRange]) -> RangeInclusive<u16> {
    let low = ranges.iter().map(|range| *range.cells.start()).min().unwrap_or(0);
    let high = ranges.iter().map(|range| *range.cells.end()).max().unwrap_or(0);
    low..=high
}
