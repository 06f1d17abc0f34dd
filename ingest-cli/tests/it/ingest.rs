//! `earmark ingest` into a folder: sources, books, going on.

use std::fs;
use std::path::Path;

use lofty::config::WriteOptions;
use lofty::tag::{Accessor, ItemKey, Tag, TagExt, TagType};

use crate::support::{Run, Server, World, csv_rows, testdata};

fn ingest(world: &World, more: &[&str]) -> Run {
    world.run([&["ingest", "--format", "json"], more].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn shown(world: &World, id: &str) -> serde_json::Value {
    world.run(["tracks", "show", "--format", "json", id]).json().remove(0)
}

const ALL: [&str; 6] = ["added", "replaced", "updated", "unchanged", "duplicates", "failed"];

#[test]
fn one_bad_file_does_not_stop_the_job() {
    let world = World::new();
    world.copy("codecs/mp3.mp3", "music/a.mp3");
    world.write("music/b.mp3", "this is no audio");
    world.copy("catalog/cold_day.mp3", "music/sub/c.mp3");
    world.write("music/notes.txt", "no audio by its name");
    let (music, report) = (world.path("music"), world.path("report.csv"));
    let run = ingest(&world, &[text(&music), "--report", text(&report)]);
    assert_eq!((run.code, run.counts(ALL)), (2, [2, 0, 0, 0, 0, 1]), "{run:?}");
    assert!(run.stderr.contains("b.mp3"), "{run:?}");
    let rows = csv_rows(&report);
    let status: Vec<_> = rows.iter().map(|row| row["status"].as_str()).collect();
    assert_eq!(status, ["added", "failed", "added"], "in the order of the names");
    assert!(rows[0]["track_id"].starts_with("b3-"), "{rows:?}");
    assert!(rows[1]["path"].ends_with("b.mp3") && !rows[1]["detail"].is_empty(), "{rows:?}");
    let duration_s: f64 = rows[2]["duration_s"].parse().unwrap();
    assert!((duration_s - 30.0).abs() < 0.2, "{rows:?}");
    let human = world.run(["ingest", text(&music)]);
    assert!(human.stdout.contains("2 unchanged, 1 failed"), "{human:?}");
    assert!(human.stdout.contains("b.mp3"), "the summary names what failed: {human:?}");
}

/// Silence is stored, as the caller has said, but nobody should learn only from a miss that it cannot be found.
#[test]
fn what_can_never_be_found_is_told() {
    let world = World::new();
    world.copy("codecs/mp3.mp3", "music/a.mp3");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut silent = hound::WavWriter::create(world.path("music/silent.wav"), spec).unwrap();
    (0..80_000).for_each(|_| silent.write_sample(0_i16).unwrap());
    silent.finalize().unwrap();
    let (music, report) = (world.path("music"), world.path("report.csv"));
    let server = Server::start();
    for place in [&world, &World::at(&server.url)] {
        let run = ingest(place, &[text(&music), "--report", text(&report)]);
        assert_eq!((run.code, run.counts(ALL)), (0, [2, 0, 0, 0, 0, 0]), "{run:?}");
        let told = "silent.wav: it can never be found: it is silent, or too short";
        assert!(run.stderr.contains(told), "{run:?}");
        let details: Vec<_> = csv_rows(&report).iter().map(|row| row["detail"].clone()).collect();
        assert!(details[0].is_empty() && told.ends_with(&details[1]), "{details:?}");
    }
}

#[test]
fn a_second_run_reads_nothing_again_unless_it_must() {
    let world = World::new();
    let a = world.copy("codecs/flac.flac", "music/a.flac");
    world.copy("catalog/cold_day.mp3", "music/b.mp3");
    let music = world.path("music");
    let music = text(&music);
    assert_eq!(ingest(&world, &[music]).counts(ALL), [2, 0, 0, 0, 0, 0]);
    // Audio that cannot be read shows that it is not: same size, same time, other bytes.
    let (length, time) = (a.metadata().unwrap().len(), a.metadata().unwrap().modified().unwrap());
    let audio = fs::read(&a).unwrap();
    fs::write(&a, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
    fs::File::open(&a).unwrap().set_modified(time).unwrap();
    let unread = ingest(&world, &[music]);
    assert_eq!((unread.code, unread.counts(ALL)), (0, [0, 0, 0, 2, 0, 0]), "{unread:?}");
    assert_eq!(ingest(&world, &[music, "--force"]).counts(ALL), [0, 0, 0, 1, 0, 1]);
    // The journal is never believed against the catalog: what was removed is read again.
    fs::write(&a, audio).unwrap();
    let id = world.run(["tracks", "list", "--format", "json"]).json()[0]["track_id"].clone();
    assert_eq!(world.run(["tracks", "remove", id.as_str().unwrap()]).code, 0);
    assert_eq!(ingest(&world, &[music]).counts(ALL), [1, 0, 0, 1, 0, 0]);
    // Nor is a whole index that is not there any more.
    fs::remove_dir_all(world.path("index")).unwrap();
    assert_eq!(ingest(&world, &[music]).counts(ALL), [2, 0, 0, 0, 0, 0]);
}

#[test]
fn a_track_is_replaced_by_other_audio_and_updated_by_other_words() {
    let world = World::new();
    world.copy("catalog/cold_day.mp3", "a.mp3");
    world.copy("catalog/robot_dity.ogg", "b.ogg");
    let run = |manifest: &str| {
        let manifest = world.write("list.csv", manifest);
        ingest(&world, &["--manifest", text(&manifest)]).counts(ALL)
    };
    assert_eq!(run("path,track_id,title\na.mp3,T,One\n"), [1, 0, 0, 0, 0, 0]);
    assert_eq!(run("path,track_id,title\na.mp3,T,Two\n"), [0, 0, 1, 0, 0, 0]);
    assert_eq!(shown(&world, "T")["title"], "Two");
    assert_eq!(run("path,track_id,title\nb.ogg,T,Two\n"), [0, 1, 0, 0, 0, 0]);
    let clip = testdata("clips/cold_day_noisy.mp3");
    assert_eq!(world.run(["match", text(&clip)]).code, 1, "the old audio is gone");
    // The journal still knows a.mp3 as T, but T is another recording now.
    assert_eq!(run("path,track_id,title\na.mp3,T,Two\n"), [0, 1, 0, 0, 0, 0]);
}

#[test]
fn the_same_audio_is_told_whether_it_is_kept_or_not() {
    let world = World::new();
    // FLAC and WAV hold the same samples, so they have the same content and derived id.
    world.copy("codecs/flac.flac", "music/a.flac");
    world.copy("codecs/pcm_s16.wav", "music/b.wav");
    let (music, report) = (world.path("music"), world.path("report.csv"));
    for force in [&["--force"][..], &[]] {
        let args = [&[text(&music), "--report", text(&report)], force].concat();
        let run = ingest(&world, &args);
        assert_eq!(run.code, 0);
        let rows = csv_rows(&report);
        assert_eq!(rows[0]["track_id"], rows[1]["track_id"]);
    }
    assert_eq!(world.run(["tracks", "list", "--format", "json"]).json().len(), 1);
    let again = ingest(&world, &[text(&music), "--force"]);
    assert_eq!(again.counts(ALL), [0, 0, 0, 1, 1, 0], "the first file always gives the track");

    let manifest = world.write("list.csv", "path,track_id\nmusic/a.flac,X\nmusic/b.wav,Y\n");
    let run = ingest(&world, &["--manifest", text(&manifest), "--report", text(&report)]);
    assert_eq!(run.counts(ALL), [2, 0, 0, 0, 2, 0], "both ids are kept");
    let rows = csv_rows(&report);
    assert!(rows[1]["duplicate_of"].split(' ').any(|id| id == "X"), "{rows:?}");
}

#[test]
fn entries_that_repeat_or_contradict_others_are_told() {
    let world = World::new();
    world.copy("catalog/cold_day.mp3", "music/a.mp3");
    world.copy("catalog/robot_dity.ogg", "music/b.ogg");
    let manifest = world.write(
        "list.csv",
        "path,track_id,title\nmusic/a.mp3,A,One\nmusic/../music/a.mp3,A,One\nmusic/b.ogg,A,Two\n",
    );
    let (music, report) = (world.path("music"), world.path("report.csv"));
    let args = [text(&music), "--manifest", text(&manifest), "--report", text(&report)];
    let run = ingest(&world, &args);
    assert_eq!(run.code, 2);
    assert_eq!(run.counts(["files", "added", "repeated", "failed"]), [5, 2, 2, 1]);
    assert!(run.stderr.contains("track_id A is already that of"), "{run:?}");
    let rows = csv_rows(&report);
    let status: Vec<_> = rows.iter().map(|row| row["status"].as_str()).collect();
    assert_eq!(status, ["added", "repeated", "failed", "repeated", "added"]);
    assert_eq!(shown(&world, "A")["title"], "One");
}

#[test]
fn tags_fill_what_the_manifest_leaves_out() {
    let world = World::new();
    let path = world.copy("catalog/cold_day.mp3", "a.mp3");
    let mut tag = Tag::new(TagType::Id3v2);
    tag.set_title("Tag title".to_owned());
    tag.set_artist("Tag artist".to_owned());
    assert!(tag.insert_text(ItemKey::Isrc, "QZABC2600001".to_owned()));
    tag.save_to_path(&path, WriteOptions::default()).unwrap();
    let manifest = world.write(
        "list.jsonl",
        "{\"path\": \"a.mp3\", \"track_id\": \"T\", \"title\": \"Manifest title\", \"year\": 2026}\n",
    );
    assert_eq!(ingest(&world, &["--manifest", text(&manifest)]).code, 0);
    let track = shown(&world, "T");
    assert_eq!(
        (&track["title"], &track["artist"]),
        (&"Manifest title".into(), &"Tag artist".into())
    );
    assert_eq!((&track["isrc"], &track["album"]), (&"QZABC2600001".into(), &().into()));
    assert_eq!(track["attributes"]["year"], "2026");
}

#[test]
fn bad_rows_fail_alone_and_bad_manifests_before_anything_is_made() {
    let world = World::new();
    world.copy("catalog/cold_day.mp3", "a.mp3");
    let manifest = world.write("list.csv", "path,track_id\na.mp3\na.mp3,T\n,U\n");
    let run = ingest(&world, &["--manifest", text(&manifest)]);
    assert_eq!((run.code, run.counts(["added", "failed"])), (2, [1, 2]), "{run:?}");
    assert!(run.stderr.contains("line 2") && run.stderr.contains("line 4"), "{run:?}");

    let other = World::new();
    let manifest = other.write("list.csv", "file\na.mp3\n");
    let run = ingest(&other, &["--manifest", text(&manifest)]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("path"), "{run:?}");
    assert!(!other.path("index").exists());
}

#[test]
fn send_audio_needs_someone_to_send_to() {
    let world = World::new();
    let file = world.copy("catalog/cold_day.mp3", "a.mp3");
    let run = ingest(&world, &["--send-audio", text(&file)]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--server"), "{run:?}");
}

#[test]
fn what_is_named_by_mistake_is_not_overwritten() {
    let world = World::new();
    let music = world.copy("catalog/cold_day.mp3", "a.mp3");
    let (manifest, report) = (world.path("list.csv"), world.path("report.csv"));
    fs::write(&manifest, "path\na.mp3\n").unwrap();
    let before = (fs::read(&manifest).unwrap(), fs::read(&music).unwrap());
    for more in [
        ["--manifest", text(&manifest), "--report", text(&manifest)],
        ["--manifest", text(&manifest), "--report", text(&music)],
        ["--manifest", text(&manifest), "--journal", text(&music)],
    ] {
        let run = ingest(&world, &more);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.stderr.contains("is there already"), "{run:?}");
    }
    assert_eq!((fs::read(&manifest).unwrap(), fs::read(&music).unwrap()), before);
    // An earlier report may be.
    let again = ["--manifest", text(&manifest), "--report", text(&report)];
    assert_eq!((ingest(&world, &again).code, ingest(&world, &again).code), (0, 0));
}

#[test]
fn duplicates_are_told_again_by_the_run_that_goes_on() {
    let world = World::new();
    world.copy("catalog/cold_day.mp3", "music/a.mp3");
    world.copy("catalog/cold_day.mp3", "music/b.mp3");
    let (music, report) = (world.path("music"), world.path("report.csv"));
    for _ in 0..2 {
        ingest(&world, &[text(&music), "--report", text(&report)]);
        let rows = csv_rows(&report);
        assert_eq!(rows[1]["status"], "duplicate", "{rows:?}");
        assert_eq!(rows[1]["duplicate_of"], rows[0]["track_id"], "{rows:?}");
    }
}

#[test]
fn a_quote_that_is_not_closed_swallows_no_rows_unseen() {
    let world = World::new();
    world.copy("catalog/cold_day.mp3", "a.mp3");
    let manifest = world.path("list.csv");
    fs::write(&manifest, "path,title\na.mp3,\"Cold Day\nb.mp3,Other\n").unwrap();
    let run = ingest(&world, &["--manifest", text(&manifest)]);
    assert_eq!((run.code, run.counts(ALL)), (2, [0, 0, 0, 0, 0, 1]), "{run:?}");
    assert!(run.stderr.contains("double quote not closed"), "{run:?}");
}

#[test]
fn nothing_to_ingest_is_no_success() {
    let world = World::new();
    fs::create_dir(world.path("empty")).unwrap();
    assert_eq!(ingest(&world, &[text(&world.path("empty"))]).code, 2);
    let run = ingest(&world, &["-"]);
    assert!(run.code == 2 && run.stderr.contains("standard input"), "{run:?}");
}
