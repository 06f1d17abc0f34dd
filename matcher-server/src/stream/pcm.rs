//! Bytes of PCM → mono samples.

use bytes::{Buf, Bytes};
use earmark_proto::v1;
use earmark_proto::v1::pcm_format::Encoding;
use fingerprint_core::params::{RATE_MAX_HZ, RATE_MIN_HZ, SAMPLE_RATE_HZ};
use tonic::Status;

use super::order::Piece;

use crate::reason::Reason;

/// Longest packet, in seconds.
const PACKET_S_MAX: usize = 10;
/// Resampling takes blocks of the rate over what it has in common with the analysis rate: 441 at 44.1
/// kHz, 3 at 48. Rates without much in common would take tens of MB for each stream.
const RATIO_MAX: u32 = 8_192;
/// Most channels of a stream.
const CHANNELS_MAX: u32 = 8;

/// How samples are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// Samples of one channel in a second.
    pub(crate) rate_hz: u32,
    channel_count: usize,
    encoding: Encoding,
}

impl Format {
    /// Checks what a client says.
    pub(crate) fn new(format: v1::PcmFormat) -> Result<Self, Status> {
        let v1::PcmFormat { sample_rate_hz: rate_hz, channel_count, .. } = format;
        if !(RATE_MIN_HZ..=RATE_MAX_HZ).contains(&rate_hz) {
            let text = format!(
                "header.pcm.sample_rate_hz is {rate_hz}, it must be {RATE_MIN_HZ} to {RATE_MAX_HZ}"
            );
            return Err(Reason::ArgumentInvalid.status(text));
        }
        if rate_hz / gcd(rate_hz, SAMPLE_RATE_HZ) > RATIO_MAX {
            let text = format!(
                "header.pcm.sample_rate_hz is {rate_hz}, which has too little in common with {SAMPLE_RATE_HZ} Hz; resample to a usual rate"
            );
            return Err(Reason::ArgumentInvalid.status(text));
        }
        if channel_count > CHANNELS_MAX {
            let text = format!(
                "header.pcm.channel_count is {channel_count}, at most {CHANNELS_MAX} are taken; mix some"
            );
            return Err(Reason::ArgumentInvalid.status(text));
        }
        let encoding = match Encoding::try_from(format.encoding) {
            Ok(Encoding::Unspecified) => Encoding::S16,
            Ok(encoding) => encoding,
            Err(_) => {
                let text = format!("header.pcm.encoding {} is unknown", format.encoding);
                return Err(Reason::ArgumentInvalid.status(text));
            }
        };
        Ok(Self { rate_hz, channel_count: channel_count.max(1) as usize, encoding })
    }

    /// Bytes of a sample of each channel.
    pub(crate) fn frame_bytes(self) -> usize {
        let sample_bytes = match self.encoding {
            Encoding::Unspecified | Encoding::S16 => 2,
            Encoding::S24 => 3,
            Encoding::S32 | Encoding::F32 => 4,
        };
        sample_bytes * self.channel_count
    }

    /// Bytes that are whole frames.
    pub(crate) fn packet(self, data: Bytes) -> Result<Packet, Status> {
        let frame_bytes = self.frame_bytes();
        if !data.len().is_multiple_of(frame_bytes) {
            let text = format!(
                "audio.data has {} bytes, which are no whole frames of {frame_bytes}; cut packets between frames",
                data.len()
            );
            return Err(Reason::ArgumentInvalid.status(text));
        }
        if data.len() / frame_bytes > PACKET_S_MAX * self.rate_hz as usize {
            let text = format!(
                "audio.data lasts {} s, at most {PACKET_S_MAX} s are taken in a packet; send shorter ones",
                data.len() / frame_bytes / self.rate_hz as usize
            );
            return Err(Reason::ArgumentInvalid.status(text));
        }
        Ok(Packet { data, frame_bytes })
    }

    /// Appends the mean of the channels of each frame, full scale ±1.
    pub(crate) fn mix(self, packet: &Packet, samples: &mut Vec<f32>) {
        let scale = 1.0 / self.channel_count as f32;
        let frames = packet.data.chunks_exact(packet.frame_bytes);
        samples.reserve(frames.len());
        match self.encoding {
            Encoding::Unspecified | Encoding::S16 => samples.extend(frames.map(|frame| {
                let channels = frame.as_chunks::<2>().0.iter();
                channels.map(|x| f32::from(i16::from_le_bytes(*x))).sum::<f32>() * scale / 32_768.0
            })),
            Encoding::S24 => samples.extend(frames.map(|frame| {
                let channels = frame.as_chunks::<3>().0.iter();
                // In the upper bytes, so that the sign is right.
                let sample = |[a, b, c]: &[u8; 3]| i32::from_le_bytes([0, *a, *b, *c]) as f32;
                channels.map(sample).sum::<f32>() * scale / 2_147_483_648.0
            })),
            Encoding::S32 => samples.extend(frames.map(|frame| {
                let channels = frame.as_chunks::<4>().0.iter();
                let sample = |x: &[u8; 4]| i32::from_le_bytes(*x) as f32;
                channels.map(sample).sum::<f32>() * scale / 2_147_483_648.0
            })),
            Encoding::F32 => samples.extend(frames.map(|frame| {
                let channels = frame.as_chunks::<4>().0.iter();
                channels.map(|x| f32::from_le_bytes(*x)).sum::<f32>() * scale
            })),
        }
    }
}

/// Greatest common divisor.
fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whole frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    data: Bytes,
    frame_bytes: usize,
}

impl Piece for Packet {
    fn length(&self) -> u64 {
        (self.data.len() / self.frame_bytes) as u64
    }

    fn cut_front(&mut self, count: u64) {
        let bytes = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(self.frame_bytes);
        self.data.advance(bytes.min(self.data.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(channel_count: u32, encoding: Encoding) -> Format {
        let encoding = encoding.into();
        Format::new(v1::PcmFormat { sample_rate_hz: 16_000, channel_count, encoding }).unwrap()
    }

    fn mixed(format: Format, bytes: &[u8]) -> Vec<f32> {
        let mut samples = Vec::new();
        format.mix(&format.packet(Bytes::copy_from_slice(bytes)).unwrap(), &mut samples);
        samples
    }

    #[test]
    fn all_encodings_mean_the_same() {
        for (encoding, bytes) in [
            (Encoding::S16, [i16::MIN, 0, 16_384].map(i16::to_le_bytes).concat()),
            (Encoding::S24, vec![0, 0, 0x80, 0, 0, 0, 0, 0, 0x40]),
            (Encoding::S32, [i32::MIN, 0, 1 << 30].map(i32::to_le_bytes).concat()),
            (Encoding::F32, [-1.0, 0.0, 0.5_f32].map(f32::to_le_bytes).concat()),
        ] {
            assert_eq!(mixed(format(1, encoding), &bytes), [-1.0, 0.0, 0.5], "{encoding:?}");
        }
    }

    #[test]
    fn channels_are_mixed_and_packets_are_whole_frames() {
        let stereo = format(2, Encoding::S16);
        let bytes = [16_384, -16_384, 16_384, 0_i16].map(i16::to_le_bytes).concat();
        assert_eq!(mixed(stereo, &bytes), [0.0, 0.25]);
        let mut packet = stereo.packet(Bytes::from(bytes)).unwrap();
        assert_eq!(packet.length(), 2);
        packet.cut_front(1);
        let mut samples = Vec::new();
        stereo.mix(&packet, &mut samples);
        assert_eq!(samples, [0.25]);
        assert!(
            stereo.packet(Bytes::from_static(&[0; 6])).unwrap_err().message().contains("6 bytes")
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_name_of_the_field() {
        for (rate, channels, encoding, named) in [
            (999, 1, 1, "sample_rate_hz"),
            (800_000, 1, 1, "sample_rate_hz"),
            (767_999, 1, 1, "sample_rate_hz"),
            (16_000, 9, 1, "channel_count"),
            (16_000, 1, 77, "encoding"),
        ] {
            let format = v1::PcmFormat { sample_rate_hz: rate, channel_count: channels, encoding };
            assert!(Format::new(format).unwrap_err().message().contains(named));
        }
    }
}
