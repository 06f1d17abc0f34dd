//! Several processes on one index: one writes, the others read.

use std::time::{Duration, Instant};

use crate::support::{CATALOG_LEN, Process, Run, Server, World, bare_command, testdata};

const CLIP: &str = "clips/cold_day_noisy.mp3";

#[test]
fn an_index_that_a_server_writes_is_read_beside_it() {
    let server = Server::start();
    let world = World::at(&server.url).with_catalog();
    let index = server.index.path().to_str().unwrap();
    let clip = testdata(CLIP);
    let beside = |args: &[&str]| {
        let args = [args, &["--read-only", "--index", index]].concat();
        Run::new(bare_command(args).output().unwrap())
    };
    let matched = beside(&["match", "--format", "json", clip.to_str().unwrap()]);
    assert_eq!(matched.json()[0]["matches"][0]["track_id"], "cold_day", "{matched:?}");
    let tracks = |run: Run| run.json();
    assert_eq!(
        tracks(beside(&["tracks", "list", "--format", "json"])),
        tracks(world.run(["tracks", "list", "--format", "json"]))
    );
    assert_eq!(beside(&["stats", "--format", "json"]).json()[0]["track_count"], CATALOG_LEN);
    assert_eq!(beside(&["tracks", "show", "cold_day"]).code, 0);
    // What was acknowledged is seen by who opens the index afterwards.
    assert_eq!(world.run(["tracks", "remove", "cold_day"]).code, 0);
    assert_eq!(beside(&["match", clip.to_str().unwrap()]).code, 1);
    assert_eq!(beside(&["tracks", "show", "cold_day"]).code, 1);
    let without = Run::new(bare_command(["stats", "--index", index]).output().unwrap());
    assert!(without.stderr.contains("or add --read-only"), "{without:?}");
    let remote = world.run(["stats", "--read-only"]);
    assert_eq!(remote.code, 2, "{remote:?}");
}

#[test]
fn a_follower_serves_what_another_server_writes() {
    let writer = Server::start();
    let follower = Process::start(writer.index.path(), &["--follow=50ms"]);
    let (writing, reading) = (World::at(&writer.url), World::at(&follower.url));
    let clip = testdata(CLIP);
    let args = ["match", clip.to_str().unwrap()];
    assert_eq!(reading.run(args).code, 1, "nothing is there yet");
    let writing = writing.with_catalog();
    let waits = |what: &str, is_so: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        }
    };
    waits("a new track answers", &|| reading.run(args).code == 0);
    assert_eq!(writing.run(["tracks", "remove", "cold_day"]).code, 0);
    waits("a removed track stops answering", &|| reading.run(args).code == 1);

    let refused = reading.run(["tracks", "remove", "robot_dity"]);
    assert!(refused.code == 2 && refused.stderr.contains("only follows"), "{refused:?}");
    let manifest = testdata("catalog.csv");
    let refused = reading.run(["ingest", "--manifest", manifest.to_str().unwrap()]);
    assert!(refused.code == 2 && refused.stderr.contains("only follows"), "{refused:?}");
    let refused = reading.run(["backup"]);
    assert!(refused.code == 2 && refused.stderr.contains("does not write"), "{refused:?}");
    let stats = reading.run(["stats", "--format", "json"]).json().remove(0);
    assert_eq!(stats["track_count"], CATALOG_LEN - 1);
    // It outlives the writer, and goes on with the next.
    let index = writer.index.path().to_owned();
    drop(writing);
    let _folder = writer.stop();
    assert_eq!(reading.run(["stats"]).code, 0);
    let next = Process::start(&index, &[]);
    let writing = World::at(&next.url);
    assert_eq!(writing.run(["tracks", "remove", "robot_dity"]).code, 0);
    waits("the next writer is followed", &|| {
        reading.run(["tracks", "show", "robot_dity"]).code == 1
    });
}
