//! How far a job is: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{count, counted, note, printable, things};

/// Time between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows how far a job is, on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What is counted, in the singular.
    unit: &'static str,
    /// How many there are in all; 0 as long as nobody has told.
    total: AtomicU64,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Bar(ProgressBar),
    /// Since when nothing was printed.
    Lines(Mutex<Instant>),
}

impl Progress {
    /// `unit` is what is counted, in the singular.
    pub(crate) fn new(unit: &'static str) -> Self {
        let total = AtomicU64::new(0);
        if !std::io::stderr().is_terminal() {
            return Self { unit, total, form: Form::Lines(Mutex::new(Instant::now())) };
        }
        let bar = ProgressBar::no_length();
        bar.set_style(style("{spinner} {human_pos} {prefix} · {msg}"));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { unit, total, form: Form::Bar(bar) }
    }

    /// True if it is worth finding out how many there are in all.
    pub(crate) fn wants_total(&self) -> bool {
        matches!(self.form, Form::Bar(_))
    }

    /// Tells how many there are in all.
    pub(crate) fn set_total(&self, total: u64) {
        if self.total.swap(total, Ordering::Relaxed) == total {
            return;
        }
        if let Form::Bar(bar) = &self.form {
            bar.set_style(style(
                "{bar:30} {human_pos}/{human_len} · {msg} · {elapsed} gone, {eta} to go",
            ));
            bar.set_length(total);
        }
    }

    /// Shows how many are done, and what `message` says beside it.
    pub(crate) fn show(&self, done: u64, message: impl FnOnce() -> String) {
        match &self.form {
            Form::Bar(bar) => {
                bar.set_prefix(things(done, self.unit));
                bar.set_message(message());
                bar.set_position(done);
            }
            Form::Lines(last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= LINE_INTERVAL {
                    *last = Instant::now();
                    let done = match self.total.load(Ordering::Relaxed) {
                        0 => counted(done, self.unit),
                        total => format!("{} of {}", count(done), counted(total, self.unit)),
                    };
                    note(&format!("{done} · {}", message()));
                }
            }
        }
    }

    /// Prints a line without disturbing the bar.
    pub(crate) fn note(&self, text: &str) {
        match &self.form {
            Form::Bar(bar) => bar.println(printable(text)),
            Form::Lines(_) => note(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constant and valid")
}
