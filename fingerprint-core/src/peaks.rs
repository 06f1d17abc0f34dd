//! Frames → constellation: the spectrogram's peaks, located more finely than its grid, and ranked.
//!
//! Position in the flow: frames → **constellation** → landmarks.
//!
//! A peak is a bin stronger than all others within ±2 bins and ±1 frame. Its *rank* is the number
//! of stronger peaks within ±[`Params::rank_bins`] and ±[`Params::rank_frames`]: rank 0 is what a
//! two-dimensional maximum filter would keep. Ranks make one analysis serve all uses: few peaks
//! for the index, more for the query, most for verification. They do not depend on where a frame
//! grid or band edge happens to lie, so no quota per band or second is needed.
//!
//! A parabola through the logarithmic power at the peak and its neighbours locates it to about a
//! tenth of a bin (0.4 Hz) and of a frame (3 ms), which is what lets the hash be so selective.
//!
//! # Source
//!
//! Local maxima as landmarks: A. Wang, ISMIR 2003, section 2.1. Parabolic interpolation:
//! J. O. Smith and X. Serra, "PARSHL", ICMC 1987. Ranking instead of a maximum filter is ours.

use std::collections::VecDeque;

use crate::params::{BIN_HZ, FRAME_LEN, FREQ_STEPS_PER_BIN, HOP_LEN, Params, Role, TIME_STEP_LEN};

/// Level of [`Peak::level`] 0, in dB relative to a full-scale sine.
const LEVEL_FLOOR_DB: f32 = -120.0;
/// A peak is compared with this many bins to either side.
const LOCAL_BINS: usize = 2;
const HOP_MS: u32 = 32;
const _: () = assert!(HOP_MS as usize * TIME_STEP_LEN == HOP_LEN);
/// Time of the centre of frame 0.
const FRAME_CENTRE_MS: f32 = (FRAME_LEN / 2 / TIME_STEP_LEN) as f32;

/// A spectrogram peak, quantised as it is stored and sent.
///
/// All later stages work on these quantised values, so that landmarks computed from a stored
/// constellation are bit for bit those computed when the track was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peak {
    /// Time of the peak in milliseconds since the first sample, interpolated between frames.
    pub time_ms: u32,
    /// Frequency in sixteenths of a bin ([`FREQ_STEPS_PER_BIN`]), interpolated.
    pub freq: u16,
    /// Level in half decibels above −120 dB relative to a full-scale sine, 0 to 255.
    pub level: u8,
    /// Number of stronger peaks in the neighbourhood; 0 is strongest.
    pub rank: u8,
}

impl Peak {
    /// Frequency in Hz.
    #[must_use]
    pub fn hz(self) -> f32 {
        f32::from(self.freq) * (BIN_HZ / FREQ_STEPS_PER_BIN as f32)
    }

    /// Level in dB relative to a full-scale sine.
    #[must_use]
    pub fn level_db(self) -> f32 {
        f32::from(self.level) / 2.0 + LEVEL_FLOOR_DB
    }
}

/// A local maximum whose rank is not known yet.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    bin: u16,
    power: f32,
    peak: Peak,
}

/// Picks peaks from a stream of frames. Memory is bounded by the frames of one neighbourhood.
#[derive(Debug)]
pub struct PeakPicker {
    rank_max: u8,
    rank_bins: u16,
    rank_frames: usize,
    band: std::ops::Range<usize>,
    floor_power: f32,
    /// The last two frames, older first; the local maxima of the newer one wait for the next.
    previous: Vec<f32>,
    current: Vec<f32>,
    frames_pushed: u32,
    /// For each bin of the band whether it is a local maximum; kept for its memory.
    is_maximum: Vec<bool>,
    /// Candidates by frame: one neighbourhood around the frame to be ranked next.
    candidates: VecDeque<Vec<Candidate>>,
    /// Place of the frame to be ranked next in `candidates`.
    next_ranked: usize,
}

impl PeakPicker {
    /// A picker at the start of a recording, for the peaks that a fingerprint of this role keeps.
    #[must_use]
    pub fn new(params: &Params, role: Role) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a band of the spectrum, clamped to it just below"
        )]
        let bin = |hz: f32| (hz / BIN_HZ).ceil().max(0.0) as usize;
        let highest = FRAME_LEN / 2 - LOCAL_BINS;
        let band = bin(params.band_low_hz).max(LOCAL_BINS)..bin(params.band_high_hz).min(highest);
        Self {
            rank_max: params.rank_max(role),
            rank_bins: params.rank_bins,
            rank_frames: usize::from(params.rank_frames),
            band,
            floor_power: 10_f32.powf(params.floor_db / 10.0),
            previous: Vec::new(),
            current: Vec::new(),
            frames_pushed: 0,
            is_maximum: Vec::new(),
            candidates: VecDeque::new(),
            next_ranked: 0,
        }
    }

    /// Takes the next frame (the power of [`crate::spectrogram::BIN_COUNT`] bins) and appends the
    /// peaks that are settled by it to `peaks`: those of [`Params::rank_frames`] + 1 frames ago,
    /// ascending in frequency.
    pub fn push(&mut self, frame: &[f32], peaks: &mut Vec<Peak>) {
        if self.frames_pushed == 0 {
            // Before the first frame there is nothing that could be stronger.
            self.previous = vec![0.0; frame.len()];
            self.current = frame.to_vec();
        } else {
            self.find_candidates(frame);
            std::mem::swap(&mut self.previous, &mut self.current);
            self.current.copy_from_slice(frame);
            self.rank_settled(self.rank_frames, peaks);
        }
        self.frames_pushed = self.frames_pushed.saturating_add(1);
    }

    /// Settles what is left and appends it to `peaks`.
    pub fn finish(mut self, peaks: &mut Vec<Peak>) {
        if self.frames_pushed > 0 {
            let silence = vec![0.0; self.current.len()];
            self.find_candidates(&silence);
            self.rank_settled(0, peaks);
        }
    }

    /// Finds the local maxima of the current frame, now that the one behind it is known.
    fn find_candidates(&mut self, next: &[f32]) {
        self.mark_maxima(next);
        let marked = self.band.clone().zip(&self.is_maximum).filter(|(_, is_maximum)| **is_maximum);
        let found = marked.map(|(bin, _)| self.interpolate(bin, next)).collect();
        self.candidates.push_back(found);
    }

    /// Marks the bins that are stronger than all others within ±2 bins and ±1 frame. Equal
    /// neighbours occur in synthetic audio: the lower bin and the earlier frame win.
    ///
    /// All comparisons are made for all bins, without branches, so that the compiler makes them
    /// for several bins at once: a fifth of the time that stopping at the first rival took.
    fn mark_maxima(&mut self, next: &[f32]) {
        fn shifted<'a>(frame: &'a [f32], band: &std::ops::Range<usize>) -> [&'a [f32]; 5] {
            std::array::from_fn(|i| &frame[band.start + i - LOCAL_BINS..][..band.len()])
        }
        let [p0, p1, p2, p3, p4] = shifted(&self.previous, &self.band);
        let [c0, c1, c2, c3, c4] = shifted(&self.current, &self.band);
        let [n0, n1, n2, n3, n4] = shifted(next, &self.band);
        let floor_power = self.floor_power;
        self.is_maximum.clear();
        self.is_maximum.extend((0..self.band.len()).map(|i| {
            let power = c2[i];
            (power > floor_power)
                & (power > c0[i])
                & (power > c1[i])
                & (power >= c3[i])
                & (power >= c4[i])
                & (power > p0[i])
                & (power > p1[i])
                & (power > p2[i])
                & (power > p3[i])
                & (power > p4[i])
                & (power >= n0[i])
                & (power >= n1[i])
                & (power >= n2[i])
                & (power >= n3[i])
                & (power >= n4[i])
        }));
    }

    fn interpolate(&self, bin: usize, next: &[f32]) -> Candidate {
        let power = self.current[bin];
        let d_bin = vertex(self.current[bin - 1], power, self.current[bin + 1]);
        let d_frame = vertex(self.previous[bin], power, next[bin]);
        // Whole milliseconds apart from the fraction, which f32 would lose after hours.
        let frame_ms = (self.frames_pushed - 1).saturating_mul(HOP_MS);
        let level = (10.0 * power.log10() - LEVEL_FLOOR_DB) * 2.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` from float saturates, and all values are positive"
        )]
        let peak = Peak {
            time_ms: frame_ms
                .saturating_add((FRAME_CENTRE_MS + d_frame * HOP_MS as f32).round() as u32),
            freq: ((bin as f32 + d_bin) * FREQ_STEPS_PER_BIN as f32).round() as u16,
            level: level.round() as u8,
            rank: 0,
        };
        let bin = u16::try_from(bin).expect("a frame has 2049 bins");
        Candidate { bin, power, peak }
    }

    /// Ranks the frames that have `lookahead` frames of candidates behind them.
    fn rank_settled(&mut self, lookahead: usize, peaks: &mut Vec<Peak>) {
        while self.candidates.len() > self.next_ranked + lookahead {
            for candidate in &self.candidates[self.next_ranked] {
                let rank = self.rank(candidate);
                if rank <= self.rank_max {
                    peaks.push(Peak { rank, ..candidate.peak });
                }
            }
            if self.next_ranked == self.rank_frames {
                self.candidates.pop_front();
            } else {
                self.next_ranked += 1;
            }
        }
    }

    /// Counts the stronger peaks around; stops as soon as there are too many.
    fn rank(&self, candidate: &Candidate) -> u8 {
        let bins = candidate.bin.saturating_sub(self.rank_bins)
            ..=candidate.bin.saturating_add(self.rank_bins);
        let first = self.next_ranked.saturating_sub(self.rank_frames);
        let last = (self.next_ranked + self.rank_frames).min(self.candidates.len() - 1);
        let mut rank = 0;
        for frame in self.candidates.range(first..=last) {
            let start = frame.partition_point(|other| other.bin < *bins.start());
            for other in frame[start..].iter().take_while(|other| other.bin <= *bins.end()) {
                if other.power > candidate.power {
                    rank += 1;
                    if rank > self.rank_max {
                        return rank;
                    }
                }
            }
        }
        rank
    }
}

/// Place of the maximum of a parabola through the logarithms of three powers at −1, 0 and 1, of
/// which the middle one is largest: −0.5 to 0.5.
fn vertex(left: f32, middle: f32, right: f32) -> f32 {
    // The smallest positive power keeps digital silence from giving infinities.
    let ln = |power: f32| power.max(f32::MIN_POSITIVE).ln();
    let (left, middle, right) = (ln(left), ln(middle), ln(right));
    let curvature = left - 2.0 * middle + right;
    if curvature < 0.0 { (0.5 * (left - right) / curvature).clamp(-0.5, 0.5) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;
    use crate::params::SAMPLE_RATE_HZ;
    use crate::spectrogram::{BIN_COUNT, Spectrogram};

    fn pick(frames: &[Vec<f32>]) -> Vec<Peak> {
        let mut picker = PeakPicker::new(&Params::default(), Role::Query);
        let mut peaks = Vec::new();
        frames.iter().for_each(|frame| picker.push(frame, &mut peaks));
        picker.finish(&mut peaks);
        peaks
    }

    fn frame(powers: &[(usize, f32)]) -> Vec<f32> {
        let mut frame = vec![1e-12; BIN_COUNT];
        powers.iter().for_each(|(bin, power)| frame[*bin] = *power);
        frame
    }

    fn samples(len: usize, f: impl Fn(f32) -> f32) -> Vec<f32> {
        (0..len).map(|n| f(n as f32 / SAMPLE_RATE_HZ as f32)).collect()
    }

    fn pick_samples(samples: &[f32]) -> Vec<Peak> {
        let mut frames = Vec::new();
        Spectrogram::new().push(samples, &mut |frame| frames.push(frame.to_vec()));
        pick(&frames)
    }

    #[test]
    fn silence_and_nothing_give_no_peaks() {
        assert_eq!(pick(&[]), []);
        assert_eq!(pick(&vec![vec![0.0; BIN_COUNT]; 20]), []);
    }

    #[test]
    fn ranks_count_stronger_peaks_in_the_neighbourhood_only() {
        let quiet = frame(&[]);
        // 190 bins apart is outside the neighbourhood of 90, 90 is inside.
        let frames =
            [quiet.clone(), frame(&[(200, 0.5), (290, 0.9), (390, 0.1)]), quiet.clone(), quiet];
        let ranks: Vec<_> = pick(&frames).iter().map(|p| (p.freq / 16, p.rank)).collect();
        assert_eq!(ranks, [(200, 1), (290, 0), (390, 0)]);

        let mut apart = vec![frame(&[]); 20];
        apart[3] = frame(&[(200, 0.5)]);
        apart[8] = frame(&[(200, 0.9)]);
        apart[14] = frame(&[(200, 0.6)]);
        let ranks: Vec<_> = pick(&apart).iter().map(|p| p.rank).collect();
        assert_eq!(ranks, [1, 0, 0], "5 frames are inside, 6 are outside");
    }

    #[test]
    fn equal_powers_give_one_peak() {
        let flat = [frame(&[]), frame(&[(300, 0.5), (301, 0.5)]), frame(&[(300, 0.5)]), frame(&[])];
        assert_eq!(pick(&flat).len(), 1);
    }

    #[test]
    fn a_tone_burst_is_located_between_bins_and_frames() {
        for hz in [1_000.0, 1_001.3, 2_345.6] {
            for centre_s in [0.5_f32, 0.511, 0.52] {
                let burst = samples(16_000, |t| {
                    let envelope = (-((t - centre_s) / 0.05).powi(2)).exp();
                    0.5 * envelope * (TAU * hz * t).sin()
                });
                let peaks = pick_samples(&burst);
                let peak = peaks.iter().max_by_key(|p| p.level).unwrap();
                assert!((peak.hz() - hz).abs() < 0.4, "{hz} Hz found at {}", peak.hz());
                let error_ms = (peak.time_ms as f32 - centre_s * 1e3).abs();
                assert!(error_ms < 3.0, "{centre_s} s found at {} ms", peak.time_ms);
            }
        }
    }

    #[test]
    fn levels_are_decibels_below_full_scale() {
        let tone = samples(16_000, |t| {
            let envelope = (-((t - 0.5) / 0.2).powi(2)).exp();
            0.1 * envelope * (TAU * 1_000.0 * t).sin()
        });
        let loudest = pick_samples(&tone).iter().map(|p| p.level_db()).fold(-200.0, f32::max);
        assert!((loudest + 20.0).abs() < 1.5, "{loudest} dB");
    }
}
