//! Bytes, read as every kind of row and file of an index, for a fuzzer: whatever damage has made of them,
//! none may make a panic, or take memory out of proportion to their length.

use super::{acknowledged, backup, format1, lens, records, recovery, segments};
use crate::hash::{BUCKET_COUNT, CELL_COUNT, KeyRange};
use crate::index::block::{BLOCK_LEN, Block};
use crate::index::segment::Directory;
use crate::index::stored_peaks;

/// Reads `bytes` as every kind of row and file of an index, and goes through whatever comes of it. What
/// carries a digest is read with the right one behind, too, as otherwise nothing but the digest would be tried.
///
/// # Panics
///
/// If what was read contradicts itself: more than the bytes can hold, a directory that does not survive being
/// written again, or peaks of a window that differ from those of the whole.
#[doc(hidden)]
pub fn read_as_every_row(bytes: &[u8]) {
    let signed = [bytes, blake3::hash(bytes).as_bytes()].concat();
    for row in [bytes, &signed] {
        if let Some(directory) = Directory::decode(row) {
            walk(&directory, bytes);
        }
        let end = bytes.first_chunk().map_or(0, |end| u32::from_be_bytes(*end));
        let _ = lens::decode(row, end);
        acknowledged::decode(row);
    }
    postings(bytes);
    peaks(bytes);
    let (key, value) = bytes.split_at(bytes.len().min(2));
    let _ = records::parse_record(key, value);
    let _ = format1::parse_track(key, value);
    let _ = format1::decode_peaks(bytes);
    segments::parse_block_key(bytes);
    backup::read_list(bytes);
    recovery::end_of_records(bytes);
    let _ = recovery::endless_record(bytes);
}

/// Asks a directory for what searches ask, with ranges that `bytes` name.
fn walk(directory: &Directory, bytes: &[u8]) {
    assert!(directory.block_count() <= bytes.len(), "blocks that take no bytes");
    assert_eq!(Directory::decode(&directory.encode()).as_ref(), Some(directory));
    let stretch = directory.stretch;
    for pair in bytes.chunks_exact(8).take(64) {
        let number = pair.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let bucket = |number: u64| u32::try_from(number % u64::from(BUCKET_COUNT)).unwrap_or(0);
        let cell = |number: u64| u16::try_from(number % u64::from(CELL_COUNT)).unwrap_or(0);
        let (first, last) = (bucket(number), bucket(number >> 32));
        let range =
            KeyRange { buckets: first.min(last)..=first.max(last), cells: 0..=cell(number >> 16) };
        let (low, high) = stretch.bounds(&range);
        for block in directory.blocks(low, high, 0).take(64) {
            let number = directory.first_of(block);
            directory.bucket_len(block);
            directory.buckets_in(block, range.buckets.clone());
            stretch.posting_in(&range, number);
        }
    }
}

/// Reads a block whose first number is what its first bytes say.
fn postings(bytes: &[u8]) {
    let Some((first, row)) = bytes.split_first_chunk() else { return };
    let first = u64::from_be_bytes(*first);
    let Some(block) = Block::open(row, first) else { return };
    let mut numbers = Vec::new();
    let whole = block.decode(&mut numbers);
    let mut count = 0_usize;
    let _ = block.visit(first, first.saturating_add(1 << 20), |_| count += 1);
    assert!(count <= BLOCK_LEN, "more numbers than a block may have");
    if whole.is_some() {
        assert!(numbers.is_sorted_by(|a, b| a < b));
    }
}

/// Reads the peaks of a track, all and in a window, which must be the same.
fn peaks(bytes: &[u8]) {
    let Some(all) = stored_peaks::decode(bytes, 0..u32::MAX) else { return };
    assert!(all.len() <= 64 * bytes.len(), "peaks that take no bytes");
    let window = all.len() / 3..2 * all.len() / 3;
    let (Some(first), Some(last)) = (all.get(window.start), all.get(window.end)) else { return };
    let inside = first.time_ms..last.time_ms;
    let expected: Vec<_> =
        all.iter().filter(|peak| inside.contains(&peak.time_ms)).copied().collect();
    assert_eq!(stored_peaks::decode(bytes, inside), Some(expected));
}
