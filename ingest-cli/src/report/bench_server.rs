//! The figures of `earmark bench-server`, as text or JSON.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{counted, json, line, table};
use crate::args::TextFormat;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct StreamFigures {
    /// Streams that were asked for, those that were followed to their end, and those that were not.
    pub(crate) stream_count: u64,
    pub(crate) finished_count: u64,
    pub(crate) failed_count: u64,
    /// What was said of those, and how often.
    pub(crate) failures: Vec<(String, u64)>,
    /// Streams in which something was recognised.
    pub(crate) recognised_count: u64,
    /// From the first sample of a stream to the first match, in seconds.
    pub(crate) first_match_s: Quantiles,
    /// How far the search was behind the clock when something was told, in seconds.
    pub(crate) behind_s: Quantiles,
    /// How late packets were sent, in seconds: more than a little means that this program has too much
    /// to do.
    pub(crate) sent_late_s: Quantiles,
    /// Searches for changed recordings that the server put off.
    pub(crate) skipped_change_searches: u64,
}

/// Of times that were kept in milliseconds, in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    pub(crate) fn of_ms(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: histogram.max() as f64 / 1e3 }
    }
}

/// What was measured at one rate of clips.
#[derive(Debug, Serialize)]
pub(crate) struct ClipFigures {
    /// Rate that was asked for, in clips a second, and clips that were due.
    pub(crate) rate_per_s: f64,
    pub(crate) due_count: u64,
    /// Clips that were not sent because too many calls were open.
    pub(crate) not_sent_count: u64,
    /// Clips that were answered, those of them with a match, refused because the server was busy, and failed.
    pub(crate) answered_count: u64,
    pub(crate) matched_count: u64,
    pub(crate) refused_count: u64,
    pub(crate) failed_count: u64,
    /// What was said of those, and how often.
    pub(crate) failures: Vec<(String, u64)>,
    /// Answers a second, until the last.
    pub(crate) answered_per_s: f64,
    /// From when a clip was due to its answer, or its refusal.
    pub(crate) answered_ms: Micros,
    pub(crate) refused_ms: Micros,
    /// From when a clip was due to when this program sent it: more than a little means that it has too much to do.
    pub(crate) sent_late_ms: Micros,
}

/// Of times that were kept in microseconds, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Micros {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Micros {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: histogram.max() as f64 / 1e3 }
    }
}

/// Prints what was measured at each rate.
pub(crate) fn clips(figures: &[ClipFigures], format: TextFormat) -> Result<()> {
    if format == TextFormat::Json {
        return figures.iter().try_for_each(json);
    }
    let mut table = table([
        "due/s",
        "answered/s",
        "matched",
        "refused",
        "failed",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "max ms",
        "refused p99",
        "sent late p99",
    ]);
    for row in figures {
        let percent =
            |count: u64| format!("{:.1} %", 100.0 * count as f64 / row.due_count.max(1) as f64);
        table.add_row([
            format!("{}", row.rate_per_s),
            format!("{:.1}", row.answered_per_s),
            percent(row.matched_count),
            percent(row.refused_count),
            percent(row.failed_count + row.not_sent_count),
            format!("{:.1}", row.answered_ms.p50),
            format!("{:.1}", row.answered_ms.p95),
            format!("{:.1}", row.answered_ms.p99),
            format!("{:.1}", row.answered_ms.max),
            format!("{:.1}", row.refused_ms.p99),
            format!("{:.1}", row.sent_late_ms.p99),
        ]);
    }
    line(&table.to_string())?;
    for row in figures {
        for (text, count) in &row.failures {
            line(&format!("{} a second: failed {count} times: {text}", row.rate_per_s))?;
        }
    }
    Ok(())
}

/// Prints the figures of streams.
pub(crate) fn streams(figures: &StreamFigures, format: TextFormat) -> Result<()> {
    if format == TextFormat::Json {
        return json(figures);
    }
    let quantiles = |q: &Quantiles| {
        format!(
            "p50 {:.2} s, p95 {:.2} s, p99 {:.2} s, at most {:.2} s",
            q.p50, q.p95, q.p99, q.max
        )
    };
    let mut lines = vec![
        format!(
            "{}: {} to their end, {} failed",
            counted(figures.stream_count, "stream"),
            figures.finished_count,
            figures.failed_count
        ),
        format!(
            "first match ({} streams): {}",
            figures.recognised_count,
            quantiles(&figures.first_match_s)
        ),
        format!("behind the clock: {}", quantiles(&figures.behind_s)),
        format!("packets sent late: {}", quantiles(&figures.sent_late_s)),
        format!("searches for changed recordings put off: {}", figures.skipped_change_searches),
    ];
    lines.extend(
        figures.failures.iter().map(|(text, count)| format!("failed {count} times: {text}")),
    );
    Ok(line(&lines.join("\n"))?)
}
