//! Audio files: cut, written.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use anyhow::{Context, Result, bail};
use earmark_benches::Pcm;
use earmark_benches::damage::resample;
use fingerprint_core::decode::{DecodeOptions, Input, decode};
use hound::{SampleFormat, WavSpec, WavWriter};

/// Sample rate of queries in Hz, but for those of a telephone.
pub(crate) const RATE_HZ: u32 = 44_100;

/// The stretches `seconds` of a file, at its own rate, in one run through it. A stretch that
/// reaches beyond the end is shorter.
///
/// # Errors
///
/// If the file does not decode, or its rate changes within a stretch.
pub(crate) fn cut(path: &Path, seconds: &[Range<f64>]) -> Result<Vec<Pcm>> {
    let mut pieces = vec![Pcm { samples: Vec::new(), rate_hz: 0 }; seconds.len()];
    let end_s = seconds.iter().fold(0.0_f64, |end, range| end.max(range.end));
    let mut at_s = 0.0;
    let mut is_mixed = false;
    decode(Input::Path(path), &DecodeOptions::default(), &mut |samples, rate_hz| {
        let rate = f64::from(rate_hz);
        let place = |second: f64| whole((second - at_s) * rate).min(samples.len());
        for (piece, range) in pieces.iter_mut().zip(seconds) {
            let heard = &samples[place(range.start)..place(range.end)];
            if !heard.is_empty() {
                is_mixed |= piece.rate_hz != 0 && piece.rate_hz != rate_hz;
                piece.rate_hz = rate_hz;
                piece.samples.extend_from_slice(heard);
            }
        }
        at_s += samples.len() as f64 / rate;
        if at_s < end_s { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if is_mixed {
        bail!("{} changes its sample rate; nothing can be cut there", path.display());
    }
    Ok(pieces)
}

/// The samples of `pcm` at [`RATE_HZ`], played `speed` times as fast and high.
pub(crate) fn at_rate(pcm: Pcm, speed: f64) -> Vec<f32> {
    let step = f64::from(pcm.rate_hz) / f64::from(RATE_HZ) * speed;
    if (step - 1.0).abs() < 1e-12 { pcm.samples } else { resample(&pcm.samples, step) }
}

/// Writes mono `samples` to a WAV file of this many bits, each sample `channels.len()` times,
/// multiplied by each of `channels`.
///
/// # Errors
///
/// If the file cannot be written.
pub(crate) fn write_wav(
    path: &Path,
    samples: &[f32],
    rate_hz: u32,
    bits: u16,
    channels: &[f32],
) -> Result<()> {
    let failed = || format!("{} cannot be written; is the disk full?", path.display());
    let channel_count = u16::try_from(channels.len()).context("a file has few channels")?;
    let spec = WavSpec {
        channels: channel_count,
        sample_rate: rate_hz,
        bits_per_sample: bits,
        sample_format: SampleFormat::Int,
    };
    let full_scale = 2_f32.powi(i32::from(bits) - 1);
    let mut writer = WavWriter::create(path, spec).with_context(failed)?;
    for value in samples.iter().flat_map(|sample| channels.iter().map(move |gain| sample * gain)) {
        let scaled = (value * full_scale).round().clamp(-full_scale, full_scale - 1.0);
        #[expect(clippy::cast_possible_truncation, reason = "it was clamped to few bits")]
        let quantised = scaled as i32;
        writer.write_sample(quantised).with_context(failed)?;
    }
    writer.finalize().with_context(failed)
}

/// A place among samples from one that was computed in fractions: the nearest, 0 for those before
/// the start.
pub(crate) fn whole(x: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` from float saturates"
    )]
    let whole = x.round() as usize;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_cut_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ramp.wav");
        let ramp: Vec<f32> = (0..16_000).map(|n| n as f32 / 32_768.0).collect();
        write_wav(&path, &ramp, 8_000, 16, &[1.0]).unwrap();
        let pieces = cut(&path, &[0.5..0.75, 0.0..0.1, 1.9..2.5, 0.6..1.0]).unwrap();
        let bounds: Vec<_> = pieces
            .iter()
            .map(|p| (p.samples.len(), whole(f64::from(p.samples[0]) * 32_768.0), p.rate_hz))
            .collect();
        let expected =
            [(2_000, 4_000), (800, 0), (800, 15_200), (3_200, 4_800)].map(|(n, at)| (n, at, 8_000));
        assert_eq!(bounds, expected);
        assert_eq!(at_rate(pieces[0].clone(), 1.0).len(), 11_025);
        assert_eq!(at_rate(pieces[0].clone(), 1.25).len(), 8_820);
    }

    #[test]
    fn eight_bits_and_a_mirrored_channel_are_written_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.wav");
        write_wav(&path, &[0.5, -2.0], 8_000, 8, &[1.0, -1.0]).unwrap();
        let mut reader = hound::WavReader::open(&path).unwrap();
        assert_eq!((reader.spec().channels, reader.spec().bits_per_sample), (2, 8));
        let samples: Vec<i32> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(samples, [64, -64, -128, 127]);
    }
}
