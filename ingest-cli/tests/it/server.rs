//! The same commands against the real server.

use std::fs::File;
use std::process::Stdio;

use crate::support::{CATALOG_LEN, Run, Server, World, bare_command, testdata};

const CLIP: &str = "clips/cold_day_noisy.mp3";

fn best(run: &Run) -> serde_json::Value {
    run.json()[0]["matches"][0].clone()
}

#[test]
fn a_server_answers_as_a_folder_does() {
    let server = Server::start();
    let (remote, local) = (World::at(&server.url).with_catalog(), World::new().with_catalog());
    let list = ["tracks", "list", "--format", "json"];
    let tracks = |world: &World| {
        let mut tracks = world.run(list).json();
        tracks.iter_mut().for_each(|track| drop(track["added_at"].take()));
        tracks
    };
    assert_eq!(tracks(&remote), tracks(&local));
    let clips = [CLIP, "clips/not_in_catalog.mp3"].map(testdata);
    let args =
        ["match", "--format", "json", clips[0].to_str().unwrap(), clips[1].to_str().unwrap()];
    let answers = |world: &World, more: &[&str]| {
        let run = world.run([&args, more].concat());
        assert_eq!(run.code, 0, "{run:?}");
        let mut answers = run.json();
        answers.iter_mut().for_each(|answer| drop(answer["elapsed_ms"].take()));
        answers
    };
    let expected = answers(&local, &[]);
    assert_eq!(answers(&remote, &[]), expected);
    assert_eq!(answers(&remote, &["--send-audio"]), expected);
    let stats = remote.run(["stats", "--format", "json"]).json().remove(0);
    assert_eq!(stats["track_count"], CATALOG_LEN);
    assert_eq!(stats["server_version"], env!("CARGO_PKG_VERSION"));
    // What only the server can know of its memory.
    assert_eq!(stats["buffered_posting_count"], stats["posting_count"]);
    assert!(stats["list_lengths"]["longest"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!(stats["block_cache"]["bytes_max"], 1 << 30);
    assert!(stats["resident_bytes"].as_u64().unwrap() > 1 << 20, "{stats}");
}

#[test]
fn ingesting_goes_on_where_it_stopped_on_a_server_too() {
    let server = Server::start();
    let world = World::at(&server.url);
    world.copy("catalog/cold_day.mp3", "music/a.mp3");
    world.copy("catalog/robot_dity.ogg", "music/b.ogg");
    let music = world.path("music");
    let ingest = |more: &[&str]| {
        world.run([&["ingest", "--format", "json", music.to_str().unwrap()], more].concat())
    };
    let counts = ["added", "unchanged", "failed"];
    assert_eq!(ingest(&[]).counts(counts), [2, 0, 0]);
    assert_eq!(ingest(&[]).counts(counts), [0, 2, 0]);
    assert_eq!(ingest(&["--force"]).counts(counts), [0, 2, 0]);
    assert_eq!(ingest(&["--force", "--send-audio"]).counts(counts), [0, 2, 0]);
    // A bad file is told with the server's reason, and the others are taken.
    world.write("music/c.mp3", "this is no audio");
    let sent = ingest(&["--send-audio"]);
    assert_eq!((sent.code, sent.counts(counts)), (2, [0, 2, 1]), "{sent:?}");
    assert!(sent.stderr.contains("c.mp3"), "{sent:?}");
}

#[test]
fn what_was_sent_as_audio_is_found() {
    let server = Server::start();
    let world = World::at(&server.url);
    let manifest = testdata("catalog.csv");
    let args = ["ingest", "--send-audio", "--manifest", manifest.to_str().unwrap()];
    assert_eq!(world.run(args).code, 0);
    let mut command = world.command(["match", "--send-audio", "--format", "json", "-"]);
    let clip = Stdio::from(File::open(testdata(CLIP)).unwrap());
    let run = Run::new(command.stdin(clip).output().unwrap());
    assert_eq!(best(&run)["track_id"], "cold_day", "{run:?}");
    assert_eq!(best(&run)["title"], "Cold Day");
    assert_eq!(world.run(["tracks", "remove", "cold_day"]).code, 0);
    assert_eq!(world.run(["tracks", "show", "cold_day"]).code, 1);
    assert_eq!(world.run(["match", testdata(CLIP).to_str().unwrap()]).code, 1);
}

#[test]
fn an_unreachable_server_is_named() {
    // Port 1 is privileged and unused; a connection is refused at once.
    let run = Run::new(bare_command(["stats", "--server", "127.0.0.1:1"]).output().unwrap());
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("http://127.0.0.1:1; is earmark-server running?"), "{run:?}");
    let run = Run::new(bare_command(["stats", "--server", "ftp://a"]).output().unwrap());
    assert!(run.code == 2 && run.stderr.contains("https://HOST:PORT"), "{run:?}");
}
