//! The row: all postings of one bucket as bytes, and how rows merge.
//!
//! # Layout (format version 1)
//!
//! ```text
//! version     1 byte, 1
//! drop count  varint, then per drop: span start varint, span length varint
//! groups      until the end: cell minus the cell before (varint), count (varint),
//!             first position (varint), then gaps between positions (varints)
//! ```
//!
//! Varints are LEB128. Adding a track merges a row of its postings into each bucket it touches;
//! removing one merges a *drop* of its span. Positions are never given out twice, so rows may be
//! merged in any order and grouping with one result. Once a row is merged down to its oldest
//! part, its drops have done their work and are left out.

use std::ops::RangeInclusive;

use super::{IndexError, Posting, Span};

const VERSION: u8 = 1;

/// The postings of a bucket, and the spans whose postings must vanish from older rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Ascending.
    pub(super) postings: Vec<Posting>,
    pub(super) drops: Vec<Span>,
}

impl Row {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        write_varint(&mut bytes, self.drops.len() as u64);
        for span in &self.drops {
            write_varint(&mut bytes, u64::from(span.start));
            write_varint(&mut bytes, u64::from(span.len));
        }
        let mut before = 0;
        for group in self.postings.chunk_by(|a, b| a.cell == b.cell) {
            write_varint(&mut bytes, u64::from(group[0].cell - before));
            before = group[0].cell;
            write_varint(&mut bytes, group.len() as u64);
            let mut position = 0;
            for posting in group {
                write_varint(&mut bytes, u64::from(posting.position - position));
                position = posting.position;
            }
        }
        bytes
    }

    /// Reads back what [`Row::encode`] wrote; `bytes` may be damaged. Memory is bounded by their
    /// length: each posting takes at least a byte.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut row = Self::default();
        let mut groups = Groups::of(bytes, |span| row.drops.push(span))?;
        while let Some((cell, count)) = groups.next()? {
            groups.positions(cell, count, &mut row.postings)?;
        }
        Some(row)
    }

    /// One row with the effect of all `rows`.
    pub(super) fn merge(rows: impl IntoIterator<Item = Self>) -> Self {
        let mut merged = Self::default();
        for row in rows {
            merged.postings.extend(row.postings);
            merged.drops.extend(row.drops);
        }
        merged.drops.sort_unstable();
        merged.drops.dedup();
        let drops = &merged.drops;
        merged.postings.retain(|posting| {
            let after = drops.partition_point(|span| span.start <= posting.position);
            // Widened, because a damaged span may reach beyond the last position.
            let end = |span: &Span| u64::from(span.start) + u64::from(span.len);
            after.checked_sub(1).is_none_or(|i| u64::from(posting.position) >= end(&drops[i]))
        });
        merged.postings.sort_unstable();
        merged.postings.dedup();
        merged
    }
}

/// Appends the postings of an encoded row in `cells` to `postings`, ascending, without reading the
/// positions of others. `None` if the row is damaged, as far as it was read; some postings may
/// have been appended then.
pub(super) fn decode_cells(
    bytes: &[u8],
    cells: &RangeInclusive<u16>,
    postings: &mut Vec<Posting>,
) -> Option<()> {
    let mut groups = Groups::of(bytes, |_| ())?;
    while let Some((cell, count)) = groups.next()? {
        if cell > *cells.end() {
            break;
        }
        if cell < *cells.start() {
            groups.skip(count)?;
        } else {
            groups.positions(cell, count, postings)?;
        }
    }
    Some(())
}

/// Number of postings in an encoded row; `None` if it is damaged.
pub(super) fn count_postings(bytes: &[u8]) -> Option<u32> {
    let mut groups = Groups::of(bytes, |_| ())?;
    let mut sum = 0_u32;
    while let Some((_, count)) = groups.next()? {
        groups.skip(count)?;
        sum = sum.checked_add(count.try_into().ok()?)?;
    }
    Some(sum)
}

/// What to tell of a bucket whose row is damaged.
pub(super) fn damaged(bucket: u32) -> IndexError {
    IndexError::Corrupt { what: format!("the posting list of bucket {bucket} is damaged") }
}

/// Reads the groups of an encoded row, which may be damaged, one after the other.
struct Groups<'a> {
    rest: &'a [u8],
    /// Cell of the group before.
    before: Option<u16>,
}

impl<'a> Groups<'a> {
    /// At the first group of a row, whose drops are told.
    fn of(bytes: &'a [u8], mut drop: impl FnMut(Span)) -> Option<Self> {
        let (version, mut rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        for _ in 0..read_varint(&mut rest)? {
            let (start, len) = (read_varint(&mut rest)?, read_varint(&mut rest)?);
            drop(Span { start: start.try_into().ok()?, len: len.try_into().ok()? });
        }
        Some(Self { rest, before: None })
    }

    /// Cell and number of postings of the next group, whose positions are to be read or skipped
    /// before the one behind it; `None` inside at the end, outside for a damaged row.
    fn next(&mut self) -> Option<Option<(u16, u64)>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        let step = u16::try_from(read_varint(&mut self.rest)?).ok()?;
        let cell = match self.before {
            None => step,
            // The same cell again would put postings out of order.
            Some(before) => before.checked_add(step).filter(|cell| *cell > before)?,
        };
        self.before = Some(cell);
        Some(Some((cell, read_varint(&mut self.rest)?)))
    }

    fn positions(&mut self, cell: u16, count: u64, postings: &mut Vec<Posting>) -> Option<()> {
        let mut position = 0_u32;
        for _ in 0..count {
            position = position.checked_add(read_varint(&mut self.rest)?.try_into().ok()?)?;
            postings.push(Posting { cell, position });
        }
        Some(())
    }

    /// Steps over `count` varints. Eight bytes at a time, because this is most of what reading a
    /// few cells of a long row costs.
    fn skip(&mut self, count: u64) -> Option<()> {
        let mut left = count;
        while let Some((chunk, rest)) = self.rest.split_first_chunk() {
            let last_bytes = !u64::from_le_bytes(*chunk) & 0x8080_8080_8080_8080;
            let ended = u64::from(last_bytes.count_ones());
            // The last varint must not be left in the middle of a chunk unseen.
            if ended >= left {
                break;
            }
            left -= ended;
            self.rest = rest;
        }
        while left > 0 {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            left -= u64::from(byte & 0x80 == 0);
        }
        Some(())
    }
}

pub(super) fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

/// Takes a varint off the front of `bytes`; `None` if there is none.
#[inline]
pub(super) fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_row() -> impl Strategy<Value = Row> {
        let posting =
            (0_u16..280, 0_u32..5_000).prop_map(|(cell, position)| Posting { cell, position });
        let drop = (0_u32..50, 1_u32..=1).prop_map(|(i, _)| Span { start: i * 100, len: 100 });
        (
            proptest::collection::btree_set(posting, 0..40),
            proptest::collection::btree_set(drop, 0..4),
        )
            .prop_map(|(postings, drops)| Row {
                postings: postings.into_iter().collect(),
                drops: drops.into_iter().collect(),
            })
    }

    /// What can be read is in order, however it is read.
    fn garbage(bytes: &[u8]) {
        let mut some = Vec::new();
        let read = decode_cells(bytes, &(3..=200), &mut some);
        assert!(some.is_sorted() && some.iter().all(|p| (3..=200).contains(&p.cell)));
        if let Some(row) = Row::decode(bytes) {
            assert!(read.is_some() && row.postings.is_sorted());
            assert_eq!(count_postings(bytes), Some(row.postings.len() as u32));
            Row::merge([row]);
        }
    }

    #[test]
    fn row_bytes_of_version_1() {
        let posting = |cell, position| Posting { cell, position };
        let row = Row {
            postings: vec![posting(2, 300), posting(2, 301), posting(279, 7)],
            drops: vec![Span { start: 5, len: 130 }],
        };
        let expected = [1, 1, 5, 0x82, 1, 2, 2, 0xac, 2, 1, 0x95, 2, 1, 7];
        assert_eq!(row.encode(), expected);
    }

    proptest! {
        #[test]
        fn rows_round_trip(row in any_row()) {
            prop_assert_eq!(Row::decode(&row.encode()), Some(row));
        }

        // RocksDB merges operands in whatever groups its compactions meet them.
        #[test]
        fn grouping_does_not_change_the_result(a in any_row(), b in any_row(), c in any_row()) {
            let all = Row::merge([a.clone(), b.clone(), c.clone()]);
            prop_assert_eq!(&Row::merge([Row::merge([a.clone(), b.clone()]), c.clone()]), &all);
            prop_assert_eq!(&Row::merge([a, Row::merge([b, c])]), &all);
        }

        #[test]
        fn reading_some_cells_is_reading_all_and_choosing(
            row in any_row(), low in 0_u16..280, width in 0_u16..280,
        ) {
            let bytes = row.encode();
            let cells = low..=low + width;
            let mut postings = Vec::new();
            prop_assert_eq!(decode_cells(&bytes, &cells, &mut postings), Some(()));
            prop_assert_eq!(count_postings(&bytes), Some(row.postings.len() as u32));
            let expected = row.postings.into_iter().filter(|p| cells.contains(&p.cell));
            prop_assert_eq!(postings, expected.collect::<Vec<_>>());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            garbage(&bytes);
        }

        // Whole garbage mostly fails at its first bytes; one byte that is off gets further.
        #[test]
        fn damage_never_panics(row in any_row(), at in 0_usize..200, byte: u8) {
            let mut bytes = row.encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            garbage(&bytes);
        }
    }
}
