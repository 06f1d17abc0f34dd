//! The real command on real audio.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic here is a failed test"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

fn earmark(index: &Path, args: &[&str], files: &[PathBuf]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_earmark"));
    command.args(args).arg("--index").arg(index).args(files).output().unwrap()
}

fn ingest(index: &Path) -> Output {
    let manifest = testdata("catalog.csv");
    earmark(index, &["ingest", "--manifest", manifest.to_str().unwrap()], &[])
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_noisy_clip_is_found_at_its_place_in_every_codec() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(ingest(folder.path()).status.code(), Some(0));
    let clips = ["clips/cold_day_noisy.mp3", "clips/not_in_catalog.mp3"].map(testdata);
    let output = earmark(folder.path(), &["match", "--format", "json"], &clips);
    assert_eq!(output.status.code(), Some(0));
    let answers = lines(&output);
    let best = &answers[0]["matches"][0];
    assert_eq!(best["track_id"], "cold_day");
    assert_eq!(best["title"], "Cold Day");
    assert!((best["reference_offset_s"].as_f64().unwrap() - 12.0).abs() < 0.1, "{best}");
    assert_eq!(answers[1]["status"], "no_match");
    assert_eq!(answers[1]["matches"], Value::Array(Vec::new()));

    let mut codecs: Vec<_> =
        std::fs::read_dir(testdata("codecs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    codecs.sort();
    let output = earmark(folder.path(), &["match", "--format", "json"], &codecs);
    for (answer, path) in lines(&output).iter().zip(&codecs) {
        assert_eq!(answer["query"], path.to_str().unwrap(), "answers keep the order of arguments");
        assert_eq!(answer["matches"][0]["track_id"], "robot_dity", "{answer}");
    }
}

/// The contract that other programs read: names and order of all fields.
#[test]
fn json_has_exactly_the_documented_fields() {
    let folder = tempfile::tempdir().unwrap();
    ingest(folder.path());
    let clip = testdata("clips/cold_day_noisy.mp3");
    let output = earmark(folder.path(), &["match", "--format", "json"], &[clip]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut rest = text.as_str();
    for key in [
        "query",
        "duration_s",
        "elapsed_ms",
        "status",
        "matches",
        "track_id",
        "title",
        "artist",
        "isrc",
        "score",
        "confidence",
        "e_value",
        "query_start_s",
        "query_end_s",
        "reference_start_s",
        "reference_end_s",
        "reference_offset_s",
        "speed",
        "pitch",
        "error",
    ] {
        let quoted = format!("\"{key}\":");
        let at = rest.find(&quoted).unwrap_or_else(|| panic!("{key} is missing in {text}"));
        rest = &rest[at + quoted.len()..];
    }
}

#[test]
fn exit_codes_are_those_of_grep() {
    let folder = tempfile::tempdir().unwrap();
    let clip = [testdata("clips/not_in_catalog.mp3")];
    let missing = earmark(folder.path(), &["match"], &clip);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("earmark ingest"));
    ingest(folder.path());
    assert_eq!(earmark(folder.path(), &["match"], &clip).status.code(), Some(1));
    let absent = [testdata("clips/absent.mp3")];
    assert_eq!(earmark(folder.path(), &["match"], &absent).status.code(), Some(2));
}

#[test]
fn one_bad_file_does_not_stop_the_job_and_a_second_run_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (index, music) = (folder.path().join("index"), folder.path().join("music"));
    std::fs::create_dir(&music).unwrap();
    std::fs::write(music.join("broken.mp3"), b"this is no audio").unwrap();
    std::fs::copy(testdata("codecs/flac.flac"), music.join("a.flac")).unwrap();
    std::fs::copy(testdata("codecs/pcm_s16.wav"), music.join("b.wav")).unwrap();
    let report = folder.path().join("report.csv");
    let args = ["ingest", "--format", "json", "--report", report.to_str().unwrap()];
    let first = earmark(&index, &args, std::slice::from_ref(&music));
    assert_eq!(first.status.code(), Some(2));
    let summary = &lines(&first)[0];
    // FLAC and WAV hold the same samples, so they get the same id from their content.
    assert_eq!(
        (&summary["added"], &summary["duplicates"], &summary["failed"]),
        (&1.into(), &1.into(), &1.into())
    );
    let rows = std::fs::read_to_string(report).unwrap();
    assert_eq!(rows.lines().count(), 4, "{rows}");
    assert!(rows.contains("broken.mp3,failed,,"), "{rows}");
    let again = |force: &[&str]| {
        let args = [&["ingest", "--format", "json"], force].concat();
        lines(&earmark(&index, &args, std::slice::from_ref(&music))).remove(0)
    };
    // The journal knows both files; without it, the second is a duplicate once more.
    assert_eq!(again(&[])["unchanged"], 2);
    let forced = again(&["--force"]);
    assert_eq!((&forced["unchanged"], &forced["duplicates"]), (&1.into(), &1.into()));
    // The journal is never believed against the catalog: what was removed is read again.
    let listed = earmark(&index, &["tracks", "list", "--format", "json"], &[]);
    let id = lines(&listed)[0]["track_id"].as_str().unwrap().to_owned();
    assert_eq!(earmark(&index, &["tracks", "remove", &id], &[]).status.code(), Some(0));
    assert_eq!(again(&[])["added"], 1);
}

#[test]
fn an_unreachable_server_is_an_error_that_names_it() {
    // Port 1 is privileged and unused; a connection is refused at once.
    let mut command = Command::new(env!("CARGO_BIN_EXE_earmark"));
    let output = command.args(["stats", "--server", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("http://127.0.0.1:1; is earmark-server running?"), "{text}");
}

#[test]
fn a_removed_track_never_answers_again() {
    let folder = tempfile::tempdir().unwrap();
    ingest(folder.path());
    let remove = |id: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_earmark"));
        command.args(["tracks", "remove", id, "--index"]).arg(folder.path()).output().unwrap()
    };
    assert_eq!(remove("cold_day").status.code(), Some(0));
    assert_eq!(remove("cold_day").status.code(), Some(1));
    let clip = [testdata("clips/cold_day_noisy.mp3")];
    assert_eq!(earmark(folder.path(), &["match"], &clip).status.code(), Some(1));
    assert_eq!(
        lines(&earmark(folder.path(), &["tracks", "list", "--format", "json"], &[])).len(),
        3
    );
    assert_eq!(
        lines(&earmark(folder.path(), &["stats", "--format", "json"], &[]))[0]["track_count"],
        3
    );
}
