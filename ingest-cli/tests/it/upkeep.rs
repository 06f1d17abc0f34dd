//! Keeping an index in shape: check, repair, compact, and what stats say of it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{CATALOG_LEN, Run, Server, World, bare_command, testdata};

const CLIP: &str = "clips/cold_day_noisy.mp3";

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|f| f.extension().is_some_and(|e| e == extension)).collect();
    files.sort_unstable();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn row(run: &Run) -> Value {
    run.json().remove(0)
}

fn count(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("{name}: {row}"))
}

#[test]
fn a_whole_index_is_whole_before_and_after_a_repair() {
    let world = World::new().with_catalog();
    let check = world.run(["check", "--format", "json"]);
    let found = row(&check);
    assert_eq!((check.code, &found["status"]), (0, &"whole".into()));
    let stats = row(&world.run(["stats", "--format", "json"]));
    for name in ["track_count", "posting_count", "purgeable_posting_count", "segment_count"] {
        assert_eq!(found[name], stats[name], "{name}");
    }
    assert_eq!(found["track_count"], CATALOG_LEN);
    let repair = world.run(["check", "--repair"]);
    assert_eq!(repair.code, 0, "{repair:?}");
    assert!(repair.stdout.ends_with("the index is whole\n"), "{repair:?}");
    // The other name of the format.
    assert_eq!(world.run(["check", "--format", "text"]).code, 0);
}

#[test]
fn a_damaged_file_is_told_and_repaired_whichever_it_is() {
    let original = World::new().with_catalog();
    assert_eq!(original.run(["compact"]).code, 0);
    let count_files = files(&original.path("index"), "sst").len();
    assert!(count_files >= 5, "a file for each part: {count_files}");
    let mut told_lost = 0;
    for place in 0..count_files {
        let world = World::new();
        fs::create_dir(world.path("index")).unwrap();
        let entries =
            fs::read_dir(original.path("index")).unwrap().map(|entry| entry.unwrap().path());
        for from in entries.filter(|path| path.is_file()) {
            fs::copy(&from, world.path("index").join(from.file_name().unwrap())).unwrap();
        }
        flip(&files(&world.path("index"), "sst")[place], 20);
        let check = world.run(["check", "--format", "json"]);
        let found = row(&check);
        assert_eq!((check.code, &found["status"]), (1, &"faulty".into()), "{check:?}");
        let fault = &found["faults"][0];
        assert!(fault["message"].as_str().unwrap().contains("Corruption"), "{found}");
        assert!(fault["way_out"].as_str().unwrap().contains("--repair"), "{found}");
        let text = world.run(["check"]);
        assert!(text.code == 1 && text.stdout.contains("earmark check --repair"), "{text:?}");

        let repair = world.run(["check", "--repair", "--format", "json"]);
        assert_eq!((repair.code, &row(&repair)["status"]), (1, &"repaired".into()), "{repair:?}");
        let lost = row(&repair)["lost"].as_array().unwrap().clone();
        told_lost += lost.len();
        assert_eq!(world.run(["check"]).code, 0);
        let stats = row(&world.run(["stats", "--format", "json"]));
        assert_eq!(count(&stats, "track_count"), (CATALOG_LEN - lost.len()) as u64);
        // As the report says: ingest the lost ones again.
        let manifest = testdata("catalog.csv");
        let ingest = ["ingest", "--force", "--manifest", manifest.to_str().unwrap()];
        assert_eq!(world.run(ingest).code, 0);
        assert_eq!(world.run(["match", testdata(CLIP).to_str().unwrap()]).code, 0);
        assert_eq!(world.run(["check"]).code, 0);
    }
    assert!(told_lost > 0, "records and peaks cannot be made anew");
}

#[test]
fn what_cannot_be_checked_is_no_whole_index() {
    let world = World::new();
    for args in [&["check"][..], &["check", "--repair"], &["compact"]] {
        let run = world.run(args);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.stderr.contains("no index in"), "{run:?}");
    }
    assert!(!world.path("index").exists());
    let server = Server::start();
    for command in ["check", "compact"] {
        let args = [command, "--index", server.index.path().to_str().unwrap()];
        let run = Run::new(bare_command(args).output().unwrap());
        assert_eq!(run.code, 2);
        assert!(run.stderr.contains("is in use by another process; end that first"), "{run:?}");
        let run =
            Run::new(bare_command([command]).env("EARMARK_SERVER", &server.url).output().unwrap());
        assert!(run.code == 2 && run.stderr.contains("--index DIR"), "{run:?}");
    }
}

/// Bytes of the rows of an index, without what RocksDB notes about itself.
fn size(index: &Path) -> u64 {
    files(index, "sst").iter().map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn compacting_gives_the_space_of_removed_tracks_back() {
    let world = World::new().with_catalog();
    assert_eq!(world.run(["compact"]).code, 0);
    let full = size(&world.path("index"));
    let before = row(&world.run(["stats", "--format", "json"]));
    let list = world.run(["tracks", "list", "--format", "json"]).json();
    let ids: Vec<_> = list.iter().map(|track| track["track_id"].as_str().unwrap()).collect();
    let gone = &ids[..CATALOG_LEN - 2];
    assert_eq!(world.run([&["tracks", "remove"][..], gone].concat()).code, 0);
    let stats = row(&world.run(["stats", "--format", "json"]));
    let purgeable = count(&stats, "purgeable_posting_count");
    assert_eq!(purgeable, count(&before, "posting_count") - count(&stats, "posting_count"));
    let text = world.run(["check"]);
    assert!(text.code == 0 && text.stdout.contains("earmark compact purges them"), "{text:?}");

    let compact = row(&world.run(["compact", "--format", "json"]));
    assert_eq!(count(&compact, "purged_posting_count"), purgeable);
    assert_eq!(compact["posting_count"], stats["posting_count"]);
    assert_eq!(count(&compact, "segment_count_after"), 1);
    assert!(count(&compact, "bytes_after") < count(&compact, "bytes_before"), "{compact}");
    let small = size(&world.path("index"));
    assert!(small < full, "{small} of {full} bytes");
    for file in files(&world.path("index"), "sst").iter().chain(&files(&world.path("index"), "log"))
    {
        let bytes = fs::read(file).unwrap();
        for id in gone {
            let is_there = bytes.windows(id.len()).any(|window| window == id.as_bytes());
            assert!(!is_there, "{id} in {}", file.display());
        }
    }
    assert_eq!(world.run(["check"]).code, 0);
    let again = row(&world.run(["compact", "--format", "json"]));
    assert_eq!(count(&again, "purged_posting_count"), 0);
}

#[test]
fn stats_tell_parts_segments_and_lengths() {
    let world = World::new().with_catalog();
    let stats = row(&world.run(["stats", "--format", "json"]));
    assert_eq!(stats["segment_count"], 1);
    assert_eq!(stats["segments_by_size"][0]["posting_count"], stats["posting_count"]);
    assert_eq!(count(&stats, "buffered_posting_count"), 0);
    let lengths = &stats["list_lengths"];
    let lengths = ["median", "p90", "p99", "p999", "longest"].map(|name| count(lengths, name));
    assert!(lengths[0] >= 1 && lengths.is_sorted(), "{stats}");
    let parts = stats["bytes_by_part"].as_object().unwrap();
    let sum: u64 = parts.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(count(&stats, "bytes"), sum);
    assert!(stats["mb_per_hour"].as_f64().unwrap() > 0.1, "{stats}");
    let text = world.run(["stats"]).stdout;
    for name in ["MB an hour", "segments          1\n", "posting lists", "block cache", " %\n"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}
