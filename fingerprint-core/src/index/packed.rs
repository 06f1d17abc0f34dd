//! Ascending integers in little more than their information content, readable from the middle.
//!
//! Position in the flow: none; the rows of [`super::posting`] are stored this way. A bit is
//! addressed by its number; bit `i` is bit `i % 8` of byte `i / 8`.
//!
//! # Layout
//!
//! `n` ascending values below 2^u, n and u known to the reader:
//!
//! ```text
//! l = max(0, u − ⌈log2 n⌉)
//! low    n × l bits: the l low bits of each value
//! high   bit (value i >> l) + i is set for each i; ends with the last of them
//! ```
//!
//! and zero bits up to the end of the byte. That is at most l + 3 bits a value, while no code for
//! values spread evenly needs less than about l + 1.4. Varints of the gaps need 15 to 30 % more,
//! and to find a value in them is to decode all before it; here counting the zeros of `high`,
//! 56 at a time, does.
//!
//! # Source
//!
//! P. Elias, "Efficient Storage and Retrieval by Content and Address of Static Files", Journal
//! of the ACM 21, 1974; R. Fano, "On the Number of Bits Required to Implement an Associative
//! Memory", MIT, 1971. Without their select directories: our rows are short.

/// Bits that one load yields whatever the bit it starts at.
const LOAD_BITS: usize = 56;

/// Largest u: low bits are read by one load.
pub(super) const WIDTH_MAX: u32 = 56;

/// Packed values in memory that is not ours, checked to be well-formed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a> {
    bytes: &'a [u8],
    count: usize,
    low_width: usize,
    /// First bit of `high`.
    high_start: usize,
}

/// Appends `values`, which must ascend and be below 2^`width`, to `bytes`.
pub(super) fn pack(values: &[u64], width: u32, bytes: &mut Vec<u8>) {
    let Some(last) = values.last() else { return };
    assert!(width <= WIDTH_MAX && last >> width == 0, "a value does not fit {width} bits");
    let low_width = low_width(values.len(), width);
    let high_start = values.len() * low_width;
    let high_len = index(last >> low_width) + values.len();
    let start = bytes.len();
    bytes.resize(start + (high_start + high_len).div_ceil(8), 0);
    let packed = &mut bytes[start..];
    for (i, value) in values.iter().enumerate() {
        let low = value & ((1 << low_width) - 1);
        let bit = i * low_width;
        let shifted = (low << (bit % 8)).to_le_bytes();
        for (byte, part) in packed[bit / 8..].iter_mut().zip(shifted) {
            *byte |= part;
        }
        let bit = high_start + index(value >> low_width) + i;
        packed[bit / 8] |= 1 << (bit % 8);
    }
}

/// Low bits are chosen so that `high` has between one and two zeros a value.
fn low_width(count: usize, width: u32) -> usize {
    index(u64::from(width)).saturating_sub(index(u64::from(count.next_power_of_two().ilog2())))
}

/// The bits from `bit` on, at least [`LOAD_BITS`] of them; zeros behind the end.
fn load(bytes: &[u8], bit: usize) -> u64 {
    let at = bit / 8;
    let word = if let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        u64::from_le_bytes(*word)
    } else {
        let tail = bytes.get(at..).unwrap_or_default();
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        u64::from_le_bytes(word)
    };
    word >> (bit % 8)
}

/// Counts of bits and values come from lengths in memory, so they fit.
fn index(value: u64) -> usize {
    usize::try_from(value).expect("bit counts fit the address space")
}

impl<'a> Packed<'a> {
    /// Takes `bytes` for `count` values below 2^`width`, if they can be: the length must be that
    /// of `count` values, and none may reach 2^`width`. The order of values that share their high
    /// part is checked by reading them.
    pub(super) fn new(bytes: &'a [u8], count: u64, width: u32) -> Option<Self> {
        let count = usize::try_from(count).ok()?;
        if width > WIDTH_MAX || count > bytes.len().checked_mul(8)? {
            return None;
        }
        let low_width = low_width(count, width);
        let high_start = count.checked_mul(low_width)?;
        let Some(last) = bytes.last() else { return (count == 0).then(|| Self::empty()) };
        if *last == 0 {
            return None;
        }
        let end = bytes.len() * 8 - index(u64::from(last.leading_zeros()));
        let high_len = end.checked_sub(high_start)?;
        let set: usize = (0..high_len)
            .step_by(LOAD_BITS)
            .map(|bit| index(u64::from(mask(load(bytes, high_start + bit)).count_ones())))
            .sum();
        let high_max = (high_len.checked_sub(count)?) as u64;
        let fits =
            high_max >> (index(u64::from(width)) - low_width.min(index(u64::from(width)))) == 0;
        (set == count && fits).then_some(Self { bytes, count, low_width, high_start })
    }

    fn empty() -> Self {
        Self { bytes: &[], count: 0, low_width: 0, high_start: 0 }
    }

    /// Calls `visit` with each value of at least `from`, in order, until it returns false.
    /// `None` if the values do not ascend.
    pub(super) fn visit_from(&self, from: u64, mut visit: impl FnMut(u64) -> bool) -> Option<()> {
        let (mut bit, mut i) = self.skip_high(from >> self.low_width);
        let mut before = None;
        while i < self.count {
            let mut word = mask(load(self.bytes, self.high_start + bit));
            while word != 0 && i < self.count {
                let high = (bit + index(u64::from(word.trailing_zeros())) - i) as u64;
                let low = load(self.bytes, i * self.low_width) & ((1 << self.low_width) - 1);
                let value = high << self.low_width | low;
                if before.is_some_and(|before| before >= value) {
                    return None;
                }
                before = Some(value);
                if value >= from && !visit(value) {
                    return Some(());
                }
                word &= word - 1;
                i += 1;
            }
            bit += LOAD_BITS;
        }
        Some(())
    }

    /// The bit of `high` behind its `zeros`th zero, and the number of values before that bit.
    fn skip_high(&self, zeros: u64) -> (usize, usize) {
        let (mut bit, mut i, mut left) = (0, 0, zeros);
        while left > 0 && i < self.count {
            let word = mask(load(self.bytes, self.high_start + bit));
            let ones = word.count_ones();
            let passed = LOAD_BITS as u64 - u64::from(ones);
            if passed >= left {
                let mut gaps = mask(!word);
                for _ in 1..left {
                    gaps &= gaps - 1;
                }
                let step = index(u64::from(gaps.trailing_zeros())) + 1;
                return (bit + step, i + step - index(left));
            }
            left -= passed;
            i += index(u64::from(ones));
            bit += LOAD_BITS;
        }
        (bit, i)
    }
}

fn mask(word: u64) -> u64 {
    word & ((1 << LOAD_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], count: usize, width: u32, from: u64) -> Option<Vec<u64>> {
        let mut values = Vec::new();
        Packed::new(bytes, count as u64, width)?.visit_from(from, |value| {
            values.push(value);
            true
        })?;
        Some(values)
    }

    fn packed(values: &[u64], width: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(values, width, &mut bytes);
        bytes
    }

    #[test]
    fn bytes_of_version_1() {
        // l = 6 − 2 = 4. Low: 3, 0, 1, f. High parts 0, 1, 1, 3: bits 0, 2, 3 and 6.
        assert_eq!(packed(&[0x03, 0x10, 0x11, 0x3f], 6), [0x03, 0xf1, 0b0100_1101]);
        assert_eq!(packed(&[], 6), []);
        assert_eq!(packed(&[0], 0), [1]);
    }

    #[test]
    fn the_widest_values_survive() {
        let values = [0, 1, (1 << WIDTH_MAX) - 1];
        assert_eq!(read(&packed(&values, WIDTH_MAX), 3, WIDTH_MAX, 0).unwrap(), values);
    }

    #[test]
    fn dense_values_take_two_bits_each() {
        // As many values as there are numbers: no low bits at all.
        let values: Vec<u64> = (0..1024).collect();
        let bytes = packed(&values, 10);
        assert_eq!(bytes.len(), 1024 * 2 / 8);
        assert_eq!(read(&bytes, 1024, 10, 0).unwrap(), values);
    }

    #[test]
    fn values_out_of_order_are_refused() {
        // Two values with high part 0 and the low parts 3, 1.
        assert_eq!(read(&[0b0011_0111], 2, 3, 0), None);
        assert_eq!(read(&[0b0011_1101], 2, 3, 0), Some(vec![1, 3]));
    }

    fn any_values() -> impl Strategy<Value = (u32, Vec<u64>)> {
        // Counts straddle the powers of two and the 56 bits of a load.
        (1_u32..=40, 0_usize..200).prop_flat_map(|(width, count)| {
            proptest::collection::vec(0..1_u64 << width, count).prop_map(move |values| {
                (width, values.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
            })
        })
    }

    proptest! {
        #[test]
        fn reading_from_anywhere_gives_the_rest((width, values) in any_values(), at in any::<u64>()) {
            let from = at & ((1 << width) - 1);
            let rest: Vec<_> = values.iter().copied().filter(|value| *value >= from).collect();
            prop_assert_eq!(read(&packed(&values, width), values.len(), width, from), Some(rest));
        }

        #[test]
        fn a_wrong_count_or_length_is_refused((width, values) in any_values()) {
            prop_assume!(!values.is_empty());
            let mut bytes = packed(&values, width);
            prop_assert_eq!(read(&bytes, values.len() + 1, width, 0), None);
            bytes.push(0);
            prop_assert_eq!(read(&bytes, values.len(), width, 0), None);
            bytes.truncate(bytes.len() - 2);
            prop_assert_ne!(read(&bytes, values.len(), width, 0), Some(values));
        }

        #[test]
        fn garbage_stays_within_its_width(
            bytes in proptest::collection::vec(any::<u8>(), 0..60), count in 0_usize..200,
            width in 0_u32..=56, from in any::<u64>(),
        ) {
            let values = read(&bytes, count, width, from & ((1 << width) - 1)).unwrap_or_default();
            prop_assert!(values.iter().all(|value| value >> width == 0));
        }
    }
}
