//! Why the index could not answer or store something.

use std::path::PathBuf;

use crate::units::TrackId;

/// Why the index could not answer or store something.
///
/// One variant per thing a caller can *do*: retry or page ([`Storage`](Self::Storage)), stop the
/// other process or talk to it ([`InUse`](Self::InUse)), create the index
/// ([`Missing`](Self::Missing)), choose another folder ([`NotAnIndex`](Self::NotAnIndex)), re-ingest ([`FormatVersion`](Self::FormatVersion),
/// [`ParamsMismatch`](Self::ParamsMismatch)), stop trusting the files
/// ([`Corrupt`](Self::Corrupt)), mend the request ([`RepeatedId`](Self::RepeatedId)) or start a second
/// index ([`Full`](Self::Full)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The storage engine failed; the cause is in `source`.
    #[error("index storage failed while trying to {action}")]
    Storage {
        /// What was being done, as an infinitive: `"open the database"`.
        action: &'static str,
        /// The engine's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the index open.
    #[error(
        "index {} is in use by another process; wait until another earmark has ended, or reach earmark-server with --server URL instead of --index", path.display()
    )]
    InUse {
        /// Folder of the index.
        path: PathBuf,
    },
    /// There is no index here, and the caller did not ask to create one.
    #[error("no index in {}; create one with earmark ingest --index {}", path.display(), path.display())]
    Missing {
        /// Folder that was looked at.
        path: PathBuf,
    },
    /// The folder holds other files: an index of its own is safer than one among them.
    #[error("{} holds other files and no index; choose a new or empty folder", path.display())]
    NotAnIndex {
        /// The folder.
        path: PathBuf,
    },
    /// The index was written by another release.
    #[error(
        "index format version is {actual}, this build reads {expected}; ingest the catalog into a new folder: earmark ingest --index NEW_FOLDER"
    )]
    FormatVersion {
        /// Version this build reads and writes.
        expected: u32,
        /// Version found in the database.
        actual: u32,
    },
    /// The index was built with other fingerprint parameters, so its hashes mean something else.
    #[error(
        "index was built with parameters {actual:016x}, this build runs {expected:016x}; ingest the catalog into a new folder: earmark ingest --index NEW_FOLDER"
    )]
    ParamsMismatch {
        /// Digest of the running parameters.
        expected: u64,
        /// Digest stored in the database.
        actual: u64,
    },
    /// Stored bytes are not what this format version prescribes: the files are damaged.
    #[error(
        "index is corrupt: {what}; earmark check --index DIR says more and mends it with --repair, or restore it from a backup"
    )]
    Corrupt {
        /// Which record, and what is wrong with it.
        what: String,
    },
    /// One batch names a track twice.
    #[error("track {id} occurs twice in one batch; add it once, or in two batches")]
    RepeatedId {
        /// The track.
        id: TrackId,
    },
    /// All positions of the index have been given out.
    #[error(
        "index is full: it has held {hours:.0} h of audio since it was made; start a second one or re-ingest"
    )]
    Full {
        /// Hours of audio ever added, removed tracks included.
        hours: f64,
    },
}
