//! Cost of resampling alone: 10 s of music from the two usual rates to the analysis rate.
//!
//! The resampler is planned once and then fed on, as within one long recording; what planning
//! costs, once a recording, has benches of its own. Elements are input samples.

mod real_time;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use earmark_benches::Pcm;
use fingerprint_core::resample::Resampler;
use real_time::RealTime;

const SECONDS: usize = 10;

fn resample(c: &mut Criterion<RealTime>) {
    let mut group = c.benchmark_group("resample");
    for (path, rate_hz) in [("catalog/mountain.flac", 44_100), ("catalog/nebula.opus", 48_000)] {
        let pcm = Pcm::decode(path).cut(0, SECONDS);
        assert_eq!(pcm.rate_hz, rate_hz, "{path}");
        let mut resampler = Resampler::new(rate_hz).expect("the rate is a usual one");
        group.throughput(real_time::throughput(pcm.samples.len(), &pcm));
        group.bench_function(BenchmarkId::from_parameter(rate_hz), |b| {
            b.iter(|| {
                resampler.push(black_box(&pcm.samples), &mut |output| {
                    black_box(output);
                });
            });
        });
    }
    group.finish();
}

fn plan(c: &mut Criterion<RealTime>) {
    let mut group = c.benchmark_group("resample/plan");
    for rate_hz in [44_100, 48_000] {
        group.bench_function(BenchmarkId::from_parameter(rate_hz), |b| {
            b.iter(|| Resampler::new(black_box(rate_hz)).expect("the rate is a usual one"));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = real_time::criterion(3);
    targets = resample, plan
}
criterion_main!(benches);
