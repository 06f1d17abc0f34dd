//! Keeps a panic in one file from ending the job.
//!
//! Demuxers and tag readers meet files that nobody has tried them on. A panic in one of them is a
//! bug to be reported, and no reason to lose the other files of a night's run.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use anyhow::{Result, anyhow};

thread_local! {
    /// True while a panic on this thread is caught and reported by [`catch`].
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Silences the default message of those panics that [`catch`] reports. Called once, at the start.
pub(crate) fn install() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !IS_GUARDED.get() {
            default(info);
        }
    }));
}

/// Runs `work`; a panic in it becomes an error that names `what` was going on.
///
/// # Errors
///
/// If `work` panicked.
pub(crate) fn catch<T>(what: &str, work: impl FnOnce() -> T) -> Result<T> {
    let was_guarded = IS_GUARDED.replace(true);
    // Nothing that `work` has touched is used after it panicked, apart from catalogs, whose state
    // is behind locks of their own.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(was_guarded);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "no message".to_owned());
        anyhow!("a bug in earmark while {what} ({text}); please report it with the file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_the_thread_goes_on() {
        assert_eq!(catch("adding", || 2 + 2).unwrap(), 4);
        let error = catch("reading tags", || panic!("odd frame {}", 7)).unwrap_err();
        assert!(error.to_string().contains("while reading tags (odd frame 7)"), "{error}");
        assert_eq!(catch("adding", || 1).unwrap(), 1);
    }

    #[test]
    fn an_inner_guard_leaves_the_outer_one_in_force() {
        let outer = catch("outer", || {
            let inner = catch("inner", || panic!("inner"));
            (inner.is_err(), IS_GUARDED.get())
        });
        assert_eq!(outer.unwrap(), (true, true));
        assert!(!IS_GUARDED.get());
    }
}
