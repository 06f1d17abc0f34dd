//! The figures of `earmark bench-server`, as text or JSON.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{counted, json, line};
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

/// Prints the figures.
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
