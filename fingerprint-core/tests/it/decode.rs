//! Real files of every codec, whole and damaged, from a path, from memory and from a stream.

mod hostile;
mod routes;
mod synthetic;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use fingerprint_core::decode::{DecodeError, DecodeOptions, DecodeSummary, Input, decode};

/// Files of `testdata/codecs` that only ffmpeg decodes.
const EXTERNAL: [&str; 6] =
    ["ac3.ac3", "ac3.mkv", "wma.wma", "wavpack.wv", "opus_5_1.ogg", "aac_5_1.m4a"];
/// AAC below 24 kHz that does not say whether it has SBR: ffmpeg if there is one.
const DOUBTFUL: [&str; 1] = ["aac.aac"];
/// Length of the files of `testdata/codecs` in seconds.
const LEN_S: f64 = 6.0;
/// Encoder delay and padding that some demuxers do not cut off, in seconds: two packets of 2,048
/// samples at 8 kHz, and a part of one.
const PADDING_S: f64 = 0.6;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(testdata(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn is_one_of(path: &Path, names: &[&str]) -> bool {
    names.iter().any(|name| path.ends_with(name))
}

fn without_ffmpeg() -> DecodeOptions {
    DecodeOptions { ffmpeg: None, ..DecodeOptions::default() }
}

/// Samples and their rate in Hz.
type Chunk = (Vec<f32>, u32);

/// Everything that comes out, with the rate of each chunk.
fn chunks(
    input: Input<'_>,
    options: &DecodeOptions,
) -> Result<(Vec<Chunk>, DecodeSummary), DecodeError> {
    let mut chunks = Vec::new();
    let summary = decode(input, options, &mut |chunk, rate_hz| {
        chunks.push((chunk.to_vec(), rate_hz));
        ControlFlow::Continue(())
    })?;
    Ok((chunks, summary))
}

fn samples(
    input: Input<'_>,
    options: &DecodeOptions,
) -> Result<(Vec<f32>, DecodeSummary), DecodeError> {
    let (chunks, summary) = chunks(input, options)?;
    Ok((chunks.into_iter().flat_map(|(samples, _)| samples).collect(), summary))
}

/// Highest correlation of `query` with `reference` over shifts up to `shift_max` samples.
fn best_correlation(reference: &[f32], query: &[f32], shift_max: usize) -> f64 {
    let (start, len) = (shift_max, reference.len().min(query.len()) - 2 * shift_max);
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    let fixed = &reference[start..start + len];
    (0..2 * shift_max)
        .map(|shift| {
            let moved = &query[shift..shift + len];
            dot(fixed, moved) / (dot(fixed, fixed) * dot(moved, moved)).sqrt()
        })
        .fold(-1.0, f64::max)
}

#[test]
fn every_codec_decodes_to_its_length_by_the_right_decoder() {
    for path in files("codecs") {
        let (samples, summary) = samples(Input::Path(&path), &DecodeOptions::default()).unwrap();
        assert!((summary.duration_s - LEN_S).abs() < PADDING_S, "{}: {summary:?}", path.display());
        let by_ffmpeg = is_one_of(&path, &EXTERNAL) || is_one_of(&path, &DOUBTFUL);
        assert_eq!(summary.by_ffmpeg, by_ffmpeg, "{}", path.display());
        let loudest = samples.iter().fold(0.0_f32, |loudest, x| loudest.max(x.abs()));
        assert!(loudest > 0.05 && loudest < 1.2, "{}: {loudest}", path.display());
    }
}

/// The codecs at 8 kHz hold one signal, so what they decode to must correlate with the WAV.
#[test]
fn every_codec_decodes_to_the_same_sound() {
    let options = DecodeOptions::default();
    let reference = samples(Input::Path(&testdata("codecs/pcm_s16.wav")), &options).unwrap().0;
    let mut compared = 0;
    for path in files("codecs") {
        let (query, summary) = samples(Input::Path(&path), &options).unwrap();
        if summary.sample_rate_hz != 8_000 {
            continue;
        }
        // Delays that the container does not cut off: at most two AAC packets.
        let correlation = best_correlation(&reference, &query, 2_200);
        assert!(correlation > 0.9, "{}: {correlation:.3}", path.display());
        compared += 1;
    }
    assert!(compared >= 18, "{compared}");
}

#[test]
fn real_recordings_decode_whole() {
    for path in files("catalog") {
        let summary = samples(Input::Path(&path), &without_ffmpeg()).unwrap().1;
        let expected_s = if path.ends_with("mountain.flac") { 20.0 } else { 30.0 };
        // Twice the padding: packets of the M4A at 8 kHz last 128 ms.
        assert!((summary.duration_s - expected_s).abs() < 0.6, "{}: {summary:?}", path.display());
        assert_eq!(summary.bad_packet_count, 0, "{}", path.display());
    }
}

#[test]
fn path_bytes_and_stream_give_the_same_samples() {
    let options = DecodeOptions::default();
    for path in files("codecs").into_iter().chain(files("catalog")) {
        let bytes = std::fs::read(&path).unwrap();
        let (by_path, summary) = samples(Input::Path(&path), &options).unwrap();
        let (by_bytes, of_bytes) = samples(Input::Bytes(&bytes), &options).unwrap();
        let (by_stream, of_stream) =
            samples(Input::Stream(Box::new(&bytes[..])), &options).unwrap();
        assert!(by_path == by_bytes, "{} from memory", path.display());
        assert!(by_path == by_stream, "{} from a stream", path.display());
        assert_eq!((&summary, &summary), (&of_bytes, &of_stream));
    }
}

#[test]
fn the_summary_says_what_it_was() {
    for (file, container, codec, rate_hz, channels) in [
        ("catalog/awakening.mp3", "mp3", "mp3", 48_000, 2),
        ("catalog/armygeddon.m4a", "isomp4", "aac", 44_100, 2),
        ("catalog/mutilated_mime.mp4", "isomp4", "aac", 44_100, 2),
        ("catalog/palace.ogg", "ogg", "vorbis", 44_100, 2),
        ("catalog/crossroads.webm", "matroska", "opus", 48_000, 2),
        ("catalog/mountain.flac", "flac", "flac", 44_100, 2),
        ("codecs/ac3.mkv", "matroska", "ac3", 48_000, 2),
        ("codecs/opus_5_1.ogg", "ogg", "opus", 48_000, 6),
    ] {
        let summary = samples(Input::Path(&testdata(file)), &DecodeOptions::default()).unwrap().1;
        assert_eq!((&*summary.container, &*summary.codec), (container, codec), "{file}");
        assert_eq!((summary.sample_rate_hz, summary.channel_count), (rate_hz, channels), "{file}");
    }
}
