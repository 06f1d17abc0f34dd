//! Which AAC the built-in decoder may take: it knows the Low Complexity profile only.
//!
//! HE-AAC is an AAC-LC stream of half the sample rate plus spectral band replication (SBR), which
//! an LC decoder skips: it plays the lower half of the spectrum. Whether SBR is there is said in
//! three ways, of which symphonia 0.6 honours the first:
//!
//! 1. *explicit, hierarchical*: the AudioSpecificConfig has object type 5 or 29. symphonia refuses
//!    such a track;
//! 2. *explicit, backward compatible*: object type 2, followed by the extension 0x2b7. symphonia
//!    ignores the extension and decodes the lower half;
//! 3. *implicit*: not at all; the decoder finds SBR in the packets. The only kind there is in
//!    ADTS. symphonia decodes the lower half.
//!
//! Source: ISO/IEC 14496-3:2009, 1.6.2.1 (AudioSpecificConfig) and 1.6.5 (signalling of SBR).

/// Core sample rates up to this one may hide implicit SBR: it doubles the rate, and 48 kHz is the
/// highest that is used with it.
const IMPLICIT_RATE_MAX_HZ: u32 = 24_000;

/// What is known about SBR before any packet is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sbr {
    /// There is none: plain AAC-LC.
    Absent,
    /// The stream says that there is.
    Present,
    /// The rate is low enough, and nothing says either way.
    Possible,
}

/// Reads the signals in the AudioSpecificConfig (`None` for ADTS) of a core at `rate_hz`.
pub(super) fn sbr(config: Option<&[u8]>, rate_hz: Option<u32>) -> Sbr {
    match config.and_then(signalled) {
        Some(true) => Sbr::Present,
        Some(false) => Sbr::Absent,
        None if rate_hz.is_some_and(|rate_hz| rate_hz <= IMPLICIT_RATE_MAX_HZ) => Sbr::Possible,
        None => Sbr::Absent,
    }
}

/// What the configuration says about SBR, if it does.
fn signalled(config: &[u8]) -> Option<bool> {
    let mut bits = Bits { bytes: config, at: 0 };
    let object_type = bits.take(5)?;
    if matches!(object_type, 5 | 29) {
        return Some(true);
    }
    if bits.take(4)? == 15 {
        bits.take(24)?;
    }
    // Channels; then frame length, core coder and extension flags, all zero in plain AAC-LC.
    if object_type != 2 || bits.take(4)? == 0 || bits.take(3)? != 0 {
        return None;
    }
    if bits.take(11)? == 0x2b7 && bits.take(5)? == 5 { Some(bits.take(1)? == 1) } else { None }
}

/// Reads bits, the most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways_of_signalling() {
        // AAC-LC, 22.05 kHz (index 7), stereo: 00010 0111 0010 000.
        let plain = [0b0001_0011, 0b1001_0000];
        assert_eq!(sbr(Some(&plain), Some(22_050)), Sbr::Possible);
        assert_eq!(sbr(Some(&plain), Some(44_100)), Sbr::Absent);
        // The same with the extension, SBR present and absent: 01010110111 00101 1.
        assert_eq!(sbr(Some(&[plain[0], plain[1], 0x56, 0xe5, 0x80]), Some(22_050)), Sbr::Present);
        assert_eq!(sbr(Some(&[plain[0], plain[1], 0x56, 0xe5, 0x00]), Some(22_050)), Sbr::Absent);
        // Object type 5: 00101 0111 0010 ...
        assert_eq!(sbr(Some(&[0b0010_1011, 0b1001_0001, 0x08]), Some(22_050)), Sbr::Present);
        // ADTS has no configuration.
        assert_eq!(sbr(None, Some(24_000)), Sbr::Possible);
        assert_eq!(sbr(None, Some(32_000)), Sbr::Absent);
    }

    #[test]
    fn a_cut_off_configuration_says_nothing() {
        for len in 0..5 {
            let config = &[0b0001_0011, 0b1001_0000, 0x56, 0xe5, 0x80][..len];
            assert_eq!(sbr(Some(config), Some(22_050)), Sbr::Possible, "{len}");
        }
    }
}
