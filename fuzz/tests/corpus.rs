//! Every input of the corpora, given to what a fuzzer gave it to: no nightly compiler is needed.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "files of our own, and samples that are in range"
)]

use std::fs;
use std::path::{Path, PathBuf};

use earmark_fuzz::{decode, formats, requests};
use earmark_proto::v1;
use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::params::{Params, Role};
use prost::Message;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Says which input it was, if one makes a panic.
fn give_all(target: &str, run: fn(&[u8])) {
    let inputs: Vec<_> =
        fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(inputs.len() >= 10, "{target}: where is the corpus?");
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        let ended = std::panic::catch_unwind(|| run(&bytes));
        assert!(ended.is_ok(), "{} makes a panic", input.display());
    }
}

#[test]
fn audio_of_the_corpus_does_no_harm() {
    give_all("decode", decode::run);
}

#[test]
fn rows_of_the_corpus_do_no_harm() {
    give_all("formats", formats::run);
}

#[test]
fn requests_of_the_corpus_do_no_harm() {
    give_all("requests", requests::run);
}

/// The inputs that a fuzzer begins with: one of every kind. Run it by name if a format changes.
#[test]
#[ignore = "writes into the corpus"]
fn write_seeds() {
    write_audio();
    write_rows();
    write_requests();
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    fs::create_dir_all(folder(target)).unwrap();
    fs::write(folder(target).join(format!("seed_{name}")), bytes).unwrap();
}

/// The first bytes of a file of every codec.
fn write_audio() {
    const BYTES_MAX: usize = 8 << 10;
    let codecs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/codecs");
    for entry in fs::read_dir(codecs).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        write("decode", &name, &bytes[..bytes.len().min(BYTES_MAX)]);
    }
    write("decode", "fingerprint", &clip_fingerprint());
}

fn write_rows() {
    let record = r#"t1{"id":"t1","metadata":{"title":"A","attributes":{"k":"v"}},"duration_s":1.5,"content_hash":"00","peak_count":1,"posting_count":1,"added_at_ms":1,"span":{"start":0,"len":2}}"#;
    write("formats", "record", record.as_bytes());
    let list = "1764168000\n77\n2\nprivate/3/CURRENT crc32 12\nshared_checksum/000012_sABC_4096.sst crc32 7\n";
    write("formats", "backup", list.as_bytes());
    let constellation = &clip_fingerprint()[57..];
    write("formats", "constellation", constellation);
    let directory = [&[0, 0, 0, 0, 0, 0, 1, 0][..], &7_u64.to_be_bytes(), &[0, 0, 0, 2, 5, 9]];
    write("formats", "directory", &directory.concat());
    write("formats", "lens", &[0, 0, 1, 0, 3, 7, 0, 1, 200, 1, 4]);
    write("formats", "block", &[0, 0, 0, 0, 0, 0, 0, 9, 3, 1, 1, 0b0110_0101, 0b11]);
    write("formats", "acknowledged", &[0, 0, 0, 0, 0, 0, 0, 1].repeat(4)[..28]);
    write("formats", "log", &[&[9, 9, 9, 9, 3, 0, 1, 5, 5, 5][..], &[0; 20]].concat());
    write("formats", "key", &[0, 0, 0, 1, 0, 0, 0, 2]);
    write("formats", "peaks", &[2, 4, 1, 1, 10, 3, 20, 2, 1, 1, 1, 1, 1, 1]);
}

fn clip_fingerprint() -> Vec<u8> {
    let (params, options) = (Params::default(), DecodeOptions::default());
    let wav = clip_wav();
    let made = Fingerprint::from_audio(Input::Bytes(&wav), &options, &params, Role::Query);
    made.unwrap().0.to_bytes(&params)
}

/// Three seconds of the track, as 8-bit samples.
fn clip_wav() -> Vec<u8> {
    let mut samples = Vec::new();
    let (options, input) = (DecodeOptions::default(), Input::Bytes(requests::TRACK));
    fingerprint_core::decode::decode(input, &options, &mut |chunk, _| {
        samples.extend(chunk.iter().map(|sample| (sample * 127.0 + 128.0) as u8));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let clip = &samples[80_000..104_000];
    let len = u32::try_from(clip.len()).unwrap();
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + len).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data");
    wav.extend(len.to_le_bytes());
    wav.extend(clip);
    wav
}

/// One of every call. Numbers of calls are as `requests.rs` counts them: methods in the order of the
/// descriptors, then addresses.
fn write_requests() {
    use v1::audio::Source;
    use v1::match_stream_request::Part;
    use v1::stream_header::Format;

    let call = |name: &str| requests::call_number(name).unwrap();
    let one =
        |name: &str, message: &dyn Fn() -> Vec<u8>| [&[call(name), 0][..], &message()].concat();
    let audio = |source| Some(v1::Audio { source: Some(source) });
    let query = |source| v1::MatchRequest { audio: audio(source), ..Default::default() };
    let encoded = query(Source::Encoded(clip_wav().into()));
    let fingerprint = query(Source::Fingerprint(clip_fingerprint().into()));
    let batch = v1::BatchMatchRequest { requests: vec![fingerprint.clone(), fingerprint.clone()] };
    write("requests", "match_wav", &one("Match", &|| encoded.encode_to_vec()));
    write("requests", "match_fingerprint", &one("Match", &|| fingerprint.encode_to_vec()));
    write("requests", "batch", &one("BatchMatch", &|| batch.encode_to_vec()));
    let web = [&[call("Match"), 3][..], &fingerprint.encode_to_vec()].concat();
    write("requests", "web", &web);
    for name in ["GetTrack", "RemoveTrack", "ListTracks", "GetStats", "CreateBackup", "ListBackups"]
    {
        let id = v1::GetTrackRequest { track_id: "cold_day".to_owned() };
        write("requests", name, &one(name, &|| id.encode_to_vec()));
    }
    let several = |name: &str, messages: &[Vec<u8>]| {
        let mut bytes = vec![call(name), 1];
        for message in messages {
            bytes.extend(u16::try_from(message.len()).unwrap().to_le_bytes());
            bytes.extend(message);
        }
        bytes
    };
    let stream = |format, data: Vec<Vec<u8>>| {
        let header = v1::StreamHeader { format: Some(format), ..Default::default() };
        let mut parts = vec![Part::Header(header)];
        parts.extend(
            data.into_iter()
                .map(|data| Part::Audio(v1::StreamAudio { data: data.into(), position: None })),
        );
        let messages = parts.into_iter().map(|part| v1::MatchStreamRequest { part: Some(part) });
        several("MatchStream", &messages.map(|m| m.encode_to_vec()).collect::<Vec<_>>())
    };
    let samples: Vec<u8> = clip_wav()[44..].iter().flat_map(|s| [0, s.wrapping_sub(128)]).collect();
    let pcm = Format::Pcm(v1::PcmFormat { sample_rate_hz: 8_000, ..Default::default() });
    let pieces = |bytes: &[u8]| bytes.chunks(8_000).map(<[u8]>::to_vec).collect::<Vec<_>>();
    write("requests", "stream_pcm", &stream(pcm, pieces(&samples)));
    let format = Format::Encoded(v1::EncodedFormat {});
    write("requests", "stream_encoded", &stream(format, pieces(&clip_wav())));
    let format = Format::Fingerprint(v1::FingerprintFormat {});
    write("requests", "stream_fingerprints", &stream(format, vec![clip_fingerprint(); 2]));
    let add = |part| v1::AddTrackRequest { part: Some(part) };
    use v1::add_track_request::Part as Upload;
    let header = v1::AddTrackHeader { track_id: "new".to_owned(), ..Default::default() };
    let upload = [
        add(Upload::Header(header)).encode_to_vec(),
        add(Upload::Data(clip_wav().into())).encode_to_vec(),
    ];
    write("requests", "add", &several("AddTrack", &upload));
    for (i, (address, kind, body)) in [
        ("?max_matches=2&speed_search=off", "application/octet-stream", clip_wav()),
        ("?id=new&title=A", "audio/wav", clip_wav()),
        ("?limit=2&after=a", "", vec![]),
        ("cold_day", "", vec![]),
        ("new?artist=B", "audio/wav", clip_wav()),
        ("new", "", vec![]),
        ("", "", vec![]),
        ("v1/openapi.json", "", vec![]),
    ]
    .into_iter()
    .enumerate()
    {
        let number = requests::call_number("").unwrap() + u8::try_from(i).unwrap();
        let head = [&[number][..], address.as_bytes(), b"\n", kind.as_bytes(), b"\n"].concat();
        write("requests", &format!("http_{i}"), &[head, body].concat());
    }
    let form = [
        &b"--x\r\nContent-Disposition: form-data; name=\"max_matches\"\r\n\r\n3\r\n--x\r\nContent-Disposition: form-data; name=\"fingerprint\"; filename=\"a\"\r\n\r\n"[..],
        &clip_fingerprint(),
        b"\r\n--x--\r\n",
    ]
    .concat();
    let head = [&[requests::call_number("").unwrap()][..], b"\nmultipart/form-data; boundary=x\n"];
    write("requests", "form", &[head.concat(), form].concat());
}
