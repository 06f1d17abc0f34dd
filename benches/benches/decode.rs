//! Cost of decoding alone, for each container and codec that is built in.
//!
//! `codecs` is one excerpt of 6 s, 8 kHz mono, in all of them: it compares codecs with each
//! other, and the cost of opening a file weighs much in it. `catalog` is 20 to 30 s of music as
//! it is distributed, mostly 44.1 or 48 kHz stereo: it tells what an ingest pays.
//!
//! Files are read into memory before, so that the disk is not timed; elements are samples after
//! the mixdown to mono.

mod real_time;

use std::fs;
use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{Criterion, criterion_group, criterion_main};
use earmark_benches::{Pcm, built_in_only, files, testdata};
use fingerprint_core::decode::{Input, decode};
use real_time::RealTime;

/// What only ffmpeg can decode, see `testdata/README.md`. A list, so that a file which the
/// built-in decoders have lost fails the bench instead of leaving it.
const FFMPEG_ONLY: [&str; 6] = [
    "codecs/aac_5_1.m4a",
    "codecs/ac3.ac3",
    "codecs/ac3.mkv",
    "codecs/opus_5_1.ogg",
    "codecs/wavpack.wv",
    "codecs/wma.wma",
];

fn decode_files(c: &mut Criterion<RealTime>) {
    let options = built_in_only();
    for folder in ["codecs", "catalog"] {
        let mut group = c.benchmark_group(format!("decode/{folder}"));
        for path in files(folder).iter().filter(|path| !FFMPEG_ONLY.contains(&path.as_str())) {
            let pcm = Pcm::decode(path);
            let bytes = fs::read(testdata(path)).expect("it was just decoded");
            let name = path.rsplit('/').next().unwrap_or(path);
            group.throughput(real_time::throughput(pcm.samples.len(), &pcm));
            group.bench_function(name, |b| {
                b.iter(|| {
                    let summary =
                        decode(Input::Bytes(black_box(&bytes)), &options, &mut |samples, _| {
                            black_box(samples);
                            ControlFlow::Continue(())
                        });
                    summary.expect("it was decoded before").duration_s
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = real_time::criterion(2);
    targets = decode_files
}
criterion_main!(benches);
