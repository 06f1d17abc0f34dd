//! What was done, how often, and what was wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use earmark_benches::work::tell;

/// Wrong answers that are told in full; later ones are only counted, but for what is wrong at the end.
const TOLD_MAX: u64 = 50;

/// Counts of all parts of the soak.
#[derive(Default)]
pub(crate) struct Tally {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    done: BTreeMap<&'static str, u64>,
    wrong: u64,
}

impl Tally {
    /// One more of this.
    pub(crate) fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    /// So many more of this.
    pub(crate) fn add(&self, what: &'static str, count: u64) {
        *self.lock().done.entry(what).or_default() += count;
    }

    /// Something that the server should not have said or done.
    pub(crate) fn wrong(&self, what: &str) {
        self.tell_wrong(what, TOLD_MAX);
    }

    /// The same of the end of the soak, which is told however much was wrong before.
    pub(crate) fn wrong_at_the_end(&self, what: &str) {
        self.tell_wrong(what, u64::MAX);
    }

    fn tell_wrong(&self, what: &str, told_max: u64) {
        let mut counts = self.lock();
        counts.wrong += 1;
        if counts.wrong <= told_max {
            tell(&format!("WRONG: {what}"));
        }
    }

    /// Counts so far, in one line.
    pub(crate) fn line(&self) -> String {
        let counts = self.lock();
        let done = counts.done.iter().map(|(what, count)| format!("{count} {what}"));
        let done = done.collect::<Vec<_>>().join(", ");
        format!("{done}; {} wrong", counts.wrong)
    }

    /// Prints all counts; whether nothing was wrong.
    pub(crate) fn report(&self) -> bool {
        let counts = self.lock();
        for (what, count) in &counts.done {
            tell(&format!("{count:>9} {what}"));
        }
        tell(&format!("{:>9} wrong", counts.wrong));
        counts.wrong == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
