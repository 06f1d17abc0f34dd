//! Cost of picking and ranking peaks alone: the frames of 10 s of audio to a constellation.
//!
//! The cost depends on how many local maxima there are, so two recordings of different density
//! are timed, an orchestral one and a metal band; and on how many peaks are kept, so both roles
//! of a fingerprint are. Elements are frames.

mod real_time;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use earmark_benches::Pcm;
use fingerprint_core::params::{Params, Role};
use fingerprint_core::peaks::PeakPicker;
use fingerprint_core::spectrogram::Spectrogram;
use real_time::RealTime;

fn pick_peaks(c: &mut Criterion<RealTime>) {
    let params = Params::default();
    let mut peaks = Vec::new();
    let mut group = c.benchmark_group("peaks");
    for name in ["mountain.flac", "armygeddon.m4a"] {
        let pcm = Pcm::decode(&format!("catalog/{name}")).cut(0, 10).at_analysis_rate();
        let mut frames = Vec::new();
        Spectrogram::new().push(&pcm.samples, &mut |frame| frames.push(frame.to_vec()));
        group.throughput(real_time::throughput(frames.len(), &pcm));
        for role in [Role::Track, Role::Query] {
            group.bench_function(BenchmarkId::new(name, format!("{role:?}")), |b| {
                b.iter(|| {
                    peaks.clear();
                    // A picker ends with its recording. Making one costs two buffers of a frame.
                    let mut picker = PeakPicker::new(&params, role);
                    for frame in black_box(&frames) {
                        picker.push(frame, &mut peaks);
                    }
                    picker.finish(&mut peaks);
                    black_box(peaks.len())
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = real_time::criterion(5);
    targets = pick_peaks
}
criterion_main!(benches);
