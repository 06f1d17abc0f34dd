//! What only this module can see: limits that are tiny, readers beside a writer, damage.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::fingerprint::Fingerprint;
use crate::hash::{BUCKET_COUNT, CELL_COUNT};
use crate::index::{MemoryIndex, Metadata};
use crate::landmark::reference_landmarks;

const TINY: Limits =
    Limits { cache_bytes: 20_000, shelf_postings_max: 12, decoded_per_call_max: 150 };
const NOTHING: Limits = Limits { cache_bytes: 0, shelf_postings_max: 0, decoded_per_call_max: 0 };

/// A track of 10 s. Its peaks lie in a narrow band, so that tracks share shelves and buckets.
fn track(id: u32, seed: u32) -> NewTrack {
    let mut rng = fastrand::Rng::with_seed(u64::from(seed));
    let mut peaks: Vec<_> = (0..120)
        .map(|_| Peak {
            time_ms: rng.u32(0..100) * 96,
            freq: rng.u16(1_000..1_200),
            level: rng.u8(..),
            rank: rng.u8(0..3),
        })
        .collect();
    peaks.sort_unstable();
    let mut content = [0; 32];
    content[..4].copy_from_slice(&seed.to_be_bytes());
    NewTrack {
        id: TrackId::new(format!("t{id}")).unwrap(),
        metadata: Metadata::default(),
        fingerprint: Fingerprint {
            duration_ms: 10_000,
            content_hash: ContentHash(content),
            level_db: -20.0,
            peaks,
        },
    }
}

fn open(folder: &Path, limits: Limits) -> RocksIndex {
    RocksIndex::create_or_open_with(folder, &Params::default(), limits).unwrap()
}

/// The whole buckets that the tracks of these seeds use, ascending.
fn ranges(seeds: impl IntoIterator<Item = u32>) -> Vec<KeyRange> {
    let buckets: BTreeSet<_> = seeds
        .into_iter()
        .flat_map(|seed| {
            let peaks = track(0, seed).fingerprint.peaks;
            reference_landmarks(&peaks, 0..peaks.len(), &Params::default())
        })
        .map(|landmark| landmark.key.bucket)
        .collect();
    buckets.into_iter().map(|bucket| KeyRange { bucket, cells: 0..=CELL_COUNT - 1 }).collect()
}

/// Postings of live tracks with the places of their ranges, in the order in which they are told.
fn read(index: &dyn Index, ranges: &[KeyRange]) -> Vec<(usize, Posting)> {
    let timeline = index.timeline();
    let mut read = Vec::new();
    let mut before = None;
    let visit = &mut |i: usize, list: &[Posting]| {
        assert!(before < Some(i), "ranges are told in order and once");
        before = Some(i);
        assert!(!list.is_empty() && list.is_sorted_by(|a, b| a < b));
        assert!(list.iter().all(|posting| ranges[i].cells.contains(&posting.cell)));
        let live = list.iter().filter(|p| timeline.locate(p.position).is_some());
        read.extend(live.map(|posting| (i, *posting)));
        ControlFlow::Continue(())
    };
    index.read_postings(ranges, visit).unwrap();
    read
}

/// Lengths of all buckets.
fn lens(index: &dyn Index) -> Vec<u32> {
    (0..BUCKET_COUNT).map(|bucket| index.bucket_len(bucket)).collect()
}

fn memory_with(tracks: &[NewTrack]) -> MemoryIndex {
    let memory = MemoryIndex::new(&Params::default());
    memory.add(tracks).unwrap();
    memory
}

#[derive(Debug, Clone)]
enum Step {
    Add(Vec<(u32, u32)>),
    Remove(u32),
    Read { shift: usize, low: u16, width: u16 },
    Reopen,
    Compact,
}

fn any_step() -> impl Strategy<Value = Step> {
    let batch = proptest::collection::btree_map(0_u32..6, 0_u32..8, 1..4);
    prop_oneof![
        4 => batch.prop_map(|batch| Step::Add(batch.into_iter().collect())),
        2 => (0_u32..6).prop_map(Step::Remove),
        6 => (0_usize..6, 0_u16..280, 0_u16..280)
            .prop_map(|(shift, low, width)| Step::Read { shift, low, width }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn reads_between_changes_are_those_of_memory(
        steps in proptest::collection::vec(any_step(), 1..30),
        limits in prop::sample::select(vec![Limits::default(), TINY, NOTHING]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryIndex::new(&Params::default());
        let mut rocks = open(folder.path(), limits);
        let all = ranges(0..8);
        for step in steps {
            match step {
                Step::Add(batch) => {
                    let batch: Vec<_> = batch.into_iter().map(|(id, seed)| track(id, seed)).collect();
                    prop_assert_eq!(rocks.add(&batch).unwrap(), memory.add(&batch).unwrap());
                }
                Step::Remove(id) => {
                    let id = TrackId::new(format!("t{id}")).unwrap();
                    let (a, b) = (rocks.remove(&id).unwrap(), memory.remove(&id).unwrap());
                    prop_assert_eq!(a.is_some(), b.is_some());
                }
                Step::Read { shift, low, width } => {
                    // Narrow ranges, two in each bucket, of some of the buckets.
                    let narrow = |range: &KeyRange| {
                        [low, (low + width / 2).min(279)].map(|low| {
                            let cells = low..=(low + width).min(CELL_COUNT - 1);
                            KeyRange { bucket: range.bucket, cells }
                        })
                    };
                    let some: Vec<_> = all.iter().skip(shift).step_by(1 + shift).flat_map(narrow).collect();
                    prop_assert_eq!(read(&rocks, &some), read(&memory, &some));
                }
                Step::Reopen => {
                    drop(rocks);
                    rocks = open(folder.path(), limits);
                }
                Step::Compact => rocks.compact().unwrap(),
            }
            let kept = rocks.shelves.kept_bytes();
            prop_assert!(kept <= limits.cache_bytes, "{} bytes are kept", kept);
        }
        prop_assert_eq!(read(&rocks, &all), read(&memory, &all));
        // The same again, from what the first time has kept.
        prop_assert_eq!(read(&rocks, &all), read(&memory, &all));
    }
}

#[test]
fn tiny_limits_are_reached() {
    let folder = tempfile::tempdir().unwrap();
    let rocks = open(folder.path(), TINY);
    rocks.add(&[track(1, 1), track(2, 2)]).unwrap();
    let all = ranges(1..3);
    let kept = |calls: usize| {
        (0..calls).for_each(|_| drop(read(&rocks, &all)));
        rocks.shelves.kept_bytes()
    };
    let first = kept(1);
    assert!(first > 0 && first < kept(1), "a call decodes only so much");
    let (full, shelf) = (kept(50), TINY.shelf_postings_max * size_of::<Posting>() + 1_000);
    assert!(TINY.cache_bytes - full < shelf, "{full} bytes are kept");
}

/// A search that ends early must not have the rest decoded.
#[test]
fn a_break_ends_the_reading() {
    let folder = tempfile::tempdir().unwrap();
    for limits in [Limits::default(), NOTHING] {
        let rocks = open(folder.path(), limits);
        rocks.add(&[track(1, 1)]).unwrap();
        let mut calls = 0;
        let visit = &mut |_: usize, _: &[Posting]| {
            calls += 1;
            if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        rocks.read_postings(&ranges([1]), visit).unwrap();
        assert_eq!(calls, 3);
    }
}

#[test]
fn buckets_that_no_key_has_are_empty() {
    let folder = tempfile::tempdir().unwrap();
    let rocks = open(folder.path(), Limits::default());
    let range = |bucket| KeyRange { bucket, cells: 0..=u16::MAX };
    assert_eq!(read(&rocks, &[range(BUCKET_COUNT), range(u32::MAX)]), []);
    assert_eq!(rocks.bucket_len(u32::MAX), 0);
}

/// Readers and a writer that adds, replaces and removes. Whatever was acknowledged before a read
/// began must be in it, and shelves are decoded, merged and forgotten all the while.
#[test]
fn what_was_acknowledged_is_read() {
    const TRACKS: u32 = 150;
    let tracks: Vec<_> = (0..TRACKS).map(|i| track(i, i)).collect();
    for limits in [Limits::default(), TINY, Limits { cache_bytes: 300_000, ..Limits::default() }] {
        let folder = tempfile::tempdir().unwrap();
        let rocks = open(folder.path(), limits);
        let acknowledged = AtomicU32::new(0);
        let is_over = AtomicBool::new(false);
        let all = ranges(0..TRACKS);
        let expected = read(&memory_with(&tracks), &all);
        std::thread::scope(|scope| {
            for reader in 0..3 {
                let (rocks, all, expected) = (&rocks, &all, &expected);
                let (acknowledged, is_over) = (&acknowledged, &is_over);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(reader);
                    while !is_over.load(Ordering::Acquire) {
                        // Every third track is removed again some time.
                        let known = acknowledged.load(Ordering::Acquire);
                        let timeline = rocks.timeline();
                        let from = rng.usize(..all.len());
                        let part = &all[from..(from + rng.usize(1..400)).min(all.len())];
                        let mut seen = BTreeSet::new();
                        let visit = &mut |i: usize, list: &[Posting]| {
                            seen.extend(list.iter().map(|posting| (from + i, *posting)));
                            ControlFlow::Continue(())
                        };
                        rocks.read_postings(part, visit).unwrap();
                        for wanted in
                            expected.iter().filter(|(i, _)| (from..from + part.len()).contains(i))
                        {
                            let Some((_, id)) = timeline.locate(wanted.1.position) else {
                                continue;
                            };
                            let number: u32 = id.as_str()[1..].parse().unwrap();
                            if !number.is_multiple_of(3) && number < known {
                                assert!(seen.contains(wanted), "{id} at {wanted:?}");
                            }
                        }
                    }
                });
            }
            for (i, track) in tracks.iter().enumerate() {
                rocks.add(std::slice::from_ref(track)).unwrap();
                acknowledged.store(i as u32 + 1, Ordering::Release);
                if i % 6 == 5 {
                    rocks.remove(&tracks[i - 2].id).unwrap().unwrap();
                }
            }
            is_over.store(true, Ordering::Release);
        });
    }
}

fn put_meta(index: &RocksIndex, key: &str, value: &[u8]) {
    index.db.put_cf(index.family(META), key, value).unwrap();
}

/// An index of 20 tracks with a stored table, and its right lengths.
fn with_stored_lens() -> (TempDir, RocksIndex, Vec<u32>) {
    let folder = tempfile::tempdir().unwrap();
    let tracks: Vec<_> = (0..20).map(|i| track(i, i)).collect();
    let index = open(folder.path(), Limits::default());
    index.add(&tracks).unwrap();
    index.compact().unwrap();
    (folder, index, lens(&memory_with(&tracks)))
}

#[test]
fn a_stored_table_is_used_and_what_came_after_is_counted() {
    let (folder, index, expected) = with_stored_lens();
    let saved_at = index.lens_saved_at.load(Ordering::Relaxed);
    assert!(saved_at > 0);
    drop(index);
    let index = open(folder.path(), Limits::default());
    assert_eq!(index.lens_saved_at.load(Ordering::Relaxed), saved_at);
    assert_eq!(lens(&index), expected);
    index.add(&[track(20, 20)]).unwrap();
    drop(index);
    let index = open(folder.path(), Limits::default());
    assert_eq!(index.lens_saved_at.load(Ordering::Relaxed), saved_at);
    let tracks: Vec<_> = (0..21).map(|i| track(i, i)).collect();
    assert_eq!(lens(&index), lens(&memory_with(&tracks)));
    // Much more than a share that is worth counting track by track.
    index.add(&(21..60).map(|i| track(i, i)).collect::<Vec<_>>()).unwrap();
    drop(index);
    let index = open(folder.path(), Limits::default());
    assert_eq!(index.lens_saved_at.load(Ordering::Relaxed), 0);
    let tracks: Vec<_> = (0..60).map(|i| track(i, i)).collect();
    assert_eq!(lens(&index), lens(&memory_with(&tracks)));
}

#[test]
fn a_table_that_does_not_fit_is_made_anew() {
    let (folder, mut index, expected) = with_stored_lens();
    let good = index.db.get_cf(index.family(META), "lens").unwrap().unwrap();
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let next = index.lens_saved_at.load(Ordering::Relaxed);
    let empty = lens::BucketLens::new();
    let ahead = index.lens.encode(next + 1);
    index.lens.count(7, 1_000_000);
    let too_high = index.lens.encode(next);
    let bad = [&flipped, &good[..good.len() - 3], &[], &empty.encode(next), &ahead, &too_high];
    for table in bad.map(<[u8]>::to_vec) {
        put_meta(&index, "lens", &table);
        drop(index);
        index = open(folder.path(), Limits::default());
        assert_eq!(index.lens_saved_at.load(Ordering::Relaxed), 0);
        assert_eq!(lens(&index), expected);
    }
    put_meta(&index, "lens", &good);
    drop(index);
    index = open(folder.path(), Limits::default());
    assert_eq!(index.lens_saved_at.load(Ordering::Relaxed), next);
}

/// The files as a process leaves them that is killed.
#[test]
fn lengths_are_right_after_a_kill() {
    let (folder, index, _) = with_stored_lens();
    index.add(&[track(30, 30)]).unwrap();
    index.add(&[track(3, 31)]).unwrap();
    index.remove(&track(4, 4).id).unwrap().unwrap();
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let file = entry.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let killed = open(copy.path(), Limits::default());
    // What was removed after the table was stored may still be counted.
    let pairs = lens(&killed).into_iter().zip(lens(&index));
    assert!(pairs.into_iter().all(|(after, before)| after >= before));
    assert_eq!(read(&killed, &ranges(0..32)), read(&index, &ranges(0..32)));
}

#[test]
fn a_damaged_row_is_told_to_those_who_read_it_only() {
    let (folder, index, expected) = with_stored_lens();
    let all = ranges(0..20);
    let damaged = all[all.len() / 2].bucket;
    index.db.put_cf(index.family(POSTINGS), damaged.to_be_bytes(), [1, 0, 3]).unwrap();
    put_meta(&index, "lens", &[]);
    drop(index);
    let index = open(folder.path(), Limits::default());
    assert_eq!(index.bucket_len(damaged), 1);
    let others = |bucket: &u32| *bucket != damaged;
    assert!((0..BUCKET_COUNT).filter(others).all(|b| index.bucket_len(b) == expected[b as usize]));
    let sound: Vec<_> = all.iter().filter(|range| range.bucket != damaged).cloned().collect();
    let tracks: Vec<_> = (0..20).map(|i| track(i, i)).collect();
    for _ in 0..2 {
        assert_eq!(read(&index, &sound), read(&memory_with(&tracks), &sound));
        let error = index.read_postings(&all, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains(&format!("bucket {damaged} ")), "{error}");
    }
}
