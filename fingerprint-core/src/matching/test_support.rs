//! Made-up constellations for the tests of verification.

use super::mapping::Mapping;
use crate::peaks::Peak;

/// Peaks at random places of 10 s, with the levels of music: most are weak.
pub(super) fn random_peaks(count: u32, seed: u64) -> Vec<Peak> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut peaks: Vec<_> = (0..count)
        .map(|_| Peak {
            time_ms: rng.u32(0..10_000),
            freq: rng.u16(620..22_000),
            level: 60 + rng.u8(0..70) + rng.u8(0..70),
            rank: 0,
        })
        .collect();
    peaks.sort_unstable();
    peaks
}

/// A track that the query plays by `mapping`: every third of its peaks, as an index is sparser,
/// 6 dB louder.
pub(super) fn track_of(query: &[Peak], mapping: Mapping) -> Vec<Peak> {
    let back = |peak: &Peak| Peak {
        time_ms: mapping.to_track_ms(f64::from(peak.time_ms)).round() as u32,
        freq: (f64::from(peak.freq) / mapping.ln_pitch.exp()).round() as u16,
        level: peak.level + 12,
        ..*peak
    };
    let mut track: Vec<_> = query.iter().step_by(3).map(back).collect();
    track.sort_unstable();
    track
}
