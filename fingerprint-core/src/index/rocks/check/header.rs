//! The header: format, parameters, the next free position, and the table of lengths.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::segments::Held;
use super::tracks::Known;
use super::{Check, Fault};
use crate::index::IndexError;
use crate::index::rocks::header::other_format;
use crate::index::rocks::segments::Segment;
use crate::index::rocks::{FORMAT_VERSION, META, filling, lens};

/// Rows of the header by their names.
pub(super) type Fields = BTreeMap<Box<[u8]>, Box<[u8]>>;

impl Check<'_> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If it says that the index was written by another release, so that nothing else could be understood,
    /// or is not complete yet.
    pub(super) fn read_header(&mut self) -> Result<Fields, IndexError> {
        let mut rows = self.rows(META);
        let mut fields = Fields::new();
        while let Some((key, value)) = rows.next()? {
            fields.insert(key.into(), value.into());
        }
        self.note_damage(META, rows.damage);
        if let Ok(format) = field(&fields, "format") {
            let actual = u32::from_be_bytes(format);
            if actual != FORMAT_VERSION {
                return Err(other_format(&self.inner.path, actual));
            }
        }
        if let Ok(digest) = field(&fields, "params") {
            let (actual, expected) = (u64::from_be_bytes(digest), self.inner.params.digest());
            if actual != expected {
                let path = self.inner.path.clone();
                return Err(IndexError::ParamsMismatch { path, expected, actual });
            }
        }
        if let Some(from) = fields.get(filling::KEY.as_bytes()) {
            return Err(filling::incomplete(&self.inner.path, from));
        }
        Ok(fields)
    }

    /// Checks the fields but for the table of lengths. Gives the next position that may be given out.
    pub(super) fn check_header(
        &mut self,
        fields: &Fields,
        tracks: &[Known],
        segments: &[Arc<Segment>],
    ) -> u32 {
        let end = tracks.last().map_or(0, |track| track.span.end());
        let stored = field::<4>(fields, "next").map(u32::from_be_bytes);
        let of_segments = segments.iter().map(|segment| segment.directory.stretch.end);
        let behind = of_segments.chain(stored.iter().copied()).fold(end, u32::max);
        if fields.is_empty() && behind == 0 {
            // Nothing has been written yet.
            return 0;
        }
        let next = stored.and_then(|next| {
            let what = || format!("is {next}, but tracks lie up to {end}");
            if next < end { Err(what()) } else { Ok(()) }
        });
        let checks = [
            ("format", field::<4>(fields, "format").map(|_| ())),
            ("params", field::<8>(fields, "params").map(|_| ())),
            // There is none before the first track.
            ("next", if end == 0 && !has(fields, "next") { Ok(()) } else { next }),
        ];
        for (field, checked) in checks {
            if let Err(what) = checked {
                self.faults.push(Fault::Header { field, what });
                self.mending.header = true;
            }
        }
        behind
    }

    /// Checks the table of lengths against the postings that the segments hold.
    pub(super) fn check_lengths(
        &mut self,
        fields: &Fields,
        segments: &[Arc<Segment>],
        held: &Held,
    ) {
        let stored = fields.get(lens::KEY.as_bytes());
        let end = segments.last().map_or(0, |segment| segment.directory.stretch.end);
        let what = match stored.map(|bytes| lens::decode(bytes, end)) {
            None if segments.is_empty() => return,
            None => "is missing",
            // Postings have to be made anew, and are counted then.
            Some(_) if self.mending.needs_postings() => return,
            Some(None) => "is damaged",
            Some(Some(table)) if !held.has_lengths(&table) => {
                "counts other postings than there are"
            }
            Some(Some(_)) => return,
        };
        self.faults.push(Fault::Lengths { what: what.to_owned() });
        self.mending.lengths = true;
    }
}

fn has(fields: &Fields, name: &str) -> bool {
    fields.contains_key(name.as_bytes())
}

fn field<const N: usize>(fields: &Fields, name: &str) -> Result<[u8; N], String> {
    let bytes = fields.get(name.as_bytes()).ok_or("is missing")?;
    bytes.as_ref().try_into().map_err(|_| format!("has {} bytes instead of {N}", bytes.len()))
}
