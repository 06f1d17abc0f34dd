//! Every tunable of the fingerprint in one place: unit, default, reason.
//!
//! Position in the flow: none; read by every stage. The [digest](Params::digest) of these values
//! is stored in each index and in each encoded fingerprint, because hashes made with other
//! values mean something else.
//!
//! The defaults are measured ones: `ARCHITECTURE.md`, "Settled decisions", has the figures.

use std::collections::BTreeMap;

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

/// Height of a cell of the anchor's frequency, in millionths of ln f: a tenth of a bin at 300 Hz, a bin at 3 kHz.
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

/// The values of a [`Params`] and of this module by name: what an index keeps beside the digest, which
/// says only whether all are the same. Whole numbers and `f32` are exact in `f64`.
pub type Values = BTreeMap<String, f64>;

/// Values that must be the same for the peaks of a stored track to be those that this build would find,
/// but for [`NEIGHBOURHOOD_VALUE`].
/// The others decide only which of these peaks are kept, paired and looked up.
const PEAK_VALUES: [&str; 10] = [
    "sample_rate_hz",
    "frame_len",
    "hop_len",
    "time_step_len",
    "freq_steps_per_bin",
    "band_low_hz",
    "band_high_hz",
    "floor_db",
    "rank_bins",
    "rank_frames",
];
/// Peaks of higher ranks are left out, so less of it can be had from stored peaks, but not more.
const RANK_VALUE: &str = "reference_rank_max";
/// Of [`PEAK_VALUES`], one that may be smaller in the stored track.
const NEIGHBOURHOOD_VALUE: &str = "rank_bins";

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

    /// All values by name: those of this struct and the fixed ones of this module.
    #[must_use]
    pub fn values(&self) -> Values {
        // Whole, so that a new field stops the build here.
        let Self {
            band_low_hz,
            band_high_hz,
            floor_db,
            rank_bins,
            rank_frames,
            query_rank_max,
            reference_rank_max,
            landmark_rank_max,
            zone_min_ms,
            zone_max_ms,
            zone_hz,
            reference_fan_out,
        } = *self;
        let values = [
            ("sample_rate_hz", f64::from(SAMPLE_RATE_HZ)),
            ("frame_len", FRAME_LEN as f64),
            ("hop_len", HOP_LEN as f64),
            ("time_step_len", TIME_STEP_LEN as f64),
            ("freq_steps_per_bin", f64::from(FREQ_STEPS_PER_BIN)),
            ("key_base_hz", KEY_BASE_HZ),
            ("key_zone_height", f64::from(KEY_ZONE_HEIGHT)),
            ("key_cell_height", f64::from(KEY_CELL_HEIGHT)),
            ("key_ratio_cell_bins", KEY_RATIO_CELL_BINS),
            ("key_dt_cell_ms", f64::from(KEY_DT_CELL_MS)),
            ("band_low_hz", f64::from(band_low_hz)),
            ("band_high_hz", f64::from(band_high_hz)),
            ("floor_db", f64::from(floor_db)),
            ("rank_bins", f64::from(rank_bins)),
            ("rank_frames", f64::from(rank_frames)),
            ("query_rank_max", f64::from(query_rank_max)),
            ("reference_rank_max", f64::from(reference_rank_max)),
            ("landmark_rank_max", f64::from(landmark_rank_max)),
            ("zone_min_ms", f64::from(zone_min_ms)),
            ("zone_max_ms", f64::from(zone_max_ms)),
            ("zone_hz", f64::from(zone_hz)),
            ("reference_fan_out", f64::from(reference_fan_out)),
        ];
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Why tracks whose peaks were found with the values in `stored` cannot be had anew with these
    /// parameters from those peaks: one text for each value that stands in the way, as `rank_bins (96,
    /// here 60)`; none if they can.
    #[must_use]
    pub fn peaks_refused(&self, stored: &Values) -> Vec<String> {
        let wanted = self.values();
        let fits = |name: &str, there: f64, here: f64| {
            // Both were written, not computed.
            match name {
                RANK_VALUE => there >= here,
                // Ranked among fewer neighbours, a few percent more peaks are kept; the others are the
                // same.
                NEIGHBOURHOOD_VALUE => there <= here,
                _ => there.total_cmp(&here).is_eq(),
            }
        };
        let names = PEAK_VALUES.into_iter().chain([RANK_VALUE]);
        let refused = names.filter_map(|name| match (stored.get(name), wanted.get(name)) {
            (Some(there), Some(here)) if fits(name, *there, *here) => None,
            (Some(there), Some(here)) => Some(format!("{name} ({there}, here {here})")),
            _ => Some(format!("{name} (not known)")),
        });
        refused.collect()
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

    #[test]
    fn stored_peaks_serve_for_what_only_selects_and_pairs_them() {
        let default = Params::default();
        let refused = |params: Params| params.peaks_refused(&default.values());
        let none: [String; 0] = [];
        assert_eq!(refused(default), none);
        let paired =
            Params { zone_max_ms: 500, reference_fan_out: 3, query_rank_max: 9, ..default };
        assert_eq!(refused(paired), none);
        assert_eq!(refused(Params { reference_rank_max: 0, ..default }), none);
        let ranked = Params { reference_rank_max: 2, rank_bins: 60, ..default };
        assert_eq!(refused(ranked), ["rank_bins (96, here 60)", "reference_rank_max (1, here 2)"]);
        assert_eq!(refused(Params { rank_bins: 100, ..default }), none);
        assert_eq!(default.peaks_refused(&Values::new()).len(), PEAK_VALUES.len() + 1);
    }

    #[test]
    fn every_value_of_the_peaks_has_a_name() {
        let values = Params::default().values();
        assert!(PEAK_VALUES.iter().chain([&RANK_VALUE]).all(|name| values.contains_key(*name)));
    }
}
