//! What the benches share: made-up tracks whose landmarks are spread like those of music.

use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{Metadata, NewTrack};
use fingerprint_core::params::{BIN_HZ, FREQ_STEPS_PER_BIN};
use fingerprint_core::peaks::Peak;
use fingerprint_core::units::{ContentHash, TrackId};

/// Peaks a second up to rank 2, as measured on music.
const PEAKS_PER_S: u32 = 44;

/// A track of `duration_s` seconds, the same for the same `seed`.
///
/// Notes of a seven-tone scale with up to eight partials, started on a beat and detuned a little:
/// ratios and time differences then repeat as they do in music, so that posting lists are as
/// uneven as real ones. It does not try to be *as* uneven as any given catalog.
///
/// # Panics
///
/// Never; the ids made here are valid.
#[must_use]
pub fn synthetic_track(seed: u64, duration_s: u32) -> NewTrack {
    let mut rng = fastrand::Rng::with_seed(seed);
    let tonic_hz = 55.0 * 2_f32.powf(rng.f32());
    let beat_ms = rng.f32() * 120.0 + 90.0;
    let mut peaks: Vec<Peak> = (0..duration_s * PEAKS_PER_S)
        .map(|_| synthetic_peak(&mut rng, duration_s, tonic_hz, beat_ms))
        .collect();
    peaks.sort_unstable();
    peaks.dedup();
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&seed.to_be_bytes());
    NewTrack {
        id: TrackId::new(format!("synthetic-{seed:07}")).expect("a short printable id"),
        metadata: Metadata { title: Some(format!("Synthetic {seed}")), ..Metadata::default() },
        fingerprint: Fingerprint {
            duration_ms: u64::from(duration_s) * 1000,
            content_hash: ContentHash(hash),
            level_db: -18.0,
            peaks,
        },
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and frequencies are positive and far below the limits of their types"
)]
fn synthetic_peak(rng: &mut fastrand::Rng, duration_s: u32, tonic_hz: f32, beat_ms: f32) -> Peak {
    const SCALE: [f32; 7] = [0.0, 2.0, 4.0, 5.0, 7.0, 9.0, 11.0];
    let semitones = SCALE[rng.usize(..SCALE.len())] + 12.0 * rng.u8(1..4) as f32;
    // Half of the partials are tuned by players, half lie where noise and drums put them.
    let partial_hz = tonic_hz * 2_f32.powf(semitones / 12.0) * rng.u8(1..9) as f32;
    let hz = if rng.bool() { partial_hz } else { 150.0 * 25_f32.powf(rng.f32()) };
    let detune = 1.0 + (rng.f32() + rng.f32() - 1.0) * 0.004;
    let beats = duration_s as f32 * 1e3 / beat_ms - 1.0;
    let time_ms = (rng.f32() * beats).floor() * beat_ms + rng.f32() * 60.0;
    let steps = (hz * detune).clamp(160.0, 5_400.0) / BIN_HZ * FREQ_STEPS_PER_BIN as f32;
    Peak {
        time_ms: time_ms as u32,
        freq: steps as u16,
        level: 120 + rng.u8(..80),
        // 30 of 44 peaks a second have rank 0 or 1.
        rank: [0, 1, 1, 2][rng.usize(..4)].min(2),
    }
}
