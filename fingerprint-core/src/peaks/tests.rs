use std::cmp::Ordering;
use std::f32::consts::TAU;

use super::*;
use crate::params::SAMPLE_RATE_HZ;
use crate::spectrogram::Spectrogram;

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

/// The slow, obvious twin of [`PeakPicker`]: place and rank of all peaks, by comparing each
/// bin with every other of its neighbourhood.
fn pick_slowly(frames: &[Vec<f32>], params: &Params, role: Role) -> Vec<(u32, u16, u8)> {
    let band = (params.band_low_hz / BIN_HZ).ceil() as usize
        ..(params.band_high_hz / BIN_HZ).ceil() as usize;
    let near = |at: usize, radius: usize, end: usize| {
        at.saturating_sub(radius)..(at + radius + 1).min(end)
    };
    let is_maximum = |t: usize, bin: usize| {
        near(t, 1, frames.len()).all(|u| {
            near(bin, LOCAL_BINS, BIN_COUNT).all(|other| match (u, other).cmp(&(t, bin)) {
                Ordering::Less => frames[t][bin] > frames[u][other],
                Ordering::Equal => frames[t][bin] > 1e-10,
                Ordering::Greater => frames[t][bin] >= frames[u][other],
            })
        })
    };
    let maxima: Vec<_> = (0..frames.len())
        .flat_map(|t| band.clone().map(move |bin| (t, bin)))
        .filter(|(t, bin)| is_maximum(*t, *bin))
        .collect();
    let ranked = maxima.iter().map(|(t, bin)| {
        let stronger = maxima.iter().filter(|(u, other)| {
            t.abs_diff(*u) <= params.rank_frames.into()
                && bin.abs_diff(*other) <= params.rank_bins.into()
                && frames[*u][*other] > frames[*t][*bin]
        });
        (*t, *bin, stronger.count())
    });
    ranked
        .filter(|(.., rank)| *rank <= params.rank_max(role).into())
        .map(|(t, bin, rank)| (t as u32, bin as u16, rank as u8))
        .collect()
}

#[test]
fn agrees_with_comparing_every_bin_with_all_others() {
    let mut rng = fastrand::Rng::with_seed(1);
    let ours = Params::default();
    for params in [
        ours,
        Params { rank_bins: 0, ..ours },
        Params { rank_bins: 2, rank_frames: 0, query_rank_max: 0, ..ours },
        Params { rank_bins: 31, rank_frames: 1, ..ours },
        Params { rank_bins: 3_000, rank_frames: 9, query_rank_max: 200, ..ours },
        Params { band_low_hz: 7.0, band_high_hz: 40.0, ..ours },
    ] {
        for (frame_count, level_count) in [(1, 3), (4, 1_000), (5, 2), (24, 12), (24, 1_000)] {
            // Few levels give many equal neighbours.
            let level = |_| 0.5 + 1e-6 * rng.u32(0..level_count) as f32;
            let mut levels = (0..frame_count * BIN_COUNT).map(level);
            let frames: Vec<Vec<_>> =
                (0..frame_count).map(|_| levels.by_ref().take(BIN_COUNT).collect()).collect();
            for role in [Role::Track, Role::Query] {
                let mut picker = PeakPicker::new(&params, role);
                let mut peaks = Vec::new();
                frames.iter().for_each(|frame| picker.push(frame, &mut peaks));
                picker.finish(&mut peaks);
                let expected = pick_slowly(&frames, &params, role);
                assert_eq!(peaks.len(), expected.len(), "{params:?} {frame_count} {level_count}");
                for (peak, (t, bin, rank)) in peaks.iter().zip(expected) {
                    assert_eq!(peak.rank, rank, "frame {t} bin {bin} {params:?}");
                    let time_ms = t * HOP_MS + FRAME_CENTRE_MS as u32;
                    assert!(peak.time_ms.abs_diff(time_ms) <= HOP_MS / 2);
                    assert!(peak.freq.abs_diff(bin * 16) <= 8);
                }
            }
        }
    }
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
