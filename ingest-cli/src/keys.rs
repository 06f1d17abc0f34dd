//! `earmark keys`: makes, lists and revokes the keys of a server.

use std::num::NonZeroU32;
use std::time::SystemTime;

use anyhow::{Context, Result};
use matcher_server::keys::{KeyFile, NewKey, Token};

use crate::args::KeysCommand;
use crate::report;
use crate::report::keys::KeyRow;

/// Exit code if a key was not there.
const EXIT_MISSING: u8 = 1;

/// Runs the command and gives its exit code.
pub(crate) fn run(command: KeysCommand) -> Result<u8> {
    let now = SystemTime::now();
    match command {
        KeysCommand::Create { file, name, scope, rate, concurrent, expires_in, format } => {
            let expires = expires_in
                .map(|time| now.checked_add(time).context("--expires-in is too far away"))
                .transpose()?;
            let new = NewKey {
                name,
                scopes: scope.into_iter().collect(),
                rate_per_s: rate,
                concurrent_max: concurrent.and_then(NonZeroU32::new),
                expires,
            };
            let (key, token) = KeyFile::new(&file.path).create(new)?;
            report::keys::created(&KeyRow::new(&key, now), token.reveal(), format)?;
        }
        KeysCommand::List { file, format } => {
            let keys = KeyFile::new(&file.path).read()?;
            let rows: Vec<_> = keys.iter().map(|key| KeyRow::new(key, now)).collect();
            report::keys::list(&rows, format)?;
        }
        KeysCommand::Revoke { ids, file, format } => {
            let file = KeyFile::new(&file.path);
            let mut missing_count = 0_u64;
            for id in ids {
                // Whoever has only the key itself may give that.
                let id = Token::parse(&id).map_or(id, |token| token.id().to_owned());
                match file.revoke(&id)? {
                    Some(key) => report::keys::revoked(&KeyRow::new(&key, now), format)?,
                    None => {
                        missing_count += 1;
                        report::note(&format!("there is no key {id}"));
                    }
                }
            }
            return Ok(if missing_count == 0 { 0 } else { EXIT_MISSING });
        }
    }
    Ok(0)
}
