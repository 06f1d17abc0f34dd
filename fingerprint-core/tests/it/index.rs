//! Both indexes do the same, and the one on disk remembers it.

mod damage;
mod two_processes;

use std::ops::ControlFlow;

use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::hash::{BUCKET_COUNT, KeyRange};
use fingerprint_core::index::{
    Added, Change, Index, IndexError, MemoryIndex, Metadata, NewTrack, Posting, RocksIndex,
    TrackRecord,
};
use fingerprint_core::params::Params;
use fingerprint_core::peaks::Peak;
use fingerprint_core::units::{ContentHash, TrackId};
use proptest::prelude::*;

fn fingerprint(seed: u8) -> Fingerprint {
    let mut rng = fastrand::Rng::with_seed(u64::from(seed));
    let mut peaks: Vec<_> = (0..300)
        .map(|_| Peak {
            time_ms: rng.u32(128..9_900),
            freq: rng.u16(620..4_000),
            level: rng.u8(..),
            rank: rng.u8(0..6),
        })
        .collect();
    peaks.sort_unstable();
    Fingerprint {
        duration_ms: 10_000,
        content_hash: ContentHash([seed; 32]),
        level_db: -20.0,
        peaks,
    }
}

fn track(id: u8, seed: u8, title: u8) -> NewTrack {
    let metadata = Metadata { title: Some(title.to_string()), ..Metadata::default() };
    NewTrack {
        id: TrackId::new(format!("t{id}")).unwrap(),
        metadata,
        fingerprint: fingerprint(seed),
    }
}

/// Everything an index answers, without the time of adding; postings of live tracks only. Each
/// track comes with its peaks and the tracks of the same audio.
fn contents(index: &dyn Index) -> (Vec<String>, Vec<(usize, Posting)>) {
    let mut records = index.tracks(None, usize::MAX).unwrap();
    records.iter_mut().for_each(|record| record.added_at_ms = 0);
    let timeline = index.timeline();
    let ranges: Vec<_> = (0..BUCKET_COUNT).map(KeyRange::of_bucket).collect();
    let mut postings = Vec::new();
    index
        .read_postings(&ranges, &mut |i, list| {
            let live = list.iter().filter(|p| timeline.locate(p.position).is_some());
            postings.extend(live.map(|p| (i, *p)));
            ControlFlow::Continue(())
        })
        .unwrap();
    // A range is told in any order.
    postings.sort_unstable();
    let whole = |record: &TrackRecord| {
        let peaks = index.peaks(record.span.start, 0..u32::MAX).unwrap();
        let same = index.tracks_with_content(&record.content_hash).unwrap();
        format!("{record:?} {peaks:?} {same:?}")
    };
    (records.iter().map(whole).collect(), postings)
}

/// What adding says, without the time of adding.
fn added(index: &dyn Index, batch: &[NewTrack]) -> Vec<Added> {
    let mut added = index.add(batch).unwrap();
    for one in &mut added {
        assert_eq!(Some(&one.record), index.track(&one.record.id).unwrap().as_ref());
        one.record.added_at_ms = 0;
    }
    added
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8, u8, u8),
    Remove(u8),
    Reopen,
    Compact,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..4, 0_u8..5, 0_u8..2).prop_map(|(id, seed, title)| Step::Add(id, seed, title)),
        2 => (0_u8..4).prop_map(Step::Remove),
        1 => Just(Step::Reopen),
        1 => Just(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn rocks_and_memory_agree(steps in proptest::collection::vec(any_step(), 1..12)) {
        let folder = tempfile::tempdir().unwrap();
        let params = Params::default();
        let memory = MemoryIndex::new(&params);
        let mut rocks = RocksIndex::create_or_open(folder.path(), &params).unwrap();
        for step in steps {
            match step {
                Step::Add(id, seed, title) => {
                    let batch = [track(id, seed, title)];
                    prop_assert_eq!(added(&rocks, &batch), added(&memory, &batch));
                }
                Step::Remove(id) => {
                    let id = TrackId::new(format!("t{id}")).unwrap();
                    prop_assert_eq!(rocks.remove(&id).unwrap().is_some(), memory.remove(&id).unwrap().is_some());
                }
                Step::Reopen => {
                    drop(rocks);
                    rocks = RocksIndex::open(folder.path(), &params).unwrap();
                }
                Step::Compact => rocks.compact().unwrap(),
            }
        }
        prop_assert_eq!(contents(&rocks), contents(&memory));
        for bucket in 0..=BUCKET_COUNT {
            // Removed tracks may be counted, and eight buckets are counted together.
            let (len, live) = (rocks.bucket_len(bucket), memory.bucket_len(bucket));
            prop_assert!(8 * len >= live, "{}: {} {}", bucket, len, live);
        }
        let (a, b) = (rocks.stats().unwrap(), memory.stats().unwrap());
        prop_assert_eq!((a.track_count, a.posting_count), (b.track_count, b.posting_count));
    }
}

#[test]
fn changes_are_named_for_what_they_are() {
    let index = MemoryIndex::new(&Params::default());
    let change = |t: NewTrack| index.add(&[t]).unwrap().remove(0);
    assert_eq!(change(track(1, 1, 0)).change, Change::Inserted);
    assert_eq!(change(track(1, 1, 0)).change, Change::Unchanged);
    assert_eq!(change(track(1, 1, 9)).change, Change::MetadataUpdated);
    assert_eq!(change(track(1, 2, 9)).change, Change::Replaced);
    let twin = change(track(3, 2, 0));
    assert_eq!(
        (twin.change, twin.duplicate_of),
        (Change::Inserted, vec![TrackId::new("t1").unwrap()])
    );
}

#[test]
fn an_index_is_not_made_among_other_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("song.mp3"), "audio").unwrap();
    let made = RocksIndex::create_or_open(folder.path(), &Params::default());
    assert!(matches!(made, Err(IndexError::NotAnIndex { .. })), "{made:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// "Block" and "lock" are one letter apart in RocksDB's messages.
#[test]
fn damage_is_not_taken_for_an_index_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks and locks");
    let params = Params::default();
    let index = RocksIndex::create_or_open(&path, &params).unwrap();
    index.add(&[track(1, 1, 0)]).unwrap();
    index.compact().unwrap();
    drop(index);
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "sst") {
            let bytes = std::fs::read(&file).unwrap();
            std::fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
        }
    }
    let opened = RocksIndex::open(&path, &params);
    assert!(matches!(opened, Err(IndexError::Corrupt { .. })), "{opened:?}");
}

#[test]
fn opening_tells_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let params = Params::default();
    let open = |params| RocksIndex::open(folder.path(), params);
    assert!(matches!(open(&params), Err(IndexError::Missing { .. })));
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(RocksIndex::open(file.path(), &params), Err(IndexError::Missing { .. })));
    let index = RocksIndex::create_or_open(folder.path(), &params).unwrap();
    assert!(matches!(open(&params), Err(IndexError::InUse { .. })));
    assert!(matches!(
        index.add(&[track(1, 1, 0), track(1, 2, 0)]),
        Err(IndexError::RepeatedId { .. })
    ));
    drop(index);
    let other = Params { floor_db: -60.0, ..params };
    assert!(matches!(open(&other), Err(IndexError::ParamsMismatch { .. })));
}
