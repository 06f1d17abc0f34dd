//! A stream that goes on → events: which tracks begin, go on and end in it.
//!
//! Position in the flow: constellation, as it comes → **matches**, as they change. The pairs of each
//! second are looked up once (`recent.rs`), and every second what the last 12 s have found is counted
//! anew. Places that gather enough votes are verified against the last 15 s, as those of a clip are, and
//! so are the tracks that are being heard: a match lasts for as long as its track goes on, whatever the
//! votes. Changed recordings are searched for as in a clip, every 7.5 s in which no track is certain:
//! that costs ten times as much as all else, so the caller may put it off.
//!
//! All depends on the peaks and their times only: any chunking gives the same events.

mod event;
mod heard;
mod options;
mod quiet;
mod recent;

use std::cell::Cell;

use self::heard::{Heard, Telling};
use self::quiet::Quiet;
use self::recent::{Place, Recent};
use super::joining::{Found, distinct};
use super::odds::Odds;
use super::query_peaks::QueryPeaks;
use super::votes::Candidate;
use super::{
    CHANGES, CONTINUITY, MatchError, MatchOptions, Search, SpeedSearch, WINDOW_MS, WINDOW_STEP_MS,
};
use crate::index::{Index, Timeline};
use crate::params::Params;
use crate::peaks::Peak;

pub use self::event::{LiveEvent, LiveMatch, Stretch, StretchKind};
pub use self::options::{LiveOptions, Surroundings};

/// Time between two steps.
const STEP_MS: u32 = 1_000;
/// The same while nothing is known of a sound that has just begun, which lasts …
const EAGER_STEP_MS: u32 = 500;
/// … so long.
const EAGER_MS: u32 = 6_000;
/// Sound that is searched has lasted this long at least.
const SOUND_MIN_MS: u32 = 1_000;
/// Votes with which a place is verified at once.
const PROMISING_WEIGHT: f32 = 14.0;
/// Every so many steps the best few places are verified, however few votes they have, unless a track is
/// certain.
const THOROUGH_STEPS: u32 = 4;
/// While a track is certain, others are looked for every so many steps.
const CERTAIN_STEPS: u32 = 2;
/// Votes that such a place has at least.
const THOROUGH_WEIGHT: f32 = 5.0;
/// How many.
const THOROUGH_PLACES: usize = 4;
/// Most promising places of a step.
const PLACES_MAX: usize = 12;
/// A place that was verified is verified again after this time …
const VERIFIED_MS: u32 = 5_000;
/// … or when it has so many times the votes.
const MORE_WEIGHT: f32 = 1.3;
/// A track that goes on is verified from so long before its end, as known, on.
const GOING_ON_MS: u32 = 5_000;
/// Sound for which changed recordings are first searched for.
const CHANGED_AFTER_MS: u32 = 6_000;
/// Of a loss of audio so much is stepped through: longer than a window and any gap.
const SKIP_MAX_MS: u32 = 30_000;
/// Windows of an hour among which the false events of an hour are shared out. Windows overlap, so
/// more would count the same chance twice.
const WINDOWS_PER_HOUR: f64 = 240.0;

/// Follows one stream. Takes about 8 bytes for each posting of the last 12 s, and 12 KB for the peaks
/// of the last 15: 0.4 MB with 10,000 tracks.
#[derive(Debug)]
pub struct LiveMatcher {
    params: Params,
    options: LiveOptions,
    /// Of the last window and those that no step has come to, ascending.
    peaks: Vec<Peak>,
    recent: Recent,
    /// Nothing before this is known: where the stream, or what came after a loss, begins.
    from_ms: u32,
    /// Time of the last step, and how many there were.
    stepped_ms: u32,
    step_count: u32,
    quiet: Quiet,
    changed_at_ms: u32,
    put_off_at_ms: u32,
    put_off_count: u64,
    /// Since when what is stepped through was lost: there is no telling whether it is silent.
    lost_from_ms: Option<u32>,
    /// This step is the last one.
    is_last: bool,
    heard: Heard,
    /// Places that were verified lately, when, and with the votes that they had.
    verified: Vec<(u32, Place)>,
}

impl LiveMatcher {
    /// A matcher of a stream whose first peaks lie at `from_ms` or later.
    #[must_use]
    pub fn new(options: LiveOptions, params: &Params, from_ms: u32) -> Self {
        Self {
            params: *params,
            options,
            peaks: Vec::new(),
            recent: Recent::new(from_ms),
            from_ms,
            stepped_ms: from_ms,
            step_count: 0,
            quiet: Quiet::default(),
            changed_at_ms: from_ms,
            put_off_at_ms: from_ms,
            put_off_count: 0,
            lost_from_ms: None,
            is_last: false,
            heard: Heard::default(),
            verified: Vec::new(),
        }
    }

    /// Time up to which the stream has been searched, in ms.
    #[must_use]
    pub fn heard_ms(&self) -> u32 {
        self.stepped_ms
    }

    /// Matches that go on.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.heard.open().count()
    }

    /// Searches for changed recordings that were put off.
    #[must_use]
    pub fn put_off_count(&self) -> u64 {
        self.put_off_count
    }

    /// The matches that go on, as they are known now.
    #[must_use]
    pub fn open_matches(&self, index: &dyn Index) -> Vec<LiveMatch> {
        self.heard.reports(&self.odds(&index.timeline(), self.stepped_ms))
    }

    /// Memory of peaks and postings, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.recent.bytes() + self.peaks.capacity() * size_of::<Peak>()
    }

    /// Takes all peaks before `settled_ms` that were not taken before, ascending, and appends what they
    /// tell to `events`.
    ///
    /// # Errors
    ///
    /// [`MatchError`]; the stream may go on, but what happened in this second may be missed.
    pub fn push(
        &mut self,
        peaks: &[Peak],
        settled_ms: u32,
        around: Surroundings<'_>,
        events: &mut Vec<LiveEvent>,
    ) -> Result<(), MatchError> {
        self.peaks.extend_from_slice(peaks);
        loop {
            // At the end of what 32 bits can tell, the stream stands still.
            let now_ms = self.stepped_ms.checked_add(self.step_len_ms());
            let Some(now_ms) = now_ms.filter(|now_ms| *now_ms <= settled_ms) else {
                return Ok(());
            };
            self.stepped_ms = now_ms;
            self.step_count = self.step_count.wrapping_add(1);
            self.step(around, events)?;
        }
    }

    /// Searches what is left, and ends what goes on.
    ///
    /// # Errors
    ///
    /// [`MatchError`].
    pub fn finish(
        mut self,
        end_ms: u32,
        around: Surroundings<'_>,
        events: &mut Vec<LiveEvent>,
    ) -> Result<(), MatchError> {
        self.push(&[], end_ms, around, events)?;
        self.is_last = true;
        self.stepped_ms = self.stepped_ms.max(end_ms);
        self.step(around, events)?;
        let odds = self.odds(&around.index.timeline(), end_ms);
        let mut telling = Telling {
            index: around.index,
            odds: &odds,
            now_ms: end_ms,
            step: self.step_count,
            options: &self.options,
            events,
        };
        self.heard.end_all(&mut telling);
        self.quiet.end(end_ms, events);
        Ok(())
    }

    /// Goes on at `from_ms` after a loss of audio before it: what was heard up to the loss is
    /// searched, and matches go on if their tracks do.
    ///
    /// # Errors
    ///
    /// [`MatchError`].
    pub fn skip_to(
        &mut self,
        from_ms: u32,
        around: Surroundings<'_>,
        events: &mut Vec<LiveEvent>,
    ) -> Result<(), MatchError> {
        // Far enough for whatever was heard to end.
        let until_ms = from_ms.min(self.stepped_ms.saturating_add(SKIP_MAX_MS));
        self.lost_from_ms = Some(self.stepped_ms);
        let stepped = self.push(&[], until_ms, around, events);
        self.lost_from_ms = None;
        stepped?;
        self.stepped_ms = self.stepped_ms.max(from_ms);
        self.from_ms = from_ms;
        self.recent.restart(from_ms);
        self.quiet.forget_sound();
        Ok(())
    }

    fn step_len_ms(&self) -> u32 {
        if self.is_eager(self.stepped_ms) { EAGER_STEP_MS } else { STEP_MS }
    }

    /// True while a sound that has just begun is not recognised yet.
    fn is_eager(&self, now_ms: u32) -> bool {
        let is_fresh = self
            .quiet
            .sound_from_ms()
            .is_none_or(|since_ms| now_ms < since_ms.saturating_add(EAGER_MS));
        is_fresh && self.open_count() == 0
    }

    fn step(
        &mut self,
        around: Surroundings<'_>,
        events: &mut Vec<LiveEvent>,
    ) -> Result<(), MatchError> {
        let now_ms = self.stepped_ms;
        let from_ms = now_ms.saturating_sub(WINDOW_MS).max(self.from_ms);
        let passed = self.peaks.partition_point(|peak| peak.time_ms < from_ms);
        self.peaks.drain(..passed);
        self.quiet.listen(&self.peaks, now_ms, self.options.silence_db);
        let timeline = around.index.timeline();
        self.recent.trim(now_ms);
        self.look_up(now_ms, around, &timeline)?;
        let heard = self.peaks.partition_point(|peak| peak.time_ms < now_ms);
        // Borrowed for the search, which does not need the rest of the matcher.
        let peaks = std::mem::take(&mut self.peaks);
        let searched = self.search(&peaks[..heard], around, &timeline);
        self.peaks = peaks;
        let odds = self.odds(&timeline, now_ms);
        let mut telling = Telling {
            index: around.index,
            odds: &odds,
            now_ms,
            step: self.step_count,
            options: &self.options,
            events,
        };
        self.heard.take(searched?, &mut telling)?;
        self.heard.end_over(&mut telling);
        let (from_ms, lost_from_ms) = (self.from_ms, self.lost_from_ms);
        self.quiet.tell(now_ms, from_ms, lost_from_ms, &self.heard, events);
        Ok(())
    }

    /// Reads the postings of the anchors whose zone is over, and provisionally those of the others if
    /// there is nothing else yet.
    fn look_up(
        &mut self,
        now_ms: u32,
        around: Surroundings<'_>,
        timeline: &Timeline,
    ) -> Result<(), MatchError> {
        let complete_ms = now_ms.saturating_sub(self.params.zone_max_ms);
        let is_eager = self.is_eager(now_ms);
        // Whatever came already of the time behind must make no difference.
        let heard = self.peaks.partition_point(|peak| peak.time_ms < now_ms);
        let peaks = &self.peaks[..heard];
        let mut read = |until_ms, provisional| {
            self.recent.look_up(
                peaks,
                until_ms,
                is_eager,
                provisional,
                around.index,
                timeline,
                &self.params,
            )
        };
        read(complete_ms, false)?;
        if is_eager {
            read(now_ms, true)?;
        }
        Ok(())
    }

    fn odds(&self, timeline: &Timeline, now_ms: u32) -> Odds {
        let heard_ms = now_ms.saturating_sub(self.quiet.sound_from_ms().unwrap_or(self.from_ms));
        Odds::new(timeline.duration_s(), f64::from(heard_ms.min(WINDOW_MS)) / 1e3, 1)
    }

    /// Verifies what goes on and what may have begun, in `window`, which ends now.
    fn search(
        &mut self,
        window: &[Peak],
        around: Surroundings<'_>,
        timeline: &Timeline,
    ) -> Result<Vec<Found>, MatchError> {
        let now_ms = self.stepped_ms;
        // What is heard no more is followed to its end nevertheless.
        let sound_since_ms =
            self.quiet.sound_since_ms(now_ms).filter(|since_ms| now_ms - since_ms >= SOUND_MIN_MS);
        if window.is_empty() {
            return Ok(Vec::new());
        }
        let odds = self.odds(timeline, now_ms);
        let options = MatchOptions {
            confidence_min: self.options.confidence_min,
            speed_search: self.options.speed_search,
            ..MatchOptions::default()
        };
        let params = self.params;
        // Nobody asks what so short a search took.
        let spent = Cell::default();
        let mut search = Search {
            index: around.index,
            timeline,
            window,
            options: &options,
            params: &params,
            score_min: odds.score_min(self.options.false_events_max / WINDOWS_PER_HOUR),
            is_cancelled: around.is_cancelled,
            spent: &spent,
        };
        let (places, may_search_changes) = match sound_since_ms {
            None => (Vec::new(), false),
            Some(since_ms) => (self.places(timeline), self.may_search_changes(since_ms, around)),
        };
        // Whatever else is found must compete with all that goes on: music repeats itself.
        let is_new = !places.is_empty() || may_search_changes;
        let open = self.heard.due(
            self.step_count,
            now_ms,
            is_new || self.is_last,
            self.options.gap_max_ms,
        );
        if !is_new && open.is_empty() {
            return Ok(Vec::new());
        }
        // What only goes on needs no more than what is new, and some of what was before.
        let from_ms =
            if is_new { 0 } else { self.heard.least_end_ms().saturating_sub(GOING_ON_MS) };
        let first = window.partition_point(|peak| peak.time_ms < from_ms);
        search.window = &window[first..];
        let query = QueryPeaks::new(search.window);
        let mut found: Vec<Found> = Vec::new();
        for candidate in open {
            search.verify(vec![candidate], CONTINUITY, &query, &mut found)?;
        }
        let candidates: Vec<Candidate> = places.iter().map(Place::candidate).collect();
        search.verify(candidates, 1.0, &query, &mut found)?;
        self.verified.extend(places.into_iter().map(|place| (now_ms, place)));
        if may_search_changes {
            self.changed_at_ms = now_ms;
            for family in CHANGES {
                if options.speed_search == SpeedSearch::Auto
                    && found.iter().any(|found| search.is_certain(found))
                {
                    break;
                }
                search.run_pass(family, &query, &mut found)?;
            }
        }
        found.retain(|found| odds.confidence(found.alignment.score) >= self.options.confidence_min);
        Ok(distinct(found))
    }

    /// Whether it is time to search for changed recordings, and there is time for it.
    fn may_search_changes(&mut self, sound_since_ms: u32, around: Surroundings<'_>) -> bool {
        let now_ms = self.stepped_ms;
        let is_due = self.options.speed_search != SpeedSearch::Off
            && now_ms - sound_since_ms >= CHANGED_AFTER_MS
            && now_ms - self.changed_at_ms >= WINDOW_STEP_MS
            && (self.options.speed_search == SpeedSearch::Full
                || self.heard.certain(now_ms).next().is_none());
        if is_due && !(around.may_search_changes)() {
            if now_ms - self.put_off_at_ms >= WINDOW_STEP_MS {
                self.put_off_at_ms = now_ms;
                self.put_off_count += 1;
            }
            return false;
        }
        is_due
    }

    /// The places worth being verified now: promising ones, and now and then the best of the others.
    fn places(&mut self, timeline: &Timeline) -> Vec<Place> {
        let now_ms = self.stepped_ms;
        self.verified.retain(|(at_ms, _)| now_ms - at_ms < VERIFIED_MS);
        let is_certain = self.heard.certain(now_ms).next().is_some();
        if is_certain && !self.step_count.is_multiple_of(CERTAIN_STEPS) {
            return Vec::new();
        }
        let is_thorough = !is_certain && self.step_count.is_multiple_of(THOROUGH_STEPS);
        let weight_min = if is_thorough { THOROUGH_WEIGHT } else { PROMISING_WEIGHT };
        let known = self.open_count();
        let mut places = self.recent.places(timeline, weight_min, PLACES_MAX + known);
        // Music repeats itself: of a track that is certain another place must have more votes.
        let votes_of = |found: &Found| {
            let own = places.iter().filter(|place| place.is_of(found)).map(|place| place.weight);
            (found.candidate.span, own.fold(0.0, f32::max))
        };
        let certain: Vec<_> = self.heard.certain(now_ms).map(votes_of).collect();
        places.retain(|place| {
            let was_verified = self
                .verified
                .iter()
                .any(|(_, old)| old.is_same(place) && place.weight < MORE_WEIGHT * old.weight);
            let is_repeat =
                certain.iter().any(|(span, votes)| *span == place.span && place.weight <= *votes);
            !was_verified && !is_repeat && !self.heard.open().any(|found| place.is_of(found))
        });
        let promising = places.iter().take_while(|p| p.weight >= PROMISING_WEIGHT).count();
        places.truncate(promising.max(if is_thorough { THOROUGH_PLACES } else { 0 }));
        places
    }
}
