//! Backups of an index in use, and what happens to damaged ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tempfile::TempDir;

use super::super::tests::{FEW, NONE, in_parts, memory_with, open, ranges, read, track};
use super::super::*;
use super::*;
use crate::index::NewTrack;

/// A backup of an index of 20 tracks in three segments and a log.
struct Fixture {
    folder: TempDir,
    _index_folder: TempDir,
    index: RocksIndex,
    tracks: Vec<NewTrack>,
}

impl Fixture {
    fn new() -> Self {
        let (index_folder, index, tracks) = in_parts();
        let fixture = Self {
            folder: tempfile::tempdir().unwrap(),
            _index_folder: index_folder,
            index,
            tracks,
        };
        fixture.back_up();
        fixture
    }

    fn backups(&self) -> PathBuf {
        self.folder.path().join("backups")
    }

    fn back_up(&self) -> Backup {
        self.index.back_up(&self.backups(), None).unwrap()
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("restored")
    }

    fn restore(&self, id: Option<u32>) -> Result<Backup, BackupError> {
        restore(&self.backups(), id, &self.place(), &Params::default())
    }

    /// All files of backups, by path in the folder.
    fn files(&self) -> Vec<String> {
        let folder = Folder::open(&self.backups()).unwrap();
        let lists = folder.ids().unwrap().into_iter().map(|id| folder.manifest(id).unwrap());
        let mut files: Vec<_> = lists.flat_map(|list| list.files).map(|file| file.path).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Nothing is at the place of the restored index, nor beside it.
    fn nothing_is_left(&self) -> bool {
        let names =
            fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<Vec<_>>() == ["backups"]
    }
}

fn contents(backup: &Backup) -> &Contents {
    match &backup.state {
        BackupState::Verified(contents) => contents,
        state => panic!("{state:?}"),
    }
}

/// Tracks are added, replaced and removed and segments written, merged and deleted while backups are
/// made. Each has all that was acknowledged before it began, and nothing in part.
#[test]
fn backups_of_an_index_in_use_are_whole() {
    const TRACKS: u32 = 120;
    const BACKUPS: usize = 8;
    // The third of each three is removed when the next has been added.
    let tracks: Vec<_> = (0..TRACKS).map(|i| track(i, i)).collect();
    let all = ranges(0..TRACKS);
    for limits in [NONE, FEW] {
        let folder = tempfile::tempdir().unwrap();
        let backups = folder.path().join("backups");
        let index = open(&folder.path().join("index"), limits);
        let (added, removed) = (AtomicU32::new(0), AtomicU32::new(0));
        let is_over = AtomicBool::new(false);
        let mut acknowledged = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (i, track) in (0..).zip(&tracks) {
                    index.add(std::slice::from_ref(track)).unwrap();
                    added.store(i + 1, Ordering::Release);
                    if i % 3 == 0 && i > 0 {
                        index.remove(&tracks[i as usize - 1].id).unwrap().unwrap();
                        removed.store(i, Ordering::Release);
                    }
                    // So that backups fall on all of it.
                    let due = |backups: u32| TRACKS * backups / (BACKUPS as u32 + 1) <= i;
                    while due(acknowledged_count(&backups) + 2) {
                        std::thread::yield_now();
                    }
                }
                is_over.store(true, Ordering::Release);
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    index.compact().unwrap();
                }
            });
            for _ in 0..BACKUPS {
                let before = (added.load(Ordering::Acquire), removed.load(Ordering::Acquire));
                let backup = index.back_up(&backups, None).unwrap();
                acknowledged.push((before, backup));
            }
        });
        drop(index);
        assert_eq!(verify(&backups, None).unwrap(), []);
        for ((added, removed), backup) in acknowledged {
            let place = folder.path().join(format!("restored-{}", backup.id));
            let restored = restore(&backups, Some(backup.id), &place, &Params::default()).unwrap();
            assert_eq!(restored, backup);
            let index = open(&place, limits);
            let records = index.tracks(None, usize::MAX).unwrap();
            assert_eq!(contents(&backup).track_count, records.len() as u64);
            assert_eq!(index.stats().unwrap().track_count, records.len() as u64);
            let has = |i: u32| records.iter().any(|record| record.id == tracks[i as usize].id);
            for i in 0..added {
                let is_removed = i % 3 == 2 && i < removed;
                // One that was not removed before may have been since.
                assert!(if is_removed { !has(i) } else { has(i) || i % 3 == 2 }, "{i} of {added}");
            }
            // What is there, and nothing else, is found, posting by posting.
            let last = (0..TRACKS).rev().find(|i| has(*i)).map_or(0, |last| last as usize + 1);
            let memory = memory_with(&tracks[..last]);
            for i in (0..last).filter(|i| !has(*i as u32)) {
                memory.remove(&tracks[i].id).unwrap();
            }
            assert_eq!(read(&index, &all), read(&memory, &all));
            for record in &records {
                let expected = memory.peaks(record.span.start, 0..u32::MAX).unwrap();
                assert_eq!(index.peaks(record.span.start, 0..u32::MAX).unwrap(), expected);
            }
            index.add(&[track(TRACKS, TRACKS)]).unwrap();
        }
    }
}

fn acknowledged_count(backups: &Path) -> u32 {
    fs::read_dir(backups.join("earmark")).map_or(0, |entries| {
        let names = entries.map(|entry| entry.unwrap().file_name());
        u32::try_from(
            names.filter(|name| Path::new(name).extension() == Some("json".as_ref())).count(),
        )
        .unwrap()
    })
}

#[test]
fn only_what_is_new_is_copied() {
    let fixture = Fixture::new();
    let shared = |files: &[String]| files.iter().filter(|f| f.starts_with("shared")).count();
    let before = fixture.files();
    let again = fixture.back_up();
    // At most what is in the log only is copied again, a file a family.
    assert!(shared(&fixture.files()) <= shared(&before) + 4, "nothing was added");
    assert!(again.added_bytes < again.bytes, "{again:?}");
    fixture.index.add(&[track(50, 50)]).unwrap();
    let third = fixture.back_up();
    let files = fixture.files();
    assert!(before.iter().all(|file| files.contains(file)));
    // What the track brought, and what was in the log only: a file a family, twice.
    assert!((1..=8).contains(&(shared(&files) - shared(&before))), "{before:?} {files:?}");
    assert_eq!(contents(&third).track_count, 21);
    assert_eq!(list(&fixture.backups()).unwrap().len(), 3);
}

#[test]
fn a_flipped_byte_is_found_and_named_and_nothing_is_restored() {
    let fixture = Fixture::new();
    let files = fixture.files();
    assert!(files.len() > 8, "{files:?}");
    for name in files.iter().map(String::as_str).chain(["meta/1"]) {
        let path = fixture.backups().join(name);
        let good = fs::read(&path).unwrap();
        let mut bad_ones = vec![None];
        // A log may be empty.
        if let Some(last) = good.len().checked_sub(1) {
            let mut flipped = good.clone();
            flipped[last / 2] ^= 4;
            bad_ones.extend([Some(flipped), Some(good[..last].to_vec())]);
        }
        for bad in bad_ones {
            match bad {
                Some(bad) => fs::write(&path, bad).unwrap(),
                None if name == "meta/1" => continue,
                None => fs::remove_file(&path).unwrap(),
            }
            let found = verify(&fixture.backups(), None).unwrap();
            let [damage] = found.as_slice() else { panic!("{name}: {found:?}") };
            assert_eq!((&damage.file, damage.backups.as_slice()), (&path, [1].as_slice()));
            let error = fixture.restore(None).unwrap_err();
            assert!(
                matches!(&error, BackupError::Damaged { file, .. } if *file == path),
                "{name}: {error}"
            );
            assert!(fixture.nothing_is_left(), "{name}");
        }
        fs::write(&path, good).unwrap();
    }
    assert_eq!(verify(&fixture.backups(), Some(1)).unwrap(), []);
    fixture.restore(None).unwrap();
    assert!(!read(&open(&fixture.place(), FEW), &ranges(0..20)).is_empty());
}

#[test]
fn what_is_damaged_and_deleted_is_copied_again() {
    let fixture = Fixture::new();
    let files = fixture.files();
    let name = files.iter().find(|name| name.starts_with("shared")).unwrap();
    fs::remove_file(fixture.backups().join(name)).unwrap();
    let state = list(&fixture.backups()).unwrap().remove(0).state;
    assert!(matches!(&state, BackupState::Damaged { what } if what.contains(name)), "{state:?}");
    let second = fixture.back_up();
    assert_eq!(contents(&second).track_count, 20);
    assert_eq!(verify(&fixture.backups(), None).unwrap(), []);
    assert_eq!(fixture.restore(None).unwrap().id, second.id);
}

#[test]
fn old_backups_are_deleted_with_their_files() {
    let fixture = Fixture::new();
    fixture.index.compact().unwrap();
    fixture.back_up();
    let size = |backups: &Path| {
        let files = fs::read_dir(backups.join("shared_checksum")).unwrap();
        files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let before = size(&fixture.backups());
    let keep = NonZeroU32::new(1);
    let third = fixture.index.back_up(&fixture.backups(), keep).unwrap();
    assert_eq!(list(&fixture.backups()).unwrap(), std::slice::from_ref(&third));
    assert!(size(&fixture.backups()) < before);
    assert_eq!(third.added_bytes, third.bytes, "it needs no other");
    assert!(!fixture.backups().join("earmark/1.json").exists());
    assert_eq!(fixture.restore(None).unwrap(), third);
    let error = verify(&fixture.backups(), Some(1)).unwrap_err().to_string();
    assert!(error.contains("no backup 1 in") && error.contains("there are 3"), "{error}");
}

#[test]
fn the_last_verified_backups_are_kept() {
    let fixture = Fixture::new();
    fixture.index.add(&[track(40, 40)]).unwrap();
    fixture.back_up();
    // As if it had been interrupted.
    fs::remove_file(fixture.backups().join("earmark/2.json")).unwrap();
    fixture.index.add(&[track(41, 41)]).unwrap();
    fixture.index.back_up(&fixture.backups(), NonZeroU32::new(2)).unwrap();
    let ids = || list(&fixture.backups()).unwrap().iter().map(|b| b.id).collect::<Vec<_>>();
    assert_eq!(ids(), [1, 2, 3]);
    fixture.index.back_up(&fixture.backups(), NonZeroU32::new(2)).unwrap();
    assert_eq!(ids(), [3, 4]);
}

#[test]
fn a_shortened_file_is_listed_as_damage() {
    let fixture = Fixture::new();
    let file = fixture.files().into_iter().find(|file| file.ends_with(".sst")).unwrap();
    let file = fixture.backups().join(file);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[1..]).unwrap();
    let state = list(&fixture.backups()).unwrap().remove(0).state;
    assert!(matches!(state, BackupState::Damaged { .. }), "{state:?}");
}

#[test]
fn a_backup_of_other_parameters_is_restored_for_reindexing() {
    let other = Params { query_rank_max: 4, ..Params::default() };
    let index = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let old = RocksIndex::create_or_open(&index.path().join("old"), &other).unwrap();
    old.add(&[track(1, 1)]).unwrap();
    let backups = folder.path().join("backups");
    old.back_up(&backups, None).unwrap();
    let place = folder.path().join("restored");
    let error = restore(&backups, None, &place, &Params::default()).unwrap_err();
    let BackupError::Index(IndexError::ParamsMismatch { path, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(path, place);
    RocksIndex::open(&place, &other).unwrap();
}

#[test]
fn a_damaged_file_of_an_earlier_backup_is_not_blamed_on_the_index() {
    let fixture = Fixture::new();
    for name in fixture.files().iter().filter(|name| name.starts_with("shared")) {
        let file = fixture.backups().join(name);
        let len = fs::metadata(&file).unwrap().len();
        fs::write(&file, vec![7; usize::try_from(len).unwrap()]).unwrap();
    }
    let error = fixture.index.back_up(&fixture.backups(), None).unwrap_err();
    let BackupError::Damaged { file, .. } = error else { panic!("{error}") };
    assert!(file.starts_with(fixture.backups()), "{}", file.display());
}

/// A process that was killed between writing and verifying.
#[test]
fn a_backup_that_was_not_verified_is_not_taken_unasked() {
    let fixture = Fixture::new();
    fixture.index.add(&[track(50, 50)]).unwrap();
    fixture.back_up();
    fs::remove_file(fixture.backups().join("earmark/2.json")).unwrap();
    assert_eq!(list(&fixture.backups()).unwrap()[1].state, BackupState::Unverified);
    assert_eq!(fixture.restore(None).unwrap().id, 1);
    fs::remove_dir_all(fixture.place()).unwrap();
    let asked = fixture.restore(Some(2)).unwrap();
    assert_eq!(contents(&asked).track_count, 21);
    fs::remove_dir_all(fixture.place()).unwrap();
    fs::remove_file(fixture.backups().join("earmark/1.json")).unwrap();
    assert!(matches!(fixture.restore(None), Err(BackupError::NoneVerified { .. })));
}

#[test]
fn what_a_killed_backup_or_restore_has_left_is_in_nobodys_way() {
    let fixture = Fixture::new();
    let leave = |folder: PathBuf| {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("000007.sst"), "half a file").unwrap();
    };
    let snapshot = fixture.index.path().join(SNAPSHOT);
    leave(snapshot.join("index"));
    leave(fixture.backups().join("private/2.tmp"));
    fixture.back_up();
    assert!(!snapshot.exists());
    leave(fixture.folder.path().join("restored.restoring/index"));
    fixture.restore(None).unwrap();
    let all = ranges(0..20);
    let restored = open(&fixture.place(), FEW);
    assert_eq!(read(&restored, &all), read(&memory_with(&fixture.tracks), &all));
    assert!(!fixture.folder.path().join("restored.restoring").exists());
    // A restored index is backed up beside the one that it came from.
    restored.back_up(&fixture.backups(), None).unwrap();
    let path = restored.path().to_owned();
    drop(restored);
    leave(path.join(SNAPSHOT));
    drop(open(&path, FEW));
    assert!(!path.join(SNAPSHOT).exists());
}

#[test]
fn nothing_is_restored_over_anything() {
    let fixture = Fixture::new();
    let restore_to =
        |place: &Path| restore(&fixture.backups(), None, place, &Params::default()).unwrap_err();
    let in_use = fixture.index.path();
    assert!(matches!(restore_to(in_use), BackupError::NotEmpty { .. }));
    let file = fixture.folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(restore_to(&file), BackupError::NotEmpty { .. }));
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert!(matches!(restore_to(Path::new("/")), BackupError::NoName { .. }));
    fs::remove_file(file).unwrap();
    assert!(fixture.nothing_is_left());
    // An empty folder is fine, and so is one whose parents are to be made.
    fs::create_dir(fixture.place()).unwrap();
    fixture.restore(None).unwrap();
    let deep = fixture.folder.path().join("a/b/index");
    restore(&fixture.backups(), None, &deep, &Params::default()).unwrap();
    assert_eq!(open(&deep, FEW).stats().unwrap().track_count, 20);
}

#[test]
fn folders_that_are_not_for_backups_are_refused() {
    let fixture = Fixture::new();
    let refused = |folder: &Path| fixture.index.back_up(folder, None).unwrap_err();
    let inside = fixture.index.path().join("a/b");
    assert!(matches!(refused(&inside), BackupError::InsideIndex { .. }));
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("thesis.tex"), "mine").unwrap();
    assert!(matches!(refused(other.path()), BackupError::NotABackupFolder { .. }));
    let of_another = Fixture::new();
    assert!(matches!(refused(&of_another.backups()), BackupError::OtherIndex { .. }));
    let missing = list(other.path()).unwrap_err();
    assert!(matches!(missing, BackupError::NoBackups { .. }), "{missing}");
    let writing = Folder::create(&fixture.backups()).unwrap();
    assert!(matches!(refused(&fixture.backups()), BackupError::Busy { .. }));
    assert!(matches!(fixture.restore(None), Err(BackupError::Busy { .. })));
    drop(writing);
    let reading = Folder::open(&fixture.backups()).unwrap();
    assert!(matches!(refused(&fixture.backups()), BackupError::Busy { .. }));
    fixture.restore(None).unwrap();
    drop(reading);
}

#[test]
fn an_empty_index_can_be_backed_up() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let backup = open(&folder.path().join("index"), FEW).back_up(&backups, None).unwrap();
    assert_eq!(contents(&backup).track_count, 0);
    restore(&backups, None, &folder.path().join("again"), &Params::default()).unwrap();
    assert_eq!(open(&folder.path().join("again"), FEW).stats().unwrap().track_count, 0);
}
