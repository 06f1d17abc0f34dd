//! The keys that are accepted, and what is used of their limits.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;

use crate::keys::{Key, KeyFile, KeysError};

/// All keys of a file.
#[derive(Debug)]
pub(super) struct Keys {
    file: KeyFile,
    by_id: RwLock<Arc<HashMap<String, Arc<Holder>>>>,
}

/// A key, and what its clients have used of its limits. Lives on while requests of it run, though the file has
/// changed.
pub(super) struct Holder {
    pub(super) key: Key,
    pub(super) limiter: Option<DefaultDirectRateLimiter>,
    /// The same for batches, each of which counts once here, whatever becomes of it, and its clips above.
    pub(super) batch_limiter: Option<DefaultDirectRateLimiter>,
    pub(super) places: Option<Arc<Semaphore>>,
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// What reading the file of keys again has changed, in keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyChanges {
    /// That were not there before.
    pub added: usize,
    /// That are revoked, expire or allow otherwise than before.
    pub changed: usize,
    /// That are not there any more.
    pub removed: usize,
}

/// How many keys there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeyCounts {
    pub(crate) valid: usize,
    pub(crate) expired: usize,
    pub(crate) revoked: usize,
    /// When the first of the valid ones ends, if one does.
    pub(crate) next_end: Option<SystemTime>,
}

impl Keys {
    /// Reads them.
    pub(super) fn read(file: KeyFile) -> Result<Self, KeysError> {
        let keys = Self { file, by_id: RwLock::default() };
        keys.reload()?;
        Ok(keys)
    }

    /// All of them by their ids, as they were read last.
    pub(super) fn all(&self) -> Arc<HashMap<String, Arc<Holder>>> {
        Arc::clone(&self.by_id.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many are accepted at that time, and how many no longer.
    pub(super) fn counts(&self, time: SystemTime) -> KeyCounts {
        let mut counts = KeyCounts::default();
        for Holder { key, .. } in self.all().values().map(Arc::as_ref) {
            if key.revoked.is_some() {
                counts.revoked += 1;
            } else if key.is_valid_at(time) {
                counts.valid += 1;
                counts.next_end = counts.next_end.into_iter().chain(key.expires).min();
            } else {
                counts.expired += 1;
            }
        }
        counts
    }

    /// Reads them again. Those that are as before go on counting what is used of them.
    pub(super) fn reload(&self) -> Result<KeyChanges, KeysError> {
        let old = self.all();
        let mut changes = KeyChanges::default();
        let holders = self.file.read()?.into_iter().map(|key| {
            let before = old.get(&key.id);
            let kept = before.filter(|holder| holder.key == key).cloned();
            match (before, &kept) {
                (None, _) => changes.added += 1,
                (Some(_), None) => changes.changed += 1,
                (Some(_), Some(_)) => {}
            }
            (key.id.clone(), kept.unwrap_or_else(|| Arc::new(Holder::new(key))))
        });
        let new: HashMap<_, _> = holders.collect();
        changes.removed = old.keys().filter(|id| !new.contains_key(*id)).count();
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(changes)
    }
}

impl Holder {
    fn new(key: Key) -> Self {
        let quota = key.rate_per_s.and_then(|rate| {
            let quota = Quota::with_period(Duration::from_secs_f64(1.0 / rate))?;
            Some(quota.allow_burst(burst(rate)))
        });
        let places = key.concurrent_max.map(|most| Arc::new(Semaphore::new(most.get() as usize)));
        let (limiter, batch_limiter) =
            (quota.map(RateLimiter::direct), quota.map(RateLimiter::direct));
        Self { key, limiter, batch_limiter, places }
    }
}

/// What may come at once: a second's worth.
pub(super) fn burst(rate_per_s: f64) -> NonZeroU32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a checked rate is 0.001 to 1,000,000"
    )]
    NonZeroU32::new(rate_per_s.ceil() as u32).unwrap_or(NonZeroU32::MIN)
}
