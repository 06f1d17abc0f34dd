//! Fills an index on disk with made-up tracks and prints how fast it grows and answers.
//!
//! `index_scale FOLDER TRACKS [SECONDS]` adds TRACKS tracks of SECONDS (232, a usual song) to the
//! index in FOLDER, in batches of 64, then reads the ranges of 10 s queries before and after
//! compaction. Half of the queries are excerpts of stored tracks, half of others.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::path::Path;
use std::time::{Duration, Instant};

use earmark_benches::synthetic_track;
use fingerprint_core::hash::{KeyRange, Tolerance, probe_plain};
use fingerprint_core::index::{Index, IndexError, NewTrack, RocksIndex};
use fingerprint_core::landmark::for_each_pair;
use fingerprint_core::params::Params;

const BATCH_LEN: u64 = 64;
const QUERY_COUNT: u64 = 200;
const QUERY_MS: u32 = 10_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args.get(i).and_then(|text| text.parse().ok());
    let (Some(folder), Some(tracks)) = (args.first(), number(1)) else {
        println!("usage: index_scale FOLDER TRACKS [SECONDS]");
        std::process::exit(2);
    };
    let duration_s = number(2).and_then(|s: u64| u32::try_from(s).ok()).unwrap_or(232);
    measure(Path::new(folder), tracks, duration_s).expect("the index can be filled and read");
}

fn measure(folder: &Path, tracks: u64, duration_s: u32) -> Result<(), IndexError> {
    let params = Params::default();
    let index = RocksIndex::create_or_open(folder, &params)?;
    let (mut added, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for first in (0..tracks).step_by(usize::try_from(BATCH_LEN).expect("it is small")) {
        let end = tracks.min(first + BATCH_LEN);
        let batch: Vec<NewTrack> = (first..end).map(|i| synthetic_track(i, duration_s)).collect();
        let started = Instant::now();
        index.add(&batch)?;
        let took = started.elapsed();
        added += took;
        slowest = slowest.max(took);
    }
    println!(
        "add        {tracks} tracks in {:.1} s, {:.0} tracks/min, slowest batch {} ms",
        added.as_secs_f64(),
        tracks as f64 * 60.0 / added.as_secs_f64(),
        slowest.as_millis()
    );
    report(&index, "as added", tracks, duration_s)?;
    let started = Instant::now();
    index.compact()?;
    println!("compact    {:.1} s", started.elapsed().as_secs_f64());
    report(&index, "compacted", tracks, duration_s)?;
    drop(index);
    let started = Instant::now();
    let index = RocksIndex::open(folder, &params)?;
    println!("reopen     {} ms", started.elapsed().as_millis());
    report(&index, "reopened", tracks, duration_s)
}

fn report(index: &RocksIndex, state: &str, tracks: u64, duration_s: u32) -> Result<(), IndexError> {
    let stats = index.stats()?;
    let bytes: u64 = stats.bytes_by_part.values().sum();
    let hours = stats.duration_s / 3600.0;
    let postings = stats.bytes_by_part.get("postings").copied().unwrap_or(0);
    println!(
        "{state:10} {hours:.1} h, {} postings, {:.2} B each, {:.2} MB/h in all {:?}",
        stats.posting_count,
        postings as f64 / stats.posting_count as f64,
        bytes as f64 / 1e6 / hours,
        stats.bytes_by_part
    );
    let mut times = Vec::new();
    let (mut ranges_read, mut found) = (0, 0);
    for i in 0..QUERY_COUNT {
        let seed = if i % 2 == 0 { i * 7919 % tracks } else { tracks + i };
        let ranges = query_ranges(seed, duration_s);
        ranges_read += ranges.len();
        let started = Instant::now();
        index.read_postings(&ranges, &mut |_, postings| found += postings.len())?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    println!(
        "{state:10} query: {} ranges, {} postings, p50 {:.2} ms, p99 {:.2} ms, slowest {:.2} ms",
        ranges_read / times.len(),
        found / times.len(),
        millis(times[times.len() / 2]),
        millis(times[times.len() * 99 / 100]),
        millis(times[times.len() - 1])
    );
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What a plain search for ten seconds of a track reads.
fn query_ranges(seed: u64, duration_s: u32) -> Vec<KeyRange> {
    let peaks = synthetic_track(seed, duration_s).fingerprint.peaks;
    let start_ms = duration_s * 500 - QUERY_MS / 2;
    let window = start_ms..start_ms + QUERY_MS;
    let peaks: Vec<_> = peaks.into_iter().filter(|p| window.contains(&p.time_ms)).collect();
    let mut ranges = Vec::new();
    for_each_pair(&peaks, &Params::default(), |anchor, target| {
        let dt_ms = target.time_ms - anchor.time_ms;
        probe_plain(anchor.freq, target.freq, dt_ms, &Tolerance::default(), &mut ranges);
    });
    ranges.sort_unstable_by_key(|range| (range.bucket, *range.cells.start()));
    ranges
}
