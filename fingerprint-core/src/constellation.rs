//! A constellation as bytes: how peaks are sent in a fingerprint, and were stored in indexes of format 1.
//!
//! `docs/format.md` specifies the bytes. Columns instead of rows, because each column has its own
//! statistics and a general compressor then finds them.

use crate::peaks::Peak;

/// Bytes that every peak takes at least, whatever its values.
const PEAK_BYTES_MIN: usize = 5;

/// Why bytes are not a constellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("constellation is damaged: {what}")]
pub struct ConstellationError {
    /// What is wrong.
    pub what: &'static str,
}

const fn damaged(what: &'static str) -> ConstellationError {
    ConstellationError { what }
}

/// Appends `peaks`, which must be ascending in time, to `bytes`.
///
/// # Panics
///
/// If `peaks` is not ascending or has 2³² peaks or more: neither happens to a constellation.
pub fn encode(peaks: &[Peak], bytes: &mut Vec<u8>) {
    let count = u32::try_from(peaks.len()).expect("a recording has fewer peaks than milliseconds");
    bytes.extend_from_slice(&count.to_be_bytes());
    let mut before = 0;
    for peak in peaks {
        let mut gap = peak.time_ms.checked_sub(before).expect("peaks ascend in time");
        before = peak.time_ms;
        while gap >= 0x80 {
            bytes.push(gap.to_le_bytes()[0] | 0x80);
            gap >>= 7;
        }
        bytes.push(gap.to_le_bytes()[0]);
    }
    bytes.extend(peaks.iter().map(|p| p.freq.to_be_bytes()[0]));
    bytes.extend(peaks.iter().map(|p| p.freq.to_be_bytes()[1]));
    bytes.extend(peaks.iter().map(|p| p.level));
    bytes.extend(peaks.iter().map(|p| p.rank));
}

/// Reads back what [`encode`] wrote; `bytes` may be hostile and must hold nothing else. Memory
/// is bounded by the length of `bytes`.
///
/// # Errors
///
/// [`ConstellationError`] if the bytes are not exactly one constellation in ascending order.
pub fn decode(bytes: &[u8]) -> Result<Vec<Peak>, ConstellationError> {
    let (count, mut rest) = bytes.split_first_chunk().ok_or(damaged("it has no peak count"))?;
    let count = u32::from_be_bytes(*count) as usize;
    if rest.len() / PEAK_BYTES_MIN < count {
        return Err(damaged("it is shorter than its peak count says"));
    }
    let mut times = Vec::with_capacity(count);
    let mut time_ms = 0_u32;
    for _ in 0..count {
        let gap = read_gap(&mut rest)?;
        time_ms = time_ms.checked_add(gap).ok_or(damaged("its times overflow"))?;
        times.push(time_ms);
    }
    if rest.len() != 4 * count {
        return Err(damaged("its length does not fit its peak count"));
    }
    let column = |i: usize| &rest[i * count..(i + 1) * count];
    let (high, low, levels, ranks) = (column(0), column(1), column(2), column(3));
    let peaks: Vec<_> = (0..count)
        .map(|i| Peak {
            time_ms: times[i],
            freq: u16::from_be_bytes([high[i], low[i]]),
            level: levels[i],
            rank: ranks[i],
        })
        .collect();
    if !peaks.is_sorted() {
        return Err(damaged("its peaks are not in ascending order"));
    }
    Ok(peaks)
}

fn read_gap(bytes: &mut &[u8]) -> Result<u32, ConstellationError> {
    let mut gap = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(damaged("it ends within its times"))?;
        *bytes = rest;
        gap |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(gap).map_err(|_| damaged("a time is out of range"));
        }
    }
    Err(damaged("a time is out of range"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_constellation() -> impl Strategy<Value = Vec<Peak>> {
        let peak = (any::<u32>(), any::<u16>(), any::<u8>(), any::<u8>())
            .prop_map(|(time_ms, freq, level, rank)| Peak { time_ms, freq, level, rank });
        proptest::collection::vec(peak, 0..50).prop_map(|mut peaks| {
            peaks.sort_unstable();
            peaks
        })
    }

    fn bytes_of(peaks: &[Peak]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(peaks, &mut bytes);
        bytes
    }

    #[test]
    fn bytes_of_version_1() {
        let peaks = [
            Peak { time_ms: 5, freq: 0x0102, level: 7, rank: 0 },
            Peak { time_ms: 305, freq: 0x0304, level: 8, rank: 1 },
        ];
        assert_eq!(bytes_of(&peaks), [0, 0, 0, 2, 5, 0xac, 2, 1, 3, 2, 4, 7, 8, 0, 1]);
        assert_eq!(bytes_of(&[]), [0, 0, 0, 0]);
    }

    #[test]
    fn unsorted_peaks_are_refused() {
        // Two peaks at the same time with descending frequencies.
        assert!(decode(&[0, 0, 0, 2, 5, 0, 2, 1, 0, 0, 7, 8, 0, 1]).is_err());
    }

    proptest! {
        #[test]
        fn round_trips(peaks in any_constellation()) {
            prop_assert_eq!(decode(&bytes_of(&peaks)).unwrap(), peaks);
        }

        #[test]
        fn a_wrong_length_is_refused(peaks in any_constellation(), cut in 1_usize..20) {
            let mut bytes = bytes_of(&peaks);
            bytes.push(0);
            prop_assert!(decode(&bytes).is_err());
            bytes.truncate(bytes.len().saturating_sub(1 + cut));
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
