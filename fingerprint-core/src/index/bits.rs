//! Bits in bytes, as blocks of postings and stored peaks use them.
//!
//! A Rice code is in two parts, low bits and unary, so that decoding is one shift and one search for the
//! next one a number. `docs/format.md` specifies both.
//!
//! Numbers that are spread exponentially, as gaps between random events are, need 0.03 to 0.1 bits
//! more than in any other code.
//!
//! # Source
//!
//! R. F. Rice, "Some Practical Universal Noiseless Coding Techniques", JPL Publication 79-22, 1979.

/// Widest low part: read by one load of eight bytes, whatever the bit it starts at.
pub(super) const WIDTH_MAX: u32 = 44;

/// Appends bits to bytes, lowest first.
pub(super) struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    word: u64,
    /// Bits in `word`, below 8 between calls.
    filled: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, word: 0, filled: 0 }
    }

    /// `value` must be below 2^`width`, and `width` at most [`WIDTH_MAX`].
    pub(super) fn write(&mut self, value: u64, width: u32) {
        debug_assert!(width <= WIDTH_MAX && value >> width == 0);
        self.word |= value << self.filled;
        self.filled += width;
        while self.filled >= 8 {
            self.bytes.push(self.word.to_le_bytes()[0]);
            self.word >>= 8;
            self.filled -= 8;
        }
    }

    /// `zeros` zeros, then a one.
    pub(super) fn write_unary(&mut self, zeros: u64) {
        for _ in 0..zeros / 32 {
            self.write(0, 32);
        }
        let rest = u32::try_from(zeros % 32).expect("below 32");
        self.write(1 << rest, rest + 1);
    }

    /// Fills the last byte up with zeros.
    pub(super) fn finish(self) {
        if self.filled > 0 {
            self.bytes.push(self.word.to_le_bytes()[0]);
        }
    }
}

/// The width of low parts with the shortest code of `numbers`.
pub(super) fn best_width(numbers: &[u64]) -> u32 {
    let count = numbers.len() as u128;
    if count == 0 {
        return 0;
    }
    let cost = |width: u32| {
        let unary: u128 = numbers.iter().map(|number| u128::from(number >> width)).sum();
        unary + count * u128::from(width + 1)
    };
    let mean = numbers.iter().copied().map(u128::from).sum::<u128>() / count;
    let middle = (u128::BITS - mean.leading_zeros()).min(WIDTH_MAX);
    // Clustered numbers need less than their mean says.
    (middle.saturating_sub(4)..=middle).min_by_key(|width| cost(*width)).unwrap_or(middle)
}

/// Appends the low part of the Rice code of `numbers`.
pub(super) fn write_low(numbers: &[u64], width: u32, bytes: &mut Vec<u8>) {
    let mut low = BitWriter::new(bytes);
    numbers.iter().for_each(|number| low.write(number & ((1 << width) - 1), width));
    low.finish();
}

/// Appends the unary part of the Rice code of `numbers`.
pub(super) fn write_unary(numbers: &[u64], width: u32, bytes: &mut Vec<u8>) {
    let mut unary = BitWriter::new(bytes);
    numbers.iter().for_each(|number| unary.write_unary(number >> width));
    unary.finish();
}

/// Length in bytes of a part with `count` fields of this width.
pub(super) fn byte_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// The field of `width` bits, at most [`WIDTH_MAX`], that begins at bit `at`; zeros behind the end.
#[inline]
pub(super) fn read(bytes: &[u8], at: usize, width: u32) -> u64 {
    load(bytes, at / 8) >> (at % 8) & ((1 << width) - 1)
}

/// Eight bytes from `at` on, the first lowest; zeros behind the end.
#[inline]
fn load(bytes: &[u8], at: usize) -> u64 {
    if let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        return u64::from_le_bytes(*eight);
    }
    let mut eight = [0; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    eight[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(eight)
}

/// The places of the ones of a part, one after the other.
pub(super) struct Ones<'a> {
    bytes: &'a [u8],
    /// Byte at which `word` begins.
    at: usize,
    /// Ones that are still to come in it.
    word: u64,
    /// Ones that have been told or stepped over.
    count: usize,
}

impl<'a> Ones<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, word: load(bytes, 0), count: 0 }
    }

    /// Steps over everything up to and with the `zeros`th zero.
    #[inline]
    pub(super) fn behind_zeros(bytes: &'a [u8], zeros: u64) -> Self {
        let mut left = zeros;
        let mut ones = Self::new(bytes);
        loop {
            let here = u64::from(ones.word.count_zeros());
            if here >= left {
                break;
            }
            left -= here;
            ones.count += ones.word.count_ones() as usize;
            ones.at += 8;
            if ones.at >= bytes.len() {
                ones.word = 0;
                return ones;
            }
            ones.word = load(bytes, ones.at);
        }
        if left > 0 {
            // The place behind the zero: first to within a byte, then bit by bit.
            let mut zeros = !ones.word;
            let mut place = 0;
            loop {
                let here = u64::from((zeros & 0xff).count_ones());
                if here >= left {
                    break;
                }
                left -= here;
                zeros >>= 8;
                place += 8;
            }
            for _ in 1..left {
                zeros &= zeros - 1;
            }
            place += zeros.trailing_zeros() + 1;
            let kept = u64::MAX.checked_shl(place).unwrap_or(0);
            ones.count += (ones.word & !kept).count_ones() as usize;
            ones.word &= kept;
        }
        ones
    }

    /// The place of the next one; `None` if there is no other.
    #[inline]
    pub(super) fn next_place(&mut self) -> Option<u64> {
        while self.word == 0 {
            self.at += 8;
            if self.at >= self.bytes.len() {
                return None;
            }
            self.word = load(self.bytes, self.at);
        }
        let place = 8 * self.at as u64 + u64::from(self.word.trailing_zeros());
        self.word &= self.word - 1;
        self.count += 1;
        Some(place)
    }

    /// How many ones come before the one that was told last.
    #[inline]
    pub(super) fn count_before(&self) -> usize {
        self.count - 1
    }
}

/// Counts the zeros before each one of a unary part.
pub(super) struct UnaryReader<'a> {
    ones: Ones<'a>,
    /// Place behind the last one.
    behind: u64,
}

impl<'a> UnaryReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { ones: Ones::new(bytes), behind: 0 }
    }

    /// Zeros before the next one, fewer than the part has bits; `None` if there is no other one.
    #[inline]
    pub(super) fn zeros(&mut self) -> Option<u64> {
        let place = self.ones.next_place()?;
        let zeros = place - self.behind;
        self.behind = place + 1;
        Some(zeros)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn zeros_are_stepped_over(bytes in proptest::collection::vec(any::<u8>(), 0..40), zeros in 0_u64..300) {
            let bit = |i: usize| bytes[i / 8] >> (i % 8) & 1;
            let mut start = 0;
            let mut left = zeros;
            while left > 0 && start < 8 * bytes.len() {
                left -= u64::from(bit(start) == 0);
                start += 1;
            }
            let places: Vec<_> = (start..8 * bytes.len()).filter(|i| bit(*i) == 1).collect();
            let before = (0..start).filter(|i| bit(*i) == 1).count();
            let mut ones = Ones::behind_zeros(&bytes, zeros);
            for (i, place) in places.into_iter().enumerate() {
                prop_assert_eq!(ones.next_place(), Some(place as u64));
                prop_assert_eq!(ones.count_before(), before + i);
            }
            prop_assert_eq!(ones.next_place(), None);
        }

        #[test]
        fn rice_codes_round_trip(numbers in proptest::collection::vec(0_u64..1 << 46, 0..300)) {
            let width = best_width(&numbers);
            let (mut low, mut unary) = (Vec::new(), Vec::new());
            write_low(&numbers, width, &mut low);
            write_unary(&numbers, width, &mut unary);
            prop_assert_eq!(low.len(), byte_len(numbers.len(), width));
            let mut zeros = UnaryReader::new(&unary);
            for (i, number) in numbers.iter().enumerate() {
                let high = zeros.zeros().unwrap();
                prop_assert_eq!(high << width | read(&low, i * width as usize, width), *number);
            }
            prop_assert_eq!(zeros.zeros(), None);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), at in 0_usize..400) {
            let _ = read(&bytes, at, WIDTH_MAX);
            let mut zeros = UnaryReader::new(&bytes);
            while let Some(zeros) = zeros.zeros() {
                prop_assert!(zeros < 8 * bytes.len() as u64);
            }
        }
    }
}
