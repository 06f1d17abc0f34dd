//! The inverted index: hash → postings, and the tracks behind them.
//!
//! Position in the flow: landmarks → **postings** → votes. The index knows hashes, tracks and
//! their constellations; it knows neither audio nor how a query is searched.
//!
//! # The timeline
//!
//! Each track that is added gets the next stretch of one long timeline, counted in *steps* of
//! [`POSITION_MS`] milliseconds. A posting stores only a position on that timeline (32 bits), and
//! a resident table of [`Span`]s says which track lies there, and where in the track the position
//! is. A stretch is never given out twice, so a posting of a removed track falls into a hole of
//! the table and is ignored from the moment its removal returns, long before compaction drops it.
//!
//! Two implementations answer through one trait: [`RocksIndex`] keeps everything on disk,
//! [`MemoryIndex`] is the test oracle and the baseline of the benches.

mod bits;
mod block;
mod buffer;
mod error;
mod memory;
mod rocks;
mod segment;
mod stored_peaks;
mod timeline;
mod varint;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

pub use error::IndexError;
pub use memory::MemoryIndex;
pub use rocks::{
    CheckProgress, CheckReport, FORMAT_VERSION, Fault, FollowerIndex, LostTrack, OnCheckProgress,
    ReindexEvent, Reindexed, RepairReport, RocksIndex, backup, read_as_every_row, reindex,
};
use serde::{Deserialize, Serialize};
pub use timeline::Timeline;

use crate::fingerprint::Fingerprint;
use crate::hash::{Key, KeyRange};
use crate::peaks::Peak;
use crate::units::{ContentHash, TrackId};

/// One step of the timeline, in milliseconds.
///
/// Coarser than a frame on purpose: it saves two bits a posting, and verification finds the exact
/// offset again from the peaks. Votes lose nothing by it (measured: 98.3 % of hard queries found
/// with 32 ms and with 128 ms steps).
pub const POSITION_MS: u32 = 128;

/// One occurrence of a landmark hash: where its anchor lies on the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Posting {
    /// The hash.
    pub key: Key,
    /// Steps of [`POSITION_MS`] since the start of the timeline.
    pub position: u32,
}

/// What is known of a recording besides its audio. All fields are the caller's text, unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Title of the recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Performing artist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artist: Option<String>,
    /// Album or release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub album: Option<String>,
    /// International Standard Recording Code (ISO 3901), as given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isrc: Option<String>,
    /// Whatever else the caller wants back with a match: rights, policy, territory.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// A track to add.
#[derive(Debug, Clone)]
pub struct NewTrack {
    /// The caller's id, or [`TrackId::from_content`].
    pub id: TrackId,
    /// Stored beside the audio and returned with every match.
    pub metadata: Metadata,
    /// The whole recording.
    pub fingerprint: Fingerprint,
}

/// What adding a track did.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// The change.
    pub change: Change,
    /// Other tracks with the very same decoded audio, in ascending order. They are kept.
    pub duplicate_of: Vec<TrackId>,
    /// The track as it is stored with this change, whatever becomes of it afterwards.
    pub record: TrackRecord,
}

/// The change that adding a track made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The id was new.
    Inserted,
    /// The id was there with other audio, which is gone now.
    Replaced,
    /// The id was there with the same audio and other metadata; only the metadata changed.
    MetadataUpdated,
    /// The id was there with the same audio and the same metadata: nothing was written.
    Unchanged,
}

/// A stored track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackRecord {
    /// The caller's id.
    pub id: TrackId,
    /// What the caller said about it.
    pub metadata: Metadata,
    /// Length of the recording in seconds.
    pub duration_s: f64,
    /// Hash of its decoded audio.
    pub content_hash: ContentHash,
    /// Peaks stored for verification.
    pub peak_count: u32,
    /// Postings of this track.
    pub posting_count: u32,
    /// When it was added or last replaced, in milliseconds since 1970-01-01 UTC.
    pub added_at_ms: u64,
    /// Where it lies on the timeline.
    pub span: Span,
}

/// A track's stretch of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First step.
    pub start: u32,
    /// Number of steps, at least 1.
    pub len: u32,
}

/// Sizes of an index. What an implementation does not have, or a server of another release does not
/// tell, is zero or `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IndexStats {
    /// Live tracks.
    pub track_count: u64,
    /// Their length together, in seconds.
    pub duration_s: f64,
    /// Postings of live tracks.
    pub posting_count: u64,
    /// Peaks of live tracks.
    pub peak_count: u64,
    /// Bytes on disk by part (`postings`, `constellations`, `tracks`, …); empty in memory.
    pub bytes_by_part: BTreeMap<String, u64>,
    /// Format version of the index.
    pub format_version: u32,
    /// Digest of the fingerprint parameters.
    pub params_digest: u64,
    /// Postings in segments and in memory that belong to no live track: of removed ones, until a
    /// merge leaves them out.
    pub purgeable_posting_count: u64,
    /// Postings that are in memory only, made anew whenever the index is opened.
    pub buffered_posting_count: u64,
    /// The segments by their size, ascending; classes without any are left out.
    pub segments_by_size: Vec<SegmentClass>,
    /// How long posting lists are.
    pub list_lengths: Option<ListLengths>,
    /// Blocks of postings that this process keeps in memory.
    pub block_cache: Option<BlockCacheStats>,
    /// Memory of this process that is resident, in bytes, as far as the system tells.
    pub resident_bytes: Option<u64>,
}

/// Segments of about one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SegmentClass {
    /// Fewest postings of a segment of this class; the next class begins at four times as many.
    pub postings_min: u64,
    /// Number of segments.
    pub segment_count: u64,
    /// Number of their postings.
    pub posting_count: u64,
}

/// How long posting lists are, in postings, removed tracks included. A list is counted with the seven
/// others that differ from it in the last bits of the anchor's frequency only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ListLengths {
    /// Lists that are not empty.
    pub list_count: u64,
    /// Half of them are not longer.
    pub median: u32,
    /// 90 % are not longer.
    pub p90: u32,
    /// 99 % are not longer.
    pub p99: u32,
    /// 99.9 % are not longer.
    pub p999: u32,
    /// The longest.
    pub longest: u32,
}

/// What a process has seen of its cache of blocks since it opened the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BlockCacheStats {
    /// Blocks that were there when they were wanted.
    pub hit_count: u64,
    /// Blocks that had to be read.
    pub miss_count: u64,
    /// Blocks that are kept.
    pub block_count: u64,
    /// Memory that they take, in bytes.
    pub bytes: u64,
    /// Memory that they may take, in bytes.
    pub bytes_max: u64,
}

/// The store of postings and tracks. All methods may be called from any thread.
///
/// A batch is one transaction: either all its tracks become visible, each whole, or none does,
/// and when the call returns they survive a crash of the process or the machine.
pub trait Index: Send + Sync + fmt::Debug {
    /// Adds or replaces tracks; the answers are in the order of `tracks`.
    ///
    /// # Errors
    ///
    /// [`IndexError`], for instance if an id occurs twice in the batch; nothing is stored then.
    fn add(&self, tracks: &[NewTrack]) -> Result<Vec<Added>, IndexError>;

    /// Removes a track; `None` if there was none of this id.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`] or [`IndexError::Corrupt`].
    fn remove(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError>;

    /// Looks a track up.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`] or [`IndexError::Corrupt`].
    fn track(&self, id: &TrackId) -> Result<Option<TrackRecord>, IndexError>;

    /// Up to `limit` tracks in ascending order of their ids, beginning behind `after`.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`] or [`IndexError::Corrupt`].
    fn tracks(&self, after: Option<&TrackId>, limit: usize)
    -> Result<Vec<TrackRecord>, IndexError>;

    /// Ids of the live tracks whose decoded audio has this hash, ascending.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`] or [`IndexError::Corrupt`].
    fn tracks_with_content(&self, hash: &ContentHash) -> Result<Vec<TrackId>, IndexError>;

    /// How many postings a bucket holds, about, without reading any: what a search needs to read
    /// rare keys first. Zero only if no live track has a posting there; removed tracks may
    /// be counted. Costs some nanoseconds. Zero for a bucket that no key has.
    fn bucket_len(&self, bucket: u32) -> u32;

    /// Reads the postings of many key ranges in one call, so that a store far away needs few
    /// round trips. `ranges` must be ascending. `visit` is called once for each range that is not
    /// empty, in order, with the range's place in `ranges` and its postings in any order; postings
    /// of removed tracks may be among them. `Break` ends the reading.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`] or [`IndexError::Corrupt`]; some ranges may have been visited.
    fn read_postings(
        &self,
        ranges: &[KeyRange],
        visit: &mut dyn FnMut(usize, &[Posting]) -> ControlFlow<()>,
    ) -> Result<(), IndexError>;

    /// The peaks of the track that starts at `span_start` whose times, in milliseconds, lie in
    /// `window`, ascending in time; `None` if the track has been removed meanwhile.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`] or [`IndexError::Corrupt`].
    fn peaks(&self, span_start: u32, window: Range<u32>) -> Result<Option<Vec<Peak>>, IndexError>;

    /// The live tracks by position. Take it *before* reading postings: a track that is added in
    /// between is then not seen at all instead of in part.
    fn timeline(&self) -> Arc<Timeline>;

    /// Sizes and counts.
    ///
    /// # Errors
    ///
    /// [`IndexError::Storage`].
    fn stats(&self) -> Result<IndexStats, IndexError>;
}

impl TrackRecord {
    fn count_postings(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.posting_count = self.posting_count.saturating_add(count);
    }
}

impl IndexStats {
    fn count(&mut self, record: &TrackRecord) {
        self.track_count += 1;
        self.duration_s += record.duration_s;
        self.posting_count += u64::from(record.posting_count);
        self.peak_count += u64::from(record.peak_count);
    }

    fn uncount(&mut self, record: &TrackRecord) {
        self.track_count -= 1;
        self.duration_s -= record.duration_s;
        self.posting_count -= u64::from(record.posting_count);
        self.peak_count -= u64::from(record.peak_count);
    }
}

impl Span {
    /// First step behind the span.
    #[must_use]
    pub fn end(self) -> u32 {
        self.start + self.len
    }

    /// True if the step at `position` is in the span.
    #[must_use]
    pub fn contains(self, position: u32) -> bool {
        (self.start..self.end()).contains(&position)
    }
}
