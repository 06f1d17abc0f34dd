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
//! There are as many long places as workers, and as many jobs of each client may wait for one. Jobs on them have the
//! processor time that others leave, but a share of it for sure ([`background`]). What comes beyond that is refused; large
//! clips before they are begun ([`Lane::is_full_for`]), because most of them take long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fingerprint_core::background;

use super::turns::{Jobs, Place, Turns};
use super::{Manner, Terms};
use crate::client::Client;

/// How long a job may have its worker: more than a search for any change takes of a clip of some ten seconds.
pub(super) const BRIEF_MAX: Duration = Duration::from_millis(300);
/// How often a job that waits for a place looks for it, and whether its answer is still wanted.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// The long places of a pool.
#[derive(Debug)]
pub(super) struct Lane {
    turns: Arc<Turns<Client>>,
    /// Jobs of one client that may wait for one of them.
    waiting_max: usize,
}

impl Lane {
    pub(super) fn new(place_count: usize) -> Arc<Self> {
        Arc::new(Self { turns: Turns::new(place_count), waiting_max: place_count })
    }

    /// What runs and waits.
    pub(super) fn jobs(&self) -> Jobs {
        self.turns.jobs()
    }

    /// True if a job of the client is in a long place, or waits for one.
    pub(super) fn is_known(&self, client: &Client) -> bool {
        self.turns.is_known(client)
    }

    /// True if no job more of the client may even wait.
    pub(super) fn is_full_for(&self, client: &Client) -> bool {
        self.turns.is_full_for(client, self.waiting_max)
    }

    /// Takes a place for a job that gives up `held` for it; waits for one. `None` if there is no room to wait in, which
    /// only a prompt job needs, or `is_cancelled` meanwhile.
    fn take<H>(
        &self,
        held: H,
        terms: &Terms,
        is_cancelled: impl Fn() -> bool,
    ) -> Option<Place<Client>> {
        let room = if terms.manner == Manner::Prompt { self.waiting_max } else { usize::MAX };
        // It is counted here before it is no longer counted there: whoever waits until nothing runs must see it.
        let mut turn = self.turns.wait(terms.client.clone(), room)?;
        drop(held);
        loop {
            if let Some(place) = turn.poll_now() {
                return Some(place);
            }
            if is_cancelled() {
                return None;
            }
            thread::sleep(LOOK_PERIOD);
        }
    }
}

/// How far a job has come, which holds `H` while it has a worker.
#[derive(Debug)]
pub(super) struct Pace<H> {
    lane: Arc<Lane>,
    terms: Terms,
    begun: Instant,
    stage: Mutex<Stage<H>>,
}

#[derive(Debug)]
enum Stage<H> {
    OnWorker(H),
    Long {
        _place: Place<Client>,
    },
    /// There was no place for it.
    Refused,
}

impl<H> Pace<H> {
    /// Of a job that begins now.
    pub(super) fn new(lane: Arc<Lane>, terms: Terms, held: H) -> Self {
        Self { lane, terms, begun: Instant::now(), stage: Mutex::new(Stage::OnWorker(held)) }
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
        if let Some(place) = self.lane.take(held, &self.terms, is_cancelled) {
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

    fn prompt() -> Terms {
        Terms { client: Client::Key("a".to_owned()), deadline: None, manner: Manner::Prompt }
    }

    fn wait_for(lane: &Lane, waiting: usize) {
        while lane.jobs().waiting != waiting {
            thread::yield_now();
        }
    }

    #[test]
    fn as_many_run_as_there_are_places_and_as_many_of_each_client_wait() {
        let lane = Lane::new(1);
        let first = lane.take((), &prompt(), never).unwrap();
        let another = Terms { client: Client::Key("b".to_owned()), ..prompt() };
        assert!(!lane.is_full_for(&prompt().client));
        thread::scope(|scope| {
            let take = |terms: Terms| scope.spawn(|| lane.take((), &{ terms }, never).is_some());
            let second = take(prompt());
            wait_for(&lane, 1);
            assert!(lane.is_full_for(&prompt().client) && !lane.is_full_for(&another.client));
            assert!(lane.take((), &prompt(), never).is_none());
            // Who has time waits all the same.
            let third = take(Terms { manner: Manner::Patient, ..prompt() });
            wait_for(&lane, 2);
            let fourth = take(another);
            wait_for(&lane, 3);
            drop(first);
            assert!([second, third, fourth].into_iter().all(|taken| taken.join().unwrap()));
        });
        assert_eq!(lane.jobs(), Jobs { running: 0, waiting: 0 });
    }

    #[test]
    fn what_is_held_is_given_up_before_it_is_waited_and_a_job_that_nobody_wants_waits_no_longer() {
        let lane = Lane::new(1);
        let _first = lane.take((), &prompt(), never).unwrap();
        let held = Arc::new(());
        let given_up = || Arc::strong_count(&held) == 1;
        assert!(lane.take(Arc::clone(&held), &prompt(), given_up).is_none());
        assert_eq!(lane.jobs().waiting, 0);
    }

    #[test]
    fn a_job_keeps_its_worker_until_it_has_taken_long() {
        let lane = Lane::new(1);
        let held = Arc::new(());
        let mut pace = Pace::new(Arc::clone(&lane), prompt(), Arc::clone(&held));
        pace.make_way(never);
        assert!(pace.on_worker().is_some() && Arc::strong_count(&held) == 2);
        pace.begun = Instant::now().checked_sub(BRIEF_MAX).unwrap();
        // This thread steps back for it.
        thread::scope(|scope| scope.spawn(|| pace.make_way(never)).join()).unwrap();
        assert!(pace.on_worker().is_none() && !pace.is_refused());
        assert_eq!((Arc::strong_count(&held), lane.jobs().running), (1, 1));
        drop(pace);
        assert_eq!(lane.jobs().running, 0);
    }
}
