//! Cost of storage alone: adding tracks, reading the postings and constellations that a query
//! asks for. `MemoryIndex` is the baseline: what it takes is not storage.
//!
//! Most benches use the 12 tracks of `testdata/catalog`, six minutes of music. That is real but
//! small: posting lists are short and all of it is cached. Reads are also timed on ten hours that
//! are made from it. For a whole query and an index of any size, there is `query_latency`.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use earmark_benches::{Pcm, catalog, rocks_index};
use fingerprint_core::hash::{Family, KeyRange, Tolerance, probe};
use fingerprint_core::index::{Index, MemoryIndex, NewTrack, RocksIndex};
use fingerprint_core::landmark::for_each_query_pair;
use fingerprint_core::params::{Params, Role};
use fingerprint_core::units::TrackId;
use tempfile::TempDir;

/// What the lookups are made for.
const CLIP: &str = "clips/cold_day_noisy.mp3";
const FAMILIES: [Family; 4] = [Family::Unchanged, Family::Pitch, Family::Speed, Family::Tempo];

/// A folder beside the build, which is on a disk: in `/tmp` an index may lie in memory, and
/// writing it through would cost nothing.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo made the folder above it")
}

fn memory_index(tracks: &[NewTrack]) -> MemoryIndex {
    let index = MemoryIndex::new(&Params::default());
    index.add(tracks).expect("the ids differ");
    index
}

fn posting_count(index: &dyn Index) -> u64 {
    index.stats().expect("the index was just made").posting_count
}

/// All tracks in one batch into an empty index, as an ingest does. Elements are postings.
fn add_batch(c: &mut Criterion) {
    let params = Params::default();
    let tracks = catalog();
    let mut group = c.benchmark_group("index/add_12_tracks");
    group.throughput(Throughput::Elements(posting_count(&memory_index(&tracks))));
    // An addition to RocksDB ends with the disk saying that it is there, and its set-up makes an
    // index each time.
    group.sample_size(20);
    group.bench_function("memory", |b| {
        b.iter_batched(
            || MemoryIndex::new(&params),
            |index| {
                index.add(black_box(&tracks)).expect("the ids differ");
                index
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("rocks", |b| {
        b.iter_batched(
            || {
                let dir = folder();
                let index = RocksIndex::create_or_open(dir.path(), &params);
                (index.expect("the folder is empty"), dir)
            },
            |(index, dir)| {
                index.add(black_box(&tracks)).expect("the ids differ");
                (index, dir)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// One more track, as a server does. Elements are postings.
fn add_one(c: &mut Criterion) {
    let tracks = catalog();
    let dir = folder();
    let memory = memory_index(&tracks);
    let rocks = rocks_index(dir.path(), &tracks);
    let track = tracks.last().expect("there are 12 tracks");
    let record = memory.track(&track.id).expect("memory does not fail").expect("it was added");

    let mut group = c.benchmark_group("index/add_1_track");
    group.throughput(Throughput::Elements(u64::from(record.posting_count)));
    group.sample_size(20);
    for (name, index) in indexes(&memory, &rocks) {
        group.bench_function(name, |b| {
            b.iter_batched(
                // A track that is there already would be told apart by its content and not written.
                || index.remove(&track.id).expect("the index is sound"),
                |_| index.add(black_box(std::slice::from_ref(track))).expect("it was there before"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn indexes<'a>(memory: &'a MemoryIndex, rocks: &'a RocksIndex) -> [(&'a str, &'a dyn Index); 2] {
    [("memory", memory), ("rocks", rocks)]
}

/// The key ranges that a search of a family looks up for a clip, in the order of the index.
fn ranges_of(path: &str, family: Family) -> Vec<KeyRange> {
    let peaks = Pcm::decode(path).fingerprint(Role::Query).peaks;
    let tolerance = Tolerance::of(family);
    let mut ranges = Vec::new();
    for_each_query_pair(&peaks, &Params::default(), |pair| {
        let dt_ms = pair.target.time_ms - pair.anchor.time_ms;
        probe(family, pair.anchor.freq, pair.target.freq, dt_ms, &tolerance, &mut ranges);
    });
    ranges.sort_unstable_by_key(|range| (*range.buckets.start(), *range.cells.start()));
    ranges
}

/// Reads all of `ranges`.
fn count_postings(index: &dyn Index, ranges: &[KeyRange]) -> usize {
    let mut count = 0;
    let read = index.read_postings(ranges, &mut |_, postings| {
        count += postings.len();
        ControlFlow::Continue(())
    });
    read.expect("the index is sound");
    count
}

/// The catalog a hundred times, ten hours. Each copy is moved up by another 10 Hz and slowed down
/// or sped up, so that both fields of a bucket differ and lists are filled as by other music.
fn ten_hours(tracks: &[NewTrack]) -> Vec<NewTrack> {
    let copy_of = |track: &NewTrack, copy: u8| {
        let mut track = track.clone();
        track.id = TrackId::new(format!("{}-{copy}", track.id)).expect("the id is plain and short");
        track.fingerprint.content_hash.0[0] = copy;
        for peak in &mut track.fingerprint.peaks {
            // A step is a sixteenth of 3.9 Hz.
            peak.freq = peak.freq.saturating_add(u16::from(copy) * 41);
            peak.time_ms = peak.time_ms * (60 + u32::from(copy)) / 100;
        }
        track
    };
    (0..100).flat_map(|copy| tracks.iter().map(move |track| copy_of(track, copy))).collect()
}

/// All lookups of one pass of a query of 10 s. Elements are key ranges: most of them are empty in
/// an index of this size, and finding that out is the work.
fn read(c: &mut Criterion) {
    let tracks = catalog();
    let dir = folder();
    let memory = memory_index(&tracks);
    let rocks = rocks_index(dir.path(), &tracks);

    let mut group = c.benchmark_group("index/read_postings");
    for family in FAMILIES {
        let ranges = ranges_of(CLIP, family);
        group.throughput(Throughput::Elements(ranges.len() as u64));
        for (name, index) in indexes(&memory, &rocks) {
            group.bench_function(BenchmarkId::new(name, format!("{family:?}")), |b| {
                b.iter(|| count_postings(index, black_box(&ranges)));
            });
        }
    }
    group.finish();

    // Warm: the calls before have decoded what fits into the cache, here all. One clip again and
    // again also has it in the processor's cache; a clip among others waits for the memory.
    let dir = folder();
    let rocks = rocks_index(dir.path(), &ten_hours(&tracks));
    let mut group = c.benchmark_group("index/read_10_hours");
    for family in FAMILIES {
        let ranges = ranges_of(CLIP, family);
        group.throughput(Throughput::Elements(ranges.len() as u64));
        group.bench_function(format!("{family:?}"), |b| {
            (0..20).for_each(|_| {
                black_box(count_postings(&rocks, &ranges));
            });
            b.iter(|| count_postings(&rocks, black_box(&ranges)));
        });
        group.bench_function(format!("{family:?} lengths only"), |b| {
            b.iter(|| {
                let len = |range: &KeyRange| u64::from(rocks.bucket_len(*range.buckets.start()));
                black_box(&ranges).iter().map(len).sum::<u64>()
            });
        });
    }
    group.finish();
}

/// One constellation a candidate, so elements are constellations.
fn constellation(c: &mut Criterion) {
    let tracks = catalog();
    let dir = folder();
    let memory = memory_index(&tracks);
    let rocks = rocks_index(dir.path(), &tracks);
    let starts: Vec<u32> = rocks.timeline().entries().map(|(span, _)| span.start).collect();
    let mut group = c.benchmark_group("index/constellation");
    group.throughput(Throughput::Elements(starts.len() as u64));
    for (name, index) in indexes(&memory, &rocks) {
        group.bench_function(name, |b| {
            b.iter(|| {
                for start in black_box(&starts) {
                    black_box(index.peaks(*start, 0..u32::MAX).expect("the index is sound"));
                }
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).sample_size(50);
    targets = add_batch, add_one, read, constellation
}
criterion_main!(benches);
