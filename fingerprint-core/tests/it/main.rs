//! Tests of fingerprint-core as its users see it: one binary, a module for each behaviour.

mod decode;
mod index;
