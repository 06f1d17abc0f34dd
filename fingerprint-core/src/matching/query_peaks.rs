//! Query peaks, and how likely each is to meet a track's peak by chance.
//!
//! Position in the flow: the query's side of verification; [`super::evidence`] weighs with it.
//!
//! A chance alignment meets a query peak more easily where the query has many: at the frequency of
//! a note that is played over and over, at the moment of a drum that sounds at all frequencies, and
//! at the level that most peaks have. So each peak carries an *intensity* (expected peaks per
//! frame and bin around it, itself left out) and the *density of its level* (per dB). Without the
//! crowding in time, aligned drums look like matches.

use super::mapping::bin;
use crate::peaks::Peak;

/// Step between frames, in ms.
pub(super) const FRAME_MS: f32 = 32.0;
/// Peaks of query and track may lie this far apart in time: 0.8 frame, in ms.
pub(super) const TIME_TOLERANCE_MS: f32 = 25.6;
/// Half heights, in bins, of the neighbourhoods in which the density over frequency is taken:
/// one note, and the register around it.
const NOTE_BINS: f32 = 0.25;
const REGISTER_BINS: f32 = 40.0;
/// Shares of a note, of the tolerance and of the register in the density over frequency.
const NOTE_SHARE: f32 = 0.45;
const TOLERANCE_SHARE: f32 = 0.35;
const REGISTER_SHARE: f32 = 0.2;
/// Peaks of about the same level: this far apart, in dB, and in steps of [`Peak::level`].
const SAME_LEVEL_DB: f32 = 3.0;
const SAME_LEVEL_STEPS: u8 = 6;
/// Half of the neighbourhood in which a peak is ranked: ±375 Hz and ±160 ms, as the picker does.
const RANK_BINS: f32 = 96.0;
const RANK_MS: f32 = 160.0;
/// Most peaks that are compared for an expected rank; in real audio the neighbourhood has 30 to 60.
const NEAR_MAX: usize = 2_048;
/// Rows of the lookup by frequency: bins of a frame and one behind.
const ROWS: usize = 4097;

/// Half height of the kernel in bins: peaks at high frequencies move more.
pub(super) fn freq_tolerance(bin: f32) -> f32 {
    1.5 + 0.002 * bin
}

/// Level in dB above the floor of levels.
pub(super) fn level_db(peak: &Peak) -> f32 {
    f32::from(peak.level) / 2.0
}

/// A query peak as verification needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryPeak {
    /// Time in ms since the first peak of the query.
    pub(super) time_ms: f32,
    /// Frequency in bins.
    pub(super) bin: f32,
    /// See [`level_db`].
    pub(super) level_db: f32,
    /// One over the expected number of peaks per frame and bin.
    pub(super) rarity: f32,
    /// One over the density of the level, per dB.
    pub(super) level_rarity: f32,
}

/// The peaks of one query or of one window of it.
#[derive(Debug)]
pub(super) struct QueryPeaks {
    /// Time of the first and the last peak, in ms since the start of the whole query.
    pub(super) span_ms: Option<(u32, u32)>,
    /// By frequency.
    by_freq: Vec<QueryPeak>,
    /// First place in `by_freq` at or above each bin.
    rows: Vec<u32>,
    /// Time, bin and level by time, as columns: counting runs over them.
    times: Vec<f32>,
    bins: Vec<f32>,
    levels: Vec<f32>,
    /// First place in the columns at or behind each frame.
    frames: Vec<u32>,
    /// Whether there is any peak in the register around a bin: a codec or a telephone may have
    /// taken a whole band away, in which a track's peaks cannot be missed.
    has_register: Vec<bool>,
}

impl QueryPeaks {
    /// `peaks` must be ascending in time.
    pub(super) fn new(peaks: &[Peak]) -> Self {
        let span_ms = peaks.first().zip(peaks.last()).map(|(a, b)| (a.time_ms, b.time_ms));
        let (start_ms, end_ms) = span_ms.unwrap_or_default();
        let length_ms = (end_ms - start_ms) as f32;
        let times: Vec<f32> = peaks.iter().map(|p| (p.time_ms - start_ms) as f32).collect();
        let bins: Vec<f32> = peaks.iter().map(bin).collect();
        let levels: Vec<f32> = peaks.iter().map(level_db).collect();

        let mut order: Vec<usize> = (0..peaks.len()).collect();
        order.sort_unstable_by_key(|i| (peaks[*i].freq, *i));
        let sorted_bins: Vec<f32> = order.iter().map(|i| bins[*i]).collect();
        let sorted_levels: Vec<u8> = order.iter().map(|i| peaks[*i].level).collect();
        let mean_crowd = times.len() as f32 * 2.0 * TIME_TOLERANCE_MS / length_ms.max(FRAME_MS);
        let frame_count = (length_ms / FRAME_MS).max(1.0);
        let by_freq = order
            .iter()
            .zip(as_loud(&sorted_levels, &sorted_bins))
            .map(|(i, as_loud)| {
                let (time_ms, bin, level_db) = (times[*i], bins[*i], levels[*i]);
                let around = |half: f32| {
                    let low = sorted_bins.partition_point(|b| *b < bin - half);
                    let high = sorted_bins.partition_point(|b| *b <= bin + half);
                    low..high
                };
                // All neighbours but the peak itself.
                let count = |half: f32| (around(half).len() - 1) as f32;
                let tolerance = freq_tolerance(bin);
                let register = around(REGISTER_BINS);
                let in_register = register.len() as f32;
                let density = NOTE_SHARE * count(NOTE_BINS) / (2.0 * NOTE_BINS)
                    + TOLERANCE_SHARE * (count(tolerance) + 0.3) / (2.0 * tolerance)
                    + REGISTER_SHARE * in_register / (2.0 * REGISTER_BINS);
                let crowd = {
                    let low = times.partition_point(|t| *t < time_ms - TIME_TOLERANCE_MS);
                    let high = times.partition_point(|t| *t <= time_ms + TIME_TOLERANCE_MS);
                    (high - low) as f32
                };
                let crowding = (crowd + 0.3) / (mean_crowd + 0.3);
                QueryPeak {
                    time_ms,
                    bin,
                    level_db,
                    rarity: frame_count / (density * crowding),
                    // Itself counts once, in the place of a prior.
                    level_rarity: (in_register + 8.0) * 2.0 * SAME_LEVEL_DB / as_loud,
                }
            })
            .collect();

        let has_register = (0..ROWS)
            .map(|row| {
                let (low, high) = (row as f32 - RANK_BINS / 2.0, row as f32 + RANK_BINS / 2.0);
                let low = sorted_bins.partition_point(|b| *b < low);
                sorted_bins.get(low + 3).is_some_and(|b| *b <= high)
            })
            .collect();
        Self {
            span_ms,
            by_freq,
            rows: starts(&sorted_bins, 1.0, ROWS),
            frames: starts(&times, FRAME_MS, whole(frame_count) + 2),
            times,
            bins,
            levels,
            has_register,
        }
    }

    /// The peaks whose frequency lies within `half` bins of `bin`, in ascending order.
    pub(super) fn near_bin(&self, bin: f32, half: f32) -> impl Iterator<Item = &QueryPeak> {
        let row = |bin: f32| place(&self.rows, bin);
        self.by_freq[row(bin - half)..row(bin + half + 1.0)]
            .iter()
            .filter(move |peak| (peak.bin - bin).abs() <= half)
    }

    /// How many peaks that are louder lie in the neighbourhood in which a peak at this place would
    /// be ranked: the rank that it would have, if it sounded in the query. `None` if the query has
    /// nothing in its register at any time.
    pub(super) fn expected_rank(&self, time_ms: f32, bin: f32, level_db: f32) -> Option<usize> {
        if !self.has_register.get(whole(bin)).is_some_and(|has| *has) {
            return None;
        }
        let low = place(&self.frames, (time_ms - RANK_MS) / FRAME_MS);
        let high = place(&self.frames, (time_ms + RANK_MS) / FRAME_MS + 1.0);
        let high = high.min(low + NEAR_MAX);
        let near = self.times[low..high].iter().zip(&self.bins[low..high]);
        let louder = near.zip(&self.levels[low..high]).filter(|((t, b), level)| {
            // Without branches, so that several peaks are compared at once.
            ((**t - time_ms).abs() <= RANK_MS)
                & ((**b - bin).abs() <= RANK_BINS)
                & (**level > level_db)
        });
        Some(louder.count())
    }
}

/// For each of the peaks, ascending in frequency, how many of its register are about as loud, itself
/// included: a histogram of levels that moves with the register.
fn as_loud(levels: &[u8], bins: &[f32]) -> Vec<f32> {
    let mut histogram = [0_u16; 256];
    let (mut low, mut high) = (0, 0);
    let mut counts = Vec::with_capacity(bins.len());
    for (bin, level) in bins.iter().zip(levels) {
        while bins.get(high).is_some_and(|b| *b <= bin + REGISTER_BINS) {
            let count = &mut histogram[usize::from(levels[high])];
            *count = count.saturating_add(1);
            high += 1;
        }
        while bins[low] < bin - REGISTER_BINS {
            let count = &mut histogram[usize::from(levels[low])];
            *count = count.saturating_sub(1);
            low += 1;
        }
        let near = level.saturating_sub(SAME_LEVEL_STEPS)..=level.saturating_add(SAME_LEVEL_STEPS);
        let count: f32 = near.map(|level| f32::from(histogram[usize::from(level)])).sum();
        counts.push(count.max(1.0));
    }
    counts
}

/// A coordinate without its fraction; 0 if it is negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` from float saturates"
)]
fn whole(value: f32) -> usize {
    value as usize
}

/// Place in `starts` for a coordinate that may lie outside.
fn place(starts: &[u32], at: f32) -> usize {
    starts[whole(at).min(starts.len() - 1)] as usize
}

/// For each step of width `step` the first of the ascending `values` that lies in it or behind;
/// one more at the end for all of them.
fn starts(values: &[f32], step: f32, count: usize) -> Vec<u32> {
    let mut starts = Vec::with_capacity(count + 1);
    let mut next = 0;
    for row in 0..count {
        while values.get(next).is_some_and(|value| *value < row as f32 * step) {
            next += 1;
        }
        starts.push(u32::try_from(next).unwrap_or(u32::MAX));
    }
    starts.push(u32::try_from(values.len()).unwrap_or(u32::MAX));
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_peaks(count: u32, seed: u64) -> Vec<Peak> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut peaks: Vec<_> = (0..count)
            .map(|_| Peak {
                time_ms: 5_000 + rng.u32(0..10_000),
                freq: rng.u16(620..22_000),
                level: rng.u8(60..200),
                rank: 0,
            })
            .collect();
        peaks.sort_unstable();
        peaks
    }

    #[test]
    fn lookups_find_what_a_scan_finds() {
        let peaks = random_peaks(700, 1);
        let query = QueryPeaks::new(&peaks);
        let (start_ms, _) = query.span_ms.unwrap();
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..300 {
            let (centre, half) = (rng.f32() * 1_500.0 - 20.0, 1.0 + rng.f32() * 5.0);
            let found = query.near_bin(centre, half).count();
            let expected = peaks.iter().filter(|p| (bin(p) - centre).abs() <= half).count();
            assert_eq!(found, expected, "{centre} ± {half} bins");

            let (time_ms, level) = (rng.f32() * 11_000.0 - 500.0, rng.f32() * 100.0);
            let louder = |p: &&Peak| {
                ((p.time_ms - start_ms) as f32 - time_ms).abs() <= RANK_MS
                    && (bin(p) - centre).abs() <= RANK_BINS
                    && level_db(p) > level
            };
            if let Some(rank) = query.expected_rank(time_ms, centre, level) {
                assert_eq!(rank, peaks.iter().filter(louder).count(), "{time_ms} ms");
            }
        }
    }

    #[test]
    fn a_note_that_is_repeated_is_less_rare_than_one_that_is_not() {
        let mut peaks = random_peaks(300, 3);
        peaks.retain(|peak| !(7_000..9_000).contains(&peak.freq));
        peaks.extend((0..20).map(|i| Peak {
            time_ms: 5_100 + i * 400,
            freq: 8_000,
            level: 120,
            rank: 0,
        }));
        peaks.push(Peak { time_ms: 7_030, freq: 8_700, level: 120, rank: 0 });
        peaks.sort_unstable();
        let query = QueryPeaks::new(&peaks);
        let rarity = |bin: f32| query.near_bin(bin, 0.1).next().unwrap().rarity;
        assert!(rarity(543.75) > 10.0 * rarity(500.0), "{} {}", rarity(543.75), rarity(500.0));
    }

    #[test]
    fn where_the_query_has_nothing_no_peak_can_be_missed() {
        let peaks: Vec<_> =
            random_peaks(500, 4).into_iter().filter(|peak| peak.freq < 10_000).collect();
        let query = QueryPeaks::new(&peaks);
        assert!(query.expected_rank(3_000.0, 300.0, 50.0).is_some());
        assert_eq!(query.expected_rank(3_000.0, 1_200.0, 50.0), None);
        assert_eq!(QueryPeaks::new(&[]).expected_rank(0.0, 300.0, 0.0), None);
        assert_eq!(QueryPeaks::new(&[]).near_bin(300.0, 3.0).count(), 0);
    }
}
