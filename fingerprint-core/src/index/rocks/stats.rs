//! Sizes and counts of an open index, and how its cache does.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::Ordering;

use super::merge::{tier, tier_min};
use super::{Inner, PARTS, storage};
use crate::index::{BlockCacheStats, IndexError, IndexStats, ListLengths, SegmentClass};

impl Inner {
    /// [`crate::index::Index::stats`]. Takes some ten milliseconds, for the lengths of lists.
    pub(super) fn stats(&self) -> Result<IndexStats, IndexError> {
        let store = self.store();
        let mut stats = self.live().stats;
        stats.bytes_by_part = self.bytes_by_part()?;
        let mut classes = BTreeMap::<u32, SegmentClass>::new();
        for segment in &store.segments {
            let posting_count = segment.directory.posting_count;
            let class = classes.entry(tier(posting_count)).or_default();
            class.postings_min = tier_min(tier(posting_count));
            class.segment_count += 1;
            class.posting_count += posting_count;
        }
        stats.segments_by_size = classes.into_values().collect();
        stats.buffered_posting_count = store.buffers().map(|buffer| buffer.len() as u64).sum();
        let in_segments: u64 = stats.segments_by_size.iter().map(|class| class.posting_count).sum();
        // A track that is being added is in the buffer before it is live.
        stats.purgeable_posting_count =
            (in_segments + stats.buffered_posting_count).saturating_sub(stats.posting_count);
        let lens = self.lens.all.iter().map(|len| len.load(Ordering::Relaxed));
        stats.list_lengths = list_lengths(lens.filter(|len| *len > 0).collect());
        stats.block_cache = Some(BlockCacheStats {
            hit_count: self.blocks.hits(),
            miss_count: self.blocks.misses(),
            block_count: self.blocks.len() as u64,
            bytes: self.blocks.weight(),
            bytes_max: self.blocks.capacity(),
        });
        stats.resident_bytes = resident_bytes();
        Ok(stats)
    }

    fn bytes_by_part(&self) -> Result<BTreeMap<String, u64>, IndexError> {
        let measure = |part: &'static str| {
            let size = |property| {
                let size = self.db.property_int_value_cf(self.family(part), property);
                size.map(Option::unwrap_or_default).map_err(storage("measure the index"))
            };
            let files = size("rocksdb.live-sst-files-size")?;
            let memory = size("rocksdb.size-all-mem-tables")?;
            Ok((part.to_owned(), files + memory))
        };
        PARTS.into_iter().map(measure).collect()
    }
}

/// The distribution of the lengths of lists that are not empty; `None` if all are.
fn list_lengths(mut lens: Vec<u32>) -> Option<ListLengths> {
    let longest = lens.iter().copied().max()?;
    let count = lens.len();
    // The place of the last of the first `permille`.
    let mut percentile = |permille: usize| {
        let place = (count * permille).div_ceil(1_000).saturating_sub(1);
        *lens.select_nth_unstable(place).1
    };
    Some(ListLengths {
        list_count: count as u64,
        median: percentile(500),
        p90: percentile(900),
        p99: percentile(990),
        p999: percentile(999),
        longest,
    })
}

/// As Linux tells it; `None` elsewhere.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_a_sorted_list() {
        assert_eq!(list_lengths(Vec::new()), None);
        let one = ListLengths { list_count: 1, median: 7, p90: 7, p99: 7, p999: 7, longest: 7 };
        assert_eq!(list_lengths(vec![7]), Some(one));
        let mut lens: Vec<u32> = (1..=2_000).collect();
        fastrand::Rng::with_seed(1).shuffle(&mut lens);
        let expected = ListLengths {
            list_count: 2_000,
            median: 1_000,
            p90: 1_800,
            p99: 1_980,
            p999: 1_998,
            longest: 2_000,
        };
        assert_eq!(list_lengths(lens), Some(expected));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_how_much_memory_is_resident() {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
