//! Tests of recognition as a whole: one binary, a module for each behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a panic here is a failed test"
)]

mod meter;
mod regression;
mod siege;
mod soak;
