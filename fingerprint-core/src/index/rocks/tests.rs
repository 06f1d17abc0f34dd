//! What only this module can see: limits that are tiny, readers beside a writer, damage.

mod damage;
mod files;
mod full_disk;
mod interrupted;
mod killed;
mod kills;
mod missing_rows;

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

pub(super) use killed::killed;
use proptest::prelude::*;
use rocksdb::Options;
use tempfile::TempDir;

use super::segments::block_key;
use super::*;
use crate::fingerprint::Fingerprint;
use crate::hash::{BUCKET_COUNT, CELL_COUNT, Key, SLOT_COUNT, slot_of};
use crate::index::segment::{Entry, Stretch};
use crate::index::{MemoryIndex, Metadata};
use crate::landmark::reference_landmarks;

/// Segments come when they are asked for, and stay apart.
pub(super) const APART: Limits = Limits { buffer_postings: 1 << 20, fan_in: 4 };
/// A segment every few tracks, and one for each track.
pub(super) const FEW: Limits = Limits { buffer_postings: 500, fan_in: 4 };
pub(super) const NONE: Limits = Limits { buffer_postings: 1, fan_in: 4 };

/// A track of 10 s. Its peaks lie in a narrow band, so that tracks share buckets.
pub(super) fn track(id: u32, seed: u32) -> NewTrack {
    let mut rng = fastrand::Rng::with_seed(u64::from(seed));
    let mut peaks: Vec<_> = (0..120)
        .map(|_| Peak {
            time_ms: rng.u32(0..100) * 96,
            freq: rng.u16(1_000..1_200),
            level: rng.u8(..),
            rank: rng.u8(0..2),
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

pub(super) fn open(folder: &Path, limits: Limits) -> RocksIndex {
    RocksIndex::open_with(folder, &Params::default(), limits, None).unwrap()
}

/// The whole buckets that the tracks of these seeds use, ascending.
pub(super) fn ranges(seeds: impl IntoIterator<Item = u32>) -> Vec<KeyRange> {
    let buckets: BTreeSet<_> = seeds
        .into_iter()
        .flat_map(|seed| {
            let peaks = track(0, seed).fingerprint.peaks;
            reference_landmarks(&peaks, 0..peaks.len(), &Params::default())
        })
        .map(|landmark| landmark.key.bucket)
        .collect();
    buckets.into_iter().map(KeyRange::of_bucket).collect()
}

/// Postings of live tracks with the places of their ranges, in the order in which they are told.
pub(super) fn read(index: &dyn Index, ranges: &[KeyRange]) -> Vec<(usize, Posting)> {
    let timeline = index.timeline();
    let mut read = Vec::new();
    let mut before = None;
    let visit = &mut |i: usize, list: &[Posting]| {
        assert!(before < Some(i), "ranges are told in order and once");
        before = Some(i);
        assert!(!list.is_empty());
        assert!(list.iter().all(|posting| ranges[i].contains(posting.key)));
        let live = list.iter().filter(|p| timeline.locate(p.position).is_some());
        read.extend(live.map(|posting| (i, *posting)));
        ControlFlow::Continue(())
    };
    index.read_postings(ranges, visit).unwrap();
    read.sort_unstable();
    assert!(read.is_sorted_by(|a, b| a < b), "a posting was told twice");
    read
}

/// Lengths of all slots.
pub(super) fn lens(lens: &BucketLens) -> Vec<u32> {
    let count = |len: &std::sync::atomic::AtomicU32| len.load(Ordering::Relaxed);
    lens.all.iter().map(count).collect()
}

/// Lengths of all slots, of live tracks.
pub(super) fn live_lens(index: &dyn Index) -> Vec<u32> {
    let mut lens = vec![0; SLOT_COUNT as usize];
    let all: Vec<_> = (0..BUCKET_COUNT).map(KeyRange::of_bucket).collect();
    for (i, _) in read(index, &all) {
        lens[slot_of(*all[i].buckets.start()) as usize] += 1;
    }
    lens
}

pub(super) fn memory_with(tracks: &[NewTrack]) -> MemoryIndex {
    let memory = MemoryIndex::new(&Params::default());
    memory.add(tracks).unwrap();
    memory
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Add(Vec<(u32, u32)>),
    Remove(u32),
    Read { shift: usize, low: u16, width: u16 },
    Reopen,
    Compact,
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let batch = proptest::collection::btree_map(0_u32..6, 0_u32..8, 1..4);
    prop_oneof![
        4 => batch.prop_map(|batch| Step::Add(batch.into_iter().collect())),
        2 => (0_u32..6).prop_map(Step::Remove),
        6 => (0_usize..6, 0_u16..35, 0_u16..35)
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
        limits in prop::sample::select(vec![Limits::default(), FEW, NONE]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryIndex::new(&Params::default());
        let mut rocks = open(folder.path(), limits);
        let all = ranges(0..8);
        for step in steps {
            match step {
                Step::Add(batch) => {
                    let batch: Vec<_> = batch.into_iter().map(|(id, seed)| track(id, seed)).collect();
                    let [a, b] = [&rocks as &dyn Index, &memory].map(|index| {
                        let mut added = index.add(&batch).unwrap();
                        added.iter_mut().for_each(|one| one.record.added_at_ms = 0);
                        added
                    });
                    prop_assert_eq!(a, b);
                }
                Step::Remove(id) => {
                    let id = TrackId::new(format!("t{id}")).unwrap();
                    let (a, b) = (rocks.remove(&id).unwrap(), memory.remove(&id).unwrap());
                    prop_assert_eq!(a.is_some(), b.is_some());
                }
                Step::Read { shift, low, width } => {
                    // Narrow ranges, two in each bucket, of some of the buckets.
                    let narrow = |range: &KeyRange| {
                        [low, (low + width / 2).min(34)].map(|low| {
                            let cells = low..=(low + width).min(CELL_COUNT - 1);
                            KeyRange { buckets: range.buckets.clone(), cells }
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
        }
        prop_assert_eq!(read(&rocks, &all), read(&memory, &all));
        // The same again, from what the first time has kept.
        prop_assert_eq!(read(&rocks, &all), read(&memory, &all));
        prop_assert!(lens(&rocks.inner.lens).iter().zip(live_lens(&memory)).all(|(len, live)| *len >= live));
        rocks.compact().unwrap();
        prop_assert_eq!(read(&rocks, &all), read(&memory, &all));
        prop_assert_eq!(lens(&rocks.inner.lens), live_lens(&memory));
        prop_assert!(rocks.inner.store().segments.len() <= 1);
    }
}

/// A search that ends early must not have the rest decoded.
#[test]
fn a_break_ends_the_reading() {
    let folder = tempfile::tempdir().unwrap();
    for limits in [Limits::default(), NONE] {
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
    let rocks = open(folder.path(), APART);
    let range = |bucket| KeyRange { buckets: bucket..=bucket, cells: 0..=u16::MAX };
    assert_eq!(read(&rocks, &[range(BUCKET_COUNT), range(u32::MAX)]), []);
    assert_eq!(rocks.bucket_len(u32::MAX), 0);
}

/// Readers and a writer that adds and removes. Whatever was acknowledged before a read began must be
/// in it, and buffers become segments and segments are merged all the while.
#[test]
fn what_was_acknowledged_is_read() {
    const TRACKS: u32 = 150;
    let tracks: Vec<_> = (0..TRACKS).map(|i| track(i, i)).collect();
    for limits in [Limits::default(), FEW, NONE] {
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

/// An index of 20 tracks in three segments and a buffer.
pub(super) fn in_parts() -> (TempDir, RocksIndex, Vec<NewTrack>) {
    let folder = tempfile::tempdir().unwrap();
    let tracks: Vec<_> = (0..20).map(|i| track(i, i)).collect();
    let index = open(folder.path(), APART);
    for part in tracks.chunks(6) {
        if !index.timeline().is_empty() {
            index.flush().unwrap();
        }
        index.add(part).unwrap();
    }
    assert_eq!(index.inner.store().segments.len(), 3);
    (folder, index, tracks)
}

/// Someone puts another index in the place of one that is open for writing: neither is spoiled.
#[test]
fn an_exchanged_folder_is_not_written_into() {
    let folder = tempfile::tempdir().unwrap();
    let [place, other, moved] = ["index", "other", "moved"].map(|name| folder.path().join(name));
    let all = ranges(0..5);
    open(&other, APART).add(&[track(1, 1)]).unwrap();
    let index = open(&place, FEW);
    index.add(&[track(2, 2)]).unwrap();
    fs::rename(&place, &moved).unwrap();
    fs::rename(&other, &place).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    for error in [
        index.add(&[track(3, 3)]).unwrap_err(),
        index.flush().unwrap_err(),
        index.compact().unwrap_err(),
    ] {
        assert!(matches!(error, IndexError::Exchanged { .. }), "{error}");
    }
    index.back_up(&scratch.path().join("backups"), None).unwrap_err();
    drop(index);
    for (folder, id) in [(&place, 1), (&moved, 2)] {
        // This process has them still.
        let copy = killed(folder);
        let checked = RocksIndex::check(copy.path(), &Params::default(), &|_| ()).unwrap();
        assert_eq!(checked.faults, []);
        let index = open(copy.path(), APART);
        assert_eq!(read(&index, &all), read(&memory_with(&[track(id, id)]), &all));
    }
}

#[test]
fn a_kill_loses_nothing() {
    let (folder, index, _) = in_parts();
    index.add(&[track(3, 31)]).unwrap();
    index.remove(&track(4, 4).id).unwrap().unwrap();
    let copy = killed(folder.path());
    let after = open(copy.path(), APART);
    assert_eq!(read(&after, &ranges(0..32)), read(&index, &ranges(0..32)));
    assert_eq!(
        lens(&after.inner.lens).iter().sum::<u32>(),
        lens(&index.inner.lens).iter().sum::<u32>() - removed(&index)
    );
    after.compact().unwrap();
    assert_eq!(lens(&after.inner.lens), live_lens(&index));
}

/// Postings of removed tracks that are in the buffer still, which opening does not make anew.
fn removed(index: &RocksIndex) -> u32 {
    let store = index.inner.store();
    let timeline = index.timeline();
    let mut count = 0;
    let visit = |entry: Entry| {
        count += u32::from(timeline.locate(entry.position()).is_none());
        Ok::<_, std::convert::Infallible>(())
    };
    store.active.for_each(visit).unwrap();
    count
}

/// Blocks and files of a segment that never counted.
#[test]
fn what_a_crash_has_left_of_a_segment_is_deleted() {
    let (folder, index, tracks) = in_parts();
    let stretch = Stretch { start: 1_000_000, end: 1_000_010 };
    let posting = Posting { key: Key { bucket: 9, cell: 3 }, position: 1_000_003 };
    let lost = index.inner.write_segment(stretch, &mut |push| push(Entry::new(posting))).unwrap();
    fs::create_dir_all(folder.path().join(INCOMING)).unwrap();
    fs::write(folder.path().join(INCOMING).join("7-0.sst"), "half a file").unwrap();
    assert!(
        index.inner.db.get_cf(index.inner.family(BLOCKS), block_key(lost.id, 0)).unwrap().is_some()
    );
    drop(index);
    let index = open(folder.path(), APART);
    assert_eq!(
        index.inner.db.get_cf(index.inner.family(BLOCKS), block_key(lost.id, 0)).unwrap(),
        None
    );
    assert!(!folder.path().join(INCOMING).exists());
    // Its number may be in files still, so it is not given out again before those are gone.
    assert!(index.inner.next_segment.load(Ordering::Relaxed) > lost.id);
    let all = ranges(0..20);
    assert_eq!(read(&index, &all), read(&memory_with(&tracks), &all));
}

#[test]
fn merged_segments_are_deleted_when_nobody_reads_them() {
    let (_folder, index, tracks) = in_parts();
    let blocks = |id| index.inner.db.get_cf(index.inner.family(BLOCKS), block_key(id, 0)).unwrap();
    let reader = index.inner.store();
    let old: Vec<_> = reader.segments.iter().map(|segment| segment.id).collect();
    index.compact().unwrap();
    assert!(old.iter().all(|id| blocks(*id).is_some()), "a reader still needs them");
    drop(reader);
    index.inner.sweep();
    assert!(old.iter().all(|id| blocks(*id).is_none()));
    let all = ranges(0..20);
    assert_eq!(read(&index, &all), read(&memory_with(&tracks), &all));
}

#[test]
fn a_table_of_lengths_that_does_not_fit_is_made_anew() {
    let (folder, mut index, _) = in_parts();
    index.compact().unwrap();
    let expected = lens(&index.inner.lens);
    let good = index.inner.db.get_cf(index.inner.family(META), lens::KEY).unwrap().unwrap();
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    for table in [flipped, good[..good.len() - 3].to_vec(), Vec::new()] {
        index.inner.db.put_cf(index.inner.family(META), lens::KEY, &table).unwrap();
        drop(index);
        index = open(folder.path(), APART);
        assert_eq!(lens(&index.inner.lens), expected);
    }
}

#[test]
fn a_damaged_block_is_told_to_those_who_read_it_and_stops_no_writer() {
    let (folder, index, tracks) = in_parts();
    let segment = Arc::clone(&index.inner.store().segments[1]);
    let key = block_key(segment.id, 0);
    index.inner.db.put_cf(index.inner.family(BLOCKS), key, [9, 9, 9]).unwrap();
    let all = ranges(0..20);
    let error = index.read_postings(&all, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains(&format!("segment {} ", segment.id)), "{error}");
    assert!(matches!(index.compact(), Err(IndexError::Corrupt { .. })));
    index.add(&[track(21, 21)]).unwrap();
    drop(index);
    let index = open(folder.path(), APART);
    assert_eq!(index.stats().unwrap().track_count, tracks.len() as u64 + 1);
}

#[test]
fn a_damaged_directory_is_named() {
    let (folder, index, _) = in_parts();
    let id = index.inner.store().segments[1].id;
    let key = id.to_be_bytes();
    let segments = index.inner.family(SEGMENTS);
    let mut bytes = index.inner.db.get_cf(segments, key).unwrap().unwrap();
    bytes[6] ^= 1;
    index.inner.db.put_cf(segments, key, bytes).unwrap();
    drop(index);
    let opened = RocksIndex::open(folder.path(), &Params::default());
    let error = opened.unwrap_err().to_string();
    assert!(error.contains(&format!("directory of segment {id} is damaged")), "{error}");
}

/// The column families of format 1: opening them with ours fails, so the version is looked up first.
#[test]
fn other_formats_are_refused_by_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    for (version, part) in [(1_u32, "postings"), (FORMAT_VERSION, "stars"), (7, "planets")] {
        let path = folder.path().join(part);
        let db = DB::open_cf(&options, &path, [META, TRACKS, part]).unwrap();
        db.put_cf(db.cf_handle(META).unwrap(), "format", version.to_be_bytes()).unwrap();
        drop(db);
        let opened = RocksIndex::open(&path, &Params::default());
        let error = opened.unwrap_err();
        let is_right = match error {
            IndexError::FormatVersion { actual, .. } => actual == version && version == 1,
            IndexError::NewerFormat { actual, .. } => actual == version && version == 7,
            IndexError::Corrupt { .. } => version == FORMAT_VERSION,
            _ => false,
        };
        let says = match version {
            1 => format!("earmark reindex {} --index ", path.display()),
            FORMAT_VERSION => "has no part stars".to_owned(),
            _ => "has format version 7, this build reads".to_owned(),
        };
        assert!(is_right && error.to_string().contains(&says), "{error}");
    }
    // Of a later format with the same parts.
    let path = folder.path().join("later");
    let index = open(&path, APART);
    let later = (FORMAT_VERSION + 1).to_be_bytes();
    index.inner.db.put_cf(index.inner.family(META), "format", later).unwrap();
    drop(index);
    let opened = RocksIndex::open(&path, &Params::default());
    let is_newer = matches!(opened, Err(IndexError::NewerFormat { actual, .. }) if actual == FORMAT_VERSION + 1);
    assert!(is_newer, "{opened:?}");
    let path = folder.path().join("other");
    drop(DB::open_cf(&options, &path, ["planets"]).unwrap());
    let opened = RocksIndex::open(&path, &Params::default());
    assert!(matches!(opened, Err(IndexError::NotAnIndex { .. })), "{opened:?}");
}
