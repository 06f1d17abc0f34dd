//! The hash of a landmark, and which hashes a query looks up for it.
//!
//! Position in the flow: landmarks → **keys** → postings. A [`Key`] says nothing about when the
//! landmark sounds; it is what two recordings of the same sound have in common.
//!
//! `docs/format.md` specifies the five fields, most significant first: zone of the anchor's frequency, ratio
//! of both frequencies, eighth of the zone, time difference, cell of the eighth; their widths are in
//! [`crate::params`]. Zone, ratio and eighth are the *shelf*, and with the time difference the *bucket*; the
//! postings of a bucket are sorted by cell. About 27.8 bits are in use: peaks are located to about a tenth
//! of a bin and of a frame, so cells may be far finer than the spectrogram's grid.
//!
//! The order is the point. What a query looks for is a rectangle of a shelf, some dt by some cells,
//! and neighbouring dt lie side by side, so a rectangle is one stretch of the index of which some
//! cells are left out. A plain search reads one or two such rectangles for a landmark. A change of
//! tempo keeps ratio and anchor: its rectangles are twenty dt long and a few cells wide. A change of
//! pitch keeps ratio and dt: one or two dt, all cells of seven shelves. A change of speed is a
//! staircase, of a rectangle in each of seven shelves. With the anchor's frequency undivided behind
//! dt, tempo and speed needed four times as many reads.
//!
//! Logarithms are taken once per frequency, in whole millionths ([`ln_freq`]); all cells follow by
//! integer arithmetic, so that a key never depends on the machine's rounding.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use crate::params::{
    BIN_HZ, FREQ_STEPS_PER_BIN, KEY_BASE_HZ, KEY_CELL_HEIGHT, KEY_DT_CELL_MS, KEY_RATIO_CELL_BINS,
    KEY_ZONE_HEIGHT,
};

/// Zones: the last one ends above 8 kHz, half the analysis rate.
const ZONE_COUNT: usize = 12;
const RATIO_BITS: u32 = 10;
const RATIO_BIAS: i32 = 1 << (RATIO_BITS - 1);
const EIGHTH_BITS: u32 = 3;
const DT_BITS: u32 = 7;

/// Number of buckets: every [`Key::bucket`] is below it.
pub const BUCKET_COUNT: u32 = 12 << (RATIO_BITS + EIGHTH_BITS + DT_BITS);

/// Number of cells in a bucket: every [`Key::cell`] is below it.
pub const CELL_COUNT: u16 = 35;

const _: () = assert!(BUCKET_COUNT as usize == ZONE_COUNT << (RATIO_BITS + EIGHTH_BITS + DT_BITS));
const _: () = assert!(KEY_ZONE_HEIGHT == (CELL_COUNT as i32 * KEY_CELL_HEIGHT) << EIGHTH_BITS);

/// The hash of a landmark; its order is the order of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Zone of the anchor's frequency, frequency ratio, eighth of the zone and time difference.
    pub bucket: u32,
    /// Cell of the anchor's frequency inside its eighth, below [`CELL_COUNT`].
    pub cell: u16,
}

/// A rectangle of keys: some cells of each of some neighbouring buckets, of one shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// See [`Key::bucket`]; both ends included.
    pub buckets: RangeInclusive<u32>,
    /// Cells, both ends included.
    pub cells: RangeInclusive<u16>,
}

impl KeyRange {
    /// All keys of a bucket.
    #[must_use]
    pub fn of_bucket(bucket: u32) -> Self {
        Self { buckets: bucket..=bucket, cells: 0..=CELL_COUNT - 1 }
    }

    /// True if `key` is in the rectangle.
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.buckets.contains(&key.bucket) && self.cells.contains(&key.cell)
    }
}

/// What may have happened to a recording on its way into a query. Each family of changes is one
/// pass of range reads over the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Nothing but damage: noise, codecs, equalisers.
    Unchanged,
    /// Other pitch at the same tempo.
    Pitch,
    /// Other speed, as of a turntable: pitch and tempo change together.
    Speed,
    /// Other tempo at the same pitch.
    Tempo,
}

/// Largest change of pitch, speed or tempo that is searched for, as a natural logarithm in
/// millionths: 15 % up, 13 % down. Beyond the two semitones (12 %) that are promised, because a
/// search that ended there would lose the landmarks that noise moved over its edge.
pub const REACH: i32 = 140_000;

/// What [`ln_speeds`] allows for the place of the anchor, in millionths: 0.4 bins at 400 Hz.
const SPEED_MARGIN: i32 = 4_000;

/// How far a query's peaks may lie from the track's, apart from the change that is searched for.
///
/// Measured at 274 hours: these tight values find more than wide ones, because chance votes cost
/// more than peaks lost at the edges of cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Anchor frequency, in steps of [`crate::peaks::Peak::freq`] to either side.
    pub freq_steps: u16,
    /// The neighbouring ratio cell is read too when the ratio lies within this share of a cell
    /// from it, in percent.
    pub ratio_edge_percent: i32,
    /// The neighbouring dt cell is read too when dt lies within this many ms of it.
    pub dt_edge_ms: u32,
}

impl Tolerance {
    /// A quarter of a bin and a tenth of a frame for what is unchanged; 0.4 bins and a fifth of a
    /// frame after a change, which smears peaks.
    #[must_use]
    pub fn of(family: Family) -> Self {
        match family {
            Family::Unchanged => Self { freq_steps: 4, ratio_edge_percent: 10, dt_edge_ms: 3 },
            _ => Self { freq_steps: 6, ratio_edge_percent: 25, dt_edge_ms: 6 },
        }
    }
}

/// Natural logarithm of a peak's frequency (in steps, as [`crate::peaks::Peak::freq`]) relative
/// to the base of the layout, in millionths. Zero steps give the value of one step.
#[must_use]
pub fn ln_freq(freq: u16) -> i32 {
    static TABLE: LazyLock<Vec<i32>> = LazyLock::new(|| {
        let step_hz = f64::from(BIN_HZ) / f64::from(FREQ_STEPS_PER_BIN);
        (0..=u16::MAX)
            .map(|f| millionths((f64::from(f.max(1)) * step_hz / KEY_BASE_HZ).ln()))
            .collect()
    });
    TABLE[usize::from(freq)]
}

/// Key of the landmark whose anchor lies at `anchor_freq` and whose target lies at `target_freq`
/// (both in steps of [`crate::peaks::Peak::freq`]), `dt_ms` milliseconds later. `None` if it
/// lies outside the layout: below 130 Hz, or too far apart.
#[must_use]
pub fn key(anchor_freq: u16, target_freq: u16, dt_ms: u32) -> Option<Key> {
    let anchor = ln_freq(anchor_freq);
    let zone = zone_of(anchor)?;
    let ratio = (ln_freq(target_freq) - anchor).div_euclid(ratio_cell_width(zone));
    let (eighth, cell) = eighth_of(cell_of(anchor - zone_start(zone)));
    Some(Key { bucket: bucket(zone, ratio, eighth, dt_ms / KEY_DT_CELL_MS)?, cell })
}

/// Appends the key ranges in which a search for that landmark, changed as `family` allows, has to
/// look. `ranges` is not cleared.
///
/// Unchanged needs one or two ranges. A change of pitch keeps ratio and dt, so it reads all cells of
/// the shelves around. A change of tempo reads the same cells of neighbouring buckets. A change of
/// speed ties the two together: each dt of the track fixes the factor, and so the anchor's frequency;
/// its ranges are the least that hold those, and [`ln_speeds`] tells what of them is meant.
pub fn probe(
    family: Family,
    anchor_freq: u16,
    target_freq: u16,
    dt_ms: u32,
    tolerance: &Tolerance,
    ranges: &mut Vec<KeyRange>,
) {
    let ratio = ln_freq(target_freq) - ln_freq(anchor_freq);
    let low = ln_freq(anchor_freq.saturating_sub(tolerance.freq_steps));
    let high = ln_freq(anchor_freq.saturating_add(tolerance.freq_steps));
    let dt_low = dt_ms.saturating_sub(tolerance.dt_edge_ms);
    let dt_high = dt_ms + tolerance.dt_edge_ms;
    let mut push = |anchors: RangeInclusive<i32>, dt_cells: &dyn Fn(i32, i32) -> [u32; 2]| {
        push_ranges(anchors, ratio, tolerance.ratio_edge_percent, dt_cells, ranges);
    };
    let same_dt = [dt_low / KEY_DT_CELL_MS, dt_high / KEY_DT_CELL_MS];
    match family {
        Family::Unchanged => push(low..=high, &|_, _| same_dt),
        Family::Pitch => push(low - REACH..=high + REACH, &|_, _| same_dt),
        Family::Tempo => {
            let reached = dt_cells_after(dt_low, dt_high, -REACH, REACH);
            push(low..=high, &|_, _| reached);
        }
        Family::Speed => push(low - REACH..=high + REACH, &|anchor_low, anchor_high| {
            // As many times as the query's anchor is above the track's, its dt is shorter.
            let slowest = (low - anchor_high).max(-REACH);
            let fastest = (high - anchor_low).min(REACH);
            dt_cells_after(dt_low, dt_high, slowest, fastest)
        }),
    }
}

/// The first and the last dt cell of tracks that lead to these time differences of a query when they
/// are played faster by one of these factors, as logarithms in millionths.
fn dt_cells_after(dt_low_ms: u32, dt_high_ms: u32, slowest: i32, fastest: i32) -> [u32; 2] {
    let factor = |ln: i32| (f64::from(ln) / 1e6).exp();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time difference is positive and below a second or so"
    )]
    let cell = |ms: f64| (ms as u32 / KEY_DT_CELL_MS).min((1 << DT_BITS) - 1);
    [cell(f64::from(dt_low_ms) * factor(slowest)), cell(f64::from(dt_high_ms) * factor(fastest))]
}

/// Natural logarithm of a time difference, in millionths. Zero gives the value of 1 ms.
fn ln_ms(ms: u32) -> i32 {
    const LEN: usize = 2_048;
    static TABLE: LazyLock<Vec<i32>> =
        LazyLock::new(|| (0..LEN).map(|ms| millionths((ms.max(1) as f64).ln())).collect());
    // Longer ones than a key can hold lead nowhere.
    TABLE[(ms as usize).min(LEN - 1)]
}

/// Logarithms, in millionths and cut to `reach`, of the smallest and the largest ratio between a
/// time difference in `dt_cell` and one of `dt_low_ms` to `dt_high_ms`.
fn ln_dt_ratios(dt_cell: u32, dt_low_ms: u32, dt_high_ms: u32, reach: i32) -> [i32; 2] {
    let ln =
        |track_ms: u32, query_ms: u32| (ln_ms(track_ms) - ln_ms(query_ms)).clamp(-reach, reach);
    let start_ms = dt_cell * KEY_DT_CELL_MS;
    [ln(start_ms, dt_high_ms), ln(start_ms + KEY_DT_CELL_MS, dt_low_ms)]
}

/// Logarithms, in millionths, of the smallest and the largest change of tempo that leads from a
/// track's landmark in `bucket` to a query's with this time difference. They are cut beyond
/// [`REACH`] only, so that the middle between them is not drawn inwards where it is near its end.
#[must_use]
pub fn ln_tempos(bucket: u32, dt_ms: u32, tolerance: &Tolerance) -> [i32; 2] {
    let dt_cell = bucket & ((1 << DT_BITS) - 1);
    let edge_ms = tolerance.dt_edge_ms;
    ln_dt_ratios(dt_cell, dt_ms.saturating_sub(edge_ms), dt_ms + edge_ms, REACH + REACH / 3)
}

/// Logarithms, in millionths, of the smallest and the largest change of speed that may lead from a
/// track's landmark with this dt to a query's with that time difference: what of a range for
/// [`Family::Speed`] is meant.
#[must_use]
pub fn ln_speeds(bucket: u32, dt_ms: u32, tolerance: &Tolerance) -> [i32; 2] {
    let dt_cell = bucket & ((1 << DT_BITS) - 1);
    let edge_ms = tolerance.dt_edge_ms;
    let [slowest, fastest] =
        ln_dt_ratios(dt_cell, dt_ms.saturating_sub(edge_ms), dt_ms + edge_ms, REACH);
    // As wide as the anchor's tolerance, and a cell, on either side.
    [slowest - SPEED_MARGIN, fastest + SPEED_MARGIN]
}

/// Logarithm of the anchor's frequency that a key stands for, as [`ln_freq`]: the centre of its
/// cell.
#[must_use]
pub fn ln_anchor(key: Key) -> i32 {
    let zone = (key.bucket >> (RATIO_BITS + EIGHTH_BITS + DT_BITS)) as usize;
    let eighth = key.bucket >> DT_BITS & ((1 << EIGHTH_BITS) - 1);
    let cell = eighth.cast_signed() * i32::from(CELL_COUNT) + i32::from(key.cell);
    zone_start(zone) + cell * KEY_CELL_HEIGHT + KEY_CELL_HEIGHT / 2
}

/// Number of slots: every [`slot_of`] is below it.
pub const SLOT_COUNT: u32 = BUCKET_COUNT >> EIGHTH_BITS;

/// The slot of a bucket: that of all eight buckets that differ in the eighth of the zone only. What is
/// counted by slot takes an eighth of the memory.
#[must_use]
pub fn slot_of(bucket: u32) -> u32 {
    let dt = bucket & ((1 << DT_BITS) - 1);
    bucket >> (EIGHTH_BITS + DT_BITS) << DT_BITS | dt
}

/// Appends the ranges of all shelves that hold this ratio and anchors in this stretch (as
/// [`ln_freq`]); `dt_cells` says the first and the last dt for the least and the greatest anchor of a
/// shelf.
fn push_ranges(
    anchors: RangeInclusive<i32>,
    ratio: i32,
    ratio_edge_percent: i32,
    dt_cells: &dyn Fn(i32, i32) -> [u32; 2],
    ranges: &mut Vec<KeyRange>,
) {
    let (low, high) = (*anchors.start(), *anchors.end());
    for zone in 0..ZONE_COUNT {
        let start = zone_start(zone);
        if high < start || low >= start + KEY_ZONE_HEIGHT {
            continue;
        }
        let first = eighth_of(cell_of((low - start).max(0)));
        let last = eighth_of(cell_of((high - start).min(KEY_ZONE_HEIGHT - 1)));
        let width = ratio_cell_width(zone);
        let edge = width * ratio_edge_percent / 100;
        for eighth in first.0..=last.0 {
            let cells = if eighth == first.0 { first.1 } else { 0 }..=if eighth == last.0 {
                last.1
            } else {
                CELL_COUNT - 1
            };
            let anchor = |cell: u16| {
                let cell = eighth.cast_signed() * i32::from(CELL_COUNT) + i32::from(cell);
                start + cell * KEY_CELL_HEIGHT
            };
            let [dt_low, dt_high] = dt_cells(anchor(*cells.start()), anchor(*cells.end() + 1));
            if dt_low > dt_high {
                continue;
            }
            for ratio_cell in (ratio - edge).div_euclid(width)..=(ratio + edge).div_euclid(width) {
                if let (Some(low), Some(high)) = (
                    bucket(zone, ratio_cell, eighth, dt_low),
                    bucket(zone, ratio_cell, eighth, dt_high.min((1 << DT_BITS) - 1)),
                ) {
                    ranges.push(KeyRange { buckets: low..=high, cells: cells.clone() });
                }
            }
        }
    }
}

fn zone_of(ln_freq: i32) -> Option<usize> {
    let zone = usize::try_from(ln_freq.div_euclid(KEY_ZONE_HEIGHT)).ok()?;
    (zone < ZONE_COUNT).then_some(zone)
}

fn zone_start(zone: usize) -> i32 {
    i32::try_from(zone).expect("zones are few") * KEY_ZONE_HEIGHT
}

/// Eighth of a cell of a zone, and its cell there.
fn eighth_of(cell: u16) -> (u32, u16) {
    (u32::from(cell / CELL_COUNT), cell % CELL_COUNT)
}

/// Cell of an offset from the start of a zone, which must lie inside the zone.
fn cell_of(offset: i32) -> u16 {
    u16::try_from(offset / KEY_CELL_HEIGHT).expect("the offset lies inside a zone")
}

/// Width of a ratio cell, in millionths: half a bin at the centre of the zone, because the
/// precision of a peak is constant in Hz although the invariant is a ratio.
fn ratio_cell_width(zone: usize) -> i32 {
    static WIDTHS: LazyLock<[i32; ZONE_COUNT]> = LazyLock::new(|| {
        std::array::from_fn(|zone| {
            let centre = f64::from(zone_start(zone) + KEY_ZONE_HEIGHT / 2) / 1e6;
            millionths(KEY_RATIO_CELL_BINS * f64::from(BIN_HZ) / (KEY_BASE_HZ * centre.exp()))
        })
    });
    WIDTHS[zone]
}

fn bucket(zone: usize, ratio_cell: i32, eighth: u32, dt_cell: u32) -> Option<u32> {
    let ratio = u32::try_from(ratio_cell + RATIO_BIAS).ok().filter(|r| *r < 1 << RATIO_BITS)?;
    let zone = u32::try_from(zone).expect("zones are few");
    let shelf = (zone << RATIO_BITS | ratio) << EIGHTH_BITS | eighth;
    (dt_cell < 1 << DT_BITS).then_some(shelf << DT_BITS | dt_cell)
}

#[expect(clippy::cast_possible_truncation, reason = "logarithms of audible frequencies are small")]
fn millionths(x: f64) -> i32 {
    (x * 1e6).round() as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frequency in steps of a sixteenth of a bin.
    fn steps(hz: f32) -> u16 {
        (hz / BIN_HZ * 16.0).round() as u16
    }

    /// Pins the layout: a change here makes every stored index unreadable and needs a new version.
    #[test]
    fn keys_of_format_version_2() {
        let zone_0 = key(steps(150.0), steps(250.0), 96).unwrap();
        assert_eq!(zone_0, Key { bucket: ((512 + 40) << 3 | 3) << 7 | 12, cell: 113 - 105 });
        let zone_6 = key(steps(1_200.0), steps(1_100.0), 807).unwrap();
        assert_eq!(zone_6, Key { bucket: ((6 << 10 | (512 - 57)) << 3 | 2) << 7 | 100, cell: 28 });
        assert_eq!(slot_of(zone_6.bucket), (6 << 10 | (512 - 57)) << 7 | 100);
        assert!(slot_of(BUCKET_COUNT - 1) == SLOT_COUNT - 1);
    }

    #[test]
    fn every_pair_in_the_band_and_zone_has_a_key() {
        for anchor in steps(150.0)..=steps(5_500.0) {
            for delta_hz in [-500.0_f32, -250.0, 0.0, 250.0, 500.0] {
                let target = f32::from(anchor) + delta_hz / BIN_HZ * 16.0;
                if (f32::from(steps(150.0))..=f32::from(steps(5_500.0))).contains(&target) {
                    let key = key(anchor, target as u16, 800).unwrap();
                    assert!(key.bucket < BUCKET_COUNT && key.cell < CELL_COUNT);
                }
            }
        }
    }

    #[test]
    fn outside_the_layout_there_is_no_key() {
        assert_eq!(key(steps(120.0), steps(200.0), 100), None);
        assert_eq!(key(steps(4_000.0), steps(1_000.0), 100), None);
        assert_eq!(key(steps(200.0), steps(300.0), 1_024), None);
        assert_eq!(key(0, 0, 0), None);
    }

    /// True if a search for the landmark `query` (anchor, target, dt) finds `stored`.
    fn is_covered(family: Family, stored: Key, (anchor, target, dt): (u16, u16, u32)) -> bool {
        let mut ranges = Vec::new();
        probe(family, anchor, target, dt, &Tolerance::of(family), &mut ranges);
        ranges.iter().any(|r| r.contains(stored))
    }

    proptest! {
        // What a query may be off by, the probe must cover; that is all a probe is for.
        #[test]
        fn probes_cover_the_tolerance(
            anchor in 620_u16..22_000, delta in -2_000_i32..2_000, dt in 30_u32..800,
            d_freq in -4_i32..=4, d_dt in -3_i32..=3,
        ) {
            let target = i32::from(anchor) + delta;
            prop_assume!((620..22_500).contains(&target));
            let stored = key(anchor, target as u16, dt).unwrap();
            // Both peaks move alike, so the ratio moves by far less than its tolerance only at
            // high frequencies; choose the target so that the ratio is kept as well as possible.
            let moved = (i32::from(anchor) + d_freq) as u16;
            let moved_target = (f64::from(target) * f64::from(moved) / f64::from(anchor)).round();
            let ratio_error = ln_freq(moved_target as u16) - ln_freq(moved)
                - (ln_freq(target as u16) - ln_freq(anchor));
            let zone = zone_of(ln_freq(anchor)).unwrap();
            prop_assume!(zone_of(ln_freq(moved)) == Some(zone));
            prop_assume!(ratio_error.abs() <= ratio_cell_width(zone) / 10);
            let query = (moved, moved_target as u16, dt.strict_add_signed(d_dt));
            prop_assert!(is_covered(Family::Unchanged, stored, query), "{stored:?}");
        }

        // A recording changed by a factor within reach is found by the pass for that change.
        #[test]
        fn probes_cover_the_reach(
            anchor in 800_u16..18_000, delta in -1_000_i32..1_000, dt in 60_u32..800,
            ln_factor in -0.13_f64..0.13,
        ) {
            let target = (i32::from(anchor) + delta) as u16;
            prop_assume!((800..18_000).contains(&target));
            let stored = key(anchor, target, dt).unwrap();
            let factor = ln_factor.exp();
            let scaled = |freq: u16| (f64::from(freq) * factor).round() as u16;
            let slower = (f64::from(dt) / factor).round() as u32;
            // Rounding to a sixteenth of a bin moves the ratio; in low zones by more than its edge.
            let ratio_error = (ln_freq(scaled(target)) - ln_freq(scaled(anchor)))
                - (ln_freq(target) - ln_freq(anchor));
            let zone = zone_of(ln_freq(anchor)).unwrap();
            prop_assume!(ratio_error.abs() <= ratio_cell_width(zone) / 4);
            let both = (scaled(anchor), scaled(target));
            prop_assert!(is_covered(Family::Pitch, stored, (both.0, both.1, dt)));
            prop_assert!(is_covered(Family::Speed, stored, (both.0, both.1, slower)));
            let [low, high] = ln_speeds(stored.bucket, slower, &Tolerance::of(Family::Speed));
            let ln_change = ln_freq(both.0) - ln_anchor(stored);
            prop_assert!((low..=high).contains(&ln_change), "{ln_change} {low} {high}");
            prop_assert!(is_covered(Family::Tempo, stored, (anchor, target, slower)));
            let [low, high] = ln_tempos(stored.bucket, slower, &Tolerance::of(Family::Tempo));
            prop_assert!((f64::from(low)..=f64::from(high)).contains(&(ln_factor * 1e6)));
            prop_assert!((ln_anchor(stored) - ln_freq(anchor)).abs() <= KEY_CELL_HEIGHT / 2 + 1);
        }
    }
}
