//! How many postings each bucket holds, about: the resident table, and its stored copy.
//!
//! The eight buckets that differ in the eighth of their zone only are one *slot* and counted together:
//! a table for each of them would take 100 MiB.
//!
//! The copy counts what is in segments. It is written together with every change of them, so it is
//! right whenever it can be read; should it be damaged, all blocks are counted anew.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::segments::{Segment, block_key, parse_block_key};
use super::{BLOCKS, Inner, META, lock, storage};
use crate::hash::{SLOT_COUNT, slot_of};
use crate::index::block::Block;
use crate::index::buffer::Buffer;
use crate::index::varint::{read_varint, write_varint};
use crate::index::{IndexError, Posting};

/// Where the copy lies among the header fields.
pub(super) const KEY: &str = "lens";
const DIGEST_BYTES: usize = 32;

/// Postings of each slot: at least those of the live tracks; those of removed ones are counted
/// until a merge leaves them out. 12 MiB.
#[derive(Debug)]
pub(super) struct BucketLens {
    /// All postings. Readers take no lock; there is one writer of tracks, who counts postings before
    /// they are visible.
    pub(super) all: Box<[AtomicU32]>,
    /// Those in segments.
    stored: Mutex<Stored>,
}

#[derive(Debug)]
struct Stored {
    lens: Box<[u32]>,
    /// End of the last segment.
    end: u32,
}

impl BucketLens {
    pub(super) fn new() -> Self {
        Self {
            all: (0..SLOT_COUNT).map(|_| AtomicU32::new(0)).collect(),
            stored: Mutex::new(Stored { lens: vec![0; SLOT_COUNT as usize].into(), end: 0 }),
        }
    }

    /// Zero for a bucket that no key has.
    pub(super) fn get(&self, bucket: u32) -> u32 {
        let len = self.all.get(slot_of(bucket) as usize);
        len.map_or(0, |len| len.load(Ordering::Relaxed).div_ceil(8))
    }

    /// Counts postings, ascending, that are about to be added.
    pub(super) fn count_all(&self, postings: &[Posting]) {
        for list in postings.chunk_by(|a, b| a.key.bucket == b.key.bucket) {
            if let Some(len) = self.all.get(slot_of(list[0].key.bucket) as usize) {
                len.fetch_add(u32::try_from(list.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
            }
        }
    }

    /// Puts these lengths of slots in the place of all that was stored, for segments that end at
    /// `end`. What is in buffers stays counted.
    pub(super) fn replace_stored(&self, lens: &[(u32, u32)], end: u32) {
        let mut stored = lock(&self.stored);
        let mut next: Box<[u32]> = vec![0; SLOT_COUNT as usize].into();
        for (slot, len) in lens {
            if let Some(place) = next.get_mut(*slot as usize) {
                *place = *len;
            }
        }
        for ((all, old), new) in self.all.iter().zip(&stored.lens).zip(&next) {
            if new != old {
                // Adding what may be less than nothing, in the arithmetic of the counter, which wraps.
                all.fetch_add(new.wrapping_sub(*old), Ordering::Relaxed);
            }
        }
        *stored = Stored { lens: next, end };
    }

    /// Counts a buffer no more, whose postings are all counted elsewhere by now.
    pub(super) fn uncount(&self, buffer: &Buffer) {
        let done = buffer.for_each(|entry| {
            let less = |len: u32| Some(len.saturating_sub(1));
            if let Some(len) = self.all.get(slot_of(entry.posting().key.bucket) as usize) {
                let _ = len.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
            Ok::<_, Infallible>(())
        });
        match done {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Takes note of postings that have come into a segment that ends at `end`, and of others that
    /// have been left out. `commit` writes the new copy and everything that belongs to it.
    pub(super) fn change(
        &self,
        change: &LensChange<'_>,
        end: u32,
        commit: impl FnOnce(Vec<u8>) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut stored = lock(&self.stored);
        let mut next = stored.lens.clone();
        let end = stored.end.max(end);
        for (bucket, count) in &change.stored.0 {
            let len = &mut next[slot_of(*bucket) as usize];
            *len = len.saturating_add(*count);
        }
        for (bucket, count) in &change.purged.0 {
            let len = &mut next[slot_of(*bucket) as usize];
            *len = len.saturating_sub(*count);
        }
        commit(encode(&next, end))?;
        *stored = Stored { lens: next, end };
        for (bucket, count) in change.purged.0.iter().chain(&change.dropped.0) {
            // A block that could not be counted when the index was opened may be left out all the same.
            let less = |len: u32| Some(len.saturating_sub(*count));
            let len = &self.all[slot_of(*bucket) as usize];
            let _ = len.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        Ok(())
    }
}

/// Postings by bucket, ascending.
#[derive(Debug, Default)]
pub(super) struct Tally(Vec<(u32, u32)>);

impl Tally {
    /// Counts one posting of a bucket, not below the one before.
    pub(super) fn count(&mut self, bucket: u32) {
        match self.0.last_mut() {
            Some((last, count)) if *last == bucket => *count += 1,
            _ => self.0.push((bucket, 1)),
        }
    }
}

/// What a new segment changes.
#[derive(Debug, Default)]
pub(super) struct LensChange<'a> {
    /// Postings that were in the buffer only.
    pub(super) stored: Tally,
    /// Postings in replaced segments that have been left out.
    pub(super) purged: Tally,
    /// Postings in the buffer that have been left out.
    pub(super) dropped: Tally,
    /// Segments that are replaced.
    pub(super) replaced: &'a [Arc<Segment>],
}

/// The stored copy, laid out as `docs/format.md` says.
pub(super) fn encode(lens: &[u32], end: u32) -> Vec<u8> {
    let mut bytes = end.to_be_bytes().to_vec();
    let mut left_out = 0_u64;
    for len in lens {
        if *len == 0 {
            left_out += 1;
            continue;
        }
        write_varint(&mut bytes, left_out);
        write_varint(&mut bytes, u64::from(*len));
        left_out = 0;
    }
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// Reads back what [`encode`] wrote for segments that end at `end`; `None` if it is damaged.
pub(super) fn decode(bytes: &[u8], end: u32) -> Option<Vec<(u32, u32)>> {
    let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>()?;
    if blake3::hash(content).as_bytes() != digest {
        return None;
    }
    let (position, mut rest) = content.split_first_chunk()?;
    if u32::from_be_bytes(*position) != end {
        return None;
    }
    let mut lens = Vec::new();
    let mut slot = 0_u32;
    while !rest.is_empty() {
        slot = slot.checked_add(read_varint(&mut rest)?.try_into().ok()?)?;
        let len = u32::try_from(read_varint(&mut rest)?).ok()?;
        if slot >= SLOT_COUNT {
            return None;
        }
        lens.push((slot, len));
        slot += 1;
    }
    Some(lens)
}

impl Inner {
    /// Loads the table of these segments, which end at `end`.
    pub(super) fn load_lens(&self, segments: &[Arc<Segment>], end: u32) -> Result<(), IndexError> {
        let lens = match self.read_lens(segments, end)? {
            Some(lens) => lens,
            None => self.count_blocks(segments)?,
        };
        self.lens.replace_stored(&lens, end);
        Ok(())
    }

    /// The stored copy, by slot; `None` if it is not that of these segments, which end at `end`.
    pub(super) fn read_lens(
        &self,
        segments: &[Arc<Segment>],
        end: u32,
    ) -> Result<Option<Vec<(u32, u32)>>, IndexError> {
        let stored = self
            .db
            .get_pinned_cf(self.family(META), KEY)
            .map_err(storage("read the table of lengths"))?;
        let expected: u64 = segments.iter().map(|segment| segment.directory.posting_count).sum();
        let decoded = stored.and_then(|bytes| decode(&bytes, end));
        Ok(decoded
            .filter(|lens| lens.iter().map(|(_, len)| u64::from(*len)).sum::<u64>() == expected))
    }

    /// Counts the postings of all blocks. Damaged ones are for those who read them to be told of.
    pub(super) fn count_blocks(
        &self,
        segments: &[Arc<Segment>],
    ) -> Result<Vec<(u32, u32)>, IndexError> {
        let mut counts = vec![0_u32; SLOT_COUNT as usize];
        let mut numbers = Vec::new();
        for segment in segments {
            let directory = &segment.directory;
            let mut rows = self.db.raw_iterator_cf(self.family(BLOCKS));
            rows.seek(block_key(segment.id, 0));
            while let Some((key, bytes)) = rows.item() {
                let Some((id, block)) = parse_block_key(key) else { break };
                if id != segment.id || block as usize >= directory.block_count() {
                    break;
                }
                numbers.clear();
                let first = directory.first_of(block as usize);
                // As far as it can be read.
                let _ = Block::open(bytes, first).and_then(|block| block.decode(&mut numbers));
                for entry in numbers.iter().filter_map(|number| directory.stretch.unpack(*number)) {
                    if let Some(count) =
                        counts.get_mut(slot_of(entry.posting().key.bucket) as usize)
                    {
                        *count = count.saturating_add(1);
                    }
                }
                rows.next();
            }
            rows.status().map_err(storage("count the postings"))?;
        }
        Ok((0..).zip(counts).filter(|(_, count)| *count > 0).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_of_version_2() {
        let bytes = encode(&[1, 300, 0, 0, 0, 7], 0x0102_0304);
        let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().unwrap();
        assert_eq!(content, [1, 2, 3, 4, 0, 1, 0, 0xac, 2, 3, 7]);
        assert_eq!(digest, blake3::hash(content).as_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn tables_round_trip_and_damage_is_noticed(
            entries in proptest::collection::btree_map(0..SLOT_COUNT, 1_u32.., 0..50),
            at: usize, flip in 1_u8..,
        ) {
            let mut lens = vec![0; SLOT_COUNT as usize];
            entries.iter().for_each(|(bucket, len)| lens[*bucket as usize] = *len);
            let mut bytes = encode(&lens, 77);
            prop_assert_eq!(decode(&bytes, 77).unwrap(), entries.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(decode(&bytes, 78), None);
            prop_assert_eq!(decode(&bytes[..bytes.len() - 1], 77), None);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert_eq!(decode(&bytes, 77), None);
        }
    }
}
