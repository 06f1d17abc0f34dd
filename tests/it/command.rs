//! The real command: settings, the line that says where it listens, signals, exit codes.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::{GetStatsRequest, GetTrackRequest};

use crate::support::{add, audio, header};

/// A running `earmark-server`; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
    /// Its log after that line.
    log: Option<std::thread::JoinHandle<String>>,
}

fn command(index: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_earmark-server"));
    // Settings of whoever runs the tests must not leak in.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EARMARK_SERVER_")) {
        command.env_remove(name);
    }
    command.args(["--listen", "127.0.0.1:0", "--index"]).arg(index);
    command
}

impl Process {
    pub(crate) fn start(index: &Path, args: &[&str]) -> Self {
        let mut child = command(index).args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let from = seen.len();
            assert!(lines.read_line(&mut seen).unwrap() > 0, "it ended early: {seen}");
            if let Some((_, address)) = seen[from..].split_once("listening on ") {
                let end = address.find(|c: char| c != ':' && c != '.' && !c.is_ascii_digit());
                break address[..end.unwrap_or(address.len())].to_owned();
            }
        };
        // Someone must read on, or a full pipe would stop the server.
        let log = std::thread::spawn(move || {
            lines.read_to_string(&mut seen).unwrap();
            seen
        });
        Self { child, address, log: Some(log) }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end: the exit code and the whole log.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.log.take().unwrap().join().unwrap())
    }

    async fn catalog(&self) -> CatalogServiceClient<tonic::transport::Channel> {
        CatalogServiceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_makes_the_index_stops_on_both_signals_and_finds_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("new");
    for (signal, says) in [("TERM", "index created"), ("INT", "index opened")] {
        let process = Process::start(&index, &[]);
        let mut catalog = process.catalog().await;
        if signal == "TERM" {
            add(&mut catalog, header("kept"), &audio("codecs/pcm_u8.wav")).await.unwrap();
        }
        catalog.get_track(GetTrackRequest { track_id: "kept".to_owned() }).await.unwrap();
        let begun = Instant::now();
        process.signal(signal);
        // The client's idle connection is still open; the process ends all the same.
        let (code, log) = process.end();
        assert_eq!(code, Some(0), "{signal}: {log}");
        assert!(log.contains(says) && log.contains("stopped"), "{log}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{signal}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let mut catalog = process.catalog().await;
    add(&mut catalog, header("kept"), &audio("codecs/pcm_u8.wav")).await.unwrap();
    process.signal("KILL");
    assert_eq!(process.end().0, None);
    let process = Process::start(folder.path(), &[]);
    let stats = process.catalog().await.get_stats(GetStatsRequest {}).await.unwrap();
    assert_eq!(stats.into_inner().track_count, 1);
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "wrokers = 3").unwrap();
    let index = folder.path().join("index");
    let process = Process::start(&index, &[]);
    let with = |args: &[&str], index: &Path| {
        let mut command = command(index);
        command.args(args);
        command
    };
    let fresh = folder.path().join("fresh");
    for (command, says) in [
        (with(&["--config", file.to_str().unwrap()], &fresh), "wrokers"),
        (with(&["--config", "absent.toml"], &fresh), "absent.toml"),
        (with(&["--log-level", "loud,=,"], &fresh), "log-level"),
        (with(&["--message-max", "much"], &fresh), "32MiB"),
        (with(&[], &index), "in use by another process"),
    ] {
        let output = run(command);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(says), "{says}: {text}");
    }
    let mut second = Command::new(env!("CARGO_BIN_EXE_earmark-server"));
    second.args(["--listen", &process.address, "--index"]).arg(&fresh);
    let output = run(second);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("could not listen on"), "{text}");
}

#[test]
fn flags_beat_the_environment_beats_the_file_beats_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "workers = 11\nqueue_len = 12\nmessage_max = '13MiB'").unwrap();
    let mut command = command(folder.path());
    command.args(["--print-config", "--workers", "31"]);
    command.env("EARMARK_SERVER_WORKERS", "21").env("EARMARK_SERVER_QUEUE_LEN", "22");
    command.env("EARMARK_SERVER_CONFIG", &file);
    let text = String::from_utf8(run(command).stdout).unwrap();
    for line in
        ["workers = 31", "queue_len = 22", "message_max = \"13MiB\"", "upload_max = \"2GiB\""]
    {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_json_lines_without_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["--log-format", "json", "--log-level", "debug"]);
    let mut catalog = process.catalog().await;
    let mut named = header("an-id");
    named.metadata.as_mut().unwrap().title = "a private title".to_owned();
    add(&mut catalog, named, &audio("codecs/pcm_u8.wav")).await.unwrap();
    process.signal("TERM");
    let (_, log) = process.end();
    assert!(!log.contains("a private title"));
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let request = lines.iter().find(|line| line["message"] == "request").unwrap();
    assert_eq!(request["path"], "/earmark.v1.CatalogService/AddTrack");
    assert_eq!(request["code"], "Ok");
    assert!(request["elapsed_ms"].as_f64().unwrap() > 0.0);
}
