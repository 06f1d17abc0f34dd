//! Cut off, damaged, wrong and lying files.

use super::*;

#[test]
fn a_cut_off_file_gives_its_first_part() {
    for path in files("codecs") {
        let whole = std::fs::read(&path).unwrap();
        for len in [0, 1, 4, 100, whole.len() / 2, whole.len() - 1] {
            let result = samples(Input::Bytes(&whole[..len]), &without_ffmpeg());
            if let Ok((_, summary)) = &result {
                assert!(summary.duration_s < LEN_S + PADDING_S, "{} of {len}", path.display());
            }
        }
    }
    // Where the header is at the start, half a file is half the sound.
    for file in ["mp3.mp3", "flac.flac", "vorbis.ogg", "opus.webm", "pcm_s16.wav", "pcm.aiff"] {
        let whole = std::fs::read(testdata("codecs").join(file)).unwrap();
        let half = samples(Input::Bytes(&whole[..whole.len() / 2]), &without_ffmpeg()).unwrap().1;
        assert!(half.duration_s > 1.5 && half.duration_s < 4.5, "{file}: {half:?}");
    }
}

#[test]
fn damaged_packets_are_skipped_and_counted() {
    let mut rng = fastrand::Rng::with_seed(1);
    for file in ["mp3.mp3", "flac.flac", "vorbis.ogg", "aac.mp4", "alac.m4a"] {
        let mut bytes = std::fs::read(testdata("codecs").join(file)).unwrap();
        // A run of noise in the middle: in MP4 the packets are known to lie there.
        let middle = bytes.len() / 2;
        for byte in &mut bytes[middle..middle + 1_500] {
            *byte = rng.u8(..);
        }
        let summary = samples(Input::Bytes(&bytes), &without_ffmpeg()).unwrap().1;
        assert!(summary.duration_s > LEN_S / 2.5, "{file}: {summary:?}");
        // Not every codec can tell damage from music; where it can, it counts.
        if matches!(file, "flac.flac" | "aac.mp4" | "alac.m4a") {
            assert!(
                summary.bad_packet_count > 0 || summary.duration_s < LEN_S - 0.05,
                "{file}: {summary:?}"
            );
        }
    }
}

#[test]
fn the_count_is_exact_where_one_packet_is_hit() {
    // AAC in MP4: the table of contents is intact, so exactly the packets that are hit are bad.
    let path = testdata("catalog/armygeddon.m4a");
    let mut bytes = std::fs::read(&path).unwrap();
    let whole = samples(Input::Bytes(&bytes), &without_ffmpeg()).unwrap().1;
    let at = bytes.len() / 2;
    bytes[at..at + 40].fill(0xff);
    let hit = samples(Input::Bytes(&bytes), &without_ffmpeg()).unwrap().1;
    assert!((1..=2).contains(&hit.bad_packet_count), "{hit:?}");
    let lost_s = whole.duration_s - hit.duration_s;
    let packet_s = 1024.0 / 44_100.0;
    assert!((lost_s - hit.bad_packet_count as f64 * packet_s).abs() < 1e-6, "{lost_s}");
}

#[test]
fn flipped_bits_never_panic() {
    for path in files("codecs") {
        let whole = std::fs::read(&path).unwrap();
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut damaged = whole.clone();
            // Half of the runs hit the headers.
            let from = if seed % 2 == 0 { 0 } else { damaged.len() / 3 };
            for _ in 0..20 {
                let at = rng.usize(from..damaged.len());
                damaged[at] ^= 1 << rng.u8(0..8);
            }
            // The outcome depends on the codec; what must not happen is a panic, an endless loop
            // or samples that are no numbers.
            let mut finite = true;
            let limits = DecodeOptions { duration_max_s: 600.0, ..without_ffmpeg() };
            let _ = decode(Input::Bytes(&damaged), &limits, &mut |chunk, _| {
                finite &= chunk.iter().all(|x| x.abs() <= 8.0);
                ControlFlow::Continue(())
            });
            assert!(finite, "{} with seed {seed}", path.display());
        }
    }
}

#[test]
fn garbage_is_an_error() {
    let mut rng = fastrand::Rng::with_seed(5);
    let garbage: Vec<u8> = (0..300_000).map(|_| rng.u8(..)).collect();
    for options in [DecodeOptions::default(), without_ffmpeg()] {
        for len in [1, 3, 1_000, garbage.len()] {
            let error = samples(Input::Bytes(&garbage[..len]), &options);
            assert!(error.is_err(), "{len} bytes: {:?}", error.map(|(_, summary)| summary));
        }
    }
}

#[test]
fn what_is_no_audio_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &str); 5] = [
        ("notes.mp3", &b"no audio at all\n".repeat(100), "it is a text"),
        ("empty.wav", b"", "it is empty"),
        ("cover.flac", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is a PNG picture"),
        ("songs.ogg", b"PK\x03\x04\x14\0\0\0", "it is a ZIP archive"),
        ("score.mid", b"MThd\0\0\0\x06", "it is a MIDI file"),
    ];
    for (name, bytes, what) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        for input in [Input::Path(&path), Input::Bytes(bytes), Input::Stream(Box::new(bytes))] {
            let error = samples(input, &DecodeOptions::default()).unwrap_err();
            assert!(matches!(error, DecodeError::Unrecognised { .. }), "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
    for path in [folder.path().to_owned(), folder.path().join("missing.wav")] {
        let error = samples(Input::Path(&path), &DecodeOptions::default()).unwrap_err();
        assert!(matches!(error, DecodeError::Io { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}
