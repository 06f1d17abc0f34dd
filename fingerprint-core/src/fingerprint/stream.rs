//! Samples of a stream → peaks, as soon as they are settled, at the times of the stream.

use super::Fingerprinter;
use crate::params::{Params, Role};
use crate::peaks::Peak;
use crate::resample::RateError;

/// Fingerprints a stream that may have losses. Times are in milliseconds and count from a zero that the
/// caller chooses; they end at 2³² ms, which is 49 days.
#[derive(Debug)]
pub struct StreamFingerprinter {
    params: Params,
    fingerprinter: Fingerprinter,
    /// Time of the fingerprinter's first sample.
    from_ms: u32,
    /// Settled peaks that were not taken out, ascending.
    peaks: Vec<Peak>,
    settled_ms: u32,
}

impl StreamFingerprinter {
    /// A fingerprinter of a stream whose first sample is at `from_ms`.
    #[must_use]
    pub fn new(params: &Params, from_ms: u32) -> Self {
        Self {
            params: *params,
            fingerprinter: Fingerprinter::new(params, Role::Query),
            from_ms,
            peaks: Vec::new(),
            settled_ms: from_ms,
        }
    }

    /// Takes the next mono samples, see [`Fingerprinter::push`].
    ///
    /// # Errors
    ///
    /// [`RateError`]; nothing was taken then.
    pub fn push(&mut self, samples: &[f32], rate_hz: u32) -> Result<(), RateError> {
        self.fingerprinter.push(samples, rate_hz)?;
        let first = self.peaks.len();
        let settled_ms = self.fingerprinter.take_settled(&mut self.peaks);
        self.place(first);
        self.settled_ms = self.settled_ms.max(self.from_ms.saturating_add(settled_ms));
        Ok(())
    }

    /// Takes all peaks up to `until_ms` that were not taken before, ascending, in place of samples.
    pub fn push_peaks(&mut self, peaks: &[Peak], until_ms: u32) {
        self.peaks.extend_from_slice(peaks);
        self.settled_ms = self.settled_ms.max(until_ms);
    }

    /// Settles all that was taken: no sample follows it without a loss between.
    pub fn end(&mut self) {
        // One that has had no samples is as good as new; a new one plans its transforms anew.
        if self.fingerprinter.duration_s() <= 0.0 {
            return;
        }
        let fresh = Fingerprinter::new(&self.params, Role::Query);
        let ended = std::mem::replace(&mut self.fingerprinter, fresh).finish();
        let first = self.peaks.len();
        self.peaks.extend(ended.peaks);
        self.place(first);
        let duration_ms = u32::try_from(ended.duration_ms).unwrap_or(u32::MAX);
        self.settled_ms = self.settled_ms.max(self.from_ms.saturating_add(duration_ms));
    }

    /// What comes next begins at `from_ms`. What came before must have been settled by
    /// [`StreamFingerprinter::end`], and taken out.
    pub fn skip_to(&mut self, from_ms: u32) {
        self.from_ms = from_ms;
        self.settled_ms = from_ms;
    }

    /// Time before which all peaks are known.
    #[must_use]
    pub fn settled_ms(&self) -> u32 {
        self.settled_ms
    }

    /// The settled peaks that were not taken out yet.
    #[must_use]
    pub fn peaks(&self) -> &[Peak] {
        &self.peaks
    }

    /// Takes them out.
    pub fn clear_peaks(&mut self) {
        self.peaks.clear();
    }

    /// Moves the peaks from place `first` on from the fingerprinter's time to the stream's.
    fn place(&mut self, first: usize) {
        for peak in &mut self.peaks[first..] {
            peak.time_ms = peak.time_ms.saturating_add(self.from_ms);
        }
    }
}
