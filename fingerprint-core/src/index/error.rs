//! Why the index could not answer or store something.

use std::path::PathBuf;

use crate::units::TrackId;

/// Why the index could not answer or store something.
///
/// One variant per thing a caller can *do*: retry or page ([`Storage`](Self::Storage)), make room
/// ([`DiskFull`](Self::DiskFull)), stop the
/// other process or talk to it ([`InUse`](Self::InUse), [`ReadOnly`](Self::ReadOnly)), create the index
/// ([`Missing`](Self::Missing)), choose another folder ([`NotAnIndex`](Self::NotAnIndex),
/// [`Occupied`](Self::Occupied)), name another one ([`NothingToReindex`](Self::NothingToReindex)),
/// reindex ([`FormatVersion`](Self::FormatVersion), [`ParamsMismatch`](Self::ParamsMismatch)), go on
/// with that ([`Incomplete`](Self::Incomplete)), re-ingest ([`PeaksUnfit`](Self::PeaksUnfit)), use a
/// later release ([`NewerFormat`](Self::NewerFormat)), stop trusting the files
/// ([`Corrupt`](Self::Corrupt), [`BeyondRepair`](Self::BeyondRepair)), mend the request ([`RepeatedId`](Self::RepeatedId)) or start a second
/// index ([`Full`](Self::Full)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The storage engine failed; the cause is in `source`.
    #[error(
        "index storage failed while trying to {action}; if the disk is sound, try again, else restore the index from a backup to another one"
    )]
    Storage {
        /// What was being done, as an infinitive: `"open the database"`.
        action: &'static str,
        /// The engine's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk of the index is full. Nothing acknowledged is lost, and searching goes on.
    #[error(
        "the disk of the index is full (trying to {action}); what was acknowledged is safe; make room there and try again, and should that go on to fail, start the program again"
    )]
    DiskFull {
        /// What was being done, as an infinitive.
        action: &'static str,
        /// The engine's own error, which names the file.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the index open.
    #[error(
        "index {} is in use by another process{}; wait until another earmark has ended, or reach earmark-server with --server URL instead of --index", path.display(), named(*process)
    )]
    InUse {
        /// Folder of the index.
        path: PathBuf,
        /// The process, if it is known.
        process: Option<u32>,
    },
    /// There is no index here, and the caller did not ask to create one.
    #[error("no index in {}; create one with earmark ingest --index {}", path.display(), path.display())]
    Missing {
        /// Folder that was looked at.
        path: PathBuf,
    },
    /// The index is open for reading only: another process writes it.
    #[error(
        "index {} is open for reading only; send changes to the process that writes it: earmark … --server URL", path.display()
    )]
    ReadOnly {
        /// Folder of the index.
        path: PathBuf,
    },
    /// The folder holds other files: an index of its own is safer than one among them.
    #[error("{} holds other files and no index; choose a new or empty folder", path.display())]
    NotAnIndex {
        /// The folder.
        path: PathBuf,
    },
    /// The index was written by an earlier release.
    #[error(
        "index {path} has format version {actual}, this build reads {expected}; make a new one of it, which needs no audio: earmark reindex {path} --index NEW_FOLDER", path = path.display()
    )]
    FormatVersion {
        /// Folder of the index.
        path: PathBuf,
        /// Version this build reads and writes.
        expected: u32,
        /// Version found in the database.
        actual: u32,
    },
    /// The index was written by a later release.
    #[error(
        "index {path} has format version {actual}, this build reads {expected}; use the release that wrote it or a later one", path = path.display()
    )]
    NewerFormat {
        /// Folder of the index.
        path: PathBuf,
        /// Version this build reads and writes.
        expected: u32,
        /// Version found in the database.
        actual: u32,
    },
    /// The index was built with other fingerprint parameters, so its hashes mean something else.
    #[error(
        "index {path} was built with parameters {actual:016x}, this build runs {expected:016x}; make a new one of it: earmark reindex {path} --index NEW_FOLDER", path = path.display()
    )]
    ParamsMismatch {
        /// Folder of the index.
        path: PathBuf,
        /// Digest of the running parameters.
        expected: u64,
        /// Digest stored in the database.
        actual: u64,
    },
    /// The index is being made of another one, or this was interrupted: tracks are missing in it.
    #[error(
        "index {path} is not complete yet; run this to its end: earmark reindex {from} --index {path}", path = path.display()
    )]
    Incomplete {
        /// Folder of the index.
        path: PathBuf,
        /// Folder of the index that it is made of.
        from: String,
    },
    /// An index cannot be made in this folder of another one.
    #[error("no index can be made in {}: {what}; choose a new or empty folder", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What stands in the way.
        what: String,
    },
    /// There is no index that another one could be made of.
    #[error("there is no index in {}; name the folder of the old index", path.display())]
    NothingToReindex {
        /// Folder that was looked at.
        path: PathBuf,
    },
    /// The peaks that an index holds were found in another way than this build finds them.
    #[error(
        "the peaks stored in index {} do not serve for this build, because of {values}; ingest the audio into a new folder: earmark ingest --index NEW_FOLDER", path.display()
    )]
    PeaksUnfit {
        /// Folder of the index.
        path: PathBuf,
        /// Names of the parameters that differ, with their values.
        values: String,
    },
    /// Stored bytes are not what this format version prescribes: the files are damaged.
    #[error(
        "index is corrupt: {what}; earmark check --index DIR says more and mends it with --repair, or restore it from a backup"
    )]
    Corrupt {
        /// Which record, and what is wrong with it.
        what: String,
    },
    /// A check or a repair cannot even begin: the files that say which files there are cannot be read.
    #[error(
        "index cannot be opened: {what}; that cannot be mended: restore the index from a backup (earmark restore), or ingest the catalog into a new folder"
    )]
    BeyondRepair {
        /// What is wrong.
        what: String,
    },
    /// The folder of an index that is open was moved, or exchanged for another.
    #[error(
        "index {} is not in its place any more, or another one is; start the program that has it open again",
        path.display()
    )]
    Exchanged {
        /// Folder of the index.
        path: PathBuf,
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

/// A process by its number, and by its name where the system tells it.
fn named(process: Option<u32>) -> String {
    let Some(process) = process else { return String::new() };
    match std::fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!(" (process {process}, {})", name.trim_end()),
        Err(_) => format!(" (process {process})"),
    }
}
