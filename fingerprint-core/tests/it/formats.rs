//! Indexes as releases have written them, in `testdata/index`: opened, or refused and made new, for
//! ever.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{FORMAT_VERSION, Index, IndexError, Reindexed, RocksIndex, reindex};
use fingerprint_core::matching::{MatchOptions, match_fingerprint};
use fingerprint_core::params::{Params, Role};
use tempfile::TempDir;

/// How far a told offset may be from the described one.
const OFFSET_ERROR_S: f64 = 0.1;
/// Id, title and content hash of the tracks that are in every fixture; another one was removed.
const TRACKS: [(&str, &str, &str); 2] = [
    ("cold_day", "Cold Day", "5599c5c4fc4f48bc233b0e6869090e0aca97fcd337dc166ec8ee283942cb6847"),
    (
        "robot_dity",
        "Robot Dity",
        "73095c6fec38dca819e38811742f1640cec4e4dbd0398e2560d2afba68786b9d",
    ),
];
/// When they were added to the fixture of format 1.
const ADDED_TO_FORMAT_1_AT_MS: [u64; 2] = [1_795_704_952_789, 1_795_704_952_798];

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

/// A copy, because opening an index changes its files.
fn fixture(version: u32) -> TempDir {
    let from = testdata(&format!("index/format-{version}"));
    let copy = tempfile::tempdir().unwrap();
    let entries = fs::read_dir(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries {
        let file = entry.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

/// Names and bytes of all files.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The index holds the described tracks and answers as described.
fn assert_whole(index: &RocksIndex) {
    let records = index.tracks(None, 9).unwrap();
    let ids: Vec<_> = records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, TRACKS.map(|(id, _, _)| id));
    for (record, (_, title, content_hash)) in records.iter().zip(TRACKS) {
        assert_eq!(record.metadata.title.as_deref(), Some(title));
        assert_eq!(record.metadata.artist.as_deref(), Some("Macroform"));
        assert_eq!(record.metadata.attributes["licence"], "CC-BY-SA-3.0");
        assert_eq!(record.content_hash.to_string(), content_hash);
        assert!((record.duration_s - 30.0).abs() < 1e-9, "{record:?}");
    }
    let answers = fs::read_to_string(testdata("index/answers.csv")).unwrap();
    let rows: Vec<Vec<&str>> =
        answers.lines().skip(1).map(|row| row.split(',').collect()).collect();
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_answer(index, &row);
    }
}

/// `row`: clip, expected track, expected offset; the last two are empty if nothing is to be found.
fn assert_answer(index: &RocksIndex, row: &[&str]) {
    let [clip, track, offset_s] = row else { panic!("{row:?}") };
    let (params, path) = (Params::default(), testdata(clip));
    let options = DecodeOptions::default();
    let query = Fingerprint::from_audio(Input::Path(&path), &options, &params, Role::Query);
    let query = query.unwrap().0;
    let options = MatchOptions::default();
    let report = match_fingerprint(index, &query, &options, &params, &|| false).unwrap();
    let best = report.matches.first();
    assert_eq!(best.map_or("", |best| best.track_id.as_str()), *track, "{clip}");
    if let Some(best) = best {
        let expected: f64 = offset_s.parse().unwrap();
        // Robot Dity repeats itself every 8 s, and hardly tells in which repeat a clip is.
        let others = best.alternatives.iter().map(|o| o.reference_start_s - best.query_start_s);
        let mut offsets = others.chain([best.reference_offset_s]);
        let is_right = |offset_s: f64| (offset_s - expected).abs() <= OFFSET_ERROR_S;
        assert!(offsets.any(is_right), "{clip}: {best:?}");
    }
}

fn reindexed(old: &Path, new: &Path) -> Reindexed {
    reindex(old, new, &Params::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn every_format_up_to_the_present_one_has_a_fixture() {
    let mut names: Vec<_> = fs::read_dir(testdata("index"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let expected: Vec<_> =
        (1..=FORMAT_VERSION).map(|version| format!("format-{version}")).collect();
    assert_eq!(names, expected, "scripts/index-fixture makes the one of the present format");
}

#[test]
fn format_1_is_refused_with_the_command_that_makes_a_new_index_of_it() {
    let (old, new) = (fixture(1), tempfile::tempdir().unwrap());
    let before = files(old.path());
    let refused = RocksIndex::open(old.path(), &Params::default()).unwrap_err();
    assert!(matches!(refused, IndexError::FormatVersion { actual: 1, .. }), "{refused}");
    let command = format!("earmark reindex {} --index NEW_FOLDER", old.path().display());
    assert!(refused.to_string().contains(&command), "{refused}");
    let result = reindexed(old.path(), new.path());
    assert_eq!((result.copied_count, result.damaged_count, result.is_complete), (2, 0, true));
    let index = RocksIndex::open(new.path(), &Params::default()).unwrap();
    assert_whole(&index);
    let records = index.tracks(None, 9).unwrap();
    let added_at_ms: Vec<_> = records.iter().map(|record| record.added_at_ms).collect();
    assert_eq!(added_at_ms, ADDED_TO_FORMAT_1_AT_MS);
    assert_eq!(files(old.path()), before, "the old index is only read");
}

#[test]
fn the_present_format_is_opened_and_answers() {
    let old = fixture(FORMAT_VERSION);
    let index = RocksIndex::open(old.path(), &Params::default()).unwrap();
    assert_whole(&index);
    // Only stored postings were read so far, or made anew; merging reads and writes all.
    index.compact().unwrap();
    assert_whole(&index);
}

#[test]
fn the_present_format_is_reindexed() {
    let (old, new) = (fixture(FORMAT_VERSION), tempfile::tempdir().unwrap());
    let before = files(old.path());
    assert_eq!(reindexed(old.path(), new.path()).copied_count, 2);
    assert_eq!(files(old.path()), before, "the old index is only read");
    assert_whole(&RocksIndex::open(new.path(), &Params::default()).unwrap());
}
