//! Followers beside a writer that adds, removes, merges and restarts.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::tests::{
    FEW, NONE, Step, any_step, in_parts, lens, live_lens, memory_with, open, ranges, read, track,
};
use super::super::*;
use super::*;
use crate::index::MemoryIndex;

fn follow(folder: &Path) -> (TempDir, FollowerIndex) {
    let scratch = tempfile::tempdir().unwrap();
    let index = RocksIndex::follow(folder, scratch.path(), &Params::default()).unwrap();
    (scratch, index)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_follower_reads_what_the_writer_has_written(
        steps in proptest::collection::vec((any_step(), any::<bool>()), 1..30),
        limits in prop::sample::select(vec![Limits::default(), FEW, NONE]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryIndex::new(&Params::default());
        let mut rocks = open(folder.path(), limits);
        let (_scratch, follower) = follow(folder.path());
        let all = ranges(0..8);
        for (step, catches_up) in steps {
            match step {
                Step::Add(batch) => {
                    let batch: Vec<_> = batch.into_iter().map(|(id, seed)| track(id, seed)).collect();
                    rocks.add(&batch).unwrap();
                    memory.add(&batch).unwrap();
                }
                Step::Remove(id) => {
                    let id = TrackId::new(format!("t{id}")).unwrap();
                    rocks.remove(&id).unwrap();
                    memory.remove(&id).unwrap();
                }
                Step::Read { .. } => {}
                Step::Reopen => {
                    drop(rocks);
                    rocks = open(folder.path(), limits);
                }
                Step::Compact => rocks.compact().unwrap(),
            }
            if catches_up {
                follower.catch_up().unwrap();
                prop_assert_eq!(read(&follower, &all), read(&memory, &all));
                prop_assert_eq!(follower.tracks(None, 100).unwrap(), rocks.tracks(None, 100).unwrap());
            }
        }
        rocks.compact().unwrap();
        follower.catch_up().unwrap();
        prop_assert!(!follower.catch_up().unwrap(), "there is nothing more");
        prop_assert_eq!(read(&follower, &all), read(&memory, &all));
        prop_assert_eq!(lens(&follower.lens), live_lens(&memory));
        let stats = |index: &dyn Index| {
            let stats = index.stats().unwrap();
            (stats.track_count, stats.posting_count, stats.peak_count, stats.duration_s)
        };
        prop_assert_eq!(stats(&follower), stats(&rocks));
    }
}

/// Searches go on all the while: none may fail or miss what was caught up, or see what was removed.
#[test]
fn searches_of_a_follower_are_right_at_all_times() {
    const TRACKS: u32 = 150;
    let tracks: Vec<_> = (0..TRACKS).map(|i| track(i, i)).collect();
    let all = ranges(0..TRACKS);
    let expected = read(&memory_with(&tracks), &all);
    for limits in [Limits::default(), FEW, NONE] {
        let folder = tempfile::tempdir().unwrap();
        let writer = open(folder.path(), limits);
        let (_scratch, follower) = follow(folder.path());
        let (added, caught_up) = (AtomicU32::new(0), AtomicU32::new(0));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reader in 0..2 {
                let (follower, all, expected) = (&follower, &all, &expected);
                let (caught_up, is_over) = (&caught_up, &is_over);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(reader);
                    while !is_over.load(Ordering::Acquire) {
                        let known = caught_up.load(Ordering::Acquire);
                        let timeline = follower.timeline();
                        let from = rng.usize(..all.len());
                        let part = from..(from + rng.usize(1..400)).min(all.len());
                        let mut seen = BTreeSet::new();
                        let visit = &mut |i: usize, list: &[Posting]| {
                            seen.extend(list.iter().map(|posting| (from + i, *posting)));
                            ControlFlow::Continue(())
                        };
                        follower.read_postings(&all[part.clone()], visit).unwrap();
                        let live = |number: u32| {
                            timeline.entries().any(|(_, id)| *id == tracks_id(number))
                        };
                        for number in (0..known).filter(|number| number % 6 != 3) {
                            assert!(live(number), "{number} of {known}");
                        }
                        // Removed two tracks later.
                        for number in (0..known.saturating_sub(3)).filter(|number| number % 6 == 3)
                        {
                            assert!(!live(number), "{number} of {known}");
                        }
                        for wanted in expected.iter().filter(|(i, _)| part.contains(i)) {
                            let Some((_, id)) = timeline.locate(wanted.1.position) else {
                                continue;
                            };
                            let number: u32 = id.as_str()[1..].parse().unwrap();
                            // A removed one may have been left out of a segment meanwhile.
                            assert!(number % 6 == 3 || seen.contains(wanted), "{id} at {wanted:?}");
                        }
                    }
                });
            }
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    let before = added.load(Ordering::Acquire);
                    follower.catch_up().unwrap();
                    caught_up.store(before, Ordering::Release);
                }
            });
            for (i, track) in (0..).zip(&tracks) {
                writer.add(std::slice::from_ref(track)).unwrap();
                if i % 6 == 5 {
                    writer.remove(&tracks[i as usize - 2].id).unwrap().unwrap();
                }
                if i % 50 == 49 {
                    writer.compact().unwrap();
                }
                added.store(i + 1, Ordering::Release);
            }
            is_over.store(true, Ordering::Release);
        });
        follower.catch_up().unwrap();
        assert_eq!(read(&follower, &all), read(&writer, &all));
    }
}

fn tracks_id(number: u32) -> TrackId {
    TrackId::new(format!("t{number}")).unwrap()
}

#[test]
fn a_search_that_is_running_keeps_the_blocks_of_merged_segments() {
    let (folder, writer, tracks) = in_parts();
    let (_scratch, follower) = follow(folder.path());
    let all = ranges(0..20);
    let (mut seen, mut is_merged) = (0, false);
    let visit = &mut |_: usize, list: &[Posting]| {
        seen += list.len();
        if !is_merged {
            is_merged = true;
            // Enough blocks are left to be read.
            writer.compact().unwrap();
            writer.inner.sweep();
            assert!(follower.catch_up().unwrap());
        }
        ControlFlow::Continue(())
    };
    follower.read_postings(&all, visit).unwrap();
    let expected = read(&memory_with(&tracks), &all);
    assert_eq!(seen, expected.len());
    assert_eq!(read(&follower, &all), expected);
    assert_eq!(follower.current().store().segments.len(), 1);
}

#[test]
fn a_follower_changes_nothing() {
    let (folder, writer, tracks) = in_parts();
    // Nothing is at work in the background then.
    drop(writer);
    let files = || {
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<BTreeSet<_>>()
    };
    let before = files();
    let (_scratch, follower) = follow(folder.path());
    for error in [follower.add(&[track(70, 70)]).err(), follower.remove(&tracks[0].id).err()] {
        assert!(matches!(error, Some(IndexError::ReadOnly { .. })), "{error:?}");
    }
    assert!(!follower.catch_up().unwrap());
    drop(follower);
    assert_eq!(files(), before);
    // Two at a time.
    let (a, b) = (follow(folder.path()), follow(folder.path()));
    let all = ranges(0..20);
    assert_eq!(read(&a.1, &all), read(&memory_with(&tracks), &all));
    assert_eq!(read(&a.1, &all), read(&b.1, &all));
}

#[test]
fn a_folder_that_takes_the_place_of_another_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("index");
    let fill = |seed| {
        let index = open(&place, FEW);
        index.add(&[track(1, seed)]).unwrap();
    };
    fill(1);
    let (_scratch, follower) = follow(&place);
    assert!(!follower.catch_up().unwrap());
    fs::rename(&place, folder.path().join("old")).unwrap();
    fill(2);
    let error = follower.catch_up().unwrap_err();
    assert!(matches!(error, IndexError::Exchanged { .. }), "{error}");
    let (_scratch, fresh) = follow(&place);
    let all = ranges(0..3);
    assert_eq!(read(&fresh, &all), read(&memory_with(&[track(1, 2)]), &all));
}

#[test]
fn what_is_no_index_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let follow = || RocksIndex::follow(folder.path(), scratch.path(), &Params::default());
    assert!(matches!(follow(), Err(IndexError::Missing { .. })));
    drop(open(folder.path(), FEW));
    let other = Params { reference_rank_max: 2, ..Params::default() };
    let opened = RocksIndex::follow(folder.path(), scratch.path(), &other);
    assert!(matches!(opened, Err(IndexError::ParamsMismatch { .. })), "{opened:?}");
    assert!(follow().unwrap().timeline().is_empty());
}

/// The writer writes a newer value of a key to a file before the follower has read it from the log.
/// RocksDB's secondary instance then goes on answering the old one.
#[test]
fn what_never_was_in_the_log_that_was_read_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let writer = open(folder.path(), Limits::default());
    let (_scratch, follower) = follow(folder.path());
    let id = track(0, 0).id;
    for seed in 1..4 {
        writer.add(&[track(0, seed)]).unwrap();
        follower.catch_up().unwrap();
        writer.add(&[track(0, seed + 10), track(1, seed)]).unwrap();
        writer.flush().unwrap();
        follower.catch_up().unwrap();
        assert_eq!(follower.track(&id).unwrap(), writer.track(&id).unwrap());
        let timeline = |index: &dyn Index| index.timeline().entries().cloned().collect::<Vec<_>>();
        assert_eq!(timeline(&follower), timeline(&writer));
    }
}
