//! How far ingesting is: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::summary::Summary;
use super::{clock, count, note, printable};

/// Time between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows how far a job is, on standard error.
#[derive(Debug)]
pub(crate) enum Progress {
    Bar(ProgressBar),
    /// Since when nothing was printed.
    Lines(Mutex<Instant>),
}

impl Progress {
    pub(crate) fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Mutex::new(Instant::now()));
        }
        let bar = ProgressBar::no_length();
        bar.set_style(style("{spinner} {human_pos} files · {msg}"));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self::Bar(bar)
    }

    /// True if it is worth finding out how many files there are.
    pub(crate) fn wants_total(&self) -> bool {
        matches!(self, Self::Bar(_))
    }

    /// Tells how many files there are.
    pub(crate) fn set_total(&self, total: u64) {
        if let Self::Bar(bar) = self {
            bar.set_style(style(
                "{bar:30} {human_pos}/{human_len} · {msg} · {elapsed} gone, {eta} to go",
            ));
            bar.set_length(total);
        }
    }

    /// Shows the counts so far.
    pub(crate) fn show(&self, summary: &Summary) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(message(summary));
                bar.set_position(summary.files);
            }
            Self::Lines(last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= LINE_INTERVAL {
                    *last = Instant::now();
                    note(&format!("{} files · {}", count(summary.files), message(summary)));
                }
            }
        }
    }

    /// Prints a line without disturbing the bar.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(printable(text)),
            Self::Lines(_) => note(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn message(summary: &Summary) -> String {
    let failed = match summary.failed {
        0 => String::new(),
        failed => format!(" · {} failed", count(failed)),
    };
    format!("{} of audio · {:.0}× real time{failed}", clock(summary.audio_s), summary.speed())
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constant and valid")
}
