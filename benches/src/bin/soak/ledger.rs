//! Which recording was in the catalog at which time: what an answer is compared with.
//!
//! A change counts as under way from before the call is sent until after its answer came. What is
//! asked meanwhile may be answered either way; everything else is certain.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What is known of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is in the catalog.
    Present,
    /// It is not.
    Absent,
    /// It is being added or removed, or was in between.
    Unsure,
}

/// The states of each recording, with the times at which they began, ascending.
pub(crate) struct Ledger {
    histories: Vec<Mutex<Vec<(Instant, State)>>>,
}

impl Ledger {
    /// Of `count` recordings, none of which is in the catalog.
    pub(crate) fn new(count: usize) -> Self {
        let absent = || Mutex::new(vec![(Instant::now(), State::Absent)]);
        Self { histories: (0..count).map(|_| absent()).collect() }
    }

    /// From now on it is so.
    pub(crate) fn note(&self, number: usize, state: State) {
        self.history(number).push((Instant::now(), state));
    }

    /// As it is now.
    pub(crate) fn now(&self, number: usize) -> State {
        let now = Instant::now();
        self.throughout(number, now, now)
    }

    /// As it was from `from` to `to` without a break, or [`State::Unsure`].
    pub(crate) fn throughout(&self, number: usize, from: Instant, to: Instant) -> State {
        let history = self.history(number);
        let last = history.partition_point(|(since, _)| *since <= to);
        let Some((since, state)) = last.checked_sub(1).and_then(|last| history.get(last)) else {
            return State::Unsure;
        };
        if *since <= from { *state } else { State::Unsure }
    }

    /// Those that are in the catalog now.
    pub(crate) fn present(&self) -> impl Iterator<Item = usize> {
        (0..self.histories.len()).filter(|number| self.now(*number) == State::Present)
    }

    fn history(&self, number: usize) -> std::sync::MutexGuard<'_, Vec<(Instant, State)>> {
        self.histories[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_did_not_change_is_sure() {
        let ledger = Ledger::new(2);
        let born = Instant::now();
        let step = || {
            std::thread::sleep(Duration::from_millis(2));
            let now = Instant::now();
            std::thread::sleep(Duration::from_millis(2));
            now
        };
        let before = step();
        ledger.note(0, State::Unsure);
        let during = step();
        ledger.note(0, State::Present);
        let after = step();
        assert_eq!(ledger.throughout(0, born, before), State::Absent);
        assert_eq!(ledger.throughout(0, before, during), State::Unsure);
        assert_eq!(ledger.throughout(0, during, after), State::Unsure);
        assert_eq!(ledger.throughout(0, before, after), State::Unsure);
        assert_eq!(ledger.throughout(0, after, Instant::now()), State::Present);
        assert_eq!(ledger.throughout(1, before, Instant::now()), State::Absent);
        assert_eq!(ledger.present().collect::<Vec<_>>(), [0]);
    }
}
