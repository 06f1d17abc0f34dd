//! Backups and what is damaged in them, as tables or JSON.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use fingerprint_core::index::backup::{Backup, BackupState, Damage};
use serde::Serialize;

use super::{clock, count, json, line, printable, size, table};
use crate::args::TextFormat;
use crate::contract::to_milli;

/// A backup: one line of JSON.
#[derive(Debug, Serialize)]
struct BackupRow {
    backup_id: u32,
    /// RFC 3339, UTC.
    taken_at: Option<String>,
    bytes: u64,
    added_bytes: u64,
    state: &'static str,
    track_count: Option<u64>,
    duration_s: Option<f64>,
    damage: Option<String>,
}

impl From<&Backup> for BackupRow {
    fn from(backup: &Backup) -> Self {
        let (state, contents, damage) = match &backup.state {
            BackupState::Verified(contents) => ("verified", Some(contents), None),
            BackupState::Unverified => ("unverified", None, None),
            BackupState::Damaged { what } => ("damaged", None, Some(what.clone())),
        };
        // Zero where the list of files could not be read.
        let taken_at = Some(backup.taken_at_s)
            .filter(|seconds| *seconds > 0)
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        Self {
            backup_id: backup.id,
            taken_at: taken_at.map(|time| humantime::format_rfc3339_seconds(time).to_string()),
            bytes: backup.bytes,
            added_bytes: backup.added_bytes,
            state,
            track_count: contents.map(|contents| contents.track_count),
            duration_s: contents.map(|contents| to_milli(contents.duration_s)),
            damage,
        }
    }
}

/// Prints backups, the oldest first.
pub(crate) fn print(backups: &[Backup], format: TextFormat) -> Result<()> {
    let rows = backups.iter().map(BackupRow::from);
    if format == TextFormat::Json {
        return rows.into_iter().try_for_each(|row| json(&row));
    }
    let mut table = table(["backup", "taken at", "size", "added", "tracks", "length", "state"]);
    for row in rows {
        let state = row.damage.map_or(row.state.to_owned(), |what| format!("damaged: {what}"));
        table.add_row([
            row.backup_id.to_string(),
            row.taken_at.unwrap_or_default(),
            size(row.bytes),
            size(row.added_bytes),
            row.track_count.map(count).unwrap_or_default(),
            row.duration_s.map(clock).unwrap_or_default(),
            printable(&state),
        ]);
    }
    Ok(line(&table.to_string())?)
}

/// A damaged file: one line of JSON.
#[derive(Debug, Serialize)]
struct DamageRow<'a> {
    file: String,
    what: &'a str,
    /// Numbers of the backups that need it.
    backups: &'a [u32],
}

/// Prints what is damaged.
pub(crate) fn print_damages(damages: &[Damage], format: TextFormat) -> Result<()> {
    for Damage { file, what, backups } in damages {
        let file = file.to_string_lossy().into_owned();
        if format == TextFormat::Json {
            json(&DamageRow { file, what, backups })?;
            continue;
        }
        let ids: Vec<_> = backups.iter().map(u32::to_string).collect();
        line(&printable(&format!("{file}: {what} (backup {})", ids.join(", "))))?;
    }
    if format == TextFormat::Human {
        line(&match damages.len() {
            0 => "all files are as they were written".to_owned(),
            n => format!(
                "{n} damaged; those in shared_checksum may be deleted, and the next backup copies them again; \
                 backups that need another one are lost"
            ),
        })?;
    }
    Ok(())
}
