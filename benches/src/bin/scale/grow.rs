//! Adding synthetic tracks as fast as they are made, and searching meanwhile.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use earmark_benches::synthetic::SyntheticCatalog;
use earmark_benches::work::Progress;
use fingerprint_core::background;
use fingerprint_core::index::{Index, NewTrack, RocksIndex};
use fingerprint_core::matching::SpeedSearch;
use fingerprint_core::params::Params;

use crate::clips::Clip;
use crate::measure::{self, Latencies};
use crate::system;

/// Tracks added in one batch.
const BATCH_LEN: u64 = 64;
/// Share of the tracks that are added while clips are searched for: the last of them.
const SEARCHED_SHARE: u64 = 3;

/// What growing took.
#[derive(Debug)]
pub(crate) struct Growth {
    pub(crate) tracks: u64,
    /// Adding alone, until searches began.
    pub(crate) time: Duration,
    /// Tracks added in that time.
    pub(crate) tracks_alone: u64,
    /// Longest call that added a batch.
    pub(crate) slowest: Duration,
    /// Searches for unchanged recordings while tracks were added.
    pub(crate) meanwhile: Latencies,
    /// Greatest resident memory meanwhile, in MiB.
    pub(crate) memory: f64,
}

/// Adds the synthetic tracks of these numbers.
///
/// # Errors
///
/// If the index cannot be written.
pub(crate) fn grow(
    index: &RocksIndex,
    catalog: &SyntheticCatalog,
    numbers: Range<u64>,
    clips: &[Clip],
    params: &Params,
) -> Result<Growth> {
    let total = numbers.end - numbers.start;
    let mut progress = Progress::new("synthetic tracks added", usize::try_from(total)?);
    let mut growth = Growth {
        tracks: total,
        time: Duration::ZERO,
        tracks_alone: 0,
        slowest: Duration::ZERO,
        meanwhile: Latencies::default(),
        memory: 0.0,
    };
    let (searching, done) = (AtomicBool::new(false), AtomicBool::new(false));
    growth.meanwhile = thread::scope(|scope| -> Result<Latencies> {
        // Making tracks is not what is measured: another thread makes the next batches. Both step
        // back behind searches, as the commands and the server do when they add.
        let (sender, batches) = mpsc::sync_channel::<Vec<NewTrack>>(2);
        scope.spawn(move || {
            background::step_back();
            let mut start = numbers.start;
            while start < numbers.end {
                let end = numbers.end.min(start + BATCH_LEN);
                let batch = (start..end).map(|number| catalog.track(number)).collect();
                if sender.send(batch).is_err() {
                    break;
                }
                start = end;
            }
        });
        let searcher = scope.spawn(|| -> Result<Latencies> {
            let mut latencies = Latencies::default();
            while !searching.load(Ordering::Relaxed) && !done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
            let clips: Vec<_> = clips.iter().filter(|clip| !clip.is_changed).collect();
            // The first round is not timed.
            let mut untimed = Latencies::default();
            for (i, clip) in clips.iter().cycle().enumerate() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let latencies = if i < clips.len() { &mut untimed } else { &mut latencies };
                measure::search(index, clip, SpeedSearch::Off, params, latencies)?;
            }
            Ok(latencies)
        });
        let adder = scope.spawn(|| {
            background::step_back();
            let added = add(index, batches, &mut growth, &mut progress, &searching);
            done.store(true, Ordering::Relaxed);
            added
        });
        let latencies = searcher.join().expect("a search does not panic");
        adder.join().expect("adding does not panic")?;
        latencies
    })?;
    Ok(growth)
}

fn add(
    index: &RocksIndex,
    batches: mpsc::Receiver<Vec<NewTrack>>,
    growth: &mut Growth,
    progress: &mut Progress,
    searching: &AtomicBool,
) -> Result<()> {
    let started = Instant::now();
    let mut added = 0;
    for batch in batches {
        let call = Instant::now();
        index.add(&batch).context("the index cannot be written")?;
        growth.slowest = growth.slowest.max(call.elapsed());
        added += batch.len() as u64;
        growth.memory = growth.memory.max(system::resident_mib());
        progress.tell(usize::try_from(added)?);
        if !searching.load(Ordering::Relaxed) {
            growth.time = started.elapsed();
            growth.tracks_alone = added;
            searching
                .store(added >= growth.tracks - growth.tracks / SEARCHED_SHARE, Ordering::Relaxed);
        }
    }
    Ok(())
}
