//! placeholder
use crate::hash::Key;
use crate::params::Params;
use crate::peaks::Peak;

/// One landmark of a reference track, ready to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Landmark {
    /// Time-free hash of the pair.
    pub key: Key,
    /// Time of the anchor, in milliseconds since the first sample of the track.
    pub anchor_ms: u32,
}

/// The landmarks that are stored for a track, from its constellation.
#[must_use]
pub fn reference_landmarks(peaks: &[Peak], params: &Params) -> Vec<Landmark> {
    let _ = (peaks, params);
    Vec::new()
}
