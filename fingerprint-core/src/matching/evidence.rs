//! Fitted candidate → evidence: are the track's own peaks in the query, as loud as they should be?
//!
//! Position in the flow: fitted candidates → **alignments** → matches.
//!
//! # The score
//!
//! *Level.* The gain from track to query, a parabola over the logarithm of frequency (an
//! equaliser), is fitted to the pairs. It tells how loud each of the track's peaks should be.
//!
//! *Visibility.* From that follows the rank that the peak would have among the query's own, and
//! from the rank how likely it is to be seen at all ([`VISIBILITY`]). A peak under noise says
//! nothing by its absence; one that nothing covers speaks against the track.
//!
//! *Likelihood.* Pair *j* of a peak has the likelihood ratio k(Δt)·k(Δf)·k(Δlevel) / (λⱼ·cⱼ): a
//! kernel for what remains of true pairs after the fit, over the chance intensity λ of the query
//! peak and the density c of its level. The ratio of the peak, LRᵢ, is their sum.
//!
//! *Slots.* The evidence of one slot of 256 ms is eₛ = Σᵢ ln(1 − σvᵢ + σvᵢ·LRᵢ), with the visibility vᵢ
//! and the share σ of visible peaks that survived. Peaks of one slot are not independent: the same
//! drum or chord brings a dozen of them. Positive evidence is therefore tempered, 5·ln(1 + eₛ/5).
//!
//! *Segments.* S is the largest sum of the slots of one stretch of the query, or of several; an end
//! inside the query costs [`EDGE_COST`]. What lies between stretches is a gap.
//!
//! ```text
//! S = max over the kernel's width, σ and stretches of Σₛ temper(eₛ)
//! ```
//!
//! All of it is ours; `ARCHITECTURE.md` has the ablation.

use super::fit::Fitted;
use super::gain::{Gain, student};
use super::mapping::{Mapping, narrow};
use super::query_peaks::{FRAME_MS, QueryPeaks, freq_tolerance, level_db};

/// Largest likelihood ratio of a peak.
const LIKELIHOOD_RATIO_MAX: f32 = 1_000.0;
/// Shares of visible peaks that survived, as tried.
const SURVIVALS: [f32; 9] = [0.05, 0.1, 0.2, 0.32, 0.45, 0.6, 0.75, 0.88, 0.96];
/// The share with which the width of the kernel is chosen.
const SURVIVAL_MIDDLE: f32 = 0.6;
/// Widths of the kernel: of time in frames, of frequency in bins, of level in dB. Clean audio,
/// codecs and rooms, loud noise.
const WIDTHS: [Width; 3] = [
    Width { frames: 0.12, bins: 0.08, level_db: 0.6 },
    Width { frames: 0.22, bins: 0.18, level_db: 1.3 },
    Width { frames: 0.32, bins: 0.40, level_db: 2.6 },
];
/// Share of true pairs that lie anywhere within the tolerance.
const STRAY_SHARE: f32 = 0.15;
/// Range of levels over which strays are spread, in dB.
const STRAY_LEVEL_DB: f32 = 60.0;
/// Chance that a peak of this expected rank is seen: measured on clips with speech, music and
/// noise over them, relative to rank 0.
const VISIBILITY: [f32; 9] = [1.0, 0.85, 0.62, 0.28, 0.13, 0.07, 0.035, 0.02, 0.01];
/// The same of any higher rank.
const VISIBILITY_MIN: f32 = 0.005;
/// The same where the query has nothing in the register at all.
const VISIBILITY_OF_LOST_BAND: f32 = 0.05;
/// Louder by this than expected: a peak must not cover itself.
const SELF_MARGIN_DB: f32 = 1.0;
/// Length of a slot, in ms: about a beat's worth of one drum or chord.
const SLOT_MS: f32 = 256.0;
/// Evidence of one slot beyond which more of it counts by its logarithm, in nats.
const TEMPER: f32 = 5.0;
/// What it costs, in nats, that a track begins or ends inside the query though neither the track
/// nor the query does.
const EDGE_COST: f32 = 16.0;
/// What a gap inside an alignment costs, in nats: an end and a beginning.
const GAP_COST: f32 = 2.0 * EDGE_COST;
/// Slots of the shortest gap: 1.5 s.
const GAP_SLOTS_MIN: usize = 6;
/// An alignment with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Alignment {
    /// Evidence against chance, in nats.
    pub(super) score: f64,
    /// Where the track lies in the query, by the window with the best score.
    pub(super) mapping: Mapping,
    /// The same by the first and by the latest window: clocks drift over an hour.
    pub(super) first: Mapping,
    pub(super) latest: Mapping,
    /// Stretches of the query, in ms of query time, in which the evidence lies; ascending, never
    /// empty, at least 1.5 s apart.
    pub(super) segments: Vec<Segment>,
}

/// A stretch of the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Segment {
    pub(super) start_ms: f64,
    pub(super) end_ms: f64,
}

#[derive(Debug, Clone, Copy)]
struct Width {
    frames: f32,
    bins: f32,
    level_db: f32,
}

/// A peak of the track where the query should have it.
#[derive(Debug, Clone, Copy)]
struct Expected {
    slot: usize,
    time_ms: f32,
    visibility: f32,
    place: usize,
}

impl Alignment {
    /// Where the evidence begins, in ms of query time.
    pub(super) fn start_ms(&self) -> f64 {
        self.segments.first().map_or(0.0, |segment| segment.start_ms)
    }

    /// Where it ends.
    pub(super) fn end_ms(&self) -> f64 {
        self.segments.last().map_or(0.0, |segment| segment.end_ms)
    }

    /// Length of the segments together, in ms.
    pub(super) fn covered_ms(&self) -> f64 {
        self.segments.iter().map(|segment| segment.end_ms - segment.start_ms).sum()
    }
}

/// Weighs a fitted candidate. `None` if nothing speaks for it.
pub(super) fn weigh(query: &QueryPeaks, fitted: &Fitted<'_>) -> Option<Alignment> {
    let (from, to) = query.span_ms?;
    let length_ms = (to - from) as f32;
    let start_ms = f64::from(from);
    let gain = Gain::fit(&fitted.pairs);
    let projection = fitted.mapping.projection();
    let middle_ms = narrow(fitted.mapping.query_ms - start_ms);
    let expected: Vec<Expected> = fitted
        .track
        .iter()
        .enumerate()
        .filter_map(|(place, peak)| {
            let (from_middle_ms, bin) = projection.place(peak);
            let time_ms = middle_ms + from_middle_ms;
            (0.0..=length_ms).contains(&time_ms).then(|| {
                let level_db = level_db(peak) + gain.at(bin) + SELF_MARGIN_DB;
                let rank = query.expected_rank(time_ms, bin, level_db);
                let visibility = rank.map_or(VISIBILITY_OF_LOST_BAND, |rank| {
                    VISIBILITY.get(rank).copied().unwrap_or(VISIBILITY_MIN)
                });
                Expected { slot: slot_of(time_ms), time_ms, visibility, place }
            })
        })
        .collect();
    let slot_count = slot_of(length_ms) + 1;
    let raw = |ratios: &[f32], survival: f32| -> f32 {
        expected.iter().map(|e| evidence(survival * e.visibility, ratios[e.place])).sum()
    };
    let ratios = WIDTHS
        .iter()
        .map(|width| ratios(fitted, *width, gain))
        .max_by(|a, b| raw(a, SURVIVAL_MIDDLE).total_cmp(&raw(b, SURVIVAL_MIDDLE)))?;

    let slots = |survival: f32| {
        let mut slots = vec![0.0_f32; slot_count];
        for e in &expected {
            slots[e.slot] += evidence(survival * e.visibility, ratios[e.place]);
        }
        slots.iter_mut().filter(|e| **e > 0.0).for_each(|e| *e = TEMPER * (*e / TEMPER).ln_1p());
        slots
    };
    let (survival, (score, stretches)) = SURVIVALS
        .iter()
        .map(|survival| (*survival, best_stretches(&slots(*survival))))
        .max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;

    // Slots are coarse: a segment begins and ends at peaks that speak for it.
    let speaks = |e: &&Expected| evidence(survival * e.visibility, ratios[e.place]) > 0.0;
    let segments: Vec<Segment> = stretches
        .iter()
        .filter_map(|stretch| {
            let mut inside = expected.iter().filter(|e| stretch.contains(&e.slot)).filter(speaks);
            let first = inside.next()?;
            let last = inside.next_back().unwrap_or(first);
            let ms = |time_ms: f32| start_ms + f64::from(time_ms);
            Some(Segment { start_ms: ms(first.time_ms), end_ms: ms(last.time_ms) })
        })
        .collect();
    let mapping = fitted.mapping;
    (!segments.is_empty()).then_some(Alignment {
        score: f64::from(score),
        mapping,
        first: mapping,
        latest: mapping,
        segments,
    })
}

/// Evidence of one peak in nats: `seen` is how likely it should be seen.
fn evidence(seen: f32, ratio: f32) -> f32 {
    (1.0 - seen + seen * ratio).ln()
}

fn slot_of(time_ms: f32) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are those of a window, from 0"
    )]
    let slot = (time_ms / SLOT_MS) as usize;
    slot
}

/// Likelihood ratio of each peak of the track.
fn ratios(fitted: &Fitted<'_>, width: Width, gain: Gain) -> Vec<f32> {
    let mut ratios = vec![0.0_f32; fitted.track.len()];
    for pair in &fitted.pairs {
        let half_frames = super::query_peaks::TIME_TOLERANCE_MS / FRAME_MS;
        let time = mixed(pair.d_ms / FRAME_MS, width.frames, 2.0 * half_frames);
        let freq = mixed(pair.d_bin, width.bins, 2.0 * freq_tolerance(pair.bin));
        let level = mixed(pair.d_level_db - gain.at(pair.bin), width.level_db, STRAY_LEVEL_DB);
        ratios[pair.place] += time * freq * level * pair.rarity * pair.level_rarity;
    }
    for ratio in &mut ratios {
        // `min` alone would make the best ratio of one that is not a number.
        *ratio = if ratio.is_nan() { 0.0 } else { ratio.min(LIKELIHOOD_RATIO_MAX) };
    }
    ratios
}

/// Density of an error of true pairs: a core of this width, and strays over `range`.
fn mixed(error: f32, width: f32, range: f32) -> f32 {
    (1.0 - STRAY_SHARE) * student(error, width) + STRAY_SHARE / range
}

/// The stretches of slots with the largest sum, each after the first at the price of a gap.
fn best_stretches(slots: &[f32]) -> (f32, Vec<std::ops::Range<usize>>) {
    /// How the best way to a slot came there.
    #[derive(Clone, Copy, PartialEq)]
    enum From {
        Start,
        Slot,
        Gap(usize),
    }
    let mut ways: Vec<(f32, From)> = Vec::with_capacity(slots.len());
    // The best way that ends early enough for a gap before the slot at hand.
    let mut before_gap: Option<usize> = None;
    for (i, slot) in slots.iter().enumerate() {
        if let Some(end) = i.checked_sub(GAP_SLOTS_MIN + 1)
            && before_gap.is_none_or(|best| ways[end].0 > ways[best].0)
        {
            before_gap = Some(end);
        }
        let mut best = (if i == 0 { 0.0 } else { -EDGE_COST }, From::Start);
        if let Some((sum, _)) = ways.last().filter(|(sum, _)| *sum > best.0) {
            best = (*sum, From::Slot);
        }
        if let Some(end) = before_gap.filter(|end| ways[*end].0 - GAP_COST > best.0) {
            best = (ways[end].0 - GAP_COST, From::Gap(end));
        }
        ways.push((slot + best.0, best.1));
    }
    let Some(last) = ways.len().checked_sub(1) else { return (0.0, Vec::new()) };
    let total = |end: usize| ways[end].0 - if end == last { 0.0 } else { EDGE_COST };
    let mut end = (0..=last).max_by(|a, b| total(*a).total_cmp(&total(*b))).unwrap_or(last);
    let score = total(end);
    let mut stretches = Vec::new();
    let mut start = end;
    loop {
        match ways[start].1 {
            From::Slot => start -= 1,
            From::Start => {
                stretches.push(start..end + 1);
                break;
            }
            From::Gap(before) => {
                stretches.push(start..end + 1);
                (start, end) = (before, before);
            }
        }
    }
    stretches.reverse();
    (score, stretches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Family;
    use crate::index::Span;
    use crate::matching::fit;
    use crate::matching::test_support::{random_peaks, track_of};
    use crate::matching::votes::Candidate;
    use crate::peaks::Peak;
    use crate::units::TrackId;

    const IDENTITY: Mapping =
        Mapping { query_ms: 5_000.0, track_ms: 5_000.0, ln_speed: 0.0, ln_pitch: 0.0 };

    fn align(query: &[Peak], track: &[Peak]) -> Option<Alignment> {
        let candidate = Candidate {
            track_id: TrackId::new("T").unwrap(),
            span: Span { start: 0, len: 100 },
            mapping: IDENTITY,
            family: Family::Unchanged,
        };
        let query = QueryPeaks::new(query);
        weigh(&query, &fit::fit(&query, track, &candidate, 0)?)
    }

    #[test]
    fn the_track_itself_scores_far_above_chance() {
        let query = random_peaks(900, 1);
        let found = align(&query, &track_of(&query, IDENTITY)).unwrap();
        assert!(found.score > 300.0, "{found:?}");
        assert!(found.start_ms() < 300.0 && found.end_ms() > 9_700.0, "{found:?}");
        assert_eq!(found.segments.len(), 1);
        for seed in 2..20 {
            let chance = align(&query, &random_peaks(300, seed)).map_or(0.0, |found| found.score);
            assert!(chance < 10.0, "seed {seed}: {chance}");
        }
    }

    #[test]
    fn an_equaliser_costs_nothing_and_shuffled_levels_do() {
        let query = random_peaks(900, 2);
        let track = track_of(&query, IDENTITY);
        let plain = align(&query, &track).unwrap().score;
        let tilted: Vec<_> =
            track.iter().map(|p| Peak { level: p.level + (p.freq / 700) as u8, ..*p }).collect();
        let tilted = align(&query, &tilted).unwrap().score;
        assert!(tilted > 0.9 * plain, "{tilted} of {plain}");
        let mut shuffled = track.clone();
        let mut rng = fastrand::Rng::with_seed(1);
        for peak in &mut shuffled {
            peak.level = track[rng.usize(0..track.len())].level;
        }
        let shuffled = align(&query, &shuffled).map_or(0.0, |found| found.score);
        // Much of it is lost to tempering: a slot has a dozen peaks.
        assert!(shuffled < plain - 15.0, "{shuffled} of {plain}");
    }

    #[test]
    fn a_peak_that_nothing_covers_speaks_against_the_track_by_its_absence() {
        let query = random_peaks(900, 3);
        let track = track_of(&query, IDENTITY);
        let full = align(&query, &track).unwrap().score;
        let extra = |level: u8| {
            let mut more = track.clone();
            let other = random_peaks(300, 77);
            more.extend(other.iter().map(|p| Peak { level, ..*p }));
            more.sort_unstable();
            align(&query, &more).map_or(0.0, |found| found.score)
        };
        let (covered, visible) = (extra(70), extra(210));
        assert!(covered > 0.9 * full, "{covered} of {full}");
        assert!(visible < covered - 20.0, "{visible} of {covered}");
    }

    #[test]
    fn evidence_in_half_of_the_query_ends_where_the_track_ends() {
        let query = random_peaks(900, 3);
        let mut track = track_of(&query, IDENTITY);
        track.retain(|p| p.time_ms < 5_000);
        let found = align(&query, &track).unwrap();
        assert!((4_800.0..5_050.0).contains(&found.end_ms()), "{found:?}");
    }

    #[test]
    fn what_was_cut_out_of_the_middle_is_a_gap() {
        let whole = random_peaks(900, 5);
        let track = track_of(&whole, IDENTITY);
        let query: Vec<_> =
            whole.iter().filter(|p| !(3_500..6_500).contains(&p.time_ms)).copied().collect();
        let found = align(&query, &track).unwrap();
        let [a, b] = found.segments[..] else { panic!("{found:?}") };
        assert!((3_300.0..=3_500.0).contains(&a.end_ms), "{found:?}");
        assert!((6_500.0..6_700.0).contains(&b.start_ms), "{found:?}");
    }

    #[test]
    fn stretches_pay_for_ends_inside_and_for_gaps() {
        let stretches = |slots: &[f32]| {
            let (sum, stretches) = best_stretches(slots);
            (sum, stretches.iter().map(|s| (s.start, s.end)).collect::<Vec<_>>())
        };
        assert_eq!(stretches(&[]), (0.0, vec![]));
        assert_eq!(stretches(&[5.0; 4]), (20.0, vec![(0, 4)]));
        let mut slots = [30.0_f32; 20];
        slots[8..15].fill(-20.0);
        let expected = 13.0 * 30.0 - GAP_COST;
        assert_eq!(stretches(&slots), (expected, vec![(0, 8), (15, 20)]));
        // A gap is never shorter than its least length.
        slots[8..15].fill(30.0);
        slots[10..12].fill(-20.0);
        assert_eq!(stretches(&slots), (18.0 * 30.0 - 40.0, vec![(0, 20)]));
        slots[..18].fill(-20.0);
        assert_eq!(stretches(&slots), (2.0 * 30.0 - EDGE_COST, vec![(18, 20)]));
    }
}
