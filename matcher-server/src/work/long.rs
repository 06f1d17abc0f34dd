//! Jobs that take long make way for those that do not.
//!
//! A clip of seconds is done in milliseconds; one of an hour takes seconds, and a file of a megabyte may hold days of
//! silence, which nobody knows before it is decoded. So a job that has run for [`BRIEF_MAX`] gives its worker to the next one,
//! once somebody waits for it:
//!
//! ```text
//! queue ─▶ worker ─ done in time, or nobody waits ─▶ answer
//!            └─ takes long, and somebody waits ─▶ (waits for) a long place ─▶ answer
//! ```
//!
//! There are as many long places as workers, and as many jobs of each client may wait for one, which only those do that are
//! in the way of another client: [`WAITING_MAX`] together, as each has a thread, and for [`WAIT_MAX`] at most. What comes
//! beyond that is refused; large clips before they are begun ([`Lane::is_full_for`]), because most of them take long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::turns::{Jobs, Place, Turns};
use super::{Manner, Terms};
use crate::client::Client;

/// How long a job has its worker for sure: more than a search for any change takes of a clip of some ten seconds.
pub(super) const BRIEF_MAX: Duration = Duration::from_millis(250);
/// The same where only jobs of its own client wait. More jobs than processors make all of them slower, and whoever sends
/// more songs than the server can do has nothing of that.
const BRIEF_MAX_OWN: Duration = Duration::from_secs(1);
/// Jobs of all clients that may wait for a long place.
const WAITING_MAX: usize = 32;
/// For how long: less than decoders in processes of their own may take, whose time goes on.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a job that waits for a place looks for it, and whether its answer is still wanted.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// The long places of a pool.
#[derive(Debug)]
pub(super) struct Lane {
    turns: Arc<Turns<Client>>,
    /// Jobs of one client that may wait for one of them.
    of_client_max: usize,
}

impl Lane {
    pub(super) fn new(place_count: usize) -> Arc<Self> {
        Arc::new(Self { turns: Turns::new(place_count), of_client_max: place_count })
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
        self.turns.is_full_for(client, self.of_client_max, WAITING_MAX)
    }

    /// A place at once, if one is free.
    fn try_take(&self, client: &Client) -> Option<Place<Client>> {
        self.turns.try_take(client)
    }

    /// Waits for a place for a job that gives up `held` for it. `None` if there is no room to wait in, which
    /// only a prompt job needs, or `is_cancelled` meanwhile.
    fn take<H>(
        &self,
        held: H,
        terms: &Terms,
        is_cancelled: impl Fn() -> bool,
    ) -> Option<Place<Client>> {
        let client = terms.client.clone();
        let is_prompt = terms.manner == Manner::Prompt;
        // It is counted here before it is no longer counted there: whoever waits until nothing runs must see it.
        let mut turn = if is_prompt {
            self.turns.wait_with_room(client, self.of_client_max, WAITING_MAX)?
        } else {
            self.turns.wait(client)
        };
        drop(held);
        let begun = Instant::now();
        loop {
            if let Some(place) = turn.poll_now() {
                return Some(place);
            }
            if is_cancelled() || (is_prompt && begun.elapsed() > WAIT_MAX) {
                return None;
            }
            thread::sleep(LOOK_PERIOD);
        }
    }
}

/// How far a job has come.
#[derive(Debug)]
pub(super) struct Pace<H> {
    lane: Arc<Lane>,
    /// Where others wait for the worker.
    workers: Arc<Turns<Client>>,
    terms: Terms,
    begun: Instant,
    stage: Mutex<Stage<H>>,
}

#[derive(Debug)]
enum Stage<H> {
    /// It has a worker, and holds what comes with that.
    OnWorker(H),
    /// It had a worker for so long, made way, and waited. Without a place it must end.
    Away { worked: Duration, waited: Duration, place: Option<Place<Client>> },
}

impl<H> Pace<H> {
    /// Of a job that begins now.
    pub(super) fn new(lane: Arc<Lane>, workers: Arc<Turns<Client>>, terms: Terms, held: H) -> Self {
        let stage = Mutex::new(Stage::OnWorker(held));
        Self { lane, workers, terms, begun: Instant::now(), stage }
    }

    /// Makes way if the job has run for long, and somebody waits. Waits for a place if it must, unless the job
    /// `is_cancelled`.
    pub(super) fn make_way(&self, is_cancelled: impl Fn() -> bool) {
        let worked = self.begun.elapsed();
        if worked < BRIEF_MAX {
            return;
        }
        let mut stage = self.lock();
        let Stage::OnWorker(_) = *stage else { return };
        let (is_waited_for, by_others) = self.workers.waiters(&self.terms.client);
        if !is_waited_for || (!by_others && worked < BRIEF_MAX_OWN) {
            return;
        }
        let free = self.lane.try_take(&self.terms.client);
        if free.is_none() && !by_others {
            return;
        }
        let away = Stage::Away { worked, waited: Duration::ZERO, place: None };
        let held = std::mem::replace(&mut *stage, away);
        let place = match free {
            Some(place) => {
                drop(held);
                Some(place)
            }
            None => self.lane.take(held, &self.terms, is_cancelled),
        };
        *stage = Stage::Away { worked, waited: self.begun.elapsed() - worked, place };
    }

    /// True if it had to make way, and there was no place.
    pub(super) fn is_refused(&self) -> bool {
        matches!(*self.lock(), Stage::Away { place: None, .. })
    }

    /// How long the job has had a worker.
    pub(super) fn worked(&self) -> Duration {
        match *self.lock() {
            Stage::OnWorker(_) => self.begun.elapsed(),
            Stage::Away { worked, .. } => worked,
        }
    }

    /// How long it has waited since.
    pub(super) fn waited(&self) -> Duration {
        match *self.lock() {
            Stage::OnWorker(_) => Duration::ZERO,
            Stage::Away { waited, .. } => waited,
        }
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

    fn another() -> Terms {
        Terms { client: Client::Key("b".to_owned()), ..prompt() }
    }

    fn wait_for(lane: &Lane, waiting: usize) {
        while lane.jobs().waiting != waiting {
            thread::yield_now();
        }
    }

    #[test]
    fn as_many_run_as_there_are_places_and_as_many_of_each_client_wait() {
        let lane = Lane::new(1);
        let first = lane.try_take(&prompt().client).unwrap();
        assert!(!lane.is_full_for(&prompt().client));
        thread::scope(|scope| {
            let take = |terms: Terms| {
                let lane = &lane;
                scope.spawn(move || lane.take((), &terms, never).is_some())
            };
            let second = take(prompt());
            wait_for(&lane, 1);
            assert!(lane.is_full_for(&prompt().client) && !lane.is_full_for(&another().client));
            assert!(lane.take((), &prompt(), never).is_none());
            // Who has time waits all the same.
            let third = take(Terms { manner: Manner::Patient, ..prompt() });
            wait_for(&lane, 2);
            let fourth = take(another());
            wait_for(&lane, 3);
            drop(first);
            assert!([second, third, fourth].into_iter().all(|taken| taken.join().unwrap()));
        });
        assert_eq!(lane.jobs(), Jobs { running: 0, waiting: 0 });
    }

    #[test]
    fn what_is_held_is_given_up_before_it_is_waited_and_a_job_that_nobody_wants_waits_no_longer() {
        let lane = Lane::new(1);
        let _first = lane.try_take(&prompt().client).unwrap();
        let held = Arc::new(());
        let given_up = || Arc::strong_count(&held) == 1;
        assert!(lane.take(Arc::clone(&held), &prompt(), given_up).is_none());
        assert_eq!(lane.jobs().waiting, 0);
    }

    #[test]
    fn a_job_keeps_its_worker_until_it_has_taken_long_and_is_waited_for() {
        let (lane, workers) = (Lane::new(1), Turns::new(1));
        let worker = workers.try_take(&prompt().client);
        let new = |terms| Pace::new(Arc::clone(&lane), Arc::clone(&workers), terms, ());
        let is_away = |pace: &Pace<()>| !matches!(*pace.lock(), Stage::OnWorker(()));
        let long_ago = Instant::now().checked_sub(BRIEF_MAX_OWN).unwrap();
        let mut pace = new(prompt());
        {
            let _waiter = workers.wait(prompt().client);
            pace.make_way(never);
            assert!(!is_away(&pace), "it has just begun");
            pace.begun = Instant::now().checked_sub(BRIEF_MAX).unwrap();
            pace.make_way(never);
            assert!(!is_away(&pace), "only its own client waits");
            pace.begun = long_ago;
        }
        pace.make_way(never);
        assert!(!is_away(&pace), "nobody waits");
        let waiter = workers.wait(prompt().client);
        pace.make_way(never);
        assert!(is_away(&pace) && !pace.is_refused() && pace.worked() >= BRIEF_MAX);
        assert_eq!(lane.jobs().running, 1);

        // There is no other place: it stays, as long as no other client waits.
        let mut second = new(prompt());
        second.begun = long_ago;
        second.make_way(never);
        assert!(!is_away(&second));
        let _other_waiter = workers.wait(another().client);
        second.make_way(|| true);
        assert!(is_away(&second) && second.is_refused());
        drop((pace, waiter, worker));
        assert_eq!(lane.jobs().running, 0);
    }
}
