//! The server as its clients see it: over a real connection, with real and synthesised audio.

mod catalog;
mod limits;
mod matching;
mod process;
mod python;
mod services;
mod support;
