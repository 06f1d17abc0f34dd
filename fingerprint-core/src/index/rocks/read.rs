//! Reading the postings of many ranges.

use super::{POSTINGS, RocksIndex, storage};
use crate::hash::KeyRange;
use crate::index::posting::RowKey;
use crate::index::{IndexError, Posting};

/// Ranges that are read in one go. Few enough that the blocks pinned meanwhile stay below 10 MiB,
/// enough that RocksDB looks at each file once for many keys.
const RANGES_AT_ONCE: usize = 512;

/// See [`crate::index::Index::read_postings`].
pub(super) fn read_postings(
    index: &RocksIndex,
    ranges: &[KeyRange],
    visit: &mut dyn FnMut(usize, &[Posting]),
) -> Result<(), IndexError> {
    let family = index.family(POSTINGS);
    let mut postings = Vec::new();
    let mut rows: Vec<RowKey> = Vec::new();
    let mut first = 0;
    for part in ranges.chunks(RANGES_AT_ONCE) {
        // Ranges may overlap, so their rows may come twice or slightly out of order.
        rows.clear();
        rows.extend(part.iter().flat_map(RowKey::of_range));
        rows.sort_unstable();
        rows.dedup();
        let keys: Vec<[u8; 4]> = rows.iter().map(|row| row.to_bytes()).collect();
        let values = index
            .db
            .batched_multi_get_cf(family, &keys, true)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(storage("read postings"))?;
        for (i, range) in part.iter().enumerate() {
            postings.clear();
            let Some(row) = RowKey::of_range(range).next() else { continue };
            let at = rows.partition_point(|other| *other < row);
            for (row, value) in RowKey::of_range(range).zip(&values[at..]) {
                if let Some(bytes) = value {
                    row.read(bytes, range, &mut postings)?;
                }
            }
            if !postings.is_empty() {
                visit(first + i, &postings);
            }
        }
        first += part.len();
    }
    Ok(())
}
