//! The tracks that are heard in a stream: joins what each step finds, and tells what became of them.

use super::{LiveEvent, LiveMatch, LiveOptions};
use crate::index::{Index, Metadata, POSITION_MS};
use crate::matching::evidence::Alignment;
use crate::matching::joining::{Found, extend, is_going_on, overlaps};
use crate::matching::mapping::Mapping;
use crate::matching::odds::Odds;
use crate::matching::votes::Candidate;
use crate::matching::{CERTAIN_GAP_MS, CERTAIN_SCORE_PER_S, MatchError, WINDOW_MS, report};

/// A match is verified at every second step until it has lasted so long …
const SETTLED_MS: f64 = 10_000.0;
/// … and then when its end is so long ago: rarely while it goes on, at every step while
/// it fades.
const SETTLED_PAUSE_MS: f64 = 3_500.0;
/// A track that is heard until this close to its end has come to its end.
const TRACK_END_MS: f64 = 1_500.0;
/// Evidence this far behind the end of a match is of another one.
const REENTRY_MS: f64 = 2_000.0;
/// The shortest evidence of such another one.
const REENTRY_MIN_MS: f64 = 2_000.0;
/// A move of the track in a match that is told at once.
const MOVED_MS: f64 = 300.0;

/// All that goes on, and what has ended within the last window.
#[derive(Debug, Default)]
pub(super) struct Heard {
    tracked: Vec<Tracked>,
    last_id: u64,
}

#[derive(Debug)]
struct Tracked {
    id: u64,
    found: Found,
    metadata: Metadata,
    has_ended: bool,
    verified_step: u32,
    told_ms: u32,
    told: Mapping,
}

/// What telling needs.
pub(super) struct Telling<'a> {
    pub(super) index: &'a dyn Index,
    pub(super) odds: &'a Odds,
    pub(super) now_ms: u32,
    pub(super) step: u32,
    pub(super) options: &'a LiveOptions,
    pub(super) events: &'a mut Vec<LiveEvent>,
}

impl Heard {
    /// The alignments that go on.
    pub(super) fn open(&self) -> impl Iterator<Item = &Found> {
        self.tracked.iter().filter(|tracked| !tracked.has_ended).map(|tracked| &tracked.found)
    }

    /// What is known of those that go on.
    pub(super) fn reports(&self, odds: &Odds) -> Vec<LiveMatch> {
        self.tracked.iter().filter(|t| !t.has_ended).map(|tracked| tracked.report(odds)).collect()
    }

    /// The alignments that are beyond doubt: no change of them needs to be looked for, and no other place
    /// of their tracks.
    pub(super) fn certain(&self, now_ms: u32) -> impl Iterator<Item = &Found> {
        self.open().filter(move |found| {
            let alignment = &found.alignment;
            let length_ms = alignment.covered_ms().min(f64::from(WINDOW_MS));
            f64::from(now_ms) - alignment.end_ms() < CERTAIN_GAP_MS + SETTLED_PAUSE_MS
                && alignment.score >= CERTAIN_SCORE_PER_S * length_ms / 1e3
        })
    }

    /// Where the latest of those that go on begins, in ms.
    pub(super) fn latest_start_ms(&self) -> f64 {
        self.open().map(|found| found.alignment.start_ms()).fold(0.0, f64::max)
    }

    /// Until when something was heard in the last window, in ms; 0 if nothing was.
    pub(super) fn ended_ms(&self, now_ms: u32) -> u32 {
        let end_ms = self.tracked.iter().map(|t| t.found.alignment.end_ms()).fold(0.0, f64::max);
        whole_ms(end_ms).min(now_ms)
    }

    /// Until when all of those that go on were heard, in ms.
    pub(super) fn least_end_ms(&self) -> u32 {
        whole_ms(self.open().map(|found| found.alignment.end_ms()).fold(f64::MAX, f64::min))
    }

    /// Those to be verified now, as candidates.
    pub(super) fn due(
        &mut self,
        step: u32,
        now_ms: u32,
        all: bool,
        gap_max_ms: u32,
    ) -> Vec<Candidate> {
        let now_ms = f64::from(now_ms);
        let mut due = Vec::new();
        for tracked in self.tracked.iter_mut().filter(|tracked| !tracked.has_ended) {
            let alignment = &tracked.found.alignment;
            let is_settled = now_ms - alignment.start_ms() > SETTLED_MS;
            let is_due = if is_settled {
                now_ms - alignment.end_ms() >= SETTLED_PAUSE_MS
            } else {
                step.wrapping_sub(tracked.verified_step) >= 2
            };
            // Nothing is ended that was not looked at just before.
            let would_end = now_ms - alignment.end_ms() > f64::from(gap_max_ms);
            if all || is_due || would_end {
                tracked.verified_step = step;
                let mapping = alignment.latest;
                due.push(Candidate { mapping, ..tracked.found.candidate.clone() });
            }
        }
        due
    }

    /// Joins what a step has found with what was known, and tells what is new.
    pub(super) fn take(
        &mut self,
        fresh: Vec<Found>,
        telling: &mut Telling<'_>,
    ) -> Result<(), MatchError> {
        for fresh in fresh {
            self.take_one(fresh, telling)?;
        }
        Ok(())
    }

    fn take_one(&mut self, mut fresh: Found, telling: &mut Telling<'_>) -> Result<(), MatchError> {
        let window_ms = f64::from(telling.now_ms.saturating_sub(WINDOW_MS));
        for tracked in &mut self.tracked {
            let goes_on = is_going_on(&tracked.found, &fresh);
            if goes_on && !tracked.has_ended {
                extend(&mut tracked.found, fresh);
                tracked.tell_update(telling);
                return Ok(());
            }
            let is_of_track = tracked.found.candidate.span == fresh.candidate.span;
            if !tracked.has_ended || !is_of_track {
                continue;
            }
            // What was told already is no new match, nor is another place of the track for it.
            let (old, fresh) = (&tracked.found.alignment, &mut fresh.alignment);
            if goes_on {
                cut_before(fresh, old.end_ms() + REENTRY_MS);
            } else if overlaps(old, fresh) {
                cut_before(fresh, old.end_ms());
            }
            if fresh.covered_ms() < REENTRY_MIN_MS {
                return Ok(());
            }
        }
        // A better place for all that was heard so far is the same match.
        let moved = self.tracked.iter_mut().find(|tracked| {
            let old = &tracked.found;
            !tracked.has_ended
                && old.candidate.span == fresh.candidate.span
                && old.alignment.start_ms() >= window_ms
                && overlaps(&old.alignment, &fresh.alignment)
        });
        if let Some(tracked) = moved {
            tracked.found = fresh;
            tracked.tell_update(telling);
            return Ok(());
        }
        // The track may have been removed since.
        let record = telling.index.track(&fresh.candidate.track_id)?;
        let Some(record) = record.filter(|record| record.span == fresh.candidate.span) else {
            return Ok(());
        };
        self.last_id += 1;
        let tracked = Tracked {
            id: self.last_id,
            metadata: record.metadata,
            has_ended: false,
            verified_step: telling.step,
            told_ms: telling.now_ms,
            told: fresh.alignment.mapping,
            found: fresh,
        };
        telling.events.push(LiveEvent::MatchStarted(tracked.report(telling.odds)));
        self.tracked.push(tracked);
        Ok(())
    }

    /// Ends what was not heard for too long, or has come to its end, and forgets what ended long ago.
    pub(super) fn end_over(&mut self, telling: &mut Telling<'_>) {
        let now_ms = f64::from(telling.now_ms);
        let gap_max_ms = f64::from(telling.options.gap_max_ms);
        for tracked in self.tracked.iter_mut().filter(|tracked| !tracked.has_ended) {
            let alignment = &tracked.found.alignment;
            let end_ms = alignment.end_ms();
            let track_ms = f64::from(tracked.found.candidate.span.len) * f64::from(POSITION_MS);
            let is_at_its_end = alignment.latest.to_track_ms(end_ms) > track_ms - TRACK_END_MS
                && alignment.latest.to_track_ms(now_ms) > track_ms + TRACK_END_MS;
            if is_at_its_end || now_ms - end_ms > gap_max_ms {
                tracked.end(telling);
            }
        }
        let window_ms = f64::from(telling.now_ms.saturating_sub(2 * WINDOW_MS));
        self.tracked
            .retain(|tracked| !tracked.has_ended || tracked.found.alignment.end_ms() > window_ms);
    }

    /// Ends all that goes on.
    pub(super) fn end_all(&mut self, telling: &mut Telling<'_>) {
        for tracked in self.tracked.iter_mut().filter(|tracked| !tracked.has_ended) {
            tracked.end(telling);
        }
    }
}

impl Tracked {
    fn report(&self, odds: &Odds) -> LiveMatch {
        LiveMatch { id: self.id, found: report(&self.found, self.metadata.clone(), odds) }
    }

    fn tell_update(&mut self, telling: &mut Telling<'_>) {
        let latest = self.found.alignment.latest;
        let moved_ms = latest.to_track_ms(self.told.query_ms) - self.told.track_ms;
        let is_due = telling.now_ms - self.told_ms >= telling.options.update_ms;
        if is_due || moved_ms.abs() > MOVED_MS {
            (self.told_ms, self.told) = (telling.now_ms, latest);
            telling.events.push(LiveEvent::MatchUpdated(self.report(telling.odds)));
        }
    }

    fn end(&mut self, telling: &mut Telling<'_>) {
        self.has_ended = true;
        telling.events.push(LiveEvent::MatchEnded(self.report(telling.odds)));
    }
}

fn whole_ms(time_ms: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` from float saturates, and times of a stream are positive"
    )]
    let whole_ms = time_ms as u32;
    whole_ms
}

/// Takes away what an alignment says of the time before `from_ms`.
fn cut_before(alignment: &mut Alignment, from_ms: f64) {
    alignment.segments.retain_mut(|segment| {
        segment.start_ms = segment.start_ms.max(from_ms);
        segment.end_ms > segment.start_ms
    });
}
