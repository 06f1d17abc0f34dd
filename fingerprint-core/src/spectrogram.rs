//! Samples → power spectra, one frame after the other.
//!
//! Position in the flow: 16 kHz mono → **frames** → peaks. Frame `t` covers the samples
//! `t·HOP_LEN .. t·HOP_LEN + FRAME_LEN` under a Hann window; its time is that of its centre.
//! There is no padding: audio shorter than [`FRAME_LEN`] gives no frame, and the last incomplete
//! frame is dropped. Which samples make a frame does not depend on how they were pushed, so any
//! chunking of a stream gives the same frames, bit for bit.

use std::f32::consts::TAU;
use std::fmt;
use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};

use crate::params::{FRAME_LEN, HOP_LEN};

/// Bins of a frame: [`FRAME_LEN`] / 2 + 1, from 0 Hz to half the sample rate.
pub const BIN_COUNT: usize = FRAME_LEN / 2 + 1;

/// Samples that may be held: the longer, the more rarely the rest is moved to the front, but also
/// the more of the cache is taken.
const PENDING_LEN_MAX: usize = 2 * FRAME_LEN;
const _: () = assert!(PENDING_LEN_MAX >= FRAME_LEN);

/// Computes frames from a stream of samples. All memory is allocated once.
pub struct Spectrogram {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    /// The last samples; those before `frame_start` are done with.
    pending: Vec<f32>,
    frame_start: usize,
    input: Vec<f32>,
    spectrum: Vec<Complex32>,
    scratch: Vec<Complex32>,
    power: Vec<f32>,
}

impl fmt::Debug for Spectrogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spectrogram")
            .field("pending_len", &(self.pending.len() - self.frame_start))
            .finish()
    }
}

impl Default for Spectrogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Spectrogram {
    /// Plans the transform; costs about a millisecond.
    #[must_use]
    pub fn new() -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(FRAME_LEN);
        // The window sums to FRAME_LEN / 2, so a full-scale sine on a bin has |X| = FRAME_LEN / 4.
        // Scaling the window by the inverse makes its power 1, that is 0 dB.
        let scale = 4.0 / FRAME_LEN as f32;
        let window = (0..FRAME_LEN)
            .map(|n| scale * (0.5 - 0.5 * (TAU * n as f32 / FRAME_LEN as f32).cos()))
            .collect();
        Self {
            window,
            pending: Vec::with_capacity(PENDING_LEN_MAX),
            frame_start: 0,
            input: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            power: vec![0.0; BIN_COUNT],
            fft,
        }
    }

    /// Takes samples at the analysis rate and calls `sink` with each frame they complete: the
    /// power of its [`BIN_COUNT`] bins, 1.0 being a full-scale sine.
    pub fn push(&mut self, mut samples: &[f32], sink: &mut dyn FnMut(&[f32])) {
        while !samples.is_empty() {
            let taken = samples.len().min(PENDING_LEN_MAX - self.pending.len());
            self.pending.extend_from_slice(&samples[..taken]);
            samples = &samples[taken..];
            while self.pending.len() - self.frame_start >= FRAME_LEN {
                self.transform();
                sink(&self.power);
                self.frame_start += HOP_LEN;
            }
            if self.pending.len() == PENDING_LEN_MAX {
                self.pending.drain(..self.frame_start);
                self.frame_start = 0;
            }
        }
    }

    fn transform(&mut self) {
        let frame = &self.pending[self.frame_start..];
        for ((x, sample), weight) in self.input.iter_mut().zip(frame).zip(&self.window) {
            *x = sample * weight;
        }
        self.fft
            .process_with_scratch(&mut self.input, &mut self.spectrum, &mut self.scratch)
            .expect("the buffers were made by the plan itself");
        for (power, x) in self.power.iter_mut().zip(&self.spectrum) {
            *power = x.norm_sqr();
        }
    }
}

#[cfg(test)]
mod tests {
    use rustfft::FftPlanner;

    use super::*;
    use crate::params::SAMPLE_RATE_HZ;

    fn noise(len: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(1);
        (0..len).map(|_| rng.f32() * 2.0 - 1.0).collect()
    }

    fn frames(chunks: &[&[f32]]) -> Vec<Vec<f32>> {
        let mut frames = Vec::new();
        let mut spectrogram = Spectrogram::new();
        for chunk in chunks {
            spectrogram.push(chunk, &mut |frame| frames.push(frame.to_vec()));
        }
        frames
    }

    #[test]
    fn a_full_scale_sine_has_power_one_in_its_bin() {
        let hz = SAMPLE_RATE_HZ as f32 * 256.0 / FRAME_LEN as f32;
        let sine: Vec<_> =
            (0..FRAME_LEN).map(|n| (TAU * hz * n as f32 / SAMPLE_RATE_HZ as f32).sin()).collect();
        let frame = frames(&[&sine]).remove(0);
        assert!((frame[256] - 1.0).abs() < 1e-3, "{}", frame[256]);
        assert!(frame[260] < 1e-6);
    }

    #[test]
    fn frames_start_when_complete_and_step_by_a_hop() {
        for (len, expected) in [
            (FRAME_LEN - 1, 0),
            (FRAME_LEN, 1),
            (FRAME_LEN + HOP_LEN - 1, 1),
            (FRAME_LEN + HOP_LEN, 2),
        ] {
            assert_eq!(frames(&[&noise(len)]).len(), expected, "{len} samples");
        }
    }

    #[test]
    fn any_chunking_gives_the_same_frames() {
        let samples = noise(5 * FRAME_LEN);
        let whole = frames(&[&samples]);
        for chunk_len in [1, 511, 512, 513, 4_095, 4_097] {
            let chunks: Vec<_> = samples.chunks(chunk_len).collect();
            assert_eq!(frames(&chunks), whole, "chunks of {chunk_len}");
        }
    }

    /// The slow, obvious twin: a complex transform of the windowed samples.
    #[test]
    fn agrees_with_the_complex_transform() {
        let samples = noise(FRAME_LEN);
        let mut buffer: Vec<_> = samples
            .iter()
            .enumerate()
            .map(|(n, x)| {
                let hann = (std::f32::consts::PI * n as f32 / FRAME_LEN as f32).sin().powi(2);
                Complex32::new(x * hann * 4.0 / FRAME_LEN as f32, 0.0)
            })
            .collect();
        FftPlanner::new().plan_fft_forward(FRAME_LEN).process(&mut buffer);
        for (bin, (power, x)) in frames(&[&samples])[0].iter().zip(&buffer).enumerate() {
            assert!((power - x.norm_sqr()).abs() < 1e-6, "bin {bin}: {power} {}", x.norm_sqr());
        }
    }
}
