//! The audio of the soak: real recordings, and tunes that are made up.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use earmark_benches::{Pcm, files, seeded, testdata};
use fingerprint_core::fingerprint::Fingerprinter;
use fingerprint_core::params::{Params, Role, SAMPLE_RATE_HZ};

/// Longest note of a tune, in milliseconds.
const NOTE_MS_MAX: u32 = 240;
/// Shortest note of a tune, in milliseconds.
const NOTE_MS_MIN: u32 = 60;
/// Notes of a chord.
const CHORD_LEN: usize = 3;
/// Partials of a note.
const PARTIAL_COUNT: u8 = 4;

/// A recording of the test data.
pub(crate) struct Recording {
    pub(crate) id: String,
    /// The file, as a client would send it.
    pub(crate) file: Bytes,
    /// Decoded, mono at the analysis rate.
    pub(crate) samples: Vec<f32>,
}

/// Everything that is played.
pub(crate) struct Sound {
    pub(crate) recordings: Vec<Recording>,
}

impl Sound {
    /// Reads the catalog of the test data.
    pub(crate) fn read() -> Result<Self> {
        let read = |path: String| {
            let id = Path::new(&path).file_stem().context("each is a file")?;
            let file = testdata(&path);
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            Ok(Recording {
                id: id.to_string_lossy().into_owned(),
                file: bytes.into(),
                samples: Pcm::decode(&path).at_analysis_rate().samples,
            })
        };
        Ok(Self { recordings: files("catalog").into_iter().map(read).collect::<Result<_>>()? })
    }
}

/// The samples of a stretch, given in tenths of a second.
pub(crate) fn cut(samples: &[f32], from_ds: usize, len_ds: usize) -> &[f32] {
    let place = |ds: usize| (ds * SAMPLE_RATE_HZ as usize / 10).min(samples.len());
    &samples[place(from_ds)..place(from_ds + len_ds)]
}

/// Length in tenths of a second, rounded down.
pub(crate) fn len_ds(samples: &[f32]) -> usize {
    samples.len() * 10 / SAMPLE_RATE_HZ as usize
}

/// A tune that `seed` and `number` decide: chords of a few notes, each dying away.
pub(crate) fn tune(seed: u64, number: u64, duration_s: usize) -> Vec<f32> {
    let mut random = seeded(seed, &format!("tune {number}"));
    let sample_count = SAMPLE_RATE_HZ as usize * duration_s;
    let mut samples = Vec::with_capacity(sample_count + SAMPLE_RATE_HZ as usize);
    while samples.len() < sample_count {
        let len = random.u32(NOTE_MS_MIN..NOTE_MS_MAX) * SAMPLE_RATE_HZ / 1_000;
        let notes = [0; CHORD_LEN].map(|_| 110.0 * 2_f32.powf(random.f32() * 3.5));
        samples.extend((0..len).map(|i| {
            let time_s = i as f32 / SAMPLE_RATE_HZ as f32;
            let partial = |hz: f32, n: u8| {
                (std::f32::consts::TAU * hz * f32::from(n) * time_s).sin() / f32::from(n)
            };
            let note = |hz: &f32| (1..=PARTIAL_COUNT).map(|n| partial(*hz, n)).sum::<f32>();
            0.06 * notes.iter().map(note).sum::<f32>() * (-4.0 * time_s).exp()
        }));
    }
    samples.truncate(sample_count);
    samples
}

/// As little-endian samples of 16 bits.
pub(crate) fn pcm(samples: &[f32]) -> Bytes {
    samples.iter().flat_map(|sample| s16(*sample).to_le_bytes()).collect::<Vec<u8>>().into()
}

/// As a 16-bit mono WAV file.
pub(crate) fn wav(samples: &[f32]) -> Result<Bytes> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec)?;
    samples.iter().try_for_each(|sample| writer.write_sample(s16(*sample)))?;
    writer.finalize()?;
    Ok(file.into_inner().into())
}

/// As a fingerprint in its own format.
pub(crate) fn fingerprint(samples: &[f32], role: Role) -> Result<Bytes> {
    let params = Params::default();
    let mut fingerprinter = Fingerprinter::new(&params, role);
    fingerprinter.push(samples, SAMPLE_RATE_HZ)?;
    Ok(fingerprinter.finish().to_bytes(&params).into())
}

#[expect(clippy::cast_possible_truncation, reason = "`as` from float saturates")]
fn s16(sample: f32) -> i16 {
    (sample * 32_767.0) as i16
}
