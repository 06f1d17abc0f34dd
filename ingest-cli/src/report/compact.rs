//! What `earmark compact` did.

use anyhow::Result;
use serde::Serialize;

use super::{clock, count, counted, json, line, size};
use crate::args::TextFormat;

/// What compacting did: one line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct CompactRow {
    /// All files of the index.
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
    /// Postings of removed tracks that are gone.
    pub(crate) purged_posting_count: u64,
    /// Postings that are left.
    pub(crate) posting_count: u64,
    pub(crate) segment_count_before: u64,
    pub(crate) segment_count_after: u64,
    pub(crate) elapsed_s: f64,
}

/// Prints what compacting did.
pub(crate) fn print(row: &CompactRow, format: TextFormat) -> Result<()> {
    if format == TextFormat::Json {
        return json(row);
    }
    line(&format!(
        "{} before, {} after; {} postings of removed tracks purged, {} in {} \
         (before: {}); {}",
        size(row.bytes_before),
        size(row.bytes_after),
        count(row.purged_posting_count),
        counted(row.posting_count, "posting"),
        counted(row.segment_count_after, "segment"),
        count(row.segment_count_before),
        clock(row.elapsed_s),
    ))?;
    Ok(())
}
