//! Query pairs → key ranges: what a pass reads, and what it can afford to.
//!
//! Position in the flow: landmarks → **key ranges** → postings → votes. A pair of a query's peaks is
//! worth looking up the more, the likelier a track has stored it and the fewer postings it costs. The
//! resident lengths of the posting lists tell the costs, and a pass takes the pairs with the most hits
//! a posting until its budget is spent.

use std::ops::Range;

use crate::hash::{self, Family, KeyRange, Tolerance};
use crate::index::{Index, Timeline};
use crate::landmark::{self, QueryPair};
use crate::params::Params;
use crate::peaks::Peak;

/// Postings that the search for unchanged recordings may read in a window, about: reached by
/// catalogs of some forty thousand tracks. With ten times as many, one more of 125 clips was found among
/// 100,000 tracks.
const UNCHANGED_POSTINGS_MAX: f64 = 1e5;
/// The same for each pass for changed ones: this many, and a share of all postings, because true
/// votes must stand out from chance ones, which grow with the index. ARCHITECTURE has what
/// greater shares find and cost.
const CHANGED_POSTINGS_MIN: f64 = 60_000.0;
const CHANGED_POSTINGS_SHARE: f64 = 7e-5;
/// The share for changed pitch, whose true votes smear most.
const PITCH_POSTINGS_SHARE: f64 = 2e-4;
/// Postings of a second of music, about.
const POSTINGS_PER_S: f64 = 58.0;
/// Most pairs of a window that are looked up. Music has 2,000 in 15 s; only made-up fingerprints
/// have more, whose probes would fill the memory.
const PAIRS_MAX: usize = 20_000;

/// Pairs of a glance. ARCHITECTURE has what more of them find and cost.
const GLANCE_PAIRS: usize = 160;

/// A pair of the query whose landmark is looked up in one range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub(super) anchor_ms: u32,
    pub(super) anchor_freq: u16,
    pub(super) dt_ms: u32,
}

/// What a pair costs.
struct Cost {
    /// Postings in its ranges, about.
    postings: f64,
    /// The same for each true hit that can be expected, up to a factor.
    per_hit: f64,
    /// Its ranges, by their places among all.
    reads: Range<usize>,
}

/// A range of keys and the pair that it is read for, in one number, whose order is that of the
/// index: sorting ten thousands of them is a part of the cost of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Read(u64);

impl Read {
    const PAIR_BITS: u32 = 15;
    const CELL_BITS: u32 = 6;
    const RUN_BITS: u32 = 7;

    fn new(range: &KeyRange, pair: usize) -> Self {
        let (start, end) = (*range.buckets.start(), *range.buckets.end());
        let mut bits = u64::from(start);
        bits = bits << Self::CELL_BITS | u64::from(*range.cells.start());
        bits = bits << Self::RUN_BITS | u64::from(end - start);
        bits = bits << Self::CELL_BITS | u64::from(*range.cells.end());
        Self(bits << Self::PAIR_BITS | pair as u64)
    }

    fn pair(self) -> usize {
        (self.0 & ((1 << Self::PAIR_BITS) - 1)) as usize
    }

    fn range(self) -> KeyRange {
        let mut rest = self.0 >> Self::PAIR_BITS;
        let mut take = |bits: u32| {
            let field = rest & ((1 << bits) - 1);
            rest >>= bits;
            field
        };
        let (end, run, start) =
            (take(Self::CELL_BITS), take(Self::RUN_BITS), take(Self::CELL_BITS));
        let cell = |field: u64| u16::try_from(field).unwrap_or(u16::MAX);
        let bucket = u32::try_from(rest).unwrap_or(u32::MAX);
        let last = bucket.saturating_add(u32::try_from(run).unwrap_or(0));
        KeyRange { buckets: bucket..=last, cells: cell(start)..=cell(end) }
    }
}

const _: () = assert!(PAIRS_MAX <= 1 << Read::PAIR_BITS);
const _: () = assert!(hash::CELL_COUNT < 1 << Read::CELL_BITS);

/// Of which anchors the pairs are read, and how much for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// Anchors from this time on are targets only.
    pub(super) anchors_until_ms: u32,
    /// Postings that may be read, about, if fewer than for a window.
    pub(super) postings_max: f64,
    /// Pairs less likely than this are passed over.
    pub(super) likelihood_min: f32,
    /// Most pairs, those with the most hits to be expected for a posting.
    pub(super) pairs_max: usize,
}

impl Scope {
    /// A whole window.
    pub(super) const WINDOW: Self = Self {
        anchors_until_ms: u32::MAX,
        postings_max: f64::INFINITY,
        likelihood_min: 0.0,
        pairs_max: PAIRS_MAX,
    };

    /// A few pairs of a window, which suffice for what is in the index and little changed.
    pub(super) const GLANCE: Self = Self { pairs_max: GLANCE_PAIRS, ..Self::WINDOW };
}

/// What a pass reads.
pub(super) struct Reads {
    /// In the order of the index.
    pub(super) ranges: Vec<KeyRange>,
    /// The pair that each range is for.
    pub(super) probes: Vec<Probe>,
    /// Postings in them, about.
    pub(super) postings: usize,
}

/// Chooses what a pass reads.
pub(super) fn plan_reads(
    index: &dyn Index,
    timeline: &Timeline,
    peaks: &[Peak],
    family: Family,
    scope: Scope,
    params: &Params,
) -> Reads {
    let tolerance = Tolerance::of(family);
    let mut pairs: Vec<Probe> = Vec::new();
    let mut reads: Vec<Read> = Vec::new();
    let mut costs: Vec<Cost> = Vec::new();
    let mut ranges = Vec::new();
    landmark::for_each_query_pair(peaks, params, |QueryPair { anchor, target, likelihood }| {
        let is_wanted =
            anchor.time_ms < scope.anchors_until_ms && likelihood >= scope.likelihood_min;
        if pairs.len() == PAIRS_MAX || !is_wanted {
            return;
        }
        let dt_ms = target.time_ms - anchor.time_ms;
        hash::probe(family, anchor.freq, target.freq, dt_ms, &tolerance, &mut ranges);
        let (first, mut cost) = (reads.len(), 0.0);
        for range in ranges.drain(..) {
            let lens = range.buckets.clone().map(|bucket| u64::from(index.bucket_len(bucket)));
            let len: u64 = lens.sum();
            if len > 0 {
                let share = range.cells.len() as f64 / f64::from(hash::CELL_COUNT);
                cost += len as f64 * share;
                reads.push(Read::new(&range, pairs.len()));
            }
        }
        let per_hit = cost / f64::from(likelihood);
        // What no track has is no reason to look less far.
        if reads.len() > first {
            costs.push(Cost { postings: cost, per_hit, reads: first..reads.len() });
        }
        pairs.push(Probe { anchor_ms: anchor.time_ms, anchor_freq: anchor.freq, dt_ms });
    });
    let budget = scope.postings_max.min(postings_max(timeline, family));
    let mut spent = costs.iter().map(|cost| cost.postings).sum::<f64>();
    if spent > budget || costs.len() > scope.pairs_max {
        let order = |a: &Cost, b: &Cost| a.per_hit.total_cmp(&b.per_hit);
        costs.sort_unstable_by(|a, b| order(a, b).then(a.reads.start.cmp(&b.reads.start)));
        spent = 0.0;
        let affordable = costs.iter().take(scope.pairs_max).take_while(|cost| {
            let is_affordable = spent + cost.postings <= budget;
            spent += if is_affordable { cost.postings } else { 0.0 };
            is_affordable
        });
        reads = affordable.flat_map(|cost| &reads[cost.reads.clone()]).copied().collect();
    }
    reads.sort_unstable();
    let (ranges, probes) = reads.iter().map(|read| (read.range(), pairs[read.pair()])).unzip();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "budgets are some millions"
    )]
    let postings = spent as usize;
    Reads { ranges, probes, postings }
}

/// Postings that a pass may read in an index of these tracks, about.
fn postings_max(timeline: &Timeline, family: Family) -> f64 {
    let all = timeline.duration_s() * POSTINGS_PER_S;
    match family {
        Family::Unchanged => UNCHANGED_POSTINGS_MAX,
        Family::Pitch => CHANGED_POSTINGS_MIN + PITCH_POSTINGS_SHARE * all,
        Family::Speed | Family::Tempo => CHANGED_POSTINGS_MIN + CHANGED_POSTINGS_SHARE * all,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_are_ranges_and_pairs_in_the_order_of_the_index(
            a in (0..hash::BUCKET_COUNT - 128, 0_u32..128, 0_u16..35, 0_u16..35, 0..PAIRS_MAX),
            b in (0..hash::BUCKET_COUNT - 128, 0_u32..128, 0_u16..35, 0_u16..35, 0..PAIRS_MAX),
        ) {
            let range = |(bucket, run, low, high, _)| KeyRange {
                buckets: bucket..=bucket + run,
                cells: low..=high,
            };
            let [read_a, read_b] = [a, b].map(|x| Read::new(&range(x), x.4));
            prop_assert_eq!((read_a.range(), read_a.pair()), (range(a), a.4));
            let [key_a, key_b] = [a, b].map(|(bucket, _, low, _, _)| (bucket, low));
            if key_a != key_b {
                prop_assert_eq!(read_a < read_b, key_a < key_b);
            }
        }
    }
}
