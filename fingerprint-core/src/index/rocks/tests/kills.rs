//! `kill -9` at random moments: what was acknowledged is there afterwards, and nothing is there by half.
//!
//! The test runs itself as a child process. The child changes an index as it is told on its standard
//! input and acknowledges every change on its standard output, until it is killed: while it opens the
//! index, adds, replaces, removes, writes a segment, merges or compacts. The next child opens
//! the same index as the last one left it, never closed, and tells all that it holds; that must be what
//! was acknowledged, with or without the one change that was under way.
//!
//! Moments are drawn from a seed, which is printed when the test fails: `EARMARK_TEST_SEED=N` draws the
//! same changes and delays again. What a delay hits still depends on the machine.
//! `EARMARK_TORTURE=1` (`make torture`) kills 200 children instead of a few.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rocksdb::IteratorMode;
use serde::{Deserialize, Serialize};

use super::*;
use crate::index::rocks::segments::parse_block_key;

/// Tells a process of this test that it is the child, and where the index lies.
const CHILD: &str = "EARMARK_TEST_KILLS_INDEX";
/// Lines of the child begin so; those of the test runner do not.
const MARK: &str = "kills: ";
/// Ids of tracks; few, so that many are replaced.
const IDS: u32 = 24;
/// Different recordings.
const SEEDS: u32 = 40;

/// What the child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Order {
    /// Tracks of one batch.
    Add(Vec<Wanted>),
    Remove(u32),
    Flush,
    Compact,
    /// Closes the index and opens it again.
    Reopen,
    /// Writes everything that the index holds into a file.
    Tell(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Wanted {
    id: u32,
    seed: u32,
    title: u32,
}

impl Wanted {
    fn track(self) -> NewTrack {
        let title = Some(self.title.to_string());
        let metadata = Metadata { title, ..Metadata::default() };
        NewTrack { metadata, ..track(self.id, self.seed) }
    }
}

/// The tracks that an index should hold, by id.
type Oracle = BTreeMap<u32, Wanted>;

impl Order {
    fn draw(rng: &mut fastrand::Rng, oracle: &Oracle) -> Self {
        match rng.u32(..100) {
            0..60 => {
                let ids: BTreeSet<_> = (0..rng.u32(1..5)).map(|_| rng.u32(..IDS)).collect();
                let draw = |id| {
                    // The recording that it has already: other metadata, or no change at all.
                    let seed = oracle.get(&id).filter(|_| rng.u8(..3) == 0).map(|old| old.seed);
                    let seed = seed.unwrap_or_else(|| rng.u32(..SEEDS));
                    Wanted { id, seed, title: rng.u32(..3) }
                };
                Self::Add(ids.into_iter().map(draw).collect())
            }
            60..84 => Self::Remove(rng.u32(..IDS)),
            84..90 => Self::Flush,
            90..95 => Self::Compact,
            _ => Self::Reopen,
        }
    }

    fn apply(&self, oracle: &mut Oracle) {
        match self {
            Self::Add(batch) => oracle.extend(batch.iter().map(|wanted| (wanted.id, *wanted))),
            Self::Remove(id) => drop(oracle.remove(id)),
            Self::Flush | Self::Compact | Self::Reopen | Self::Tell(_) => {}
        }
    }
}

#[test]
fn kills_lose_nothing() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return obey(Path::new(&folder));
    }
    let is_torture = std::env::var_os("EARMARK_TORTURE").is_some();
    let seed = std::env::var("EARMARK_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut trial = Trial::new(seed);
    for round in 0..if is_torture { 200 } else { 30 } {
        eprintln!("round {round} of EARMARK_TEST_SEED={seed}");
        trial.round();
    }
    trial.finish();
}

/// One index and everything that was acknowledged of it.
struct Trial {
    folder: TempDir,
    rng: fastrand::Rng,
    oracle: Oracle,
    /// The change that a kill has interrupted.
    interrupted: Option<Order>,
    /// How long opening took lately.
    opening: Duration,
}

impl Trial {
    fn new(seed: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            rng: fastrand::Rng::with_seed(seed),
            oracle: Oracle::new(),
            interrupted: None,
            opening: Duration::from_millis(100),
        }
    }

    fn index(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    /// A child that is killed, while it opens the index or some changes later.
    fn round(&mut self) {
        let mut child = Session::start(&self.index());
        if self.rng.u8(..4) == 0 {
            child.kill_after(self.opening.mul_f64(1.2 * self.rng.f64()));
            // It may be done before it is killed; then it waits.
            while child.answer().is_some() {}
            child.end();
            return;
        }
        let begun = Instant::now();
        assert!(child.answer().is_some(), "the index could not be opened, see above");
        self.opening = begun.elapsed();
        self.check(&mut child);
        for _ in 0..self.rng.u32(..20) {
            let order = Order::draw(&mut self.rng, &self.oracle);
            assert!(child.obeys(&order), "{order:?} failed, see above");
            order.apply(&mut self.oracle);
        }
        child.kill_after(Duration::from_secs_f64(0.03 * self.rng.f64() * self.rng.f64()));
        loop {
            let order = Order::draw(&mut self.rng, &self.oracle);
            if !child.obeys(&order) {
                self.interrupted = Some(order);
                break;
            }
            order.apply(&mut self.oracle);
        }
        child.end();
    }

    /// Compares what a child finds with what was acknowledged.
    fn check(&mut self, child: &mut Session) {
        let path = self.folder.path().join("contents");
        assert!(child.obeys(&Order::Tell(path.clone())), "the index could not be read, see above");
        let found = fs::read_to_string(&path).unwrap();
        let mut either = vec![self.oracle.clone()];
        if let Some(order) = &self.interrupted {
            let mut done = self.oracle.clone();
            order.apply(&mut done);
            either.push(done);
        }
        let told: Vec<_> = either.iter().map(|oracle| describe(&memory_of(oracle))).collect();
        let Some(place) = told.iter().position(|told| *told == found) else {
            let first = told[0].lines().zip(found.lines()).find(|(wanted, found)| wanted != found);
            panic!("acknowledged and found: {first:#?}; under way: {:?}", self.interrupted);
        };
        self.oracle = either.swap_remove(place);
        self.interrupted = None;
    }

    /// Closes the index once, and looks whether kills have left anything on the disk.
    fn finish(mut self) {
        let mut child = Session::start(&self.index());
        assert!(child.answer().is_some(), "the index could not be opened, see above");
        self.check(&mut child);
        assert!(child.obeys(&Order::Compact) && child.obeys(&Order::Reopen));
        self.check(&mut child);
        child.close();
        let fresh = tempfile::tempdir().unwrap();
        let index = open(fresh.path(), FEW);
        let tracks: Vec<_> = self.oracle.values().map(|wanted| wanted.track()).collect();
        index.add(&tracks).unwrap();
        index.compact().unwrap();
        drop(index);
        let (wanted, found) = (bytes_in(fresh.path()), bytes_in(&self.index()));
        assert!(found < 2 * wanted + (1 << 20), "{found} bytes, {wanted} in a fresh index");
    }
}

fn memory_of(oracle: &Oracle) -> MemoryIndex {
    memory_with(&oracle.values().map(|wanted| wanted.track()).collect::<Vec<_>>())
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let size = |file: fs::DirEntry| match file.metadata().unwrap() {
        entry if entry.is_dir() => bytes_in(&file.path()),
        entry => entry.len(),
    };
    entries.map(size).sum()
}

/// A child and the pipes to it.
struct Session {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Kills the child after the time that it is sent; waits for its end if it is sent none.
    killer: JoinHandle<()>,
    delay: Sender<Duration>,
}

impl Session {
    fn start(index: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "index::rocks::tests::kills::kills_lose_nothing", "--nocapture"])
            .env(CHILD, index)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (delay, delays) = mpsc::channel();
        let killer = thread::spawn(move || {
            if let Ok(delay) = delays.recv() {
                thread::sleep(delay);
                child.kill().unwrap();
            }
            child.wait().unwrap();
        });
        Self { orders, answers: BufReader::new(answers), killer, delay }
    }

    fn kill_after(&self, delay: Duration) {
        self.delay.send(delay).unwrap();
    }

    /// The next answer; `None` if the child is gone.
    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            // What is cut off was not acknowledged.
            if self.answers.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                return None;
            }
            // The test runner may have begun the line.
            if let Some(at) = line.find(MARK) {
                return Some(line[at + MARK.len()..].trim_end().to_owned());
            }
        }
    }

    /// Gives an order; false if the child was gone before it acknowledged it.
    fn obeys(&mut self, order: &Order) -> bool {
        let line = serde_json::to_string(order).unwrap();
        writeln!(self.orders, "{line}").is_ok() && self.answer().is_some()
    }

    /// Waits for the end of a child that is killed.
    fn end(self) {
        self.killer.join().unwrap();
    }

    /// Lets the child close its index and end.
    fn close(self) {
        drop((self.orders, self.delay));
        self.killer.join().unwrap();
    }
}

/// The child: does as it is told until nobody tells it any more.
fn obey(folder: &Path) {
    let mut index = open(folder, FEW);
    check_rows(&index);
    answer("opened");
    for line in std::io::stdin().lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Order::Add(batch) => {
                let tracks: Vec<_> = batch.into_iter().map(Wanted::track).collect();
                index.add(&tracks).unwrap();
            }
            Order::Remove(id) => drop(index.remove(&track(id, 0).id).unwrap()),
            Order::Flush => index.flush().unwrap(),
            Order::Compact => index.compact().unwrap(),
            Order::Reopen => {
                drop(index);
                index = open(folder, FEW);
                check_rows(&index);
            }
            Order::Tell(path) => fs::write(path, describe(&index)).unwrap(),
        }
        answer("done");
    }
}

fn answer(word: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{MARK}{word}").and_then(|()| stdout.flush()).expect("the test reads this");
}

/// Looks for rows that belong to no track, and for leftovers of segments, in an index that has just
/// been opened.
fn check_rows(index: &RocksIndex) {
    let inner = &index.inner;
    let rows =
        |part| inner.db.iterator_cf(inner.family(part), IteratorMode::Start).map(Result::unwrap);
    let tracks = rows(TRACKS).count();
    assert_eq!((rows(CONTENT).count(), rows(CONSTELLATIONS).count()), (tracks, tracks));
    let segments: BTreeSet<_> = inner.store().segments.iter().map(|segment| segment.id).collect();
    for (key, _) in rows(BLOCKS) {
        let (segment, _) = parse_block_key(&key).unwrap();
        assert!(segments.contains(&segment), "blocks of segment {segment} were left");
    }
    assert!(!inner.path.join(INCOMING).exists());
    let mut live = vec![0; SLOT_COUNT as usize];
    for (_, posting) in read(index, &[everything()]) {
        live[slot_of(posting.key.bucket) as usize] += 1;
    }
    assert!(lens(&index.inner.lens).iter().zip(live).all(|(len, live)| *len >= live));
}

fn everything() -> KeyRange {
    KeyRange { buckets: 0..=BUCKET_COUNT - 1, cells: 0..=CELL_COUNT - 1 }
}

/// Everything that an index answers, a line for each track. Neither where a track lies on the timeline nor
/// when it was added is told, which differ after a kill.
fn describe(index: &dyn Index) -> String {
    let timeline = index.timeline();
    let mut postings: BTreeMap<u32, Vec<(Key, u32)>> = BTreeMap::new();
    for (_, posting) in read(index, &[everything()]) {
        let (span, _) = timeline.locate(posting.position).expect("only live ones are read");
        let of_track = postings.entry(span.start).or_default();
        of_track.push((posting.key, posting.position - span.start));
    }
    let mut text = String::new();
    for mut record in index.tracks(None, usize::MAX).unwrap() {
        assert_eq!(index.track(&record.id).unwrap().as_ref(), Some(&record));
        let start = std::mem::take(&mut record.span.start);
        assert_eq!(timeline.locate(start).map(|(_, id)| id), Some(&record.id));
        record.added_at_ms = 0;
        let same = index.tracks_with_content(&record.content_hash).unwrap();
        let peaks = index.peaks(start, 0..u32::MAX).unwrap().expect("it is live");
        let postings = postings.remove(&start).unwrap_or_default();
        writeln!(text, "{record:?} {same:?} {peaks:?} {postings:?}").expect("to a string");
    }
    let stats = index.stats().unwrap();
    writeln!(text, "{} {}", stats.track_count, stats.posting_count).expect("to a string");
    text
}
