//! The catalog as the commands see it: an index of this machine, or a server.
//!
//! Each command is written once against [`Catalog`]; `embedded` opens RocksDB in this process,
//! `remote` talks gRPC. Only these two know the difference.

mod convert;
pub(crate) mod dial;
mod embedded;
mod link;
mod patience;
mod remote;
mod remote_stream;
mod told;
mod trouble;
mod upload;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bytes::Bytes;
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::backup::Backup;
use fingerprint_core::index::{Change, IndexStats, Metadata};
use fingerprint_core::matching::live::LiveOptions;
use fingerprint_core::matching::{MatchOptions, MatchStatus};
use fingerprint_core::units::{ContentHash, TrackId};

use crate::args::Target;
use crate::contract::MatchRow;
use crate::contract::live::LiveRow;
use dial::Dial;
use embedded::EmbeddedCatalog;
use remote::RemoteCatalog;
pub(crate) use upload::read_limited;

pub(crate) use self::convert::match_options;
pub(crate) use self::patience::reason;

/// A catalog of tracks. All methods block, and may be called from any thread.
pub(crate) trait Catalog: Send + Sync {
    /// Adds or replaces tracks; the answers are in the order of `tracks`. When it returns, what
    /// it confirmed is on disk.
    fn add(&self, tracks: Vec<Recording>) -> Vec<Result<Stored, AddError>>;

    /// Searches for the tracks that are in a clip.
    fn search(&self, clip: Audio, options: &MatchOptions) -> Result<Answer>;

    /// Follows a stream whose first sample is at time 0.
    fn follow(&self, options: LiveOptions) -> Result<Box<dyn Follower + '_>>;

    /// Looks a track up.
    fn track(&self, id: &TrackId) -> Result<Option<Track>>;

    /// Visits up to `limit` tracks in ascending order of their ids, until `visit` returns false.
    fn tracks(&self, limit: u64, visit: &mut dyn FnMut(Track) -> Result<bool>) -> Result<()>;

    /// Removes a track; false if there was none.
    fn remove(&self, id: &TrackId) -> Result<bool>;

    /// Tidies up after much was added, so that searching is fast from the start.
    fn compact(&self) -> Result<()>;

    /// Sizes and counts.
    fn stats(&self) -> Result<Stats>;

    /// Makes a backup and deletes older ones than the last `keep`: of an index of this machine in
    /// `folder`, of a server in its own.
    fn back_up(&self, folder: Option<&Path>, keep: Option<NonZeroU32>) -> Result<Backup>;

    /// The backups that were made so, the oldest first.
    fn backups(&self, folder: Option<&Path>) -> Result<Vec<Backup>>;
}

/// A stream that is being followed. What became known is appended to `rows`, also if the call fails.
pub(crate) trait Follower {
    /// Takes the next mono samples.
    fn take(&mut self, samples: &[f32], rate_hz: u32, rows: &mut Vec<LiveRow>) -> Result<()>;

    /// So much audio was lost, in milliseconds.
    fn lose(&mut self, lost_ms: u32, rows: &mut Vec<LiveRow>) -> Result<()>;

    /// Ends the stream.
    fn finish(self: Box<Self>, rows: &mut Vec<LiveRow>) -> Result<()>;
}

/// A recording in the form in which it goes into the catalog.
#[derive(Debug)]
pub(crate) enum Audio {
    /// Analysed by this process.
    Fingerprint(Fingerprint),
    /// A file whose bytes are sent to the server (`--send-audio`).
    File(PathBuf),
    /// A whole file in memory, sent to the server (`--send-audio` from standard input).
    Bytes(Bytes),
}

/// A track to add.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The caller's id; derived from the content where there is none.
    pub(crate) id: Option<TrackId>,
    pub(crate) metadata: Metadata,
    pub(crate) audio: Audio,
}

/// What adding did.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: TrackId,
    pub(crate) content_hash: ContentHash,
    pub(crate) duration_s: f64,
    pub(crate) change: Change,
    /// Postings it has in the index; without any it can never be found.
    pub(crate) posting_count: u32,
    /// Other tracks with the very same audio; they are kept.
    pub(crate) duplicate_of: Vec<TrackId>,
}

/// Why a track was not added.
#[derive(Debug)]
pub(crate) enum AddError {
    /// This track is at fault; others may go on.
    Track(anyhow::Error),
    /// The catalog itself is: nothing more can be added.
    Catalog(anyhow::Error),
}

/// A stored track, as both kinds of catalog know it.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) metadata: Metadata,
    pub(crate) duration_s: f64,
    pub(crate) content_hash: ContentHash,
    pub(crate) peak_count: u32,
    pub(crate) posting_count: u32,
    /// Milliseconds since 1970-01-01 UTC; `None` if the server did not say.
    pub(crate) added_at_ms: Option<u64>,
}

/// The answer to one clip.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) duration_s: f64,
    pub(crate) status: MatchStatus,
    /// Best first.
    pub(crate) matches: Vec<MatchRow>,
}

/// Sizes and counts, and who told them.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) index: IndexStats,
    /// `None` for an index of this machine.
    pub(crate) server_version: Option<String>,
}

/// What a command is going to do with the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The index must exist.
    Existing,
    /// An index is made where there is none.
    Create,
    /// The index must exist, and may be open for writing elsewhere.
    ReadOnly,
}

/// Opens the catalog that `target` names; `command` is what to suggest with `--server` if the
/// index is in use, e.g. `match`.
///
/// # Errors
///
/// If the index cannot be opened or the server cannot be reached.
pub(crate) fn open(target: &Target, access: Access, command: &str) -> Result<Box<dyn Catalog>> {
    Ok(match target {
        Target::Index(dir) => Box::new(EmbeddedCatalog::open(dir, access, command)?),
        // Of the environment; beside the flag it is refused.
        Target::Server { .. } if access == Access::ReadOnly => {
            bail!("--read-only is for an index of this machine; give --index DIR")
        }
        Target::Server { url, timeout, connect } => {
            Box::new(RemoteCatalog::connect(&Dial::new(url, connect)?, *timeout)?)
        }
    })
}
