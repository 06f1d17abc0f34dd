//! Everything that is printed: results on standard output, progress and complaints on standard
//! error. No other module writes to either.
//!
//! Texts that come from files and servers (titles, file names) are shown to people only after
//! [`printable`] has taken out what a terminal would obey.

pub(crate) mod backups;
pub(crate) mod bench_server;
pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod keys;
pub(crate) mod matches;
pub(crate) mod monitor;
pub(crate) mod progress;
pub(crate) mod reindex;
pub(crate) mod stats;
pub(crate) mod summary;
pub(crate) mod tracks;

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// Writes bytes to standard output as they are.
pub(crate) fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Prints one line of results, at once, so that a program that reads them need not wait.
pub(crate) fn line(text: &str) -> io::Result<()> {
    raw(format!("{text}\n").as_bytes())
}

/// Prints a value as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(&serde_json::to_string(value)?)?)
}

/// Prints one line to standard error.
pub(crate) fn note(text: &str) {
    // If standard error is gone, there is nowhere left to complain to.
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// True if `error` only means that nobody reads standard output any more.
pub(crate) fn reader_is_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// `text` without what could move the cursor, change colours or turn the direction of writing.
pub(crate) fn printable(text: &str) -> String {
    let is_obeyed =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if is_obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// A time as `m:ss.t` or `h:mm:ss.t`, rounded to tenths.
pub(crate) fn clock(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` from float saturates, and the sign is taken off"
    )]
    let tenths = (seconds.abs() * 10.0).round() as u64;
    let sign = if seconds < 0.0 && tenths > 0 { "-" } else { "" };
    let (hours, minutes) = (tenths / 36_000, tenths / 600 % 60);
    let (whole, tenth) = (tenths / 10 % 60, tenths % 10);
    if hours > 0 {
        format!("{sign}{hours}:{minutes:02}:{whole:02}.{tenth}")
    } else {
        format!("{sign}{minutes}:{whole:02}.{tenth}")
    }
}

/// A size with a binary unit, three digits.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// A number with thousands set off.
pub(crate) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// A number of things: "1 track", "2,000 tracks".
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {}", count(number), things(number, thing))
}

/// The word for so many things: "track", "tracks".
pub(crate) fn things(number: u64, thing: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{thing}{end}")
}

/// An empty table with a header, as wide as the terminal allows.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

/// A record as one line of CSV, without the line end.
fn csv_line<I: IntoIterator<Item = T>, T: AsRef<[u8]>>(record: I) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(record)?;
    let mut bytes = writer.into_inner()?;
    bytes.pop();
    Ok(String::from_utf8(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_before_they_split() {
        for (seconds, text) in [
            (0.0, "0:00.0"),
            (59.94, "0:59.9"),
            (59.96, "1:00.0"),
            (3_599.96, "1:00:00.0"),
            (-1.5, "-0:01.5"),
            (-0.01, "0:00.0"),
        ] {
            assert_eq!(clock(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!([0, 1, 2_000].map(|n| counted(n, "file")), ["0 files", "1 file", "2,000 files"]);
    }

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}c"), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(printable("Ä – 音"), "Ä – 音");
    }

    #[test]
    fn csv_lines_are_quoted_where_needed() {
        assert_eq!(csv_line(["a", "b,c", "d\"e", ""]).unwrap(), "a,\"b,c\",\"d\"\"e\",");
    }
}
