//! Landmarks: pairs of peaks, an anchor and a later target in its target zone.
//!
//! Position in the flow: constellation → **landmarks** → postings. A track stores few landmarks
//! per anchor (its strongest targets), a query looks up twice as many: the cost of the index stays
//! low, and a query finds a stored pair as long as both of its peaks survived, though damage may have
//! added stronger ones or changed their order.
//!
//! # Source
//!
//! A. Wang, "An Industrial-Strength Audio Search Algorithm", ISMIR 2003, section 2.2. The paper
//! leaves the zone's shape and the choice within it open; the asymmetry between track and query
//! is ours.

use std::ops::Range;

use crate::hash::{self, Key};
use crate::params::{BIN_HZ, FREQ_STEPS_PER_BIN, Params};
use crate::peaks::Peak;

/// Most targets of an anchor, the nearest in time. Neighbourhoods leave no room for as many in
/// real audio; made-up constellations would take time that grows with the square.
const TARGETS_MAX: usize = 64;

/// Targets of an anchor that a query looks up, at most.
const QUERY_FAN_OUT: usize = 4;
/// How likely a track has stored a pair of a query, relative to the likeliest: by rank of the anchor (0,
/// or more), then by place of the target among those of the anchor, the strongest first. Seen in
/// 186 damaged clips whose place in a track was known: the same order in noise and after changes of
/// speed, tempo and pitch. Further targets were the stored ones in fewer than 2 of 100 cases, and are
/// half of all pairs.
const LIKELIHOODS: [[f32; QUERY_FAN_OUT]; 2] = [[1.0, 0.8, 0.13, 0.04], [0.7, 0.17, 0.045, 0.0]];
/// The same for a target of rank 1 or more against one of rank 0.
const LOW_TARGET: f32 = 0.7;

/// One landmark of a track, ready to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Landmark {
    /// Time-free hash of the pair.
    pub key: Key,
    /// Time of the anchor, in milliseconds since the first sample of the track.
    pub anchor_ms: u32,
}

/// The landmarks that are stored for a track: for every peak of rank at most
/// [`Params::landmark_rank_max`] the strongest targets in its zone, [`Params::reference_fan_out`] of
/// them for rank 0 and one less for each higher rank, but one at least.
///
/// `peaks` is a constellation in ascending order. Only peaks up to that rank are used, so the
/// peaks that an index keeps for verification give the same landmarks as the whole fingerprint.
/// Landmarks come in the order of their anchors. Silence gives none.
///
/// Only the peaks at the places `anchors` are taken as anchors: the landmarks of a long recording
/// can be had piece by piece.
///
/// The work is O(anchors × peaks within one zone length).
///
/// # Panics
///
/// If `anchors` reaches beyond `peaks`.
#[must_use]
pub fn reference_landmarks(
    peaks: &[Peak],
    anchors: Range<usize>,
    params: &Params,
) -> Vec<Landmark> {
    let fan_out = usize::from(params.reference_fan_out);
    let mut landmarks = Vec::with_capacity(anchors.len() * fan_out);
    for_each_anchor(peaks, anchors, params, |anchor, targets| {
        let own = fan_out.saturating_sub(usize::from(anchor.rank)).max(1);
        let keys = targets.iter().filter_map(|t| hash_pair(anchor, *t)).take(own);
        landmarks.extend(keys.map(|key| Landmark { key, anchor_ms: anchor.time_ms }));
    });
    landmarks
}

/// A pair of a query's peaks that a track may have stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryPair {
    /// The earlier peak.
    pub anchor: Peak,
    /// The later one.
    pub target: Peak,
    /// How likely a track has stored the pair, relative to the likeliest ones, 0 to 1.
    pub likelihood: f32,
}

/// Calls `visit` with the pairs that a query looks up: each anchor with its strongest targets, up to
/// four, or three if other peaks around the anchor are stronger.
///
/// `peaks` is a constellation in ascending order; peaks of a rank above
/// [`Params::landmark_rank_max`] are passed over. A 10 s query has about 1,300 pairs.
pub fn for_each_query_pair(peaks: &[Peak], params: &Params, mut visit: impl FnMut(QueryPair)) {
    // Two in three of a query's peaks are of higher rank; each anchor would pass over them again.
    let eligible = |peak: &&Peak| peak.rank <= params.landmark_rank_max;
    let peaks: Vec<Peak> = peaks.iter().filter(eligible).copied().collect();
    for_each_anchor(&peaks, 0..peaks.len(), params, |anchor, targets| {
        let likelihoods = LIKELIHOODS[usize::from(anchor.rank).min(LIKELIHOODS.len() - 1)];
        for (target, likelihood) in targets.iter().zip(likelihoods) {
            let likelihood = likelihood * if target.rank == 0 { 1.0 } else { LOW_TARGET };
            if likelihood > 0.0 {
                visit(QueryPair { anchor, target: *target, likelihood });
            }
        }
    });
}

/// Calls `visit` with each anchor and the targets in its zone, strongest first.
fn for_each_anchor(
    peaks: &[Peak],
    anchors: Range<usize>,
    params: &Params,
    mut visit: impl FnMut(Peak, &[Peak]),
) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a zone is a few hundred Hz high"
    )]
    let freq_distance_max = (params.zone_hz / BIN_HZ * FREQ_STEPS_PER_BIN as f32) as u16;
    let eligible = |peak: &&Peak| peak.rank <= params.landmark_rank_max;
    let places = anchors.clone().zip(&peaks[anchors]);
    let mut targets: Vec<Peak> = Vec::new();
    for (place, anchor) in places.filter(|(_, peak)| eligible(peak)) {
        let zone = peaks[place + 1..]
            .iter()
            .take_while(|target| target.time_ms - anchor.time_ms <= params.zone_max_ms)
            .filter(eligible)
            .filter(|target| target.time_ms - anchor.time_ms >= params.zone_min_ms)
            .filter(|target| target.freq.abs_diff(anchor.freq) <= freq_distance_max)
            .take(TARGETS_MAX)
            .copied();
        targets.clear();
        targets.extend(zone);
        // Strongest first; among equals the earlier and lower, so that the choice is one.
        targets.sort_unstable_by(|a, b| b.level.cmp(&a.level).then(a.cmp(b)));
        visit(*anchor, &targets);
    }
}

fn hash_pair(anchor: Peak, target: Peak) -> Option<Key> {
    hash::key(anchor.freq, target.freq, target.time_ms - anchor.time_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(time_ms: u32, freq: u16, level: u8) -> Peak {
        Peak { time_ms, freq, level, rank: 0 }
    }

    fn constellation() -> Vec<Peak> {
        // The anchor; too near in time; three targets; too far in time; too far in frequency.
        vec![
            peak(100, 4_000, 200),
            peak(129, 4_100, 250),
            peak(130, 4_100, 100),
            peak(400, 3_000, 180),
            peak(900, 4_500, 150),
            peak(900, 7_000, 255),
            peak(901, 4_000, 255),
        ]
    }

    fn all_landmarks(peaks: &[Peak]) -> Vec<Landmark> {
        reference_landmarks(peaks, 0..peaks.len(), &Params::default())
    }

    fn pairs(peaks: &[Peak]) -> Vec<(Peak, Peak)> {
        let mut pairs = Vec::new();
        let visit = |pair: QueryPair| pairs.push((pair.anchor, pair.target));
        for_each_query_pair(peaks, &Params::default(), visit);
        pairs
    }

    #[test]
    fn the_zone_includes_its_edges_and_nothing_beyond() {
        let of_first: Vec<_> =
            pairs(&constellation()).into_iter().filter(|(a, _)| a.time_ms == 100).collect();
        let targets: Vec<_> = of_first.iter().map(|(_, target)| target.time_ms).collect();
        // The strongest first.
        assert_eq!(targets, [400, 900, 130]);
    }

    #[test]
    fn a_track_keeps_the_strongest_targets() {
        let landmarks = all_landmarks(&constellation());
        let of_first: Vec<_> = landmarks.iter().filter(|l| l.anchor_ms == 100).collect();
        let expected =
            [(3_000, 300), (4_500, 800)].map(|(freq, dt)| hash::key(4_000, freq, dt).unwrap());
        assert_eq!(of_first.iter().map(|l| l.key).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn shifting_the_recording_shifts_every_landmark_and_nothing_else() {
        let early = constellation();
        let late: Vec<_> =
            early.iter().map(|p| Peak { time_ms: p.time_ms + 1_000_000, ..*p }).collect();
        let expected: Vec<_> = all_landmarks(&early)
            .iter()
            .map(|l| Landmark { anchor_ms: l.anchor_ms + 1_000_000, ..*l })
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(all_landmarks(&late), expected);
    }

    #[test]
    fn the_landmarks_of_a_part_are_those_of_its_anchors() {
        let peaks = constellation();
        for cut in 0..=peaks.len() {
            let params = Params::default();
            let mut parts = reference_landmarks(&peaks, 0..cut, &params);
            parts.extend(reference_landmarks(&peaks, cut..peaks.len(), &params));
            assert_eq!(parts, all_landmarks(&peaks), "cut at {cut}");
        }
    }

    #[test]
    fn peaks_of_higher_rank_change_nothing() {
        let plain = constellation();
        let mut crowded = plain.clone();
        crowded.extend((0..50).map(|i| Peak { rank: 2, ..peak(100 + i * 10, 4_050, 255) }));
        crowded.sort_unstable();
        assert_eq!(all_landmarks(&crowded), all_landmarks(&plain));
        assert_eq!(pairs(&crowded), pairs(&plain));
    }

    #[test]
    fn every_stored_landmark_is_among_the_pairs_of_the_same_audio() {
        let peaks = constellation();
        let keys: Vec<_> = pairs(&peaks).iter().filter_map(|(a, t)| hash_pair(*a, *t)).collect();
        let landmarks = all_landmarks(&peaks);
        assert!(landmarks.iter().all(|landmark| keys.contains(&landmark.key)));
    }
}
