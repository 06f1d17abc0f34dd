//! Postings → candidates: hash hits that agree on one offset and one change of speed or pitch.
//!
//! Position in the flow: postings → **votes → candidates** → verification.
//!
//! Every posting that a query pair finds votes for the *diagonal* on which it lies: the position
//! on the timeline at the middle of the query. All true hits of one track share a diagonal. A hit
//! in a long posting list says little, so a vote weighs 4/√(1 + list length).
//!
//! A pass for a [`Family`] of changes sorts its votes by *rung* as well, a step of the factor by
//! which the recording was changed. The factor of a single vote is known from its own key: the
//! anchor's frequency in the track is its last field. A vote counts on the two nearest rungs, so
//! that true votes are never split; and because the diagonal is taken at the middle of the query,
//! half a rung moves a vote at its ends by 25 ms only.
//!
//! # Source
//!
//! Offset histogram: A. Wang, ISMIR 2003, section 2.3. The weight is ours (measured: +0.6 points
//! of recall on hard queries against equal votes), and so are range reads with rungs.

use super::cells::CellCounts;
use super::hits::{Change, Hits, Steps, diagonal_of, for_each_change, vote_bin};
use super::mapping::Mapping;
use super::plan::Probe;
use crate::hash::Family;
use crate::index::{POSITION_MS, Posting, Span, Timeline};
use crate::peaks::Peak;
use crate::units::TrackId;

/// Postings from which on lonely votes are left out: fewer are sorted in a millisecond.
const LONELY_FROM: usize = 1 << 14;
/// Rungs in a coarse cell.
const CELL_RUNGS: i32 = 4;
/// Most candidates of one track.
const OF_TRACK_MAX: usize = 3;
/// Buckets of a range, at most.
const DT_COUNT: usize = 128;

/// A track and an alignment worth verifying.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) track_id: TrackId,
    pub(super) span: Span,
    /// The offset is exact to about ±[`POSITION_MS`], the change to about half a rung.
    pub(super) mapping: Mapping,
    /// The pass that it comes from.
    pub(super) family: Family,
}

/// One vote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vote {
    /// Rung, then diagonal in steps of the timeline.
    pub(super) bin: u64,
    pub(super) weight: f32,
    /// Logarithm of the change that this posting speaks for, in millionths.
    pub(super) ln_change: f32,
    /// Where the posting lies on the timeline.
    pub(super) position: u32,
}

/// The votes of neighbouring bins together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Peaked {
    pub(super) bin: u64,
    pub(super) weight: f32,
    /// Mean of the votes.
    ln_change: f32,
    /// Where the posting of the heaviest vote lies: inside the track, wherever that begins or ends
    /// in the query.
    pub(super) position: u32,
}

/// The best `candidates_max` candidates of what `peaks` have hit, best first, at most three of one track, and none with
/// less than `least_share` of the votes of the best.
pub(super) fn find_candidates(
    hits: &Hits,
    timeline: &Timeline,
    peaks: &[Peak],
    family: Family,
    candidates_max: usize,
    least_share: f32,
) -> Vec<Candidate> {
    let (Some(first), Some(last)) = (peaks.first(), peaks.last()) else { return Vec::new() };
    let middle_ms = first.time_ms.midpoint(last.time_ms);
    let votes = supported_votes(hits, middle_ms, family);
    let mut candidates: Vec<Candidate> = Vec::new();
    let maxima = maxima(votes);
    let weight_min = maxima.first().map_or(0.0, |best| best.weight * least_share);
    for peaked in maxima {
        if candidates.len() >= candidates_max || peaked.weight < weight_min {
            break;
        }
        let diagonal = diagonal_of(peaked.bin);
        // A posting of a removed track lies in none.
        if let Some((span, track_id)) = timeline.locate(peaked.position) {
            let ln_change = f64::from(peaked.ln_change) / 1e6;
            let track_ms = (diagonal - i64::from(span.start)) * i64::from(POSITION_MS);
            let mapping = Mapping {
                query_ms: f64::from(middle_ms),
                track_ms: track_ms as f64,
                ln_speed: if matches!(family, Family::Speed | Family::Tempo) {
                    ln_change
                } else {
                    0.0
                },
                ln_pitch: if matches!(family, Family::Speed | Family::Pitch) {
                    ln_change
                } else {
                    0.0
                },
            };
            let of_track = || candidates.iter().filter(|c| c.span == span);
            if of_track().count() < OF_TRACK_MAX && !of_track().any(|c| c.mapping.is_near(&mapping))
            {
                candidates.push(Candidate { track_id: track_id.clone(), span, mapping, family });
            }
        }
    }
    candidates
}

/// Appends the votes of those postings of a run that `is_wanted`, which is asked for each in turn.
fn push_votes(
    probe: &Probe,
    run: &[Posting],
    middle_ms: u32,
    family: Family,
    mut is_wanted: impl FnMut() -> bool,
    votes: &mut Vec<Vote>,
) {
    let mut steps = Steps::new(probe, middle_ms, family);
    let mut counts = None;
    for_each_change(probe, run, family, |posting, change| {
        if !is_wanted() {
            return;
        }
        let Some(Change { ln, rungs: [first, last] }) = change else { return };
        let counts = counts.get_or_insert_with(|| DtCounts::new(run));
        let weight = counts.weight(posting.key.bucket);
        for rung in first..=last {
            let bin = steps.bin(posting, rung);
            votes.push(Vote { bin, weight, ln_change: ln as f32, position: posting.position });
        }
    });
}

/// How many postings of a run each of its buckets has.
pub(super) struct DtCounts {
    first: u32,
    counts: [u32; DT_COUNT],
}

impl DtCounts {
    pub(super) fn new(run: &[Posting]) -> Self {
        let first = run.iter().map(|posting| posting.key.bucket).min().unwrap_or(0);
        let mut counts = Self { first, counts: [0; DT_COUNT] };
        for posting in run {
            counts.counts[(posting.key.bucket - first) as usize % DT_COUNT] += 1;
        }
        counts
    }

    fn of(&self, bucket: u32) -> u32 {
        self.counts[(bucket - self.first) as usize % DT_COUNT]
    }

    /// Weight of the vote of a posting of this bucket.
    pub(super) fn weight(&self, bucket: u32) -> f32 {
        4.0 / (1.0 + self.of(bucket) as f32).sqrt()
    }
}

/// The votes of the hits, without most of those that no other supports, if they are many.
///
/// Nearly all votes of a pass are chance ones with a bin to themselves. Counting in coarse cells, which
/// may collide, costs a tenth of sorting; three together are the least that can make a candidate among
/// so many. Postings are counted first, once each, then the votes of those that are left.
fn supported_votes(hits: &Hits, middle_ms: u32, family: Family) -> Vec<Vote> {
    let mut votes = Vec::new();
    if hits.postings.len() < LONELY_FROM {
        hits.for_each_run(|probe, run| {
            push_votes(probe, run, middle_ms, family, || true, &mut votes);
        });
        return votes;
    }
    let (bins, counts) = count_cells(hits, middle_ms, family);
    let mut rest = bins.as_slice();
    let mut wanted = Vec::new();
    hits.for_each_run(|probe, run| {
        let (bins, behind) = rest.split_at(run.len());
        rest = behind;
        // In a loop of its own, as that of counting.
        wanted.clear();
        wanted.extend(bins.iter().map(|bin| *bin != NOT_MEANT && counts.supports(*bin)));
        let mut wanted = wanted.iter();
        let is_wanted = || wanted.next().is_some_and(|wanted| *wanted);
        push_votes(probe, run, middle_ms, family, is_wanted, &mut votes);
    });
    let mut counts = CellCounts::new(2 * votes.len());
    votes.iter().for_each(|vote| counts.count(vote.bin));
    votes.retain(|vote| counts.supports(vote.bin));
    votes
}

/// Bin of a posting that does not vote.
const NOT_MEANT: u64 = u64::MAX;

/// One bin of each posting, with [`CELL_RUNGS`] rungs in one, and how many there are in each cell of
/// [`CellCounts`].
fn count_cells(hits: &Hits, middle_ms: u32, family: Family) -> (Vec<u64>, CellCounts) {
    let mut bins = Vec::with_capacity(hits.postings.len());
    let mut counts = CellCounts::new(2 * hits.postings.len());
    hits.for_each_run(|probe, run| {
        let mut steps = Steps::new(probe, middle_ms, family);
        let counted = bins.len();
        for_each_change(probe, run, family, |posting, change| {
            let Some(Change { rungs: [first, last], .. }) = change else {
                bins.push(NOT_MEANT);
                return;
            };
            let diagonal = i64::from(posting.position) - steps.at(first.midpoint(last));
            let coarse_rung = match family {
                Family::Pitch | Family::Speed => first.div_euclid(CELL_RUNGS),
                // Short time differences say too little of the tempo.
                Family::Unchanged | Family::Tempo => 0,
            };
            bins.push(vote_bin(coarse_rung, diagonal));
        });
        // In a loop of its own: it waits for memory, and so for many places at a time.
        let meant = bins[counted..].iter().filter(|bin| **bin != NOT_MEANT);
        meant.for_each(|bin| counts.count(*bin));
    });
    (bins, counts)
}

/// Local maxima of the votes, best first. A bin counts together with the next one of its rung,
/// because rounding spreads true votes over two.
pub(super) fn maxima(mut votes: Vec<Vote>) -> Vec<Peaked> {
    votes.sort_unstable_by_key(|vote| vote.bin);
    let bins: Vec<Peaked> = votes
        .chunk_by(|a, b| a.bin == b.bin)
        .map(|bin| {
            let weight: f32 = bin.iter().map(|vote| vote.weight).sum();
            let change: f32 = bin.iter().map(|vote| vote.weight * vote.ln_change).sum();
            let heavier = |a: Vote, b: &Vote| if b.weight > a.weight { *b } else { a };
            let position = bin.iter().fold(bin[0], heavier).position;
            Peaked { bin: bin[0].bin, weight, ln_change: change / weight, position }
        })
        .collect();
    drop(votes);
    // Rungs are 2⁴⁰ apart, so the last bin of one is never next to the first of another.
    let sum_from = |i: usize| {
        let this = bins[i];
        let Some(next) = bins.get(i + 1).filter(|next| next.bin == this.bin + 1) else {
            return this;
        };
        let weight = this.weight + next.weight;
        let change = this.weight * this.ln_change + next.weight * next.ln_change;
        let position = if next.weight > this.weight { next.position } else { this.position };
        Peaked { bin: this.bin, weight, ln_change: change / weight, position }
    };
    let sums: Vec<Peaked> = (0..bins.len()).map(sum_from).collect();
    let rivals = |i: usize| {
        let before = i.checked_sub(1).map(|b| sums[b]).filter(|b| b.bin + 1 == sums[i].bin);
        let after = sums.get(i + 1).copied().filter(|a| a.bin == sums[i].bin + 1);
        (before.map_or(0.0, |b| b.weight), after.map_or(0.0, |a| a.weight))
    };
    let mut maxima: Vec<Peaked> = (0..sums.len())
        .filter(|i| sums[*i].weight >= rivals(*i).0 && sums[*i].weight > rivals(*i).1)
        .map(|i| sums[i])
        .collect();
    maxima.sort_unstable_by(|a, b| b.weight.total_cmp(&a.weight).then(a.bin.cmp(&b.bin)));
    maxima
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;
    use crate::matching::hits::{RUNG, Run};

    fn vote(rung: i32, diagonal: i64, weight: f32) -> Vote {
        let bin = vote_bin(rung, diagonal);
        Vote { bin, weight, ln_change: (rung * RUNG) as f32, position: 0 }
    }

    fn places(votes: Vec<Vote>) -> Vec<i64> {
        maxima(votes).into_iter().map(|peaked| diagonal_of(peaked.bin)).collect()
    }

    #[test]
    fn neighbouring_bins_count_together_and_give_one_maximum() {
        let votes = [(10, 1.0), (11, 1.5), (11, 0.5), (50, 2.5), (90, 0.1)];
        assert_eq!(places(votes.map(|(d, w)| vote(0, d, w)).to_vec()), [10, 50, 90]);
    }

    #[test]
    fn rungs_do_not_mix() {
        let votes = vec![vote(-14, -3, 1.0), vote(3, -3, 2.0), vote(3, -2, 2.0), vote(14, -3, 3.5)];
        let found = maxima(votes);
        assert_eq!(found.iter().map(|p| p.weight).collect::<Vec<_>>(), [4.0, 3.5, 1.0]);
        assert!((found[0].ln_change - 30_000.0).abs() < 1.0);
        assert_eq!(diagonal_of(found[2].bin), -3);
    }

    #[test]
    fn lonely_votes_change_no_candidate_that_has_support() {
        let mut rng = fastrand::Rng::with_seed(7);
        let probe = Probe { anchor_ms: 5_000, anchor_freq: 4_000, dt_ms: 300 };
        let key = hash::key(4_100, 4_300, 300).unwrap();
        let posting = |position| Posting { key, position };
        let mut postings: Vec<_> = (0..100_000).map(|_| posting(rng.u32(0..400_000_000))).collect();
        for position in [399_990_000, 400_000_000, 400_030_003, 400_040_002] {
            // Supported by three votes in two neighbouring bins, wherever cells begin.
            postings.extend([0, 0, 1].map(|step| posting(position + step)));
        }
        let runs = vec![Run { probe, end: postings.len() }];
        let hits = Hits { postings, runs };
        let mut all = Vec::new();
        hits.for_each_run(|probe, run| {
            push_votes(probe, run, 5_000, Family::Pitch, || true, &mut all);
        });
        assert_eq!(all.len(), 2 * hits.postings.len());
        let supported = supported_votes(&hits, 5_000, Family::Pitch);
        assert!(supported.len() < all.len() / 10, "{} of {}", supported.len(), all.len());
        let best =
            |votes| places(votes).into_iter().take(8).collect::<std::collections::BTreeSet<_>>();
        let expected = [399_990_000, 400_000_000, 400_030_003, 400_040_002];
        assert_eq!(best(supported), expected.into());
        assert_eq!(best(all), expected.into());
    }

    #[test]
    fn no_votes_give_no_candidates() {
        assert!(maxima(Vec::new()).is_empty());
    }
}
