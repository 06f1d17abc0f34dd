//! The real `earmark` command on real audio; modules by behaviour.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

mod embedded;
mod ingest;
mod interrupt;
mod matching;
mod output;
mod server;
mod support;
mod upkeep;
