//! How a track lies in a query: where, how fast and how high it is played.

use crate::params::FREQ_STEPS_PER_BIN;
use crate::peaks::Peak;

/// Candidates of one track whose times differ by less than this at the same moment are one.
const NEAR_MS: f64 = 200.0;
/// The same for the logarithms of speed and pitch: a rung and a half.
const NEAR_LN: f64 = 0.03;

/// An affine map from the time and frequency of a track to those of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mapping {
    /// A moment of the query, in ms …
    pub(super) query_ms: f64,
    /// … and the track's time at it, in ms.
    pub(super) track_ms: f64,
    /// Logarithm of the track milliseconds that pass in one of the query.
    pub(super) ln_speed: f64,
    /// Logarithm of query frequency over track frequency.
    pub(super) ln_pitch: f64,
}

impl Mapping {
    /// The same as factors, for many peaks.
    pub(super) fn projection(self) -> Projection {
        Projection {
            track_ms: self.track_ms,
            slowness: (-self.ln_speed).exp(),
            pitch: narrow(self.ln_pitch.exp()),
        }
    }

    /// Track time at a query time, both in ms.
    pub(super) fn to_track_ms(self, query_ms: f64) -> f64 {
        self.track_ms + (query_ms - self.query_ms) * self.ln_speed.exp()
    }

    /// True if both put the track in the same place, as far as votes can tell.
    pub(super) fn is_near(&self, other: &Self) -> bool {
        let apart_ms = self.to_track_ms(other.query_ms) - other.track_ms;
        apart_ms.abs() < NEAR_MS
            && (self.ln_speed - other.ln_speed).abs() < NEAR_LN
            && (self.ln_pitch - other.ln_pitch).abs() < NEAR_LN
    }
}

/// A [`Mapping`] that is ready to be applied to many peaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Projection {
    track_ms: f64,
    /// Query milliseconds that pass in one of the track.
    slowness: f64,
    pitch: f32,
}

impl Projection {
    /// Where a peak of the track should be: in ms of query time from [`Mapping::query_ms`], and in
    /// bins.
    pub(super) fn place(self, peak: &Peak) -> (f32, f32) {
        let passed_ms = (f64::from(peak.time_ms) - self.track_ms) * self.slowness;
        (narrow(passed_ms), bin(peak) * self.pitch)
    }
}

/// Times relative to the middle of a window and factors need no more than single precision.
#[expect(clippy::cast_possible_truncation, reason = "precision is what may be lost here")]
pub(super) fn narrow(value: f64) -> f32 {
    value as f32
}

/// Frequency of a peak in bins.
pub(super) fn bin(peak: &Peak) -> f32 {
    f32::from(peak.freq) / FREQ_STEPS_PER_BIN as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faster_query_reaches_the_same_moment_of_the_track_earlier() {
        let mapping =
            Mapping { query_ms: 5_000.0, track_ms: 65_000.0, ln_speed: 0.1, ln_pitch: 0.1 };
        let factor = 0.1_f64.exp();
        let peak = Peak { time_ms: 66_000, freq: 1_600, level: 0, rank: 0 };
        let (from_middle_ms, bin) = mapping.projection().place(&peak);
        assert!((f64::from(from_middle_ms) - 1_000.0 / factor).abs() < 1e-3);
        assert!((f64::from(bin) - 100.0 * factor).abs() < 1e-4);
        let back_ms = mapping.to_track_ms(5_000.0 + f64::from(from_middle_ms));
        assert!((back_ms - 66_000.0).abs() < 1e-3);
    }
}
