//! One index, two processes: the second is refused at once, and a process that was killed bars nobody.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Tells a process of this test that it is the one that has the index, and where that lies.
const HOLDER: &str = "EARMARK_TEST_HOLDS_INDEX";

#[test]
fn a_second_process_is_refused_and_a_killed_one_bars_nobody() {
    if let Some(folder) = std::env::var_os(HOLDER) {
        return hold(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let params = Params::default();
    let name = "index::two_processes::a_second_process_is_refused_and_a_killed_one_bars_nobody";
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(HOLDER, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(answers.any(|line| line.ends_with("holder: opened")));

    let begun = Instant::now();
    let error = RocksIndex::open(folder.path(), &params).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(matches!(error, IndexError::InUse { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("(process {}, ", holder.id())), "{text}");
    assert!(text.contains("--server URL"), "{text}");

    // The first goes on as if nothing had happened.
    writeln!(holder.stdin.as_mut().unwrap(), "add").unwrap();
    assert!(answers.any(|line| line.ends_with("holder: added")));
    assert!(RocksIndex::create_or_open(folder.path(), &params).is_err());

    holder.kill().unwrap();
    holder.wait().unwrap();
    let index = RocksIndex::open(folder.path(), &params).unwrap();
    assert_eq!(index.stats().unwrap().track_count, 2);
}

/// Opens an index and adds a track for each line of standard input.
fn hold(folder: &Path) {
    let index = RocksIndex::create_or_open(folder, &Params::default()).unwrap();
    index.add(&[track(1, 1, 0)]).unwrap();
    answer("opened");
    for _ in std::io::stdin().lines() {
        index.add(&[track(2, 2, 0)]).unwrap();
        answer("added");
    }
}

fn answer(word: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "holder: {word}").and_then(|()| stdout.flush()).unwrap();
}
