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

use crate::params::{BIN_HZ, FRAME_LEN, FREQ_STEPS_PER_BIN, HOP_LEN, Params, Role, TIME_STEP_LEN};
use crate::spectrogram::BIN_COUNT;

/// Level of [`Peak::level`] 0, in dB relative to a full-scale sine.
const LEVEL_FLOOR_DB: f32 = -120.0;
/// A peak is compared with this many bins to either side.
const LOCAL_BINS: usize = 2;
/// Blocks of [`BlockMaxima`] in [`Params::rank_bins`].
const BLOCKS_PER_RADIUS: usize = 3;
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

/// A frame within the band of the peaks and [`LOCAL_BINS`] to either side of it.
#[derive(Debug)]
struct BandFrame {
    power: Vec<f32>,
    /// For each bin of the band the greatest power within ±[`LOCAL_BINS`]. The frames before and
    /// behind are compared with it too, so it is found once for three uses.
    local_max: Vec<f32>,
}

impl BandFrame {
    fn silent(band_len: usize) -> Self {
        Self { power: vec![0.0; band_len + 2 * LOCAL_BINS], local_max: vec![0.0; band_len] }
    }

    fn set(&mut self, power: &[f32]) {
        // A single instruction, unlike `f32::max`, which looks for NaN.
        let max = |a: f32, b: f32| if a > b { a } else { b };
        self.power.copy_from_slice(power);
        let band_len = self.local_max.len();
        let [p0, p1, p2, p3, p4] = shifted(&self.power, band_len);
        for (i, local_max) in self.local_max.iter_mut().enumerate() {
            *local_max = max(max(max(p0[i], p1[i]), max(p2[i], p3[i])), p4[i]);
        }
    }
}

/// The powers of all bins of the band, moved by −2 to +2 bins.
fn shifted(power: &[f32], band_len: usize) -> [&[f32]; 2 * LOCAL_BINS + 1] {
    std::array::from_fn(|i| &power[i..][..band_len])
}

/// The local maxima of one frame whose ranks are not known yet, ascending in frequency. One
/// vector for each of their properties: counting reads the powers only.
#[derive(Debug, Default)]
struct Candidates {
    bins: Vec<u16>,
    powers: Vec<f32>,
    around: Vec<Around>,
}

/// The powers next to a local maximum. They wait for its rank, because few candidates become
/// peaks, and logarithms are dear.
#[derive(Debug, Clone, Copy)]
struct Around {
    bin_below: f32,
    bin_above: f32,
    frame_before: f32,
    frame_behind: f32,
}

impl Candidates {
    fn clear(&mut self) {
        self.bins.clear();
        self.powers.clear();
        self.around.clear();
    }

    /// The peak that candidate `i` of frame `frame` is.
    fn interpolate(&self, i: usize, frame: usize, rank: u8) -> Peak {
        let (bin, power, around) = (self.bins[i], self.powers[i], self.around[i]);
        let d_bin = vertex(around.bin_below, power, around.bin_above);
        let d_frame = vertex(around.frame_before, power, around.frame_behind);
        // Whole milliseconds apart from the fraction, which f32 would lose after hours.
        let frame_ms = u32::try_from(frame).unwrap_or(u32::MAX).saturating_mul(HOP_MS);
        let level = (10.0 * power.log10() - LEVEL_FLOOR_DB) * 2.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` from float saturates, and all values are positive"
        )]
        Peak {
            time_ms: frame_ms
                .saturating_add((FRAME_CENTRE_MS + d_frame * HOP_MS as f32).round() as u32),
            freq: ((f32::from(bin) + d_bin) * FREQ_STEPS_PER_BIN as f32).round() as u16,
            level: level.round() as u8,
            rank,
        }
    }
}

/// The greatest power of the candidates of each frame in each block of bins: a summary that tells
/// of most candidates, without a look at the others, that too many are stronger.
///
/// Blocks are so narrow that those up to `reach` blocks away lie within ±[`Params::rank_bins`] of
/// every bin of a block. Their maxima belong to different candidates, so their number is a lower
/// bound of the rank.
#[derive(Debug)]
struct BlockMaxima {
    block_bins: usize,
    reach: usize,
    frame_count: usize,
    /// By block, then by frame modulo `frame_count`; 0 if there is no candidate. There are `reach`
    /// blocks more than needed at both ends.
    powers: Vec<f32>,
}

impl BlockMaxima {
    fn new(rank_bins: u16, frame_count: usize) -> Self {
        let radius = usize::from(rank_bins) + 1;
        let block_bins = (radius / BLOCKS_PER_RADIUS).max(1);
        let reach = radius / block_bins - 1;
        let block_count = BIN_COUNT.div_ceil(block_bins) + 2 * reach;
        Self { block_bins, reach, frame_count, powers: vec![0.0; block_count * frame_count] }
    }

    /// The maximum of a block in a frame.
    fn at(&mut self, block: usize, frame: usize) -> &mut f32 {
        &mut self.powers[(block + self.reach) * self.frame_count + frame % self.frame_count]
    }

    /// All maxima that are in the neighbourhood of every bin of a block.
    fn around(&self, block: usize) -> &[f32] {
        &self.powers[block * self.frame_count..(block + 2 * self.reach + 1) * self.frame_count]
    }

    /// Makes room for the frame that will have the same place. At the end of a recording none
    /// comes, and what is left must not count as neighbour of the last frames.
    fn forget(&mut self, frame: usize) {
        let powers = self.powers[frame % self.frame_count..].iter_mut();
        powers.step_by(self.frame_count).for_each(|power| *power = 0.0);
    }
}

/// How many of `powers` are greater than `power`.
fn count_stronger(powers: &[f32], power: f32) -> u32 {
    // Wrapping, because a check for overflow in each step keeps the compiler from making several
    // steps at once.
    powers.iter().fold(0_u32, |count, other| count.wrapping_add(u32::from(*other > power)))
}

/// Picks peaks from a stream of frames. Memory is bounded by the frames of one neighbourhood.
#[derive(Debug)]
pub struct PeakPicker {
    rank_max: u8,
    rank_bins: u16,
    rank_frames: usize,
    band: std::ops::Range<usize>,
    floor_power: f32,
    /// The last three frames; `next` is set for as long as the maxima of `current` are sought.
    previous: BandFrame,
    current: BandFrame,
    next: BandFrame,
    is_started: bool,
    /// For each bin of the band whether it is a local maximum; kept for its memory.
    is_maximum: Vec<u8>,
    /// Frames whose candidates are found, and of these the frames that are ranked.
    found_count: usize,
    ranked_count: usize,
    /// Candidates of the frames of one neighbourhood, each at its number modulo their count.
    candidates: Vec<Candidates>,
    block_maxima: BlockMaxima,
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
        let (lowest, highest) = (LOCAL_BINS, FRAME_LEN / 2 - LOCAL_BINS);
        let low = bin(params.band_low_hz).clamp(lowest, highest);
        let band = low..bin(params.band_high_hz).clamp(low, highest);
        let rank_frames = usize::from(params.rank_frames);
        let frame_count = 2 * rank_frames + 1;
        // Before the first frame there is nothing that could be stronger.
        let silent = || BandFrame::silent(band.len());
        Self {
            rank_max: params.rank_max(role),
            rank_bins: params.rank_bins,
            rank_frames,
            floor_power: 10_f32.powf(params.floor_db / 10.0),
            previous: silent(),
            current: silent(),
            next: silent(),
            is_started: false,
            is_maximum: Vec::new(),
            found_count: 0,
            ranked_count: 0,
            candidates: std::iter::repeat_with(Candidates::default).take(frame_count).collect(),
            block_maxima: BlockMaxima::new(params.rank_bins, frame_count),
            band,
        }
    }

    /// Takes the next frame (the power of [`crate::spectrogram::BIN_COUNT`] bins) and appends the
    /// peaks that are settled by it to `peaks`: those of [`Params::rank_frames`] + 1 frames ago,
    /// ascending in frequency.
    pub fn push(&mut self, frame: &[f32], peaks: &mut Vec<Peak>) {
        self.next.set(&frame[self.band.start - LOCAL_BINS..self.band.end + LOCAL_BINS]);
        if self.is_started {
            self.find_candidates();
            self.rank_settled(self.rank_frames, peaks);
        }
        self.is_started = true;
        std::mem::swap(&mut self.previous, &mut self.current);
        std::mem::swap(&mut self.current, &mut self.next);
    }

    /// Time in milliseconds before which no further peak will lie: half a hop before the centre of
    /// the first frame that is not ranked yet.
    #[must_use]
    pub fn settled_ms(&self) -> u32 {
        let frame_ms = u32::try_from(self.ranked_count).unwrap_or(u32::MAX).saturating_mul(HOP_MS);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the centre of frame 0 is at 128 ms"
        )]
        let centre_ms = FRAME_CENTRE_MS as u32;
        frame_ms.saturating_add(centre_ms - HOP_MS / 2)
    }

    /// Settles what is left and appends it to `peaks`.
    pub fn finish(mut self, peaks: &mut Vec<Peak>) {
        if self.is_started {
            self.next = BandFrame::silent(self.band.len());
            self.find_candidates();
            self.rank_settled(0, peaks);
        }
    }

    /// Finds the local maxima of the current frame, now that the one behind it is known.
    fn find_candidates(&mut self) {
        self.mark_maxima();
        let frame = self.found_count;
        let place = frame % self.candidates.len();
        let found = &mut self.candidates[place];
        found.clear();
        let (mut block, mut block_end) = (0, self.block_maxima.block_bins);
        // Few marks are set: eight are passed over at a time, or the next one is jumped to.
        let (words, []) = self.is_maximum.as_chunks::<8>() else {
            unreachable!("the marks were filled up to eight")
        };
        for (first, marks) in (0..).step_by(8).zip(words) {
            let mut marks = u64::from_le_bytes(*marks);
            while marks != 0 {
                let i = first + marks.trailing_zeros() as usize / 8;
                marks &= marks - 1;
                let bin = self.band.start + i;
                let at = i + LOCAL_BINS;
                let power = self.current.power[at];
                found.bins.push(u16::try_from(bin).expect("a frame has 2049 bins"));
                found.powers.push(power);
                found.around.push(Around {
                    bin_below: self.current.power[at - 1],
                    bin_above: self.current.power[at + 1],
                    frame_before: self.previous.power[at],
                    frame_behind: self.next.power[at],
                });
                while bin >= block_end {
                    block += 1;
                    block_end += self.block_maxima.block_bins;
                }
                let block_max = self.block_maxima.at(block, frame);
                *block_max = block_max.max(power);
            }
        }
        self.found_count += 1;
    }

    /// Marks the bins that are stronger than all others within ±2 bins and ±1 frame. Equal
    /// neighbours occur in synthetic audio: the lower bin and the earlier frame win.
    ///
    /// All comparisons are made for all bins, without branches, so that the compiler makes them
    /// for several bins at once.
    fn mark_maxima(&mut self) {
        let band_len = self.band.len();
        let [c0, c1, c2, ..] = shifted(&self.current.power, band_len);
        let before = &self.previous.local_max[..band_len];
        let own = &self.current.local_max[..band_len];
        let behind = &self.next.local_max[..band_len];
        let floor_power = self.floor_power;
        self.is_maximum.clear();
        self.is_maximum.extend((0..band_len).map(|i| {
            let power = c2[i];
            u8::from(
                (power > floor_power)
                    & (power > c0[i])
                    & (power > c1[i])
                    & (power >= own[i])
                    & (power > before[i])
                    & (power >= behind[i]),
            )
        }));
        self.is_maximum.resize(band_len.next_multiple_of(8), 0);
    }

    /// Ranks the frames that have `lookahead` frames of candidates behind them.
    fn rank_settled(&mut self, lookahead: usize, peaks: &mut Vec<Peak>) {
        while self.ranked_count + lookahead < self.found_count {
            let frame = self.ranked_count;
            self.rank_frame(frame, peaks);
            if let Some(oldest) = frame.checked_sub(self.rank_frames) {
                self.block_maxima.forget(oldest);
            }
            self.ranked_count += 1;
        }
    }

    /// Ranks the candidates of one frame and appends those that are kept to `peaks`.
    fn rank_frame(&self, frame: usize, peaks: &mut Vec<Peak>) {
        let candidates = &self.candidates[frame % self.candidates.len()];
        let (mut block, mut block_end) = (0, self.block_maxima.block_bins);
        // The strongest candidate that the maxima around the present block have outdone.
        let mut outdone = 0.0;
        for (i, (bin, power)) in candidates.bins.iter().zip(&candidates.powers).enumerate() {
            while usize::from(*bin) >= block_end {
                block += 1;
                block_end += self.block_maxima.block_bins;
                outdone = 0.0;
            }
            if *power <= outdone {
                continue;
            }
            let around = self.block_maxima.around(block);
            if count_stronger(around, *power) > u32::from(self.rank_max) {
                outdone = *power;
                continue;
            }
            if let Some(rank) = self.rank(frame, *bin, *power) {
                peaks.push(candidates.interpolate(i, frame, rank));
            }
        }
    }

    /// Counts the stronger candidates around; none if there are too many.
    fn rank(&self, frame: usize, bin: u16, power: f32) -> Option<u8> {
        let low = bin.saturating_sub(self.rank_bins);
        let high = bin.saturating_add(self.rank_bins);
        let first = frame.saturating_sub(self.rank_frames);
        let last = (frame + self.rank_frames).min(self.found_count - 1);
        let mut rank = 0;
        for other in first..=last {
            let others = &self.candidates[other % self.candidates.len()];
            let start = others.bins.partition_point(|bin| *bin < low);
            let end = others.bins.partition_point(|bin| *bin <= high);
            rank += count_stronger(&others.powers[start..end], power);
            if rank > u32::from(self.rank_max) {
                return None;
            }
        }
        u8::try_from(rank).ok()
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
mod tests;
