//! `earmark reindex`: refusals that name it, real files of format 1, runs that are killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{FORMAT_VERSION, Index, Metadata, NewTrack, RocksIndex};
use fingerprint_core::params::Params;
use fingerprint_core::peaks::Peak;
use fingerprint_core::units::{ContentHash, TrackId};

use crate::support::{CATALOG_LEN, Run, World, bare_command, server_command, testdata};

/// Tracks of the greater index: its reindexing takes long enough to be met at work.
const MANY: u32 = 3_000;

/// A copy of the index of format 1.
fn format_1(world: &World) -> PathBuf {
    for entry in fs::read_dir(testdata("index/format-1")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        world.copy(&format!("index/format-1/{name}"), &format!("old/{name}"));
    }
    world.path("old")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn reindex(old: &Path, new: &Path) -> Command {
    bare_command(["reindex", "--format", "json", text(old), "--index", text(new)])
}

fn run(mut command: Command) -> Run {
    Run::new(command.output().unwrap())
}

#[test]
fn every_command_refuses_format_1_with_the_command_that_helps() {
    let world = World::new();
    let old = format_1(&world);
    let clip = testdata("clips/cold_day_noisy.mp3");
    let clip = text(&clip);
    let wanted = format!(
        "format version 1, this build reads {FORMAT_VERSION}; make a new one of it, which needs no audio: earmark reindex {} --index ",
        old.display()
    );
    for args in [
        vec!["match", clip],
        vec!["ingest", clip],
        vec!["stats"],
        vec!["tracks", "list"],
        vec!["tracks", "show", "cold_day"],
        vec!["tracks", "remove", "cold_day"],
    ] {
        let refused = run(bare_command(args.iter().chain(&["--index", text(&old)])));
        assert_eq!(refused.code, 2, "{args:?} {refused:?}");
        assert!(refused.stderr.contains(&wanted), "{args:?} {refused:?}");
    }
    let mut server = server_command();
    server.args(["--listen", "127.0.0.1:0", "--index", text(&old)]);
    let refused = run(server);
    assert!(refused.code == 1 && refused.stderr.contains(&wanted), "{refused:?}");
}

#[test]
fn an_index_of_format_1_is_made_new_and_answers() {
    let world = World::new();
    let (old, new) = (format_1(&world), world.path("index"));
    let made = run(reindex(&old, &new));
    assert_eq!(made.code, 0, "{made:?}");
    let names = ["old_format_version", "format_version", "copied", "kept", "damaged"];
    assert_eq!(made.counts(names), [1, u64::from(FORMAT_VERSION), 2, 0, 0]);
    let row = &made.json()[0];
    assert_eq!((&row["complete"], &row["audio_s"]), (&true.into(), &60.0.into()));
    assert!(row["old_bytes"].as_u64() > Some(10_000) && row["new_bytes"].as_u64() > Some(10_000));
    let clip = testdata("clips/cold_day_noisy.mp3");
    let answer = world.run(["match", "--format", "json", text(&clip)]);
    assert_eq!(answer.json()[0]["matches"][0]["track_id"], "cold_day", "{answer:?}");
    let shown = world.run(["tracks", "show", "--format", "json", "cold_day"]).json().remove(0);
    assert_eq!(shown["added_at"], "2026-11-26T14:55:52.789Z");

    let again = run(reindex(&old, &new));
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("it holds a whole index; choose a new or empty"), "{again:?}");
    let missing = run(reindex(&world.path("nothing"), &world.path("other")));
    assert!(
        missing.code == 2 && missing.stderr.contains("name the folder of the old"),
        "{missing:?}"
    );
    assert!(!world.path("other").exists());
    let human = bare_command(["reindex", text(&old), "--index", text(&world.path("second"))]);
    let human = run(human).stdout;
    assert!(human.starts_with("2 tracks, 1:00.0 of audio, in "), "{human}");
    assert!(human.ends_with("the new index is complete; the old one is as it was\n"), "{human}");
}

#[test]
fn ingesting_goes_on_with_the_new_index() {
    let world = World::new().with_catalog();
    let (old, new) = (world.path("index"), world.path("new"));
    assert_eq!(run(reindex(&old, &new)).counts(["copied"]), [CATALOG_LEN as u64]);
    assert_eq!(
        fs::read(world.path("new.journal")).unwrap(),
        fs::read(world.path("index.journal")).unwrap()
    );
    let list = |index: &Path| {
        run(bare_command(["tracks", "list", "--format", "json", "--index", text(index)])).stdout
    };
    assert_eq!(list(&new), list(&old));
    let manifest = testdata("catalog.csv");
    let args = ["ingest", "--format", "json", "--manifest", text(&manifest), "--index", text(&new)];
    let ingested = run(bare_command(args));
    assert_eq!(ingested.counts(["unchanged", "added"]), [CATALOG_LEN as u64, 0], "{ingested:?}");
}

/// An index of many made-up tracks.
fn many(folder: &Path) {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut track = |number: u32| {
        let peak = |_| Peak {
            time_ms: rng.u32(0..20_000),
            freq: rng.u16(700..20_000),
            level: rng.u8(60..200),
            rank: rng.u8(0..2),
        };
        let mut peaks: Vec<_> = (0..600).map(peak).collect();
        peaks.sort_unstable();
        let mut content_hash = ContentHash([0; 32]);
        content_hash.0[..4].copy_from_slice(&number.to_be_bytes());
        NewTrack {
            id: TrackId::new(format!("t{number}")).unwrap(),
            metadata: Metadata::default(),
            fingerprint: Fingerprint { duration_ms: 20_000, content_hash, level_db: -20.0, peaks },
        }
    };
    let index = RocksIndex::create_or_open(folder, &Params::default()).unwrap();
    for start in (0..MANY).step_by(500) {
        let batch: Vec<_> = (start..start + 500).map(&mut track).collect();
        index.add(&batch).unwrap();
    }
}

fn track_count(index: &Path) -> Run {
    run(bare_command(["stats", "--format", "json", "--index", text(index)]))
}

/// Killed later and later, until a run has ended by itself.
#[test]
fn a_killed_run_is_refused_by_others_and_goes_on() {
    let world = World::new();
    let (old, new) = (world.path("old"), world.path("index"));
    many(&old);
    let mut refused_count = 0;
    let mut kept = None;
    for delay_ms in (50..).step_by(50) {
        let mut child =
            reindex(&old, &new).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        thread::sleep(Duration::from_millis(delay_ms));
        // SIGKILL; if it has ended meanwhile, nothing happens.
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            let done = Run::new(output);
            let [copied, already] = done.counts(["copied", "kept"]);
            assert_eq!(copied + already, u64::from(MANY));
            kept = Some(already);
            break;
        }
        assert_eq!(output.status.code(), None, "it was killed: {output:?}");
        let stats = track_count(&new);
        if stats.code == 0 {
            // It had not begun, or was about to say that it is complete.
            let there = stats.counts(["track_count"])[0];
            assert!([0, u64::from(MANY)].contains(&there), "{stats:?}");
            if there > 0 {
                break;
            }
        } else if stats.stderr.contains("not complete yet; run this to its end: earmark reindex ") {
            refused_count += 1;
        } else {
            assert!(stats.stderr.contains("no index in"), "{stats:?}");
        }
    }
    assert!(refused_count > 0, "no run was met at work");
    assert_ne!(kept, Some(0), "the last run went on where others had stopped");
    assert_eq!(track_count(&new).counts(["track_count"]), [u64::from(MANY)]);
    let list = |index: &Path| {
        run(bare_command(["tracks", "list", "--format", "json", "--index", text(index)])).stdout
    };
    assert_eq!(list(&new), list(&old));
}

#[test]
fn an_interrupted_run_ends_well_and_says_so() {
    let world = World::new();
    let (old, new) = (world.path("old"), world.path("index"));
    many(&old);
    let child = reindex(&old, &new).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let give_up = Instant::now() + Duration::from_secs(60);
    while !new.join("CURRENT").exists() {
        assert!(Instant::now() < give_up, "nothing was made");
        thread::sleep(Duration::from_millis(2));
    }
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let interrupted = Run::new(child.wait_with_output().unwrap());
    assert_eq!(interrupted.code, 130, "{interrupted:?}");
    let [copied] = interrupted.counts(["copied"]);
    assert!(copied < u64::from(MANY) && interrupted.json()[0]["complete"] == false);
    assert!(interrupted.stderr.contains("stopping: tracks in hand are written"), "{interrupted:?}");
    let second = run(reindex(&old, &new));
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(second.counts(["kept", "copied"]), [copied, u64::from(MANY) - copied]);
}
