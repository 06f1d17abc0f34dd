//! The server as its clients see it: over a real connection, with real and synthesised audio.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic here is a failed test, and a skipped test must be loud"
)]

mod backup;
mod broken_off;
mod catalog;
mod certificates;
mod contract;
mod http;
mod limits;
mod matching;
mod metrics;
mod process;
mod python;
mod repeats;
mod security;
mod services;
mod stream;
mod support;
mod traces;
