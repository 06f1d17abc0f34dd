//! Cost of pairing and hashing alone, on both sides: what is stored of a track, and what a query
//! looks up. Reading the postings of these keys has its own bench (`index`).

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use earmark_benches::Pcm;
use fingerprint_core::hash::{Family, Tolerance, probe};
use fingerprint_core::landmark::{for_each_query_pair, reference_landmarks};
use fingerprint_core::params::{Params, Role};

const FAMILIES: [Family; 4] = [Family::Unchanged, Family::Pitch, Family::Speed, Family::Tempo];

/// A track of 30 s. Elements are its peaks.
fn reference(c: &mut Criterion) {
    let params = Params::default();
    let peaks = Pcm::decode("catalog/armygeddon.m4a").fingerprint(Role::Track).peaks;

    let mut group = c.benchmark_group("landmark/reference");
    group.throughput(Throughput::Elements(peaks.len() as u64));
    group.bench_function("30s", |b| {
        b.iter(|| reference_landmarks(black_box(&peaks), 0..peaks.len(), &params));
    });
    group.finish();
}

/// A query of 10 s: its pairs, then the key ranges of each family of changes. Elements are pairs.
fn query(c: &mut Criterion) {
    let params = Params::default();
    let peaks = Pcm::decode("clips/cold_day_noisy.mp3").fingerprint(Role::Query).peaks;
    let mut pairs = Vec::new();
    for_each_query_pair(&peaks, &params, |pair| pairs.push((pair.anchor, pair.target)));

    let mut group = c.benchmark_group("landmark/query");
    group.throughput(Throughput::Elements(pairs.len() as u64));
    group.bench_function("pairs", |b| {
        b.iter(|| {
            for_each_query_pair(black_box(&peaks), &params, |pair| {
                black_box(pair);
            });
        });
    });
    let mut ranges = Vec::new();
    for family in FAMILIES {
        let tolerance = Tolerance::of(family);
        group.bench_function(BenchmarkId::new("probe", format!("{family:?}")), |b| {
            b.iter(|| {
                ranges.clear();
                for (anchor, target) in black_box(&pairs) {
                    let dt_ms = target.time_ms - anchor.time_ms;
                    probe(family, anchor.freq, target.freq, dt_ms, &tolerance, &mut ranges);
                }
                black_box(ranges.len())
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).sample_size(50);
    targets = reference, query
}
criterion_main!(benches);
