//! All rows of a part that can be read, also behind those that cannot.
//!
//! RocksDB reads rows in blocks with a checksum. An iterator that meets a damaged block, or a file that
//! is gone, ends with an error; rows behind that place can be read by seeking beyond it. Where it ends is
//! not known, but a seek tells whether a place is behind it: so the place is found by looking ever further, and then by
//! halving.

use rocksdb::{DBRawIterator, ReadOptions};

use crate::index::IndexError;
use crate::index::rocks::failure::is_damage;
use crate::index::rocks::{BLOCKS, CONSTELLATIONS, HASH_BYTES, Inner, SEGMENTS, storage};
use crate::units::TRACK_ID_BYTES_MAX;

/// Bytes that are read ahead.
const READAHEAD_BYTES: usize = 2 << 20;
/// Longest key of a part, in bytes.
fn key_bytes_max(part: &str) -> usize {
    match part {
        CONSTELLATIONS | SEGMENTS => size_of::<u32>(),
        BLOCKS => 2 * size_of::<u32>(),
        _ => HASH_BYTES + TRACK_ID_BYTES_MAX,
    }
}

/// Key and value.
pub(in crate::index::rocks) type Row<'r> = (&'r [u8], &'r [u8]);

/// Reads the rows of a part in the order of their keys.
pub(in crate::index::rocks) struct Rows<'i> {
    inner: &'i Inner,
    part: &'static str,
    until: Option<Vec<u8>>,
    iterator: DBRawIterator<'i>,
    /// Key of the row before; where the reading began, if there was none.
    last: Vec<u8>,
    /// The row at the iterator has been given out.
    is_given: bool,
    /// Damaged places that were passed over, and what RocksDB said of the first.
    pub(super) damage: Damage,
}

/// Places of a part in which rows cannot be read.
#[derive(Debug, Default)]
pub(super) struct Damage {
    pub(super) place_count: u64,
    pub(super) what: Option<String>,
}

impl Damage {
    pub(super) fn merge(&mut self, other: Self) {
        self.place_count += other.place_count;
        self.what = self.what.take().or(other.what);
    }
}

impl<'i> Rows<'i> {
    /// The rows of `part` from key `from` on, to before `until`.
    pub(in crate::index::rocks) fn new(
        inner: &'i Inner,
        part: &'static str,
        from: &[u8],
        until: Option<&[u8]>,
    ) -> Self {
        let until = until.map(<[u8]>::to_vec);
        let iterator = seek(inner, part, from, until.as_deref());
        let (last, damage) = (from.to_vec(), Damage::default());
        Self { inner, part, until, iterator, last, is_given: false, damage }
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`] if reading fails for another reason than damage.
    pub(in crate::index::rocks) fn next(&mut self) -> Result<Option<Row<'_>>, IndexError> {
        if self.is_given {
            self.iterator.next();
        }
        if !self.iterator.valid() {
            self.pass_damage()?;
        }
        self.is_given = self.iterator.valid();
        if let Some(key) = self.iterator.key() {
            self.last.clear();
            self.last.extend_from_slice(key);
        }
        Ok(self.iterator.item())
    }

    /// Goes to the first row behind what cannot be read, or to the end.
    fn pass_damage(&mut self) -> Result<(), IndexError> {
        if self.is_readable()? {
            return Ok(());
        }
        self.damage.place_count += 1;
        // Ever further: the keys with one more in ever higher places.
        let mut low = self.last.clone();
        low.resize(key_bytes_max(self.part), 0);
        let start = low.clone();
        let mut high = None;
        for place in (0..start.len()).rev() {
            let Some(further) = stepped(&start, place) else { continue };
            if self.is_readable_from(&further)? {
                high = Some(further);
                break;
            }
            low = further;
        }
        // Without one, nothing behind it can be read: as if it ended here.
        let Some(mut high) = high else { return Ok(()) };
        while let Some(middle) = between(&low, &high) {
            if self.is_readable_from(&middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        self.is_readable_from(&high).map(|_| ())
    }

    /// Goes to `key` or behind it. False if nothing can be read there.
    fn is_readable_from(&mut self, key: &[u8]) -> Result<bool, IndexError> {
        // A new iterator each time: what one says that has met damage depends on where it was.
        self.iterator = seek(self.inner, self.part, key, self.until.as_deref());
        self.is_readable()
    }

    /// True if there is a row at the iterator, or nothing; false if it cannot be read.
    fn is_readable(&mut self) -> Result<bool, IndexError> {
        match self.iterator.status() {
            Ok(()) => Ok(true),
            Err(error) if is_damage(&error) => {
                // Files of a folder that was moved are not gone.
                self.inner.refuse_exchanged()?;
                self.damage.what.get_or_insert_with(|| error.to_string());
                Ok(false)
            }
            // A disk that does not answer is no reason to give rows up.
            Err(error) => Err(storage("read the index")(error)),
        }
    }
}

/// An iterator over `part` at `from`, to before `until`.
fn seek<'i>(
    inner: &'i Inner,
    part: &'static str,
    from: &[u8],
    until: Option<&[u8]>,
) -> DBRawIterator<'i> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_verify_checksums(true);
    options.set_readahead_size(READAHEAD_BYTES);
    if let Some(until) = until {
        options.set_iterate_upper_bound(until);
    }
    let mut iterator = inner.db.raw_iterator_cf_opt(inner.family(part), options);
    iterator.seek(from);
    iterator
}

/// `number` plus one at byte `place`, and zeros behind; `None` if there is no such number.
fn stepped(number: &[u8], place: usize) -> Option<Vec<u8>> {
    let mut next = number.to_vec();
    next[place + 1..].fill(0);
    for byte in next[..=place].iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

/// The number in the middle; `None` if there is none between.
fn between(low: &[u8], high: &[u8]) -> Option<Vec<u8>> {
    let mut sum = vec![0; low.len()];
    let mut carry = 0;
    for i in (0..low.len()).rev() {
        let digits = u16::from(low[i]) + u16::from(high[i]) + carry;
        sum[i] = digits.to_le_bytes()[0];
        carry = digits >> 8;
    }
    for byte in &mut sum {
        let digits = carry << 8 | u16::from(*byte);
        *byte = (digits / 2).to_le_bytes()[0];
        carry = digits % 2;
    }
    (sum != low).then_some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_of_bytes_are_numbers(low: u32, high: u32, place in 0_usize..4) {
            let [low, high] = [low.min(high), low.max(high)];
            let middle = between(&low.to_be_bytes(), &high.to_be_bytes());
            let expected = low + (high - low) / 2;
            prop_assert_eq!(middle, (expected != low).then(|| expected.to_be_bytes().to_vec()));
            let unit = 1_u32 << (8 * (3 - place));
            let next = (low / unit).checked_add(1).and_then(|units| units.checked_mul(unit));
            prop_assert_eq!(stepped(&low.to_be_bytes(), place), next.map(|n| n.to_be_bytes().to_vec()));
        }
    }
}
