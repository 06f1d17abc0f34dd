//! What the caller of a stream says: once, and at each step.

use crate::index::Index;
use crate::matching::SpeedSearch;

/// What the caller wants of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveOptions {
    /// Most false events that are put up with, per hour of sound (default 0.002, one in three weeks).
    pub false_events_max: f64,
    /// Least confidence of a match, 0 to 1 (default 0: all that
    /// [`LiveOptions::false_events_max`] lets through).
    pub confidence_min: f64,
    /// Whether recordings of changed speed, tempo or pitch are searched for (default auto).
    pub speed_search: SpeedSearch,
    /// Time between two updates of a match that only goes on, in ms (default 10 s).
    pub update_ms: u32,
    /// A track that is not heard for this long has ended, in ms (default 6 s); what is shorter is a
    /// gap. 2 to 12 s.
    pub gap_max_ms: u32,
    /// Sound without a peak of this level counts as silence, in dB relative to a full-scale sine
    /// (default −70).
    pub silence_db: f32,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            false_events_max: 2e-3,
            confidence_min: 0.0,
            speed_search: SpeedSearch::Auto,
            update_ms: 10_000,
            gap_max_ms: 6_000,
            silence_db: -70.0,
        }
    }
}

/// Where a stream is searched.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The catalog.
    pub index: &'a dyn Index,
    /// Asked when it is time to search for changed recordings, which costs as much as half a minute of
    /// all else. If the caller says no, the search is put off until it says yes.
    pub may_search_changes: &'a dyn Fn() -> bool,
    /// Asked before each candidate; once it says so, the search ends.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("index", &self.index).finish_non_exhaustive()
    }
}
