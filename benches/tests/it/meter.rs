//! The binary `recognition`, run as its users do.

use std::fs;
use std::process::{Command, Output};

use earmark_benches::testdata;

fn recognition(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recognition")).args(arguments).output().unwrap()
}

/// Runs with the conditions that need no other program; gives the table and the file.
fn measure(jobs: &str, more: &[&str]) -> (String, String) {
    let folder = testdata("catalog");
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("results.tsv");
    let mut arguments = vec![folder.to_str().unwrap(), "--jobs", jobs, "--shortest", "18"];
    arguments.extend(["--held-out", "0.3", "--queries", "2", "--negatives", "1"]);
    arguments.extend(["--conditions", "music0,telephone,8_bit,one_inverted,speed+3"]);
    arguments.extend(["--lengths", "6", "--output", output.to_str().unwrap()]);
    arguments.extend(more);
    let run = recognition(&arguments);
    let complaints = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{complaints}");
    (String::from_utf8(run.stdout).unwrap(), fs::read_to_string(output).unwrap())
}

/// Without the last two columns, which are times.
fn without_times(tsv: &str) -> Vec<&str> {
    tsv.lines().map(|line| line.rsplitn(3, '\t').last().unwrap()).collect()
}

#[test]
fn the_seed_decides_and_the_threads_do_not() {
    let (table, alone) = measure("1", &[]);
    let (_, together) = measure("3", &[]);
    assert_eq!(without_times(&alone), without_times(&together));
    let (_, other) = measure("2", &["--seed", "8"]);
    assert_ne!(without_times(&alone), without_times(&other));
    // A header, and three queries for each of five conditions.
    assert_eq!(alone.lines().count(), 1 + 5 * 3);
    let columns = alone.lines().map(|line| line.split('\t').count());
    assert!(columns.into_iter().all(|count| count == 19), "{alone}");
    // Nothing is easier than these.
    for condition in ["8_bit", "one_inverted", "speed+3"] {
        let row = table.lines().find(|line| line.starts_with(condition)).unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells[1..4], ["6", "2", "100.0"], "{table}");
    }
    assert!(table.contains("hits with 0 of the held-out queries answered"), "{table}");
}

#[test]
fn distractors_are_added_and_described() {
    let (table, _) = measure("2", &["--distractors", "0.2"]);
    assert!(table.contains("synthetic tracks indexed (0.2"), "{table}");
    let rates = |name: &str| -> f64 {
        let row = table.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        row.split_whitespace().nth(3).unwrap().parse().unwrap()
    };
    let (real, made) = (rates("real "), rates("synthetic "));
    assert!((made / real - 1.0).abs() < 0.3, "{table}");
}

#[test]
fn mistakes_are_named_with_the_way_out() {
    let folder = testdata("catalog");
    let folder = folder.to_str().unwrap();
    let empty = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (vec![folder, "--conditions", "clean,nois"], "--conditions: there is no \"nois\""),
        (vec!["/nowhere"], "/nowhere cannot be opened; give a folder"),
        (vec![empty.path().to_str().unwrap()], "has no recording to index"),
        (vec![folder, "--shortest", "1000"], "12 files were too short (--shortest)"),
        (vec![folder, "--output", "/nowhere/a.tsv"], "--output: /nowhere/a.tsv cannot be written"),
        (vec![folder, "--index", folder], "--index"),
        (vec![folder, "--noise", "/nowhere"], "--noise: /nowhere cannot be opened"),
    ] {
        let run = recognition(&arguments);
        let complaints = String::from_utf8(run.stderr).unwrap();
        assert!(!run.status.success() && complaints.contains(expected), "{complaints}");
        assert!(run.stdout.is_empty());
    }
}

#[test]
fn an_index_that_holds_what_is_held_out_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("index");
    let index = index.to_str().unwrap();
    let kept = ["--index", index];
    let (_, first) = measure("2", &kept);
    let (_, again) = measure("2", &kept);
    assert_eq!(without_times(&first), without_times(&again));
    let folder = testdata("catalog");
    let arguments = [folder.to_str().unwrap(), "--shortest", "18", "--seed", "9", "--index", index];
    let run = recognition(&arguments);
    let complaints = String::from_utf8(run.stderr).unwrap();
    assert!(complaints.contains("which is to be held out"), "{complaints}");
}
