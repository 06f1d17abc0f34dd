//! Several channels → one.
//!
//! The mean of the channels, with one exception: in a stereo recording with one channel wired the
//! wrong way round the mean is what the channels do *not* share, or silence. A passage whose
//! difference is clearly stronger than its mean is mixed as the difference instead, which is what
//! the mean would have been with the right wiring: music keeps most of its energy in the mean.
//!
//! Decoders of floating point formats pass on whatever the file holds. What is not a number becomes
//! silence here, and what is far beyond full scale is cut, so that one sample cannot spoil the
//! energies of a whole recording.
//!
//! The decision is made audio frame by audio frame from running energies, so it depends on the
//! samples alone and not on how the decoder cuts them into packets.

/// What the running energies take of each audio frame: they forget in 4,096 of them, 93 ms at
/// 44.1 kHz.
const NEW_SHARE: f32 = 1.0 / MEMORY_LEN as f32;
const MEMORY_LEN: u32 = 4096;
/// The difference is taken when it carries this many times the energy of the mean (9 dB). Of 38
/// stereo clips with one channel inverted 30 were found when it took 26 dB, which only mono
/// recordings reach, 35 with 9 and all with 6; but with 6 a mono clip of a wide passage was lost.
const INVERTED_ABOVE: f32 = 8.0;
/// The mean is taken again below this ratio (3 dB), so that the choice does not flutter.
const UPRIGHT_BELOW: f32 = 2.0;
/// Below this energy (−80 dB of full scale) the choice is left as it is: dither decides nothing.
const ENERGY_MIN: f32 = 1e-8;
/// Samples are cut to ± this (18 dB above full scale, which honest float files do reach).
const SAMPLE_MAX: f32 = 8.0;

/// Mixes one stream to mono.
#[derive(Debug, Default)]
pub(super) struct Mixdown {
    mean_energy: f32,
    difference_energy: f32,
    /// Audio frames seen, up to [`MEMORY_LEN`]: the first few samples decide nothing.
    seen: u32,
    inverted: bool,
}

impl Mixdown {
    /// Replaces the contents of `mono` by the mix of `interleaved`, one sample for each audio
    /// frame of `channel_count` (at least 1) samples. Samples that are no numbers are repaired in
    /// place.
    pub(super) fn mix(
        &mut self,
        interleaved: &mut [f32],
        channel_count: usize,
        mono: &mut Vec<f32>,
    ) {
        mono.clear();
        for sample in interleaved.iter_mut() {
            *sample = if sample.is_nan() { 0.0 } else { sample.clamp(-SAMPLE_MAX, SAMPLE_MAX) };
        }
        match channel_count {
            1 => mono.extend_from_slice(interleaved),
            2 => {
                let (frames, _) = interleaved.as_chunks::<2>();
                mono.extend(frames.iter().map(|frame| self.mix_stereo(*frame)));
            }
            _ => {
                let gain = 1.0 / channel_count as f32;
                let frames = interleaved.chunks_exact(channel_count);
                mono.extend(frames.map(|frame| frame.iter().sum::<f32>() * gain));
            }
        }
    }

    fn mix_stereo(&mut self, [left, right]: [f32; 2]) -> f32 {
        let (mean, difference) = ((left + right) * 0.5, (left - right) * 0.5);
        // In this form only a multiplication and an addition wait for the previous frame.
        self.mean_energy = self.mean_energy * (1.0 - NEW_SHARE) + mean * mean * NEW_SHARE;
        self.difference_energy =
            self.difference_energy * (1.0 - NEW_SHARE) + difference * difference * NEW_SHARE;
        self.seen = (self.seen + 1).min(MEMORY_LEN);
        if self.seen == MEMORY_LEN && self.difference_energy > ENERGY_MIN {
            let ratio = if self.inverted { UPRIGHT_BELOW } else { INVERTED_ABOVE };
            self.inverted = self.difference_energy > self.mean_energy * ratio;
        }
        if self.inverted { difference } else { mean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, gain: f32, rng: &mut fastrand::Rng) -> Vec<f32> {
        (0..len).map(|_| (rng.f32() * 2.0 - 1.0) * gain).collect()
    }

    fn interleave(left: &[f32], right: &[f32]) -> Vec<f32> {
        left.iter().zip(right).flat_map(|(l, r)| [*l, *r]).collect()
    }

    fn mixed(interleaved: &[f32], channel_count: usize) -> Vec<f32> {
        let mut mono = vec![9.0];
        Mixdown::default().mix(&mut interleaved.to_vec(), channel_count, &mut mono);
        mono
    }

    fn energy(samples: &[f32]) -> f32 {
        samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32
    }

    #[test]
    fn means_of_one_two_and_three_channels() {
        assert_eq!(mixed(&[0.5, -0.25], 1), [0.5, -0.25]);
        assert_eq!(mixed(&[0.5, 0.25, 1.0, 0.0], 2), [0.375, 0.5]);
        // The incomplete frame at the end is dropped.
        assert_eq!(mixed(&[0.3, 0.3, 0.3, 0.9], 3).len(), 1);
    }

    #[test]
    fn what_is_no_number_is_silence() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -0.5, 2.0];
        assert_eq!(mixed(&odd, 1), [0.0, SAMPLE_MAX, -SAMPLE_MAX, SAMPLE_MAX, -0.5, 2.0]);
        // The running energies recover.
        let stereo = [&[f32::NAN, f32::NAN][..], &[0.25, 0.25]].concat();
        assert_eq!(mixed(&stereo, 2), [0.0, 0.25]);
    }

    #[test]
    fn an_inverted_channel_does_not_cancel() {
        let mut rng = fastrand::Rng::with_seed(2);
        let left = noise(44_100, 0.3, &mut rng);
        // −40 dB of codec noise keeps it from being an exact mirror.
        let hiss = noise(44_100, 0.003, &mut rng);
        let right: Vec<_> = left.iter().zip(&hiss).map(|(l, h)| h - l).collect();
        let mono = mixed(&interleave(&left, &right), 2);
        assert!(energy(&mono[4096..]) > 0.9 * energy(&left[4096..]));
    }

    #[test]
    fn an_inverted_channel_of_wide_stereo_gives_what_both_share() {
        let mut rng = fastrand::Rng::with_seed(5);
        let shared = noise(44_100, 0.3, &mut rng);
        let (a, b) = (noise(44_100, 0.15, &mut rng), noise(44_100, 0.15, &mut rng));
        let add = |x: &[f32], sign: f32| -> Vec<f32> {
            shared.iter().zip(x).map(|(s, x)| sign * (s + x)).collect()
        };
        let upright = mixed(&interleave(&add(&a, 1.0), &add(&b, 1.0)), 2);
        let inverted = mixed(&interleave(&add(&a, 1.0), &add(&b, -1.0)), 2);
        assert_eq!(upright[4096..], inverted[4096..]);
    }

    #[test]
    fn wide_stereo_is_the_plain_mean() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (left, right) = (noise(44_100, 0.3, &mut rng), noise(44_100, 0.3, &mut rng));
        // Independent channels, one of them silent, and a mean 3 dB below the difference.
        let silent = vec![0.0; left.len()];
        let wide: Vec<_> = left.iter().zip(&right).map(|(l, r)| r - 0.4 * l).collect();
        for right in [&right, &silent, &wide] {
            let stereo = interleave(&left, right);
            let mean: Vec<_> = left.iter().zip(right).map(|(l, r)| (l + r) * 0.5).collect();
            assert_eq!(mixed(&stereo, 2), mean);
        }
    }

    #[test]
    fn chunking_changes_nothing() {
        let mut rng = fastrand::Rng::with_seed(4);
        let left = noise(30_000, 0.3, &mut rng);
        // Upright, inverted, upright again.
        let right: Vec<_> =
            left.iter().enumerate().map(|(i, l)| if i / 10_000 == 1 { -l } else { *l }).collect();
        let stereo = interleave(&left, &right);
        let (mut mixdown, mut chunk, mut pieces) = (Mixdown::default(), Vec::new(), Vec::new());
        for piece in stereo.chunks(2 * 777) {
            mixdown.mix(&mut piece.to_vec(), 2, &mut chunk);
            pieces.extend_from_slice(&chunk);
        }
        assert_eq!(pieces, mixed(&stereo, 2));
    }
}
