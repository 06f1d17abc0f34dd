//! Tempo without pitch, in the time domain: the plain method of cheap players and of browsers.
//!
//! # Source
//!
//! W. Verhelst and M. Roelands, "An overlap-add technique based on waveform similarity (WSOLA)",
//! ICASSP 1993: pieces of the sound are laid one over the other at their new distance, each taken
//! from where, near its place, it goes on best from the piece before.

use super::count;

/// Length of a piece in seconds.
const PIECE_S: f64 = 0.06;
/// How far from its place a piece may be taken, in seconds: half a period of 40 Hz.
const SEARCH_S: f64 = 0.012;
/// Step of the search, and of the sum that judges a place, in samples: music has its energy far
/// below the rate.
const STRIDE: usize = 4;

/// `samples`, played `tempo` times as fast at the same pitch. About 0.2 s at the end are lost.
///
/// # Panics
///
/// If `tempo` is not above zero.
#[must_use]
pub fn stretch(samples: &[f32], rate_hz: u32, tempo: f64) -> Vec<f32> {
    assert!(tempo.is_finite() && tempo > 0.0, "a tempo of {tempo} leads nowhere");
    let rate = f64::from(rate_hz);
    let half = count(PIECE_S * rate / 2.0).max(1);
    let search = count(SEARCH_S * rate);
    // Rises over half a piece; with what falls in the piece before, it sums to one.
    let rise: Vec<f32> = (0..half)
        .map(|n| {
            let phase = std::f32::consts::PI * (n as f32 + 0.5) / half as f32;
            0.5 - 0.5 * phase.cos()
        })
        .collect();
    let mut stretched = Vec::with_capacity(count(samples.len() as f64 / tempo));
    // What follows the last piece in the recording, and so what the next one should be like.
    let mut natural = 0;
    for piece in 0.. {
        let place = count(piece as f64 * half as f64 * tempo);
        if place + search + 2 * half > samples.len() || natural + half > samples.len() {
            break;
        }
        let from = place.saturating_sub(search);
        let wanted = &samples[natural..natural + half];
        let best = (from..=place + search)
            .step_by(STRIDE)
            .map(|start| (start, similarity(&samples[start..start + half], wanted)))
            .fold((place, f32::MIN), |best, next| if next.1 > best.1 { next } else { best })
            .0;
        let taken = if piece == 0 { 0 } else { best };
        let fresh = &samples[taken..taken + half];
        stretched.extend(
            rise.iter().zip(fresh).zip(wanted).map(|((r, new), old)| new * r + old * (1.0 - r)),
        );
        natural = taken + half;
    }
    stretched
}

/// Normalised correlation of two pieces of one length.
fn similarity(a: &[f32], b: &[f32]) -> f32 {
    let (mut product, mut square) = (0.0, 1e-9);
    for (x, y) in a.iter().step_by(STRIDE).zip(b.iter().step_by(STRIDE)) {
        product += x * y;
        square += x * x;
    }
    product / square.sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{RATE_HZ, change_db, hz_of, sine};
    use super::*;

    #[test]
    fn a_sine_keeps_its_pitch_and_level_at_any_tempo() {
        let original = sine(441.0, 88_200);
        for tempo in [0.8, 0.9, 1.0, 1.04, 1.25] {
            let stretched = stretch(&original, RATE_HZ, tempo);
            let lost = 88_200.0 / tempo - stretched.len() as f64;
            assert!((0.0..0.2 * 44_100.0).contains(&lost), "tempo {tempo}: {lost} samples lost");
            assert!((hz_of(&stretched) - 441.0).abs() < 4.0, "tempo {tempo}");
            assert!(change_db(&stretched, &original).abs() < 0.5, "tempo {tempo}");
        }
    }

    #[test]
    fn a_click_moves_to_where_it_belongs() {
        let mut samples = vec![0.0; 88_200];
        samples[44_100] = 1.0;
        for tempo in [0.9, 1.1] {
            let stretched = stretch(&samples, RATE_HZ, tempo);
            let loudest = (0..stretched.len())
                .max_by(|a, b| stretched[*a].total_cmp(&stretched[*b]))
                .unwrap();
            let late_s = (loudest as f64 - 44_100.0 / tempo) / f64::from(RATE_HZ);
            assert!(late_s.abs() < PIECE_S, "tempo {tempo}: {late_s} s late");
        }
    }

    #[test]
    fn what_is_shorter_than_a_piece_is_lost() {
        assert!(stretch(&[], RATE_HZ, 1.1).is_empty());
        assert!(stretch(&sine(440.0, 1_000), RATE_HZ, 1.1).is_empty());
    }
}
