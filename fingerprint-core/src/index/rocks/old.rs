//! An index that a new one is made of: only read, never changed, of the present format or an older one.
//!
//! RocksDB opens it without taking the lock and without writing one byte, so it may lie on a
//! read-only disk. What another process adds to it later is not seen.

use std::path::{Path, PathBuf};

use rocksdb::{DB, DBRecoveryMode, ErrorKind, IteratorMode, Options, ReadOptions};

use super::follow::between_changes;
use super::recovery::{check_logs, check_manifest, recovery_mode};
use super::{
    CONSTELLATIONS, FORMAT_VERSION, META, SEGMENTS, TRACKS, acknowledged, corrupt, filling,
    format1, header, open_error, parse_record, repair, storage,
};
use crate::index::{IndexError, Metadata, TrackRecord, stored_peaks};
use crate::params::{Params, Values};
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// All that is read of it.
const PARTS: [&str; 3] = [META, TRACKS, CONSTELLATIONS];
/// Bytes that are read ahead while tracks are listed.
const READAHEAD_BYTES: usize = 1 << 20;

/// An index that is only read.
pub(super) struct OldIndex {
    db: DB,
    path: PathBuf,
    format: Format,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    One,
    Present,
}

/// A track in it, without its peaks.
pub(super) struct OldTrack {
    pub(super) id: TrackId,
    pub(super) metadata: Metadata,
    pub(super) duration_s: f64,
    pub(super) content_hash: ContentHash,
    pub(super) added_at_ms: u64,
    pub(super) span_start: u32,
}

impl From<TrackRecord> for OldTrack {
    fn from(record: TrackRecord) -> Self {
        Self {
            id: record.id,
            metadata: record.metadata,
            duration_s: record.duration_s,
            content_hash: record.content_hash,
            added_at_ms: record.added_at_ms,
            span_start: record.span.start,
        }
    }
}

impl OldIndex {
    /// Opens the index in folder `path`, whose stored peaks must serve for `params`.
    pub(super) fn open(path: &Path, params: &Params) -> Result<Self, IndexError> {
        between_changes(|| Self::try_to_open(path, params))
    }

    fn try_to_open(path: &Path, params: &Params) -> Result<Self, IndexError> {
        if !header::is_index(path)? {
            return Err(IndexError::NothingToReindex { path: path.to_owned() });
        }
        check_logs(path)?;
        check_manifest(path, acknowledged::claim_of(path))?;
        repair::refuse_pending(path)?;
        let families = header::families(path)?;
        if !PARTS.iter().all(|part| families.iter().any(|family| family == part)) {
            return Err(IndexError::NothingToReindex { path: path.to_owned() });
        }
        let mut options = Options::default();
        options.set_wal_recovery_mode(if families.iter().any(|family| family == SEGMENTS) {
            recovery_mode(path, acknowledged::claim_of(path))?
        } else {
            // Tells of damage too; what was acknowledged is not known of format 1.
            DBRecoveryMode::TolerateCorruptedTailRecords
        });
        let db = DB::open_cf_for_read_only(&options, path, PARTS, false)
            .map_err(|source| open_error(path, source))?;
        let mut old = Self { db, path: path.to_owned(), format: Format::Present };
        let format =
            old.meta("format")?.ok_or_else(|| corrupt("its header has no format version"))?;
        old.format = match u32::from_be_bytes(header::field("format", &format)?) {
            format1::VERSION => Format::One,
            FORMAT_VERSION => Format::Present,
            actual => return Err(header::other_format(path, actual)),
        };
        if let Some(from) = old.meta(filling::KEY)? {
            return Err(filling::incomplete(path, &from));
        }
        old.check_values(params)?;
        Ok(old)
    }

    /// Version of its format.
    pub(super) fn format_version(&self) -> u32 {
        match self.format {
            Format::One => format1::VERSION,
            Format::Present => FORMAT_VERSION,
        }
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let family = header::family(&self.db, META)?;
        self.db.get_cf(family, key).map_err(storage("read the index header"))
    }

    /// Refuses peaks that were found in another way than with `params`.
    fn check_values(&self, params: &Params) -> Result<(), IndexError> {
        let digest =
            self.meta("params")?.ok_or_else(|| corrupt("its header has no parameter digest"))?;
        let digest = u64::from_be_bytes(header::field("params", &digest)?);
        let values = match self.format {
            Format::One => format1::values(digest),
            Format::Present => self.values(digest, params)?,
        };
        let refused = match values {
            Some(values) => params.peaks_refused(&values),
            None => vec![format!("all of them (parameters {digest:016x} are not known)")],
        };
        if refused.is_empty() {
            return Ok(());
        }
        Err(IndexError::PeaksUnfit { path: self.path.clone(), values: refused.join(", ") })
    }

    /// The parameters in its header; `None` if they are only known by a digest that is not ours.
    fn values(&self, digest: u64, params: &Params) -> Result<Option<Values>, IndexError> {
        match self.meta(header::VALUES)? {
            Some(json) => serde_json::from_slice(&json).map(Some).map_err(|error| {
                corrupt(format!("the parameters in its header are damaged: {error}"))
            }),
            None => Ok((digest == params.digest()).then(|| params.values())),
        }
    }

    /// Counts the tracks: reads all records, without understanding them.
    pub(super) fn track_count(&self) -> Result<u64, IndexError> {
        let mut count = 0;
        for row in self.rows()? {
            row?;
            count += 1;
        }
        Ok(count)
    }

    /// All tracks in the order of their ids. [`IndexError::Corrupt`] is about one of them, everything
    /// else about the index.
    pub(super) fn tracks(
        &self,
    ) -> Result<impl Iterator<Item = Result<OldTrack, IndexError>> + '_, IndexError> {
        Ok(self.rows()?.map(|row| {
            let (key, value) = row?;
            match self.format {
                Format::One => format1::parse_track(&key, &value),
                Format::Present => parse_record(&key, &value).map(OldTrack::from),
            }
        }))
    }

    fn rows(&self) -> Result<impl Iterator<Item = Result<Row, IndexError>> + '_, IndexError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD_BYTES);
        let family = header::family(&self.db, TRACKS)?;
        let rows = self.db.iterator_cf_opt(family, options, IteratorMode::Start);
        // Not as damage, which would be taken for that of one track: the list ends here.
        let failed =
            |source| IndexError::Storage { action: "list the tracks", source: Box::new(source) };
        Ok(rows.map(move |row| row.map_err(failed)))
    }

    /// True if there is a track of this id.
    pub(super) fn holds(&self, id: &TrackId) -> Result<bool, IndexError> {
        let family = header::family(&self.db, TRACKS)?;
        let row = self.db.get_pinned_cf(family, id.as_str());
        Ok(row.map_err(storage("read a track"))?.is_some())
    }

    /// All peaks of a track, ascending. [`IndexError::Corrupt`] is about this track only.
    pub(super) fn peaks(&self, track: &OldTrack) -> Result<Vec<Peak>, IndexError> {
        let family = header::family(&self.db, CONSTELLATIONS)?;
        let damaged = || corrupt(format!("the peaks of track {} are damaged", track.id));
        let row = match self.db.get_pinned_cf(family, track.span_start.to_be_bytes()) {
            Err(error) if error.kind() == ErrorKind::Corruption => return Err(damaged()),
            row => row.map_err(storage("read the peaks of a track"))?,
        };
        let bytes = row.ok_or_else(|| corrupt(format!("track {} has no peaks", track.id)))?;
        let peaks = match self.format {
            Format::One => format1::decode_peaks(&bytes),
            Format::Present => stored_peaks::decode(&bytes, 0..u32::MAX),
        };
        peaks.ok_or_else(damaged)
    }
}

type Row = (Box<[u8]>, Box<[u8]>);
