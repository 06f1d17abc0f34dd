//! Places for connections: so many in all, and so many for one address, so that one client cannot take them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of an address of version 6 that tell clients apart: a site is given a network of 64 bits, whose other half
/// it may change with every connection.
const NETWORK_MASK: u128 = u128::MAX << 64;

/// The places of one server.
#[derive(Debug)]
pub(super) struct Places {
    count: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// Addresses without a connection are left out, so there are at most as many as connections.
    by_address: HashMap<IpAddr, usize>,
}

/// One place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// Places for `count` connections, of which one address may have `per_address`.
    pub(super) fn new(count: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { count, per_address, taken: Mutex::default() })
    }

    /// A place for a connection from `address`, or why there is none, for people.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, &'static str> {
        let address = site_of(address);
        let mut taken = self.lock();
        if taken.count >= self.count {
            return Err("as many are open as may be (connections-max)");
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
        if of_address >= self.per_address {
            return Err(
                "as many are open from one address as may be (connections-per-address-max)",
            );
        }
        taken.by_address.insert(address, of_address + 1);
        taken.count += 1;
        Ok(Place { places: Arc::clone(self), address })
    }

    /// Places that are taken.
    pub(super) fn taken_count(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.count -= 1;
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// What of an address is the same for all that one site can take.
fn site_of(address: IpAddr) -> IpAddr {
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
        let take = |text: &str| places.take(text.parse().unwrap());
        let first = take("192.0.2.1").unwrap();
        // The same address, as a socket for both versions shows it.
        let second = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.1").unwrap_err().contains("per-address"));
        let third = take("192.0.2.2").unwrap();
        assert!(take("192.0.2.3").unwrap_err().contains("(connections-max)"));
        assert_eq!(places.taken_count(), 3);
        drop((first, third));
        assert_eq!(places.lock().by_address.len(), 1);
        let again = take("192.0.2.1").unwrap();
        drop((second, again));
        assert_eq!((places.taken_count(), places.lock().by_address.len()), (0, 0));
    }

    #[test]
    fn a_network_of_version_6_is_one_client() {
        let places = Places::new(9, 1);
        let take = |text: &str| places.take(text.parse().unwrap());
        let _first = take("2001:db8:0:1::1").unwrap();
        assert!(take("2001:db8:0:1:ffff::2").is_err());
        assert!(take("2001:db8:0:2::1").is_ok());
    }
}
