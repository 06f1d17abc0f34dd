//! Hits: the postings that a pass has read, and what each of them says.
//!
//! Position in the flow: key ranges → **postings → bins** → votes. A posting says of which diagonal the
//! track would be, and how it was changed: its own key tells, because the anchor's frequency in the track
//! is its last field. A *bin* is a diagonal on a rung of changes, in one number.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use super::plan::{Probe, Reads, Scope, plan_reads};
use crate::hash::{self, Family, REACH, Tolerance};
use crate::index::{Index, IndexError, POSITION_MS, Posting, Timeline};
use crate::params::Params;
use crate::peaks::Peak;

/// Step between rungs in a change of pitch or speed, in millionths of its logarithm.
pub(super) const RUNG: i32 = 10_000;
/// The same for tempo, of which a vote says less.
const TEMPO_RUNG: i32 = 20_000;
/// Postings of a pass after which no further range is read. They take 48 MiB, and 36 to count votes.
const HITS_MAX: usize = 1 << 22;
/// Added to diagonals, which are negative where a query begins before the first track does.
const DIAGONAL_BIAS: i64 = 1 << 30;
/// Bits of a biased diagonal in a bin.
const DIAGONAL_BITS: u32 = 40;
/// Added to rungs to keep them positive.
const RUNG_BIAS: i32 = 64;

const _: () = assert!(REACH / RUNG + 4 < RUNG_BIAS);
const _: () = assert!(TEMPO_RUNG % RUNG == 0);

/// The bin of a diagonal on a rung.
pub(super) fn vote_bin(rung: i32, diagonal: i64) -> u64 {
    let rung = u64::try_from(rung + RUNG_BIAS).unwrap_or(0);
    let diagonal = u64::try_from(diagonal + DIAGONAL_BIAS).unwrap_or(0);
    rung << DIAGONAL_BITS | diagonal
}

/// The diagonal of a bin.
pub(super) fn diagonal_of(bin: u64) -> i64 {
    let biased = bin & ((1 << DIAGONAL_BITS) - 1);
    i64::try_from(biased).expect("a diagonal has 40 bits") - DIAGONAL_BIAS
}

/// The postings that a pass has read. A quarter of the memory of their votes, most of which would be
/// made in vain.
#[derive(Debug, Default)]
pub(super) struct Hits {
    pub(super) postings: Vec<Posting>,
    pub(super) runs: Vec<Run>,
}

/// The postings of one range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) probe: Probe,
    /// Place behind the last in [`Hits::postings`].
    pub(super) end: usize,
}

pub(super) fn read_hits(
    index: &dyn Index,
    timeline: &Timeline,
    peaks: &[Peak],
    family: Family,
    scope: Scope,
    params: &Params,
) -> Result<Hits, IndexError> {
    let Reads { ranges, probes, postings } =
        plan_reads(index, timeline, peaks, family, scope, params);
    let mut hits = Hits::default();
    // Growing would copy all of them several times.
    hits.postings.reserve(postings.min(HITS_MAX));
    hits.runs.reserve(ranges.len());
    index.read_postings(&ranges, &mut |i, postings| {
        hits.postings.extend_from_slice(postings);
        let end = hits.postings.len();
        hits.runs.push(Run { probe: probes[i], end });
        if end < HITS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(hits)
}

impl Hits {
    /// Calls `visit` with each range and its postings.
    pub(super) fn for_each_run<'a>(&'a self, mut visit: impl FnMut(&Probe, &'a [Posting])) {
        let mut start = 0;
        for Run { probe, end } in &self.runs {
            visit(probe, &self.postings[start..*end]);
            start = *end;
        }
    }
}

/// The change of speed or pitch that a posting speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// Its logarithm, in millionths.
    pub(super) ln: i32,
    /// The rungs on which the posting votes, both ends included.
    pub(super) rungs: [i32; 2],
}

/// What the postings of one bucket have in common.
enum BucketChange {
    /// The bucket says all that is known.
    Same(Change),
    /// The anchor says it.
    ByAnchor {
        /// Of the query.
        ln_anchor: i32,
        /// Least and greatest change that is meant.
        meant: [i32; 2],
    },
}

impl BucketChange {
    fn new(bucket: u32, probe: &Probe, family: Family) -> Self {
        let tolerance = Tolerance::of(family);
        match family {
            Family::Unchanged => Self::Same(Change { ln: 0, rungs: [0, 0] }),
            Family::Tempo => {
                let [low, high] = hash::ln_tempos(bucket, probe.dt_ms, &tolerance);
                let nearest = |ln: i32| (ln + TEMPO_RUNG / 2).div_euclid(TEMPO_RUNG);
                let rungs = [nearest(low), nearest(high)];
                Self::Same(Change { ln: low.midpoint(high), rungs })
            }
            Family::Pitch | Family::Speed => Self::ByAnchor {
                ln_anchor: hash::ln_freq(probe.anchor_freq),
                meant: if family == Family::Speed {
                    hash::ln_speeds(bucket, probe.dt_ms, &tolerance)
                } else {
                    [i32::MIN, i32::MAX]
                },
            },
        }
    }

    /// `None` if the posting is not meant.
    #[inline]
    fn of(&self, posting: &Posting) -> Option<Change> {
        match self {
            Self::Same(change) => Some(*change),
            Self::ByAnchor { ln_anchor, meant: [low, high] } => {
                let ln = ln_anchor - hash::ln_anchor(posting.key);
                let below = ln.div_euclid(RUNG);
                (*low..=*high).contains(&ln).then_some(Change { ln, rungs: [below, below + 1] })
            }
        }
    }
}

/// Calls `visit` with each posting of a run and the change that it speaks for, `None` if that is not
/// meant.
#[inline]
pub(super) fn for_each_change(
    probe: &Probe,
    run: &[Posting],
    family: Family,
    mut visit: impl FnMut(&Posting, Option<Change>),
) {
    // In one segment, postings of one bucket lie side by side.
    for postings in run.chunk_by(|a, b| a.key.bucket == b.key.bucket) {
        let change = BucketChange::new(postings[0].key.bucket, probe, family);
        postings.iter().for_each(|posting| visit(posting, change.of(posting)));
    }
}

/// From a posting's place to its diagonal: steps of the timeline from the middle of the query to the
/// posting's anchor, at one rung after the other.
pub(super) struct Steps {
    family: Family,
    from_middle_ms: f64,
    /// Neighbouring postings are mostly of one rung.
    last: (i32, i64),
}

impl Steps {
    pub(super) fn new(probe: &Probe, middle_ms: u32, family: Family) -> Self {
        let from_middle_ms = f64::from(probe.anchor_ms) - f64::from(middle_ms);
        Self { family, from_middle_ms, last: (0, steps_from_middle(family, 0, from_middle_ms)) }
    }

    #[inline]
    pub(super) fn at(&mut self, rung: i32) -> i64 {
        if rung != self.last.0 {
            self.last = (rung, steps_from_middle(self.family, rung, self.from_middle_ms));
        }
        self.last.1
    }

    #[inline]
    pub(super) fn bin(&mut self, posting: &Posting, rung: i32) -> u64 {
        vote_bin(rung, i64::from(posting.position) - self.at(rung))
    }
}

/// Steps of the timeline from the middle of the query to a moment of it, rounded down: the track
/// advances by `speed` milliseconds in one of the query.
fn steps_from_middle(family: Family, rung: i32, from_middle_ms: f64) -> i64 {
    static SPEEDS: LazyLock<Vec<f64>> = LazyLock::new(|| {
        let ln_speed = |rung: i32| f64::from((rung - RUNG_BIAS) * RUNG) / 1e6;
        (0..=2 * RUNG_BIAS).map(|rung| ln_speed(rung).exp()).collect()
    });
    // In steps of RUNG.
    let rung = match family {
        Family::Unchanged | Family::Pitch => 0,
        Family::Speed => rung,
        Family::Tempo => rung * (TEMPO_RUNG / RUNG),
    };
    let speed = usize::try_from(rung + RUNG_BIAS).ok().and_then(|place| SPEEDS.get(place));
    let ms = from_middle_ms * speed.copied().unwrap_or(1.0);
    #[expect(clippy::cast_possible_truncation, reason = "windows last seconds")]
    let whole_ms = ms as i64;
    // Rounded down by hand: the function for it is a call on processors of the common baseline.
    (whole_ms - i64::from(whole_ms as f64 > ms)).div_euclid(i64::from(POSITION_MS))
}
