//! What `earmark reindex` did, and how far it is.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::{clock, count, counted, json, line, printable, size};
use crate::args::TextFormat;

/// The closing summary: one line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ReindexRow {
    pub(crate) old_index: String,
    pub(crate) new_index: String,
    pub(crate) old_format_version: u32,
    pub(crate) format_version: u32,
    pub(crate) copied: u64,
    /// There before this run.
    pub(crate) kept: u64,
    /// There before this run, and no longer in the old index.
    pub(crate) removed: u64,
    /// Left out.
    pub(crate) damaged: u64,
    /// Length of what was copied and kept.
    pub(crate) audio_s: f64,
    pub(crate) elapsed_s: f64,
    pub(crate) old_bytes: u64,
    pub(crate) new_bytes: u64,
    pub(crate) complete: bool,
}

/// What stands beside the count while tracks are copied.
pub(crate) fn so_far(audio_s: f64, elapsed: Duration) -> String {
    let per_second = audio_s / 3_600.0 / elapsed.as_secs_f64().max(1e-3);
    format!("{} of audio · {per_second:.1} h a second", clock(audio_s))
}

/// Prints the closing summary.
pub(crate) fn print(row: &ReindexRow, format: TextFormat) -> Result<()> {
    if format == TextFormat::Json {
        return json(row);
    }
    for text in human(row) {
        line(&text)?;
    }
    Ok(())
}

fn human(row: &ReindexRow) -> Vec<String> {
    let (old, new) = (printable(&row.old_index), printable(&row.new_index));
    let mut lines = vec![
        format!(
            "{}, {} of audio, in {}: {} copied, {} there before, {} no longer in the old index, {} damaged and left out",
            counted(row.copied + row.kept, "track"),
            clock(row.audio_s),
            clock(row.elapsed_s),
            count(row.copied),
            count(row.kept),
            count(row.removed),
            count(row.damaged),
        ),
        format!("old: {old}, format {}, {}", row.old_format_version, size(row.old_bytes)),
        format!("new: {new}, format {}, {}", row.format_version, size(row.new_bytes)),
    ];
    lines.push(match (row.complete, row.damaged) {
        (false, _) => "interrupted; run the same command again to go on where it stopped".into(),
        (true, 0) => "the new index is complete; the old one is as it was".into(),
        (true, _) => {
            "the new index is complete but for the damaged tracks; ingest their files into it"
                .into()
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_to_do() {
        let mut row = ReindexRow {
            old_index: "a".into(),
            new_index: "b".into(),
            old_format_version: 1,
            format_version: 2,
            copied: 1_200,
            kept: 34,
            removed: 0,
            damaged: 0,
            audio_s: 60.0,
            elapsed_s: 1.0,
            old_bytes: 2_048,
            new_bytes: 1_024,
            complete: true,
        };
        let lines = human(&row);
        assert!(lines[0].starts_with("1,234 tracks, 1:00.0 of audio, in 0:01.0: 1,200 copied"));
        assert_eq!(lines[1..3], ["old: a, format 1, 2.00 KiB", "new: b, format 2, 1.00 KiB"]);
        assert!(lines[3].starts_with("the new index is complete; "), "{lines:?}");
        row.damaged = 1;
        assert!(human(&row)[3].contains("damaged tracks; ingest"), "{row:?}");
        row.complete = false;
        assert!(human(&row)[3].starts_with("interrupted; run the same command again"), "{row:?}");
    }

    #[test]
    fn speed_is_told_in_hours_a_second() {
        let text = so_far(7_200.0, Duration::from_secs(4));
        assert_eq!(text, "2:00:00.0 of audio · 0.5 h a second");
    }
}
