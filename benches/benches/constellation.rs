//! Cost of the stored form of a constellation: written once a track, read for each candidate that
//! a query verifies. Elements are peaks, bytes are encoded ones.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use earmark_benches::Pcm;
use fingerprint_core::constellation::{decode, encode};
use fingerprint_core::params::Role;

/// A track of 30 s.
fn constellation(c: &mut Criterion) {
    let peaks = Pcm::decode("catalog/armygeddon.m4a").fingerprint(Role::Track).peaks;
    let mut encoded = Vec::new();
    encode(&peaks, &mut encoded);

    let mut group = c.benchmark_group("constellation");
    group.throughput(Throughput::ElementsAndBytes {
        elements: peaks.len() as u64,
        bytes: encoded.len() as u64,
    });
    let mut bytes = Vec::new();
    group.bench_function("encode/30s", |b| {
        b.iter(|| {
            bytes.clear();
            encode(black_box(&peaks), &mut bytes);
            black_box(bytes.len())
        });
    });
    group.bench_function("decode/30s", |b| {
        b.iter(|| decode(black_box(&encoded)).expect("it was just encoded"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).sample_size(50);
    targets = constellation
}
criterion_main!(benches);
