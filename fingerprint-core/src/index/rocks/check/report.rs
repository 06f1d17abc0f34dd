//! What a check found, as data and in words: every fault says what is wrong and what helps.

use std::fmt;

use serde::Serialize;

use crate::index::Metadata;
use crate::units::TrackId;

/// What a check saw of an index.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CheckReport {
    /// Tracks that are whole.
    pub track_count: u64,
    /// Their length together, in seconds.
    pub duration_s: f64,
    /// Postings that these tracks should have.
    pub posting_count: u64,
    /// Postings in segments that belong to no whole track, above all those of removed tracks. They are
    /// no fault: nobody sees them, and a merge leaves them out.
    pub purgeable_posting_count: u64,
    /// Segments whose directory can be read.
    pub segment_count: u64,
    /// Segments that never counted, or no longer do: opening the index deletes their blocks. No fault.
    pub leftover_segment_count: u64,
    /// What is wrong, in the order in which it was found; empty if the index is whole.
    pub faults: Vec<Fault>,
    /// Tracks that cannot be saved, ascending by id.
    pub lost: Vec<LostTrack>,
}

impl CheckReport {
    /// True if nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty()
    }
}

/// A track of which too much is damaged to keep it. Its recording has to be ingested again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LostTrack {
    /// Its id.
    pub track_id: TrackId,
    /// What the caller had said about it; `None` if that is lost too.
    pub metadata: Option<Metadata>,
}

/// One thing that is wrong with an index. [`fmt::Display`] says what; [`Fault::way_out`] what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// A repair was interrupted while it replaced a part of the index. Nothing else was checked.
    Interrupted,
    /// The log of the latest changes is damaged.
    Log {
        /// What RocksDB says.
        what: String,
    },
    /// Rows cannot be read: their checksum is wrong, or a file is cut off.
    Unreadable {
        /// The part of the index (`tracks`, `constellations`, …).
        part: &'static str,
        /// Places in which rows cannot be read.
        place_count: u64,
        /// What RocksDB says of the first.
        what: String,
    },
    /// A field of the header is missing or damaged.
    Header {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The record of a track cannot be understood.
    Record {
        /// Id of the track, as far as it can be read.
        track_id: String,
        /// What is wrong with it.
        what: String,
    },
    /// Something of a track is there, but not its record.
    RecordMissing {
        /// Id of the track.
        track_id: TrackId,
    },
    /// A record says something else than what is stored.
    RecordField {
        /// Id of the track.
        track_id: TrackId,
        /// Name of the field.
        field: &'static str,
        /// What the record says.
        recorded: u32,
        /// What is right.
        actual: u32,
    },
    /// Two tracks are said to lie in the same place.
    SamePlace {
        /// Id of the track that is taken out.
        track_id: TrackId,
        /// Id of the other.
        other: TrackId,
    },
    /// A track cannot be found by its audio, so that duplicates of it are not noticed.
    ContentMissing {
        /// Id of the track.
        track_id: TrackId,
    },
    /// A row says that a track has some audio, but that track has other audio or is not there, or the row is damaged.
    /// Whether the track was removed, and its row came back, or it has lost both record and peaks, nothing tells.
    ContentOrphan {
        /// The id that the row names, as far as it can be read.
        track_id: String,
    },
    /// The peaks of a track are not there.
    PeaksMissing {
        /// Id of the track.
        track_id: TrackId,
    },
    /// The peaks of a track cannot be understood.
    PeaksDamaged {
        /// Id of the track.
        track_id: TrackId,
    },
    /// There are peaks that belong to no track.
    PeaksOrphan {
        /// Where the track would begin on the timeline, in steps; `None` if the key is damaged.
        position: Option<u32>,
    },
    /// The directory of a segment cannot be understood.
    Directory {
        /// Number of the segment; `None` if the key is damaged.
        segment: Option<u32>,
    },
    /// Two segments have the same part of the timeline.
    SegmentOverlap {
        /// Number of the segment that begins later.
        segment: u32,
        /// Number of the other.
        other: u32,
    },
    /// A track lies in two segments, or partly in none.
    Straddling {
        /// Id of the track.
        track_id: TrackId,
    },
    /// Blocks of a segment are missing or cannot be understood.
    Blocks {
        /// Number of the segment.
        segment: u32,
        /// How many blocks.
        block_count: u64,
        /// Number of the first of them.
        first: u32,
        /// What is wrong with that one.
        what: String,
    },
    /// A segment holds another number of postings than its directory says.
    SegmentCount {
        /// Number of the segment.
        segment: u32,
        /// What the directory says.
        recorded: u64,
        /// What its blocks hold.
        actual: u64,
    },
    /// Tracks that should be in a segment are in none: a search never finds them.
    Uncovered {
        /// Number of tracks.
        track_count: u64,
        /// Number of their postings.
        posting_count: u64,
        /// Some of them.
        examples: Vec<TrackId>,
    },
    /// The postings of a segment are not those that follow from the peaks of its tracks.
    Postings {
        /// Number of the segment.
        segment: u32,
        /// Tracks that are concerned.
        track_count: u64,
        /// Postings that should be there and are not.
        missing: u64,
        /// Postings that should not be there.
        foreign: u64,
        /// Postings that are there more than once, not counting the first of each.
        doubled: u64,
        /// True if the three are what must be at fault at least: too many tracks were concerned to look
        /// at each.
        is_at_least: bool,
        /// The first few, in words.
        examples: Vec<String>,
    },
    /// The table that says how long posting lists are is damaged or wrong.
    Lengths {
        /// What is wrong with it.
        what: String,
    },
}

impl Fault {
    /// What to do about it, as a sentence without its end.
    #[must_use]
    pub fn way_out(&self) -> &'static str {
        match self {
            Self::Interrupted => "--repair ends it",
            Self::Log { .. } => {
                "--repair keeps what can be read, and all files as they are in the folder lost; then ingest again \
                 what was added last, and remove again what was removed last"
            }
            Self::Unreadable { .. } => {
                "--repair keeps all rows that can be read and writes the part anew; look after the disk"
            }
            Self::Header { .. } => "--repair writes it anew",
            Self::Record { .. }
            | Self::RecordMissing { .. }
            | Self::SamePlace { .. }
            | Self::PeaksMissing { .. }
            | Self::PeaksDamaged { .. } => {
                "--repair takes the track out; then ingest its recording again"
            }
            Self::RecordField { .. } => "--repair mends the record",
            Self::ContentMissing { .. } => "--repair adds the row",
            Self::ContentOrphan { .. } => {
                "--repair deletes the row; if the track should be there and is not, ingest its recording again"
            }
            Self::PeaksOrphan { .. } => "--repair deletes the row",
            Self::Directory { .. }
            | Self::SegmentOverlap { .. }
            | Self::Straddling { .. }
            | Self::Blocks { .. }
            | Self::SegmentCount { .. }
            | Self::Uncovered { .. }
            | Self::Postings { .. } => "--repair makes the postings anew from the stored peaks",
            Self::Lengths { .. } => "--repair counts them anew",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => write!(f, "a repair was interrupted"),
            Self::Log { what } => write!(f, "the log of the latest changes is damaged: {what}"),
            Self::Unreadable { part, place_count, what } => {
                let places = if *place_count == 1 { "place" } else { "places" };
                write!(f, "rows of {part} cannot be read in {place_count} {places}: {what}")
            }
            Self::Header { field, what } => write!(f, "header field {field} {what}"),
            Self::Record { what, .. } => write!(f, "{what}"),
            Self::RecordMissing { track_id } => {
                write!(f, "the record of track {track_id} is missing")
            }
            Self::RecordField { track_id, field, recorded, actual } => {
                write!(f, "the record of track {track_id} says {field} {recorded}, it is {actual}")
            }
            Self::SamePlace { track_id, other } => {
                write!(f, "tracks {other} and {track_id} begin in the same place")
            }
            Self::ContentMissing { track_id } => {
                write!(f, "track {track_id} has no row in content")
            }
            Self::ContentOrphan { track_id } => {
                write!(
                    f,
                    "a row in content belongs to no track: it names {track_id}, which is not there or has other audio"
                )
            }
            Self::PeaksMissing { track_id } => write!(f, "track {track_id} has no peaks"),
            Self::PeaksDamaged { track_id } => {
                write!(f, "the peaks of track {track_id} are damaged")
            }
            Self::PeaksOrphan { position: Some(position) } => {
                write!(f, "the peaks at position {position} belong to no track")
            }
            Self::PeaksOrphan { position: None } => {
                write!(f, "a row in constellations has a damaged key")
            }
            Self::Directory { segment: Some(segment) } => {
                write!(f, "the directory of segment {segment} is damaged")
            }
            Self::Directory { segment: None } => write!(f, "a segment has a damaged number"),
            Self::SegmentOverlap { segment, other } => {
                write!(f, "segments {other} and {segment} have the same part of the timeline")
            }
            Self::Straddling { track_id } => {
                write!(f, "track {track_id} lies across the end of a segment")
            }
            Self::Blocks { segment, block_count, first, what } => {
                write!(
                    f,
                    "{block_count} blocks of segment {segment} are damaged; block {first} {what}"
                )
            }
            Self::SegmentCount { segment, recorded, actual } => {
                write!(
                    f,
                    "segment {segment} holds {actual} postings, its directory says {recorded}"
                )
            }
            Self::Uncovered { track_count, posting_count, examples } => {
                write!(f, "{track_count} tracks with {posting_count} postings are in no segment")?;
                write_examples(f, examples)
            }
            Self::Postings {
                segment,
                track_count,
                missing,
                foreign,
                doubled,
                is_at_least,
                examples,
            } => {
                let least = if *is_at_least { "at least " } else { "" };
                write!(
                    f,
                    "segment {segment}: {least}{missing} postings are missing, {foreign} are foreign, \
                     {doubled} are there twice, in {track_count} tracks"
                )?;
                write_examples(f, examples)
            }
            Self::Lengths { what } => write!(f, "the table of lengths {what}"),
        }
    }
}

fn write_examples(f: &mut fmt::Formatter<'_>, examples: &[impl fmt::Display]) -> fmt::Result {
    for (i, example) in examples.iter().enumerate() {
        write!(f, "{}{example}", if i == 0 { ": " } else { "; " })?;
    }
    Ok(())
}
