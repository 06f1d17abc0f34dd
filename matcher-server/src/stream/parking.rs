//! Streams that were named by their clients: whoever connects again within a minute goes on.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;
use tonic::Status;

use super::session::Session;

use crate::reason::Reason;

/// How long a stream waits for its client.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a client waits for the connection that it takes a stream over from.
const TAKEOVER_MAX: Duration = Duration::from_secs(5);
const TAKEOVER_PAUSE: Duration = Duration::from_millis(10);

/// A stream that may be parked, with its place among the open ones.
pub(crate) struct Parked {
    pub(crate) session: Session,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A name that is in use.
struct Slot {
    /// Tells one use of the name from the next.
    number: u64,
    /// Rings when another connection wants the stream.
    wanted: Arc<Notify>,
    /// The stream, while it has no connection.
    parked: Option<Box<Parked>>,
}

/// All named streams.
#[derive(Default)]
pub(crate) struct Parking(Mutex<Lot>);

#[derive(Default)]
struct Lot {
    slots: HashMap<String, Slot>,
    last_number: u64,
}

impl fmt::Debug for Parking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parking")
    }
}

/// The right to a name, until it is parked or given up.
pub(crate) struct Claim {
    name: String,
    number: u64,
    pub(crate) wanted: Arc<Notify>,
    parking: Arc<Parking>,
    is_parked: bool,
}

impl Parking {
    /// Claims a name among those of an owner, and the stream that has it, if any.
    ///
    /// # Errors
    ///
    /// `ABORTED` if another connection does not let go of it.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        owner: &str,
        name: &str,
    ) -> Result<(Claim, Option<Box<Parked>>), Status> {
        let full_name = format!("{owner}/{name}");
        let until = Instant::now() + TAKEOVER_MAX;
        loop {
            if let Some(claimed) = self.try_claim(&full_name) {
                return Ok(claimed);
            }
            if Instant::now() >= until {
                let text = format!(
                    "stream {name:?} is in use by another call that does not let go; try again, or use another stream_id"
                );
                return Err(Reason::Conflict.status(text));
            }
            tokio::time::sleep(TAKEOVER_PAUSE).await;
        }
    }

    fn try_claim(self: &Arc<Self>, name: &str) -> Option<(Claim, Option<Box<Parked>>)> {
        let mut lot = self.lock();
        let mut parked = None;
        if let Some(slot) = lot.slots.get_mut(name) {
            match slot.parked.take() {
                None => {
                    slot.wanted.notify_one();
                    return None;
                }
                found => parked = found,
            }
        }
        lot.last_number += 1;
        let (number, wanted) = (lot.last_number, Arc::new(Notify::new()));
        let slot = Slot { number, wanted: Arc::clone(&wanted), parked: None };
        lot.slots.insert(name.to_owned(), slot);
        let parking = Arc::clone(self);
        let claim = Claim { name: name.to_owned(), number, wanted, parking, is_parked: false };
        Some((claim, parked))
    }

    /// Forgets the stream that has waited longest; false if none waits.
    pub(crate) fn evict(&self) -> bool {
        let mut lot = self.lock();
        let waiting = lot.slots.iter().filter(|(_, slot)| slot.parked.is_some());
        let oldest = waiting.min_by_key(|(_, slot)| slot.number).map(|(name, _)| name.clone());
        oldest.is_some_and(|name| lot.slots.remove(&name).is_some())
    }

    /// Forgets all streams that wait.
    pub(crate) fn clear(&self) {
        self.lock().slots.retain(|_, slot| slot.parked.is_none());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lot> {
        // Every change is whole before the lock is given back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Leaves the stream for its client to come back.
    pub(crate) fn park(mut self, parked: Box<Parked>) {
        let (parking, name, number) = (Arc::clone(&self.parking), self.name.clone(), self.number);
        if let Some(slot) = parking.lock().slots.get_mut(&name).filter(|s| s.number == number) {
            slot.parked = Some(parked);
            self.is_parked = true;
        }
        tokio::spawn(async move {
            tokio::time::sleep(WAIT_MAX).await;
            let mut lot = parking.lock();
            if lot.slots.get(&name).is_some_and(|slot| slot.number == number) {
                lot.slots.remove(&name);
            }
        });
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_parked {
            return;
        }
        let mut lot = self.parking.lock();
        if lot.slots.get(&self.name).is_some_and(|slot| slot.number == self.number) {
            lot.slots.remove(&self.name);
        }
    }
}
