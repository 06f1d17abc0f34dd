//! Properties of whole fingerprints: chunking, shift, encoding.

use std::f32::consts::TAU;

use proptest::prelude::*;

use super::*;

/// Chords of decaying partials that change four times a second: peaks like those of music.
fn music(seconds: f32, rate_hz: u32, seed: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let rate = rate_hz as f32;
    let mut samples = vec![0.0; (seconds * rate) as usize];
    for note in 0..(seconds * 4.0) as usize {
        let start = (note as f32 * 0.25 * rate) as usize;
        for _ in 0..3 {
            let hz = 200.0 + 2_000.0 * rng.f32() * rng.f32();
            for (n, sample) in samples[start..].iter_mut().take((0.5 * rate) as usize).enumerate() {
                let t = n as f32 / rate;
                let partial = |k: f32| (TAU * hz * k * t).sin() / k;
                *sample += 0.1 * (-4.0 * t).exp() * (partial(1.0) + partial(2.0) + partial(3.0));
            }
        }
    }
    samples
}

fn fingerprint(chunks: &[&[f32]], rate_hz: u32) -> Fingerprint {
    let mut fingerprinter = Fingerprinter::new(&Params::default(), Role::Query);
    for chunk in chunks {
        fingerprinter.push(chunk, rate_hz).unwrap();
    }
    fingerprinter.finish()
}

#[test]
fn any_chunking_gives_the_same_fingerprint() {
    let samples = music(4.0, 44_100, 1);
    let whole = fingerprint(&[&samples], 44_100);
    assert!(whole.peaks.len() > 50, "{} peaks", whole.peaks.len());
    assert_eq!(whole.duration_ms, 4_000);
    for chunk_len in [1, 333, 1_024, 44_099] {
        let chunks: Vec<_> = samples.chunks(chunk_len).collect();
        assert_eq!(fingerprint(&chunks, 44_100), whole, "chunks of {chunk_len}");
    }
}

#[test]
fn the_same_sound_at_another_rate_has_nearly_the_same_peaks() {
    let (at_16k, at_48k) = (music(4.0, 16_000, 2), music(4.0, 48_000, 2));
    let (a, b) = (fingerprint(&[&at_16k], 16_000), fingerprint(&[&at_48k], 48_000));
    let strong =
        |f: &Fingerprint| f.peaks.iter().filter(|p| p.rank == 0).copied().collect::<Vec<_>>();
    let (a, b) = (strong(&a), strong(&b));
    let near = |p: &&Peak| {
        b.iter().any(|q| p.time_ms.abs_diff(q.time_ms) <= 8 && p.freq.abs_diff(q.freq) <= 8)
    };
    let share = a.iter().filter(near).count() as f64 / a.len() as f64;
    assert!(share > 0.8, "{share} of {} peaks", a.len());
}

#[test]
fn a_change_of_rate_in_mid_stream_keeps_the_time() {
    let mut fingerprinter = Fingerprinter::new(&Params::default(), Role::Query);
    fingerprinter.push(&music(2.0, 44_100, 3), 44_100).unwrap();
    fingerprinter.push(&music(2.0, 22_050, 4), 22_050).unwrap();
    let fingerprint = fingerprinter.finish();
    assert_eq!(fingerprint.duration_ms, 4_000);
    assert!(fingerprint.peaks.last().unwrap().time_ms > 3_000);
}

#[test]
fn hostile_samples_do_no_harm() {
    let samples: Vec<_> =
        (0..16_000).map(|n| [f32::NAN, f32::INFINITY, -f32::MAX, 1e-40][n % 4]).collect();
    let fingerprint = fingerprint(&[&samples], 16_000);
    assert!(fingerprint.level_db.is_finite());
}

#[test]
fn silence_is_told_from_sound_by_its_level() {
    assert_eq!(fingerprint(&[&[0.0; 16_000]], 16_000).level_db, -200.0);
    let square = fingerprint(&[&[1.0; 16_000]], 16_000);
    assert!(square.level_db.abs() < 0.01, "{} dB", square.level_db);
}

#[test]
fn encoding_round_trips_and_names_what_is_wrong() {
    let params = Params::default();
    let fingerprint = fingerprint(&[&music(3.0, 16_000, 5)], 16_000);
    let bytes = fingerprint.to_bytes(&params);
    assert_eq!(Fingerprint::from_bytes(&bytes, &params), Ok(fingerprint.clone()));

    let other = Params { floor_db: -60.0, ..params };
    assert!(matches!(
        Fingerprint::from_bytes(&bytes, &other),
        Err(FingerprintError::Params { .. })
    ));
    let mut newer = bytes.clone();
    newer[4] = 2;
    assert_eq!(
        Fingerprint::from_bytes(&newer, &params),
        Err(FingerprintError::Version { expected: 1, actual: 2 })
    );
    for len in 0..bytes.len() {
        assert!(Fingerprint::from_bytes(&bytes[..len], &params).is_err(), "{len} bytes");
    }
    let behind_the_end = Fingerprint { duration_ms: 10, ..fingerprint };
    assert!(Fingerprint::from_bytes(&behind_the_end.to_bytes(&params), &params).is_err());
}

proptest! {
    #[test]
    fn one_flipped_bit_is_always_found(bit in 0_usize..8 * 800) {
        let params = Params::default();
        let mut bytes = fingerprint(&[&music(2.0, 16_000, 6)], 16_000).to_bytes(&params);
        prop_assume!(bit / 8 < bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Fingerprint::from_bytes(&bytes, &params).is_err());
    }
}
