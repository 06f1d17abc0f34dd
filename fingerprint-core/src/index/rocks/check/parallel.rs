//! Tasks that are worked off by all processors.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::index::IndexError;

/// Works the tasks off, each thread with a state of its own, and gives the states in any order. After
/// each task `on_done` is told how many are done.
///
/// # Errors
///
/// The first one of `work`; the tasks that remain are not begun.
///
/// # Panics
///
/// If `work` does.
pub(super) fn work_off<T: Sync, S: Send>(
    tasks: &[T],
    new: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> Result<(), IndexError> + Sync,
    on_done: impl Fn(usize) + Sync,
) -> Result<Vec<S>, IndexError> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let run = || {
        let mut state = new();
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(&mut state, task) {
                next.store(tasks.len(), Ordering::Relaxed);
                return Err(error);
            }
            on_done(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        Ok(state)
    };
    let count = thread::available_parallelism().map_or(1, NonZero::get).min(tasks.len().max(1));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(run)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_worked_off_once() {
        let tasks: Vec<u64> = (1..=1_000).collect();
        let sum = |sum: &mut u64, task: &u64| {
            *sum += task;
            Ok(())
        };
        let sums = work_off(&tasks, || 0, sum, |_| ()).unwrap();
        assert_eq!(sums.iter().sum::<u64>(), 500_500);
        assert_eq!(work_off(&[], || 0, sum, |_| ()).unwrap(), [0]);
    }

    #[test]
    fn the_first_error_ends_the_work() {
        let refuse = |_: &mut (), task: &u32| match task {
            7 => Err(IndexError::Corrupt { what: "seven".to_owned() }),
            _ => Ok(()),
        };
        let tasks: Vec<u32> = (0..100).collect();
        let error = work_off(&tasks, || (), refuse, |_| ()).unwrap_err();
        assert!(error.to_string().contains("seven"), "{error}");
    }
}
