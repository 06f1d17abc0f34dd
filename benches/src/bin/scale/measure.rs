//! Searches: how long they take, what they read, what they find.

use std::cell::Cell;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use earmark_benches::percentile;
use earmark_benches::work::tell;
use fingerprint_core::hash::KeyRange;
use fingerprint_core::index::{
    Added, Index, IndexError, IndexStats, NewTrack, Posting, RocksIndex, Timeline, TrackRecord,
};
use fingerprint_core::matching::{MatchOptions, SpeedSearch, match_fingerprint};
use fingerprint_core::params::Params;
use fingerprint_core::peaks::Peak;
use fingerprint_core::units::{ContentHash, TrackId};

use crate::clips::Clip;
use crate::system;

/// Rounds of all clips that are timed, after one that is not.
const ROUNDS: usize = 3;

/// Times of searches.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

/// What searches of one kind took and read.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    pub(crate) latencies: Latencies,
    /// Key ranges and postings read by one search, on average and at most.
    pub(crate) ranges: Reads,
    pub(crate) postings: Reads,
}

/// A count for each search.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pub(crate) mean: f64,
    pub(crate) max: u64,
}

/// What warm searches showed.
#[derive(Debug, Default)]
pub(crate) struct Warm {
    /// For unchanged recordings only.
    pub(crate) plain: Searches,
    /// Of foreign clips, with all passes.
    pub(crate) foreign: Searches,
    /// Clips of planted recordings: found, and all.
    pub(crate) hits: (usize, usize),
    /// Of those whose speed, tempo and pitch are unchanged.
    pub(crate) unchanged_hits: (usize, usize),
    /// Answered with another track.
    pub(crate) wrong: usize,
    /// Foreign clips: answered with a synthetic track, and all.
    pub(crate) false_accepts: (usize, usize),
    /// Foreign clips answered with another recording, which may be related to theirs.
    pub(crate) related: usize,
}

impl Latencies {
    /// See [`percentile`], in ms.
    pub(crate) fn percentile_ms(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        percentile(&sorted, percent).map(|time| time.as_secs_f64() * 1e3)
    }
}

/// Searches for a clip and takes its time. Says which track answers first.
///
/// # Errors
///
/// Those of the search.
pub(crate) fn search(
    index: &dyn Index,
    clip: &Clip,
    speed_search: SpeedSearch,
    params: &Params,
    latencies: &mut Latencies,
) -> Result<Option<TrackId>> {
    let options = MatchOptions { speed_search, ..MatchOptions::default() };
    let started = Instant::now();
    let report = match_fingerprint(index, &clip.fingerprint, &options, params, &|| false)?;
    latencies.0.push(started.elapsed());
    Ok(report.matches.into_iter().next().map(|found| found.track_id))
}

/// Searches for all clips, several times.
///
/// # Errors
///
/// Those of the searches.
pub(crate) fn warm(index: &RocksIndex, clips: &[Clip], params: &Params) -> Result<Warm> {
    let mut warm = Warm::default();
    let counting = Counting::new(index);
    let mut missed = Vec::new();
    let mut untimed = Latencies::default();
    for clip in clips {
        let answer = search(&counting, clip, SpeedSearch::Auto, params, &mut untimed)?;
        counting.take();
        match &clip.track_id {
            Some(track_id) => {
                let is_hit = answer.as_ref() == Some(track_id);
                let count = |of: &mut (usize, usize)| {
                    of.0 += usize::from(is_hit);
                    of.1 += 1;
                };
                count(&mut warm.hits);
                if !clip.is_changed {
                    count(&mut warm.unchanged_hits);
                }
                if !is_hit {
                    missed.push(clip.condition);
                }
                warm.wrong += usize::from(answer.is_some() && !is_hit);
            }
            None => {
                let is_synthetic = |id: &TrackId| id.as_str().starts_with("synthetic");
                warm.false_accepts.0 += usize::from(answer.as_ref().is_some_and(is_synthetic));
                warm.related += usize::from(answer.is_some_and(|id| !is_synthetic(&id)));
                warm.false_accepts.1 += 1;
            }
        }
    }
    missed.sort_unstable();
    let of_condition = |list: &[&str]| format!("{} of {}", list.len(), list[0]);
    let missed: Vec<_> = missed.chunk_by(|a, b| a == b).map(of_condition).collect();
    tell(&format!("not found: {}", missed.join(", ")));
    let is_foreign = |clip: &&Clip| clip.track_id.is_none();
    let foreign: Vec<_> = clips.iter().filter(is_foreign).collect();
    warm.plain = plain(index, clips, params)?;
    warm.foreign = rounds(&counting, &foreign, SpeedSearch::Auto, params)?;
    Ok(warm)
}

/// Searches for unchanged recordings, several times.
///
/// # Errors
///
/// Those of the searches.
pub(crate) fn plain(index: &RocksIndex, clips: &[Clip], params: &Params) -> Result<Searches> {
    let is_plain = |clip: &&Clip| clip.track_id.is_some() && !clip.is_changed;
    let plain: Vec<_> = clips.iter().filter(is_plain).collect();
    rounds(&Counting::new(index), &plain, SpeedSearch::Off, params)
}

fn rounds(
    index: &Counting<'_>,
    clips: &[&Clip],
    speed_search: SpeedSearch,
    params: &Params,
) -> Result<Searches> {
    let mut searches = Searches::default();
    let mut untimed = Latencies::default();
    let (mut ranges, mut postings) = (Vec::new(), Vec::new());
    for clip in clips {
        search(index, clip, speed_search, params, &mut untimed)?;
        let (range_count, posting_count) = index.take();
        ranges.push(range_count);
        postings.push(posting_count);
    }
    for _ in 0..ROUNDS {
        for clip in clips {
            search(index.index, clip, speed_search, params, &mut searches.latencies)?;
        }
    }
    let reads = |counts: &[u64]| Reads {
        mean: counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64,
        max: counts.iter().copied().max().unwrap_or(0),
    };
    (searches.ranges, searches.postings) = (reads(&ranges), reads(&postings));
    Ok(searches)
}

/// Searches with a page cache that is dropped before each, unchanged ones and foreign ones with
/// all passes. Empty if it cannot be dropped.
///
/// # Errors
///
/// Those of the searches.
pub(crate) fn cold(
    index: &RocksIndex,
    clips: &[Clip],
    count: usize,
    params: &Params,
) -> Result<[Latencies; 2]> {
    let mut both = [Latencies::default(), Latencies::default()];
    let foreign = clips.iter().filter(|clip| clip.track_id.is_none()).take(count / 2);
    let plain = clips.iter().filter(|clip| clip.track_id.is_some() && !clip.is_changed);
    let plain = plain.take(count / 2).map(|clip| (clip, SpeedSearch::Off, 0));
    let foreign = foreign.map(|clip| (clip, SpeedSearch::Auto, 1));
    for (clip, speed_search, place) in plain.chain(foreign) {
        if !system::drop_page_cache() {
            return Ok([Latencies::default(), Latencies::default()]);
        }
        search(index, clip, speed_search, params, &mut both[place])?;
    }
    Ok(both)
}

/// An index that counts what is read.
struct Counting<'i> {
    index: &'i RocksIndex,
    ranges: AtomicU64,
    postings: AtomicU64,
}

impl<'i> Counting<'i> {
    fn new(index: &'i RocksIndex) -> Self {
        Self { index, ranges: AtomicU64::new(0), postings: AtomicU64::new(0) }
    }

    /// Ranges and postings read since the last call.
    fn take(&self) -> (u64, u64) {
        (self.ranges.swap(0, Ordering::Relaxed), self.postings.swap(0, Ordering::Relaxed))
    }
}

impl fmt::Debug for Counting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.index.fmt(f)
    }
}

impl Index for Counting<'_> {
    fn add(&self, tracks: &[NewTrack]) -> Result<Vec<Added>, IndexError> {
        self.index.add(tracks)
    }

    fn remove(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        self.index.remove(id)
    }

    fn track(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError> {
        self.index.track(id)
    }

    fn tracks(
        &self,
        after: Option<&TrackId>,
        limit: usize,
    ) -> Result<Vec<TrackRecord>, IndexError> {
        self.index.tracks(after, limit)
    }

    fn tracks_with_content(&self, hash: &ContentHash) -> Result<Vec<TrackId>, IndexError> {
        self.index.tracks_with_content(hash)
    }

    fn bucket_len(&self, bucket: u32) -> u32 {
        self.index.bucket_len(bucket)
    }

    fn read_postings(
        &self,
        ranges: &[KeyRange],
        visit: &mut dyn FnMut(usize, &[Posting]) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let count = Cell::new(0_u64);
        self.ranges.fetch_add(ranges.len() as u64, Ordering::Relaxed);
        let read = self.index.read_postings(ranges, &mut |i, postings| {
            count.set(count.get() + postings.len() as u64);
            visit(i, postings)
        });
        self.postings.fetch_add(count.get(), Ordering::Relaxed);
        read
    }

    fn peaks(&self, span_start: u32, window: Range<u32>) -> Result<Option<Vec<Peak>>, IndexError> {
        self.index.peaks(span_start, window)
    }

    fn timeline(&self) -> Arc<Timeline> {
        self.index.timeline()
    }

    fn stats(&self) -> Result<IndexStats, IndexError> {
        self.index.stats()
    }
}
