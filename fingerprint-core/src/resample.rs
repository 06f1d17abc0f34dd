//! Any sample rate → the one analysis rate.
//!
//! Position in the flow: samples → **16 kHz mono** → frames. The only module that touches rubato.
//!
//! The resampler works on blocks of a fixed length whatever the length of the chunks it is given,
//! so the output does not depend on the chunking. Its delay is cut off at the start (to the whole
//! sample, 0.06 ms) and its tail is drained at the end: n samples at rate r become
//! round(n · 16,000 / r) samples.

use std::fmt;

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use crate::params::{RATE_MAX_HZ, RATE_MIN_HZ, SAMPLE_RATE_HZ};

/// Wanted block length in input samples; measured fastest for the usual rates.
const BLOCK_LEN: usize = 1024;

/// A sample rate that cannot be resampled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "sample rate {rate_hz} Hz is outside {RATE_MIN_HZ} to {RATE_MAX_HZ} Hz; resample the audio first"
)]
pub struct RateError {
    /// The rate that was asked for, in Hz.
    pub rate_hz: u32,
}

/// Resamples one stream of one rate.
pub struct Resampler {
    /// `None` if the input has the analysis rate already.
    fft: Option<Fft<f32>>,
    rate_hz: u32,
    /// Input that does not fill a block yet.
    pending: Vec<f32>,
    output: Vec<f32>,
    /// Output samples still to be cut off at the start.
    delay_left: usize,
    input_count: u64,
    output_count: u64,
}

impl fmt::Debug for Resampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resampler").field("rate_hz", &self.rate_hz).finish_non_exhaustive()
    }
}

impl Resampler {
    /// Plans the conversion from `rate_hz`.
    ///
    /// # Errors
    ///
    /// [`RateError`] if the rate is outside [`RATE_MIN_HZ`] to [`RATE_MAX_HZ`].
    pub fn new(rate_hz: u32) -> Result<Self, RateError> {
        if !(RATE_MIN_HZ..=RATE_MAX_HZ).contains(&rate_hz) {
            return Err(RateError { rate_hz });
        }
        let fft = if rate_hz == SAMPLE_RATE_HZ {
            None
        } else {
            let (from, to) = (rate_hz as usize, SAMPLE_RATE_HZ as usize);
            let fft = Fft::new(from, to, BLOCK_LEN, 1, FixedSync::Both);
            Some(fft.map_err(|_| RateError { rate_hz })?)
        };
        let (block_len, output_len, delay_left) = fft.as_ref().map_or((0, 0, 0), |fft| {
            (fft.input_frames_next(), fft.output_frames_next(), fft.output_delay())
        });
        Ok(Self {
            fft,
            rate_hz,
            pending: Vec::with_capacity(block_len),
            output: vec![0.0; output_len],
            delay_left,
            input_count: 0,
            output_count: 0,
        })
    }

    /// The rate of the input in Hz.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Takes input and hands all output that it completes to `sink`.
    pub fn push(&mut self, mut samples: &[f32], sink: &mut dyn FnMut(&[f32])) {
        self.input_count += samples.len() as u64;
        let Some(fft) = &self.fft else {
            return sink(samples);
        };
        let block_len = fft.input_frames_next();
        while !samples.is_empty() {
            let taken = samples.len().min(block_len - self.pending.len());
            self.pending.extend_from_slice(&samples[..taken]);
            samples = &samples[taken..];
            if self.pending.len() == block_len {
                self.resample_block(u64::MAX, sink);
            }
        }
    }

    /// Hands the rest of the output to `sink`.
    pub fn finish(mut self, sink: &mut dyn FnMut(&[f32])) {
        let Some(fft) = &self.fft else { return };
        let block_len = fft.input_frames_next();
        let (rate, half) = (u64::from(self.rate_hz), u64::from(self.rate_hz) / 2);
        let expected = (self.input_count * u64::from(SAMPLE_RATE_HZ) + half) / rate;
        // Silence behind the end pushes the last real samples through the filter.
        while self.output_count < expected {
            self.pending.resize(block_len, 0.0);
            self.resample_block(expected, sink);
        }
    }

    /// Resamples one full block; at most `total_max` samples leave in all.
    fn resample_block(&mut self, total_max: u64, sink: &mut dyn FnMut(&[f32])) {
        let Some(fft) = &mut self.fft else { return };
        let (in_len, out_len) = (self.pending.len(), self.output.len());
        let input =
            SequentialSlice::new(&self.pending, 1, in_len).expect("the slice has one channel");
        let mut output = SequentialSlice::new_mut(&mut self.output, 1, out_len)
            .expect("the slice has one channel");
        let (_, written) = fft
            .process_into_buffer(&input, &mut output, None)
            .expect("the buffers have the lengths the resampler asked for");
        self.pending.clear();
        let skipped = self.delay_left.min(written);
        self.delay_left -= skipped;
        let left = usize::try_from(total_max - self.output_count).unwrap_or(usize::MAX);
        let fresh = &self.output[skipped..written];
        let fresh = &fresh[..fresh.len().min(left)];
        self.output_count += fresh.len() as u64;
        sink(fresh);
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    fn resample(rate_hz: u32, chunks: &[&[f32]]) -> Vec<f32> {
        let mut output = Vec::new();
        let mut resampler = Resampler::new(rate_hz).unwrap();
        for chunk in chunks {
            resampler.push(chunk, &mut |samples| output.extend_from_slice(samples));
        }
        resampler.finish(&mut |samples| output.extend_from_slice(samples));
        output
    }

    fn sine(rate_hz: u32, seconds: f32) -> Vec<f32> {
        let len = (rate_hz as f32 * seconds) as usize;
        (0..len).map(|n| (TAU * 440.0 * n as f32 / rate_hz as f32).sin()).collect()
    }

    #[test]
    fn a_sine_keeps_its_frequency_phase_and_length_at_any_rate() {
        for rate_hz in [8_000, 11_025, 16_000, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000] {
            let output = resample(rate_hz, &[&sine(rate_hz, 0.5)]);
            assert!(output.len().abs_diff(8_000) <= 1, "{rate_hz} Hz: {} samples", output.len());
            let expected = sine(SAMPLE_RATE_HZ, 0.5);
            // The edges ring: the sine starts and stops at once. Inside, the delay is cut off to
            // the whole sample, so the sine may be up to one sample late.
            let tolerance = TAU * 440.0 / SAMPLE_RATE_HZ as f32;
            for n in 800..7_200 {
                assert!((output[n] - expected[n]).abs() < tolerance, "{rate_hz} Hz, sample {n}");
            }
        }
    }

    #[test]
    fn any_chunking_gives_the_same_samples() {
        let input = sine(44_100, 0.3);
        let whole = resample(44_100, &[&input]);
        for chunk_len in [1, 100, 1_024, 1_025, 5_000] {
            let chunks: Vec<_> = input.chunks(chunk_len).collect();
            assert_eq!(resample(44_100, &chunks), whole, "chunks of {chunk_len}");
        }
    }

    #[test]
    fn impossible_rates_are_refused_and_no_input_gives_no_output() {
        for rate_hz in [0, RATE_MIN_HZ - 1, RATE_MAX_HZ + 1, u32::MAX] {
            assert_eq!(Resampler::new(rate_hz).unwrap_err(), RateError { rate_hz });
        }
        assert_eq!(resample(44_100, &[]), Vec::<f32>::new());
    }
}
