//! The events of `earmark monitor` and its playlist, as text or JSON.

use anyhow::Result;

use super::matches::{played, title};
use super::{clock, json, line, printable, table};
use crate::args::TextFormat;
use crate::contract::MatchRow;
use crate::contract::live::{LiveKind, LiveRow, LiveSummary};

/// Prints one event.
pub(crate) fn event(row: &LiveRow, format: TextFormat) -> Result<()> {
    match format {
        TextFormat::Json => json(row),
        TextFormat::Human => human(row).map_or(Ok(()), |text| Ok(line(&text)?)),
    }
}

/// Prints what was heard in all.
pub(crate) fn summary(summary: &LiveSummary, format: TextFormat) -> Result<()> {
    match format {
        TextFormat::Json => json(summary),
        TextFormat::Human => Ok(line(&playlist(summary))?),
    }
}

/// An update that only says that a match goes on is nothing to be read.
fn human(row: &LiveRow) -> Option<String> {
    let at = |seconds: Option<f64>| clock(seconds.unwrap_or_default());
    let since = format!("{} – {}", at(row.start_s), at(row.end_s));
    if let Some(found) = &row.found {
        let name = printable(&title(found));
        let place = format!("track at {}", clock(found.reference_start_s));
        return match row.event {
            LiveKind::MatchStarted => {
                let began = clock(found.query_start_s);
                Some(format!("{began}  ▶ {name}  ({place}, {})", certainty(found)))
            }
            LiveKind::MatchEnded => {
                let (start, end) = (clock(found.query_start_s), clock(found.query_end_s));
                Some(format!("{end}  ■ {name}  ({start} – {end}, {place}, {})", certainty(found)))
            }
            _ => None,
        };
    }
    match row.event {
        LiveKind::SilenceStarted => Some(format!("{}  silence", at(row.start_s))),
        LiveKind::SilenceEnded => {
            Some(format!("{}  sound again  (silence {since})", at(row.end_s)))
        }
        LiveKind::UnknownStarted => Some(format!("{}  ? nothing of the catalog", at(row.start_s))),
        LiveKind::UnknownEnded => None,
        LiveKind::AudioLost => Some(format!("{}  audio lost  ({since})", at(row.end_s))),
        LiveKind::MatchStarted | LiveKind::MatchUpdated | LiveKind::MatchEnded => None,
    }
}

fn certainty(found: &MatchRow) -> String {
    let changed = played(found);
    let confidence = found.confidence.map(super::matches::percent).unwrap_or_default();
    if changed.is_empty() { confidence } else { format!("{confidence}, {changed}") }
}

fn playlist(summary: &LiveSummary) -> String {
    let heard =
        format!("{} heard, {} recognised", clock(summary.duration_s), clock(summary.recognised_s));
    if summary.matches.is_empty() {
        return heard;
    }
    let mut table = table(["from", "to", "title", "artist", "track", "confidence"]);
    for found in &summary.matches {
        let text = |text: &Option<String>| printable(text.as_deref().unwrap_or_default());
        table.add_row([
            clock(found.query_start_s),
            clock(found.query_end_s),
            text(if found.title.is_some() { &found.title } else { &found.file_name }),
            text(&found.artist),
            printable(&found.track_id),
            found.confidence.map(super::matches::percent).unwrap_or_default(),
        ]);
    }
    format!("\n{table}\n{heard}")
}
