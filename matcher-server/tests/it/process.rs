//! The program `earmark-server`: start, settings, stop.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use earmark_proto::v1::GetTrackRequest;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;

use crate::support::{Process, add, server_command, tune, wav};

pub(crate) fn refuses_to_start(arguments: &[&str]) -> String {
    let mut command = Command::from_std(server_command());
    let limit = std::time::Duration::from_secs(60);
    let Output { status, stderr, .. } = command.args(arguments).timeout(limit).output().unwrap();
    assert!(!status.success(), "{arguments:?}");
    String::from_utf8(stderr).unwrap()
}

#[tokio::test]
async fn what_was_added_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("made/on/the/way");
    for signal in ["-TERM", "-INT"] {
        let server = Process::start(&index, &[]);
        let mut catalog = CatalogServiceClient::connect(server.url()).await.unwrap();
        let wanted = GetTrackRequest { track_id: "x".to_owned() };
        if signal == "-TERM" {
            add(&mut catalog, "x", &wav(&tune(1, 5))).await.unwrap();
        } else {
            assert!(catalog.get_track(wanted).await.is_ok());
        }
        server.signal(signal);
        assert_eq!(server.ended().await.code(), Some(0), "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_server_that_still_serves() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path(), &["--drain-delay", "1h"]);
    let url = format!("{}/health/ready", server.url());
    server.signal("-TERM");
    let not_ready = move || {
        while ureq::get(&url).call().is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        ureq::get(&url).call().unwrap_err().to_string()
    };
    let error = tokio::task::spawn_blocking(not_ready).await.unwrap();
    assert!(error.contains("503"), "{error}");
    server.signal("-TERM");
    assert_eq!(server.ended().await.code(), Some(130));
}

#[tokio::test]
async fn bytes_that_are_no_http_harm_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path(), &[]);
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..20 {
        let mut connection = TcpStream::connect(&server.address).unwrap();
        let garbage: Vec<u8> = (0..1_000).map(|_| random.u8(..)).collect();
        // The server may hang up before all of it is sent.
        let _ = connection.write_all(&garbage);
    }
    let mut catalog = CatalogServiceClient::connect(server.url()).await.unwrap();
    assert!(add(&mut catalog, "x", &wav(&tune(1, 3))).await.is_ok());
}

#[test]
fn an_index_in_use_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Process::start(folder.path(), &[]);
    let flags = ["--listen", "127.0.0.1:0", "--index", folder.path().to_str().unwrap()];
    let text = refuses_to_start(&flags);
    assert!(text.contains("in use by another process"), "{text}");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let mut misspelt = server_command();
    misspelt.env("EARMARK_SERVER_WROKERS", "3").args(["--index", "i", "--listen", "nowhere"]);
    let text = String::from_utf8(misspelt.output().unwrap().stderr).unwrap();
    assert!(text.contains("EARMARK_SERVER_WROKERS is no setting"), "{text}");
    let mut without_index = server_command();
    without_index.env("EARMARK_SERVER_INDEXX", "i");
    let text = String::from_utf8(without_index.output().unwrap().stderr).unwrap();
    assert!(text.contains("EARMARK_SERVER_INDEXX") && text.contains("no index is set"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "wrokers = 3").unwrap();
    let text = refuses_to_start(&["--config", file.to_str().unwrap()]);
    assert!(text.contains("wrokers") && text.contains("server.toml"), "{text}");
    assert!(refuses_to_start(&[]).contains("no index is set"));
    assert!(refuses_to_start(&["--index", "i", "--workers", "0"]).contains("workers is 0"));
    let index = folder.path().join("index");
    let text = refuses_to_start(&["--index", index.to_str().unwrap(), "--listen", "nowhere"]);
    assert!(text.contains("could not listen on nowhere"), "{text}");
}

fn printed(file: &Path, environment: &[(&str, &str)], flags: &[&str]) -> String {
    let mut command = server_command();
    command.arg("--config").arg(file).arg("--print-config").args(flags);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "workers = 5\n").unwrap();
    let environment = [("EARMARK_SERVER_WORKERS", "6")];
    assert!(printed(&file, &[], &[]).contains("workers = 5\n"));
    assert!(printed(&file, &environment, &[]).contains("workers = 6\n"));
    let text = printed(&file, &environment, &["--workers", "7"]);
    assert!(text.contains("workers = 7\n") && text.contains("queue_len = 64\n"), "{text}");
    // OpenTelemetry's own variables are the weakest, but for the defaults.
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")];
    let text = printed(&file, &environment, &[]);
    assert!(text.contains("otlp_endpoint = \"http://collector:4317\"\n"), "{text}");
    std::fs::write(&file, "otlp_endpoint = 'none'\n").unwrap();
    let text = printed(&file, &environment, &[]);
    assert!(text.contains("otlp_endpoint = \"none\"\n"), "{text}");
}
