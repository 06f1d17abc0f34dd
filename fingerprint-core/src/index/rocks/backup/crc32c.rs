//! CRC-32C (Castagnoli), the checksum that RocksDB notes for each file of a backup.
//!
//! RocksDB compares them itself when it restores; its interface in Rust has no way to ask for more
//! than sizes before that.
//!
//! # Source
//!
//! M. Kounavis, F. Berry, "A Systematic Approach to Building High Performance Software-Based CRC
//! Generators", ISCC 2005: eight bytes a step by eight tables, some 1.5 GB/s. RFC 3720, appendix B.4
//! has the test values.

/// The polynomial 0x1EDC6F41, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0_u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The checksum of `bytes` behind others whose checksum is `before`; 0 at the beginning.
pub(super) fn extend(before: u32, bytes: &[u8]) -> u32 {
    let look_up = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
    let mut crc = !before;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let low =
            (u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) ^ crc).to_le_bytes();
        crc = look_up(7, low[0])
            ^ look_up(6, low[1])
            ^ look_up(5, low[2])
            ^ look_up(4, low[3])
            ^ look_up(3, chunk[4])
            ^ look_up(2, chunk[5])
            ^ look_up(1, chunk[6])
            ^ look_up(0, chunk[7]);
    }
    for byte in rest {
        crc = crc >> 8 ^ look_up(0, crc.to_le_bytes()[0] ^ byte);
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_standard() {
        assert_eq!(extend(0, b""), 0);
        assert_eq!(extend(0, b"123456789"), 0xe306_9283);
        assert_eq!(extend(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(extend(0, &[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let bytes: Vec<u8> = (0..100_u8).map(|i| i.wrapping_mul(77)).collect();
        let whole = extend(0, &bytes);
        for at in 0..bytes.len() {
            assert_eq!(extend(extend(0, &bytes[..at]), &bytes[at..]), whole, "{at}");
        }
    }
}
