//! Postings → candidates: hash hits that agree on one offset.
//!
//! Position in the flow: postings → **votes → candidates** → verification.
//!
//! Every posting that a query pair finds votes for the *diagonal* on which it lies: its position
//! on the timeline minus the time of the pair in the query. All true hits of one track share a
//! diagonal. A hit in a long posting list says little, so a vote weighs 4/√(1 + list length).
//!
//! # Source
//!
//! Offset histogram: A. Wang, ISMIR 2003, section 2.3. The weight is ours (measured: +0.6 points
//! of recall on hard queries against equal votes).

use crate::hash::{self, KeyRange, Tolerance};
use crate::index::{Index, IndexError, POSITION_MS, Span, Timeline};
use crate::landmark;
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::TrackId;

/// A track and an offset worth verifying.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) track_id: TrackId,
    pub(super) span: Span,
    /// Track time at query time 0, in ms; exact to about ±[`POSITION_MS`].
    pub(super) offset_ms: i64,
}

/// One vote: a diagonal in steps of the timeline (biased to stay positive) and its weight.
type Vote = (i64, f32);

/// Looks up all landmarks of `peaks` and returns the best `candidates_max` candidates, best
/// first, at most three of one track.
pub(super) fn find_candidates(
    index: &dyn Index,
    timeline: &Timeline,
    peaks: &[Peak],
    candidates_max: usize,
    params: &Params,
) -> Result<Vec<Candidate>, IndexError> {
    let votes = collect_votes(index, peaks, params)?;
    let query_end_ms = peaks.last().map_or(0, |peak| peak.time_ms);
    let reach = i64::from(query_end_ms / POSITION_MS);
    let mut candidates: Vec<Candidate> = Vec::new();
    for diagonal in best_diagonals(votes) {
        if candidates.len() >= candidates_max {
            break;
        }
        // A diagonal that begins near the end of one track may belong to the next one instead.
        let positions = [diagonal + reach / 2, diagonal, diagonal + reach];
        for position in positions.into_iter().filter_map(|p| u32::try_from(p).ok()) {
            let Some((span, track_id)) = timeline.locate(position) else { continue };
            let offset_ms = (diagonal - i64::from(span.start)) * i64::from(POSITION_MS);
            let candidate = Candidate { track_id: track_id.clone(), span, offset_ms };
            let of_track = candidates.iter().filter(|c| c.span == span).count();
            if of_track < 3 && !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
    }
    Ok(candidates)
}

fn collect_votes(
    index: &dyn Index,
    peaks: &[Peak],
    params: &Params,
) -> Result<Vec<Vote>, IndexError> {
    let tolerance = Tolerance::default();
    let mut probes: Vec<(KeyRange, u32)> = Vec::new();
    let mut ranges = Vec::new();
    landmark::for_each_pair(peaks, params, |anchor, target| {
        let dt_ms = target.time_ms - anchor.time_ms;
        hash::probe_plain(anchor.freq, target.freq, dt_ms, &tolerance, &mut ranges);
        probes.extend(ranges.drain(..).map(|range| (range, anchor.time_ms)));
    });
    probes.sort_unstable_by_key(|(range, _)| (range.bucket, *range.cells.start()));
    let (ranges, times): (Vec<_>, Vec<_>) = probes.into_iter().unzip();
    let mut votes = Vec::new();
    index.read_postings(&ranges, &mut |i, postings| {
        let weight = 4.0 / (1.0 + postings.len() as f32).sqrt();
        let query_step = i64::from(times[i] / POSITION_MS);
        votes.extend(postings.iter().map(|p| (i64::from(p.position) - query_step, weight)));
    })?;
    Ok(votes)
}

/// Diagonals at local maxima of the votes, best first. A bin counts together with the next one,
/// because rounding spreads true votes over two.
fn best_diagonals(mut votes: Vec<Vote>) -> Vec<i64> {
    votes.sort_unstable_by_key(|(diagonal, _)| *diagonal);
    let bins: Vec<Vote> = votes
        .chunk_by(|a, b| a.0 == b.0)
        .map(|bin| (bin[0].0, bin.iter().map(|(_, weight)| weight).sum()))
        .collect();
    let sum_from = |i: usize| {
        let (diagonal, weight) = bins[i];
        weight + bins.get(i + 1).filter(|next| next.0 == diagonal + 1).map_or(0.0, |next| next.1)
    };
    let sums: Vec<Vote> = (0..bins.len()).map(|i| (bins[i].0, sum_from(i))).collect();
    let rivals = |i: usize| {
        let before = i.checked_sub(1).map(|b| sums[b]).filter(|b| b.0 + 1 == sums[i].0);
        let after = sums.get(i + 1).copied().filter(|a| a.0 == sums[i].0 + 1);
        (before.map_or(0.0, |b| b.1), after.map_or(0.0, |a| a.1))
    };
    let mut maxima: Vec<Vote> = (0..sums.len())
        .filter(|i| sums[*i].1 >= rivals(*i).0 && sums[*i].1 > rivals(*i).1)
        .map(|i| sums[i])
        .collect();
    maxima.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    maxima.into_iter().map(|(diagonal, _)| diagonal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_bins_count_together_and_give_one_maximum() {
        let votes = vec![(10, 1.0), (11, 1.5), (11, 0.5), (50, 2.5), (90, 0.1)];
        assert_eq!(best_diagonals(votes), [10, 50, 90]);
    }

    #[test]
    fn no_votes_give_no_candidates() {
        assert!(best_diagonals(Vec::new()).is_empty());
    }
}
