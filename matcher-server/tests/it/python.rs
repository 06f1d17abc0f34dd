//! Clients in Python: grpcio alone, which shares no code with us and learns the interface from the
//! server's reflection service; and our own client.

use std::path::Path;
use std::process::Command;

use crate::support::{Process, cut, tune, wav};

/// Names the interpreter that has what these tests need installed.
pub(crate) const PYTHON: &str = "EARMARK_TEST_PYTHON";

/// The interpreter; `None`, and a loud word, where there is none.
pub(crate) fn python() -> Option<String> {
    if let Ok(python) = std::env::var(PYTHON) {
        return Some(python);
    }
    let how = format!(
        "set {PYTHON} to a Python that has matcher-server/tests/python/requirements.txt and clients/python/requirements-test.txt installed"
    );
    assert!(std::env::var_os("CI").is_none(), "the Python clients must run in CI: {how}");
    eprintln!("\n******** SKIPPED: the Python clients were NOT tested; {how} ********\n");
    None
}

#[test]
fn the_client_for_python_passes_its_own_tests() {
    let Some(python) = python() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/python");
    let output = Command::new(&python)
        .args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"])
        .current_dir(folder)
        .env("EARMARK_SERVER", env!("CARGO_BIN_EXE_earmark-server"))
        .output()
        .unwrap_or_else(|error| panic!("{PYTHON}={python}: {error}"));
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains(" passed") && !out.contains("skipped"), "{out}");
}

#[test]
fn a_foreign_client_does_everything_through_reflection() {
    let Some(python) = python() else { return };
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
