//! A glance: a few of a window's pairs, and whether what they show is all there is to be found.
//!
//! Most queries of an upload pipeline are plain copies. A few pairs suffice to find them, and nine tenths
//! of the reading could be left out, but for what else may be in the window: under music that is found beyond
//! doubt another track may play, as loud or a little softer. That shows in the query's foremost peaks, those of
//! rank 0: of a plain copy nearly all are the track's, of a mixture many are not.

use super::mapping::{Mapping, bin, narrow};
use super::query_peaks::{TIME_TOLERANCE_MS, freq_tolerance};
use crate::peaks::Peak;

/// Share of the foremost peaks of a window that a track's peaks explain, when it lies there by `mapping`.
///
/// Both must be ascending in time.
pub(super) fn explained_share(window: &[Peak], track: &[Peak], mapping: Mapping) -> f32 {
    let Some(first) = window.first() else { return 0.0 };
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
    let (mut low, mut count, mut explained_count) = (0, 0_u32, 0_u32);
    for peak in window.iter().filter(|peak| peak.rank == 0) {
        let time_ms = narrow(f64::from(peak.time_ms) - origin_ms);
        let bin = bin(peak);
        while expected.get(low).is_some_and(|(at, _)| *at < time_ms - TIME_TOLERANCE_MS) {
            low += 1;
        }
        let near = expected[low..].iter().take_while(|(at, _)| *at <= time_ms + TIME_TOLERANCE_MS);
        let is_explained = near.map(|(_, at)| at).any(|at| (at - bin).abs() <= freq_tolerance(bin));
        count += 1;
        explained_count += u32::from(is_explained);
    }
    explained_count as f32 / count.max(1) as f32
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
    fn a_copy_is_explained_and_a_mixture_by_half() {
        let (ours, other) = (foremost(300, 1), foremost(300, 2));
        assert!(explained_share(&ours, &in_track(&ours), MOVED) > 0.999);
        let mut mixture = [ours.clone(), other].concat();
        mixture.sort_unstable();
        let share = explained_share(&mixture, &in_track(&ours), MOVED);
        assert!((0.5..0.6).contains(&share), "{share}");
        // What is behind others is no sign of another track.
        let behind = random_peaks(600, 3).into_iter().map(|peak| Peak { rank: 3, ..peak });
        let mut with_more: Vec<Peak> = ours.iter().copied().chain(behind).collect();
        with_more.sort_unstable();
        assert!(explained_share(&with_more, &in_track(&ours), MOVED) > 0.999);
    }

    #[test]
    fn peaks_elsewhere_explain_nothing() {
        let ours = foremost(300, 1);
        let elsewhere = Mapping { track_ms: 75_000.0, ..MOVED };
        assert!(explained_share(&ours, &in_track(&ours), elsewhere) < 0.2);
        assert!(explained_share(&[], &in_track(&ours), MOVED) < 0.1);
        assert!(explained_share(&ours, &[], MOVED) < 0.1);
    }
}
