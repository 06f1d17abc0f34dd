//! `earmark match` on a catalog in a folder.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Run, World, csv_rows, testdata};

const CLIPS: [&str; 2] = ["clips/cold_day_noisy.mp3", "clips/not_in_catalog.mp3"];

fn args<'a>(first: &'a [&'a str], files: &'a [std::path::PathBuf]) -> Vec<&'a std::ffi::OsStr> {
    first
        .iter()
        .map(std::ffi::OsStr::new)
        .chain(files.iter().map(|file| file.as_os_str()))
        .collect()
}

/// A second of sound that is loud, or silent.
fn write_wav(path: &Path, length_ms: u32, is_silent: bool) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..16 * length_ms {
        writer.write_sample(if is_silent { 0 } else { random.i16(-9000..9000) }).unwrap();
    }
    writer.finalize().unwrap();
}

#[test]
fn answers_come_in_the_order_of_the_arguments_from_every_codec() {
    let world = World::new().with_catalog();
    let mut files = CLIPS.map(testdata).to_vec();
    let mut codecs: Vec<_> =
        std::fs::read_dir(testdata("codecs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    codecs.sort();
    files.extend(codecs);
    let run = world.run(args(&["match", "--format", "json"], &files));
    assert_eq!(run.code, 0, "{run:?}");
    let answers = run.json();
    let best = &answers[0]["matches"][0];
    assert_eq!((&best["track_id"], &best["title"]), (&"cold_day".into(), &"Cold Day".into()));
    assert!((best["reference_offset_s"].as_f64().unwrap() - 12.0).abs() < 0.1, "{best}");
    assert_eq!(answers[1]["status"], "no_match");
    for (answer, path) in answers.iter().zip(&files) {
        assert_eq!(answer["query"], path.to_str().unwrap());
    }
    for answer in &answers[2..] {
        assert_eq!(answer["matches"][0]["track_id"], "robot_dity", "{answer}");
    }
}

#[test]
fn too_short_silent_and_broken_are_told_apart() {
    let world = World::new().with_catalog();
    let (short, silent) = (world.path("short.wav"), world.path("silent.wav"));
    write_wav(&short, 500, false);
    write_wav(&silent, 5000, true);
    let broken = world.write("broken.mp3", "this is no audio");
    let files = [short, silent, broken, world.path("missing.mp3")];
    let run = world.run(args(&["match", "--format", "json"], &files));
    assert_eq!(run.code, 2);
    let answers = run.json();
    let statuses: Vec<_> =
        answers.iter().map(|answer| answer["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["too_short", "silent", "error", "error"]);
    assert_eq!(answers[0]["duration_s"], 0.5);
    assert!(answers[1]["error"].is_null() && answers[2]["duration_s"].is_null());
    assert!(answers[3]["error"].as_str().unwrap().contains("missing.mp3"), "{answers:?}");
    let human = world.run(args(&["match"], &files)).stdout;
    let lines: Vec<_> = human.lines().collect();
    assert!(lines[0].ends_with("short.wav (0:00.5): too short to tell"), "{human}");
    assert!(lines[1].ends_with("silent.wav (0:05.0): silent"), "{human}");
    assert_eq!(lines[3].matches("missing.mp3").count(), 1, "{human}");
}

#[test]
fn exit_codes_are_those_of_grep() {
    let world = World::new();
    let [hit, miss] = CLIPS.map(testdata);
    let without_index = world.run(args(&["match"], std::slice::from_ref(&hit)));
    assert_eq!(without_index.code, 2);
    assert!(without_index.stderr.contains("earmark ingest"), "{without_index:?}");
    let world = world.with_catalog();
    let code = |files: &[std::path::PathBuf]| world.run(args(&["match"], files)).code;
    assert_eq!(code(std::slice::from_ref(&hit)), 0);
    assert_eq!(code(std::slice::from_ref(&miss)), 1);
    assert_eq!(code(&[miss.clone(), hit.clone()]), 0);
    // An error weighs more than a match, as with grep.
    assert_eq!(code(&[hit, world.path("missing.mp3")]), 2);
    assert_eq!(world.run(["match"]).code, 2);
    assert_eq!(world.run(args(&["match", "--min-confidence", "1.5"], &[miss])).code, 2);
}

#[test]
fn standard_input_is_a_clip_like_any_other() {
    let world = World::new().with_catalog();
    let mut command = world.command(["match", "--format", "json", "-"]);
    let clip = Stdio::from(File::open(testdata(CLIPS[0])).unwrap());
    let run = Run::new(command.stdin(clip).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    let answer = run.json().remove(0);
    assert_eq!(
        (&answer["query"], &answer["matches"][0]["track_id"]),
        (&"-".into(), &"cold_day".into())
    );
    assert_eq!(world.run(["match", "-", "-"]).code, 2);
}

#[test]
fn csv_has_a_row_for_each_match_and_for_each_clip_without() {
    let world = World::new().with_catalog();
    let files = CLIPS.map(testdata);
    let run = world.run(args(&["match", "--format", "csv"], &files));
    let rows = csv_rows(&world.write("answer.csv", &run.stdout));
    assert_eq!(rows.len(), 2, "{run:?}");
    assert_eq!((rows[0]["status"].as_str(), rows[0]["track_id"].as_str()), ("matched", "cold_day"));
    let offset_s: f64 = rows[0]["reference_offset_s"].parse().unwrap();
    assert!((offset_s - 12.0).abs() < 0.1);
    assert_eq!((rows[1]["status"].as_str(), rows[1]["track_id"].as_str()), ("no_match", ""));
}

#[test]
fn people_get_a_table() {
    let world = World::new().with_catalog();
    let human = world.run(args(&["match"], &CLIPS.map(testdata))).stdout;
    let row = human.lines().find(|line| line.contains("cold_day ")).unwrap();
    assert!(row.contains("Cold Day") && row.contains("Macroform"), "{human}");
    assert!(human.contains("in the clip") && human.contains("in the track"), "{human}");
    assert!(human.lines().last().unwrap().ends_with("(0:10.0): no match"), "{human}");
    assert!(!human.contains('\u{1b}'), "no colours where there is no terminal: {human:?}");
}

#[test]
fn fewer_and_surer_matches_can_be_asked_for() {
    let world = World::new().with_catalog();
    let second = world.copy("catalog/cold_day.mp3", "again.mp3");
    let manifest = world.write("again.csv", "path,track_id\nagain.mp3,cold_day_2\n");
    assert_eq!(world.run(["ingest", "--manifest", manifest.to_str().unwrap()]).code, 0);
    let count = |more: &[&str]| {
        let files = [second.clone()];
        let first = [&["match", "--format", "json"], more].concat();
        world.run(args(&first, &files)).json()[0]["matches"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&["--max-matches", "1"]), 1);
    let noisy = world
        .run(args(&["match", "--format", "json", "--min-confidence", "1"], &[testdata(CLIPS[0])]));
    let answer = noisy.json().remove(0);
    let all_certain = answer["matches"].as_array().unwrap().iter().all(|m| m["confidence"] == 1.0);
    assert!(all_certain, "{answer}");
}
