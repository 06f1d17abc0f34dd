//! Real files of every codec, whole and damaged, from a path, from memory and from a stream.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use fingerprint_core::decode::{DecodeError, DecodeOptions, DecodeSummary, Input, decode};

/// Codecs that only ffmpeg decodes.
const EXTERNAL: [&str; 2] = ["ac3.ac3", "wma.wma"];

fn codecs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/codecs");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 19, "testdata/codecs is not complete");
    files
}

fn is_external(path: &Path) -> bool {
    EXTERNAL.iter().any(|name| path.ends_with(name))
}

fn samples(
    input: Input<'_>,
    options: &DecodeOptions,
) -> Result<(Vec<f32>, DecodeSummary), DecodeError> {
    let mut samples = Vec::new();
    let summary = decode(input, options, &mut |chunk, _| {
        samples.extend_from_slice(chunk);
        ControlFlow::Continue(())
    })?;
    Ok((samples, summary))
}

#[test]
fn every_codec_decodes_to_its_length() {
    for path in codecs() {
        let (samples, summary) = samples(Input::Path(&path), &DecodeOptions::default()).unwrap();
        // Encoder delay and padding of the lossy codecs: a few frames of at most 2,048 samples at
        // 8 kHz.
        assert!((summary.duration_s - 6.0).abs() < 0.6, "{}: {summary:?}", path.display());
        assert_eq!(summary.by_ffmpeg, is_external(&path), "{}", path.display());
        assert!(samples.iter().any(|x| x.abs() > 0.05), "{} is silent", path.display());
    }
}

#[test]
fn path_bytes_and_stream_give_the_same_samples() {
    let options = DecodeOptions::default();
    for path in codecs() {
        let bytes = std::fs::read(&path).unwrap();
        let by_path = samples(Input::Path(&path), &options).unwrap().0;
        let by_bytes = samples(Input::Bytes(&bytes), &options).unwrap().0;
        let by_stream = samples(Input::Stream(Box::new(&bytes[..])), &options).unwrap().0;
        assert!(by_path == by_bytes, "{} from memory", path.display());
        assert!(by_path == by_stream, "{} from a stream", path.display());
    }
}

#[test]
fn without_ffmpeg_the_error_says_so() {
    let options = DecodeOptions { ffmpeg: None, ..DecodeOptions::default() };
    for path in codecs().iter().filter(|path| is_external(path)) {
        let error = samples(Input::Path(path), &options).unwrap_err();
        assert!(matches!(error, DecodeError::NeedsFfmpeg { .. }), "{error}");
        assert!(error.to_string().contains("install ffmpeg"), "{error}");
    }
}

#[test]
fn cut_off_and_damaged_files_give_what_they_hold_or_an_error() {
    let options = DecodeOptions { ffmpeg: None, ..DecodeOptions::default() };
    for path in codecs() {
        let whole = std::fs::read(&path).unwrap();
        for len in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
            if let Ok((_, summary)) = samples(Input::Bytes(&whole[..len]), &options) {
                assert!(summary.duration_s < 6.6, "{} of {len} bytes", path.display());
            }
        }
        let mut rng = fastrand::Rng::with_seed(1);
        let mut damaged = whole.clone();
        for _ in 0..20 {
            let at = rng.usize(damaged.len() / 3..damaged.len());
            damaged[at] ^= 1 << rng.u8(0..8);
        }
        // The outcome depends on the codec; what must not happen is a panic or an endless loop.
        let _ = samples(Input::Bytes(&damaged), &options);
    }
}

#[test]
fn files_without_audio_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.mp3");
    std::fs::write(&text, "no audio at all\n".repeat(100)).unwrap();
    for path in [text, folder.path().to_owned(), folder.path().join("missing.wav")] {
        let error = samples(Input::Path(&path), &DecodeOptions::default()).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn limits_hold() {
    let path = &codecs()[0];
    let short = DecodeOptions { duration_max_s: 1.0, ..DecodeOptions::default() };
    let error = samples(Input::Path(path), &short).unwrap_err();
    assert!(matches!(error, DecodeError::TooLong { .. }), "{error}");
    let small = DecodeOptions { input_max_bytes: 99, ..DecodeOptions::default() };
    let error = samples(Input::Stream(Box::new(std::io::repeat(0))), &small).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
}

#[test]
fn a_sink_may_stop_early() {
    let mut chunks = 0;
    let summary = decode(Input::Path(&codecs()[0]), &DecodeOptions::default(), &mut |_, _| {
        chunks += 1;
        ControlFlow::Break(())
    });
    assert!(summary.unwrap().duration_s < 1.0);
    assert_eq!(chunks, 1);
}
