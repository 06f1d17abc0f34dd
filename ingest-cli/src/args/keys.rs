//! The arguments of `earmark keys`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use matcher_server::keys::Scope;

use super::TextFormat;

const KEYS_HELP: &str = "\
Scopes:
  match    match clips and streams, look a track up by its id, statistics
  ingest   add, change, list, look up and remove tracks, statistics
  admin    everything, backups included

Clients show a key as `authorization: Bearer KEY`; `earmark` itself takes it from EARMARK_KEY or
--key-file. A server that was started with --keys FILE reads the file again when it changes: new
keys work, and revoked ones are refused, within some seconds, and streams of theirs end.

Exit codes: 0 done, 1 there is no such key, 2 an error.";

#[derive(Debug, Subcommand)]
#[command(after_help = KEYS_HELP)]
pub(crate) enum KeysCommand {
    /// Make a key, and print it; it cannot be seen again
    Create {
        #[command(flatten)]
        file: KeysFileArgs,
        /// Whose it is, for lists and people
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What it allows: match, ingest or admin; several with commas
        #[arg(long, value_name = "SCOPE", required = true, value_delimiter = ',')]
        scope: Vec<Scope>,
        /// Most requests a second, such as 50 or 0.5; each clip of a batch counts as one
        #[arg(long, value_name = "N")]
        rate: Option<f64>,
        /// Most requests at a time, streams included
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        concurrent: Option<u32>,
        /// How long it is accepted, e.g. 90d
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        expires_in: Option<Duration>,
        /// How to print the key; human prints nothing else on standard output
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
    },
    /// List the keys, revoked ones included; the keys themselves cannot be seen
    List {
        #[command(flatten)]
        file: KeysFileArgs,
        /// How to print the keys
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
    },
    /// Revoke keys: they are refused from then on
    Revoke {
        /// Ids of the keys: the eight digits behind earmark_
        #[arg(value_name = "KEY_ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        file: KeysFileArgs,
        /// How to print what was revoked
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
    },
}

/// Which file of keys.
#[derive(Debug, Args)]
pub(crate) struct KeysFileArgs {
    /// File of the keys, the same that the server was started with
    #[arg(long = "keys", value_name = "FILE", env = "EARMARK_SERVER_KEYS")]
    pub(crate) path: PathBuf,
}
