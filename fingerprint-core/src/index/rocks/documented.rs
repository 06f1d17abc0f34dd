//! `docs/format.md` says what is written: its table of sizes and its examples are made anew here and
//! compared, so that neither document nor code can drift away from the other.
//!
//! If a format has changed on purpose, the failure prints what has to stand in the document.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use rocksdb::IteratorMode;

use super::{Limits, META, PARTS, RocksIndex, TRACKS, lock};
use crate::fingerprint::Fingerprint;
use crate::hash::{BUCKET_COUNT, CELL_COUNT, SLOT_COUNT};
use crate::index::bits::WIDTH_MAX;
use crate::index::block::{BLOCK_LEN, CHUNK_LEN};
use crate::index::segment::Entry;
use crate::index::stored_peaks::{PIECE_LEN, coarse};
use crate::index::write::Recording;
use crate::index::{Metadata, POSITION_MS, Posting};
use crate::landmark::reference_landmarks;
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// Finer than they are stored.
const PEAKS: [Peak; 3] = [
    Peak { time_ms: 21, freq: 2_001, level: 141, rank: 0 },
    Peak { time_ms: 300, freq: 2_100, level: 150, rank: 0 },
    Peak { time_ms: 699, freq: 2_049, level: 119, rank: 1 },
];
/// Bytes in a line of the document.
const LINE_BYTES: usize = 32;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    fs::read_to_string(path).unwrap()
}

/// The text in the document between the fences of an example.
fn example(name: &str) -> String {
    let document = document();
    let begin = format!("```text example:{name}\n");
    let (_, behind) = document.split_once(&begin).unwrap_or_else(|| panic!("no {begin:?}"));
    behind.split_once("```").unwrap().0.to_owned()
}

fn assert_documented(name: &str, made: &str) {
    assert!(example(name) == made, "docs/format.md: example:{name} has to be\n{made}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn content_hash() -> ContentHash {
    ContentHash(std::array::from_fn(|i| 7 * i as u8))
}

/// A value as lines: text where it is, otherwise bytes.
fn push_value(text: &mut String, value: &[u8]) {
    if value.first() == Some(&b'{') {
        // Wrapped, not indented: these are the very bytes but for the line ends.
        let json = std::str::from_utf8(value).unwrap();
        let mut line = String::new();
        for part in json.split_inclusive(',') {
            if line.len() + part.len() > 92 {
                writeln!(text, "    {line}").unwrap();
                line.clear();
            }
            line.push_str(part);
        }
        writeln!(text, "    {line}").unwrap();
    }
    let is_text = value.first() == Some(&b'{');
    for bytes in value.chunks(LINE_BYTES).filter(|_| !is_text) {
        writeln!(text, "    {}", hex(bytes)).unwrap();
    }
}

/// Everything in an index.
fn dump(index: &RocksIndex) -> String {
    let mut text = String::new();
    for part in PARTS {
        for row in index.inner.db.iterator_cf(index.inner.family(part), IteratorMode::Start) {
            let (key, value) = row.unwrap();
            let key = match part {
                META | TRACKS => std::str::from_utf8(&key).unwrap().to_owned(),
                _ => hex(&key),
            };
            writeln!(text, "{part} {key}").unwrap();
            push_value(&mut text, &value);
        }
    }
    text
}

#[test]
fn the_example_of_an_index_is_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let index = RocksIndex::open_with(folder.path(), &Params::default(), Limits::default(), None);
    let index = index.unwrap();
    let id = TrackId::new("t1").unwrap();
    let metadata = Metadata { title: Some("Example".to_owned()), ..Metadata::default() };
    let recording = Recording {
        id: &id,
        metadata: &metadata,
        duration_s: 1.5,
        content_hash: content_hash(),
        added_at_ms: 1_700_000_000_000,
        peaks: &PEAKS,
    };
    let mut next = lock(&index.inner.next_position);
    index.inner.put_distinct(&[recording], &mut next).unwrap();
    drop(next);
    index.flush().unwrap();
    assert_documented("index", &dump(&index));
}

#[test]
fn the_landmarks_of_the_example_are_its_postings() {
    let mut text = String::new();
    let stored = PEAKS.map(coarse);
    let described = |Peak { time_ms, freq, level, rank }: Peak| {
        format!("{time_ms} ms, frequency {freq}, level {level}, rank {rank}")
    };
    for (peak, stored) in PEAKS.into_iter().zip(stored) {
        writeln!(text, "peak      {}", described(peak)).unwrap();
        writeln!(text, "  stored  {}", described(stored)).unwrap();
    }
    for landmark in reference_landmarks(&stored, 0..stored.len(), &Params::default()) {
        let (bucket, cell) = (landmark.key.bucket, landmark.key.cell);
        let (zone, ratio) = (bucket >> 20, bucket >> 10 & 0x3ff);
        let (eighth, dt) = (bucket >> 7 & 7, bucket & 0x7f);
        let position = landmark.anchor_ms / POSITION_MS;
        let entry = Entry::new(Posting { key: landmark.key, position });
        assert_eq!(entry.posting().key, landmark.key);
        let key_number = u64::from(bucket) * u64::from(CELL_COUNT) + u64::from(cell);
        writeln!(
            text,
            "landmark  anchor {} ms: zone {zone}, ratio {ratio}, eighth {eighth}, dt {dt}, cell {cell}\n  \
             posting bucket × CELL_COUNT + cell = {key_number:#x}, position {position}",
            landmark.anchor_ms
        )
        .unwrap();
    }
    assert_documented("landmarks", &text);
}

#[test]
fn the_example_of_a_fingerprint_is_what_is_sent() {
    let fingerprint = Fingerprint {
        duration_ms: 1_500,
        content_hash: content_hash(),
        level_db: -20.0,
        peaks: PEAKS.to_vec(),
    };
    let mut text = String::new();
    push_value(&mut text, &fingerprint.to_bytes(&Params::default()));
    assert_documented("fingerprint", &text.replace("    ", ""));
}

/// The rows between backquotes of the table of sizes.
#[test]
fn the_table_of_sizes_is_that_of_the_code() {
    // The least value that is stored as it is.
    let step = |stored: &dyn Fn(u32) -> u32| u64::from((1..).find(|x| stored(*x) == *x).unwrap());
    let none = Peak { time_ms: 0, freq: 0, level: 0, rank: 0 };
    let sizes = [
        ("POSITION_MS", u64::from(POSITION_MS)),
        ("TIME_STEP", step(&|t| coarse(Peak { time_ms: t, ..none }).time_ms)),
        ("FREQ_STEP", step(&|f| coarse(Peak { freq: f as u16, ..none }).freq.into())),
        ("LEVEL_STEP", step(&|l| coarse(Peak { level: l as u8, ..none }).level.into())),
        ("PIECE_LEN", PIECE_LEN as u64),
        ("BLOCK_LEN", BLOCK_LEN as u64),
        ("CHUNK_LEN", CHUNK_LEN as u64),
        ("WIDTH_MAX", u64::from(WIDTH_MAX)),
        ("BUCKET_COUNT", u64::from(BUCKET_COUNT)),
        ("CELL_COUNT", u64::from(CELL_COUNT)),
        ("SLOT_COUNT", u64::from(SLOT_COUNT)),
    ];
    let document = document();
    for (name, value) in sizes {
        let row = format!("| `{name}` | {value} |");
        assert!(document.contains(&row), "docs/format.md has to say {row}");
    }
    for (format, version) in [
        ("index", super::FORMAT_VERSION),
        ("fingerprint", crate::fingerprint::FORMAT_VERSION.into()),
    ] {
        let row = format!("| {format} | {version} |");
        assert!(document.contains(&row), "docs/format.md has to say {row}");
    }
}
