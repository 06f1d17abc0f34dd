//! The peaks of a track as the index keeps them: coarser than in a fingerprint, and readable from
//! the middle.
//!
//! Position in the flow: constellation → **stored peaks** → evidence. A search asks only for the
//! seconds of a track that may be in the query, so peaks are cut into pieces that are decoded one
//! by one.
//!
//! They are rounded to steps, which are coarser than peaks are located in clean audio (3 ms, a tenth of
//! a bin, half a dB), and finer than what damage leaves of them. As many damaged clips are found as
//! with peaks as they were measured. `docs/format.md` specifies the bytes: a table of the pieces, then
//! the pieces.

use std::ops::Range;

use super::bits::{self, BitWriter, UnaryReader, WIDTH_MAX};
use super::varint::{read_varint, write_varint};
use crate::peaks::Peak;

/// Peaks in a piece: about 6 s of music.
pub(super) const PIECE_LEN: usize = 256;
/// Milliseconds in a step of time.
const TIME_STEP: u32 = 4;
/// Steps of [`Peak::freq`] in one that is stored.
const FREQ_STEP: u16 = 4;
/// Steps of [`Peak::level`] in one that is stored.
const LEVEL_STEP: u8 = 4;
const FREQ_WIDTH_MAX: u32 = 15;
const LEVEL_WIDTH_MAX: u32 = 7;
const RANK_WIDTH_MAX: u32 = 8;
/// Bytes that a piece takes at least.
const PIECE_BYTES_MIN: usize = 8;

/// The peak as it is stored: what landmarks are made of and evidence is compared with.
pub(super) fn coarse(peak: Peak) -> Peak {
    // To the nearest, but not beyond what the field holds.
    let freq = peak.freq.saturating_add(FREQ_STEP / 2) / FREQ_STEP * FREQ_STEP;
    let level = peak.level.saturating_add(LEVEL_STEP / 2) / LEVEL_STEP * LEVEL_STEP;
    let time_ms = peak.time_ms.saturating_add(TIME_STEP / 2) / TIME_STEP * TIME_STEP;
    Peak { time_ms, freq, level, rank: peak.rank }
}

/// Encodes `peaks`, which must be [`coarse`] and ascending.
pub(super) fn encode(peaks: &[Peak]) -> Vec<u8> {
    let mut table = Vec::new();
    let mut body = Vec::with_capacity(4 * peaks.len());
    write_varint(&mut table, peaks.len() as u64);
    let mut before = 0;
    for piece in peaks.chunks(PIECE_LEN) {
        let times: Vec<u32> = piece.iter().map(|peak| peak.time_ms / TIME_STEP).collect();
        write_varint(&mut table, u64::from(times[0] - before));
        before = times[0];
        let gaps: Vec<u64> = times.windows(2).map(|pair| u64::from(pair[1] - pair[0])).collect();
        let width = bits::best_width(&gaps);
        table.push(width.to_le_bytes()[0]);
        bits::write_low(&gaps, width, &mut body);
        let start = body.len();
        bits::write_unary(&gaps, width, &mut body);
        write_varint(&mut table, (body.len() - start) as u64);

        let (low, width) = write_column(piece, |p| u64::from(p.freq / FREQ_STEP), &mut body);
        write_varint(&mut table, low);
        table.push(width);
        let (low, width) = write_column(piece, |p| u64::from(p.level / LEVEL_STEP), &mut body);
        table.extend([low.to_le_bytes()[0], width]);
        let width = width_of(piece.iter().map(|peak| u64::from(peak.rank)).max().unwrap_or(0));
        table.push(width.to_le_bytes()[0]);
        let mut ranks = BitWriter::new(&mut body);
        piece.iter().for_each(|peak| ranks.write(u64::from(peak.rank), width));
        ranks.finish();
    }
    table.extend_from_slice(&body);
    table
}

/// Appends what is above the lowest; says that and its width.
fn write_column(piece: &[Peak], value: impl Fn(&Peak) -> u64, body: &mut Vec<u8>) -> (u64, u8) {
    let low = piece.iter().map(&value).min().unwrap_or(0);
    let width = width_of(piece.iter().map(&value).max().unwrap_or(0) - low);
    let mut column = BitWriter::new(body);
    piece.iter().for_each(|peak| column.write(value(peak) - low, width));
    column.finish();
    (low, width.to_le_bytes()[0])
}

fn width_of(greatest: u64) -> u32 {
    u64::BITS - greatest.leading_zeros()
}

/// One piece as its table entry describes it.
struct Piece {
    len: usize,
    first: u32,
    gap_width: u32,
    unary_len: usize,
    freq: (u16, u32),
    level: (u8, u32),
    rank_width: u32,
}

impl Piece {
    fn read(rest: &mut &[u8], len: usize, before: u32) -> Option<Self> {
        let first = before.checked_add(u32::try_from(read_varint(rest)?).ok()?)?;
        let gap_width = width(rest, WIDTH_MAX)?;
        let unary_len = usize::try_from(read_varint(rest)?).ok()?;
        let freq = u16::try_from(read_varint(rest)?).ok()?;
        let freq = (freq, width(rest, FREQ_WIDTH_MAX)?);
        let level = (byte(rest)?, width(rest, LEVEL_WIDTH_MAX)?);
        let rank_width = width(rest, RANK_WIDTH_MAX)?;
        Some(Self { len, first, gap_width, unary_len, freq, level, rank_width })
    }

    /// Bytes of all its parts.
    fn byte_len(&self) -> Option<usize> {
        let fixed = bits::byte_len(self.len - 1, self.gap_width)
            // Each column ends at a byte.
            + bits::byte_len(self.len, self.freq.1)
            + bits::byte_len(self.len, self.level.1)
            + bits::byte_len(self.len, self.rank_width);
        fixed.checked_add(self.unary_len)
    }

    /// Appends its peaks that lie in `window`, in ms.
    fn decode(&self, bytes: &[u8], window: &Range<u32>, peaks: &mut Vec<Peak>) -> Option<()> {
        let (low, rest) = bytes.split_at_checked(bits::byte_len(self.len - 1, self.gap_width))?;
        let (unary, rest) = rest.split_at_checked(self.unary_len)?;
        let (freqs, rest) = rest.split_at_checked(bits::byte_len(self.len, self.freq.1))?;
        let (levels, ranks) = rest.split_at_checked(bits::byte_len(self.len, self.level.1))?;
        let mut unary = UnaryReader::new(unary);
        let mut steps = u64::from(self.first);
        for i in 0..self.len {
            if i > 0 {
                let high = unary.zeros()?;
                let low = bits::read(low, (i - 1) * self.gap_width as usize, self.gap_width);
                // A unary part is bounded by the row, so nothing is shifted out unless it is damaged.
                steps =
                    steps.checked_add(high.checked_mul(1 << self.gap_width)?.checked_add(low)?)?;
            }
            let time_ms = u32::try_from(steps.checked_mul(u64::from(TIME_STEP))?).ok()?;
            if time_ms >= window.end {
                break;
            }
            if time_ms >= window.start {
                let freq = bits::read(freqs, i * self.freq.1 as usize, self.freq.1);
                let level = bits::read(levels, i * self.level.1 as usize, self.level.1);
                let rank = bits::read(ranks, i * self.rank_width as usize, self.rank_width);
                let freq = u64::from(self.freq.0) + freq;
                let level = u64::from(self.level.0) + level;
                peaks.push(Peak {
                    time_ms,
                    freq: u16::try_from(freq * u64::from(FREQ_STEP)).ok()?,
                    level: u8::try_from(level * u64::from(LEVEL_STEP)).ok()?,
                    rank: u8::try_from(rank).ok()?,
                });
            }
        }
        Some(())
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, behind) = rest.split_first()?;
    *rest = behind;
    Some(*byte)
}

fn width(rest: &mut &[u8], max: u32) -> Option<u32> {
    Some(u32::from(byte(rest)?)).filter(|width| *width <= max)
}

/// The peaks in `window`, in milliseconds, ascending, from what [`encode`] wrote; `bytes` may be
/// damaged, which is noticed as far as they are read. Memory is bounded by their length.
pub(super) fn decode(bytes: &[u8], window: Range<u32>) -> Option<Vec<Peak>> {
    let mut rest = bytes;
    let count = usize::try_from(read_varint(&mut rest)?).ok()?;
    let piece_count = count.div_ceil(PIECE_LEN);
    if rest.len() / PIECE_BYTES_MIN < piece_count {
        return None;
    }
    let mut pieces = Vec::with_capacity(piece_count);
    let mut before = 0;
    for i in 0..piece_count {
        let piece = Piece::read(&mut rest, PIECE_LEN.min(count - i * PIECE_LEN), before)?;
        before = piece.first;
        pieces.push(piece);
    }
    let mut peaks = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        let (bytes, behind) = rest.split_at_checked(piece.byte_len()?)?;
        rest = behind;
        // The next piece begins where this one ends, or later.
        let is_before = pieces.get(i + 1).is_some_and(|next| {
            u64::from(next.first) * u64::from(TIME_STEP) < u64::from(window.start)
        });
        let is_behind = u64::from(piece.first) * u64::from(TIME_STEP) >= u64::from(window.end);
        if !is_before && !is_behind {
            piece.decode(bytes, &window, &mut peaks)?;
        }
    }
    (rest.is_empty() && peaks.is_sorted()).then_some(peaks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_peaks() -> impl Strategy<Value = Vec<Peak>> {
        let peak = (0_u32..200_000, any::<u16>(), any::<u8>(), any::<u8>())
            .prop_map(|(time_ms, freq, level, rank)| coarse(Peak { time_ms, freq, level, rank }));
        proptest::collection::vec(peak, 0..700).prop_map(|mut peaks| {
            peaks.sort_unstable();
            peaks
        })
    }

    #[test]
    fn bytes_of_version_2() {
        let peaks = [
            Peak { time_ms: 20, freq: 0x204, level: 12, rank: 0 },
            Peak { time_ms: 620, freq: 0x200, level: 16, rank: 1 },
        ];
        let expected = [2, 5, 6, 1, 0x80, 1, 1, 3, 1, 1, 22, 0b100, 0b01, 0b10, 0b10];
        assert_eq!(encode(&peaks), expected);
        assert_eq!(decode(&expected, 0..u32::MAX).unwrap(), peaks);
        assert_eq!(encode(&[]), [0]);
    }

    #[test]
    fn stored_peaks_are_near_the_measured_ones() {
        let peak = coarse(Peak { time_ms: 1_006, freq: 2_001, level: 91, rank: 1 });
        assert_eq!(peak, Peak { time_ms: 1_008, freq: 2_000, level: 92, rank: 1 });
        let highest = Peak { time_ms: u32::MAX, freq: u16::MAX, level: u8::MAX, rank: u8::MAX };
        assert_eq!(coarse(coarse(highest)), coarse(highest));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_window_is_read(peaks in any_peaks(), start in 0_u32..200_000, len in 0_u32..100_000) {
            let bytes = encode(&peaks);
            prop_assert_eq!(decode(&bytes, 0..u32::MAX).unwrap(), peaks.clone());
            let window = start..start + len;
            let wanted: Vec<_> = peaks.into_iter().filter(|p| window.contains(&p.time_ms)).collect();
            prop_assert_eq!(decode(&bytes, window).unwrap(), wanted);
        }

        #[test]
        fn damage_never_panics(peaks in any_peaks(), at: usize, byte: u8, cut: usize) {
            let mut bytes = encode(&peaks);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Some(peaks) = decode(&bytes, 0..u32::MAX) {
                prop_assert!(peaks.is_sorted());
            }
            let cut = cut % bytes.len();
            prop_assert_eq!(decode(&encode(&peaks)[..cut], 0..u32::MAX), None);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, 0..u32::MAX);
        }
    }
}
