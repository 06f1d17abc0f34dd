//! Audio fingerprints: which recordings are in a piece of audio, where, and how surely.
//!
//! Data flows one way, and `use` lines point only backwards along it:
//!
//! ```text
//! audio ─ decode ─▶ samples ─ resample ─▶ 16 kHz mono ─ spectrogram ─▶ frames
//!   ─ peaks ─▶ constellation ─ landmark ─▶ pairs of peaks ─ hash ─▶ keys
//!   ─ index ─▶ postings ─ matching ─▶ votes ─▶ candidates ─▶ matches
//! ```
//!
//! [`fingerprint`] calls several stages in a row: audio in, constellation out, in batch or as a stream;
//! [`listening`] does so for streams that are searched as they come. No other module does. [`index`]
//! stores fingerprints, [`matching`] searches them.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "test inputs are made up here and in range"
    )
)]

pub mod background;
pub mod constellation;
pub mod decode;
pub mod fingerprint;
pub mod hash;
pub mod index;
pub mod landmark;
pub mod listening;
pub mod matching;
pub mod params;
pub mod peaks;
pub mod resample;
pub mod spectrogram;
pub mod units;
