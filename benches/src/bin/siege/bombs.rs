//! Files of 1 MiB that decode to days of silence: FLAC says "constant" in a few bytes for each four seconds.

use std::sync::Arc;

use crate::assault::{Assault, PAUSE, home};
use crate::request::Request;

/// Third byte of the addresses that they come from.
const KIND: u8 = 3;
/// Length of a file in bytes: small enough to be taken however many large clips are under way.
const FILE_BYTES: usize = 1 << 20;
const WHO: &str = "days of silence";
/// Samples of a block: four seconds at 8 kHz, in 13 bytes or so.
const BLOCK_LEN: u16 = 32_768;

/// Sends the file, by so many callers, one time after the other.
pub(crate) fn begin(assault: &Arc<Assault>, caller_count: usize) {
    let file: Arc<[u8]> = silence(FILE_BYTES).into();
    for number in 0..caller_count {
        let (assault, file) = (Arc::clone(assault), Arc::clone(&file));
        tokio::spawn(async move {
            let request =
                Request { path: "/v1/match", announced: file.len(), body: &file, times: 1 };
            loop {
                assault.count(WHO, request.send(&assault, home(KIND, number)).await);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

/// A FLAC file of about so many bytes that does not say how long it is: mono, 8 kHz, 16 bits, all zero (RFC 9639).
fn silence(file_bytes: usize) -> Vec<u8> {
    let mut file = Vec::with_capacity(file_bytes + 64);
    // The one block of metadata, STREAMINFO: lengths of blocks; of frames, unknown; 20 bits rate, 3 channels - 1, 5 bits
    // a sample - 1, 36 number of samples, unknown; no digest.
    file.extend_from_slice(b"fLaC\x80\0\0\x22");
    file.extend([BLOCK_LEN; 2].iter().flat_map(|length| length.to_be_bytes()));
    file.extend([0; 6]);
    file.extend(((8_000_u64 << 44) | (15 << 36)).to_be_bytes());
    file.extend([0; 16]);
    let mut number = 0;
    while file.len() < file_bytes {
        let begin = file.len();
        // Sync code and fixed lengths; 32,768 samples (0b1111) at 8 kHz (0b0100); mono, 16 bits (0b100).
        file.extend([0xff, 0xf8, 0xf4, 0x08]);
        put_coded(&mut file, number);
        file.push(crc8(&file[begin..]));
        // A constant subframe: its head, and the sample.
        file.extend([0, 0, 0]);
        let crc = crc16(&file[begin..]);
        file.extend(crc.to_be_bytes());
        number += 1;
    }
    file
}

/// The number of a frame, coded as UTF-8 codes characters, to six bytes (RFC 9639, 9.1.5).
fn put_coded(file: &mut Vec<u8>, number: u32) {
    if number < 0x80 {
        file.push(number.to_be_bytes()[3]);
        return;
    }
    // Six bits in each byte that follows, and what is left of seven in the first.
    let mut follow_count = 1;
    while number >> (6 * follow_count + 6 - follow_count) != 0 {
        follow_count += 1;
    }
    let bits = |shift: u32| (number >> shift).to_be_bytes()[3];
    let marks = !(0xff_u8 >> (follow_count + 1));
    file.push(marks | bits(6 * follow_count));
    file.extend((0..follow_count).rev().map(|place| 0x80 | (bits(6 * place) & 0x3f)));
}

/// x⁸ + x² + x + 1, from 0 (RFC 9639, 9.1.8).
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| (crc << 1) ^ if crc & 0x80 == 0 { 0 } else { 0x07 })
    })
}

/// x¹⁶ + x¹⁵ + x² + 1, from 0 (RFC 9639, 9.3).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x8005 }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use earmark_benches::built_in_only;
    use fingerprint_core::decode::{Input, decode};

    use super::*;

    #[test]
    fn each_block_decodes_to_four_seconds_of_silence() {
        // Numbers of one, two and three bytes.
        let file = silence(40_000);
        let mut sample_count = 0_u64;
        decode(Input::Bytes(&file), &built_in_only(), &mut |samples, rate_hz| {
            assert_eq!(rate_hz, 8_000);
            assert!(samples.iter().all(|sample| *sample == 0.0));
            sample_count += samples.len() as u64;
            ControlFlow::Continue(())
        })
        .unwrap();
        let blocks = file.windows(4).filter(|bytes| *bytes == [0xff, 0xf8, 0xf4, 0x08]).count();
        assert!(blocks > 2_500, "{blocks}");
        assert_eq!(sample_count, blocks as u64 * u64::from(BLOCK_LEN));
    }

    #[test]
    fn numbers_are_coded_as_characters_are() {
        for number in [0, 0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0x1_0000, 0x10_ffff] {
            let mut coded = Vec::new();
            put_coded(&mut coded, number);
            let mut expected = [0; 4];
            // All but the surrogates, which are no characters.
            let character = char::from_u32(number).unwrap();
            assert_eq!(coded, character.encode_utf8(&mut expected).as_bytes(), "{number:x}");
        }
        let mut coded = Vec::new();
        put_coded(&mut coded, 0x20_0000);
        assert_eq!(coded, [0xf8, 0x88, 0x80, 0x80, 0x80]);
    }
}
