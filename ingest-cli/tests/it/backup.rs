//! Backups of a folder and of a server, and what is restored of them.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{CATALOG_LEN, Run, Server, World, bare_command, testdata};

const CLIP: &str = "clips/cold_day_noisy.mp3";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(args: &[&str]) -> Run {
    Run::new(bare_command(args).output().unwrap())
}

#[test]
fn a_backup_is_made_listed_verified_and_restored() {
    let world = World::new().with_catalog();
    let (backups, again) = (world.path("backups"), world.path("again"));
    let (backups, again) = (text(&backups), text(&again));
    let made = world.run(["backup", backups, "--format", "json"]);
    assert_eq!(made.code, 0, "{made:?}");
    let first = made.json().remove(0);
    assert_eq!(first["state"], "verified");
    assert_eq!(first["track_count"], CATALOG_LEN);
    assert_eq!(first["bytes"], first["added_bytes"]);
    assert_eq!(world.run(["tracks", "remove", "cold_day"]).code, 0);
    let second = world.run(["backup", backups, "--format", "json"]).json().remove(0);
    assert_eq!(
        (&second["backup_id"], &second["track_count"]),
        (&2.into(), &(CATALOG_LEN - 1).into())
    );
    assert!(second["added_bytes"].as_u64() < second["bytes"].as_u64(), "{second}");
    // Neither needs an index.
    assert_eq!(run(&["backup", backups, "--list", "--format", "json"]).json(), [first, second]);
    assert!(run(&["backup", backups, "--list"]).stdout.contains("verified"));
    let verified = run(&["backup", backups, "--verify"]);
    assert!(verified.code == 0 && verified.stdout.contains("as they were written"), "{verified:?}");

    let restored = run(&["restore", backups, "--backup", "1", "--index", again]);
    assert_eq!(restored.code, 0, "{restored:?}");
    let clip = testdata(CLIP);
    let matches = |index: &str| run(&["match", text(&clip), "--index", index]).code;
    assert_eq!((matches(again), matches(text(&world.path("index")))), (0, 1));
    let over = run(&["restore", backups, "--index", again]);
    assert!(over.code == 2 && over.stderr.contains("is not empty"), "{over:?}");

    let kept = world.run(["backup", backups, "--keep", "1", "--format", "json"]).json().remove(0);
    let listed = run(&["backup", backups, "--list", "--format", "json"]).json();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["backup_id"], kept["backup_id"]);
    let gone = run(&["restore", backups, "--backup", "1", "--index", text(&world.path("third"))]);
    assert!(gone.code == 2 && gone.stderr.contains("no backup 1"), "{gone:?}");
}

#[test]
fn damage_is_named_and_nothing_is_made_of_it() {
    let world = World::new().with_catalog();
    let backups = world.path("backups");
    assert_eq!(world.run(["backup", text(&backups)]).code, 0);
    let files = fs::read_dir(backups.join("shared_checksum")).unwrap();
    let largest = files.map(|entry| entry.unwrap().path());
    let largest = largest.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let verified = run(&["backup", text(&backups), "--verify"]);
    assert!(verified.code == 2 && verified.stdout.contains(text(&largest)), "{verified:?}");
    let again = world.path("again");
    let restored = run(&["restore", text(&backups), "--index", text(&again)]);
    assert!(restored.code == 2 && restored.stderr.contains(text(&largest)), "{restored:?}");
    assert!(!again.exists() && !world.path("again.restoring").exists());
    let missing = run(&["restore", text(&world.path("index")), "--index", text(&again)]);
    assert!(missing.code == 2 && missing.stderr.contains("no backups in"), "{missing:?}");
}

#[test]
fn a_killed_restore_leaves_no_index_or_a_whole_one() {
    let world = World::new().with_catalog();
    let (backups, again) = (world.path("backups"), world.path("again"));
    assert_eq!(world.run(["backup", text(&backups)]).code, 0);
    for wait_ms in (0..40).map(|step| step * 4) {
        let args = ["restore", text(&backups), "--index", text(&again)];
        let mut command = bare_command(args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        if again.exists() {
            let stats = run(&["stats", "--format", "json", "--index", text(&again)]);
            assert_eq!(stats.json()[0]["track_count"], CATALOG_LEN, "after {wait_ms} ms");
            fs::remove_dir_all(&again).unwrap();
        }
    }
    // And what they left is in nobody's way.
    let restored = run(&["restore", text(&backups), "--index", text(&again)]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(!world.path("again.restoring").exists());
}

#[test]
fn a_server_makes_backups_in_its_own_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let server = Server::start_with(&["--backup-dir", text(&backups)]);
    let world = World::at(&server.url).with_catalog();
    let empty = world.run(["backup", "--list", "--format", "json"]);
    assert_eq!((empty.code, empty.json().len()), (0, 0), "{empty:?}");
    let made = world.run(["backup", "--format", "json"]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(made.json()[0]["track_count"], CATALOG_LEN);
    assert_eq!(world.run(["backup", "--list", "--format", "json"]).json(), made.json());
    assert_eq!(run(&["backup", text(&backups), "--list", "--format", "json"]).json(), made.json());

    let elsewhere = folder.path().join("elsewhere");
    let mut named = bare_command(["backup", text(&elsewhere)]);
    let named = Run::new(named.env("EARMARK_SERVER", &server.url).output().unwrap());
    assert!(named.code == 2 && named.stderr.contains("in its own folder"), "{named:?}");
    let index = server.index.path();
    let in_use = run(&["backup", text(&elsewhere), "--index", text(index)]);
    assert!(in_use.code == 2 && in_use.stderr.contains("earmark backup --server"), "{in_use:?}");
    assert!(!elsewhere.exists());

    let without = Server::start();
    let refused = run(&["backup", "--server", &without.url]);
    assert!(refused.code == 2 && refused.stderr.contains("--backup-dir DIR"), "{refused:?}");
}

/// Backups while a job adds tracks to the server: each holds what was there before it.
#[test]
fn backups_during_an_ingest_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let server = Server::start_with(&["--backup-dir", text(&backups)]);
    let world = World::at(&server.url);
    let manifest = testdata("catalog.csv");
    let mut ingest = world.command(["ingest", "--jobs", "1", "--manifest", text(&manifest)]);
    let mut ingest = ingest.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ids = |run: Run| -> Vec<String> {
        run.json().iter().map(|track| track["track_id"].as_str().unwrap().to_owned()).collect()
    };
    let mut expected = Vec::new();
    loop {
        let is_last = ingest.try_wait().unwrap().is_some();
        let before = ids(world.run(["tracks", "list", "--format", "json"]));
        let made = world.run(["backup", "--format", "json"]);
        assert_eq!(made.code, 0, "{made:?}");
        expected.push((before, made.json()[0]["backup_id"].to_string()));
        if is_last {
            break;
        }
    }
    assert_eq!(expected.last().unwrap().0.len(), CATALOG_LEN);
    for (before, id) in expected {
        let place = folder.path().join(&id);
        let restored = run(&["restore", text(&backups), "--backup", &id, "--index", text(&place)]);
        assert_eq!(restored.code, 0, "{restored:?}");
        let after = ids(run(&["tracks", "list", "--format", "json", "--index", text(&place)]));
        assert!(before.iter().all(|track| after.contains(track)), "{before:?} {after:?}");
    }
}
