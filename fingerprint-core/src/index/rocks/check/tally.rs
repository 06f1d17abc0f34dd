//! Sums that tell whether two heaps of postings are the same, whatever their order, in 24 bytes.
//!
//! Of each posting a hash of 128 bits is added up. What was compared with this and found equal is
//! equal but for a chance of about one in 2¹²⁸; nobody chooses postings to meet it.

use crate::index::segment::Entry;

/// Sum of the hashes of some postings, and how many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: u64,
    low: u64,
    high: u64,
}

impl Tally {
    #[inline]
    pub(super) fn add(&mut self, entry: Entry) {
        self.count += 1;
        self.low = self.low.wrapping_add(mix(entry.number() ^ 0x9e37_79b9_7f4a_7c15));
        self.high =
            self.high.wrapping_add(mix(entry.number().rotate_left(32) ^ 0xd1b5_4a32_d192_ed03));
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.low = self.low.wrapping_add(other.low);
        self.high = self.high.wrapping_add(other.high);
    }
}

/// The finaliser of SplitMix64: one bit of `x` changes half of the result's.
///
/// # Source
///
/// G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Key;
    use crate::index::Posting;

    fn tally(positions: &[u32]) -> Tally {
        let mut tally = Tally::default();
        for position in positions {
            let key = Key { bucket: position % 7, cell: 3 };
            tally.add(Entry::new(Posting { key, position: *position }));
        }
        tally
    }

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let all = tally(&[5, 6, 7, 1_000]);
        assert_eq!(tally(&[1_000, 7, 5, 6]), all);
        let mut merged = tally(&[7, 6]);
        merged.merge(tally(&[5, 1_000]));
        assert_eq!(merged, all);
        for other in [&[5, 6, 7][..], &[5, 6, 7, 1_001], &[5, 6, 6, 1_000], &[5, 6, 7, 7, 1_000]] {
            assert_ne!(tally(other), all, "{other:?}");
        }
        // Postings that make up for each other in a plain sum.
        assert_ne!(tally(&[7, 21]), tally(&[0, 28]));
    }
}
