//! `earmark compact`: one segment instead of many, without the postings of removed tracks.

use std::time::Instant;

use anyhow::Result;
use fingerprint_core::index::{Index, IndexStats, RocksIndex};
use fingerprint_core::params::Params;

use crate::args::CompactArgs;
use crate::contract::to_milli;
use crate::folder::{self, explain};
use crate::report::compact::{CompactRow, print};

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &CompactArgs) -> Result<u8> {
    let dir = args.folder.resolve()?;
    let started = Instant::now();
    let index = RocksIndex::open(&dir, &Params::default()).map_err(|e| explain(e, &dir))?;
    let (before, bytes_before) = (index.stats()?, folder::bytes(&dir)?);
    index.compact()?;
    let after = index.stats()?;
    // Files that were read until now are deleted when the index is closed.
    drop(index);
    let row = CompactRow {
        bytes_before,
        bytes_after: folder::bytes(&dir)?,
        purged_posting_count: before
            .purgeable_posting_count
            .saturating_sub(after.purgeable_posting_count),
        posting_count: after.posting_count,
        segment_count_before: segment_count(&before),
        segment_count_after: segment_count(&after),
        elapsed_s: to_milli(started.elapsed().as_secs_f64()),
    };
    print(&row, args.format)?;
    Ok(0)
}

fn segment_count(stats: &IndexStats) -> u64 {
    stats.segments_by_size.iter().map(|class| class.segment_count).sum()
}
