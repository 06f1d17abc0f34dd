//! How many postings each bucket holds: the resident table, its stored copy, and what is done
//! where the copy does not fit.
//!
//! Counting all rows takes 0.1 to 0.2 s for 11.7 hours of music, by proportion 1 to 2 minutes for
//! 100,000 tracks. A stored copy makes that needless: opening reads the copy (2 ms) and counts only
//! the tracks that were added after it, from their constellations. The copy is written again after
//! every [`SAVE_STEPS`] of new audio and by [`RocksIndex::compact`]. It is never trusted blindly:
//! if it is damaged, ahead of the index or does not agree with the postings of the live tracks, all
//! rows are counted.

use std::sync::atomic::{AtomicU32, Ordering};

use rocksdb::WriteBatch;

use super::{CONSTELLATIONS, META, POSTINGS, RocksIndex, corrupt, storage};
use crate::constellation;
use crate::hash::BUCKET_COUNT;
use crate::index::posting::{count_postings, read_varint, write_varint};
use crate::index::{IndexError, POSITION_MS, Span, write};

/// Where the copy lies among the header fields.
const KEY: &str = "lens";
/// New audio after which the copy is written again, in steps of the timeline: 12 hours. The copy
/// has 0.8 MB where these have 28 MB, and counting them when the index is opened takes 0.9 s.
const SAVE_STEPS: u32 = 12 * 3_600_000 / POSITION_MS;
/// The table may count this many times the postings of the live tracks, in percent, before it is
/// made anew: removals after the last copy are forgotten by a restart.
const EXCESS_PERCENT_MAX: u64 = 125;
/// Counting a track from its peaks takes this many times as long as counting its rows (measured:
/// 0.9 s against 0.1 to 0.2 s for 11.7 hours).
const RECOUNT_COST: u32 = 6;
const DIGEST_BYTES: usize = 32;

/// Postings of each bucket: at least those of the live tracks. 6 MiB.
///
/// Readers take no lock. There is one writer at a time, who counts postings before they are
/// visible, and uncounts them when they no longer are.
#[derive(Debug)]
pub(super) struct BucketLens(Box<[AtomicU32]>);

impl BucketLens {
    pub(super) fn new() -> Self {
        Self((0..BUCKET_COUNT).map(|_| AtomicU32::new(0)).collect())
    }

    /// Zero for a bucket that no key has.
    pub(super) fn get(&self, bucket: u32) -> u32 {
        self.0.get(bucket as usize).map_or(0, |len| len.load(Ordering::Relaxed))
    }

    /// Counts postings that are about to be written. Only for the one writer.
    pub(super) fn count(&self, bucket: u32, count: u32) {
        self.set(bucket, self.get(bucket).saturating_add(count));
    }

    /// Uncounts postings that are gone. Only for the one writer.
    pub(super) fn uncount(&self, bucket: u32, count: u32) {
        self.set(bucket, self.get(bucket).saturating_sub(count));
    }

    fn set(&self, bucket: u32, len: u32) {
        if let Some(place) = self.0.get(bucket as usize) {
            place.store(len, Ordering::Relaxed);
        }
    }

    fn sum(&self) -> u64 {
        (0..BUCKET_COUNT).map(|bucket| u64::from(self.get(bucket))).sum()
    }

    /// The stored copy, laid out as the header of [`super`] says.
    pub(super) fn encode(&self, position: u32) -> Vec<u8> {
        let mut bytes = position.to_be_bytes().to_vec();
        let mut expected = 0;
        for bucket in 0..BUCKET_COUNT {
            let len = self.get(bucket);
            if len > 0 {
                write_varint(&mut bytes, u64::from(bucket - expected));
                write_varint(&mut bytes, u64::from(len));
                expected = bucket + 1;
            }
        }
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        bytes
    }

    /// Reads back what [`BucketLens::encode`] wrote; `None` if it is damaged.
    fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>()?;
        if blake3::hash(content).as_bytes() != digest {
            return None;
        }
        let (position, mut rest) = content.split_first_chunk()?;
        let lens = Self::new();
        let mut bucket = 0_u32;
        while !rest.is_empty() {
            bucket = bucket.checked_add(read_varint(&mut rest)?.try_into().ok()?)?;
            let len = u32::try_from(read_varint(&mut rest)?).ok()?;
            if bucket >= BUCKET_COUNT {
                return None;
            }
            lens.set(bucket, len);
            bucket += 1;
        }
        Some((lens, u32::from_be_bytes(*position)))
    }
}

impl RocksIndex {
    /// Makes the resident table of an index whose header and tracks have been loaded.
    pub(super) fn load_lens(&mut self, next_position: u32) -> Result<(), IndexError> {
        let stored = self.stored_lens(next_position)?;
        let (lens, saved_at) = stored.unwrap_or_else(|| (self.scan_lens(), 0));
        self.lens = lens;
        *self.lens_saved_at.get_mut() = saved_at;
        self.save_lens_if_old(next_position)
    }

    /// The stored copy and what was added after it, and where that begins. `None` if there is no
    /// copy, or one that is not to be trusted.
    fn stored_lens(&self, next_position: u32) -> Result<Option<(BucketLens, u32)>, IndexError> {
        let stored = self
            .db
            .get_pinned_cf(self.family(META), KEY)
            .map_err(storage("read the table of bucket lengths"))?;
        let Some((lens, position)) = stored.and_then(|bytes| BucketLens::decode(&bytes)) else {
            return Ok(None);
        };
        let is_near = next_position
            .checked_sub(position)
            .is_some_and(|steps| steps <= next_position / RECOUNT_COST);
        if !is_near {
            return Ok(None);
        }
        let live = self.live();
        let added = live.timeline.entries().iter().filter(|(span, _)| span.start >= position);
        for (span, _) in added {
            match self.count_track(*span, &lens) {
                Ok(()) => {}
                Err(IndexError::Corrupt { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let (sum, live_count) = (lens.sum(), live.stats.posting_count);
        let fits = live_count <= sum && sum <= live_count * EXCESS_PERCENT_MAX / 100;
        Ok(fits.then_some((lens, position)))
    }

    /// Counts the postings of the track at `span`.
    fn count_track(&self, span: Span, lens: &BucketLens) -> Result<(), IndexError> {
        let bytes = self
            .db
            .get_pinned_cf(self.family(CONSTELLATIONS), span.start.to_be_bytes())
            .map_err(storage("read a constellation"))?
            .ok_or_else(|| corrupt(format!("no constellation at position {}", span.start)))?;
        let peaks = constellation::decode(&bytes)
            .map_err(|error| corrupt(format!("the {error} (position {})", span.start)))?;
        write::for_each_part(&peaks, span, &self.params, |postings| {
            postings.iter().for_each(|(bucket, _)| lens.count(*bucket, 1));
            Ok(())
        })
    }

    /// Counts all rows.
    fn scan_lens(&self) -> BucketLens {
        let lens = BucketLens::new();
        let mut rows = self.db.raw_iterator_cf(self.family(POSTINGS));
        let mut unread = 0;
        rows.seek_to_first();
        while let Some((key, row)) = rows.item() {
            if let Ok(key) = key.try_into() {
                let bucket = u32::from_be_bytes(key);
                // Whoever reads a damaged row shall be told so.
                lens.count(bucket, count_postings(row).unwrap_or(1));
                unread = bucket.saturating_add(1);
            }
            rows.next();
        }
        if rows.status().is_err() {
            (unread..BUCKET_COUNT).for_each(|bucket| lens.count(bucket, 1));
        }
        lens
    }

    /// Stores the table. Only for the one writer, between changes.
    pub(super) fn save_lens(&self, next_position: u32) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(META), KEY, self.lens.encode(next_position));
        // Not synced: an older copy is as good, only slower.
        self.db.write(batch).map_err(storage("write the table of bucket lengths"))?;
        self.lens_saved_at.store(next_position, Ordering::Relaxed);
        Ok(())
    }

    /// Stores the table if much has been added since it was last stored. Only for the one writer,
    /// between changes.
    pub(super) fn save_lens_if_old(&self, next_position: u32) -> Result<(), IndexError> {
        if next_position - self.lens_saved_at.load(Ordering::Relaxed) < SAVE_STEPS {
            return Ok(());
        }
        self.save_lens(next_position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lens(entries: &[(u32, u32)]) -> BucketLens {
        let lens = BucketLens::new();
        entries.iter().for_each(|(bucket, len)| lens.set(*bucket, *len));
        lens
    }

    #[test]
    fn bytes_of_version_1() {
        let bytes = lens(&[(0, 1), (1, 300), (5, 7)]).encode(0x0102_0304);
        let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().unwrap();
        assert_eq!(content, [1, 2, 3, 4, 0, 1, 0, 0xac, 2, 3, 7]);
        assert_eq!(digest, blake3::hash(content).as_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn tables_round_trip_and_damage_is_noticed(
            entries in proptest::collection::vec((0..BUCKET_COUNT, 1_u32..), 0..50),
            at: usize, flip in 1_u8..,
        ) {
            let lens = lens(&entries);
            let mut bytes = lens.encode(77);
            let (again, position) = BucketLens::decode(&bytes).unwrap();
            prop_assert_eq!(position, 77);
            prop_assert!((0..=BUCKET_COUNT).all(|bucket| again.get(bucket) == lens.get(bucket)));
            prop_assert!(BucketLens::decode(&bytes[..bytes.len() - 1]).is_none());
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(BucketLens::decode(&bytes).is_none());
        }
    }
}
