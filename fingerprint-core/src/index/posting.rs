//! The row: the postings of some neighbouring keys as bytes, and how rows merge.
//!
//! Position in the flow: landmarks → **postings** → votes. This module maps postings to bytes
//! and back; it never opens a database.
//!
//! # Which postings share a row
//!
//! A row holds [`ROW_CELLS`] cells of one bucket; its key is `bucket << 4 | cell >> 5`. A plain
//! search wants about four cells: whole buckets (280 cells) as rows made it read seventy times
//! as much as it needed, single cells would cost more bytes in keys than in postings. The rows of
//! a bucket are neighbours, so "any cell of this bucket" is still one contiguous read.
//!
//! # Layout (format version 1)
//!
//! ```text
//! head    1 byte: kind << 6 | w, where w (0 to 32) is the number of bits of a position
//!         kind 0: postings; 1: drops, then postings; 3: damaged, nothing follows
//! drops   kind 1 only: count varint, then per drop, ascending: first position varint,
//!         length varint
//! count   varint; absent if the row ends here, which means 0
//! values  (cell & 31) << w | position, ascending, packed (index/packed.rs) with u = 5 + w
//! ```
//!
//! Varints are LEB128. Cell before position, because a search asks for cells. With one width for
//! all positions of a row, a posting costs 1 to 2 bits more than the logarithm of the gap.
//!
//! Adding tracks merges a row of their postings into each row they touch; removing one merges a
//! *drop* of its span. Positions are never given out twice, so rows may be merged in any order
//! and grouping with one result. Once a row is merged down to its oldest part, its drops have
//! done their work and are left out.
//!
//! A part that cannot be read makes the merged row *damaged*: whoever reads it is told, while a
//! merge that failed would stop every compaction, and with it all writes.

use super::packed::{self, Packed};
use super::{IndexError, Posting, Span};
use crate::hash::{BUCKET_COUNT, CELL_COUNT, KeyRange};

/// Bits of the cell that are stored in the row; the others are in its key.
const ROW_CELL_BITS: u32 = 5;
/// Bits of the cell in the key of a row.
const KEY_CELL_BITS: u32 = 4;
/// Cells in a row.
const ROW_CELLS: u16 = 1 << ROW_CELL_BITS;

const _: () = assert!(CELL_COUNT <= 1 << (ROW_CELL_BITS + KEY_CELL_BITS));
const _: () = assert!(BUCKET_COUNT.leading_zeros() >= KEY_CELL_BITS);
const _: () = assert!(ROW_CELL_BITS + u32::BITS <= packed::WIDTH_MAX);

const KIND_POSTINGS: u8 = 0;
const KIND_DROPS: u8 = 1;
const KIND_DAMAGED: u8 = 3;

/// The key of a row; as bytes big-endian, so that RocksDB's order is the order of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey(u32);

impl RowKey {
    pub(super) fn new(bucket: u32, cell: u16) -> Self {
        Self(bucket << KEY_CELL_BITS | u32::from(cell >> ROW_CELL_BITS))
    }

    /// The rows of a range, ascending.
    pub(super) fn of_range(range: &KeyRange) -> impl Iterator<Item = Self> {
        let first = Self::new(range.bucket, *range.cells.start());
        let last = Self::new(range.bucket, *range.cells.end());
        (first.0..=last.0).map(Self)
    }

    pub(super) fn to_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    fn bucket(self) -> u32 {
        self.0 >> KEY_CELL_BITS
    }

    /// The first cell of the row.
    fn cell(self) -> u16 {
        let cells = self.0 & ((1 << KEY_CELL_BITS) - 1);
        u16::try_from(cells << ROW_CELL_BITS).expect("a cell has nine bits")
    }

    pub(super) fn damaged(self) -> IndexError {
        let (bucket, first) = (self.bucket(), self.cell());
        let last = first + ROW_CELLS - 1;
        IndexError::Corrupt {
            what: format!("the postings of bucket {bucket}, cells {first} to {last}, are damaged"),
        }
    }

    /// Appends the postings of this row that lie in `range`, read from its stored `bytes`.
    pub(super) fn read(
        self,
        bytes: &[u8],
        range: &KeyRange,
        postings: &mut Vec<Posting>,
    ) -> Result<(), IndexError> {
        let base = self.cell();
        let from = range.cells.start().saturating_sub(base);
        let to = range.cells.end().saturating_sub(base).min(ROW_CELLS - 1);
        let (width, values) = open(bytes)
            .and_then(|parts| Some((parts.width, parts.values()?)))
            .ok_or(self.damaged())?;
        let mask = (1_u64 << width) - 1;
        let end = u64::from(to + 1) << width;
        let visit = |value| {
            if value >= end {
                return false;
            }
            let cell = base + u16::try_from(value >> width).expect("five bits");
            let position = u32::try_from(value & mask).expect("at most 32 bits");
            postings.push(Posting { cell, position });
            true
        };
        values.visit_from(u64::from(from) << width, visit).ok_or(self.damaged())
    }
}

/// A row in parts, not yet unpacked.
struct Parts<'a> {
    width: u32,
    drops: Vec<Span>,
    count: u64,
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn values(&self) -> Option<Packed<'a>> {
        Packed::new(self.rest, self.count, ROW_CELL_BITS + self.width)
    }
}

fn open(bytes: &[u8]) -> Option<Parts<'_>> {
    let (head, mut rest) = bytes.split_first()?;
    let width = u32::from(head & 0x3f);
    let mut drops = Vec::new();
    match head >> 6 {
        KIND_POSTINGS => {}
        KIND_DROPS => {
            for _ in 0..read_varint(&mut rest)? {
                let (start, len) = (read_varint(&mut rest)?, read_varint(&mut rest)?);
                drops.push(Span { start: start.try_into().ok()?, len: len.try_into().ok()? });
            }
        }
        _ => return None,
    }
    let count = if rest.is_empty() { 0 } else { read_varint(&mut rest)? };
    (width <= u32::BITS).then_some(Parts { width, drops, count, rest })
}

/// The postings of a row in memory, and the spans whose postings must vanish from older parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Ascending: cell in the row << 32 | position.
    values: Vec<u64>,
    /// Ascending.
    drops: Vec<Span>,
    damaged: bool,
}

impl Row {
    /// A row of postings that share a [`RowKey`], ascending.
    pub(super) fn of_postings(postings: impl IntoIterator<Item = Posting>) -> Self {
        let value = |posting: Posting| {
            u64::from(posting.cell % ROW_CELLS) << u32::BITS | u64::from(posting.position)
        };
        Self { values: postings.into_iter().map(value).collect(), ..Self::default() }
    }

    /// A row that removes a track.
    pub(super) fn of_drop(span: Span) -> Self {
        Self { drops: vec![span], ..Self::default() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        if self.damaged {
            return vec![KIND_DAMAGED << 6];
        }
        let last = self.values.iter().map(|value| value & u64::from(u32::MAX)).max().unwrap_or(0);
        let width = u64::BITS - last.leading_zeros();
        let kind = if self.drops.is_empty() { KIND_POSTINGS } else { KIND_DROPS };
        let mut bytes = vec![kind << 6 | width.to_le_bytes()[0]];
        if kind == KIND_DROPS {
            write_varint(&mut bytes, self.drops.len() as u64);
            for span in &self.drops {
                write_varint(&mut bytes, u64::from(span.start));
                write_varint(&mut bytes, u64::from(span.len));
            }
        }
        if !self.values.is_empty() {
            write_varint(&mut bytes, self.values.len() as u64);
            let narrow = |value: &u64| value >> u32::BITS << width | value & u64::from(u32::MAX);
            let values: Vec<u64> = self.values.iter().map(narrow).collect();
            packed::pack(&values, ROW_CELL_BITS + width, &mut bytes);
        }
        bytes
    }

    /// Reads back what [`Row::encode`] wrote; a row that cannot be read is a damaged one. Memory
    /// is bounded by the length of `bytes`: each posting takes at least a bit.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self::decode_checked(bytes).unwrap_or(Self { damaged: true, ..Self::default() })
    }

    fn decode_checked(bytes: &[u8]) -> Option<Self> {
        let parts = open(bytes)?;
        let mask = (1_u64 << parts.width) - 1;
        let mut values = Vec::new();
        parts.values()?.visit_from(0, |value| {
            values.push(value >> parts.width << u32::BITS | value & mask);
            true
        })?;
        parts.drops.is_sorted().then_some(Self { values, drops: parts.drops, damaged: false })
    }

    /// One row with the effect of all `rows`, in any order.
    pub(super) fn merge(rows: impl IntoIterator<Item = Self>) -> Self {
        let mut rows = rows.into_iter();
        let mut merged = rows.next().unwrap_or_default();
        for row in rows {
            merged.values.extend(row.values);
            merged.drops.extend(row.drops);
            merged.damaged |= row.damaged;
        }
        if merged.damaged {
            return Self { damaged: true, ..Self::default() };
        }
        merged.drops.sort_unstable();
        merged.drops.dedup();
        let drops = &merged.drops;
        merged.values.retain(|value| {
            let position = value & u64::from(u32::MAX);
            let after = drops.partition_point(|span| u64::from(span.start) <= position);
            // Widened, because a damaged span may reach beyond the last position.
            let end = |span: &Span| u64::from(span.start) + u64::from(span.len);
            after.checked_sub(1).is_none_or(|i| position >= end(&drops[i]))
        });
        // The stable sort, because it merges the runs that the parts are.
        merged.values.sort();
        merged.values.dedup();
        merged
    }

    /// The row as it is stored when nothing lies below it.
    pub(super) fn without_drops(self) -> Self {
        Self { drops: Vec::new(), ..self }
    }

    /// True if the stored row says nothing, so that its key may go.
    pub(super) fn is_empty(bytes: &[u8]) -> bool {
        bytes.len() == 1 && bytes[0] >> 6 == KIND_POSTINGS
    }
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
