//! Cost of the spectrogram alone: 10 s of music at the analysis rate to power spectra.
//!
//! The transform is planned once and then fed on, as within one long recording. Elements are
//! samples.

mod real_time;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use earmark_benches::Pcm;
use fingerprint_core::spectrogram::Spectrogram;
use real_time::RealTime;

fn spectrogram(c: &mut Criterion<RealTime>) {
    let pcm = Pcm::decode("catalog/mountain.flac").cut(0, 10).at_analysis_rate();
    let mut spectrogram = Spectrogram::new();

    let mut group = c.benchmark_group("spectrogram");
    group.throughput(real_time::throughput(pcm.samples.len(), &pcm));
    group.bench_function("10s", |b| {
        b.iter(|| {
            spectrogram.push(black_box(&pcm.samples), &mut |frame| {
                black_box(frame);
            });
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = real_time::criterion(5);
    targets = spectrogram
}
criterion_main!(benches);
