//! A client that shares no code with us: Python's grpcio, which learns the interface from the
//! server's reflection service.

use std::path::Path;
use std::process::Command;

use crate::support::{Process, cut, tune, wav};

/// Names the interpreter that has `tests/python/requirements.txt` installed.
const PYTHON: &str = "EARMARK_TEST_PYTHON";

#[test]
fn a_foreign_client_does_everything_through_reflection() {
    let Ok(python) = std::env::var(PYTHON) else {
        let how = format!(
            "set {PYTHON} to a Python that has matcher-server/tests/python/requirements.txt installed"
        );
        assert!(std::env::var_os("CI").is_none(), "the foreign client must run in CI: {how}");
        eprintln!("\n******** SKIPPED: the foreign client was NOT tested; {how} ********\n");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(&folder.path().join("index"), &[]);
    let audio = tune(1, 30);
    let (track, clip) = (folder.path().join("track.wav"), folder.path().join("clip.wav"));
    std::fs::write(&track, wav(&audio)).unwrap();
    std::fs::write(&clip, wav(cut(&audio, 12, 20))).unwrap();
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/driver.py");
    let output = Command::new(&python)
        .arg(driver)
        .arg(&server.address)
        .args([&track, &clip])
        .arg("12")
        .output()
        .unwrap_or_else(|error| panic!("{PYTHON}={python}: {error}"));
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    // The last line: the driver did not end early.
    assert!(out.ends_with("all answers are right\n"), "{out}\n{err}");
}
