//! Tests of fingerprint-core as its users see it: one binary, a module for each behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a panic here is a failed test"
)]

mod decode;
mod formats;
mod index;
mod live;
mod matching;
