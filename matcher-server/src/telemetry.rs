//! Log lines: on standard error, as text or JSON. Never any audio, metadata or fingerprint.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::LogFormat;

/// Decoders complain of what is wrong with audio in lines of their own, as errors: callers are told, and nobody who
/// sends garbage may fill the log. Whoever wants them says, say, `info,symphonia=warn`.
const QUIET: &str = "symphonia=off";

/// Starts logging for the whole process.
///
/// # Errors
///
/// If `level` is no level and no list of them.
pub fn start(format: LogFormat, level: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{level}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
