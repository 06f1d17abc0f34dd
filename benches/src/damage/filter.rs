//! Second-order filters: the band of a telephone, bass and treble.
//!
//! # Source
//!
//! R. Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients", W3C
//! note, 2021.

use std::f64::consts::{PI, SQRT_2};
use std::ops::Range;

/// Filters that a band edge passes in a row: 24 dB an octave together.
const BAND_PASSES: usize = 2;

/// The shape of a second-order filter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Slope {
    /// Keeps what lies above; 12 dB an octave (Butterworth).
    HighPass,
    /// Keeps what lies below; 12 dB an octave (Butterworth).
    LowPass,
    /// Raises what lies below by so many dB.
    LowShelf(f64),
    /// Raises what lies above by so many dB.
    HighShelf(f64),
}

/// Filters `samples` once, with the corner at `hz`. A corner at or above half the rate leaves them
/// as they are.
pub fn filter(samples: &mut [f32], rate_hz: u32, slope: Slope, hz: f64) {
    let rate_hz = f64::from(rate_hz);
    if hz >= rate_hz / 2.0 {
        return;
    }
    let ([b0, b1, b2], [a0, a1, a2]) = coefficients(slope, 2.0 * PI * hz / rate_hz);
    // Transposed direct form II, in double precision: low corners at high rates need it.
    let (mut s1, mut s2) = (0.0, 0.0);
    for sample in samples {
        let x = f64::from(*sample);
        let y = (b0 * x + s1) / a0;
        s1 = b1 * x - a1 * y + s2;
        s2 = b2 * x - a2 * y;
        #[expect(clippy::cast_possible_truncation, reason = "samples are single precision")]
        let filtered = y as f32;
        *sample = filtered;
    }
}

/// Keeps the band `hz` of `samples`, with edges of 24 dB an octave.
pub fn band_pass(samples: &mut [f32], rate_hz: u32, hz: Range<f64>) {
    for _ in 0..BAND_PASSES {
        filter(samples, rate_hz, Slope::HighPass, hz.start);
        filter(samples, rate_hz, Slope::LowPass, hz.end);
    }
}

/// Bass (below 100 Hz) up by 10 dB, treble (above 3 kHz) down by 8 dB.
pub fn equalise_bass_heavy(samples: &mut [f32], rate_hz: u32) {
    filter(samples, rate_hz, Slope::LowShelf(10.0), 100.0);
    filter(samples, rate_hz, Slope::HighShelf(-8.0), 3_000.0);
}

/// Numerator and denominator for the corner at `omega` radians a sample; Q = 1/√2.
fn coefficients(slope: Slope, omega: f64) -> ([f64; 3], [f64; 3]) {
    let (sin, cos) = omega.sin_cos();
    let alpha = sin / SQRT_2;
    let poles = [1.0 + alpha, -2.0 * cos, 1.0 - alpha];
    match slope {
        Slope::HighPass => {
            let b = (1.0 + cos) / 2.0;
            ([b, -2.0 * b, b], poles)
        }
        Slope::LowPass => {
            let b = (1.0 - cos) / 2.0;
            ([b, 2.0 * b, b], poles)
        }
        Slope::LowShelf(db) => shelf(db, cos, alpha),
        // A shelf from above is one from below in the mirror: cos becomes −cos, and with it the
        // sign of the middle coefficients.
        Slope::HighShelf(db) => {
            let ([b0, b1, b2], [a0, a1, a2]) = shelf(db, -cos, alpha);
            ([b0, -b1, b2], [a0, -a1, a2])
        }
    }
}

fn shelf(db: f64, cos: f64, alpha: f64) -> ([f64; 3], [f64; 3]) {
    let a = 10_f64.powf(db / 40.0);
    let (up, down, width) = (a + 1.0, a - 1.0, 2.0 * a.sqrt() * alpha);
    let zeros =
        [a * (up - down * cos + width), 2.0 * a * (down - up * cos), a * (up - down * cos - width)];
    let poles = [up + down * cos + width, -2.0 * (down + up * cos), up + down * cos - width];
    (zeros, poles)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{RATE_HZ, change_db, sine};
    use super::*;

    /// What `change` does to a sine, in dB.
    fn response_db(hz: f64, change: impl Fn(&mut [f32])) -> f32 {
        let original = sine(hz, 44_100);
        let mut filtered = original.clone();
        change(&mut filtered);
        change_db(&filtered, &original)
    }

    #[test]
    fn a_telephone_keeps_its_band() {
        let db = |hz| response_db(hz, |samples| band_pass(samples, RATE_HZ, 300.0..3_400.0));
        assert!(db(1_000.0).abs() < 0.5);
        // Two filters in a row are 6 dB down at the corner, 24 dB an octave beyond it.
        assert!((db(300.0) + 6.0).abs() < 0.3 && (db(3_400.0) + 6.0).abs() < 0.3);
        assert!((db(150.0) + 24.5).abs() < 1.0, "{}", db(150.0));
        assert!(db(10_000.0) < -35.0);
    }

    #[test]
    fn shelves_raise_and_lower_what_they_say() {
        let db = |hz| response_db(hz, |samples| equalise_bass_heavy(samples, RATE_HZ));
        assert!((db(20.0) - 10.0).abs() < 0.5, "{}", db(20.0));
        assert!((db(100.0) - 5.0).abs() < 0.5, "{}", db(100.0));
        assert!(db(600.0).abs() < 0.5, "{}", db(600.0));
        assert!((db(3_000.0) + 4.0).abs() < 0.5, "{}", db(3_000.0));
        assert!((db(15_000.0) + 8.0).abs() < 0.5, "{}", db(15_000.0));
    }

    #[test]
    fn a_corner_beyond_the_band_changes_nothing() {
        let original = sine(440.0, 1_000);
        let mut filtered = original.clone();
        filter(&mut filtered, 8_000, Slope::LowPass, 4_000.0);
        assert_eq!(filtered, original);
    }
}
