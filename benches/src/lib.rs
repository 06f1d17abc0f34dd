//! What benches and meters share: the real recordings of `testdata/`, decoded once; [`damage`] to
//! recordings; [`synthetic`] catalogs of any size; random numbers that a seed decides; [`daemon`], a server to let things
//! loose on.
//!
//! Nothing here is timed. A file of `testdata/` that is missing or does not decode is a broken
//! checkout, so the functions of this file panic instead of returning errors.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "test inputs are made up here and in range"
    )
)]

pub mod daemon;
pub mod damage;
pub mod find;
pub mod synthetic;
pub mod work;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fingerprint_core::decode::{DecodeOptions, Input, decode};
use fingerprint_core::fingerprint::{Fingerprint, Fingerprinter};
use fingerprint_core::index::{Index, Metadata, NewTrack, RocksIndex};
use fingerprint_core::params::{Params, Role, SAMPLE_RATE_HZ};
use fingerprint_core::resample::Resampler;
use fingerprint_core::units::TrackId;

/// Mono samples of one recording.
#[derive(Debug, Clone)]
pub struct Pcm {
    /// Full scale is ±1.
    pub samples: Vec<f32>,
    /// Sample rate in Hz.
    pub rate_hz: u32,
}

impl Pcm {
    /// Decodes a file of `testdata/`, named by its path from there, at its own rate.
    ///
    /// # Panics
    ///
    /// If there is no such file, or it does not decode without ffmpeg.
    #[must_use]
    pub fn decode(path: &str) -> Self {
        let mut pcm = Self { samples: Vec::new(), rate_hz: 0 };
        let path = testdata(path);
        decode(Input::Path(&path), &built_in_only(), &mut |samples, rate_hz| {
            pcm.rate_hz = rate_hz;
            pcm.samples.extend_from_slice(samples);
            ControlFlow::Continue(())
        })
        .expect("the recordings of testdata decode");
        pcm
    }

    /// The stretch of `seconds` seconds that begins at second `start`.
    ///
    /// # Panics
    ///
    /// If the recording ends before: a shorter input would be timed in its place.
    #[must_use]
    pub fn cut(&self, start: usize, seconds: usize) -> Self {
        let rate = self.rate_hz as usize;
        let samples = self.samples[start * rate..(start + seconds) * rate].to_vec();
        Self { samples, rate_hz: self.rate_hz }
    }

    /// The same at the analysis rate.
    ///
    /// # Panics
    ///
    /// Never: all rates of `testdata/` can be resampled.
    #[must_use]
    pub fn at_analysis_rate(&self) -> Self {
        let mut samples = Vec::new();
        let mut resampler = Resampler::new(self.rate_hz).expect("the rate is a usual one");
        resampler.push(&self.samples, &mut |output| samples.extend_from_slice(output));
        resampler.finish(&mut |output| samples.extend_from_slice(output));
        Self { samples, rate_hz: SAMPLE_RATE_HZ }
    }

    /// Its fingerprint for `role`, with the default parameters.
    ///
    /// # Panics
    ///
    /// Never: all rates of `testdata/` can be resampled.
    #[must_use]
    pub fn fingerprint(&self, role: Role) -> Fingerprint {
        let mut fingerprinter = Fingerprinter::new(&Params::default(), role);
        fingerprinter.push(&self.samples, self.rate_hz).expect("the rate is a usual one");
        fingerprinter.finish()
    }

    /// Length in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.samples.len() as u64 * 1000 / u64::from(self.rate_hz)
    }
}

/// Decoding without ffmpeg, which is not ours to time.
#[must_use]
pub fn built_in_only() -> DecodeOptions {
    DecodeOptions { ffmpeg: None, ..DecodeOptions::default() }
}

/// The place of a file or folder of `testdata/`.
#[must_use]
pub fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

/// The files of a folder of `testdata/`, as paths from there, in ascending order.
///
/// # Panics
///
/// If there is no such folder.
#[must_use]
pub fn files(folder: &str) -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(testdata(folder))
        .expect("testdata is part of the checkout")
        .map(|entry| entry.expect("a folder of the checkout can be listed").file_name())
        .map(|name| format!("{folder}/{}", name.to_string_lossy()))
        .collect();
    // The order of a folder is that of the file system; that of the input must not be.
    files.sort_unstable();
    files
}

/// The tracks of `testdata/catalog`, 12 recordings of 20 to 30 s, in ascending order of their ids.
///
/// # Panics
///
/// As [`Pcm::decode`].
#[must_use]
pub fn catalog() -> Vec<NewTrack> {
    let track = |path: String| {
        let stem = Path::new(&path).file_stem().expect("each is a file").to_string_lossy();
        NewTrack {
            id: TrackId::new(stem.clone()).expect("names in testdata are plain"),
            metadata: Metadata { title: Some(stem.into_owned()), ..Metadata::default() },
            fingerprint: Pcm::decode(&path).fingerprint(Role::Track),
        }
    };
    files("catalog").into_iter().map(track).collect()
}

/// An index of `tracks` in the empty folder `dir`, compacted as after an ingest.
///
/// # Panics
///
/// If the disk is full or broken.
#[must_use]
pub fn rocks_index(dir: &Path, tracks: &[NewTrack]) -> RocksIndex {
    let index = RocksIndex::create_or_open(dir, &Params::default()).expect("the folder is empty");
    index.add(tracks).expect("the tracks are short and their ids differ");
    index.compact().expect("the index was just written");
    index
}

/// The smallest of `sorted` that `percent` of them do not exceed (nearest rank): always a time
/// that was measured. `None` if there are none.
#[must_use]
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// Random numbers that follow from `seed` and `label` alone. What is drawn for one query or track
/// then depends neither on the others nor on which thread draws it.
#[must_use]
pub fn seeded(seed: u64, label: &str) -> fastrand::Rng {
    // FNV-1a: any hash will do that is the same on every machine and in every release.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = seed.to_le_bytes().into_iter().chain(label.bytes());
    let mut rng = fastrand::Rng::with_seed(bytes.fold(0xcbf2_9ce4_8422_2325, step));
    // Labels that differ in their last letter have seeds that differ in few bits; the first output
    // still shows it.
    rng.u64(..);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<_> = (1..=10).map(Duration::from_millis).collect();
        let ms = |percent| percentile(&times, percent).unwrap().as_millis();
        assert_eq!([1, 10, 11, 50, 51, 90, 99, 100].map(ms), [1, 1, 2, 5, 6, 9, 10, 10]);
        assert_eq!(percentile(&times[..1], 50), Some(times[0]));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn seeds_and_labels_give_streams_of_their_own() {
        let first = |seed, label| seeded(seed, label).u64(..);
        assert_eq!(first(7, "a"), first(7, "a"));
        assert_ne!(first(7, "a"), first(7, "b"));
        assert_ne!(first(7, "a"), first(8, "a"));
        // As shares, labels in a row are spread evenly.
        let low = (0..1_000).filter(|i| seeded(7, &i.to_string()).f64() < 0.2).count();
        assert!((160..240).contains(&low), "{low} of 1000 below 0.2");
    }
}
