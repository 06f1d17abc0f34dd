//! How much louder the query plays the track, by frequency.
//!
//! Position in the flow: fitted candidates → **gain** → evidence, which tells by it how loud each of
//! the track's peaks should be in the query.

use super::fit::Pair;
use super::query_peaks::FRAME_MS;

/// Likelihood ratio at which a pair is as likely matched as not.
const EVEN_RATIO: f32 = 20.0;
/// Rounds of fitting the gain: two with wide tolerance, two with narrow.
const GAIN_SPREADS_DB: [f32; 4] = [3.0, 3.0, 1.5, 1.5];
/// How far an equaliser bends the gain, in dB per e-fold of frequency.
const GAIN_BEND_DB: f32 = 5.0;
/// Frequency at which the gain's parabola has its origin, in bins: 1 kHz.
const GAIN_ORIGIN_BIN: f32 = 256.0;

/// Gain from track to query in dB: a parabola over ln frequency.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gain([f32; 3]);

impl Gain {
    /// Fits the gain to the levels of `pairs`: the fullest place of a histogram of level differences, then least squares with weights that
    /// leave strays out.
    pub(super) fn fit(pairs: &[Pair]) -> Self {
        const BINS: usize = 256;
        const BIAS_DB: f32 = 128.0;
        let position = |pair: &Pair| {
            student(pair.d_ms / FRAME_MS, 0.25) * student(pair.d_bin, 0.25) * pair.rarity
        };
        let ratios: Vec<f32> = pairs.iter().map(position).collect();
        let even = |ratio: f32| ratio / (ratio + EVEN_RATIO);
        let mut histogram = [0.0_f32; BINS];
        for (pair, ratio) in pairs.iter().zip(&ratios) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "levels are 0 to 127.5 dB"
            )]
            let place = (pair.d_level_db + BIAS_DB).round() as usize;
            histogram[place.min(BINS - 1)] += even(*ratio);
        }
        let smooth = |i: usize| {
            const WEIGHTS: [f32; 5] = [0.4, 0.75, 1.0, 0.75, 0.4];
            let at = |k: usize| (i + k).checked_sub(2).and_then(|i| histogram.get(i));
            (0..5).map(|k| WEIGHTS[k] * at(k).copied().unwrap_or(0.0)).sum::<f32>()
        };
        let mode = (0..BINS).max_by(|a, b| smooth(*a).total_cmp(&smooth(*b))).unwrap_or(0);
        let mut gain = Self([mode as f32 - BIAS_DB, 0.0, 0.0]);
        for spread_db in GAIN_SPREADS_DB {
            let mut rows = [[0.0_f32; 4]; 3];
            for (pair, ratio) in pairs.iter().zip(&ratios) {
                let x = ln_bin(pair.bin);
                let error_db = pair.d_level_db - gain.at(pair.bin);
                let ratio = ratio * student(error_db, spread_db) * pair.level_rarity;
                let weight = even(ratio) / (1.0 + (error_db / spread_db).powi(2) / 3.0);
                let basis = [1.0, x, x * x];
                for (row, a) in rows.iter_mut().zip(basis) {
                    for (cell, b) in row.iter_mut().zip(basis) {
                        *cell += weight * a * b;
                    }
                    row[3] += weight * a * pair.d_level_db;
                }
            }
            // A weak hold where there is little evidence: no bend, and the gain as it is.
            let bend = 4.0 / (GAIN_BEND_DB * GAIN_BEND_DB);
            rows[0][0] += 1e-3;
            rows[0][3] += 1e-3 * gain.0[0];
            rows[1][1] += bend;
            rows[2][2] += bend;
            gain = Self(solve(rows));
        }
        gain
    }

    /// In dB, at a frequency in bins.
    pub(super) fn at(self, bin: f32) -> f32 {
        let x = ln_bin(bin);
        self.0[0] + x * (self.0[1] + x * self.0[2])
    }
}

/// Logarithm of a frequency from the gain's origin. Only made-up peaks lie at 0 Hz.
fn ln_bin(bin: f32) -> f32 {
    (bin.max(1.0) / GAIN_ORIGIN_BIN).ln()
}

/// Solves three linear equations whose matrix is positive definite (Gauss and Jordan).
fn solve(mut rows: [[f32; 4]; 3]) -> [f32; 3] {
    for i in 0..3 {
        let pivot = rows[i][i];
        rows[i].iter_mut().for_each(|cell| *cell /= pivot);
        let row = rows[i];
        for (_, other) in rows.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = other[i];
            other.iter_mut().zip(row).for_each(|(cell, from)| *cell -= factor * from);
        }
    }
    rows.map(|row| row[3])
}

/// Student's t with three degrees of freedom: errors of peaks have heavy tails, and it needs no
/// exponential.
pub(super) fn student(error: f32, width: f32) -> f32 {
    const NORM: f32 = 0.367_553;
    let x = error / width;
    let base = 1.0 + x * x / 3.0;
    NORM / (width * base * base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_equations_are_solved() {
        let x = solve([[2.0, 1.0, 0.0, 5.0], [1.0, 3.0, 1.0, 10.5], [0.0, 1.0, 4.0, 14.0]]);
        for (value, expected) in x.iter().zip([1.5, 2.0, 3.0]) {
            assert!((value - expected).abs() < 1e-5, "{x:?}");
        }
    }
}
