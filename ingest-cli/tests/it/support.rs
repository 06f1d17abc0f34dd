//! What all tests share: test audio, and a catalog to run the command on.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Tracks of `testdata/catalog.csv`.
pub(crate) const CATALOG_LEN: usize = 12;

/// A file of the repository's test audio.
pub(crate) fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

/// A folder of its own for a test, with an index that no other test sees.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    /// `--index DIR` or `--server URL`.
    place: [String; 2],
}

impl World {
    /// With a catalog in a folder.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index").to_str().unwrap().to_owned();
        Self { folder, place: ["--index".to_owned(), index] }
    }

    /// With the catalog of a server.
    pub(crate) fn at(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, place: ["--server".to_owned(), url.to_owned()] }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts test audio into the folder.
    pub(crate) fn copy(&self, from: &str, to: &str) -> PathBuf {
        let to = self.path(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(testdata(from), &to).unwrap();
        to
    }

    /// Puts a text into the folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The command with this catalog. The environment that it reads is this test's own.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = bare_command(args);
        command.args(&self.place).env("XDG_STATE_HOME", self.path("state"));
        command
    }

    /// Runs the command.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        Run::new(self.command(args).output().unwrap())
    }

    /// Ingests the test catalog.
    pub(crate) fn with_catalog(self) -> Self {
        let run = self.run(["ingest", "--manifest", testdata("catalog.csv").to_str().unwrap()]);
        assert_eq!(run.code, 0, "{run:?}");
        self
    }
}

/// The command without a catalog.
pub(crate) fn bare_command<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = without_settings(env!("CARGO_BIN_EXE_earmark").as_ref());
    command.args(args).stdin(Stdio::null());
    command
}

/// The server's program: Cargo puts the binaries of the workspace side by side.
pub(crate) fn server_command() -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_earmark")).with_file_name("earmark-server");
    assert!(
        program.exists(),
        "{} is not built; run the tests with `cargo test --workspace`",
        program.display()
    );
    without_settings(&program)
}

/// A program without the settings of whoever runs the tests: neither ours nor those of OpenTelemetry, which the server
/// reads.
fn without_settings(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("EARMARK_") || text.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal ended it"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Standard output as JSON lines.
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The counts of a summary by name.
    pub(crate) fn counts<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        let summary = &self.json()[0];
        names.map(|name| summary[name].as_u64().unwrap_or_else(|| panic!("{name}: {summary}")))
    }
}

/// Rows of a CSV file by column name.
pub(crate) fn csv_rows(path: &Path) -> Vec<std::collections::HashMap<String, String>> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

/// The real server on a free port, with an index of its own.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) index: TempDir,
    process: Process,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), flags)
    }

    pub(crate) fn start_on(index: TempDir, flags: &[&str]) -> Self {
        let process = Process::start(index.path(), flags);
        Self { url: process.url.clone(), index, process }
    }

    /// Kills it, and gives its index.
    pub(crate) fn stop(self) -> TempDir {
        drop(self.process);
        self.index
    }
}

/// The real server on a free port, with the index in a folder. It is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

impl Process {
    pub(crate) fn start(index: &Path, flags: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", index, flags)
    }

    /// At an address of its own.
    pub(crate) fn start_at(address: &str, index: &Path, flags: &[&str]) -> Self {
        let mut child = server_command()
            .args(["--listen", address, "--index"])
            .arg(index)
            .args(flags)
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.by_ref().map(Result::unwrap).find(|line| line.contains("listening on"));
        let line = line.expect("the server says where it listens");
        let url = format!("http://{}", line.rsplit(' ').next().unwrap());
        // Nobody may block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
