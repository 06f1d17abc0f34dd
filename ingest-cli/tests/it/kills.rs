//! `kill -9` of the real programs at random moments: what they said they did is done, and the same job goes
//! on. Slow, so only `make torture` runs them; the store itself is killed far oftener, in
//! `fingerprint-core`. A failure prints its seed, and `EARMARK_TEST_SEED=N` draws the same delays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Server, World};

/// Files of the job: more than are done before the first kills.
const FILE_COUNT: usize = 160;

#[expect(clippy::print_stderr, reason = "shown if the test fails")]
fn delays() -> fastrand::Rng {
    let seed = std::env::var("EARMARK_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("EARMARK_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Recordings that differ, or they would be one track.
fn write_music(world: &World) {
    let audio = fs::read(crate::support::testdata("codecs/pcm_s16.wav")).unwrap();
    fs::create_dir(world.path("music")).unwrap();
    for i in 0..FILE_COUNT {
        let mut audio = audio.clone();
        let at = audio.len() - 2 * (i + 1);
        audio[at] ^= 0x55;
        fs::write(world.path(&format!("music/{i:03}.wav")), audio).unwrap();
    }
}

/// Tracks that the journals in a folder say are taken.
fn journalled(folder: &Path) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            ids.extend(journalled(&path));
        } else if path.extension().is_some_and(|end| end == "journal") {
            let text = fs::read_to_string(path).unwrap();
            // The last line may have been cut off.
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            ids.extend(lines.map(|line| line["track_id"].as_str().unwrap().to_owned()));
        }
    }
    ids
}

fn listed(world: &World) -> BTreeSet<String> {
    let run = world.run(["tracks", "list", "--format", "json"]);
    if run.code == 2 && run.stderr.contains("no index in") {
        return BTreeSet::new();
    }
    assert_eq!(run.code, 0, "{run:?}");
    run.json().iter().map(|track| track["track_id"].as_str().unwrap().to_owned()).collect()
}

/// Kills a program after up to so many seconds; what it had printed by then.
fn kill(mut child: Child, rng: &mut fastrand::Rng, seconds: f64) -> String {
    thread::sleep(Duration::from_secs_f64(seconds * rng.f64()));
    child.kill().unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
#[ignore = "slow; make torture runs it"]
fn a_killed_ingest_and_a_killed_removal_did_what_they_said() {
    let mut rng = delays();
    let world = World::new();
    write_music(&world);
    let music = world.path("music");
    let ingest = ["ingest", "--format", "json", music.to_str().unwrap()];
    for _ in 0..12 {
        let child = world.command(ingest).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        kill(child.unwrap(), &mut rng, 2.0);
        let (said, listed) = (journalled(world.folder.path()), listed(&world));
        assert!(said.is_subset(&listed), "{:?}", said.difference(&listed));
    }
    assert_eq!(world.run(ingest).code, 0);
    let mut left = listed(&world);
    assert_eq!(left.len(), FILE_COUNT);
    let clip = world.path("music/007.wav");
    assert_eq!(world.run(["match", clip.to_str().unwrap()]).code, 0);

    for _ in 0..12 {
        let ids: Vec<_> = left.iter().take(40).map(String::as_str).collect();
        let args = [&["tracks", "remove", "--format", "json"][..], &ids].concat();
        let child = world.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let printed = kill(child.unwrap(), &mut rng, 0.3);
        // A line that was cut off is no promise.
        let rows = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let removed: BTreeSet<_> =
            rows.map(|row| row["track_id"].as_str().unwrap().to_owned()).collect();
        let after = listed(&world);
        assert!(removed.is_disjoint(&after), "{:?}", removed.intersection(&after));
        // One may have been removed and not told.
        assert!(left.len() - after.len() <= removed.len() + 1, "{} {}", left.len(), after.len());
        left = after;
    }
    assert!(left.len() < FILE_COUNT, "no removal came to do anything");
}

#[test]
#[ignore = "slow; make torture runs it"]
fn a_killed_server_has_what_it_confirmed() {
    let mut rng = delays();
    let mut index = tempfile::tempdir().unwrap();
    let music = World::new();
    write_music(&music);
    let mut confirmed = BTreeSet::new();
    for _ in 0..8 {
        let server = Server::start_on(index, &[]);
        let world = World::at(&server.url);
        let known = listed(&world);
        assert!(confirmed.is_subset(&known), "{:?}", confirmed.difference(&known));
        let args =
            ["ingest", music.path("music").to_str().unwrap(), "--jobs", "1"].map(str::to_owned);
        let mut ingest =
            world.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_secs_f64(0.3 + 3.0 * rng.f64()));
        index = server.stop();
        // The client must end, not hang.
        ingest.wait().unwrap();
        confirmed.extend(journalled(world.folder.path()));
    }
    let server = Server::start_on(index, &[]);
    let known = listed(&World::at(&server.url));
    assert!(!confirmed.is_empty() && confirmed.is_subset(&known));
}
