use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn posting(cell: u16, position: u32) -> Posting {
    Posting { cell, position }
}

fn any_postings() -> impl Strategy<Value = BTreeSet<Posting>> {
    let posting = (0..ROW_CELLS, 0_u32..5_000).prop_map(|(cell, position)| posting(cell, position));
    proptest::collection::btree_set(posting, 0..40)
}

fn any_row() -> impl Strategy<Value = Row> {
    let drop = (0_u32..50).prop_map(|i| Span { start: i * 100, len: 100 });
    (any_postings(), proptest::collection::btree_set(drop, 0..4)).prop_map(|(postings, drops)| {
        Row { drops: drops.into_iter().collect(), ..Row::of_postings(postings) }
    })
}

fn read(bytes: &[u8], key: RowKey, range: &KeyRange) -> Result<Vec<Posting>, IndexError> {
    let mut postings = Vec::new();
    key.read(bytes, range, &mut postings).map(|()| postings)
}

#[test]
fn row_bytes_of_version_1() {
    let row = Row {
        drops: vec![Span { start: 5, len: 130 }],
        ..Row::of_postings([posting(2, 300), posting(2, 301), posting(31, 7)])
    };
    // Width 9, so u = 14, l = 12; values 2 << 9 | 300, 2 << 9 | 301, 31 << 9 | 7.
    // Low 0x52c, 0x52d, 0xe07; high parts 0, 0, 3: bits 0, 1 and 5.
    let expected = [0x49, 1, 5, 0x82, 1, 3, 0x2c, 0xd5, 0x52, 0x07, 0x3e, 0x02];
    assert_eq!(row.encode(), expected);
    assert_eq!(Row::default().encode(), [0]);
    assert_eq!(Row { damaged: true, ..Row::default() }.encode(), [0xc0]);
}

#[test]
fn keys_are_ordered_like_buckets_and_cells() {
    assert_eq!(RowKey::new(1, 31).to_bytes(), [0, 0, 0, 16]);
    assert_eq!(RowKey::new(1, 32).to_bytes(), [0, 0, 0, 17]);
    let last = RowKey::new(BUCKET_COUNT - 1, CELL_COUNT - 1);
    assert_eq!((last.bucket(), last.cell()), (BUCKET_COUNT - 1, 256));
    let rows = |cells| RowKey::of_range(&KeyRange { bucket: 7, cells }).count();
    assert_eq!((rows(0..=31), rows(31..=32), rows(0..=CELL_COUNT - 1)), (1, 2, 9));
}

#[test]
fn the_edges_of_a_range_are_in_it() {
    let stored: Vec<_> = [32, 40, 41, 42, 63].map(|cell| posting(cell, u32::MAX)).to_vec();
    let bytes = Row::of_postings(stored.clone()).encode();
    let key = RowKey::new(7, 32);
    let read = |cells| read(&bytes, key, &KeyRange { bucket: 7, cells }).unwrap();
    assert_eq!(read(40..=42), stored[1..4]);
    assert_eq!(read(0..=100), stored);
    assert_eq!(read(42..=42), stored[3..4]);
    assert!(read(43..=62).is_empty());
}

#[test]
fn a_damaged_part_makes_the_row_damaged_and_reads_say_which() {
    let good = Row::of_postings([posting(1, 1)]);
    let bad = Row::decode(&[0x21, 1]);
    assert!(bad.damaged);
    for rows in [[good.clone(), bad.clone()], [bad, good]] {
        let bytes = Row::merge(rows).without_drops().encode();
        assert!(!Row::is_empty(&bytes));
        let error = read(&bytes, RowKey::new(77, 40), &KeyRange { bucket: 77, cells: 33..=34 });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("bucket 77, cells 32 to 63"), "{text}");
    }
}

#[test]
fn a_row_whose_postings_are_all_dropped_is_empty() {
    let drop = Row::of_drop(Span { start: 10, len: 5 });
    assert!(!Row::is_empty(&drop.encode()));
    let postings = Row::of_postings([posting(0, 10), posting(0, 14)]);
    assert!(Row::is_empty(&Row::merge([postings, drop.clone()]).without_drops().encode()));
    // One step before and one behind the span stay.
    let around = Row::of_postings([posting(0, 9), posting(0, 15)]);
    assert_eq!(Row::merge([drop, around.clone()]).without_drops(), around);
}

proptest! {
    #[test]
    fn rows_round_trip(row in any_row()) {
        prop_assert_eq!(Row::decode(&row.encode()), row);
    }

    #[test]
    fn reading_cells_is_filtering(postings in any_postings(), a in 0_u16..40, b in 0_u16..40) {
        let cells = a.min(b)..=a.max(b);
        let bytes = Row::of_postings(postings.clone()).encode();
        let expected: Vec<_> =
            postings.into_iter().filter(|posting| cells.contains(&posting.cell)).collect();
        let range = KeyRange { bucket: 3, cells };
        prop_assert_eq!(read(&bytes, RowKey::new(3, 0), &range).unwrap(), expected);
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
        let _ = read(&bytes, RowKey::new(0, 0), &KeyRange { bucket: 0, cells: 0..=279 });
        Row::merge([Row::decode(&bytes), Row::default()]).encode();
    }
}
