//! Cost of a whole fingerprint: all stages from samples to constellation, then with decoding too.
//!
//! A fingerprinter lives as long as its recording, so planning the resampler and the transform is
//! timed with it, as in use; over 20 s it does not weigh. Elements are samples at the rate of the
//! recording.

mod real_time;

use std::fs;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use earmark_benches::{Pcm, built_in_only, testdata};
use fingerprint_core::decode::Input;
use fingerprint_core::fingerprint::{Fingerprint, Fingerprinter};
use fingerprint_core::params::{Params, Role};
use real_time::RealTime;

/// Samples of one call: what an MP3 frame decodes to, so that the chunks are those of real use.
const CHUNK_LEN: usize = 1152;
const SECONDS: usize = 20;

/// What a client does for a clip.
fn from_samples(c: &mut Criterion<RealTime>) {
    let params = Params::default();
    let cd = Pcm::decode("catalog/mountain.flac").cut(0, SECONDS);
    let dat = Pcm::decode("catalog/nebula.opus").cut(0, SECONDS);
    let resampled = cd.at_analysis_rate();

    let mut group = c.benchmark_group("fingerprint/samples");
    // Iterations of milliseconds need no averaging over ever more of them.
    group.sampling_mode(SamplingMode::Flat);
    for pcm in [resampled, cd, dat] {
        group.throughput(real_time::throughput(pcm.samples.len(), &pcm));
        group.bench_function(BenchmarkId::from_parameter(pcm.rate_hz), |b| {
            b.iter(|| {
                let mut fingerprinter = Fingerprinter::new(&params, Role::Query);
                for chunk in black_box(&pcm.samples).chunks(CHUNK_LEN) {
                    fingerprinter.push(chunk, pcm.rate_hz).expect("the rate is a usual one");
                }
                fingerprinter.finish()
            });
        });
    }
    group.finish();
}

/// What a worker of an ingest does for a file.
fn from_audio(c: &mut Criterion<RealTime>) {
    let params = Params::default();
    let options = built_in_only();
    let mut group = c.benchmark_group("fingerprint/audio");
    group.sampling_mode(SamplingMode::Flat);
    for name in ["awakening.mp3", "armygeddon.m4a", "mountain.flac"] {
        let path = format!("catalog/{name}");
        let pcm = Pcm::decode(&path);
        let bytes = fs::read(testdata(&path)).expect("it was just decoded");
        group.throughput(real_time::throughput(pcm.samples.len(), &pcm));
        group.bench_function(name, |b| {
            b.iter(|| {
                let input = Input::Bytes(black_box(&bytes));
                Fingerprint::from_audio(input, &options, &params, Role::Track)
                    .expect("it was decoded before")
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = real_time::criterion(5);
    targets = from_samples, from_audio
}
criterion_main!(benches);
