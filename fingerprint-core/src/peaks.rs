//! placeholder
use serde::{Deserialize, Serialize};

/// A spectrogram peak, quantised as it is stored and sent.
///
/// All later stages work on these quantised values, so that landmarks computed from a stored
/// constellation are bit for bit those computed when the track was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peak {
    /// Time of the peak in milliseconds since the first sample, interpolated between frames.
    pub time_ms: u32,
    /// Frequency in sixteenths of a bin ([`crate::params::FREQ_STEPS_PER_BIN`]), interpolated.
    pub freq: u16,
    /// Level in half decibels above −120 dB relative to a full-scale sine, 0 to 255.
    pub level: u8,
    /// Number of stronger peaks in the neighbourhood; 0 is strongest.
    pub rank: u8,
}
