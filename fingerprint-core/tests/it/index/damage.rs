//! Damaged files: bytes that have flipped, files that are shorter or missing.
//!
//! An index that was killed (so it has a log that counts) is copied, one of its files damaged, and the
//! copy opened. Then either everything that was acknowledged is answered exactly, or there is an error
//! that says what is damaged and what to do; and it is there every time, not only the first.
//!
//! `EARMARK_TORTURE=1` (`make torture`) damages each file in many more places. The places are drawn from
//! a seed, which is printed when the test fails: `EARMARK_TEST_SEED=N` draws them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use fingerprint_core::hash::CELL_COUNT;
use tempfile::TempDir;

use super::*;

/// Everything that an index answers, or why not.
type Told = Result<(Vec<String>, Vec<Posting>), IndexError>;

fn everything(index: &dyn Index) -> Told {
    let timeline = index.timeline();
    let all = KeyRange { buckets: 0..=BUCKET_COUNT - 1, cells: 0..=CELL_COUNT - 1 };
    let mut postings = Vec::new();
    index.read_postings(&[all], &mut |_, list| {
        let live = list.iter().filter(|p| timeline.locate(p.position).is_some());
        postings.extend(live);
        ControlFlow::Continue(())
    })?;
    postings.sort_unstable();
    let mut rows = Vec::new();
    for record in index.tracks(None, usize::MAX)? {
        let peaks = index.peaks(record.span.start, 0..u32::MAX)?;
        let same = index.tracks_with_content(&record.content_hash)?;
        rows.push(format!("{record:?} {peaks:?} {same:?}"));
    }
    rows.push(format!("{} tracks", timeline.len()));
    Ok((rows, postings))
}

/// The files of an index as a killed process leaves them: three segments, and a log of several blocks of
/// 32 KiB with tracks that were added, replaced and removed since. Rows of every part are in files.
fn killed_index() -> (TempDir, Told) {
    let folder = tempfile::tempdir().unwrap();
    let params = Params::default();
    let index = RocksIndex::create_or_open(folder.path(), &params).unwrap();
    for batch in 0..3 {
        let tracks: Vec<_> = (0..6).map(|i| track(6 * batch + i, 6 * batch + i, 0)).collect();
        index.add(&tracks).unwrap();
        index.flush().unwrap();
    }
    for i in 0..60 {
        index.add(&[track(10 + i, 100 + i, 0)]).unwrap();
    }
    index.add(&[track(0, 0, 1)]).unwrap();
    index.remove(&TrackId::new("t1").unwrap()).unwrap().unwrap();
    index.remove(&TrackId::new("t69").unwrap()).unwrap().unwrap();
    let told = everything(&index);
    let copy = copy_of_a_moment(folder.path());
    fs::create_dir_all(copy.path().join("incoming")).unwrap();
    fs::write(copy.path().join("incoming/9-0.sst"), "half a file").unwrap();
    (copy, told)
}

/// A copy of an open index as it is at one moment: its threads may delete files that a flush made needless
/// while it is copied, so that copies are made until nothing has changed meanwhile.
fn copy_of_a_moment(folder: &Path) -> TempDir {
    for _ in 0..100 {
        let before = listing(folder);
        let copy = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let copied = copy_into(folder, copy.path());
        if copied.is_ok()
            && before.is_ok_and(|before| listing(folder).is_ok_and(|after| before == after))
        {
            return copy;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the files of {folder:?} do not come to rest");
}

/// Every file below a folder, with its length and when it was last written.
fn listing(folder: &Path) -> io::Result<BTreeMap<PathBuf, (u64, SystemTime)>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            files.extend(listing(&entry.path())?);
        } else {
            files.insert(entry.path(), (metadata.len(), metadata.modified()?));
        }
    }
    Ok(files)
}

/// A copy in memory where there is such a folder: hundreds are opened, and none must survive a crash.
fn copy_of(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    copy_into(folder, copy.path()).unwrap();
    copy
}

fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_into(&from, &to)?;
        } else {
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Deleted,
    /// Reading it fails, as on a bad disk: a folder is in its place.
    Unreadable,
    CutTo(usize),
    /// A byte, and the bits of it that flip.
    Flipped(usize, u8),
}

impl Damage {
    fn befalls(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Deleted => return fs::remove_file(path).unwrap(),
            Self::Unreadable => {
                fs::remove_file(path).unwrap();
                return fs::create_dir(path).unwrap();
            }
            Self::CutTo(len) => bytes.truncate(len),
            Self::Flipped(at, bits) => bytes[at] ^= bits,
        }
        fs::write(path, bytes).unwrap();
    }

    /// Damages of a file of this length: the ones that are special, and `count` drawn ones.
    fn of(len: usize, count: usize, rng: &mut fastrand::Rng) -> Vec<Self> {
        let mut all = vec![Self::Deleted, Self::Unreadable];
        if len == 0 {
            return all;
        }
        all.extend([0, len / 2, len - 1].map(Self::CutTo));
        for _ in 0..count {
            all.push(Self::Flipped(rng.usize(..len), 1 << rng.u8(..8)));
            all.push(Self::CutTo(rng.usize(..len)));
            // Near the end lies what says where everything else is, and the last records of a log.
            all.push(Self::Flipped(len - 1 - rng.usize(..len.min(100)), rng.u8(1..)));
        }
        all
    }
}

/// What is wrong with what an index told whose file of this name is damaged, if anything.
fn complaint(told: &Told, expected: &Told, name: &str) -> Option<String> {
    match (told, expected) {
        (Ok(told), Ok(expected)) if told == expected => None,
        (Ok((rows, postings)), Ok((expected, all))) => {
            let row = rows.iter().zip(expected).find(|(a, b)| a != b);
            let (a, b) = (postings.len(), all.len());
            Some(format!("a wrong answer: {} rows, {row:?}, {a} postings of {b}", rows.len()))
        }
        (Err(error), _) => {
            let text = full_text(error);
            // Of some damage RocksDB says only that the list of its files may be wrong.
            let names = [name, "log is damaged", "may be corrupted"];
            let is_named = names.iter().any(|name| text.contains(name));
            let words = ["damaged", "if the disk is sound"];
            let is_helpful =
                is_named && text.contains("backup") && words.iter().any(|word| text.contains(word));
            (!is_helpful).then_some(format!("an error that does not help: {text}"))
        }
        (_, Err(error)) => Some(format!("the sound index failed: {error}")),
    }
}

/// An error with its causes.
fn full_text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A power cut leaves the beginning of a change that was under way, or garbage of its length.
#[test]
fn a_torn_change_at_the_end_of_the_log_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let params = Params::default();
    let index = RocksIndex::create_or_open(folder.path(), &params).unwrap();
    index.add(&[track(1, 1, 0)]).unwrap();
    let before = copy_of_a_moment(folder.path());
    let expected = everything(&index).unwrap();
    index.add(&[track(2, 2, 0)]).unwrap();
    let log = log_of(folder.path());
    let (short, long) = (fs::read(before.path().join(&log)), fs::read(folder.path().join(&log)));
    let (short, long) = (short.unwrap(), long.unwrap());
    assert!(long.starts_with(&short) && long.len() > short.len() + 100);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut garbage = long.clone();
    garbage[short.len()..].fill_with(|| rng.u8(..));
    let mut flipped = long.clone();
    flipped[short.len() + 50] ^= 1;
    let zeros = [&short[..], &[0; 500]].concat();
    let cuts = [1, 6, 7, 8, 60].map(|more| long[..short.len() + more].to_vec());
    for torn in [garbage, flipped, zeros].into_iter().chain(cuts) {
        let copy = copy_of(before.path());
        fs::write(copy.path().join(&log), torn).unwrap();
        for _ in 0..2 {
            let index = RocksIndex::open(copy.path(), &params).unwrap();
            assert_eq!(everything(&index).unwrap(), expected);
        }
        // It is as good as any other index.
        let index = RocksIndex::open(copy.path(), &params).unwrap();
        index.add(&[track(3, 3, 0)]).unwrap();
        drop(index);
        let index = RocksIndex::open(copy.path(), &params).unwrap();
        assert_eq!(index.stats().unwrap().track_count, 2);
    }
}

/// One bit in the kind of a record makes RocksDB read that record for ever.
#[test]
fn a_flipped_kind_of_a_record_does_not_hang() {
    let (sound, _) = killed_index();
    let log = log_of(sound.path());
    let copy = copy_of(sound.path());
    let mut bytes = fs::read(copy.path().join(&log)).unwrap();
    // Behind the first record: a header of 7 bytes, of which 4 and 5 are the length.
    let second = 7 + usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
    bytes[second + 6] ^= 4;
    fs::write(copy.path().join(&log), bytes).unwrap();
    let error = RocksIndex::open(copy.path(), &Params::default()).unwrap_err().to_string();
    assert!(error.contains(&format!("{} at byte {second}", log.to_string_lossy())), "{error}");
}

/// The name of RocksDB's log.
fn log_of(folder: &Path) -> std::ffi::OsString {
    let mut names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.find(|name| name.to_string_lossy().ends_with(".log")).unwrap()
}

#[test]
fn damage_is_told_or_harmless() {
    let count = if std::env::var_os("EARMARK_TORTURE").is_some() { 60 } else { 1 };
    let seed = std::env::var("EARMARK_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut rng = fastrand::Rng::with_seed(seed);
    let (sound, expected) = killed_index();
    let params = Params::default();
    let mut files: Vec<_> =
        fs::read_dir(sound.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort_unstable();
    let tables = files.iter().filter(|name| name.to_string_lossy().ends_with(".sst")).count();
    assert!(tables >= 6, "not every part has a file: {files:?}");
    let mut complaints = Vec::new();
    let (mut trials, mut refused) = (0, 0);
    for name in files.iter().filter(|name| *name != "incoming") {
        let len = fs::metadata(sound.path().join(name)).unwrap().len();
        for damage in Damage::of(usize::try_from(len).unwrap(), count, &mut rng) {
            // RocksDB's own log is nothing that is read; a folder there only cannot be tidied up.
            if matches!(damage, Damage::Unreadable) && name == "LOG" {
                continue;
            }
            let copy = copy_of(sound.path());
            let name = name.to_str().unwrap();
            damage.befalls(&copy.path().join(name));
            let tell = || everything(&RocksIndex::create_or_open(copy.path(), &params)?);
            let checked = RocksIndex::check(copy.path(), &params, &|_| ());
            let scratch = tempfile::tempdir().unwrap();
            // Now and then: a follower tries for a while, as its writer may be at work. But each missing
            // file, as RocksDB lets a follower do without it.
            let is_followed = trials % 4 == 0 || matches!(damage, Damage::Deleted);
            let followed = is_followed.then(|| {
                RocksIndex::follow(copy.path(), scratch.path(), &params)
                    .and_then(|index| everything(&index))
            });
            let first = tell();
            trials += 1;
            refused += usize::from(first.is_err());
            let again = tell();
            let mut problem = complaint(&first, &expected, name);
            if problem.is_none() && first.is_ok() != again.is_ok() {
                problem = Some(format!("first {}, then {}", first.is_ok(), again.is_ok()));
            }
            // A check needs no locks, and no table in which nothing counts any more.
            let is_list = name.starts_with("MANIFEST") || name == "CURRENT";
            if is_list && first.is_err() && checked.is_ok_and(|report| report.is_whole()) {
                problem = Some("refused, and the check calls it whole".to_owned());
            }
            problem = problem.or_else(|| complaint(&again, &expected, name));
            problem = problem.or_else(|| {
                let text = complaint(followed.as_ref()?, &expected, name)?;
                Some(format!("followed: {text}"))
            });
            complaints.extend(problem.map(|problem| format!("{name:?} {damage:?}: {problem}")));
        }
    }
    eprintln!("{trials} damages, {refused} of them told");
    assert!(complaints.is_empty(), "EARMARK_TEST_SEED={seed}\n{}", complaints.join("\n"));
}
