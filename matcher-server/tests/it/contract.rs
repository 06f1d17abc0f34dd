//! The HTTP interface held against its own OpenAPI document, by schemathesis: thousands of requests that the document
//! allows and does not allow, all answers of a kind that it tells.

use std::path::Path;
use std::process::Command;

use matcher_server::keys::{KeyFile, NewKey, Scope};

use crate::python::{PYTHON, python};
use crate::support::Process;

/// Calls that the document has, without the one that tells it.
const OPERATIONS: usize = 9;

#[test]
fn what_is_answered_is_what_the_document_says() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml");
    let new = NewKey { name: "k".to_owned(), scopes: [Scope::Admin].into(), ..NewKey::default() };
    let (_, token) = KeyFile::new(&keys).create(new).unwrap();
    let flags = ["--metrics-listen", "127.0.0.1:0", "--keys", keys.to_str().unwrap()];
    let server = Process::start(&folder.path().join("index"), &flags);
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/contract");
    let output = Command::new(&python)
        .args(["-B", "-m", "schemathesis.cli", "--config-file"])
        .arg(contract.join("schemathesis.toml"))
        .args(["run", "--no-color"])
        .arg(format!("{}/v1/openapi.json", server.url()))
        .current_dir(folder.path())
        .env("EARMARK_KEY", token.reveal())
        .env("SCHEMATHESIS_HOOKS", contract.join("hooks.py"))
        .output()
        .unwrap_or_else(|error| panic!("{PYTHON}={python}: {error}"));
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains(&format!("{OPERATIONS} selected / {OPERATIONS} total")), "{out}");
    for phase in ["Examples", "Coverage", "Fuzzing", "Stateful"] {
        assert!(out.contains(&format!("\u{2705}  {phase} (in ")), "{phase}: {out}");
    }
    // Not only refusals were tried.
    let page = ureq::get(server.said("metrics at ")).call().unwrap().body_mut().read_to_string();
    let page = page.unwrap();
    for (call, code) in [
        ("POST /v1/match", 200),
        ("POST /v1/tracks", 201),
        ("PUT /v1/tracks/{track_id}", 200),
        ("GET /v1/tracks/{track_id}", 200),
        ("DELETE /v1/tracks/{track_id}", 200),
        ("other", 405),
    ] {
        let series = format!("earmark_requests_total{{call=\"{call}\",code=\"{code}\"}}");
        assert!(page.contains(&series), "{series} in {page}");
    }
}
