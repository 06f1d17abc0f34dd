//! Old indexes of both formats, new ones that were interrupted at every batch, and refusals.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use rocksdb::{DB, Options};
use serde_json::json;
use tempfile::TempDir;

use super::super::tests::{FEW, killed, open, ranges, read, track};
use super::super::{
    CONSTELLATIONS, CONTENT, FORMAT_VERSION, Limits, META, RocksIndex, TRACKS, filling, header,
};
use super::*;
use crate::constellation;
use crate::index::{MemoryIndex, Metadata, NewTrack};

const TRACK_COUNT: u32 = 20;
/// Seven batches.
const SMALL: BatchLimits = BatchLimits { tracks: 3, peaks: usize::MAX };

/// The tracks of the old indexes, with all that a track may have.
fn tracks() -> Vec<NewTrack> {
    let with_metadata = |i: u32| {
        let attributes = BTreeMap::from([("territory".to_owned(), format!("{i}"))]);
        let title = i.is_multiple_of(2).then(|| format!("Title {i}"));
        let metadata = Metadata { title, attributes, ..Metadata::default() };
        let mut track = NewTrack { metadata, ..track(i, i) };
        track.fingerprint.duration_ms = 10_000 + u64::from(i) * 7;
        track
    };
    (0..TRACK_COUNT).map(with_metadata).collect()
}

fn added_at_ms(place: usize) -> u64 {
    1_700_000_000_000 + 1_001 * place as u64
}

/// An index as releases of format 1 wrote it, without postings.
fn format_1(tracks: &[NewTrack]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let parts = [META, TRACKS, CONTENT, CONSTELLATIONS, "postings"];
    let db = DB::open_cf(&options, folder.path(), parts).unwrap();
    let put = |part, key: &[u8], value: &[u8]| {
        db.put_cf(db.cf_handle(part).unwrap(), key, value).unwrap();
    };
    put(META, b"format", &1_u32.to_be_bytes());
    put(META, b"params", &0x7c8f_7b92_f932_83eb_u64.to_be_bytes());
    for (place, track) in tracks.iter().enumerate() {
        let start = 100 * place as u32;
        let record = json!({
            "id": track.id, "metadata": track.metadata,
            "duration_s": track.fingerprint.duration_s(),
            "content_hash": track.fingerprint.content_hash,
            "peak_count": 7, "posting_count": 7, "added_at_ms": added_at_ms(place),
            "span": { "start": start, "len": 100 },
        });
        put(TRACKS, track.id.as_str().as_bytes(), record.to_string().as_bytes());
        let mut bytes = Vec::new();
        constellation::encode(&track.fingerprint.peaks, &mut bytes);
        put(CONSTELLATIONS, &start.to_be_bytes(), &bytes);
    }
    folder
}

/// Names and bytes of all files.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

fn run(old: &Path, new: &Path) -> Result<Reindexed, IndexError> {
    reindex_with(old, new, &Params::default(), (SMALL, FEW), &mut |_| ControlFlow::Continue(()))
}

/// Runs until `batches` have been written.
fn run_some(old: &Path, new: &Path, batches: usize) -> Reindexed {
    let mut left = batches;
    let stop = &mut |_: ReindexEvent<'_>| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let result = reindex_with(old, new, &Params::default(), (SMALL, FEW), stop).unwrap();
    assert!(!result.is_complete);
    result
}

/// The new index holds these tracks and nothing else, as if they had been added to it.
fn assert_holds(new: &Path, tracks: &[NewTrack], params: &Params) {
    let index = RocksIndex::open(new, params).unwrap();
    let memory = MemoryIndex::new(params);
    let mut in_order = tracks.to_vec();
    in_order.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    memory.add(&in_order).unwrap();
    let (there, expected) = (index.tracks(None, 99).unwrap(), memory.tracks(None, 99).unwrap());
    assert_eq!(there.len(), expected.len());
    for (there, expected) in there.iter().zip(&expected) {
        let described = |record: &TrackRecord| {
            let TrackRecord { id, metadata, content_hash, peak_count, posting_count, .. } = record;
            format!("{id} {metadata:?} {content_hash} {peak_count} {posting_count}")
        };
        assert_eq!(described(there), described(expected));
        let same = |a: f64, b: f64| a.total_cmp(&b).is_eq();
        assert!(same(there.duration_s, expected.duration_s), "{there:?}");
        let peaks = |index: &dyn Index, record: &TrackRecord| {
            index.peaks(record.span.start, 0..u32::MAX).unwrap().unwrap()
        };
        assert_eq!(peaks(&index, there), peaks(&memory, expected));
        let with_content = index.tracks_with_content(&there.content_hash).unwrap();
        assert_eq!(with_content, std::slice::from_ref(&there.id));
    }
    // Positions differ after an interruption, so postings are compared by track and place in it.
    let postings = |index: &dyn Index| {
        let timeline = index.timeline();
        let in_track = |(range, posting): (usize, crate::index::Posting)| {
            let (span, id) = timeline.locate(posting.position).unwrap();
            (range, posting.key, id.clone(), posting.position - span.start)
        };
        let mut postings: Vec<_> =
            read(index, &ranges(0..2 * TRACK_COUNT)).into_iter().map(in_track).collect();
        postings.sort_unstable();
        postings
    };
    assert!(!postings(&memory).is_empty());
    assert_eq!(postings(&index), postings(&memory));
}

#[test]
fn an_index_of_format_1_becomes_one_of_the_present_and_is_not_touched() {
    let old = format_1(&tracks());
    let before = files(old.path());
    let new = tempfile::tempdir().unwrap();
    let path = new.path().join("made/with/parents");
    let result = run(old.path(), &path).unwrap();
    assert_eq!((result.copied_count, result.kept_count, result.damaged_count), (20, 0, 0));
    assert_eq!((result.old_format_version, result.is_complete), (1, true));
    assert!((result.duration_s - (200.0 + 0.007 * 190.0)).abs() < 1e-6, "{result:?}");
    assert_holds(&path, &tracks(), &Params::default());
    let index = RocksIndex::open(&path, &Params::default()).unwrap();
    for (place, track) in tracks().iter().enumerate() {
        let record = index.track(&track.id).unwrap().unwrap();
        assert_eq!(record.added_at_ms, added_at_ms(place));
    }
    assert_eq!(files(old.path()), before);
}

#[test]
fn an_index_of_the_present_format_serves_for_other_parameters() {
    let old = tempfile::tempdir().unwrap();
    let index = open(old.path(), FEW);
    index.add(&tracks()).unwrap();
    index.remove(&tracks()[3].id).unwrap().unwrap();
    // As a process leaves it that was killed: the last changes are in the log only.
    let old = killed(old.path());
    drop(index);
    let before = files(old.path());
    let new = tempfile::tempdir().unwrap();
    let params = Params { reference_fan_out: 4, zone_max_ms: 600, ..Params::default() };
    let on_event = &mut |_: ReindexEvent<'_>| ControlFlow::Continue(());
    let result = reindex(old.path(), new.path(), &params, on_event).unwrap();
    assert_eq!((result.copied_count, result.old_format_version), (19, FORMAT_VERSION));
    let mut live = tracks();
    live.remove(3);
    assert_holds(new.path(), &live, &params);
    assert_eq!(files(old.path()), before);
}

/// As if killed at each moment at which something has been written.
#[test]
fn a_kill_loses_nothing_and_the_next_run_goes_on() {
    let old = format_1(&tracks());
    let new = tempfile::tempdir().unwrap();
    let mut kills = Vec::new();
    let on_event = &mut |event: ReindexEvent<'_>| {
        let done = match event {
            ReindexEvent::Tracks { done, total, .. } => {
                assert_eq!(total, u64::from(TRACK_COUNT));
                done
            }
            _ => u64::from(TRACK_COUNT),
        };
        kills.push((done, killed(new.path())));
        ControlFlow::Continue(())
    };
    reindex_with(old.path(), new.path(), &Params::default(), (SMALL, FEW), on_event).unwrap();
    let done: Vec<_> = kills.iter().map(|(done, _)| *done).collect();
    assert_eq!(done, [3, 6, 9, 12, 15, 18, 20, 20]);
    for (done, folder) in kills {
        for opened in [
            RocksIndex::open(folder.path(), &Params::default()),
            RocksIndex::create_or_open(folder.path(), &Params::default()),
        ] {
            let error = opened.unwrap_err();
            assert!(matches!(error, IndexError::Incomplete { .. }), "{error}");
            let checked = RocksIndex::check(folder.path(), &Params::default(), &|_| ());
            assert!(matches!(checked, Err(IndexError::Incomplete { .. })), "{checked:?}");
            let command = format!(
                "earmark reindex {} --index {}",
                fs::canonicalize(old.path()).unwrap().display(),
                folder.path().display()
            );
            assert!(error.to_string().contains(&command), "{error}");
        }
        let result = run(old.path(), folder.path()).unwrap();
        assert_eq!((result.kept_count, result.copied_count), (done, 20 - done));
        assert!(result.is_complete);
        assert_holds(folder.path(), &tracks(), &Params::default());
    }
}

#[test]
fn what_the_old_index_has_lost_and_gained_between_two_runs_is_caught_up() {
    let old = tempfile::tempdir().unwrap();
    let new = tempfile::tempdir().unwrap();
    let index = open(old.path(), Limits::default());
    index.add(&tracks()).unwrap();
    assert_eq!(run_some(old.path(), new.path(), 5).copied_count, 15);
    // The ids of the first ones: t0, t1, t10, t11, …
    let mut live = tracks();
    let gone = live.remove(11);
    index.remove(&gone.id).unwrap().unwrap();
    live[10] = NewTrack { id: live[10].id.clone(), ..track(99, 30) };
    live[1].metadata.title = Some("Another".to_owned());
    live.push(track(100, 31));
    index.add(&live).unwrap();
    let result = run(old.path(), new.path()).unwrap();
    assert_eq!((result.kept_count, result.copied_count, result.removed_count), (12, 8, 1));
    assert_holds(new.path(), &live, &Params::default());
}

#[test]
fn a_damaged_track_is_told_and_the_others_are_copied() {
    let old = format_1(&tracks());
    let db = DB::open_cf(
        &Options::default(),
        old.path(),
        [META, TRACKS, CONTENT, CONSTELLATIONS, "postings"],
    )
    .unwrap();
    let constellations = db.cf_handle(CONSTELLATIONS).unwrap();
    db.put_cf(constellations, 500_u32.to_be_bytes(), [0, 0, 0, 9, 1]).unwrap();
    db.delete_cf(constellations, 600_u32.to_be_bytes()).unwrap();
    db.put_cf(db.cf_handle(TRACKS).unwrap(), "t7", "{}").unwrap();
    drop(db);
    let new = tempfile::tempdir().unwrap();
    let mut damaged = Vec::new();
    let on_event = &mut |event: ReindexEvent<'_>| {
        if let ReindexEvent::Damaged { what } = event {
            damaged.push(what.to_owned());
        }
        ControlFlow::Continue(())
    };
    let result =
        reindex_with(old.path(), new.path(), &Params::default(), (SMALL, FEW), on_event).unwrap();
    assert_eq!((result.copied_count, result.damaged_count, result.is_complete), (17, 3, true));
    assert_eq!(damaged[..2], ["the peaks of track t5 are damaged", "track t6 has no peaks"]);
    assert!(damaged[2].starts_with("the record of track t7 is damaged"), "{damaged:?}");
    let mut whole = tracks();
    whole.drain(5..8);
    assert_holds(new.path(), &whole, &Params::default());
}

#[test]
fn folders_that_cannot_take_a_new_index_are_refused() {
    let old = format_1(&tracks());
    let before = files(old.path());
    let occupied = |path: &Path, what: &str| {
        let error = run(old.path(), path).unwrap_err();
        assert!(matches!(error, IndexError::Occupied { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    occupied(old.path(), "folder of the old index");
    occupied(&old.path().join("x/../new"), "folder of the old index");
    assert_eq!(files(old.path()), before);

    let whole = tempfile::tempdir().unwrap();
    open(whole.path(), Limits::default()).add(&[track(1, 1)]).unwrap();
    occupied(whole.path(), "a whole index");
    let done = tempfile::tempdir().unwrap();
    run(old.path(), done.path()).unwrap();
    occupied(done.path(), "a whole index");

    let begun = tempfile::tempdir().unwrap();
    run_some(format_1(&tracks()).path(), begun.path(), 1);
    occupied(begun.path(), "it was begun from ");

    let other = tempfile::tempdir().unwrap();
    let params = Params { reference_fan_out: 1, ..Params::default() };
    drop(RocksIndex::create_or_open(other.path(), &params).unwrap());
    occupied(other.path(), "another release");

    let used = tempfile::tempdir().unwrap();
    let index = open(used.path(), Limits::default());
    assert!(matches!(run(old.path(), used.path()), Err(IndexError::InUse { .. })));
    drop(index);
    // An empty one is what a crash leaves of a beginning, or of an ingest of nothing.
    run(old.path(), used.path()).unwrap();
    assert_holds(used.path(), &tracks(), &Params::default());

    fs::write(whole.path().join("song.mp3"), "audio").unwrap();
    fs::remove_file(whole.path().join("CURRENT")).unwrap();
    let error = run(old.path(), whole.path()).unwrap_err();
    assert!(error.to_string().contains("CURRENT is missing"), "{error}");
    for entry in fs::read_dir(whole.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "sst" || end == "log") {
            fs::remove_file(path).unwrap();
        }
    }
    let error = run(old.path(), whole.path()).unwrap_err();
    assert!(matches!(error, IndexError::NotAnIndex { .. }), "{error}");
}

#[test]
fn what_cannot_be_reindexed_is_refused_and_nothing_is_made() {
    let new = tempfile::tempdir().unwrap();
    let target = new.path().join("new");
    let refused = |old: &Path, params: &Params| {
        let on_event = &mut |_: ReindexEvent<'_>| panic!("it was begun");
        let error = reindex(old, &target, params, on_event).unwrap_err();
        assert!(!target.exists());
        error
    };
    let default = Params::default();
    let nothing = refused(&new.path().join("nothing"), &default);
    assert!(matches!(nothing, IndexError::NothingToReindex { .. }), "{nothing}");

    let finer = Params { reference_rank_max: 3, band_low_hz: 100.0, ..default };
    let unfit = refused(format_1(&tracks()).path(), &finer);
    let named = "because of band_low_hz (150, here 100), reference_rank_max (2, here 3); ingest";
    assert!(unfit.to_string().contains(named), "{unfit}");

    let old = tempfile::tempdir().unwrap();
    drop(open(old.path(), Limits::default()));
    let unfit = refused(old.path(), &Params { reference_rank_max: 2, ..default });
    assert!(unfit.to_string().contains("because of reference_rank_max (1, here 2)"), "{unfit}");
    let change = |key: &str, value: Option<&[u8]>| {
        let index = RocksIndex::open_with(old.path(), &default, FEW, None).unwrap();
        let meta = index.inner.family(META);
        match value {
            Some(value) => index.inner.db.put_cf(meta, key, value).unwrap(),
            None => index.inner.db.delete_cf(meta, key).unwrap(),
        }
    };
    // Without its parameters, only the very same ones are known to fit.
    change(header::VALUES, None);
    let paired = Params { reference_fan_out: 4, ..default };
    let unknown = refused(old.path(), &paired).to_string();
    assert!(unknown.contains(&format!("{:016x} are not known", default.digest())), "{unknown}");
    change(filling::KEY, Some(b"/older"));
    let incomplete = refused(old.path(), &default);
    let command = format!("earmark reindex /older --index {}", old.path().display());
    assert!(incomplete.to_string().contains(&command), "{incomplete}");
}
