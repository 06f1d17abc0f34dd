//! Changes that are asked for again: the repeat gets the answer of the first, and nothing is changed twice.
//!
//! A client whose connection breaks does not know whether its call was carried out. If it has named the call, it
//! may send it again, whatever others have changed meanwhile:
//!
//! ```text
//! the first ─ Claim ─ change ─▶ answer, remembered ─▶ its repeats, those too that came while it ran
//!               └──── failed, or given up ─▶ nothing is remembered: the next one is the first
//! ```
//!
//! Answers are remembered in memory only, at most [`Limits::count`] of them, for [`Limits::age`], in
//! [`Limits::bytes`] together: what an entry takes beside its answer is constant, and an answer has the track's metadata in
//! it. The oldest are forgotten first. A name is that of one key's calls, as that of a stream is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blake3::Hash;
use prost::Message;
use tokio::sync::watch;
use tonic::Status;

use crate::reason::Reason;

/// What an entry takes beside its name and its answer, in bytes: places in map and queue, digest, lengths.
const ENTRY_BYTES: usize = 256;

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
struct Limits {
    count: usize,
    age: Duration,
    bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { count: 100_000, age: Duration::from_secs(3_600), bytes: 64 << 20 }
    }
}

/// All calls that were named and have changed something, or may be about to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repeats(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    limits: Limits,
    calls: HashMap<Arc<str>, Call>,
    /// Those that were answered and when, the oldest first.
    answered: VecDeque<(Instant, Arc<str>)>,
    /// Memory of those, in bytes.
    bytes: usize,
}

#[derive(Debug)]
struct Call {
    /// What was asked for.
    digest: Hash,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Closed when it has ended, however it did.
    Running(watch::Receiver<()>),
    Answered(Box<[u8]>),
}

/// Whose turn it is.
#[derive(Debug)]
pub(crate) enum Turn<A> {
    /// The call is to be carried out.
    First(Claim),
    /// It was, and this was the answer.
    Repeat(A),
}

/// The right to carry a call out. Whoever drops it has not, and leaves it to the next.
#[derive(Debug)]
pub(crate) struct Claim(Option<Held>);

#[derive(Debug)]
struct Held {
    name: Arc<str>,
    book: Arc<Mutex<Book>>,
    /// Dropped behind the entry's change, so that whoever waits sees it.
    _running: watch::Sender<()>,
}

impl Repeats {
    /// Finds out whether a call is the first of its name among those of `owner`. If the first still runs, its end is
    /// waited for; whoever does not want to wait any longer drops the future. Without a name each call is the first, and no
    /// `digest` of what it asks for is made.
    ///
    /// # Errors
    ///
    /// `REQUEST_ID_REUSED` if the name is that of a call with another digest.
    pub(crate) async fn turn<A: Message + Default>(
        &self,
        owner: &str,
        request_id: &str,
        digest: impl FnOnce() -> Hash,
    ) -> Result<Turn<A>, Status> {
        if request_id.is_empty() {
            return Ok(Turn::First(Claim(None)));
        }
        let digest = digest();
        // Owners have no slash in them.
        let name: Arc<str> = format!("{owner}/{request_id}").into();
        loop {
            let mut running = {
                let mut book = lock(&self.0);
                book.forget_older(Instant::now());
                match book.calls.get(&name) {
                    None => {
                        let (sender, running) = watch::channel(());
                        let call = Call { digest, state: State::Running(running) };
                        book.calls.insert(Arc::clone(&name), call);
                        let book = Arc::clone(&self.0);
                        return Ok(Turn::First(Claim(Some(Held { name, book, _running: sender }))));
                    }
                    Some(call) if call.digest != digest => return Err(reused(request_id)),
                    Some(Call { state: State::Answered(answer), .. }) => {
                        // The digest has the kind of the call in it, so it is of this type.
                        let answer = A::decode(&**answer).expect("what was encoded here decodes");
                        return Ok(Turn::Repeat(answer));
                    }
                    Some(Call { state: State::Running(running), .. }) => running.clone(),
                }
            };
            // Nothing is ever sent: this ends when the claim is gone.
            let _ = running.changed().await;
        }
    }

    #[cfg(test)]
    fn with(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(Book { limits, ..Book::default() })))
    }
}

impl Claim {
    /// The change was made, and this is the answer: to be called as soon as it is made, where nothing can come in
    /// between.
    pub(crate) fn answered(mut self, answer: &impl Message) {
        let Some(held) = self.0.take() else { return };
        let answer = answer.encode_to_vec().into_boxed_slice();
        lock(&held.book).answer(&held.name, answer, Instant::now());
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // An answered call is no longer held: by now its name may be another's.
        if let Some(held) = self.0.take() {
            lock(&held.book).calls.remove(&held.name);
        }
    }
}

impl Book {
    fn answer(&mut self, name: &Arc<str>, answer: Box<[u8]>, now: Instant) {
        let Some(call) = self.calls.get_mut(name) else { return };
        self.bytes += weight(name, &answer);
        call.state = State::Answered(answer);
        self.answered.push_back((now, Arc::clone(name)));
        while self.answered.len() > self.limits.count || self.bytes > self.limits.bytes {
            self.forget_oldest();
        }
    }

    fn forget_older(&mut self, now: Instant) {
        let age = self.limits.age;
        while self.answered.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > age)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, name)) = self.answered.pop_front() else { return };
        if let Some(Call { state: State::Answered(answer), .. }) = self.calls.remove(&name) {
            self.bytes -= weight(&name, &answer);
        }
    }
}

/// What a call asks for, as one number: its kind, and then whatever makes it another call, in a fixed order.
pub(crate) fn digest<'a>(kind: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for part in [kind.as_bytes()].into_iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize()
}

fn weight(name: &str, answer: &[u8]) -> usize {
    ENTRY_BYTES + name.len() + answer.len()
}

fn reused(request_id: &str) -> Status {
    Reason::RequestIdReused.status(format!(
        "request_id {request_id:?} is that of another request (its call, track_id, metadata or audio differ); give each request a new one, and only its repeats the same"
    ))
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    // Every change is whole before the lock is given back.
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
