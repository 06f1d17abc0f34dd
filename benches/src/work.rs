//! Work on several threads with results in order, and word of how far it is.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Time between two lines of progress.
const PROGRESS_PERIOD: Duration = Duration::from_secs(10);

/// Calls `work` with 0, 1, … `count − 1` on `job_count` threads and hands the results to `sink` in
/// that order, whichever is finished first, on the calling thread.
///
/// # Errors
///
/// That of `sink`, which ends the work.
pub fn in_order<T: Send>(
    job_count: usize,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
    mut sink: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..job_count.min(count) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // Nobody listens any more once the sink has failed.
                    if number >= count || sender.send((number, work(number))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut awaited = 0;
        for (number, result) in receiver {
            early.insert(number, result);
            while let Some(result) = early.remove(&awaited) {
                sink(awaited, result)?;
                awaited += 1;
            }
        }
        Ok(())
    })
}

/// Tells on standard error, now and then, how far something is.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: usize,
    told: Instant,
}

impl Progress {
    /// `what` with its unit, e.g. "files fingerprinted".
    pub fn new(what: &'static str, total: usize) -> Self {
        Self { what, total, told: Instant::now() }
    }

    /// So many are done.
    pub fn tell(&mut self, done: usize) {
        if self.told.elapsed() >= PROGRESS_PERIOD {
            self.told = Instant::now();
            tell(&format!("{done} of {} {}", self.total, self.what));
        }
    }
}

/// Writes a line to standard error.
pub fn tell(line: &str) {
    // If standard error is gone, there is nowhere left to complain to.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn results_come_in_order_from_any_number_of_threads() {
        for job_count in [1, 2, 7] {
            let mut results = Vec::new();
            let work = |number: usize| {
                // The first ones take longest.
                thread::sleep(Duration::from_millis(20 / (number as u64 + 1)));
                number * 10
            };
            in_order(job_count, 20, work, |number, result| {
                assert_eq!(result, number * 10);
                results.push(number);
                Ok(())
            })
            .unwrap();
            assert!(results.iter().copied().eq(0..20));
        }
        in_order(3, 0, |number| number, |_, _| bail!("nothing to do")).unwrap();
    }

    #[test]
    fn a_failure_of_the_sink_ends_the_work() {
        let error = in_order(2, 1_000, |number| number, |_, _| bail!("full")).unwrap_err();
        assert_eq!(error.to_string(), "full");
    }
}
