//! Damage that a recording suffers on its way to a query: mono samples in, mono samples out.
//!
//! What needs an encoder is not here. Everything is plain arithmetic on the samples and on random
//! numbers that the caller brings, so the same seed gives the same damage. Full scale is ±1; what
//! leaves it is cut only where a file is written.

mod filter;
mod noise;
mod resample;
mod room;
mod stretch;

use std::ops::Range;

pub use filter::{Slope, band_pass, equalise_bass_heavy, filter};
pub use noise::{pink_noise, white_noise};
pub use resample::resample;
pub use room::reverberate;
pub use stretch::stretch;

/// Loudest sample that [`limit_peak`] leaves.
const PEAK_MAX: f32 = 0.99;
/// Where [`Damage::ClipAndEqualise`] clips, in root mean squares of the signal. Music peaks 10 to
/// 15 dB above its own; this leaves 3.5 dB.
const CLIP_RMS: f32 = 1.5;

/// One kind of damage. [`Damage::apply`] does it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Damage {
    /// Noise of equal power an octave, from 20 Hz up.
    Pink {
        /// Recording over noise in dB.
        snr_db: f32,
    },
    /// Another recording, see [`Surroundings::music`].
    Music {
        /// Recording over the other one in dB.
        snr_db: f32,
    },
    /// What is heard around, see [`Surroundings::noise`].
    Ambience {
        /// Recording over it in dB.
        snr_db: f32,
    },
    /// A room with a reverberation time of 0.7 s, as loud as the direct sound.
    Room,
    /// The band of a telephone line, 300 to 3,400 Hz.
    Telephone,
    /// Bass up by 10 dB, treble down by 8 dB, and then clipped at 1.5 times the level: some 8 dB of
    /// overload, however loud the recording is.
    ClipAndEqualise,
    /// Louder or quieter.
    Gain {
        /// In dB.
        db: f32,
    },
    /// Digital silence in the middle, 0.3 of the whole: 3 s of a clip of 10 s.
    Dropout,
}

/// What may be heard beside the recording, as samples of the same rate. Shorter ones are repeated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// Another recording, for [`Damage::Music`].
    pub music: &'a [f32],
    /// Noise, for [`Damage::Ambience`].
    pub noise: &'a [f32],
}

impl Damage {
    /// Damages `samples`, which keep their length and `rate_hz`.
    pub fn apply(
        self,
        samples: &mut Vec<f32>,
        rate_hz: u32,
        around: Surroundings<'_>,
        rng: &mut fastrand::Rng,
    ) {
        match self {
            Self::Pink { snr_db } => {
                let noise = pink_noise(samples.len(), rate_hz, rng);
                mix(samples, &noise, snr_db);
            }
            Self::Music { snr_db } => mix(samples, around.music, snr_db),
            Self::Ambience { snr_db } => mix(samples, around.noise, snr_db),
            Self::Room => *samples = reverberate(samples, rate_hz, rng),
            Self::Telephone => band_pass(samples, rate_hz, 300.0..3_400.0),
            Self::ClipAndEqualise => {
                equalise_bass_heavy(samples, rate_hz);
                let level = rms(samples) * CLIP_RMS;
                clip(samples, level);
            }
            Self::Gain { db } => gain(samples, db),
            Self::Dropout => {
                let len = samples.len();
                silence(samples, len * 35 / 100..len * 65 / 100);
            }
        }
    }
}

/// Root mean square of `samples`; 0 of none.
#[must_use]
pub fn rms(samples: &[f32]) -> f32 {
    let square_sum: f64 = samples.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a level needs no double precision")]
    let rms = (square_sum / samples.len().max(1) as f64).sqrt() as f32;
    rms
}

/// Makes `samples` louder by `db`, or quieter.
pub fn gain(samples: &mut [f32], db: f32) {
    let factor = ratio(db);
    samples.iter_mut().for_each(|sample| *sample *= factor);
}

/// Cuts `samples` at ±`level`.
pub fn clip(samples: &mut [f32], level: f32) {
    samples.iter_mut().for_each(|sample| *sample = sample.clamp(-level, level));
}

/// Silences a stretch of `samples`.
///
/// # Panics
///
/// If `range` reaches beyond `samples`.
pub fn silence(samples: &mut [f32], range: Range<usize>) {
    samples[range].fill(0.0);
}

/// Adds `other`, repeated as often as needed, so that `samples` are `snr_db` louder by their root
/// mean square; then [limits the peak](limit_peak). Nothing happens if either is silent.
pub fn mix(samples: &mut [f32], other: &[f32], snr_db: f32) {
    let heard = &other[..other.len().min(samples.len())];
    let (own, others) = (rms(samples), rms(heard));
    if own == 0.0 || others == 0.0 {
        return;
    }
    let factor = own / others / ratio(snr_db);
    for (sample, other) in samples.iter_mut().zip(other.iter().cycle()) {
        *sample += other * factor;
    }
    limit_peak(samples);
}

/// Turns `samples` down as a whole where one would exceed full scale, as a recorder's level is set
/// so that nothing clips.
pub fn limit_peak(samples: &mut [f32]) {
    let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
    if peak > PEAK_MAX {
        samples.iter_mut().for_each(|sample| *sample *= PEAK_MAX / peak);
    }
}

/// Decibels as a ratio of amplitudes.
fn ratio(db: f32) -> f32 {
    10_f32.powf(db / 20.0)
}

/// A count of samples from a length that was computed in fractions: rounded to the nearest.
fn count(len: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` from float saturates, and a negative length is none"
    )]
    let count = len.round() as usize;
    count
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    pub(super) const RATE_HZ: u32 = 44_100;

    /// A sine at a tenth of full scale.
    pub(super) fn sine(hz: f64, len: usize) -> Vec<f32> {
        (0..len).map(|n| (0.1 * (TAU * hz * n as f64 / f64::from(RATE_HZ)).sin()) as f32).collect()
    }

    /// Level of `damaged` over `original` in dB, without the edges, where filters ring.
    pub(super) fn change_db(damaged: &[f32], original: &[f32]) -> f32 {
        let inner = |samples: &[f32]| rms(&samples[samples.len() / 4..samples.len() * 3 / 4]);
        20.0 * (inner(damaged) / inner(original)).log10()
    }

    /// Frequency of a sine by its zero crossings, in Hz at `RATE_HZ`.
    pub(super) fn hz_of(samples: &[f32]) -> f32 {
        let inner = &samples[samples.len() / 4..samples.len() * 3 / 4];
        let crossings = inner.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
        crossings as f32 * RATE_HZ as f32 / inner.len() as f32
    }

    #[test]
    fn a_mix_has_the_ratio_that_was_asked_for_and_stays_within_full_scale() {
        let recording = sine(440.0, 44_100);
        for snr_db in [10.0, 0.0, -5.0] {
            // Shorter than the recording: it is repeated.
            let noise = pink_noise(10_000, RATE_HZ, &mut fastrand::Rng::with_seed(1));
            let mut mixed = recording.clone();
            mix(&mut mixed, &noise, snr_db);
            let added: Vec<_> = mixed.iter().zip(&recording).map(|(m, r)| m - r).collect();
            let measured_db = 20.0 * (rms(&recording) / rms(&added)).log10();
            assert!((measured_db - snr_db).abs() < 0.5, "{measured_db} dB for {snr_db}");
        }
        let mut loud = recording.clone();
        gain(&mut loud, 19.0);
        mix(&mut loud, &sine(333.0, 44_100), 0.0);
        assert!(loud.iter().all(|sample| sample.abs() <= 1.0));
        let mut beside_silence = recording.clone();
        mix(&mut beside_silence, &[0.0; 100], 0.0);
        mix(&mut beside_silence, &[], 0.0);
        assert_eq!(beside_silence, recording);
    }

    #[test]
    fn a_dropout_is_three_tenths_in_the_middle() {
        let mut samples = vec![0.5; 100];
        let mut rng = fastrand::Rng::with_seed(1);
        Damage::Dropout.apply(&mut samples, RATE_HZ, Surroundings::default(), &mut rng);
        let silent: Vec<_> = (0..100).filter(|i| samples[*i] == 0.0).collect();
        assert_eq!((silent.len(), silent[0]), (30, 35));
    }

    #[test]
    fn all_damage_keeps_the_length_and_is_decided_by_the_seed() {
        let recording = sine(440.0, 10_001);
        let around = Surroundings { music: &sine(300.0, 50), noise: &sine(200.0, 20_000) };
        for damage in [
            Damage::Pink { snr_db: 0.0 },
            Damage::Music { snr_db: 0.0 },
            Damage::Ambience { snr_db: 0.0 },
            Damage::Room,
            Damage::Telephone,
            Damage::ClipAndEqualise,
            Damage::Gain { db: -40.0 },
            Damage::Dropout,
        ] {
            let damaged = |seed| {
                let mut samples = recording.clone();
                let mut rng = fastrand::Rng::with_seed(seed);
                damage.apply(&mut samples, RATE_HZ, around, &mut rng);
                samples
            };
            let once = damaged(1);
            assert_eq!(once.len(), recording.len(), "{damage:?}");
            assert_ne!(once, recording, "{damage:?}");
            assert!(once.iter().all(|sample| sample.is_finite()), "{damage:?}");
            assert_eq!(once, damaged(1), "{damage:?}");
        }
    }
}
