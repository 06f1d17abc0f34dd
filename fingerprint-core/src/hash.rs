//! placeholder
use std::ops::RangeInclusive;

/// Name of the layout.
pub(crate) const LAYOUT: &str = "zone 0.35";

/// Number of buckets: every [`Key::bucket`] is below it.
pub const BUCKET_COUNT: u32 = 1 << 21;

/// Number of cells in a bucket: every [`Key::cell`] is below it.
pub const CELL_COUNT: u16 = 280;

/// The hash of a landmark: a bucket (zone of the anchor's frequency, frequency ratio, time
/// difference) and the cell of the anchor's frequency inside its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The more significant fields; one posting list on disk.
    pub bucket: u32,
    /// The least significant field; postings inside a list are sorted by it.
    pub cell: u16,
}

/// Contiguous keys: some cells of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// See [`Key::bucket`].
    pub bucket: u32,
    /// Cells, both ends included.
    pub cells: RangeInclusive<u16>,
}
