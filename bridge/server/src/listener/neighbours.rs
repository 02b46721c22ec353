//! How many connections come from one address before they have become anything: the cap that one stranger meets long before all of
//! them meet theirs. Knows no request.
//!
//! Calls do not count, nor modules that dialled in: a PBX brings hundreds of calls from one address, and each of them was let in by
//! its listener, which has caps of its own. What is counted is what costs nothing to hold: connections that say nothing, that ask, or
//! that look on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts by address. Clones count together; locked for a connection that comes, that becomes a call and that goes.
#[derive(Debug, Clone)]
pub(super) struct Neighbours {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// A place among the connections of an address, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    neighbours: Neighbours,
    address: IpAddr,
}

/// Whoever has an address of IPv6 has the other 2^64 of its network as well.
fn house(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

impl Neighbours {
    /// At most `most` of one address.
    pub(super) fn new(most: usize) -> Self {
        Self { counts: Arc::default(), most }
    }

    /// A place for one more connection from `address`, if there is one.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = house(address);
        let mut counts = self.counts();
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { neighbours: self.clone(), address })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Counts are whole, whatever became of who made them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.neighbours.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_places_and_gets_them_back() {
        let neighbours = Neighbours::new(2);
        let first = neighbours.take(address("192.0.2.7"));
        let second = neighbours.take(address("::ffff:192.0.2.7"));
        assert!(first.is_some() && second.is_some());
        assert!(neighbours.take(address("192.0.2.7")).is_none(), "the same, written in two ways");
        assert!(neighbours.take(address("192.0.2.8")).is_some());
        drop(first);
        let third = neighbours.take(address("192.0.2.7"));
        assert!(third.is_some() && neighbours.take(address("192.0.2.7")).is_none());
        drop((second, third));
        assert!(neighbours.counts().is_empty(), "nothing is kept of those who have gone");
    }

    #[test]
    fn a_network_of_64_bits_is_one_house() {
        let neighbours = Neighbours::new(1);
        let _first = neighbours.take(address("2001:db8:1:2::1")).unwrap();
        assert!(neighbours.take(address("2001:db8:1:2:ffff:ffff:ffff:ffff")).is_none());
        assert!(neighbours.take(address("2001:db8:1:3::1")).is_some());
    }
}
