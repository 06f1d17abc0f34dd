//! Sizes and counts of a catalog.

use std::collections::BTreeMap;

use anyhow::Result;
use fingerprint_core::index::{BlockCacheStats, IndexStats, ListLengths, SegmentClass};
use serde::Serialize;

use super::{clock, count, json, line, printable, size};
use crate::args::TextFormat;
use crate::catalog::Stats;
use crate::contract::to_milli;

/// Sizes and counts: one line of JSON.
#[derive(Debug, Serialize)]
struct StatsRow<'a> {
    track_count: u64,
    duration_s: f64,
    posting_count: u64,
    peak_count: u64,
    bytes_by_part: &'a BTreeMap<String, u64>,
    format_version: u32,
    params_digest: String,
    server_version: Option<&'a str>,
    bytes: u64,
    /// Millions of bytes for an hour of audio; null if there is none.
    mb_per_hour: Option<f64>,
    purgeable_posting_count: u64,
    buffered_posting_count: u64,
    segment_count: u64,
    segments_by_size: &'a [SegmentClass],
    list_lengths: Option<ListLengths>,
    block_cache: Option<BlockCacheStats>,
    resident_bytes: Option<u64>,
}

/// Prints sizes and counts.
pub(crate) fn print(stats: &Stats, format: TextFormat) -> Result<()> {
    let (index, server_version) = (&stats.index, stats.server_version.as_deref());
    let row = StatsRow {
        track_count: index.track_count,
        duration_s: to_milli(index.duration_s),
        posting_count: index.posting_count,
        peak_count: index.peak_count,
        bytes_by_part: &index.bytes_by_part,
        format_version: index.format_version,
        params_digest: format!("{:016x}", index.params_digest),
        server_version,
        bytes: total_bytes(index),
        mb_per_hour: mb_per_hour(index).map(to_milli),
        purgeable_posting_count: index.purgeable_posting_count,
        buffered_posting_count: index.buffered_posting_count,
        segment_count: segment_count(&index.segments_by_size),
        segments_by_size: &index.segments_by_size,
        list_lengths: index.list_lengths,
        block_cache: index.block_cache,
        resident_bytes: index.resident_bytes,
    };
    if format == TextFormat::Json {
        return json(&row);
    }
    for text in human(&row) {
        line(&text)?;
    }
    Ok(())
}

fn total_bytes(index: &IndexStats) -> u64 {
    // A server may tell anything.
    index.bytes_by_part.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

fn mb_per_hour(index: &IndexStats) -> Option<f64> {
    (index.duration_s > 0.0).then(|| total_bytes(index) as f64 / 1e6 / (index.duration_s / 3_600.0))
}

fn segment_count(classes: &[SegmentClass]) -> u64 {
    classes.iter().fold(0, |sum, class| sum.saturating_add(class.segment_count))
}

fn human(row: &StatsRow<'_>) -> Vec<String> {
    let mut lines = vec![
        format!("tracks            {}", count(row.track_count)),
        format!("length            {}", clock(row.duration_s)),
        format!("postings          {}", count(row.posting_count)),
        format!("  in memory only  {}", count(row.buffered_posting_count)),
        format!("  to be purged    {}", count(row.purgeable_posting_count)),
        format!("peaks             {}", count(row.peak_count)),
    ];
    let per_hour = row.mb_per_hour.map(|mb| format!(", {mb:.2} MB an hour")).unwrap_or_default();
    lines.push(format!("on disk           {}{per_hour}", size(row.bytes)));
    for (part, bytes) in row.bytes_by_part {
        let share = percent(*bytes, row.bytes);
        lines.push(format!("  {:<16}{:>12}  {share}", printable(part), size(*bytes)));
    }
    lines.push(format!("segments          {}", count(row.segment_count)));
    lines.extend(row.segments_by_size.iter().map(|class| {
        format!(
            "  from {:<11}{} with {} postings",
            count(class.postings_min),
            count(class.segment_count),
            count(class.posting_count)
        )
    }));
    lines.extend(row.list_lengths.iter().map(|lists| {
        format!(
            "posting lists     {}; median {}, 90 % up to {}, 99 % {}, 99.9 % {}, longest {}",
            count(lists.list_count),
            count(lists.median.into()),
            count(lists.p90.into()),
            count(lists.p99.into()),
            count(lists.p999.into()),
            count(lists.longest.into())
        )
    }));
    lines.extend(row.block_cache.iter().map(|cache| {
        let wanted = cache.hit_count.saturating_add(cache.miss_count);
        format!(
            "block cache       {} of {} blocks wanted were there; {} of {}",
            percent(cache.hit_count, wanted),
            count(wanted),
            size(cache.bytes),
            size(cache.bytes_max)
        )
    }));
    lines.extend(row.resident_bytes.map(|bytes| format!("resident memory   {}", size(bytes))));
    lines.push(format!("format version    {}", row.format_version));
    lines.push(format!("parameters        {}", row.params_digest));
    let version = row.server_version.map(printable);
    lines.extend(version.map(|version| format!("server version    {version}")));
    lines
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        "–".to_owned()
    } else {
        format!("{:.1} %", part as f64 / whole as f64 * 100.0)
    }
}
