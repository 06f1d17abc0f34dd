//! A glance: a few of a window's pairs, and whether what they show is all there is to be found.
//!
//! Most queries of an upload pipeline are plain copies. A few pairs suffice to find them, and nine tenths
//! of the reading could be left out, but for what else may be in the window: under music that is found beyond
//! doubt another track may play, as loud or a little softer. That shows in the query's foremost peaks, those of
//! rank 0: of a plain copy nearly all are the track's, of a mixture many are not.

use super::mapping::{Mapping, bin, narrow};
use super::query_peaks::{TIME_TOLERANCE_MS, freq_tolerance};
use crate::peaks::Peak;

/// Share of the foremost peaks that must be explained, in the whole window …
const SHARE_MIN: f32 = 0.88;
/// … and in each part of it of this length, in ms, so that nothing else begins or ends there …
const PART_MS: u32 = 2_000;
const PART_SHARE_MIN: f32 = 0.6;
/// … if the part has enough of them to tell.
const PART_COUNT_MIN: u32 = 8;

/// Foremost peaks, and those of them that a track explains.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: u32,
    explained: u32,
}

impl Count {
    fn share(self) -> f32 {
        self.explained as f32 / self.all.max(1) as f32
    }
}

/// Whether a track that lies in a window by `mapping` explains its foremost peaks, everywhere.
///
/// Peaks of both must be ascending in time.
pub(super) fn explains(window: &[Peak], track: &[Peak], mapping: Mapping) -> bool {
    let parts = count(window, track, mapping);
    let whole = parts.iter().fold(Count::default(), |sum, part| Count {
        all: sum.all + part.all,
        explained: sum.explained + part.explained,
    });
    let is_silent = |part: &Count| part.all < PART_COUNT_MIN;
    whole.share() >= SHARE_MIN
        && parts.iter().all(|part| is_silent(part) || part.share() >= PART_SHARE_MIN)
}

/// Counts in each part of the window.
fn count(window: &[Peak], track: &[Peak], mapping: Mapping) -> Vec<Count> {
    let (Some(first), Some(last)) = (window.first(), window.last()) else { return Vec::new() };
    let part_of = |peak: &Peak| ((peak.time_ms - first.time_ms) / PART_MS) as usize;
    let mut parts = vec![Count::default(); part_of(last) + 1];
    // Single precision is enough only for times that are small.
    let origin_ms = f64::from(first.time_ms);
    let projection = mapping.projection();
    let middle_ms = narrow(mapping.query_ms - origin_ms);
    let expected: Vec<(f32, f32)> = track
        .iter()
        .map(|peak| {
            let (from_middle_ms, bin) = projection.place(peak);
            (middle_ms + from_middle_ms, bin)
        })
        .collect();
    let mut low = 0;
    for peak in window.iter().filter(|peak| peak.rank == 0) {
        let time_ms = narrow(f64::from(peak.time_ms) - origin_ms);
        let bin = bin(peak);
        while expected.get(low).is_some_and(|(at, _)| *at < time_ms - TIME_TOLERANCE_MS) {
            low += 1;
        }
        let near = expected[low..].iter().take_while(|(at, _)| *at <= time_ms + TIME_TOLERANCE_MS);
        let is_explained = near.map(|(_, at)| at).any(|at| (at - bin).abs() <= freq_tolerance(bin));
        let part = &mut parts[part_of(peak)];
        part.all += 1;
        part.explained += u32::from(is_explained);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::test_support::random_peaks;

    const MOVED: Mapping =
        Mapping { query_ms: 5_000.0, track_ms: 65_000.0, ln_speed: 0.0, ln_pitch: 0.0 };

    fn foremost(count: u32, seed: u64) -> Vec<Peak> {
        random_peaks(count, seed).into_iter().map(|peak| Peak { rank: 0, ..peak }).collect()
    }

    fn in_track(peaks: &[Peak]) -> Vec<Peak> {
        peaks.iter().map(|peak| Peak { time_ms: peak.time_ms + 60_000, ..*peak }).collect()
    }

    #[test]
    fn a_copy_is_explained_and_a_mixture_is_not() {
        let (ours, other) = (foremost(300, 1), foremost(300, 2));
        assert!(explains(&ours, &in_track(&ours), MOVED));
        let mut mixture = [ours.clone(), other].concat();
        mixture.sort_unstable();
        assert!(!explains(&mixture, &in_track(&ours), MOVED));
        // What is behind others is no sign of another track.
        let behind = random_peaks(600, 3).into_iter().map(|peak| Peak { rank: 3, ..peak });
        let mut with_more: Vec<Peak> = ours.iter().copied().chain(behind).collect();
        with_more.sort_unstable();
        assert!(explains(&with_more, &in_track(&ours), MOVED));
    }

    #[test]
    fn another_track_in_the_last_seconds_is_noticed() {
        let ours = foremost(600, 1);
        let is_last = |peak: &Peak| peak.time_ms > 9_000;
        let other = foremost(600, 2).into_iter().filter(is_last);
        let mut window: Vec<Peak> =
            ours.iter().copied().filter(|peak| !is_last(peak)).chain(other).collect();
        window.sort_unstable();
        assert!(!explains(&window, &in_track(&ours), MOVED));
    }

    #[test]
    fn peaks_elsewhere_explain_nothing() {
        let ours = foremost(300, 1);
        let elsewhere = Mapping { track_ms: 75_000.0, ..MOVED };
        assert!(!explains(&ours, &in_track(&ours), elsewhere));
        assert!(!explains(&[], &in_track(&ours), MOVED));
        assert!(!explains(&ours, &[], MOVED));
    }
}
