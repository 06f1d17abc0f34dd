//! Candidate → evidence: are the track's own peaks in the query, where the offset says?
//!
//! Position in the flow: candidates → **verified alignments** → matches.
//!
//! # The score
//!
//! Reference peak *i*, mapped into the query, is compared with every query peak *j* near it. By
//! chance such a peak lies there with intensity λⱼ = h(fⱼ)·u(tⱼ)/T: h is the density of query
//! peaks around its frequency, u the crowding around its time. The likelihood ratio of the
//! reference peak is LRᵢ = min(400, Σⱼ g(Δt, Δf)/λⱼ) with a triangular kernel g, and
//!
//! ```text
//! S = max over σ of Σᵢ ln(1 − σ + σ·LRᵢ)
//! ```
//!
//! where σ is the share of the track's peaks that survived. S is in nats. The crowding u is
//! essential: aligned drum onsets would otherwise look like matches.

use super::mapping::{Mapping, bin};
use crate::peaks::Peak;

/// Half width of the kernel in time: 0.8 frame, in ms.
const TIME_TOLERANCE_MS: f64 = 25.6;
const FRAME_MS: f64 = 32.0;
/// The offset is searched this far around a candidate's, in ms: a step of the timeline and a half.
const OFFSET_SEARCH_MS: i64 = 192;
const LIKELIHOOD_RATIO_MAX: f64 = 400.0;
/// Shares of surviving peaks that are tried.
const SIGMAS: [f64; 8] = [0.03, 0.06, 0.12, 0.24, 0.4, 0.6, 0.75, 0.88];
/// Rounds of fitting: each takes in peaks that the round before has brought within tolerance.
const FIT_ROUNDS: usize = 4;
/// How far the fit may move the logarithm of the speed from a candidate's: a rung of tempo.
const SPEED_FIT_MAX: f64 = 0.018;
/// The same for pitch: a rung.
const PITCH_FIT_MAX: f64 = 0.009;
/// Likelihood ratio at which a pair of peaks is as likely matched as not.
const LIKELIHOOD_RATIO_EVEN: f64 = 20.0;
/// Holds the fitted speed near the candidate's until there is evidence: the square of a peak's
/// error (10 ms) over the error of a candidate's speed (0.4 %).
const SPEED_RIDGE: f64 = 6.25e6;
/// The same for pitch: 0.2 bins over 0.4 %.
const PITCH_RIDGE: f64 = 2_500.0;

/// An alignment with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Alignment {
    /// Log-likelihood ratio against chance, in nats.
    pub(super) score: f64,
    /// Where the track lies in the query.
    pub(super) mapping: Mapping,
    /// Query times, in ms, between which the evidence lies.
    pub(super) query_start_ms: f64,
    pub(super) query_end_ms: f64,
}

/// The peaks of one query, with the chance intensity of each.
pub(super) struct QueryPeaks<'a> {
    peaks: &'a [Peak],
    /// λ of each peak, per frame and bin.
    intensity: Vec<f64>,
}

/// Half height of the kernel in bins: peaks at high frequencies move more.
fn freq_tolerance(bin: f64) -> f64 {
    1.5 + 0.002 * bin
}

impl<'a> QueryPeaks<'a> {
    /// `peaks` must be ascending in time.
    pub(super) fn new(peaks: &'a [Peak]) -> Self {
        let (Some(first), Some(last)) = (peaks.first(), peaks.last()) else {
            return Self { peaks, intensity: Vec::new() };
        };
        let frames = (f64::from(last.time_ms - first.time_ms) / FRAME_MS).max(1.0);
        let mut bins: Vec<f64> = peaks.iter().map(bin).collect();
        bins.sort_unstable_by(f64::total_cmp);
        let within = |centre: f64, half: f64| {
            let low = bins.partition_point(|b| *b < centre - half);
            let high = bins.partition_point(|b| *b <= centre + half);
            (high - low) as f64 / (2.0 * half)
        };
        let near_in_time = |peak: &Peak| {
            let low = peaks.partition_point(|p| {
                f64::from(p.time_ms) < f64::from(peak.time_ms) - TIME_TOLERANCE_MS
            });
            let high = peaks.partition_point(|p| {
                f64::from(p.time_ms) <= f64::from(peak.time_ms) + TIME_TOLERANCE_MS
            });
            (high - low) as f64
        };
        let crowds: Vec<f64> = peaks.iter().map(near_in_time).collect();
        let mean = peaks.len() as f64 * 2.0 * TIME_TOLERANCE_MS / (frames * FRAME_MS);
        let intensity = peaks
            .iter()
            .zip(crowds)
            .map(|(peak, crowd)| {
                let density = 0.85 * within(bin(peak), freq_tolerance(bin(peak)))
                    + 0.15 * within(bin(peak), 40.0);
                density * (crowd + 0.3) / (mean + 0.3) / frames
            })
            .collect();
        Self { peaks, intensity }
    }

    /// Query peaks within the tolerance of a mapped reference peak: (Δt in frames, Δf in bins, λ).
    fn near(&self, time_ms: f64, bin_at: f64) -> impl Iterator<Item = (f64, f64, f64)> {
        let half = freq_tolerance(bin_at);
        let start =
            self.peaks.partition_point(|p| f64::from(p.time_ms) < time_ms - TIME_TOLERANCE_MS);
        self.peaks[start..]
            .iter()
            .zip(&self.intensity[start..])
            .take_while(move |(p, _)| f64::from(p.time_ms) <= time_ms + TIME_TOLERANCE_MS)
            .map(move |(p, λ)| ((f64::from(p.time_ms) - time_ms) / FRAME_MS, bin(p) - bin_at, *λ))
            .filter(move |(_, d_bin, _)| d_bin.abs() <= half)
    }
}

/// Aligns a track's peaks (ascending in time) with the query around a candidate's mapping and
/// scores the best alignment. Speed and pitch are fitted only if the candidate `is_changed`: the
/// small error of a fit would grow to seconds over a long query. `None` if no peak of the track
/// falls into the query.
pub(super) fn align(
    query: &QueryPeaks<'_>,
    track: &[Peak],
    candidate: Mapping,
    is_changed: bool,
) -> Option<Alignment> {
    let (from, to) =
        (f64::from(query.peaks.first()?.time_ms), f64::from(query.peaks.last()?.time_ms));
    // What the search for the offset and the fit of the speed can bring into the query.
    let margin_ms = OFFSET_SEARCH_MS as f64 + SPEED_FIT_MAX * (to - from);
    let low = candidate.to_track_ms(from) - margin_ms;
    let high = candidate.to_track_ms(to) + margin_ms;
    let start = track.partition_point(|p| f64::from(p.time_ms) < low);
    let end = track.partition_point(|p| f64::from(p.time_ms) <= high);
    let track = track.get(start..end).filter(|track| !track.is_empty())?;

    let mut mapping = find_offset(query, track, candidate);
    for _ in 0..FIT_ROUNDS {
        fit(query, track, &mut mapping, is_changed.then_some(&candidate));
    }
    let ratios: Vec<(f64, f64)> = track
        .iter()
        .map(|peak| mapping.to_query(peak))
        .filter(|(time_ms, _)| (from..=to).contains(time_ms))
        .map(|(time_ms, bin_at)| (time_ms, likelihood_ratio(query, time_ms, bin_at)))
        .collect();
    let (score, sigma) = SIGMAS
        .iter()
        .map(|σ| (ratios.iter().map(|(_, lr)| (1.0 - σ + σ * lr).ln()).sum::<f64>(), *σ))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    let (query_start_ms, query_end_ms) = extent(&ratios, sigma)?;
    Some(Alignment { score, mapping, query_start_ms, query_end_ms })
}

/// Finds the shift with the most agreeing peaks, in bins of 8 ms.
fn find_offset(query: &QueryPeaks<'_>, track: &[Peak], mapping: Mapping) -> Mapping {
    const STEP_MS: f64 = 8.0;
    const BINS: usize = 49;
    const _: () = assert!(OFFSET_SEARCH_MS == 192 && (BINS - 1) * 8 == 2 * 192);
    let reach = OFFSET_SEARCH_MS as f64;
    let mut histogram = [0.0_f64; BINS];
    for peak in track {
        let (time_ms, bin_at) = mapping.to_query(peak);
        let start = query.peaks.partition_point(|p| f64::from(p.time_ms) < time_ms - reach);
        for (p, λ) in query.peaks[start..].iter().zip(&query.intensity[start..]) {
            let shift = f64::from(p.time_ms) - time_ms;
            if shift > reach {
                break;
            }
            let d_bin = bin(p) - bin_at;
            if d_bin.abs() <= freq_tolerance(bin_at) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the shift lies within the reach, so the place lies within the bins"
                )]
                let place = ((shift + reach) / STEP_MS).round() as usize;
                histogram[place.min(BINS - 1)] += (1.0 / λ).min(LIKELIHOOD_RATIO_MAX);
            }
        }
    }
    let smooth =
        |i: usize| -> f64 { histogram[i.saturating_sub(2)..(i + 3).min(BINS)].iter().sum() };
    let best = (0..BINS).max_by(|a, b| smooth(*a).total_cmp(&smooth(*b))).unwrap_or(BINS / 2);
    Mapping { query_ms: mapping.query_ms + best as f64 * STEP_MS - reach, ..mapping }
}

/// Moves the mapping to where the matched peaks say: weighted least squares for offset and speed
/// from their times, for pitch from their frequencies. Without a candidate from which speed and
/// pitch may be moved, for the offset only.
fn fit(query: &QueryPeaks<'_>, track: &[Peak], mapping: &mut Mapping, candidate: Option<&Mapping>) {
    let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let (mut wbb, mut wbd) = (0.0, 0.0);
    for peak in track {
        let (time_ms, bin_at) = mapping.to_query(peak);
        let half = freq_tolerance(bin_at);
        let x = time_ms - mapping.query_ms;
        for (d_frame, d_bin, λ) in query.near(time_ms, bin_at) {
            let ratio = kernel(d_frame, d_bin, half) / λ;
            let weight = ratio / (ratio + LIKELIHOOD_RATIO_EVEN);
            let y = d_frame * FRAME_MS;
            w += weight;
            wx += weight * x;
            wy += weight * y;
            wxx += weight * x * x;
            wxy += weight * x * y;
            wbb += weight * bin_at * bin_at;
            wbd += weight * bin_at * d_bin;
        }
    }
    if w <= 0.0 {
        return;
    }
    let Some(candidate) = candidate else {
        mapping.query_ms += wy / w;
        return;
    };
    // Peaks are at x + mean + slope·(x − mean x) where they were expected at x.
    let (mean_x, mean_y) = (wx / w, wy / w);
    let slope = (wxy - wx * mean_y) / (wxx - wx * mean_x + SPEED_RIDGE);
    let near = |value: f64, centre: f64, max: f64| value.clamp(centre - max, centre + max);
    let ln_speed = near(mapping.ln_speed - slope.ln_1p(), candidate.ln_speed, SPEED_FIT_MAX);
    let slope = (mapping.ln_speed - ln_speed).exp_m1();
    mapping.ln_speed = ln_speed;
    mapping.query_ms += mean_y - slope * mean_x;
    let pitch = wbd / (wbb + PITCH_RIDGE);
    mapping.ln_pitch = near(mapping.ln_pitch + pitch.ln_1p(), candidate.ln_pitch, PITCH_FIT_MAX);
}

fn kernel(d_frame: f64, d_bin: f64, half_bins: f64) -> f64 {
    let half_frames = TIME_TOLERANCE_MS / FRAME_MS;
    let flank = |x: f64| 0.15 + 1.7 * (1.0 - x.min(1.0));
    flank(d_frame.abs() / half_frames) * flank(d_bin.abs() / half_bins)
        / (4.0 * half_frames * half_bins)
}

fn likelihood_ratio(query: &QueryPeaks<'_>, time_ms: f64, bin_at: f64) -> f64 {
    let half = freq_tolerance(bin_at);
    let sum: f64 = query.near(time_ms, bin_at).map(|(dt, df, λ)| kernel(dt, df, half) / λ).sum();
    sum.min(LIKELIHOOD_RATIO_MAX)
}

/// The stretch of query time with the largest sum of evidence (Kadane's algorithm), so that the
/// ends come from where evidence lies and not from the first and last chance hit.
fn extent(ratios: &[(f64, f64)], sigma: f64) -> Option<(f64, f64)> {
    let (mut best, mut sum, mut start) = (f64::NEG_INFINITY, 0.0, 0);
    let mut range = None;
    for (i, (time_ms, ratio)) in ratios.iter().enumerate() {
        if sum <= 0.0 {
            (sum, start) = (0.0, i);
        }
        sum += (1.0 - sigma + sigma * ratio).ln();
        if sum > best {
            best = sum;
            range = Some((ratios[start].0, *time_ms));
        }
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_peaks(count: u32, seed: u64) -> Vec<Peak> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut peaks: Vec<_> = (0..count)
            .map(|_| Peak {
                time_ms: rng.u32(0..10_000),
                freq: rng.u16(620..22_000),
                level: 100,
                rank: 0,
            })
            .collect();
        peaks.sort_unstable();
        peaks
    }

    /// Unchanged, with the track's time at query time 0.
    fn offset(track_ms: f64) -> Mapping {
        Mapping { query_ms: 0.0, track_ms, ln_speed: 0.0, ln_pitch: 0.0 }
    }

    #[test]
    fn the_true_offset_is_found_and_scores_far_above_chance() {
        let query = random_peaks(900, 1);
        let track: Vec<_> =
            query.iter().step_by(3).map(|p| Peak { time_ms: p.time_ms + 60_050, ..*p }).collect();
        let found = align(&QueryPeaks::new(&query), &track, offset(60_000.0), false).unwrap();
        assert!((found.mapping.to_track_ms(0.0) - 60_050.0).abs() < 2.0, "{found:?}");
        assert!(found.score > 300.0, "{found:?}");
        assert!(found.query_start_ms < 500.0 && found.query_end_ms > 9_500.0, "{found:?}");
        let chance =
            align(&QueryPeaks::new(&query), &random_peaks(300, 2), offset(0.0), false).unwrap();
        assert!(chance.score < 20.0, "{chance:?}");
    }

    #[test]
    fn speed_and_pitch_are_fitted_from_half_a_rung_away() {
        let query = random_peaks(900, 6);
        let (speed, pitch) = (1.035_f64, 0.972_f64);
        let mut track: Vec<_> = query
            .iter()
            .step_by(3)
            .map(|p| Peak {
                time_ms: (5_000.0 + f64::from(p.time_ms) * speed).round() as u32,
                freq: (f64::from(p.freq) / pitch).round() as u16,
                ..*p
            })
            .collect();
        track.sort_unstable();
        let candidate = Mapping {
            query_ms: 5_000.0,
            track_ms: 5_000.0 + 5_000.0 * speed + 50.0,
            ln_speed: speed.ln() + 0.008,
            ln_pitch: pitch.ln() - 0.004,
        };
        let found = align(&QueryPeaks::new(&query), &track, candidate, true).unwrap();
        assert!((found.mapping.ln_speed - speed.ln()).abs() < 5e-4, "{found:?}");
        assert!((found.mapping.ln_pitch - pitch.ln()).abs() < 5e-4, "{found:?}");
        assert!((found.mapping.to_track_ms(0.0) - 5_000.0).abs() < 5.0, "{found:?}");
        assert!(found.score > 300.0, "{found:?}");
    }

    #[test]
    fn evidence_in_half_of_the_query_ends_where_the_track_ends() {
        let query = random_peaks(900, 3);
        let track: Vec<_> = query
            .iter()
            .step_by(3)
            .map(|p| if p.time_ms < 5_000 { *p } else { Peak { freq: 20_000 - p.freq / 2, ..*p } })
            .collect();
        let found = align(&QueryPeaks::new(&query), &track, offset(0.0), false).unwrap();
        assert!((4_500.0..5_500.0).contains(&found.query_end_ms), "{found:?}");
    }

    #[test]
    fn nothing_in_common_in_time_is_no_alignment() {
        let query = random_peaks(10, 4);
        let far = offset(100_000.0);
        assert_eq!(align(&QueryPeaks::new(&query), &random_peaks(10, 5), far, false), None);
        assert_eq!(align(&QueryPeaks::new(&[]), &random_peaks(10, 5), offset(0.0), false), None);
    }
}
