//! Repairs that are interrupted, and damage by chance: whatever happens, the next repair ends it.

use std::path::PathBuf;

use rocksdb::IteratorMode;

use super::damage::{assert_answers, check, damage, index};
use super::*;
use crate::index::rocks::check::{self, Access};
use crate::index::rocks::repair;
use crate::index::{Fault, reindex};

/// Damages several things at once.
fn damage_much(folder: &Path) {
    damage(folder, |inner| {
        let put = |part, key: &[u8], value: &[u8]| {
            inner.db.put_cf(inner.family(part), key, value).unwrap();
        };
        put(BLOCKS, &block_key(1, 0), &[9, 9, 9]);
        put(SEGMENTS, &0_u32.to_be_bytes(), b"directory");
        put(TRACKS, b"t3", b"{}");
        put(META, b"next", &[1]);
        let first = track(0, 0);
        let key = content_key(&first.fingerprint.content_hash, &first.id);
        inner.db.delete_cf(inner.family(CONTENT), key).unwrap();
    });
}

#[test]
fn a_repair_that_was_killed_between_its_steps_is_begun_anew() {
    for step in 0..4 {
        let (folder, tracks) = index();
        damage_much(folder.path());
        let before = check(folder.path());
        assert!(before.faults.len() >= 5, "{before:?}");
        let (inner, _) = check::open(folder.path(), &Params::default(), Access::Repair).unwrap();
        let findings = check::run(&inner, None, &|_| ()).unwrap();
        let is_good =
            |segment: &&Arc<Segment>| !findings.mending.bad_segments.contains(&segment.id);
        let good: Vec<_> = findings.segments.iter().filter(is_good).cloned().collect();
        if step > 0 {
            inner.mend_rows(&findings).unwrap();
        }
        if step > 1 {
            let new = inner.make_segments(&findings, &good, &|_| ()).unwrap();
            if step > 2 {
                inner.replace_bad(&findings.mending, &new).unwrap();
            }
        }
        let killed = killed(folder.path());
        drop(inner);
        let repaired = RocksIndex::repair(killed.path(), &Params::default(), &|_| ()).unwrap();
        assert!(repaired.after.is_none_or(|after| after.is_whole()), "step {step}");
        assert_answers(killed.path(), &tracks, &[track(3, 0).id]);
    }
}

/// The worst moment: a part is given up, and its copies are not in its place yet.
#[test]
fn a_part_that_was_being_replaced_is_not_lost() {
    for is_dropped in [false, true] {
        let (folder, tracks) = index();
        let (mut inner, _) =
            check::open(folder.path(), &Params::default(), Access::Repair).unwrap();
        repair::copy_rows(&inner, TRACKS).unwrap();
        if is_dropped {
            inner.db.drop_cf(TRACKS).unwrap();
        }
        drop(inner);
        let opened = RocksIndex::open(folder.path(), &Params::default()).unwrap_err();
        assert!(opened.to_string().contains("repair of it was interrupted"), "{opened}");
        assert!(opened.to_string().contains("--repair"), "{opened}");
        assert_eq!(check(folder.path()).faults, [Fault::Interrupted]);
        let scratch = tempfile::tempdir().unwrap();
        let followed = RocksIndex::follow(folder.path(), scratch.path(), &Params::default());
        assert!(followed.unwrap_err().to_string().contains("interrupted"));
        let new = scratch.path().join("new");
        let copied =
            reindex(folder.path(), &new, &Params::default(), &mut |_| ControlFlow::Continue(()));
        assert!(copied.unwrap_err().to_string().contains("interrupted"));
        let repaired = RocksIndex::repair(folder.path(), &Params::default(), &|_| ()).unwrap();
        assert!(repaired.before.is_whole());
        assert_answers(folder.path(), &tracks, &[]);
        assert!(!folder.path().join("repair").exists());
    }
}

/// A part has taken its copies over, and they were being deleted.
#[test]
fn copies_that_were_being_deleted_count_no_more() {
    let (folder, tracks) = index();
    let (inner, _) = check::open(folder.path(), &Params::default(), Access::Repair).unwrap();
    repair::copy_rows(&inner, TRACKS).unwrap();
    drop(inner);
    let copies = folder.path().join("repair");
    fs::rename(copies.join(TRACKS), copies.join(format!("{TRACKS}.done"))).unwrap();
    for copy in fs::read_dir(copies.join(format!("{TRACKS}.done"))).unwrap() {
        fs::remove_file(copy.unwrap().path()).unwrap();
    }
    let repaired = RocksIndex::repair(folder.path(), &Params::default(), &|_| ()).unwrap();
    assert!(repaired.before.is_whole());
    assert!(!copies.exists());
    assert_answers(folder.path(), &tracks, &[]);
}

/// Until a repair has ended, a cut log is told, and everything is kept as it was.
#[test]
fn what_a_log_has_lost_is_told_until_a_repair_has_ended() {
    let (folder, _) = index();
    let is_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let paths = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let log = paths(folder.path()).into_iter().find(is_log).unwrap();
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 100]).unwrap();
    let is_told = || matches!(check(folder.path()).faults.first(), Some(Fault::Log { .. }));
    assert!(is_told());
    // Killed while it was checking, and again.
    for _ in 0..2 {
        let opened = check::open(folder.path(), &Params::default(), Access::Repair).unwrap();
        assert!(matches!(opened.1, Some(Fault::Log { .. })));
        drop(opened);
        assert!(is_told());
        assert!(RocksIndex::open(folder.path(), &Params::default()).is_err());
    }
    let repaired = RocksIndex::repair(folder.path(), &Params::default(), &|_| ()).unwrap();
    assert!(repaired.after.unwrap().is_whole());
    let kept = repaired.kept_files.unwrap().join(log.file_name().unwrap());
    assert_eq!(fs::read(kept).unwrap(), bytes[..bytes.len() - 100]);
    assert!(check(folder.path()).is_whole());
    RocksIndex::open(folder.path(), &Params::default()).unwrap();
}

/// What happens to a row.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Delete,
    Flip(usize),
    Cut(usize),
}

fn any_harm() -> impl Strategy<Value = (usize, usize, Harm)> {
    let harm = prop_oneof![
        Just(Harm::Delete),
        any::<usize>().prop_map(Harm::Flip),
        any::<usize>().prop_map(Harm::Cut),
    ];
    (0..PARTS.len(), any::<usize>(), harm)
}

/// A few, or many in `make torture`.
fn cases() -> ProptestConfig {
    let is_torture = std::env::var_os("EARMARK_TORTURE").is_some();
    ProptestConfig::with_cases(if is_torture { 400 } else { 12 })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_damage_of_rows_is_mended(harms in proptest::collection::vec(any_harm(), 1..6)) {
        let (folder, tracks) = index();
        let (mut harms_peaks, mut harms_content) = (false, false);
        damage(folder.path(), |inner| {
            for (part, row, harm) in harms {
                let part = PARTS[part];
                let family = inner.family(part);
                let rows: Vec<_> =
                    inner.db.iterator_cf(family, IteratorMode::Start).map(Result::unwrap).collect();
                let (key, value) = &rows[row % rows.len()];
                // Of another format or of other parameters, it were no damaged index.
                if key.as_ref() == b"format" || key.as_ref() == b"params" {
                    continue;
                }
                harms_content |= part == CONTENT;
                let mut value = value.to_vec();
                match harm {
                    Harm::Flip(bit) if !value.is_empty() => {
                        let at = bit / 8 % value.len();
                        value[at] ^= 1 << (bit % 8);
                        harms_peaks |= part == CONSTELLATIONS;
                    }
                    Harm::Cut(len) if !value.is_empty() => value.truncate(len % value.len()),
                    _ => {
                        inner.db.delete_cf(family, key).unwrap();
                        continue;
                    }
                }
                inner.db.put_cf(family, key, value).unwrap();
            }
        });
        let before = check(folder.path());
        let repaired = RocksIndex::repair(folder.path(), &Params::default(), &|_| ()).unwrap();
        prop_assert_eq!(&repaired.before, &before);
        if let Some(after) = repaired.after {
            prop_assert_eq!(after.faults, []);
        }
        let left = open(folder.path(), Limits::default());
        let memory = memory_with(&tracks);
        for track in &tracks {
            if left.track(&track.id).unwrap().is_none() {
                // Who is gone was named, unless the only other row that names it is gone too. Without record
                // and peaks that row is all that is left of it.
                let is_lost = before.lost.iter().any(|lost| lost.track_id == track.id);
                let row = Fault::ContentOrphan { track_id: track.id.to_string() };
                let is_named = is_lost || before.faults.contains(&row);
                prop_assert!(is_named || harms_content, "{} of {before:?}", track.id);
                memory.remove(&track.id).unwrap();
            }
        }
        // Other peaks than were stored give other postings.
        if !harms_peaks {
            let all = ranges(0..20);
            prop_assert_eq!(read(&left, &all), read(&memory, &all));
        }
    }
}
