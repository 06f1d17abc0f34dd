//! Every tunable of the fingerprint in one place: unit, default, reason.
//!
//! Position in the flow: none; read by every stage. The [digest](Params::digest) of these values
//! is stored in each index and in each encoded fingerprint, because hashes made with other
//! values mean something else.
//!
//! The defaults are measured ones: `ARCHITECTURE.md`, "Settled decisions", has the figures.

/// The one analysis rate, in Hz; every input is resampled to it.
///
/// 8 kHz would do for recognition (frequencies above 3.9 kHz won no query), 16 kHz keeps the band
/// up to 5.5 kHz for noisy ones.
pub const SAMPLE_RATE_HZ: u32 = 16_000;

/// Lowest sample rate that is accepted, in Hz.
pub const RATE_MIN_HZ: u32 = 1_000;
/// Highest sample rate that is accepted, in Hz.
pub const RATE_MAX_HZ: u32 = 768_000;

/// Length of a frame in samples (256 ms). Long windows resolve partials: 256 ms found more
/// damaged clips than 64, 128 or 512 ms.
pub const FRAME_LEN: usize = 4096;

/// Step from one frame to the next, in samples (32 ms).
pub const HOP_LEN: usize = 512;

/// The unit in which peak times are stored, in samples: one millisecond.
pub const TIME_STEP_LEN: usize = 16;

/// Steps of [`crate::peaks::Peak::freq`] in one bin of [`BIN_HZ`] Hz.
pub const FREQ_STEPS_PER_BIN: u32 = 16;

/// Width of a bin in Hz.
pub const BIN_HZ: f32 = 3.906_25;

const _: () = assert!(SAMPLE_RATE_HZ as usize / TIME_STEP_LEN == 1000);
const _: () = assert!(BIN_HZ * FRAME_LEN as f32 == SAMPLE_RATE_HZ as f32);

/// Frequency at which zone 0 of the key begins, in Hz; below the band of peaks.
pub const KEY_BASE_HZ: f64 = 130.0;

/// Height of a zone of the key, in millionths of ln f: a fourth or so, over which a cell of the
/// ratio may keep one width.
pub const KEY_ZONE_HEIGHT: i32 = 350_000;

/// Height of a cell of the anchor's frequency, in millionths of ln f: a tenth of a bin at 3 kHz.
pub const KEY_CELL_HEIGHT: i32 = 1_250;

/// Width of a cell of the frequency ratio, in bins at the zone's centre.
pub const KEY_RATIO_CELL_BINS: f64 = 0.5;

/// Width of a cell of the time difference, in ms: a quarter of a frame's step.
pub const KEY_DT_CELL_MS: u32 = 8;

/// What can be tuned without changing the layout of stored data. [`Params::default`] is what
/// Earmark uses; other values are for experiments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// Lowest frequency of a peak, in Hz (default 150). Below lie hum and rumble.
    pub band_low_hz: f32,
    /// Highest frequency of a peak, in Hz (default 5,500): what most lossy codecs keep.
    pub band_high_hz: f32,
    /// Weakest peak, in dB relative to a full-scale sine (default −100): above the noise of
    /// 16-bit dither, so that quiet recordings keep their peaks. The rank does the selection.
    pub floor_db: f32,
    /// Half height of the neighbourhood in which a peak is ranked, in bins (default 96 = 375 Hz).
    pub rank_bins: u16,
    /// Half width of that neighbourhood, in frames (default 5 = 160 ms).
    pub rank_frames: u16,
    /// Highest rank kept of a query (default 5, about 92 peaks a second). The rank of a peak
    /// is the number of stronger peaks in its neighbourhood; 0 is the usual local maximum filter.
    pub query_rank_max: u8,
    /// Highest rank stored with a track (default 1, about 41 a second). With rank 2, half as many
    /// peaks more, no more damaged clips were found.
    pub reference_rank_max: u8,
    /// Highest rank of a peak that takes part in landmarks (default 1, about 41 a second).
    pub landmark_rank_max: u8,
    /// Smallest distance in time between anchor and target, in ms (default 30).
    pub zone_min_ms: u32,
    /// Largest distance in time between anchor and target, in ms (default 800).
    pub zone_max_ms: u32,
    /// Largest distance in frequency between anchor and target, in Hz (default 500).
    pub zone_hz: f32,
    /// Landmarks stored for an anchor of rank 0 of a track: its strongest targets (default 2). For
    /// each higher rank of the anchor one less, but one at least: 61 landmarks a second in all. A
    /// query uses all targets, so that one lost peak costs little.
    pub reference_fan_out: u8,
}

/// What a fingerprint is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To be stored: sparse, so that the catalog stays small.
    Track,
    /// To be searched for: dense, so that what damage took away costs little.
    Query,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            band_low_hz: 150.0,
            band_high_hz: 5_500.0,
            floor_db: -100.0,
            rank_bins: 96,
            rank_frames: 5,
            query_rank_max: 5,
            reference_rank_max: 1,
            landmark_rank_max: 1,
            zone_min_ms: 30,
            zone_max_ms: 800,
            zone_hz: 500.0,
            reference_fan_out: 2,
        }
    }
}

impl Params {
    /// Highest rank of a peak in a fingerprint of this role.
    #[must_use]
    pub fn rank_max(&self, role: Role) -> u8 {
        match role {
            Role::Track => self.reference_rank_max,
            Role::Query => self.query_rank_max,
        }
    }

    /// First eight bytes of the BLAKE3 hash of all values of this module. Builds with different
    /// digests must not share an index; the reverse also needs the same code.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let analysis = (SAMPLE_RATE_HZ, FRAME_LEN, HOP_LEN, TIME_STEP_LEN, FREQ_STEPS_PER_BIN);
        let zones = (KEY_BASE_HZ, KEY_ZONE_HEIGHT);
        let cells = (KEY_RATIO_CELL_BINS, KEY_DT_CELL_MS, KEY_CELL_HEIGHT);
        let text = format!("earmark fingerprint 1; {analysis:?}; {zones:?}; {cells:?}; {self:?}");
        let bytes = blake3::hash(text.as_bytes());
        u64::from_be_bytes(bytes.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_follows_every_value() {
        let default = Params::default();
        assert_eq!(default.digest(), Params::default().digest());
        assert_ne!(default.digest(), Params { floor_db: -60.0, ..default }.digest());
        assert_ne!(default.digest(), Params { reference_fan_out: 3, ..default }.digest());
    }
}
