//! Query + index → ranked matches.
//!
//! Position in the flow: postings → votes → candidates → **matches**. Long queries are searched in
//! overlapping windows, so time grows with their length and memory does not; alignments that go
//! on from window to window are one match.
//!
//! A window is looked at by a few pairs first (`glance`). If what they show does not explain it as a whole, it is
//! searched for unchanged recordings. If none of them explains it beyond doubt, a pass for each [`Family`] of
//! changes follows: other speed, tempo or pitch.

mod answer;
mod cells;
mod evidence;
mod fit;
mod gain;
mod glance;
mod hits;
mod joining;
pub mod live;
mod mapping;
mod odds;
mod plan;
mod query_peaks;
#[cfg(test)]
mod test_support;
mod votes;

use std::cell::Cell;
use std::time::Instant;

pub use self::answer::{Alternative, Gap, Match, MatchReport, MatchStatus, StageTimes};
use self::evidence::Segment;
use self::joining::{Found, distinct, merge, ranked};
use self::odds::Odds;
use self::plan::Scope;
use self::query_peaks::QueryPeaks;
use self::votes::Candidate;
use crate::fingerprint::Fingerprint;
use crate::hash::Family;
use crate::index::{Index, IndexError, Metadata, Timeline};
use crate::params::Params;
use crate::peaks::Peak;

/// Queries up to this length are searched as a whole.
const WINDOW_MS: u32 = 15_000;
/// Step between the windows of longer ones.
const WINDOW_STEP_MS: u32 = 7_500;
/// Candidates fitted in a pass.
const CANDIDATES_MAX: usize = 20;
/// Fitted candidates of a pass that are weighed, those with the most support.
const WEIGHED_MAX: usize = 8;
/// The passes for changed recordings, the commonest change first.
const CHANGES: [Family; 3] = [Family::Speed, Family::Tempo, Family::Pitch];
/// Nats a second that only an alignment of the right speed and pitch reaches. Unchanged clips in
/// loud noise stay below it too, and cost the other passes.
const CERTAIN_SCORE_PER_S: f64 = 25.0;
/// Candidates of a glance have this share of the votes of its best: other copies of a recording have as many.
const GLANCE_SHARE: f32 = 0.25;
/// Part of a window that a certain alignment may leave to others, in ms.
const CERTAIN_GAP_MS: f64 = 2_000.0;
/// Nats by which an alignment with fitted speed and pitch must beat one without, which has fewer
/// ways to look good.
const FIT_COST: f64 = 4.0;
/// How much better than the alignment that goes on from the window before another of the same
/// track must be: music repeats itself, and a match shall not jump between its repeats.
const CONTINUITY: f64 = 1.25;
/// Most alternatives of one match.
const ALTERNATIVES_MAX: usize = 5;
/// Shortest query that is searched.
const DURATION_MIN_MS: u64 = 1_000;
/// A query below this level is silent.
const LEVEL_MIN_DB: f32 = -90.0;
/// What the caller wants of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchOptions {
    /// Most matches reported (default 10).
    pub matches_max: usize,
    /// Least confidence of a reported match, 0 to 1 (default 0: all that
    /// [`MatchOptions::false_accepts_max`] lets through).
    pub confidence_min: f64,
    /// Most false accepts by chance that are put up with, per query (default 1e-4). The least
    /// score of a reported match follows from it, from the size of the index and the length of the
    /// query.
    pub false_accepts_max: f64,
    /// Whether recordings of changed speed, tempo or pitch are searched for (default auto).
    pub speed_search: SpeedSearch,
}

/// Whether recordings of changed speed, tempo or pitch are searched for: up to 15 % up or 13 %
/// down, alone, both as of a turntable, or each by its own factor up to 9 %. Costs about ten times as much as the search for
/// unchanged ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpeedSearch {
    /// Never: unchanged recordings only.
    Off,
    /// In those parts of the query in which no unchanged recording is found beyond doubt.
    #[default]
    Auto,
    /// Everywhere: also changed recordings under unchanged ones.
    Full,
}

impl Default for MatchOptions {
    fn default() -> Self {
        Self {
            matches_max: 10,
            confidence_min: 0.0,
            false_accepts_max: odds::FALSE_ACCEPTS_MAX,
            speed_search: SpeedSearch::Auto,
        }
    }
}

/// Why a search has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatchError {
    /// The index failed: [`IndexError::Storage`] or [`IndexError::Corrupt`].
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The caller did not want the answer any more.
    #[error("the search was cancelled")]
    Cancelled,
}

/// Searches `index` for the tracks that are in `query`.
///
/// `is_cancelled` is asked before each look at the index for 15 s of the query, and before each candidate there,
/// milliseconds of work; once it says so, the search ends.
///
/// # Errors
///
/// [`MatchError`].
pub fn match_fingerprint(
    index: &dyn Index,
    query: &Fingerprint,
    options: &MatchOptions,
    params: &Params,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<MatchReport, MatchError> {
    let spent = Cell::new(StageTimes::default());
    let refused =
        |status| Ok(MatchReport { status, matches: Vec::new(), spent: StageTimes::default() });
    if query.duration_ms < DURATION_MIN_MS {
        return refused(MatchStatus::TooShort);
    }
    if query.level_db < LEVEL_MIN_DB || query.peaks.is_empty() {
        return refused(MatchStatus::Silent);
    }
    let window_count = windows(&query.peaks).count();
    let odds = Odds::new(index.timeline().duration_s(), query.duration_s(), window_count);
    let score_min = odds.score_min(options.false_accepts_max);
    let mut found: Vec<Found> = Vec::new();
    for window in windows(&query.peaks) {
        if is_cancelled() {
            return Err(MatchError::Cancelled);
        }
        let timeline = index.timeline();
        let search = Search {
            index,
            timeline: &timeline,
            window,
            options,
            params,
            score_min,
            is_cancelled,
            spent: &spent,
        };
        let start_ms = f64::from(window.first().map_or(0, |peak| peak.time_ms));
        let open = joining::open(&found, start_ms, WEIGHED_MAX.max(options.matches_max));
        for fresh in search.run(open)? {
            merge(&mut found, fresh);
        }
    }
    let mut matches = Vec::new();
    // Before the limit, which must not be filled with what is left out.
    found.retain(|found| odds.confidence(found.alignment.score) >= options.confidence_min);
    for found in ranked(found) {
        if matches.len() == options.matches_max {
            break;
        }
        // The track may have been removed since; then it does not answer any more.
        if let Some(record) = index.track(&found.candidate.track_id)?
            && record.span == found.candidate.span
        {
            matches.push(report(&found, record.metadata, &odds));
        }
    }
    matches.sort_by(|a, b| b.score.total_cmp(&a.score));
    let status = if matches.is_empty() { MatchStatus::NoMatch } else { MatchStatus::Matched };
    Ok(MatchReport { status, matches, spent: spent.get() })
}

/// Overlapping stretches of the query's peaks.
fn windows(peaks: &[Peak]) -> impl Iterator<Item = &[Peak]> {
    let end_ms = peaks.last().map_or(0, |peak| peak.time_ms);
    let mut start_ms = Some(0_u32);
    std::iter::from_fn(move || {
        let from = start_ms?;
        let to = from.saturating_add(WINDOW_MS);
        start_ms = (to < end_ms).then(|| from + WINDOW_STEP_MS);
        let low = peaks.partition_point(|peak| peak.time_ms < from);
        let high = peaks.partition_point(|peak| peak.time_ms <= to);
        Some(&peaks[low..high])
    })
    // Silence costs nothing.
    .filter(|window| !window.is_empty())
}

/// One window and where it is searched.
struct Search<'a> {
    index: &'a dyn Index,
    timeline: &'a Timeline,
    window: &'a [Peak],
    options: &'a MatchOptions,
    params: &'a Params,
    score_min: f64,
    is_cancelled: &'a dyn Fn() -> bool,
    spent: &'a Cell<StageTimes>,
}

impl Search<'_> {
    /// Searches the window; `open` are the alignments that may go on from the one before.
    fn run(&self, open: Vec<Candidate>) -> Result<Vec<Found>, MatchError> {
        let query = QueryPeaks::new(self.window);
        let mut found: Vec<Found> = Vec::new();
        // One by one: each is weighed, however little supports it here.
        for candidate in open {
            self.verify(vec![candidate], CONTINUITY, &query, &mut found)?;
        }
        let going_on = found.len();
        // Whoever wants changed recordings under unchanged ones wants everything.
        if self.options.speed_search != SpeedSearch::Full {
            self.pass(Family::Unchanged, Scope::GLANCE, GLANCE_SHARE, &query, &mut found)?;
            if self.is_all(&query, &found)? {
                return Ok(distinct(found));
            }
            // What the glance has found is found again, among all.
            found.truncate(going_on);
        }
        self.run_pass(Family::Unchanged, &query, &mut found)?;
        for family in CHANGES {
            match self.options.speed_search {
                SpeedSearch::Off => break,
                SpeedSearch::Auto if found.iter().any(|found| self.is_certain(found)) => {
                    break;
                }
                SpeedSearch::Auto | SpeedSearch::Full => {
                    self.run_pass(family, &query, &mut found)?;
                }
            }
        }
        Ok(distinct(found))
    }

    /// True if something that was found explains the window so well that nothing else is in it.
    fn is_all(&self, query: &QueryPeaks, found: &[Found]) -> Result<bool, MatchError> {
        for found in found.iter().filter(|found| self.is_certain(found)) {
            let window = fit::window(query, &found.candidate);
            let track = self.index.peaks(found.candidate.span.start, window)?.unwrap_or_default();
            if glance::explains(self.window, &track, found.alignment.mapping) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True if an alignment leaves neither a doubt about its speed and pitch nor room for another
    /// track.
    fn is_certain(&self, found: &Found) -> bool {
        let (Some(first), Some(last)) = (self.window.first(), self.window.last()) else {
            return true;
        };
        let window_ms = f64::from(last.time_ms - first.time_ms);
        found.alignment.score >= CERTAIN_SCORE_PER_S * window_ms / 1e3
            && found.alignment.covered_ms() >= window_ms - CERTAIN_GAP_MS
    }

    /// Adds what one pass finds to `found`.
    fn run_pass(
        &self,
        family: Family,
        query: &QueryPeaks,
        found: &mut Vec<Found>,
    ) -> Result<(), MatchError> {
        self.pass(family, Scope::WINDOW, 0.0, query, found)
    }

    /// The same for a part of the window's pairs, and candidates with this share of the votes of the best.
    fn pass(
        &self,
        family: Family,
        scope: Scope,
        least_share: f32,
        query: &QueryPeaks,
        found: &mut Vec<Found>,
    ) -> Result<(), MatchError> {
        let Self { index, timeline, window, params, .. } = *self;
        self.check_cancelled()?;
        let begun = Instant::now();
        let hits = hits::read_hits(index, timeline, window, family, scope, params)?;
        let read = Instant::now();
        // Each match that is asked for needs a candidate.
        let candidates_max = CANDIDATES_MAX.max(self.options.matches_max);
        let candidates =
            votes::find_candidates(&hits, timeline, window, family, candidates_max, least_share);
        let mut spent = self.spent.get();
        spent.lookup += read - begun;
        spent.vote += read.elapsed();
        self.spent.set(spent);
        self.verify(candidates, 1.0, query, found)
    }

    fn check_cancelled(&self) -> Result<(), MatchError> {
        if (self.is_cancelled)() { Err(MatchError::Cancelled) } else { Ok(()) }
    }

    /// Adds those candidates to `found` whose evidence is enough.
    fn verify(
        &self,
        candidates: Vec<Candidate>,
        continuity: f64,
        query: &QueryPeaks,
        found: &mut Vec<Found>,
    ) -> Result<(), MatchError> {
        let begun = Instant::now();
        let mut tracks = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            self.check_cancelled()?;
            let window = fit::window(query, &candidate);
            if let Some(track) = self.index.peaks(candidate.span.start, window)? {
                tracks.push((candidate, track));
            }
        }
        let fits = tracks.iter().enumerate().filter_map(|(rank, (candidate, track))| {
            Some((candidate, fit::fit(query, track, candidate, rank)?))
        });
        // Fitting is cheap, weighing is not.
        let mut fits: Vec<_> = fits.collect();
        fits.sort_by(|a, b| b.1.support.total_cmp(&a.1.support));
        fits.truncate(WEIGHED_MAX.max(self.options.matches_max));
        for (candidate, fitted) in &fits {
            self.check_cancelled()?;
            let alignment = evidence::weigh(query, fitted);
            if let Some(alignment) = alignment.filter(|a| a.score >= self.score_min) {
                let is_changed = candidate.family != Family::Unchanged;
                let fit_cost = if is_changed { FIT_COST } else { 0.0 };
                let weight = alignment.score * continuity - fit_cost;
                let candidate = (*candidate).clone();
                found.push(Found { candidate, alignment, weight, alternatives: Vec::new() });
            }
        }
        let mut spent = self.spent.get();
        spent.verify += begun.elapsed();
        self.spent.set(spent);
        Ok(())
    }
}

fn report(found: &Found, metadata: Metadata, odds: &Odds) -> Match {
    let Found { candidate, alignment, alternatives, .. } = found;
    let (score, mapping) = (alignment.score, alignment.mapping);
    let (start_ms, end_ms) = (alignment.start_ms(), alignment.end_ms());
    let gap = |pair: &[Segment]| Gap {
        query_start_s: pair[0].end_ms / 1e3,
        query_end_s: pair[1].start_ms / 1e3,
    };
    let mut alternatives: Vec<Alternative> = alternatives
        .iter()
        // One that holds for a part of the match only explains nothing.
        .filter(|other| other.covered_ms() >= alignment.covered_ms() / 2.0)
        .map(|other| Alternative {
            reference_start_s: other.first.to_track_ms(other.start_ms()) / 1e3,
            reference_end_s: other.latest.to_track_ms(other.end_ms()) / 1e3,
            score: other.score,
        })
        .collect();
    alternatives.sort_by(|a, b| b.score.total_cmp(&a.score));
    alternatives.truncate(ALTERNATIVES_MAX);
    Match {
        track_id: candidate.track_id.clone(),
        metadata,
        score,
        confidence: odds.confidence(score),
        e_value: odds.e_value(score),
        query_start_s: start_ms / 1e3,
        query_end_s: end_ms / 1e3,
        reference_start_s: alignment.first.to_track_ms(start_ms) / 1e3,
        reference_end_s: alignment.latest.to_track_ms(end_ms) / 1e3,
        reference_offset_s: mapping.to_track_ms(0.0) / 1e3,
        speed: mapping.ln_speed.exp(),
        pitch: mapping.ln_pitch.exp(),
        gaps: alignment.segments.windows(2).map(gap).collect(),
        alternatives,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_everything_and_overlap() {
        let peaks: Vec<_> =
            (0..600).map(|i| Peak { time_ms: i * 100, freq: 800, level: 1, rank: 0 }).collect();
        let spans: Vec<_> =
            windows(&peaks).map(|w| (w[0].time_ms, w[w.len() - 1].time_ms)).collect();
        assert_eq!(spans.first(), Some(&(0, 15_000)));
        assert_eq!(spans.last().map(|span| span.1), Some(59_900));
        assert!(spans.windows(2).all(|pair| pair[1].0 < pair[0].1));
        assert_eq!(windows(&peaks[..150]).count(), 1);
    }
}
