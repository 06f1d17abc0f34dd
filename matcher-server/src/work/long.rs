//! Jobs that take long make way for those that do not.
//!
//! A clip of seconds is done in milliseconds; one of an hour takes seconds, and a file of a megabyte may hold days of
//! silence, which nobody knows before it is decoded. So a job that has run for [`BRIEF_MAX`] gives its worker to the next one:
//!
//! ```text
//! queue ─▶ worker ─ done in time ─▶ answer
//!            └─ takes long ─▶ (waits for) a long place, behind all workers ─▶ answer
//! ```
//!
//! There are as many long places as workers, and as many jobs may wait for one. Jobs on them have the processor time
//! that others leave, but a share of it for sure ([`background`]). What comes beyond that is refused; large clips before
//! they are begun ([`Lane::is_full`]), because most of them take long.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fingerprint_core::background;

use super::Manner;

/// How long a job may have its worker: more than a search for any change takes of a clip of some ten seconds.
pub(super) const BRIEF_MAX: Duration = Duration::from_millis(300);
/// How often a job that waits for a place sees whether its answer is still wanted.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// The long places of a pool.
#[derive(Debug)]
pub(super) struct Lane {
    place_count: usize,
    jobs: Mutex<Jobs>,
    freed: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Jobs {
    pub(super) running: usize,
    pub(super) waiting: usize,
}

/// A long place that is taken, until it is dropped.
#[derive(Debug)]
struct Place(Arc<Lane>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.freed.notify_one();
    }
}

impl Lane {
    pub(super) fn new(place_count: usize) -> Arc<Self> {
        Arc::new(Self { place_count, jobs: Mutex::default(), freed: Condvar::new() })
    }

    /// What runs and waits.
    pub(super) fn jobs(&self) -> Jobs {
        *self.lock()
    }

    /// True if no job more may even wait.
    pub(super) fn is_full(&self) -> bool {
        self.has_no_room(&self.lock())
    }

    fn has_no_room(&self, jobs: &Jobs) -> bool {
        jobs.running >= self.place_count && jobs.waiting >= self.place_count
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a job that gives up `held` for it; waits for one. `None` if there is no room to wait in, which
    /// only a prompt job needs, or `is_cancelled` meanwhile.
    fn take<H>(
        self: &Arc<Self>,
        held: H,
        manner: Manner,
        is_cancelled: impl Fn() -> bool,
    ) -> Option<Place> {
        let mut jobs = self.lock();
        if manner == Manner::Prompt && self.has_no_room(&jobs) {
            return None;
        }
        // It is counted here before it is no longer counted there: whoever waits until nothing runs must see it.
        jobs.waiting += 1;
        drop(held);
        while jobs.running >= self.place_count && !is_cancelled() {
            let woken = self.freed.wait_timeout(jobs, LOOK_PERIOD);
            jobs = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        jobs.waiting -= 1;
        if jobs.running >= self.place_count {
            return None;
        }
        jobs.running += 1;
        Some(Place(Arc::clone(self)))
    }
}

/// How far a job has come, which holds `H` while it has a worker.
#[derive(Debug)]
pub(super) struct Pace<H> {
    lane: Arc<Lane>,
    manner: Manner,
    begun: Instant,
    stage: Mutex<Stage<H>>,
}

#[derive(Debug)]
enum Stage<H> {
    OnWorker(H),
    Long {
        _place: Place,
    },
    /// There was no place for it.
    Refused,
}

impl<H> Pace<H> {
    /// Of a job that begins now.
    pub(super) fn new(lane: Arc<Lane>, manner: Manner, held: H) -> Self {
        Self { lane, manner, begun: Instant::now(), stage: Mutex::new(Stage::OnWorker(held)) }
    }

    /// Makes way if the job has run for long; on its own thread, which then steps back and is of no use to others.
    /// Waits for a place if it must, unless the job `is_cancelled`.
    pub(super) fn make_way(&self, is_cancelled: impl Fn() -> bool) {
        if self.begun.elapsed() < BRIEF_MAX {
            return;
        }
        let mut stage = self.lock();
        if !matches!(*stage, Stage::OnWorker(_)) {
            return;
        }
        // Whatever happens, the worker is free when this is over.
        let Stage::OnWorker(held) = std::mem::replace(&mut *stage, Stage::Refused) else { return };
        if let Some(place) = self.lane.take(held, self.manner, is_cancelled) {
            background::step_back();
            *stage = Stage::Long { _place: place };
        }
    }

    /// True if it had to make way, and there was no place.
    pub(super) fn is_refused(&self) -> bool {
        matches!(*self.lock(), Stage::Refused)
    }

    /// How long the job had its worker, if it has it now.
    pub(super) fn on_worker(&self) -> Option<Duration> {
        matches!(*self.lock(), Stage::OnWorker(_)).then(|| self.begun.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Stage<H>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> bool {
        false
    }

    fn prompt(lane: &Arc<Lane>) -> Option<Place> {
        lane.take((), Manner::Prompt, never)
    }

    fn wait_for(lane: &Lane, waiting: usize) {
        while lane.jobs().waiting != waiting {
            std::thread::yield_now();
        }
    }

    #[test]
    fn as_many_run_as_there_are_places_and_as_many_wait() {
        let lane = Lane::new(1);
        let first = prompt(&lane).unwrap();
        assert!(!lane.is_full());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| prompt(&lane).is_some());
            wait_for(&lane, 1);
            assert!(lane.is_full() && prompt(&lane).is_none());
            // Who has time waits all the same.
            let third = scope.spawn(|| lane.take((), Manner::Patient, never).is_some());
            wait_for(&lane, 2);
            drop(first);
            assert!(second.join().unwrap() && third.join().unwrap());
        });
        let Jobs { running, waiting } = lane.jobs();
        assert_eq!((running, waiting), (0, 0));
    }

    #[test]
    fn what_is_held_is_given_up_before_it_is_waited_and_a_job_that_nobody_wants_waits_no_longer() {
        let lane = Lane::new(1);
        let _first = prompt(&lane).unwrap();
        let held = Arc::new(());
        let given_up = || Arc::strong_count(&held) == 1;
        assert!(lane.take(Arc::clone(&held), Manner::Prompt, given_up).is_none());
        assert_eq!(lane.jobs().waiting, 0);
    }

    #[test]
    fn a_job_keeps_its_worker_until_it_has_taken_long() {
        let lane = Lane::new(1);
        let held = Arc::new(());
        let mut pace = Pace::new(Arc::clone(&lane), Manner::Prompt, Arc::clone(&held));
        pace.make_way(never);
        assert!(pace.on_worker().is_some() && Arc::strong_count(&held) == 2);
        pace.begun = Instant::now().checked_sub(BRIEF_MAX).unwrap();
        // This thread steps back for it.
        std::thread::scope(|scope| scope.spawn(|| pace.make_way(never)).join()).unwrap();
        assert!(pace.on_worker().is_none() && !pace.is_refused());
        assert_eq!((Arc::strong_count(&held), lane.jobs().running), (1, 1));
        drop(pace);
        assert_eq!(lane.jobs().running, 0);
    }
}
