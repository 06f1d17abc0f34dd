//! The postings of the last seconds of a stream, each read once, and the candidates they vote for.
//!
//! Position in the flow: key ranges → **postings → votes → candidates** of a stream. A query reads all
//! its postings at once; a stream would read those of a window again and again. So hits are kept, eight
//! bytes each, for as long as they can vote together, and every step counts them anew, which costs a
//! tenth of reading them.

use std::collections::VecDeque;

use crate::hash::Family;
use crate::index::{Index, IndexError, POSITION_MS, Span, Timeline};
use crate::matching::hits::read_hits;
use crate::matching::joining::Found;
use crate::matching::mapping::Mapping;
use crate::matching::plan::Scope;
use crate::matching::votes::{self, Candidate, DtCounts, Vote};
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::TrackId;

/// Hits vote together for this long.
const VOTE_MS: u32 = 12_000;
/// Bins in a cell of [`Cells`]: a second.
const CELL_BINS: u32 = 8;
/// Bits behind the point of the weights in it.
const CELL_BITS: u32 = 3;
/// Share of a weight that is left when it is rounded down to these bits: votes weigh a half at least.
const ROUNDING: f32 = 0.75;
/// Added to bins, so that the cell before the first exists.
const BIN_BIAS: u64 = 1 << 33;
/// Bits behind the point of [`Hit::weight`].
const WEIGHT_BITS: u32 = 14;
const WEIGHT_STEPS: f32 = (1 << WEIGHT_BITS) as f32;
/// Postings that are read for a second of the stream, about: those with the most hits a posting of
/// 3,000 with 10,000 tracks.
const POSTINGS_PER_S: f64 = 1_500.0;
/// Pairs less likely than this are not looked up: a third of all, for a twentieth of the hits.
const LIKELIHOOD_MIN: f32 = 0.1;
/// The same as [`POSTINGS_PER_S`] while a sound has just begun, which is to be recognised soon.
const POSTINGS_PER_S_EAGER: f64 = 6_000.0;

/// A posting that a pair of the stream has found.
#[derive(Debug, Clone, Copy)]
struct Hit {
    /// Its position less the anchor's, in steps of the timeline, wrapping: the diagonal.
    bin: u32,
    /// Time of the anchor since the first step of its [`Chunk`], in steps of the timeline.
    anchor_steps: u16,
    /// Weight of its vote, in [`WEIGHT_STEPS`].
    weight: u16,
}

/// The hits of the anchors of one stretch of the stream.
#[derive(Debug, Default)]
struct Chunk {
    from_step: u32,
    until_ms: u32,
    hits: Vec<Hit>,
}

/// A place of a track that the last seconds speak for.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Weight of its votes.
    pub(super) weight: f32,
    pub(super) track_id: TrackId,
    pub(super) span: Span,
    /// A moment of the stream, in ms …
    pub(super) stream_ms: f64,
    /// … and the track's time at it, in ms, to about ±[`POSITION_MS`].
    pub(super) track_ms: f64,
}

impl Place {
    pub(super) fn candidate(&self) -> Candidate {
        Candidate {
            track_id: self.track_id.clone(),
            span: self.span,
            mapping: self.mapping(),
            family: Family::Unchanged,
        }
    }

    fn mapping(&self) -> Mapping {
        let (query_ms, track_ms) = (self.stream_ms, self.track_ms);
        Mapping { query_ms, track_ms, ln_speed: 0.0, ln_pitch: 0.0 }
    }

    /// True if an alignment puts the same track in the same place.
    pub(super) fn is_of(&self, found: &Found) -> bool {
        self.span == found.candidate.span && self.mapping().is_near(&found.alignment.latest)
    }

    /// True if both put the same track in the same place.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.span == other.span && self.mapping().is_near(&other.mapping())
    }
}

/// The hits of the last [`VOTE_MS`].
#[derive(Debug)]
pub(super) struct Recent {
    chunks: VecDeque<Chunk>,
    /// Anchors before this time have been looked up.
    pub(super) anchors_until_ms: u32,
}

impl Recent {
    /// Nothing yet; anchors before `from_ms` are passed over.
    pub(super) fn new(from_ms: u32) -> Self {
        Self { chunks: VecDeque::new(), anchors_until_ms: from_ms }
    }

    /// Looks up the anchors from those done up to `until_ms`, with `peaks` as targets: all up to now,
    /// ascending. What is `provisional` is looked up again by the next call.
    #[expect(clippy::too_many_arguments, reason = "each says something of its own")]
    pub(super) fn look_up(
        &mut self,
        peaks: &[Peak],
        until_ms: u32,
        is_eager: bool,
        provisional: bool,
        index: &dyn Index,
        timeline: &Timeline,
        params: &Params,
    ) -> Result<(), IndexError> {
        let from_ms = self.anchors_until_ms;
        if until_ms <= from_ms {
            return Ok(());
        }
        let first = peaks.partition_point(|peak| peak.time_ms < from_ms);
        let last = peaks
            .partition_point(|peak| peak.time_ms <= until_ms.saturating_add(params.zone_max_ms));
        let per_s = if is_eager { POSTINGS_PER_S_EAGER } else { POSTINGS_PER_S };
        let postings_max = per_s * f64::from(until_ms - from_ms) / 1e3;
        let likelihood_min = if is_eager { 0.0 } else { LIKELIHOOD_MIN };
        let scope =
            Scope { anchors_until_ms: until_ms, postings_max, likelihood_min, ..Scope::WINDOW };
        let found =
            read_hits(index, timeline, &peaks[first..last], Family::Unchanged, scope, params)?;
        let from_step = from_ms / POSITION_MS;
        let mut hits = Vec::with_capacity(found.postings.len());
        found.for_each_run(|probe, run| {
            let counts = DtCounts::new(run);
            let step = probe.anchor_ms / POSITION_MS;
            let anchor_steps = u16::try_from(step - from_step).unwrap_or(u16::MAX);
            hits.extend(run.iter().map(|posting| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a weight is below 3"
                )]
                let weight = (counts.weight(posting.key.bucket) * WEIGHT_STEPS) as u16;
                Hit { bin: posting.position.wrapping_sub(step), anchor_steps, weight }
            }));
        });
        self.chunks.push_back(Chunk { from_step, until_ms, hits });
        if !provisional {
            self.anchors_until_ms = until_ms;
        }
        Ok(())
    }

    /// Takes what was looked up provisionally away, and what is older than [`VOTE_MS`].
    pub(super) fn trim(&mut self, now_ms: u32) {
        while self.chunks.back().is_some_and(|chunk| chunk.until_ms > self.anchors_until_ms) {
            self.chunks.pop_back();
        }
        let oldest_ms = now_ms.saturating_sub(VOTE_MS);
        while self.chunks.front().is_some_and(|chunk| chunk.until_ms <= oldest_ms) {
            self.chunks.pop_front();
        }
    }

    /// Forgets all hits, and passes over anchors before `from_ms`.
    pub(super) fn restart(&mut self, from_ms: u32) {
        self.chunks.clear();
        self.anchors_until_ms = from_ms;
    }

    /// Memory of the hits in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.hits.capacity() * size_of::<Hit>()).sum()
    }

    /// The places with the most votes, at least `weight_min`, heaviest first.
    pub(super) fn places(
        &self,
        timeline: &Timeline,
        weight_min: f32,
        count_max: usize,
    ) -> Vec<Place> {
        let mut places = Vec::new();
        for peaked in votes::maxima(self.supported_votes(weight_min)) {
            if places.len() >= count_max || peaked.weight < weight_min {
                break;
            }
            // A posting of a removed track lies in none.
            let Some((span, track_id)) = timeline.locate(peaked.position) else { continue };
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a bin without its bias has 32 bits"
            )]
            let bin = (peaked.bin - BIN_BIAS) as u32;
            let step = peaked.position.wrapping_sub(bin);
            places.push(Place {
                weight: peaked.weight,
                track_id: track_id.clone(),
                span,
                stream_ms: f64::from(step) * f64::from(POSITION_MS),
                track_ms: f64::from(peaked.position - span.start) * f64::from(POSITION_MS),
            });
        }
        places
    }

    /// The votes of all hits that may be part of `weight_min` votes.
    fn supported_votes(&self, weight_min: f32) -> Vec<Vote> {
        let count = self.chunks.iter().map(|chunk| chunk.hits.len()).sum::<usize>();
        let mut cells = Cells::new(2 * count);
        for chunk in &self.chunks {
            chunk.hits.iter().for_each(|hit| cells.add(hit));
        }
        let least = cells.least(weight_min);
        let mut votes = Vec::new();
        for chunk in &self.chunks {
            let supported = chunk.hits.iter().filter(|hit| cells.around(hit.bin) >= least);
            votes.extend(supported.map(|hit| {
                let step = chunk.from_step + u32::from(hit.anchor_steps);
                Vote {
                    bin: u64::from(hit.bin) + BIN_BIAS,
                    weight: f32::from(hit.weight) / WEIGHT_STEPS,
                    ln_change: 0.0,
                    position: hit.bin.wrapping_add(step),
                }
            }));
        }
        votes
    }
}

/// Votes by cells of [`CELL_BINS`] neighbouring bins, in a table that fits into the processor's cache;
/// cells may collide. Chance votes have one to themselves, mostly.
struct Cells {
    /// In steps of one over [`CELL_STEPS`], at most 255.
    weights: Vec<u8>,
    /// Bits of a hash that are not used.
    shift: u32,
}

impl Cells {
    fn new(cell_count: usize) -> Self {
        let cells = cell_count.next_power_of_two().max(2);
        Self { weights: vec![0; cells], shift: u32::BITS - cells.trailing_zeros() }
    }

    #[inline]
    fn place(&self, cell: u32) -> usize {
        // Fibonacci hashing: the multiplier is 2³² over the golden ratio.
        (cell.wrapping_mul(0x9e37_79b9) >> self.shift) as usize
    }

    #[inline]
    fn add(&mut self, hit: &Hit) {
        let place = self.place(hit.bin / CELL_BINS);
        // A vote weighs less than 3.
        let weight = u8::try_from(hit.weight >> (WEIGHT_BITS - CELL_BITS)).unwrap_or(u8::MAX);
        self.weights[place] = self.weights[place].saturating_add(weight);
    }

    /// Votes around a bin: those of its cell, and of the next one, as true votes may lie in two.
    #[inline]
    fn around(&self, bin: u32) -> u16 {
        let (cell, place) = (bin / CELL_BINS, bin % CELL_BINS);
        let of = |cell| u16::from(self.weights[self.place(cell)]);
        let nearer = if place < CELL_BINS / 2 { cell.wrapping_sub(1) } else { cell + 1 };
        of(cell) + of(nearer)
    }

    /// What [`Cells::around`] is at least where there are `weight_min` votes.
    fn least(&self, weight_min: f32) -> u16 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` from float saturates"
        )]
        let least = (weight_min * ROUNDING * f32::from(1_u16 << CELL_BITS)) as u16;
        least.min(u16::from(u8::MAX))
    }
}
