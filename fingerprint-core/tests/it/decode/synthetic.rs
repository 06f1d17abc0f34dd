//! Files made here, with one right answer: rates, channels, formats, chained streams.

use std::f32::consts::TAU;
use std::io::Cursor;

use super::*;

fn tone(frequency_hz: f32, rate_hz: u32, len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * frequency_hz * TAU / rate_hz as f32).sin() * 0.5).collect()
}

/// A WAV file of floats, one slice a channel.
fn wav(rate_hz: u32, channels: &[&[f32]]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: u16::try_from(channels.len()).unwrap(),
        sample_rate: rate_hz,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for i in 0..channels[0].len() {
        for channel in channels {
            writer.write_sample(channel[i]).unwrap();
        }
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

#[test]
fn all_rates_and_channel_counts_pass_unchanged() {
    for rate_hz in [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000] {
        let signal = tone(440.0, rate_hz, 5_000);
        for channel_count in 1..=8 {
            let channels = vec![&signal[..]; channel_count];
            let (chunks, summary) =
                chunks(Input::Bytes(&wav(rate_hz, &channels)), &without_ffmpeg()).unwrap();
            assert!(chunks.iter().all(|(_, rate)| *rate == rate_hz));
            assert_eq!((summary.sample_rate_hz, summary.channel_count), (rate_hz, channel_count));
            let mono: Vec<f32> = chunks.into_iter().flat_map(|(samples, _)| samples).collect();
            assert_eq!(mono.len(), signal.len());
            // Summing up to eight floats rounds in the last place.
            assert!(mono.iter().zip(&signal).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }
}

#[test]
fn integers_of_all_widths_have_the_same_scale() {
    let signal = tone(440.0, 8_000, 4_000);
    for bits in [8_u16, 16, 24, 32] {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8_000,
            bits_per_sample: bits,
            sample_format: hound::SampleFormat::Int,
        };
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        let scale = f64::from(1_u32 << (bits - 1));
        for x in &signal {
            #[expect(clippy::cast_possible_truncation, reason = "half of full scale fits")]
            writer.write_sample((f64::from(*x) * scale).round() as i32).unwrap();
        }
        writer.finalize().unwrap();
        let decoded = samples(Input::Bytes(bytes.get_ref()), &without_ffmpeg()).unwrap().0;
        assert_eq!(decoded.len(), signal.len());
        // Half a step of the coarsest, and the rounding of the decoder.
        let tolerance = 1.0 / scale as f32 + 1e-6;
        assert!(decoded.iter().zip(&signal).all(|(a, b)| (a - b).abs() <= tolerance), "{bits}");
    }
}

#[test]
fn a_stereo_file_with_one_channel_inverted_is_not_silent() {
    let left = tone(440.0, 44_100, 44_100);
    let right: Vec<f32> = left.iter().map(|x| -x).collect();
    let mono = samples(Input::Bytes(&wav(44_100, &[&left, &right])), &without_ffmpeg()).unwrap().0;
    assert_eq!(mono[4_096..], left[4_096..]);
}

#[test]
fn numbers_that_are_none_do_not_come_through() {
    let odd = [f32::NAN, f32::INFINITY, -1e30, 0.25].repeat(100);
    let mono = samples(Input::Bytes(&wav(8_000, &[&odd])), &without_ffmpeg()).unwrap().0;
    assert_eq!(mono[..4], [0.0, 8.0, -8.0, 0.25]);
}

#[test]
fn a_wav_from_a_pipe_has_no_length() {
    let signal = tone(440.0, 8_000, 4_000);
    let mut bytes = wav(8_000, &[&signal]);
    let data = bytes.windows(4).position(|window| window == b"data").unwrap();
    bytes[4..8].fill(0xff);
    bytes[data + 4..data + 8].fill(0xff);
    for input in [Input::Bytes(&bytes), Input::Stream(Box::new(&bytes[..]))] {
        assert_eq!(samples(input, &without_ffmpeg()).unwrap().0, signal);
    }
}

#[test]
fn lying_headers_are_refused() {
    let bytes = wav(8_000, &[&tone(440.0, 8_000, 1_000)]);
    // Of a WAV header: channels at 22, rate at 24.
    for (at, lie) in [(24, [0xff, 0xff, 0xff, 0x7f]), (24, [0, 0, 0, 0]), (24, [9, 0, 0, 0])] {
        let mut lying = bytes.clone();
        lying[at..at + 4].copy_from_slice(&lie);
        assert!(samples(Input::Bytes(&lying), &without_ffmpeg()).is_err(), "{lie:?}");
    }
    let mut lying = bytes;
    lying[22..24].fill(0xff);
    assert!(samples(Input::Bytes(&lying), &without_ffmpeg()).is_err());
}

/// Two Ogg files in a row are one chained file (RFC 3533, section 4): here of 8 kHz and 44.1 kHz,
/// mono and stereo, and of two codecs.
#[test]
fn chained_ogg_changes_rate_channels_and_codec() {
    let read = |file: &str| std::fs::read(testdata(file)).unwrap();
    let links = [
        ("codecs/vorbis.ogg", 8_000),
        ("catalog/palace.ogg", 44_100),
        ("codecs/flac.oga", 8_000),
        ("catalog/nebula.opus", 48_000),
    ];
    let chain: Vec<u8> = links.iter().flat_map(|(file, _)| read(file)).collect();
    let mut expected = Vec::new();
    for (file, rate_hz) in links {
        let alone = samples(Input::Path(&testdata(file)), &without_ffmpeg()).unwrap().0;
        expected.push((rate_hz, alone.len()));
    }
    for input in [Input::Bytes(&chain), Input::Stream(Box::new(&chain[..]))] {
        let (chunks, summary) = chunks(input, &without_ffmpeg()).unwrap();
        let mut found: Vec<(u32, usize)> = Vec::new();
        for (samples, rate_hz) in chunks {
            match found.last_mut() {
                Some((last_hz, len)) if *last_hz == rate_hz => *len += samples.len(),
                _ => found.push((rate_hz, samples.len())),
            }
        }
        assert_eq!(found, expected);
        assert_eq!((summary.sample_rate_hz, summary.bad_packet_count), (8_000, 0));
    }
}
