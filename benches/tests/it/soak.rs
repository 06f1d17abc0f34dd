//! The binary `soak`, for seconds instead of half an hour.

use std::process::Command;

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
