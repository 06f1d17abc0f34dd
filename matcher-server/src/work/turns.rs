//! Whose turn it is: places go around among the clients that wait for one.
//!
//! With one queue for all, whoever sends most has most, and everybody else waits behind. Here each client has a queue of its
//! own, and the client next in the round is served next: before a client's first job comes at most one of each other client,
//! however many those have sent. (Round robin, after J. Nagle, *On Packet Switches With Infinite Storage*, RFC 970.)

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// Places for which clients wait that are told apart by a `C`.
#[derive(Debug)]
pub(crate) struct Turns<C: Eq + Hash + Clone> {
    place_count: usize,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C: Eq + Hash + Clone> {
    free: usize,
    waiting: usize,
    /// Places of clients that have any.
    running: HashMap<C, usize>,
    /// Of clients that wait; the others are left out.
    queues: HashMap<C, VecDeque<Ticket<C>>>,
    /// The clients that wait, next first.
    round: VecDeque<C>,
    next_number: u64,
}

#[derive(Debug)]
struct Ticket<C: Eq + Hash + Clone> {
    number: u64,
    sender: oneshot::Sender<Place<C>>,
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<C: Eq + Hash + Clone> {
    turns: Arc<Turns<C>>,
    client: C,
}

/// A place, once it is there: a future that can also be asked. Whoever drops it waits no longer.
#[derive(Debug)]
pub(crate) struct Turn<C: Eq + Hash + Clone> {
    turns: Arc<Turns<C>>,
    client: C,
    number: u64,
    receiver: oneshot::Receiver<Place<C>>,
}

/// What runs and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jobs {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
}

impl<C: Eq + Hash + Clone> Turns<C> {
    pub(crate) fn new(place_count: usize) -> Arc<Self> {
        let state = State {
            free: place_count,
            waiting: 0,
            running: HashMap::new(),
            queues: HashMap::new(),
            round: VecDeque::new(),
            next_number: 0,
        };
        Arc::new(Self { place_count, state: Mutex::new(state) })
    }

    /// A place at once, if one is free; nobody waits then.
    pub(crate) fn try_take(self: &Arc<Self>, client: &C) -> Option<Place<C>> {
        self.take(&mut self.lock(), client)
    }

    fn take(self: &Arc<Self>, state: &mut State<C>, client: &C) -> Option<Place<C>> {
        state.free = state.free.checked_sub(1)?;
        *state.running.entry(client.clone()).or_default() += 1;
        Some(Place { turns: Arc::clone(self), client: client.clone() })
    }

    /// Waits for a place.
    pub(crate) fn wait(self: &Arc<Self>, client: C) -> Turn<C> {
        self.queue(&mut self.lock(), client)
    }

    /// The same as a client that may have `of_client` turns, of `all` that may be had; `None` if it, or all, have them
    /// already.
    pub(crate) fn wait_with_room(
        self: &Arc<Self>,
        client: C,
        of_client: usize,
        all: usize,
    ) -> Option<Turn<C>> {
        let mut state = self.lock();
        (!state.is_full_for(&client, of_client, all)).then(|| self.queue(&mut state, client))
    }

    fn queue(self: &Arc<Self>, state: &mut State<C>, client: C) -> Turn<C> {
        let (sender, receiver) = oneshot::channel();
        let number = state.next_number;
        state.next_number += 1;
        if let Some(place) = self.take(state, &client) {
            // Somebody holds the other end.
            let _ = sender.send(place);
        } else {
            let own = state.queues.entry(client.clone()).or_default();
            let is_first = own.is_empty();
            own.push_back(Ticket { number, sender });
            if is_first {
                state.round.push_back(client.clone());
            }
            state.waiting += 1;
        }
        Turn { turns: Arc::clone(self), client, number, receiver }
    }

    /// Jobs that wait and come before another one of `client`.
    pub(crate) fn ahead(&self, client: &C) -> usize {
        let state = self.lock();
        let own = state.waiting_of(client);
        let of_others = |(other, queue): (&C, &VecDeque<_>)| {
            if other == client { 0 } else { queue.len().min(own + 1) }
        };
        own + state.queues.iter().map(of_others).sum::<usize>()
    }

    /// True if somebody waits; and if anybody else than `client` does.
    pub(crate) fn waiters(&self, client: &C) -> (bool, bool) {
        let state = self.lock();
        (state.waiting > 0, state.waiting > state.waiting_of(client))
    }

    /// True if `client` has a place, or waits for one.
    pub(crate) fn is_known(&self, client: &C) -> bool {
        let state = self.lock();
        state.running.contains_key(client) || state.queues.contains_key(client)
    }

    /// True if [`Self::wait_with_room`] has no room for another turn of `client`.
    pub(crate) fn is_full_for(&self, client: &C, of_client: usize, all: usize) -> bool {
        self.lock().is_full_for(client, of_client, all)
    }

    /// What runs and waits now.
    pub(crate) fn jobs(&self) -> Jobs {
        let state = self.lock();
        Jobs { running: self.place_count - state.free, waiting: state.waiting }
    }

    /// Takes a place back from `client`, and hands it to whose turn it is.
    fn hand_on(self: &Arc<Self>, client: &C) {
        let mut state = self.lock();
        state.free += 1;
        if let Some(of_client) = state.running.get_mut(client) {
            *of_client -= 1;
            if *of_client == 0 {
                state.running.remove(client);
            }
        }
        let Some((next, ticket)) = state.next() else { return };
        let place = self.take(&mut state, &next);
        drop(state);
        // If whoever waited has just gone, the place comes back, and is handed on again.
        drop(place.map(|place| ticket.sender.send(place)));
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Eq + Hash + Clone> State<C> {
    fn waiting_of(&self, client: &C) -> usize {
        self.queues.get(client).map_or(0, VecDeque::len)
    }

    fn is_full_for(&self, client: &C, of_client: usize, all: usize) -> bool {
        self.free == 0 && (self.waiting >= all || self.waiting_of(client) >= of_client)
    }

    /// The ticket whose turn it is, with its client; it waits no longer.
    fn next(&mut self) -> Option<(C, Ticket<C>)> {
        let client = self.round.pop_front()?;
        let queue = self.queues.get_mut(&client)?;
        let ticket = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&client);
        } else {
            self.round.push_back(client.clone());
        }
        self.waiting -= 1;
        Some((client, ticket))
    }
}

impl<C: Eq + Hash + Clone> Drop for Place<C> {
    fn drop(&mut self) {
        self.turns.hand_on(&self.client);
    }
}

impl<C: Eq + Hash + Clone> Turn<C> {
    /// The place, if it is there.
    pub(crate) fn poll_now(&mut self) -> Option<Place<C>> {
        self.receiver.try_recv().ok()
    }
}

impl<C: Eq + Hash + Clone + Unpin> Future for Turn<C> {
    type Output = Place<C>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Place<C>> {
        match Pin::new(&mut self.receiver).poll(context) {
            Poll::Ready(Ok(place)) => Poll::Ready(place),
            // A ticket is dropped unsent only by its own turn's end.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<C: Eq + Hash + Clone> Drop for Turn<C> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        let Some(queue) = state.queues.get_mut(&self.client) else { return };
        let Some(at) = queue.iter().position(|ticket| ticket.number == self.number) else { return };
        let ticket = queue.remove(at);
        if queue.is_empty() {
            state.queues.remove(&self.client);
            state.round.retain(|client| *client != self.client);
        }
        state.waiting -= 1;
        drop(state);
        drop(ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<C: Eq + Hash + Clone> State<C> {
        fn is_empty(&self) -> bool {
            self.running.is_empty() && self.queues.is_empty() && self.round.is_empty()
        }
    }

    fn turn(turns: &Arc<Turns<char>>, client: char) -> Turn<char> {
        turns.wait(client)
    }

    #[test]
    fn places_go_around_however_many_jobs_a_client_has_sent() {
        let turns = Turns::new(1);
        let mut place = turns.try_take(&'x');
        assert!(place.is_some() && turns.try_take(&'x').is_none());
        assert!(turns.is_known(&'x') && !turns.is_known(&'a'));
        let mut waiting: Vec<_> =
            "aaaabbc".chars().map(|client| (client, turn(&turns, client))).collect();
        assert_eq!(turns.jobs(), Jobs { running: 1, waiting: 7 });
        assert_eq!(turns.waiters(&'a'), (true, true));
        // c: its own, and two of a and b each; a new client: one of each; a: its own, both of b, and that of c.
        assert_eq!(['c', 'd', 'a'].map(|client| turns.ahead(&client)), [5, 3, 7]);
        let mut served = String::new();
        for _ in 0..7 {
            drop(place.take());
            let at = waiting.iter_mut().position(|(_, turn)| {
                place = turn.poll_now();
                place.is_some()
            });
            served.push(waiting.remove(at.unwrap()).0);
        }
        assert_eq!(served, "abcabaa");
        drop(place);
        assert_eq!(turns.jobs(), Jobs { running: 0, waiting: 0 });
        assert!(turns.lock().is_empty());
    }

    #[test]
    fn whoever_goes_is_passed_over_and_a_place_that_nobody_took_is_free_again() {
        let turns = Turns::new(1);
        let place = turns.try_take(&'x');
        let (gone, mut next) = (turn(&turns, 'a'), turn(&turns, 'b'));
        drop(gone);
        assert_eq!(turns.jobs().waiting, 1);
        assert!(next.poll_now().is_none());
        drop(place);
        assert_eq!(turns.jobs(), Jobs { running: 1, waiting: 0 });
        // It has its place, and goes without having taken it.
        drop(next);
        assert_eq!(turns.jobs(), Jobs { running: 0, waiting: 0 });
        assert!(turn(&turns, 'c').poll_now().is_some(), "a turn comes at once if a place is free");
        assert_eq!(turns.jobs().running, 0);
    }

    #[test]
    fn a_client_has_so_many_turns_and_no_more() {
        let turns = Turns::new(1);
        let _place = turns.try_take(&'x');
        let wait = |client, of_client, all| turns.wait_with_room(client, of_client, all);
        assert_eq!(turns.waiters(&'a'), (false, false));
        let _first = wait('a', 1, 2).unwrap();
        assert_eq!(['a', 'b'].map(|client| turns.waiters(&client)), [(true, false), (true, true)]);
        assert!(turns.is_full_for(&'a', 1, 2) && wait('a', 1, 2).is_none());
        assert!(!turns.is_full_for(&'b', 1, 2));
        let _second = wait('b', 1, 2).unwrap();
        assert!(turns.is_full_for(&'c', 1, 2) && wait('c', 1, 2).is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_place_is_lost_where_many_come_and_go() {
        let turns = Turns::new(2);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200_u32 {
            let turns = Arc::clone(&turns);
            tasks.spawn(async move {
                for _ in 0..20 {
                    let turn = turns.wait(number % 7);
                    if number.is_multiple_of(3) {
                        let _ = tokio::time::timeout(std::time::Duration::ZERO, turn).await;
                    } else {
                        let _place = turn.await;
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(turns.jobs(), Jobs { running: 0, waiting: 0 });
        assert!(turns.lock().is_empty());
    }
}
