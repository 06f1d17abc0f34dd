//! Keys of a server: what is known of them, and, when one is made, the key itself.

use std::time::SystemTime;

use anyhow::Result;
use matcher_server::keys::Key;
use serde::Serialize;

use super::tracks::rfc3339;
use super::{json, line, note, printable, table};
use crate::args::TextFormat;

/// One key: one line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct KeyRow {
    key_id: String,
    name: String,
    scopes: Vec<&'static str>,
    /// `valid`, `revoked` or `expired`.
    status: &'static str,
    /// RFC 3339, UTC, as all times.
    created_at: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    rate_per_s: Option<f64>,
    concurrent_max: Option<u32>,
}

impl KeyRow {
    /// What a key is at that time.
    pub(crate) fn new(key: &Key, now: SystemTime) -> Self {
        let status = match key.revoked {
            Some(_) => "revoked",
            None if key.is_valid_at(now) => "valid",
            None => "expired",
        };
        Self {
            key_id: key.id.clone(),
            name: key.name.clone(),
            scopes: key.scopes.iter().map(|scope| scope.name()).collect(),
            status,
            created_at: rfc3339(key.created),
            expires_at: key.expires.map(rfc3339),
            revoked_at: key.revoked.map(rfc3339),
            rate_per_s: key.rate_per_s,
            concurrent_max: key.concurrent_max.map(Into::into),
        }
    }

    fn limits(&self) -> String {
        let rate = self.rate_per_s.map(|rate| format!("{rate}/s"));
        let concurrent = self.concurrent_max.map(|most| format!("{most} at a time"));
        rate.into_iter().chain(concurrent).collect::<Vec<_>>().join(", ")
    }
}

/// Prints a new key: the token alone on standard output, so that a script can take it.
pub(crate) fn created(row: &KeyRow, token: &str, format: TextFormat) -> Result<()> {
    #[derive(Serialize)]
    struct Created<'a> {
        #[serde(flatten)]
        row: &'a KeyRow,
        key: &'a str,
    }
    match format {
        TextFormat::Json => json(&Created { row, key: token }),
        TextFormat::Human => {
            line(token)?;
            note(&format!(
                "key {} of {} ({}); keep it: it cannot be shown again",
                row.key_id,
                row.name,
                row.scopes.join(", ")
            ));
            Ok(())
        }
    }
}

/// Prints all keys.
pub(crate) fn list(rows: &[KeyRow], format: TextFormat) -> Result<()> {
    if format == TextFormat::Json {
        return rows.iter().try_for_each(json);
    }
    let mut table =
        table(["key id", "name", "scopes", "status", "limits", "created", "expires", "revoked"]);
    for row in rows {
        table.add_row([
            row.key_id.clone(),
            printable(&row.name),
            row.scopes.join(", "),
            row.status.to_owned(),
            row.limits(),
            row.created_at.clone(),
            row.expires_at.clone().unwrap_or_default(),
            row.revoked_at.clone().unwrap_or_default(),
        ]);
    }
    Ok(line(&table.to_string())?)
}

/// Prints that a key was revoked.
pub(crate) fn revoked(row: &KeyRow, format: TextFormat) -> Result<()> {
    match format {
        TextFormat::Json => json(row),
        TextFormat::Human => {
            Ok(line(&format!("revoked {} ({})", row.key_id, printable(&row.name)))?)
        }
    }
}
