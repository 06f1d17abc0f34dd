//! Resampling by any factor: to another rate, or to another speed.
//!
//! Written for its exactness, not its speed, and apart from the resampler of fingerprint-core, so
//! that a fault there cannot hide here. A windowed sinc (J. O. Smith, "Digital Audio Resampling",
//! 1984) is tabulated at 256 places between two samples and interpolated linearly between these,
//! which leaves an error of about −90 dB.

use super::count;

/// Zero crossings of the sinc to either side.
const CROSSINGS: f64 = 24.0;
/// Places between two samples at which the filter is tabulated.
const PHASES: usize = 256;
/// End of the pass band relative to half of the lower rate: the filter's slope ends about there.
const PASS: f64 = 0.95;

/// Reads `samples` at steps of `step` samples: above 1 gives fewer of them. Played at the same
/// rate, the sound is `step` times as fast and high; at a rate lower by `step`, it is the same.
/// Frequencies that the lower of the two rates cannot hold are removed.
///
/// # Panics
///
/// If `step` is not above zero.
#[must_use]
pub fn resample(samples: &[f32], step: f64) -> Vec<f32> {
    assert!(step.is_finite() && step > 0.0, "a step of {step} samples leads nowhere");
    let cutoff = PASS / step.max(1.0);
    let half = count((CROSSINGS / cutoff).ceil());
    let table = tabulate(cutoff, half);
    let len = count((samples.len() as f64 / step).floor());
    (0..len).map(|n| interpolate(samples, n as f64 * step, half, &table)).collect()
}

/// The filter for each of `PHASES + 1` places, `2 × half` taps each: tap `i` of phase `p` weighs
/// the sample `i + 1 − half − p / PHASES` from the place that is asked for.
fn tabulate(cutoff: f64, half: usize) -> Vec<Vec<f32>> {
    let weight = |distance: f64| {
        let x = std::f64::consts::PI * distance;
        let sinc = if x.abs() < 1e-9 { cutoff } else { (x * cutoff).sin() / x };
        // Blackman's window, over the length of the filter.
        let t = x / half as f64;
        #[expect(clippy::cast_possible_truncation, reason = "samples are single precision")]
        let weight = (sinc * (0.42 + 0.5 * t.cos() + 0.08 * (2.0 * t).cos())) as f32;
        weight
    };
    let filter = |phase: usize| {
        let place = phase as f64 / PHASES as f64;
        (0..2 * half).map(|tap| weight((tap + 1) as f64 - half as f64 - place)).collect()
    };
    (0..=PHASES).map(filter).collect()
}

/// The signal at `place`, counted in samples. Before and behind it there is silence.
fn interpolate(samples: &[f32], place: f64, half: usize, table: &[Vec<f32>]) -> f32 {
    let whole = count(place.floor());
    let phase = (place - whole as f64) * PHASES as f64;
    let low = count(phase.floor()).min(PHASES - 1);
    // The first tap lies at sample `whole + 1 − half`, which may be before the start.
    let skipped = half.saturating_sub(whole + 1);
    let first = (whole + 1 + skipped).saturating_sub(half);
    let heard = samples.get(first..).unwrap_or_default();
    let sum = |filter: &[f32]| -> f32 {
        filter[skipped..].iter().zip(heard).map(|(weight, sample)| weight * sample).sum()
    };
    #[expect(clippy::cast_possible_truncation, reason = "a share of one step of the table")]
    let share = (phase - low as f64) as f32;
    sum(&table[low]) * (1.0 - share) + sum(&table[low + 1]) * share
}

#[cfg(test)]
mod tests {
    use super::super::tests::{change_db, hz_of, sine};
    use super::*;

    #[test]
    fn a_sine_becomes_the_sine_that_it_should() {
        let original = sine(440.0, 44_100);
        for step in [0.5, 0.92, 0.999, 1.0, 1.01, 1.5, 44_100.0 / 8_000.0] {
            let fast = resample(&original, step);
            assert_eq!(fast.len(), (44_100.0 / step) as usize, "step {step}");
            let expected = sine(440.0 * step, fast.len());
            // The ends ring over the length of the filter, where the sine sets in at once.
            let margin = 400.min(fast.len() / 4);
            for n in margin..fast.len() - margin {
                // 80 dB below the sine.
                assert!((fast[n] - expected[n]).abs() < 0.000_01, "step {step}, sample {n}");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_removed() {
        let high = sine(15_000.0, 44_100);
        assert!(change_db(&resample(&high, 2.0), &high) < -60.0);
        assert!(change_db(&resample(&high, 1.2), &high).abs() < 0.2);
        assert!((hz_of(&resample(&high, 1.2)) - 18_000.0).abs() < 20.0);
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(resample(&[], 1.1).is_empty());
        assert_eq!(resample(&[0.5], 1.0).len(), 1);
    }
}
