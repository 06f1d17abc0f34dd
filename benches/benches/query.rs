//! Cost of a whole search: fingerprint to matches, for clips of 10 s.
//!
//! - `hit`: the plain pass finds the track beyond doubt, and nothing else is searched;
//! - `miss`: the plain pass finds nothing, and changed recordings are not searched for;
//! - `miss_all_passes`: after it come the passes for other speed, tempo and pitch. The dearest
//!   answer there is, and the default for a clip that is not in the catalog.
//!
//! The index holds the 12 tracks of `testdata/catalog`, six minutes of music: real but small, so
//! these are the fixed costs of a search. `query_latency` measures an index of any size, also
//! through a server. `memory` against `rocks` tells how much of a search is storage.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use earmark_benches::{Pcm, catalog, rocks_index};
use fingerprint_core::index::{Index, MemoryIndex};
use fingerprint_core::matching::{MatchOptions, MatchStatus, SpeedSearch, match_fingerprint};
use fingerprint_core::params::{Params, Role};

fn search(c: &mut Criterion) {
    let params = Params::default();
    let tracks = catalog();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo made the folder");
    let rocks = rocks_index(dir.path(), &tracks);
    let memory = MemoryIndex::new(&params);
    memory.add(&tracks).expect("the ids differ");
    let indexes: [(&str, &dyn Index); 2] = [("memory", &memory), ("rocks", &rocks)];

    let hit = Pcm::decode("clips/cold_day_noisy.mp3").fingerprint(Role::Query);
    let miss = Pcm::decode("clips/not_in_catalog.mp3").fingerprint(Role::Query);
    let mut group = c.benchmark_group("query");
    // Iterations of milliseconds need no averaging over ever more of them.
    group.sampling_mode(SamplingMode::Flat);
    for (name, clip, speed_search, expected) in [
        ("hit", &hit, SpeedSearch::Auto, (MatchStatus::Matched, false)),
        ("miss", &miss, SpeedSearch::Off, (MatchStatus::NoMatch, false)),
        ("miss_all_passes", &miss, SpeedSearch::Auto, (MatchStatus::NoMatch, true)),
    ] {
        let options = MatchOptions { speed_search, ..MatchOptions::default() };
        // One clip, so a throughput of x elements is x queries a second on one core.
        group.throughput(Throughput::Elements(1));
        for (store, index) in indexes {
            // A search asks before each candidate whether it is still wanted: once for the window,
            // for 20 candidates at most and for 8 of them again, in a pass.
            let asked_count = Cell::new(0);
            let is_cancelled = || {
                asked_count.update(|count| count + 1);
                false
            };
            let answer = || {
                match_fingerprint(index, black_box(clip), &options, &params, &is_cancelled)
                    .expect("the index is sound")
            };
            // A hit that is in doubt, or a miss that is none, would be timed as something else.
            let status = answer().status;
            assert_eq!((status, asked_count.get() > 1 + 20 + 8), expected, "{name}");
            group.bench_function(BenchmarkId::new(name, store), |b| b.iter(answer));
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).sample_size(50);
    targets = search
}
criterion_main!(benches);
