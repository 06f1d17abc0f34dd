//! The binary `soak`, for seconds instead of half an hour.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_short_soak_finds_nothing_wrong_and_did_something() {
    let soak = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--duration", "20s", "--streams", "3", "--callers", "2"])
        .output()
        .unwrap();
    let told = String::from_utf8(soak.stderr).unwrap();
    assert!(soak.status.success(), "{told}");
    let count = |what: &str| -> u64 {
        let line = told.lines().find(|line| line.ends_with(what));
        let line = line.unwrap_or_else(|| panic!("no {what}: {told}"));
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(count("clips over HTTP") > 0);
    assert!(count("tracks replaced") > 0);
    assert!(count("recordings played in streams") > 0);
    assert_eq!(count(" wrong"), 0);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let soak = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--server", "/no/such/server"])
        .output()
        .unwrap();
    let told = String::from_utf8(soak.stderr).unwrap();
    assert_eq!(soak.status.code(), Some(2), "{told}");
    assert!(told.contains("/no/such/server") && told.contains("build the workspace"), "{told}");
}

/// As of a server whose threads wait for each other: connections are made, and nobody answers.
#[test]
fn a_server_that_answers_nobody_fails_the_soak_in_time_and_is_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = folder.path().join("server");
    let address = listener.local_addr().unwrap();
    let script = format!("#!/bin/sh\necho \"listening on {address}\" >&2\nexec sleep 600\n");
    std::fs::write(&server, script).unwrap();
    std::fs::set_permissions(&server, std::fs::Permissions::from_mode(0o755)).unwrap();
    let began = Instant::now();
    let soak = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--duration", "5s", "--answer-time-max", "1s", "--end-time-max", "3s"])
        .args(["--streams", "2", "--callers", "4", "--server"])
        .arg(&server)
        .output()
        .unwrap();
    let told = String::from_utf8(soak.stderr).unwrap();
    assert_eq!(soak.status.code(), Some(1), "{told}");
    assert!(began.elapsed() < Duration::from_secs(60), "{told}");
    for words in [
        "WRONG: over HTTP: timeout",
        "WRONG: stream soak-",
        // A dozen recordings, one after the other, each with its limit.
        "WRONG: changes had not ended 3s after the time was over",
        "WRONG: the server did not end well",
    ] {
        assert!(told.contains(words), "no {words}: {told}");
    }
    let (_, pid) = told.lines().next().unwrap().rsplit_once("server ").unwrap();
    assert!(!Path::new("/proc").join(pid).exists(), "{told}");
}
