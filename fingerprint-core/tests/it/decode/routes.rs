//! Which decoder gets what, with ffmpeg, without it, and with one that misbehaves.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn without_ffmpeg_the_error_says_so() {
    for path in files("codecs").iter().filter(|path| is_one_of(path, &EXTERNAL)) {
        let bytes = std::fs::read(path).unwrap();
        for input in [Input::Path(path), Input::Bytes(&bytes)] {
            let error = samples(input, &without_ffmpeg()).unwrap_err();
            assert!(matches!(error, DecodeError::NeedsFfmpeg { .. }), "{error}");
            assert!(error.to_string().contains("install ffmpeg"), "{error}");
        }
        // It may never end, so that installing a program would not help.
        let error = samples(Input::Stream(Box::new(&bytes[..])), &without_ffmpeg()).unwrap_err();
        assert!(matches!(error, DecodeError::NotStreamable { .. }), "{error}");
        assert!(error.to_string().contains("only used for whole files"), "{error}");
    }
}

#[test]
fn a_stream_that_the_built_in_decoders_do_not_know_is_refused_at_its_head() {
    let head = std::fs::read(testdata("codecs/wma.wma")).unwrap();
    let endless = Box::new((&head[..]).chain(io::repeat(7)));
    let error = samples(Input::Stream(endless), &without_ffmpeg()).unwrap_err();
    assert!(matches!(error, DecodeError::NotStreamable { .. }), "{error}");
}

#[test]
fn no_limit_of_duration_is_none_for_ffmpeg_either() {
    let path = testdata("codecs/wma.wma");
    let bytes = std::fs::read(&path).unwrap();
    for duration_max_s in [f64::MAX, f64::INFINITY, 1e9] {
        let options = DecodeOptions { duration_max_s, ..DecodeOptions::default() };
        for input in [Input::Path(&path), Input::Stream(Box::new(&bytes[..]))] {
            let summary = samples(input, &options).unwrap().1;
            assert!(summary.by_ffmpeg && summary.duration_s > 5.0, "{summary:?}");
        }
    }
}

#[test]
fn a_program_that_is_not_there_is_as_none() {
    let options =
        DecodeOptions { ffmpeg: Some(PathBuf::from("no-such-ffmpeg")), ..DecodeOptions::default() };
    let error = samples(Input::Path(&testdata("codecs/wma.wma")), &options).unwrap_err();
    assert!(matches!(error, DecodeError::NeedsFfmpeg { .. }), "{error}");
}

#[test]
fn low_rate_aac_is_decoded_here_when_there_is_no_ffmpeg() {
    let summary = samples(Input::Path(&testdata("codecs/aac.aac")), &without_ffmpeg()).unwrap().1;
    assert!(!summary.by_ffmpeg);
    assert!((summary.duration_s - LEN_S).abs() < PADDING_S, "{summary:?}");
}

/// The M4A with its AAC-LC configuration rewritten to announce SBR on top.
#[test]
fn he_aac_is_not_decoded_at_half_its_band() {
    let mut bytes = std::fs::read(testdata("codecs/aac.mp4")).unwrap();
    // AAC-LC (2), 8 kHz (index 11), mono, then the extension that says: no SBR.
    let config = [0x15, 0x88, 0x56, 0xe5, 0x00];
    let at = bytes.windows(5).position(|window| window == config).unwrap();
    assert!(!samples(Input::Bytes(&bytes), &without_ffmpeg()).unwrap().1.by_ffmpeg);
    // The last byte: SBR is present, at 16 kHz (1 1000).
    bytes[at + 4] = 0xc0;
    let error = samples(Input::Bytes(&bytes), &without_ffmpeg()).unwrap_err();
    assert!(error.to_string().contains("he-aac"), "{error}");
    assert!(samples(Input::Bytes(&bytes), &DecodeOptions::default()).unwrap().1.by_ffmpeg);
}

#[test]
fn a_path_is_never_an_option_or_a_protocol() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["-version", "pipe:0", "concat:a|b", "http:", "a'b \"c\" %d", "@list"] {
        let path = folder.path().join(name);
        std::fs::copy(testdata("codecs/wma.wma"), &path).unwrap();
        let summary = samples(Input::Path(&path), &DecodeOptions::default()).unwrap().1;
        assert!(summary.by_ffmpeg && summary.duration_s > 5.0, "{name}: {summary:?}");
    }
}

#[test]
fn playlists_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let target = testdata("codecs/wma.wma");
    let (list, secret) = (folder.path().join("list"), target.display());
    for text in [
        format!("#EXTM3U\n#EXTINF:6,\n{secret}\n"),
        format!("ffconcat version 1.0\nfile '{secret}'\n"),
        // Not text at the first sight.
        format!("ffconcat version 1.0\nfile '{secret}'\n\0\0\0"),
    ] {
        std::fs::write(&list, text).unwrap();
        let error = samples(Input::Path(&list), &DecodeOptions::default()).unwrap_err();
        assert!(matches!(error, DecodeError::Unrecognised { .. }), "{error}");
    }
}

#[cfg(unix)]
fn script(folder: &Path, body: &str) -> DecodeOptions {
    use std::os::unix::fs::PermissionsExt as _;

    let program = folder.join("ffmpeg");
    std::fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ffmpeg_timeout = Duration::from_millis(500);
    DecodeOptions { ffmpeg: Some(program), ffmpeg_timeout, ..DecodeOptions::default() }
}

#[cfg(unix)]
#[test]
fn a_program_that_hangs_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let options = script(folder.path(), "exec sleep 60");
    let begin = Instant::now();
    let error = samples(Input::Path(&testdata("codecs/wma.wma")), &options).unwrap_err();
    assert!(matches!(error, DecodeError::TooSlow { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[cfg(unix)]
#[test]
fn a_program_that_fails_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let options = script(folder.path(), "echo 'odd bytes' >&2; exit 1");
    let error = samples(Input::Path(&testdata("codecs/wma.wma")), &options).unwrap_err();
    assert!(matches!(error, DecodeError::Undecodable { .. }), "{error}");
    assert!(error.to_string().contains("odd bytes"), "{error}");
}

#[test]
fn the_duration_limit_holds_for_both_decoders() {
    let options = DecodeOptions { duration_max_s: 1.0, ..DecodeOptions::default() };
    for file in ["codecs/mp3.mp3", "codecs/wma.wma"] {
        let mut passed_s = 0.0;
        let error = decode(Input::Path(&testdata(file)), &options, &mut |chunk, rate_hz| {
            passed_s += chunk.len() as f64 / f64::from(rate_hz);
            ControlFlow::Continue(())
        })
        .unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { .. }), "{file}: {error}");
        assert!(passed_s <= 1.0, "{file}: {passed_s}");
    }
}

#[test]
fn a_sink_may_stop_early() {
    for file in ["codecs/mp3.mp3", "codecs/wma.wma"] {
        let mut chunk_count = 0;
        let options = DecodeOptions::default();
        let summary = decode(Input::Path(&testdata(file)), &options, &mut |_, _| {
            chunk_count += 1;
            ControlFlow::Break(())
        });
        assert!(summary.unwrap().duration_s < 1.0);
        assert_eq!(chunk_count, 1);
    }
}

/// Counts how much of a stream was read when the first samples came.
#[test]
fn a_stream_is_decoded_while_it_is_read() {
    struct Counted<'a>(&'a [u8], std::sync::Arc<std::sync::atomic::AtomicUsize>);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(buffer)?;
            self.1.fetch_add(read, std::sync::atomic::Ordering::Relaxed);
            Ok(read)
        }
    }
    for file in ["awakening.mp3", "palace.ogg", "crossroads.webm", "mountain.flac"] {
        let bytes = std::fs::read(testdata("catalog").join(file)).unwrap();
        let read = std::sync::Arc::default();
        let stream = Counted(&bytes, std::sync::Arc::clone(&read));
        let mut at_first = None;
        decode(Input::Stream(Box::new(stream)), &without_ffmpeg(), &mut |_, _| {
            at_first.get_or_insert_with(|| read.load(std::sync::atomic::Ordering::Relaxed));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(at_first.unwrap() < bytes.len() / 2, "{file}: {at_first:?} of {}", bytes.len());
    }
}

#[test]
fn the_size_limit_of_streams_holds() {
    let bytes = std::fs::read(testdata("codecs/pcm_s16.wav")).unwrap();
    for (limit_bytes, fits) in [(99, false), (bytes.len() - 1, false), (bytes.len(), true)] {
        let options =
            DecodeOptions { input_max_bytes: limit_bytes as u64, ..DecodeOptions::default() };
        let result = samples(Input::Stream(Box::new(&bytes[..])), &options);
        assert_eq!(result.is_ok(), fits, "{limit_bytes}");
        if let Err(error) = result {
            assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
        }
    }
    let options = DecodeOptions { input_max_bytes: 99, ..DecodeOptions::default() };
    let error = samples(Input::Stream(Box::new(io::repeat(0))), &options).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
}

#[test]
fn a_stream_that_breaks_is_no_short_file() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                read => Ok(read),
            }
        }
    }
    for file in ["codecs/mp3.mp3", "codecs/pcm_s16.wav", "codecs/aac.mp4", "codecs/wma.wma"] {
        let bytes = std::fs::read(testdata(file)).unwrap();
        let stream = Broken(&bytes[..bytes.len() / 2]);
        let error = samples(Input::Stream(Box::new(stream)), &DecodeOptions::default());
        assert!(matches!(error, Err(DecodeError::Io { .. })), "{file}: {error:?}");
    }
}
