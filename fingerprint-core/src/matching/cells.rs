//! How many votes lie near each other, about: a small table that finds the few among millions which
//! others support.

/// Diagonals in a coarse cell: a second.
const CELL_BINS: u64 = 8;
/// Votes in cells of [`CELL_BINS`] neighbouring bins, up to three in each: two bits a cell, so that all
/// of them fit into the processor's cache. Cells may collide.
pub(super) struct CellCounts {
    /// Four cells a byte.
    bytes: Vec<u8>,
    /// Bits of a hash that are not used.
    shift: u32,
}

impl CellCounts {
    /// With this many cells, or up to twice as many.
    pub(super) fn new(cell_count: usize) -> Self {
        let cells = cell_count.next_power_of_two().max(8);
        Self { bytes: vec![0; cells / 4], shift: u64::BITS - cells.trailing_zeros() }
    }

    /// Byte of a cell, and the place of its bits there.
    #[inline]
    fn place(&self, cell: u64) -> (usize, u32) {
        // Fibonacci hashing: the multiplier is 2⁶⁴ over the golden ratio.
        let hash = cell.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        let place = (hash / 4) as usize;
        (place, 2 * (hash % 4) as u32)
    }

    #[inline]
    pub(super) fn count(&mut self, bin: u64) {
        let (place, shift) = self.place(bin / CELL_BINS);
        let byte = &mut self.bytes[place];
        if *byte >> shift & 3 < 3 {
            *byte += 1 << shift;
        }
    }

    #[inline]
    fn of(&self, cell: u64) -> u8 {
        let (place, shift) = self.place(cell);
        self.bytes[place] >> shift & 3
    }

    /// True if two others may lie in the cell of a bin, or in the next one if the bin is beside it: true
    /// votes of two neighbouring bins may lie in two cells.
    #[inline]
    pub(super) fn supports(&self, bin: u64) -> bool {
        const SUPPORT_MIN: u8 = 3;
        let (cell, place) = (bin / CELL_BINS, bin % CELL_BINS);
        let own = self.of(cell);
        let nearer = match place {
            _ if own >= SUPPORT_MIN => return true,
            0 => cell - 1,
            place if place == CELL_BINS - 1 => cell + 1,
            _ => return false,
        };
        own + self.of(nearer) >= SUPPORT_MIN
    }
}
