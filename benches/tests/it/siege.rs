//! The binary `siege`, on a small scale.

use std::process::{Command, Output};

fn siege(more: &[&str]) -> Output {
    let scale = ["--connections", "200", "--clips", "24", "--uploads", "4", "--bombs", "6"];
    Command::new(env!("CARGO_BIN_EXE_siege"))
        .args(scale)
        .args(["--streams", "6"])
        .args(more)
        .output()
        .unwrap()
}

/// Other tests may want the processors at the same time, so not everything that a guest asks need be answered.
#[test]
fn a_server_that_is_beset_serves_others_and_keeps_within_its_memory() {
    let siege = siege(&["--phase", "4s", "--memory-max", "1300", "--answered-min", "50"]);
    let told = String::from_utf8(siege.stderr).unwrap();
    assert!(siege.status.success(), "{told}");
    // It was beset indeed, in every way.
    let count = |who: &str, what: &str| -> u64 {
        let lines = told.lines().filter_map(|line| line.strip_prefix(who)?.strip_prefix(": "));
        let counts = lines.filter_map(|line| {
            let (count, rest) = line.split_once(" × ")?;
            rest.starts_with(what).then(|| count.parse::<u64>().unwrap())
        });
        counts.sum()
    };
    assert!(count("connections", "opened") >= 200, "{told}");
    assert!(count("stalled clips", "429") > 0, "{told}");
    assert!(count("days of silence", "413") + count("days of silence", "429") > 0, "{told}");
    assert!(count("streams", "opened") > 0, "{told}");
}

#[test]
fn a_server_that_takes_more_memory_than_it_may_fails() {
    let siege = siege(&["--phase", "500ms", "--memory-max", "1", "--answered-min", "0"]);
    let told = String::from_utf8(siege.stderr).unwrap();
    assert_eq!(siege.status.code(), Some(1), "{told}");
    assert!(told.contains("WRONG: nobody else: it took "), "{told}");
}
