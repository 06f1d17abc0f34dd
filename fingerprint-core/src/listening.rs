//! Samples of a stream → events: a fingerprinter and a matcher in a row.
//!
//! Position in the flow: samples, as they come → … → **matches**, as they change. Beside
//! [`crate::fingerprint`] the one module that calls several stages in a row; whoever makes fingerprints
//! elsewhere hands peaks to it instead of samples.

use crate::fingerprint::StreamFingerprinter;
use crate::index::Index;
use crate::matching::MatchError;
use crate::matching::live::{LiveEvent, LiveMatch, LiveMatcher, LiveOptions, Surroundings};
use crate::params::Params;
use crate::peaks::Peak;
use crate::resample::RateError;

/// Follows a stream of samples or of peaks. Times are in milliseconds and count from a zero that the
/// caller chooses; they end at 2³² ms, which is 49 days.
///
/// ```
/// use fingerprint_core::index::MemoryIndex;
/// use fingerprint_core::listening::Listener;
/// use fingerprint_core::matching::live::{LiveOptions, Surroundings};
/// use fingerprint_core::params::Params;
///
/// let params = Params::default();
/// let index = MemoryIndex::new(&params);
/// let around =
///     Surroundings { index: &index, may_search_changes: &|| true, is_cancelled: &|| false };
/// let mut listener = Listener::new(LiveOptions::default(), &params, 0);
/// let mut events = Vec::new();
/// for packet in [[0.0; 16_000]; 5] {
///     listener.take_samples(&packet, 16_000)?;
///     listener.search(around, &mut events)?;
/// }
/// listener.finish(around, &mut events)?;
/// assert_eq!(events.len(), 2, "silence begins, and it ends with the stream: {events:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    stream: StreamFingerprinter,
    matcher: LiveMatcher,
}

impl Listener {
    /// A listener of a stream that begins at `from_ms`.
    #[must_use]
    pub fn new(options: LiveOptions, params: &Params, from_ms: u32) -> Self {
        Self {
            stream: StreamFingerprinter::new(params, from_ms),
            matcher: LiveMatcher::new(options, params, from_ms),
        }
    }

    /// Takes the next mono samples, see [`StreamFingerprinter::push`]. They are searched by
    /// [`Listener::search`].
    ///
    /// # Errors
    ///
    /// [`RateError`]; nothing was taken then.
    pub fn take_samples(&mut self, samples: &[f32], rate_hz: u32) -> Result<(), RateError> {
        self.stream.push(samples, rate_hz)
    }

    /// Takes all peaks up to `until_ms` that were not taken before, ascending, in place of samples.
    pub fn take_peaks(&mut self, peaks: &[Peak], until_ms: u32) {
        self.stream.push_peaks(peaks, until_ms);
    }

    /// Searches what was taken, and appends what became known to `events`.
    ///
    /// # Errors
    ///
    /// [`MatchError`]; the stream may go on.
    pub fn search(
        &mut self,
        around: Surroundings<'_>,
        events: &mut Vec<LiveEvent>,
    ) -> Result<(), MatchError> {
        let (peaks, settled_ms) = (self.stream.peaks(), self.stream.settled_ms());
        let searched = self.matcher.push(peaks, settled_ms, around, events);
        self.stream.clear_peaks();
        searched
    }

    /// Audio was lost: what comes next begins at `from_ms`. What came before is searched.
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
        self.stream.end();
        self.search(around, events)?;
        self.stream.skip_to(from_ms);
        self.matcher.skip_to(from_ms, around, events)
    }

    /// So much audio was lost behind what was taken, in milliseconds.
    ///
    /// # Errors
    ///
    /// [`MatchError`].
    pub fn skip(
        &mut self,
        lost_ms: u32,
        around: Surroundings<'_>,
        events: &mut Vec<LiveEvent>,
    ) -> Result<(), MatchError> {
        self.stream.end();
        self.skip_to(self.stream.settled_ms().saturating_add(lost_ms), around, events)
    }

    /// Ends the stream: searches the rest, and ends all matches.
    ///
    /// # Errors
    ///
    /// [`MatchError`].
    pub fn finish(
        mut self,
        around: Surroundings<'_>,
        events: &mut Vec<LiveEvent>,
    ) -> Result<(), MatchError> {
        self.stream.end();
        self.search(around, events)?;
        self.matcher.finish(self.stream.settled_ms(), around, events)
    }

    /// Up to where the stream has been searched, in ms.
    #[must_use]
    pub fn heard_ms(&self) -> u32 {
        self.matcher.heard_ms()
    }

    /// Matches that go on.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.matcher.open_count()
    }

    /// The matches that go on, as they are known now.
    #[must_use]
    pub fn open_matches(&self, index: &dyn Index) -> Vec<LiveMatch> {
        self.matcher.open_matches(index)
    }

    /// Searches for changed recordings that were put off.
    #[must_use]
    pub fn put_off_count(&self) -> u64 {
        self.matcher.put_off_count()
    }

    /// Memory of peaks and postings, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.matcher.bytes()
    }
}
