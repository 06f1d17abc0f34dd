//! The real `earmark` command on real audio; modules by behaviour.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

mod backup;
mod embedded;
mod follow;
mod ingest;
mod interrupt;
mod keys;
mod kills;
mod matching;
mod monitor;
mod output;
mod reindex;
mod server;
mod support;
mod upkeep;
