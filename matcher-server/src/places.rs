//! Places, for connections or for requests: so many in all, and so many for one client, so that none can take them all.
//!
//! Where it is not said how many one client may have, it may have as many as are left over for others: the first half of
//! all, and each further one half of what is left. Nothing is taken back, but whoever lets a place go gets it again only
//! if it still has no more than are left. It takes eight clients to fill 192 places.
//!
//! # Source
//!
//! A. K. Choudhury, E. L. Hahne, *Dynamic Queue Length Thresholds for Shared-Memory Packet Switches*, IEEE/ACM Transactions
//! on Networking 6 (2), 1998, with α = 1.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of an address of version 6 that tell clients apart: a site is given a network of 64 bits, whose other half
/// it may change with every connection.
const NETWORK_MASK: u128 = u128::MAX << 64;

/// Places for clients that are told apart by a `C`.
#[derive(Debug)]
pub(crate) struct Places<C: Eq + Hash> {
    count: usize,
    /// `None`: as many as are left over.
    per_client: Option<usize>,
    taken: Mutex<Taken<C>>,
}

#[derive(Debug)]
struct Taken<C> {
    count: usize,
    /// Clients without a place are left out, so there are at most as many as places.
    by_client: HashMap<C, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All are taken.
    All,
    /// The client has as many as it may.
    OfClient,
}

/// One place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<C: Eq + Hash> {
    places: Arc<Places<C>>,
    client: C,
}

impl<C: Eq + Hash + Clone> Places<C> {
    /// `count` places, of which one client may have `per_client`.
    pub(crate) fn new(count: usize, per_client: usize) -> Arc<Self> {
        Self::with(count, Some(per_client))
    }

    /// `count` places, of which one client may have as many as are left over for others.
    pub(crate) fn shared(count: usize) -> Arc<Self> {
        Self::with(count, None)
    }

    fn with(count: usize, per_client: Option<usize>) -> Arc<Self> {
        let taken = Taken { count: 0, by_client: HashMap::new() };
        Arc::new(Self { count, per_client, taken: Mutex::new(taken) })
    }

    /// Whether there is a place for a client.
    pub(crate) fn has_one_for(&self, client: &C) -> bool {
        self.refusal(&self.lock(), client).is_none()
    }

    fn refusal(&self, taken: &Taken<C>, client: &C) -> Option<Full> {
        if taken.count >= self.count {
            return Some(Full::All);
        }
        let most = self.per_client.unwrap_or(self.count - taken.count);
        (taken.of(client) >= most).then_some(Full::OfClient)
    }

    /// A place for a client, or why there is none.
    pub(crate) fn take(self: &Arc<Self>, client: C) -> Result<Place<C>, Full> {
        let mut taken = self.lock();
        if let Some(full) = self.refusal(&taken, &client) {
            return Err(full);
        }
        let of_client = taken.of(&client);
        taken.by_client.insert(client.clone(), of_client + 1);
        taken.count += 1;
        Ok(Place { places: Arc::clone(self), client })
    }
}

impl<C: Eq + Hash> Taken<C> {
    fn of(&self, client: &C) -> usize {
        self.by_client.get(client).copied().unwrap_or_default()
    }
}

impl<C: Eq + Hash> Places<C> {
    /// Places that are taken.
    pub(crate) fn taken_count(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Taken<C>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Eq + Hash> Drop for Place<C> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.count -= 1;
        if let Some(of_client) = taken.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

/// What of an address is the same for all that one site can take.
pub(crate) fn site_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK_MASK).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_all_together_theirs() {
        let places = Places::new(3, 2);
        let take = |text: &str| places.take(site_of(text.parse().unwrap()));
        let first = take("192.0.2.1").unwrap();
        // The same address, as a socket for both versions shows it.
        let second = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.1").unwrap_err() == Full::OfClient);
        let third = take("192.0.2.2").unwrap();
        assert!(take("192.0.2.3").unwrap_err() == Full::All);
        assert_eq!(places.taken_count(), 3);
        drop((first, third));
        assert_eq!(places.lock().by_client.len(), 1);
        let again = take("192.0.2.1").unwrap();
        drop((second, again));
        assert_eq!((places.taken_count(), places.lock().by_client.len()), (0, 0));
    }

    #[test]
    fn a_client_takes_half_of_what_others_have_left() {
        let places = Places::shared(12);
        let mut held = Vec::new();
        let mut counts = Vec::new();
        for client in ["a", "b", "c"] {
            let before = held.len();
            held.extend(std::iter::from_fn(|| places.take(client).ok()));
            counts.push(held.len() - before);
        }
        assert_eq!(counts, [6, 3, 2]);
        assert!(places.take("a").unwrap_err() == Full::OfClient);
        assert!(!places.has_one_for(&"a") && places.has_one_for(&"d"));
        let last = places.take("d").unwrap();
        assert!(places.take("e").unwrap_err() == Full::All);
        // What the first lets go is not its own any more.
        drop(last);
        held.remove(0);
        assert!(places.take("a").unwrap_err() == Full::OfClient);
        let alone = Places::shared(1);
        let _place = alone.take("a").unwrap();
        assert!(alone.take("b").unwrap_err() == Full::All);
    }

    #[test]
    fn a_network_of_version_6_is_one_client() {
        let places = Places::new(9, 1);
        let take = |text: &str| places.take(site_of(text.parse().unwrap()));
        let _first = take("2001:db8:0:1::1").unwrap();
        assert!(take("2001:db8:0:1:ffff::2").is_err());
        assert!(take("2001:db8:0:2::1").is_ok());
    }
}
