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
        let (version, mut rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        let mut row = Self::default();
        for _ in 0..read_varint(&mut rest)? {
            let (start, len) = (read_varint(&mut rest)?, read_varint(&mut rest)?);
            row.drops.push(Span { start: start.try_into().ok()?, len: len.try_into().ok()? });
        }
        let mut cell = 0_u16;
        while !rest.is_empty() {
            cell = cell.checked_add(read_varint(&mut rest)?.try_into().ok()?)?;
            let mut position = 0_u32;
            for _ in 0..read_varint(&mut rest)? {
                position = position.checked_add(read_varint(&mut rest)?.try_into().ok()?)?;
                row.postings.push(Posting { cell, position });
            }
        }
        row.postings.is_sorted().then_some(row)
    }

    /// [`Row::decode`] with an error that names the bucket.
    pub(super) fn decode_bucket(bucket: u32, bytes: &[u8]) -> Result<Self, IndexError> {
        Self::decode(bytes).ok_or_else(|| IndexError::Corrupt {
            what: format!("the posting list of bucket {bucket} is damaged"),
        })
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
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(row) = Row::decode(&bytes) {
                Row::merge([row]);
            }
        }
    }
}
