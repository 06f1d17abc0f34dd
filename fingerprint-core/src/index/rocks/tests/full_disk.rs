//! A full disk: adding fails with a clear error, nothing acknowledged is lost, memory does not grow,
//! searching goes on, and after room has been made adding does, at the latest when the index is opened
//! again.
//!
//! The disk is a small file system in memory that a child process mounts for itself alone, which
//! takes root or user namespaces; where neither is allowed the test says that it was skipped.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

/// Tells a process of this test that it is the child, and where its disk is.
const CHILD: &str = "EARMARK_TEST_FULL_DISK";
const TEST: &str = "index::rocks::tests::full_disk::a_full_disk_loses_nothing";
/// Mounts the disk and goes on as this test.
const MOUNT: &str =
    r#"mount -t tmpfs -o size="$SIZE" earmark-test "$EARMARK_TEST_FULL_DISK" && exec "$@""#;
/// Exit code of a child that was not allowed to mount, whatever its shell says.
const CANNOT_MOUNT: [i32; 3] = [1, 32, 126];
/// Bytes that make room when they are deleted.
const BALLAST_BYTES: usize = 4 << 20;

#[test]
fn a_full_disk_loses_nothing() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return fill(Path::new(&folder));
    }
    // What is written when the disk is full differs: the log, a table, or a segment.
    for kib in [9_000, 9_700, 10_400] {
        let folder = tempfile::tempdir().unwrap();
        let is_done = [&["--mount"][..], &["--user", "--map-root-user", "--mount"]]
            .iter()
            .any(|namespaces| run_child(folder.path(), kib, namespaces));
        if !is_done {
            // Past the test runner, which shows nothing of tests that pass.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED: {TEST}: no file system can be mounted here").unwrap();
            return;
        }
    }
}

/// Runs the child with a disk of so many KiB; false if it could not mount one.
fn run_child(folder: &Path, kib: usize, namespaces: &[&str]) -> bool {
    let output = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", MOUNT, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, folder)
        .env("SIZE", format!("{kib}k"))
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else { return false };
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.contains("running 1 test") {
        assert!(
            output.status.code().is_some_and(|code| CANNOT_MOUNT.contains(&code)),
            "{output:?}"
        );
        return false;
    }
    assert!(
        output.status.success(),
        "{kib} KiB: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

/// Limits with which a disk of some MiB is full of logs, tables and segments alike. Merges are rare: one
/// that finds no room gives back what it has written, and there is room for another track.
const LIMITS: Limits = Limits { buffer_postings: 2_000, fan_in: 4 };

/// The child: fills its disk.
fn fill(disk: &Path) {
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![7; BALLAST_BYTES]).unwrap();
    let folder = disk.join("index");
    let mut index = open(&folder, LIMITS);
    let oracle = MemoryIndex::new(&Params::default());
    let mut tracks = (0..).map(|i| track(i, i));
    // The disk is full.
    let error = loop {
        let batch: Vec<_> = tracks.by_ref().take(20).collect();
        match index.add(&batch) {
            Ok(_) => drop(oracle.add(&batch).unwrap()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, IndexError::DiskFull { .. }), "{error:?}");
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains(&folder.display().to_string()) && text.contains("disk"), "{text}");

    // However often it is tried, nothing grows, and searching goes on. A merge that has ended, or has
    // given up, deletes what it wrote or read, so there may be room for some more.
    let (mut tried_count, mut failed_count) = (0, 0);
    while failed_count < 300 {
        tried_count += 1;
        assert!(tried_count < 3_000, "{failed_count}");
        let track = tracks.next().unwrap();
        match index.add(std::slice::from_ref(&track)) {
            Ok(_) => drop(oracle.add(&[track]).unwrap()),
            Err(IndexError::DiskFull { .. }) => failed_count += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    let store = index.inner.store();
    let buffered: usize = store.buffers().map(Buffer::len).sum();
    assert!(buffered <= 2 * (LIMITS.buffer_postings + 20 * tried_count), "{buffered}");
    drop(store);
    assert_eq!(live(&index), live(&oracle));

    // There is room again.
    fs::remove_file(&ballast).unwrap();
    let last = [tracks.next().unwrap()];
    // RocksDB goes on by itself only where there is much more room; the message says so.
    if let Err(error) = index.add(&last) {
        assert!(error.to_string().contains("start the program again"), "{error}");
        drop(index);
        index = open(&folder, LIMITS);
        index.add(&last).unwrap();
    }
    oracle.add(&last).unwrap();
    assert_eq!(live(&index), live(&oracle));
    drop(index);
    index = open(&folder, LIMITS);
    assert_eq!(live(&index), live(&oracle));
    index.compact().unwrap();
    assert_eq!(live(&index), live(&oracle));
}

/// The live tracks by id with the number of postings that answer for each.
fn live(index: &dyn Index) -> Vec<(TrackId, usize)> {
    let timeline = index.timeline();
    let all = KeyRange { buckets: 0..=BUCKET_COUNT - 1, cells: 0..=CELL_COUNT - 1 };
    let mut counts = std::collections::BTreeMap::new();
    for (_, posting) in read(index, &[all]) {
        let (_, id) = timeline.locate(posting.position).unwrap();
        *counts.entry(id.clone()).or_default() += 1;
    }
    let records = index.tracks(None, usize::MAX).unwrap();
    assert!(records.iter().map(|record| &record.id).eq(counts.keys()));
    counts.into_iter().collect()
}
