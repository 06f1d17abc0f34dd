//! What a crash or damage has left: is everything there that was acknowledged? Looked at before
//! anything is changed, so that what is left stays as it is for a repair.
//!
//! RocksDB's log is read to its last record. A power cut may leave the beginning of a change there that
//! was never acknowledged: a record that is cut off, zeros, or garbage. Damage may look the same.
//! The number of the last change that can be read tells them apart: if what was acknowledged is there,
//! the rest is a change that was under way.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rocksdb::{DB, DBRecoveryMode};

use super::acknowledged::{Claim, manifest_of};
use super::failure::is_damage;
use super::header::{CHANGE, field, open_error};
use super::{META, PARTS, corrupt, io_failure, options, storage};
use crate::index::IndexError;

/// A log of RocksDB, as its MANIFEST is one, is written in blocks of this size …
const LOG_BLOCK_BYTES: usize = 32 << 10;
/// … which hold records with a header of checksum (4 bytes), length (2, little-endian) and kind (1).
const LOG_HEADER_BYTES: usize = 7;
/// Kinds of records in logs that are written over, which ours never are. Met behind another record,
/// they make RocksDB 11 read the same place for ever.
const ENDLESS_KINDS: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// Refuses logs over which RocksDB would not get: opening the index would never end. Before
/// anything else reads them.
///
/// # Errors
///
/// [`IndexError::Corrupt`] with file and place.
pub(super) fn check_logs(path: &Path) -> Result<(), IndexError> {
    check_current(path)?;
    let entries = path.read_dir().map_err(io_failure("list the files of the index"))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.ends_with(".log") && !name.starts_with("MANIFEST-") {
            continue;
        }
        // What cannot be read is for RocksDB to tell.
        if let Ok(Some(at)) = File::open(entry.path()).and_then(endless_record) {
            return Err(corrupt(format!("its log is damaged: {name} at byte {at}")));
        }
    }
    Ok(())
}

/// How the log must be read for the index in `path` to have everything that `claim` says.
///
/// # Errors
///
/// [`IndexError::Corrupt`] if it has not.
pub(super) fn recovery_mode(path: &Path, claim: Claim) -> Result<DBRecoveryMode, IndexError> {
    check_manifest(path, claim)?;
    // Tells of damage inside the log, and takes a cut record at its end for a change under way.
    let strict = DBRecoveryMode::TolerateCorruptedTailRecords;
    let error = match last_change(path, strict) {
        Ok(found) if found >= claim.change => return Ok(strict),
        Ok(found) => return Err(cut_off(found, claim.change)),
        Err(error) => error,
    };
    let lenient = DBRecoveryMode::PointInTime;
    match last_change(path, lenient) {
        // Garbage at the end, of which it is known where it was.
        Ok(found) if claim.change > 0 && found >= claim.change => Ok(lenient),
        Ok(found) => Err(corrupt(format!("its log is damaged behind change {found}"))),
        // It is not the log.
        Err(_) => Err(error),
    }
}

/// Of a log that ends too early, as far as can be seen.
pub(super) fn cut_off(found: u64, acknowledged: u64) -> IndexError {
    corrupt(format!("its log is damaged: {}", ends_early(found, acknowledged)))
}

fn ends_early(found: u64, acknowledged: u64) -> String {
    format!("it ends with change {found}, and change {acknowledged} was acknowledged")
}

/// Number of the last change that is in the index; 0 if there is none. Changes nothing.
fn last_change(path: &Path, mode: DBRecoveryMode) -> Result<u64, IndexError> {
    let mut options = options::database();
    options.set_wal_recovery_mode(mode);
    let families = DB::list_cf(&options, path).map_err(|source| open_error(path, source))?;
    if !families.iter().any(|family| family == META) {
        // A crash while it was made.
        return Ok(0);
    }
    let db = DB::open_cf_for_read_only(&options, path, [META], false)
        .map_err(|source| open_error(path, source))?;
    let meta = db.cf_handle(META).ok_or_else(|| corrupt("it has no header"))?;
    let get = |key| db.get_cf(meta, key).map_err(storage("read the index header"));
    // The header is written when all parts have been made.
    if get("format")?.is_some()
        && let Some(missing) = PARTS.iter().find(|part| !families.iter().any(|have| have == *part))
    {
        return Err(corrupt(format!(
            "its list of files (MANIFEST) is damaged: no {missing} there"
        )));
    }
    let change = get(CHANGE)?.map(|bytes| field(CHANGE, &bytes)).transpose()?;
    Ok(change.map_or(0, u64::from_be_bytes))
}

/// What is missing in an open database of what was acknowledged. Of one whose header cannot be read,
/// other faults tell.
///
/// # Errors
///
/// [`IndexError::Storage`].
pub(super) fn fault_behind(db: &DB, claim: Claim) -> Result<Option<String>, IndexError> {
    let Some(meta) = db.cf_handle(META) else { return Ok(None) };
    let bytes = match db.get_cf(meta, CHANGE) {
        Err(error) if is_damage(&error) => return Ok(None),
        read => read.map_err(storage("read the index header"))?,
    };
    let Some(Ok(change)) = bytes.map(|bytes| field(CHANGE, &bytes)) else { return Ok(None) };
    let found = u64::from_be_bytes(change);
    Ok((found < claim.change).then(|| ends_early(found, claim.change)))
}

/// Refuses a CURRENT that names a MANIFEST that is not there.
pub(super) fn check_current(path: &Path) -> Result<(), IndexError> {
    // What cannot be read is for RocksDB to tell.
    let Ok(current) = fs::read_to_string(path.join("CURRENT")) else { return Ok(()) };
    let name = current.trim_end();
    if name.starts_with("MANIFEST-") && !path.join(name).exists() {
        return Err(corrupt(format!("files are damaged: CURRENT names {name}, which is missing")));
    }
    Ok(())
}

/// Refuses a MANIFEST that ends, or seems to end, before the place that it had reached.
pub(super) fn check_manifest(path: &Path, claim: Claim) -> Result<(), IndexError> {
    let current = manifest_of(path);
    if current.manifest == 0 || current.manifest > claim.manifest {
        // Unreadable, for RocksDB to say why, or newer than what is known.
        return Ok(());
    }
    let name = format!("MANIFEST-{:06}", current.manifest);
    if current.manifest < claim.manifest {
        let expected = claim.manifest;
        return Err(corrupt(format!(
            "its file CURRENT is damaged: it names {name}, and {expected} was in use"
        )));
    }
    let bytes = fs::read(path.join(&name)).map_err(io_failure("read the list of files"))?;
    let end = end_of_records(&bytes) as u64;
    if end < claim.manifest_bytes {
        let expected = claim.manifest_bytes;
        return Err(corrupt(format!(
            "its list of files {name} is damaged: it ends at byte {end} of {expected}"
        )));
    }
    Ok(())
}

/// Where the records of a log end, as far as their lengths tell; checksums are for RocksDB.
pub(super) fn end_of_records(log: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let block_end = ((at / LOG_BLOCK_BYTES + 1) * LOG_BLOCK_BYTES).min(log.len());
        let rest = &log[at..block_end];
        if rest.len() < LOG_HEADER_BYTES {
            // What is left of a block is not used.
            if block_end == log.len() {
                return at;
            }
            at = block_end;
            continue;
        }
        let len = usize::from(u16::from_le_bytes([rest[4], rest[5]]));
        let kind = rest[6];
        if kind == 0 || LOG_HEADER_BYTES + len > rest.len() {
            return at;
        }
        at += LOG_HEADER_BYTES + len;
    }
}

/// The place of a record in a log over which RocksDB would not get.
pub(super) fn endless_record(mut log: impl Read) -> io::Result<Option<u64>> {
    let mut block = Vec::with_capacity(LOG_BLOCK_BYTES);
    let mut block_start = 0;
    loop {
        block.clear();
        log.by_ref().take(LOG_BLOCK_BYTES as u64).read_to_end(&mut block)?;
        let mut at = 0;
        while let Some(header) = block.get(at..at + LOG_HEADER_BYTES) {
            if ENDLESS_KINDS.contains(&header[6]) {
                return Ok(Some(block_start + at as u64));
            }
            at += LOG_HEADER_BYTES + usize::from(u16::from_le_bytes([header[4], header[5]]));
        }
        if block.len() < LOG_BLOCK_BYTES {
            return Ok(None);
        }
        block_start += block.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: u16) -> Vec<u8> {
        let [low, high] = len.to_le_bytes();
        let header = [9, 9, 9, 9, low, high, 1];
        [&header[..], &vec![5; usize::from(len)]].concat()
    }

    #[test]
    fn records_end_where_a_length_leads_out() {
        let mut log = [record(3), record(0), record(300)].concat();
        assert_eq!(end_of_records(&[]), 0);
        assert_eq!(end_of_records(&log), log.len());
        assert_eq!(end_of_records(&log[..log.len() - 1]), 17);
        assert_eq!(end_of_records(&log[..20]), 17);
        // A flipped length.
        log[5] = 0x80;
        assert_eq!(end_of_records(&log), 0);
        // What a file system has reserved.
        let zeros = [record(3), vec![0; 100]].concat();
        assert_eq!(end_of_records(&zeros), 10);
    }

    #[test]
    fn records_that_rocksdb_would_read_for_ever_are_found() {
        let full = u16::try_from(LOG_BLOCK_BYTES - 2 * LOG_HEADER_BYTES - 4).unwrap();
        let mut log = [record(0), record(full), vec![0; 4], record(8), record(3)].concat();
        let found = |log: &[u8]| endless_record(log).unwrap();
        assert_eq!(found(&[]), None);
        assert_eq!(found(&log), None);
        let last = log.len() - record(3).len();
        log[last + 6] ^= 4;
        assert_eq!(found(&log), Some(last as u64));
        // What lies behind a length that leads out of the block is not read either.
        log[LOG_BLOCK_BYTES + 5] = 0xff;
        assert_eq!(found(&log), None);
    }

    #[test]
    fn records_go_on_in_the_next_block() {
        let full = u16::try_from(LOG_BLOCK_BYTES - 2 * LOG_HEADER_BYTES - 4).unwrap();
        let mut log = [record(0), record(full)].concat();
        assert_eq!(log.len(), LOG_BLOCK_BYTES - 4);
        log.extend([0; 4]);
        log.extend(record(8));
        assert_eq!(end_of_records(&log), log.len());
        assert_eq!(end_of_records(&log[..LOG_BLOCK_BYTES - 2]), LOG_BLOCK_BYTES - 4);
    }
}
