//! The block: up to [`BLOCK_LEN`] ascending numbers in little more than their information content,
//! readable from the middle.
//!
//! Position in the flow: none; [`super::segment`] stores postings this way. A query wants some dozen
//! neighbouring postings of a block, so a block is cut into chunks, and in a chunk the first number
//! that is wanted is found by counting zeros, without decoding those before it.
//!
//! `docs/format.md` specifies the bytes: a table, then the chunks, each in an Elias-Fano code.
//!
//! Numbers that are spread evenly need k + 2 to k + 3 bits each. Gaps in a Rice code would need a
//! quarter of a bit less; but from those a search had to decode ten times what it wanted, which took a fifth of
//! its time.
//!
//! # Source
//!
//! P. Elias, "Efficient Storage and Retrieval by Content and Address of Static Files", Journal of
//! the ACM 21, 1974; R. Fano, "On the Number of Bits Required to Implement an Associative Memory",
//! MIT, 1971.

use super::bits::{self, BitWriter, WIDTH_MAX};
use super::varint::{read_varint, write_varint};

/// Most numbers in a block: about 2.8 KB of postings.
pub(super) const BLOCK_LEN: usize = 1_024;
/// Numbers in a chunk.
pub(super) const CHUNK_LEN: usize = 256;
const CHUNKS_MAX: usize = BLOCK_LEN / CHUNK_LEN;
/// No block is longer, so that no high part reaches 2¹⁹ bits.
const BLOCK_BYTES_MAX: usize = 1 << 16;

/// One chunk of an encoded block.
#[derive(Debug, Clone, Copy, Default)]
struct Chunk<'a> {
    first: u64,
    len: usize,
    width: u32,
    low: &'a [u8],
    high: &'a [u8],
}

/// An encoded block whose table has been read.
#[derive(Debug)]
pub(super) struct Block<'a> {
    chunks: [Chunk<'a>; CHUNKS_MAX],
    chunk_count: usize,
}

/// Encodes `values`, which must be strictly ascending, 1 to [`BLOCK_LEN`] of them.
pub(super) fn encode(values: &[u64]) -> Vec<u8> {
    debug_assert!(!values.is_empty() && values.len() <= BLOCK_LEN);
    let mut table = Vec::with_capacity(10 * CHUNKS_MAX);
    let mut body = Vec::with_capacity(4 * values.len());
    write_varint(&mut table, values.len() as u64);
    for (i, chunk) in values.chunks(CHUNK_LEN).enumerate() {
        if i > 0 {
            write_varint(&mut table, chunk[0] - values[(i - 1) * CHUNK_LEN]);
        }
        let rest: Vec<u64> = chunk[1..].iter().map(|value| value - chunk[0] - 1).collect();
        let width = best_width(&rest);
        table.push(width.to_le_bytes()[0]);
        bits::write_low(&rest, width, &mut body);
        let start = body.len();
        let mut high = BitWriter::new(&mut body);
        let mut before = 0;
        for x in &rest {
            high.write_unary((x >> width) - before);
            before = x >> width;
        }
        high.finish();
        write_varint(&mut table, (body.len() - start) as u64);
    }
    table.extend_from_slice(&body);
    table
}

/// The width of low parts with the shortest code.
fn best_width(rest: &[u64]) -> u32 {
    let Some(last) = rest.last() else { return 0 };
    let count = rest.len() as u64;
    let cost = |width: u32| count * u64::from(width) + (last >> width);
    let middle = (last / count).checked_ilog2().unwrap_or(0).min(WIDTH_MAX);
    (middle.saturating_sub(1)..=(middle + 1).min(WIDTH_MAX))
        .min_by_key(|width| cost(*width))
        .unwrap_or(middle)
}

impl<'a> Block<'a> {
    /// Reads the table of a block that begins with `first`; `bytes` may be damaged.
    pub(super) fn open(bytes: &'a [u8], first: u64) -> Option<Self> {
        let mut rest = bytes;
        let count = usize::try_from(read_varint(&mut rest)?).ok()?;
        if count == 0 || count > BLOCK_LEN || bytes.len() > BLOCK_BYTES_MAX {
            return None;
        }
        let chunk_count = count.div_ceil(CHUNK_LEN);
        let mut chunks = [Chunk::default(); CHUNKS_MAX];
        let mut high_bytes = [0; CHUNKS_MAX];
        let mut first = first;
        for (i, chunk) in chunks[..chunk_count].iter_mut().enumerate() {
            if i > 0 {
                first = first.checked_add(read_varint(&mut rest)?)?;
            }
            let (width, behind) = rest.split_first()?;
            rest = behind;
            high_bytes[i] = usize::try_from(read_varint(&mut rest)?).ok()?;
            let width = u32::from(*width);
            let len = CHUNK_LEN.min(count - i * CHUNK_LEN);
            if width > WIDTH_MAX {
                return None;
            }
            *chunk = Chunk { first, len, width, ..Chunk::default() };
        }
        for (chunk, high_bytes) in chunks[..chunk_count].iter_mut().zip(high_bytes) {
            let low_bytes = bits::byte_len(chunk.len - 1, chunk.width);
            (chunk.low, rest) = rest.split_at_checked(low_bytes)?;
            (chunk.high, rest) = rest.split_at_checked(high_bytes)?;
        }
        rest.is_empty().then_some(Self { chunks, chunk_count })
    }

    fn chunks(&self) -> &[Chunk<'a>] {
        &self.chunks[..self.chunk_count]
    }

    /// Calls `visit` with the numbers from `low` to `high`, ascending. `None` if the block turns out
    /// to be damaged.
    #[inline]
    pub(super) fn visit(&self, low: u64, high: u64, mut visit: impl FnMut(u64)) -> Option<()> {
        let start = self.chunks().partition_point(|chunk| chunk.first < low).saturating_sub(1);
        self.chunks()[start..]
            .iter()
            .take_while(|chunk| chunk.first <= high)
            .try_for_each(|chunk| chunk.visit(low, high, &mut visit))
    }

    /// Appends all numbers, which are strictly ascending. `None` if the block is damaged; some may
    /// have been appended then.
    pub(super) fn decode(&self, values: &mut Vec<u64>) -> Option<()> {
        let start = values.len();
        self.visit(0, u64::MAX, |value| values.push(value))?;
        let count = self.chunks().iter().map(|chunk| chunk.len).sum::<usize>();
        let decoded = &values[start..];
        (decoded.len() == count && decoded.is_sorted_by(|a, b| a < b)).then_some(())
    }
}

impl Chunk<'_> {
    #[inline]
    fn visit(&self, low: u64, high: u64, visit: &mut impl FnMut(u64)) -> Option<()> {
        let Self { first, len, width, .. } = *self;
        if (low..=high).contains(&first) {
            visit(first);
        }
        // In the numbers behind the first, as they are stored.
        let Some(last) = high.checked_sub(first).and_then(|x| x.checked_sub(1)) else {
            return Some(());
        };
        let wanted = low.saturating_sub(first).saturating_sub(1);
        // Each zero is a step of the high parts.
        let mut ones = bits::Ones::behind_zeros(self.high, wanted >> width);
        while let Some(bit) = ones.next_place() {
            let i = ones.count_before();
            if i + 1 >= len {
                return None;
            }
            let x = (bit - i as u64) << width | bits::read(self.low, i * width as usize, width);
            if x > last {
                return Some(());
            }
            if x >= wanted {
                visit(first.checked_add(x)?.checked_add(1)?);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_all(bytes: &[u8], first: u64) -> Option<Vec<u64>> {
        let mut values = Vec::new();
        Block::open(bytes, first)?.decode(&mut values)?;
        Some(values)
    }

    /// Numbers whose gaps are of very different sizes, as those of postings in and between keys.
    fn any_values() -> impl Strategy<Value = Vec<u64>> {
        let gap = (0_u32..50, any::<u64>()).prop_map(|(bits, x)| 1 + (x & ((1 << bits) - 1)));
        (0_u64..1 << 60, proptest::collection::vec(gap, 0..BLOCK_LEN)).prop_map(|(first, gaps)| {
            let mut values = vec![first];
            gaps.iter().for_each(|gap| values.push(values[values.len() - 1] + gap));
            values
        })
    }

    #[test]
    fn bytes_of_version_2() {
        // Behind the first, minus one: 4, 5, 15; with k = 2 their high parts are 1, 1, 3.
        let bytes = encode(&[10, 15, 16, 26]);
        // Low parts 00, 01, 11; high parts 01, 1, 001 (lowest bit first).
        assert_eq!(bytes, [4, 2, 1, 0b11_01_00, 0b10_0110]);
        assert_eq!(decode_all(&bytes, 10).unwrap(), [10, 15, 16, 26]);
        assert_eq!(encode(&[7]), [1, 0, 0]);
    }

    #[test]
    fn even_numbers_cost_little_more_than_they_must() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mean = f64::from(1 << 21);
        let mut values = vec![0_u64];
        for _ in 1..BLOCK_LEN {
            values.push(values[values.len() - 1] + 1 + (-mean * (1.0 - rng.f64()).ln()) as u64);
        }
        let bits = encode(&values).len() as f64 * 8.0 / BLOCK_LEN as f64;
        let entropy = (mean * std::f64::consts::E).log2();
        assert!(bits < entropy + 1.0, "{bits} bits for {entropy}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn blocks_round_trip(values in any_values(), low: u64, width: u64) {
            let bytes = encode(&values);
            prop_assert_eq!(decode_all(&bytes, values[0]).unwrap(), values.clone());
            let spread = values[values.len() - 1] - values[0] + 3;
            let low = (values[0] + low % spread).saturating_sub(1);
            let high = low + width % spread;
            let mut read = Vec::new();
            let block = Block::open(&bytes, values[0]).unwrap();
            block.visit(low, high, |value| read.push(value)).unwrap();
            let wanted = values.into_iter().filter(|value| (low..=high).contains(value));
            prop_assert_eq!(read, wanted.collect::<Vec<_>>());
        }

        #[test]
        fn damage_never_panics(values in any_values(), at: usize, byte: u8, cut: usize) {
            let mut bytes = encode(&values);
            let at = at % bytes.len();
            bytes[at] = byte;
            let first = values[0];
            if let Some(values) = decode_all(&bytes, first) {
                prop_assert!(values.is_sorted_by(|a, b| a < b));
            }
            let _ = Block::open(&bytes, first).map(|block| block.visit(values[0] + 5, values[0] + 5_000, |_| ()));
            let cut = cut % bytes.len();
            let _ = decode_all(&bytes[..cut], values[0]);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), first: u64) {
            let _ = decode_all(&bytes, first);
        }
    }
}
