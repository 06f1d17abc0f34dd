//! How far a long work on an index is: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{count, note};

/// Time between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows how far a work is, on standard error. Any thread.
#[derive(Debug)]
pub(crate) enum Steps {
    Bar(ProgressBar),
    /// Since when nothing was printed.
    Lines(Mutex<Instant>),
}

impl Steps {
    pub(crate) fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Mutex::new(Instant::now()));
        }
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} · {msg}");
        bar.set_style(style.expect("the template is constant and valid"));
        Self::Bar(bar)
    }

    /// Shows that `done` of `total` parts of a step are done.
    pub(crate) fn show(&self, step: &'static str, done: u64, total: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(step);
                bar.set_length(total);
                bar.set_position(done);
            }
            Self::Lines(last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= LINE_INTERVAL {
                    *last = Instant::now();
                    note(&format!("{step}: {} of {}", count(done), count(total)));
                }
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
