//! Tracks: what is stored, as tables, JSON or CSV.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use fingerprint_core::units::TrackId;
use serde::Serialize;

use super::{clock, count, csv_line, json, line, note, printable, table};
use crate::args::{Format, TextFormat};
use crate::catalog::Track;
use crate::contract::{FILE_ATTRIBUTE, to_milli};

/// Rows of one table; a longer list is several tables, so that it is printed as it is read.
const TABLE_ROWS_MAX: usize = 200;

const CSV_HEADER: [&str; 10] = [
    "track_id",
    "title",
    "artist",
    "album",
    "isrc",
    "duration_s",
    "content_hash",
    "peak_count",
    "posting_count",
    "added_at",
];

/// One track: one line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct TrackRow {
    track_id: String,
    title: Option<String>,
    artist: Option<String>,
    album: Option<String>,
    isrc: Option<String>,
    attributes: BTreeMap<String, String>,
    duration_s: f64,
    content_hash: String,
    peak_count: u32,
    posting_count: u32,
    /// RFC 3339, UTC.
    added_at: Option<String>,
}

impl From<Track> for TrackRow {
    fn from(track: Track) -> Self {
        let added_at = |ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms));
        Self {
            track_id: track.id.into(),
            title: track.metadata.title,
            artist: track.metadata.artist,
            album: track.metadata.album,
            isrc: track.metadata.isrc,
            attributes: track.metadata.attributes,
            duration_s: to_milli(track.duration_s),
            content_hash: track.content_hash.to_string(),
            peak_count: track.peak_count,
            posting_count: track.posting_count,
            added_at: track.added_at_ms.and_then(added_at).map(rfc3339),
        }
    }
}

/// Prints tracks one after the other.
#[derive(Debug)]
pub(crate) struct TrackPrinter {
    format: Format,
    rows: Vec<TrackRow>,
    has_header: bool,
}

impl TrackPrinter {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, rows: Vec::new(), has_header: false }
    }

    /// Takes the next track; tables are printed when they are full.
    pub(crate) fn print(&mut self, track: Track) -> Result<()> {
        let row = TrackRow::from(track);
        match self.format {
            Format::Json => return json(&row),
            Format::Csv => {
                if !self.has_header {
                    line(&csv_line(CSV_HEADER)?)?;
                    self.has_header = true;
                }
                return Ok(line(&csv(&row)?)?);
            }
            Format::Human => self.rows.push(row),
        }
        if self.rows.len() == TABLE_ROWS_MAX { self.print_table() } else { Ok(()) }
    }

    /// Prints what is left.
    pub(crate) fn finish(mut self) -> Result<()> {
        match self.format {
            Format::Csv if !self.has_header => Ok(line(&csv_line(CSV_HEADER)?)?),
            Format::Human if !self.rows.is_empty() => self.print_table(),
            _ => Ok(()),
        }
    }

    fn print_table(&mut self) -> Result<()> {
        let mut table = table(["track id", "title", "artist", "length"]);
        for row in self.rows.drain(..) {
            let text = |field: Option<String>| field.as_deref().map(printable).unwrap_or_default();
            let title = row.title.or_else(|| row.attributes.get(FILE_ATTRIBUTE).cloned());
            table.add_row([
                printable(&row.track_id),
                text(title),
                text(row.artist),
                clock(row.duration_s),
            ]);
        }
        Ok(line(&table.to_string())?)
    }
}

/// Prints everything that is stored about one track.
pub(crate) fn show(track: Track, format: TextFormat) -> Result<()> {
    let row = TrackRow::from(track);
    if format == TextFormat::Json {
        return json(&row);
    }
    let mut fields = vec![("track id", row.track_id)];
    let texts =
        [("title", row.title), ("artist", row.artist), ("album", row.album), ("isrc", row.isrc)];
    fields.extend(texts.into_iter().filter_map(|(name, text)| Some((name, text?))));
    fields.extend(row.attributes.iter().map(|(name, text)| (name.as_str(), text.clone())));
    fields.extend([
        ("length", clock(row.duration_s)),
        ("content hash", row.content_hash),
        ("peaks", count(row.peak_count.into())),
        ("postings", count(row.posting_count.into())),
        ("added at", row.added_at.unwrap_or_default()),
    ]);
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, text) in fields {
        line(&format!("{:width$}  {}", printable(name), printable(&text)))?;
    }
    Ok(())
}

/// A track that was to be removed: one line of JSON.
#[derive(Debug, Serialize)]
struct RemovedRow<'a> {
    track_id: &'a str,
    /// False if there was none of this id.
    removed: bool,
}

/// Prints whether a track was removed.
pub(crate) fn print_removed(id: &TrackId, was_there: bool, format: TextFormat) -> Result<()> {
    match (format, was_there) {
        (TextFormat::Json, removed) => json(&RemovedRow { track_id: id.as_str(), removed }),
        (TextFormat::Human, true) => Ok(line(&format!("removed {}", printable(id.as_str())))?),
        (TextFormat::Human, false) => {
            note(&format!("there is no track {id}"));
            Ok(())
        }
    }
}

fn csv(row: &TrackRow) -> Result<String> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    csv_line([
        row.track_id.clone(),
        text(&row.title),
        text(&row.artist),
        text(&row.album),
        text(&row.isrc),
        row.duration_s.to_string(),
        row.content_hash.clone(),
        row.peak_count.to_string(),
        row.posting_count.to_string(),
        text(&row.added_at),
    ])
}

pub(super) fn rfc3339(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
