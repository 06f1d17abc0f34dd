//! The table that is printed: a column for each number of tracks.

use std::time::Duration;

use fingerprint_core::index::IndexStats;

use crate::grow::Growth;
use crate::measure::{Latencies, Searches, Warm};

/// What was measured at one size.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) stats: IndexStats,
    pub(crate) bytes: u64,
    pub(crate) growth: Growth,
    pub(crate) grown: Grown,
    pub(crate) compacting: Duration,
    pub(crate) opening: Duration,
    pub(crate) warm: Warm,
    pub(crate) cold: [Latencies; 2],
    /// Resident after warm searches, in MiB.
    pub(crate) memory: f64,
}

/// The index before it is compacted.
#[derive(Debug)]
pub(crate) struct Grown {
    pub(crate) segment_count: u64,
    pub(crate) plain: Searches,
}

/// All rows so far, as a table in Markdown.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut text = line("tracks", rows, |row| row.stats.track_count.to_string());
    text += &line("---", rows, |_| "---".to_owned());
    text += &line("hours", rows, |row| format!("{:.0}", hours(row)));
    text += &line("index, MB per hour", rows, |row| {
        format!("{:.3}", row.bytes as f64 / 1e6 / hours(row))
    });
    text += &line("postings, millions", rows, |row| {
        format!("{:.1}", row.stats.posting_count as f64 / 1e6)
    });
    text += &line("bytes a posting", rows, |row| {
        let blocks = row.stats.bytes_by_part.get("blocks").copied().unwrap_or(0);
        format!("{:.2}", blocks as f64 / row.stats.posting_count as f64)
    });
    text += &line("tracks added a minute", rows, |row| {
        let minutes = row.growth.time.as_secs_f64() / 60.0;
        // None were added if the index had them already.
        if minutes > 0.0 {
            format!("{:.0}", row.growth.tracks_alone as f64 / minutes)
        } else {
            "-".to_owned()
        }
    });
    text += &line("slowest batch, ms", rows, |row| ms(row.growth.slowest));
    text += &line("memory while adding, MiB", rows, |row| format!("{:.0}", row.growth.memory));
    text += &line("memory while searching, MiB", rows, |row| format!("{:.0}", row.memory));
    text += &line("compacting, s", rows, |row| format!("{:.1}", row.compacting.as_secs_f64()));
    text += &line("opening, s", rows, |row| format!("{:.2}", row.opening.as_secs_f64()));
    text += &line("plain, warm: p50, p99, max ms", rows, |row| times(&row.warm.plain.latencies));
    text += &line("… as it has grown, segments", rows, |row| {
        format!("{}, {}", times(&row.grown.plain.latencies), row.grown.segment_count)
    });
    text += &line("… while adding", rows, |row| times(&row.growth.meanwhile));
    text += &line("… cold", rows, |row| times(&row.cold[0]));
    text += &line("… key ranges, postings", rows, |row| reads(&row.warm.plain));
    text += &line("foreign, all passes, warm", rows, |row| times(&row.warm.foreign.latencies));
    text += &line("… cold", rows, |row| times(&row.cold[1]));
    text += &line("… key ranges, postings", rows, |row| reads(&row.warm.foreign));
    text += &line("found", rows, |row| share(row.warm.hits));
    text += &line("… of unchanged", rows, |row| share(row.warm.unchanged_hits));
    text += &line("wrong track", rows, |row| row.warm.wrong.to_string());
    text += &line("false accepts, of synthetic tracks", rows, |row| share(row.warm.false_accepts));
    text += &line("… of other recordings", rows, |row| row.warm.related.to_string());
    text
}

fn hours(row: &Row) -> f64 {
    row.stats.duration_s / 3_600.0
}

fn line(name: &str, rows: &[Row], cell: impl Fn(&Row) -> String) -> String {
    let cells: Vec<_> = rows.iter().map(cell).collect();
    format!("| {name} | {} |\n", cells.join(" | "))
}

fn ms(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e3)
}

fn times(latencies: &Latencies) -> String {
    let all: Option<Vec<_>> =
        [50, 99, 100].map(|p| latencies.percentile_ms(p)).into_iter().collect();
    let [p50, p99, max] = all.as_deref().unwrap_or_default() else { return "-".to_owned() };
    format!("{p50:.1}, {p99:.1}, {max:.1}")
}

fn reads(searches: &Searches) -> String {
    let (ranges, postings) = (&searches.ranges, &searches.postings);
    format!(
        "{:.0} (max {}), {:.2} M (max {:.2})",
        ranges.mean,
        ranges.max,
        postings.mean / 1e6,
        postings.max as f64 / 1e6
    )
}

fn share((part, whole): (usize, usize)) -> String {
    format!("{part} of {whole}")
}
