//! Damage to files: what RocksDB's checksums find.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::damage::{assert_answers, check, damage};
use super::*;
use crate::index::Fault;

/// An index whose rows are all in files of their own part.
fn index() -> (TempDir, Vec<NewTrack>) {
    let folder = tempfile::tempdir().unwrap();
    let tracks: Vec<_> = (0..20).map(|i| track(i, i)).collect();
    let index = open(folder.path(), Limits::default());
    index.add(&tracks).unwrap();
    index.compact().unwrap();
    (folder, tracks)
}

/// The file of a part.
fn file_of(folder: &Path, part: &str) -> PathBuf {
    let files = damage(folder, |inner| inner.db.live_files().unwrap());
    let mut files = files.into_iter().filter(|file| file.column_family_name == part);
    let name = files.next().expect("the part has a file").name;
    assert!(files.next().is_none(), "{part} has one file");
    folder.join(name.trim_start_matches('/'))
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Flips a byte of the first rows of `part`. Gives the faults and the number of lost tracks; the others
/// answer as before.
fn faults_of(part: &str) -> (Vec<Fault>, usize) {
    faults_after(part, |file| flip(file, 20))
}

/// The same of any harm to the file of `part`.
fn faults_after(part: &str, harm: impl Fn(&Path)) -> (Vec<Fault>, usize) {
    let (folder, tracks) = index();
    let file = file_of(folder.path(), part);
    let len = file.metadata().unwrap().len();
    harm(&file);
    let is_whole_table = file.metadata().is_ok_and(|metadata| metadata.len() == len);
    let report = check(folder.path());
    let repaired = RocksIndex::repair(folder.path(), &Params::default(), &|_| ()).unwrap();
    assert_eq!(repaired.before, report);
    assert_eq!(repaired.after.unwrap().faults, []);
    // Blocks that cannot be read are made anew; a table of them that is gone has to leave the database.
    let kept_in = (part != BLOCKS || !is_whole_table).then(|| folder.path().join("lost"));
    assert_eq!(repaired.kept_files, kept_in);
    let kept = kept_in.map_or(0, |lost| fs::read_dir(lost).unwrap().count());
    // A damaged header says nothing of the log either, so all files are kept.
    assert!(kept <= 1 || part == META || !is_whole_table, "{kept}");
    assert!(kept > 1 || part != META, "{kept}");
    let lost: Vec<_> = report.lost.iter().map(|track| track.track_id.clone()).collect();
    assert_answers(folder.path(), &tracks, &lost);
    // Writing goes on, which RocksDB refuses where a compaction has met a damaged file.
    let index = open(folder.path(), Limits::default());
    index.add(&[track(30, 30)]).unwrap();
    index.compact().unwrap();
    drop(index);
    assert!(check(folder.path()).is_whole());
    (report.faults, lost.len())
}

fn is_unreadable(fault: &Fault, wanted: &str) -> bool {
    matches!(fault, Fault::Unreadable { part, place_count: 1, what }
        if *part == wanted && what.contains("Corruption"))
}

#[test]
fn peaks_that_cannot_be_read_are_told_and_their_tracks_are_lost() {
    let (faults, lost_count) = faults_of(CONSTELLATIONS);
    assert!(is_unreadable(&faults[0], CONSTELLATIONS), "{faults:?}");
    assert!(faults[1..].iter().all(|fault| matches!(fault, Fault::PeaksMissing { .. })));
    // Those of one of RocksDB's blocks, and no others.
    assert!((1..20).contains(&lost_count) && faults.len() == 1 + lost_count, "{faults:?}");
}

#[test]
fn blocks_that_cannot_be_read_are_told_and_made_anew() {
    let (faults, lost_count) = faults_of(BLOCKS);
    let [Fault::Blocks { block_count: 1, first: 0, what, .. }, Fault::Postings { .. }] =
        faults.as_slice()
    else {
        panic!("{faults:?}")
    };
    assert!(what.contains("cannot be read: Corruption"), "{what}");
    assert_eq!(lost_count, 0);
}

#[test]
fn rows_of_content_that_cannot_be_read_are_made_anew() {
    let (faults, lost_count) = faults_of(CONTENT);
    assert!(is_unreadable(&faults[0], CONTENT), "{faults:?}");
    assert!(faults[1..].iter().all(|fault| matches!(fault, Fault::ContentMissing { .. })));
    assert_eq!(lost_count, 0);
}

#[test]
fn records_that_cannot_be_read_are_named_by_what_else_is_known_of_them() {
    let (faults, lost_count) = faults_of(TRACKS);
    assert!(is_unreadable(&faults[0], TRACKS), "{faults:?}");
    let missing = faults.iter().filter(|fault| matches!(fault, Fault::RecordMissing { .. }));
    assert!(lost_count > 0 && missing.count() == lost_count, "{faults:?}");
}

#[test]
fn a_header_or_directory_that_cannot_be_read_is_made_anew() {
    for part in [META, SEGMENTS] {
        let (faults, lost_count) = faults_of(part);
        assert!(is_unreadable(&faults[0], part) && lost_count == 0, "{faults:?}");
    }
}

#[test]
fn files_that_are_gone_or_cut_are_told_and_made_anew_but_for_what_only_they_held() {
    let remove = |file: &Path| fs::remove_file(file).unwrap();
    let cut =
        |file: &Path| OpenOptions::new().write(true).open(file).unwrap().set_len(100).unwrap();
    for harm in [&remove as &dyn Fn(&Path), &cut] {
        for part in PARTS {
            let (faults, lost_count) = faults_after(part, harm);
            assert!(!faults.is_empty(), "{part}");
            let is_only_there = [TRACKS, CONSTELLATIONS].contains(&part);
            assert_eq!(lost_count, if is_only_there { 20 } else { 0 }, "{part}: {faults:?}");
        }
    }
}

/// Where many rows of one file can be read behind those that cannot, all of them are kept.
#[test]
fn only_rows_of_the_damaged_place_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let tracks: Vec<_> = (0..600).map(|i| track(i, i)).collect();
    let index = open(folder.path(), Limits::default());
    index.add(&tracks).unwrap();
    index.compact().unwrap();
    drop(index);
    let path = file_of(folder.path(), CONSTELLATIONS);
    let len = path.metadata().unwrap().len();
    flip(&path, len / 3);
    flip(&path, len / 2);
    let report = check(folder.path());
    // A place is told twice if two threads meet it.
    let Fault::Unreadable { place_count: 2..=4, .. } = report.faults[0] else {
        panic!("{:?}", report.faults)
    };
    // RocksDB's blocks hold 4 KiB.
    assert!((2..60).contains(&report.lost.len()), "{}", report.lost.len());
    let repaired = RocksIndex::repair(folder.path(), &Params::default(), &|_| ()).unwrap();
    let after = repaired.after.unwrap();
    assert_eq!(after.track_count, 600 - report.lost.len() as u64);
    assert!(after.is_whole());
}

/// The log of changes that are in no file yet.
#[test]
fn a_damaged_log_is_told_and_nothing_of_it_is_given_up_by_a_check() {
    let (folder, index, _) = in_parts();
    for number in 20..300 {
        index.add(&[track(number, number)]).unwrap();
    }
    let copy = killed(folder.path());
    drop(index);
    let is_log = |path: &PathBuf| path.extension().is_some_and(|e| e == "log");
    let logs = fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().path());
    let log = logs.filter(is_log).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    flip(&log, log.metadata().unwrap().len() / 2);
    for _ in 0..2 {
        let report = check(copy.path());
        assert!(matches!(report.faults[0], Fault::Log { .. }), "{:?}", report.faults);
    }
    let repaired = RocksIndex::repair(copy.path(), &Params::default(), &|_| ()).unwrap();
    let after = repaired.after.unwrap();
    assert!(after.is_whole(), "{:?}", after.faults);
    // What was in the damaged place is lost, which is up to 32 KiB, and nothing before or behind it.
    assert!((150..300).contains(&after.track_count), "{}", after.track_count);
    let index = open(copy.path(), Limits::default());
    for number in [0, 19, 20, 299] {
        assert!(index.track(&track(number, 0).id).unwrap().is_some(), "{number}");
    }
    index.add(&[track(500, 500)]).unwrap();
}

/// The tables of a folder that was moved are not gone, and a repair must not take them for it.
#[test]
fn a_folder_that_is_moved_during_a_repair_is_left_as_it_is() {
    let (folder, tracks) = index();
    let elsewhere = folder.path().with_extension("moved");
    let (mut inner, _) =
        check::open(folder.path(), &Params::default(), check::Access::Repair).unwrap();
    fs::rename(folder.path(), &elsewhere).unwrap();
    let checked = check::run(&inner, None, &|_| ());
    assert!(matches!(checked, Err(IndexError::Exchanged { .. })), "{checked:?}");
    for part in PARTS {
        let rewritten = repair::rewrite(&mut inner, &BTreeSet::from([part]));
        assert!(matches!(rewritten, Err(IndexError::Exchanged { .. })), "{rewritten:?}");
    }
    assert!(!folder.path().exists());
    fs::rename(&elsewhere, folder.path()).unwrap();
    drop(inner);
    assert!(check(folder.path()).is_whole());
    assert_answers(folder.path(), &tracks, &[]);
}
