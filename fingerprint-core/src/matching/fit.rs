//! Candidate → fitted mapping: where exactly, how fast and how high the track is played.
//!
//! Position in the flow: candidates → **fitted candidates** → evidence.
//!
//! All pairs of a track's peak and a query peak that a candidate could bring together are collected
//! once. A histogram over their time differences gives the offset; weighted least squares give
//! what is left of it and, for changed recordings, speed and pitch. A candidate of changed pitch
//! may be of changed tempo as well: its histogram has the slope as a second dimension (a Hough
//! transform), which is how both changes at once are found without a pass of their own.

use std::ops::Range;

use super::mapping::{Mapping, narrow};
use super::query_peaks::{FRAME_MS, QueryPeaks, TIME_TOLERANCE_MS, freq_tolerance, level_db};
use super::votes::Candidate;
use crate::hash::Family;
use crate::peaks::Peak;

/// The offset is searched this far around a candidate's, in ms: a step of the timeline and a half.
const OFFSET_REACH_MS: f32 = 192.0;
/// Width of a bin of the histogram over offsets, in ms.
const OFFSET_BIN_MS: f32 = 8.0;
/// Bins of that histogram.
const OFFSET_BINS: usize = 49;
const _: () = assert!((OFFSET_BINS - 1) as f32 * OFFSET_BIN_MS == 2.0 * OFFSET_REACH_MS);
/// Changes of tempo that are tried on a candidate of changed pitch: this many steps to either
/// side …
const SLOPES: i16 = 24;
/// … of this size. Half a step moves a peak 7.5 s from the middle by 15 ms.
const SLOPE_STEP: f32 = 0.004;
/// The same on a candidate of changed tempo, whose votes tell it to about a rung: 2 % to either side.
const TEMPO_SLOPES: i16 = 5;
/// Candidates of the pitch pass on which they are tried.
const SLOPED_MAX: usize = 8;
/// A slope must gather this many times what none gathers: it has 48 more ways to.
const SLOPE_GAIN: f32 = 1.3;
/// Most pairs of a candidate, 330 KB. Music has one or two thousand; only made-up fingerprints have
/// more.
const PAIRS_MAX: usize = 1 << 13;
/// Most query peaks that are looked at for them, for the same reason.
const LOOKS_MAX: usize = 1 << 22;
/// Rounds of fitting: each takes in peaks that the round before has brought within tolerance.
const ROUNDS: usize = 4;
/// How far a fit may move the logarithm of the speed from a candidate's: a rung of tempo.
const SPEED_FIT_MAX: f32 = 0.018;
/// The same for pitch: a rung.
const PITCH_FIT_MAX: f32 = 0.009;
/// Likelihood ratio at which a pair of peaks is as likely matched as not.
const EVEN_RATIO: f32 = 20.0;
/// Largest weight of a pair in the histogram of offsets.
const RARITY_MAX: f32 = 400.0;
/// Holds the fitted speed near the candidate's until there is evidence: the square of a peak's
/// error (10 ms) over the error of a candidate's speed (0.4 %).
const SPEED_RIDGE: f32 = 6.25e6;
/// The same for pitch: 0.2 bins over 0.4 %.
const PITCH_RIDGE: f32 = 2_500.0;

/// A track's peak and a query peak that may be one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    /// Place of the track's peak in [`Fitted::track`].
    pub(super) place: usize,
    /// Time of the track's peak from the middle of the mapping, in ms.
    from_middle_ms: f32,
    /// Where the track's peak should be, in bins.
    pub(super) bin: f32,
    /// Query time minus the time where the track's peak should be, in ms.
    pub(super) d_ms: f32,
    /// The same for the frequency, in bins.
    pub(super) d_bin: f32,
    /// Level in the query minus level in the track, in dB.
    pub(super) d_level_db: f32,
    /// See [`super::query_peaks::QueryPeak::rarity`].
    pub(super) rarity: f32,
    /// See [`super::query_peaks::QueryPeak::level_rarity`].
    pub(super) level_rarity: f32,
}

/// A candidate that was fitted.
#[derive(Debug)]
pub(super) struct Fitted<'a> {
    /// Where the track lies in the query.
    pub(super) mapping: Mapping,
    /// The peaks of the track in its [`window`].
    pub(super) track: &'a [Peak],
    /// Pairs within the tolerance.
    pub(super) pairs: Vec<Pair>,
    /// About how many of the pairs are no accident: which candidates are worth being weighed.
    pub(super) support: f32,
}

/// Fits `candidate`, the `rank`th of its pass, to the peaks of its track in its [`window`]. Speed
/// and pitch of an unchanged candidate are one and stay so: the small error of a fit would grow to
/// seconds over a long query. `None` if no peak of the track falls into the query.
pub(super) fn fit<'a>(
    query: &QueryPeaks,
    track: &'a [Peak],
    candidate: &Candidate,
    rank: usize,
) -> Option<Fitted<'a>> {
    let is_changed = candidate.family != Family::Unchanged;
    let slopes = match candidate.family {
        Family::Pitch if rank < SLOPED_MAX => SLOPES,
        Family::Tempo => TEMPO_SLOPES,
        _ => 0,
    };
    if track.is_empty() {
        return None;
    }
    let mut pairs = collect(query, track, candidate.mapping, is_changed, slopes);
    let mut mapping = candidate.mapping;
    let (offset_ms, slope) = find_offset(&pairs, slopes);
    shift(&mut pairs, offset_ms, slope, 0.0);
    mapping.query_ms += f64::from(offset_ms);
    mapping.ln_speed -= f64::from(slope.ln_1p());

    let (offset_ms, slope, pitch) = least_squares(&pairs, is_changed);
    shift(&mut pairs, offset_ms, slope, pitch);
    mapping.query_ms += f64::from(offset_ms);
    mapping.ln_speed -= f64::from(slope.ln_1p());
    mapping.ln_pitch += f64::from(pitch.ln_1p());

    pairs.retain(|pair| is_near(pair.d_ms, pair.d_bin, pair.bin));
    // Many fitted candidates wait for the best of them to be weighed.
    pairs.shrink_to_fit();
    let support = pairs.iter().map(|pair| weight(pair, pair.d_ms, pair.d_bin)).sum();
    Some(Fitted { mapping, track, pairs, support })
}

/// The milliseconds of the track that fitting may bring into the query.
pub(super) fn window(query: &QueryPeaks, candidate: &Candidate) -> Range<u32> {
    let Some((from, to)) = query.span_ms else { return 0..0 };
    let (from, to) = (f64::from(from), f64::from(to));
    let slopes = match candidate.family {
        Family::Pitch => SLOPES,
        Family::Tempo => TEMPO_SLOPES,
        Family::Unchanged | Family::Speed => 0,
    };
    let stretch = f64::from(SPEED_FIT_MAX + f32::from(slopes) * SLOPE_STEP);
    let margin_ms = f64::from(OFFSET_REACH_MS) + stretch * (to - from);
    let low = candidate.mapping.to_track_ms(from) - margin_ms;
    let high = candidate.mapping.to_track_ms(to) + margin_ms;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` from float saturates: a window may reach beyond both ends of the track"
    )]
    let window = low.ceil() as u32..(high.floor() as u32).saturating_add(1);
    window
}

/// All pairs that the search for the offset, the slope and the fit could bring within tolerance.
fn collect(
    query: &QueryPeaks,
    track: &[Peak],
    mapping: Mapping,
    is_changed: bool,
    slopes: i16,
) -> Vec<Pair> {
    let start_ms = query.span_ms.map_or(0.0, |(from, _)| f64::from(from));
    let middle_ms = narrow(mapping.query_ms - start_ms);
    let projection = mapping.projection();
    let slope_reach = f32::from(slopes) * SLOPE_STEP + if is_changed { SPEED_FIT_MAX } else { 0.0 };
    let bin_reach = if is_changed { PITCH_FIT_MAX } else { 0.0 };
    let mut pairs = Vec::new();
    let mut looks = 0;
    for (place, peak) in track.iter().enumerate() {
        let (from_middle_ms, bin_at) = projection.place(peak);
        let time_ms = middle_ms + from_middle_ms;
        let reach_ms = OFFSET_REACH_MS + TIME_TOLERANCE_MS + slope_reach * from_middle_ms.abs();
        let half = freq_tolerance(bin_at) + bin_reach * bin_at;
        if pairs.len() >= PAIRS_MAX || looks >= LOOKS_MAX {
            break;
        }
        for near in query.near_bin(bin_at, half) {
            looks += 1;
            let d_ms = near.time_ms - time_ms;
            if d_ms.abs() <= reach_ms {
                pairs.push(Pair {
                    place,
                    from_middle_ms,
                    bin: bin_at,
                    d_ms,
                    d_bin: near.bin - bin_at,
                    d_level_db: near.level_db - level_db(peak),
                    rarity: near.rarity,
                    level_rarity: near.level_rarity,
                });
            }
        }
    }
    pairs
}

/// The shift, in ms, and the slope with the most agreeing pairs.
fn find_offset(pairs: &[Pair], slopes: i16) -> (f32, f32) {
    let near: Vec<(f32, f32, f32)> = pairs
        .iter()
        .filter(|pair| pair.d_bin.abs() <= freq_tolerance(pair.bin))
        .map(|pair| (pair.d_ms, pair.from_middle_ms, pair.rarity.min(RARITY_MAX)))
        .collect();
    let none = best_offset(&near, 0.0);
    let best = (-slopes..=slopes)
        .map(|step| {
            (f32::from(step) * SLOPE_STEP, best_offset(&near, f32::from(step) * SLOPE_STEP))
        })
        .max_by(|a, b| a.1.1.total_cmp(&b.1.1));
    match best {
        Some((slope, (offset_ms, gathered))) if gathered > SLOPE_GAIN * none.1 => {
            (offset_ms, slope)
        }
        _ => (none.0, 0.0),
    }
}

/// The fullest place of a histogram over offsets, in ms, and how full it is.
fn best_offset(pairs: &[(f32, f32, f32)], slope: f32) -> (f32, f32) {
    let mut histogram = [0.0_f32; OFFSET_BINS];
    for (d_ms, from_middle_ms, weight) in pairs {
        let place = (d_ms - slope * from_middle_ms + OFFSET_REACH_MS) / OFFSET_BIN_MS + 0.5;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "negative places are left out before"
        )]
        if place >= 0.0
            && let Some(sum) = histogram.get_mut(place as usize)
        {
            *sum += weight;
        }
    }
    let smooth =
        |i: usize| -> f32 { histogram[i.saturating_sub(2)..(i + 3).min(OFFSET_BINS)].iter().sum() };
    (0..OFFSET_BINS)
        .map(|i| (i as f32 * OFFSET_BIN_MS - OFFSET_REACH_MS, smooth(i)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or_default()
}

/// Moves what is expected of the track's peaks.
fn shift(pairs: &mut [Pair], offset_ms: f32, slope: f32, pitch: f32) {
    for pair in pairs {
        pair.d_ms -= offset_ms + slope * pair.from_middle_ms;
        pair.d_bin -= pitch * pair.bin;
        pair.from_middle_ms *= 1.0 + slope;
        pair.bin *= 1.0 + pitch;
    }
}

/// What is left of offset (ms) and, if `is_changed`, of slope and pitch: weighted least squares
/// from the times and frequencies of the pairs within tolerance.
fn least_squares(pairs: &[Pair], is_changed: bool) -> (f32, f32, f32) {
    let (mut offset_ms, mut slope, mut pitch) = (0.0_f32, 0.0_f32, 0.0_f32);
    for _ in 0..ROUNDS {
        let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (mut wbb, mut wbd) = (0.0, 0.0);
        for pair in pairs {
            let x = pair.from_middle_ms;
            let (d_ms, d_bin) = (pair.d_ms - offset_ms - slope * x, pair.d_bin - pitch * pair.bin);
            if is_near(d_ms, d_bin, pair.bin) {
                let weight = weight(pair, d_ms, d_bin);
                w += weight;
                wx += weight * x;
                wy += weight * d_ms;
                wxx += weight * x * x;
                wxy += weight * x * d_ms;
                wbb += weight * pair.bin * pair.bin;
                wbd += weight * pair.bin * d_bin;
            }
        }
        if w <= 0.0 {
            break;
        }
        if !is_changed {
            offset_ms += wy / w;
            continue;
        }
        // Peaks are at mean + slope·(x − mean x) from where they were expected.
        let (mean_x, mean_y) = (wx / w, wy / w);
        let more = (wxy - wx * mean_y) / (wxx - wx * mean_x + SPEED_RIDGE);
        let before = slope;
        slope = (slope + more).clamp(-SPEED_FIT_MAX, SPEED_FIT_MAX);
        offset_ms += mean_y - (slope - before) * mean_x;
        let more = wbd / (wbb + PITCH_RIDGE);
        pitch = (pitch + more).clamp(-PITCH_FIT_MAX, PITCH_FIT_MAX);
    }
    (offset_ms, slope, pitch)
}

fn is_near(d_ms: f32, d_bin: f32, bin: f32) -> bool {
    d_ms.abs() <= TIME_TOLERANCE_MS && d_bin.abs() <= freq_tolerance(bin)
}

/// How likely a pair is no accident, 0 to 1, by a triangular kernel.
fn weight(pair: &Pair, d_ms: f32, d_bin: f32) -> f32 {
    let (half_ms, half_bins) = (TIME_TOLERANCE_MS, freq_tolerance(pair.bin));
    let flank = |x: f32| 0.15 + 1.7 * (1.0 - x.min(1.0));
    let density = flank(d_ms.abs() / half_ms) * flank(d_bin.abs() / half_bins)
        / (4.0 * half_ms / FRAME_MS * half_bins);
    let ratio = density * pair.rarity;
    ratio / (ratio + EVEN_RATIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Span;
    use crate::matching::test_support::{random_peaks, track_of};
    use crate::units::TrackId;

    fn candidate(mapping: Mapping, family: Family) -> Candidate {
        let span = Span { start: 0, len: 1_000 };
        Candidate { track_id: TrackId::new("T").unwrap(), span, mapping, family }
    }

    fn true_mapping(ln_speed: f64, ln_pitch: f64) -> Mapping {
        Mapping { query_ms: 5_000.0, track_ms: 65_000.0, ln_speed, ln_pitch }
    }

    #[test]
    fn the_offset_is_found_within_a_step_of_the_timeline() {
        let query = random_peaks(900, 1);
        let truth = true_mapping(0.0, 0.0);
        let track = track_of(&query, truth);
        let off = Mapping { track_ms: truth.track_ms + 110.0, ..truth };
        let query = QueryPeaks::new(&query);
        let fitted = fit(&query, &track, &candidate(off, Family::Unchanged), 0).unwrap();
        assert!((fitted.mapping.to_track_ms(0.0) - 60_000.0).abs() < 2.0, "{:?}", fitted.mapping);
        assert!(fitted.support > 250.0, "{}", fitted.support);
        assert_eq!(fitted.mapping.ln_speed, 0.0);
    }

    #[test]
    fn speed_and_pitch_are_fitted_from_half_a_rung_away() {
        let query = random_peaks(900, 6);
        let truth = true_mapping(0.034, -0.028);
        let track = track_of(&query, truth);
        let off = Mapping {
            track_ms: truth.track_ms + 50.0,
            ln_speed: truth.ln_speed + 0.008,
            ln_pitch: truth.ln_pitch - 0.004,
            ..truth
        };
        let query = QueryPeaks::new(&query);
        let found = fit(&query, &track, &candidate(off, Family::Speed), 0).unwrap().mapping;
        assert!((found.ln_speed - truth.ln_speed).abs() < 5e-4, "{found:?}");
        assert!((found.ln_pitch - truth.ln_pitch).abs() < 5e-4, "{found:?}");
        assert!((found.to_track_ms(5_000.0) - 65_000.0).abs() < 5.0, "{found:?}");
    }

    #[test]
    fn a_candidate_of_changed_pitch_may_be_of_changed_tempo_too() {
        let query = random_peaks(900, 7);
        for ln_speed in [-0.083, -0.04, 0.04, 0.077] {
            let truth = true_mapping(ln_speed, 0.05);
            let track = track_of(&query, truth);
            let query = QueryPeaks::new(&query);
            let as_pitch = Mapping { ln_speed: 0.0, ..truth };
            let found = fit(&query, &track, &candidate(as_pitch, Family::Pitch), 0).unwrap();
            assert!((found.mapping.ln_speed - ln_speed).abs() < 1e-3, "{:?}", found.mapping);
            assert!(found.support > 250.0, "{}", found.support);
            // Only the first of a pass are tried so.
            let later = fit(&query, &track, &candidate(as_pitch, Family::Pitch), SLOPED_MAX);
            assert!(later.unwrap().support < found.support / 2.0);
        }
    }

    #[test]
    fn nothing_in_common_in_time_is_no_candidate() {
        let far = candidate(Mapping { track_ms: 1e6, ..true_mapping(0.0, 0.0) }, Family::Unchanged);
        for query in [random_peaks(10, 4), Vec::new()] {
            let query = QueryPeaks::new(&query);
            let mut track = random_peaks(10, 5);
            let window = window(&query, &far);
            track.retain(|peak| window.contains(&peak.time_ms));
            assert!(fit(&query, &track, &far, 0).is_none());
        }
    }
}
