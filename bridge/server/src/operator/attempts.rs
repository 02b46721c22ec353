//! How many wrong tokens came from where: after a few, an address is answered no more for a while. Keeps no token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ringback_proto::Instant;

/// Wrong tokens that an address may bring within [`WINDOW`].
const MOST_WRONG: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered. Of more, the one is forgotten whose first try is the longest ago.
const MOST_ADDRESSES: usize = 4_096;

/// Wrong tokens of late, by address; those of IPv6 by network, because one host has as many addresses as it likes.
#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<IpAddr, Attempt>);

#[derive(Debug)]
struct Attempt {
    since: Instant,
    wrong: u32,
}

impl Attempts {
    /// How long `address` is not listened to any more, if it has guessed too often.
    pub(super) fn locked(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let attempt = self.0.get(&network(address))?;
        let left = WINDOW.checked_sub(now - attempt.since).filter(|left| !left.is_zero());
        left.filter(|_| attempt.wrong >= MOST_WRONG)
    }

    /// A wrong one came.
    pub(super) fn wrong(&mut self, address: IpAddr, now: Instant) {
        let address = network(address);
        let is_over = |attempt: &Attempt| now - attempt.since >= WINDOW;
        if !self.0.contains_key(&address) && self.0.len() >= MOST_ADDRESSES {
            self.0.retain(|_, attempt| !is_over(attempt));
            if self.0.len() >= MOST_ADDRESSES {
                let oldest = self.0.iter().min_by_key(|(_, attempt)| attempt.since);
                let oldest = oldest.map(|(address, _)| *address);
                oldest.map(|address| self.0.remove(&address));
            }
        }
        let attempt = self.0.entry(address).or_insert(Attempt { since: now, wrong: 0 });
        if is_over(attempt) {
            *attempt = Attempt { since: now, wrong: 0 };
        }
        attempt.wrong += 1;
    }
}

/// The address, or the /64 of one of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_minute_after_its_first_guess_an_address_begins_anew() {
        let (mut attempts, address) = (Attempts::default(), "192.0.2.1".parse().unwrap());
        for guess in 0..MOST_WRONG {
            assert_eq!(attempts.locked(address, at(10)), None, "{guess}");
            attempts.wrong(address, at(u64::from(guess)));
        }
        assert_eq!(attempts.locked(address, at(10)), Some(Duration::from_secs(50)));
        assert_eq!(attempts.locked("192.0.2.2".parse().unwrap(), at(10)), None);
        assert_eq!(attempts.locked(address, at(60)), None);
        attempts.wrong(address, at(60));
        assert_eq!(attempts.locked(address, at(60)), None, "it is the first of another minute");
    }

    #[test]
    fn a_host_of_ipv6_has_one_address() {
        let mut attempts = Attempts::default();
        for host in 0..u128::from(MOST_WRONG) {
            let address = Ipv6Addr::from_bits((0x2001_0db8 << 96) + host).into();
            attempts.wrong(address, at(0));
        }
        assert!(attempts.locked("2001:db8::ffff".parse().unwrap(), at(1)).is_some());
        assert!(attempts.locked("2001:db8:0:1::1".parse().unwrap(), at(1)).is_none());
    }

    #[test]
    fn no_more_addresses_are_remembered_than_may() {
        let mut attempts = Attempts::default();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..2 * MOST_ADDRESSES as u32 {
            attempts.wrong(address(n), at(u64::from(n) / 1_000));
        }
        assert_eq!(attempts.0.len(), MOST_ADDRESSES);
        assert!(attempts.0.contains_key(&address(2 * MOST_ADDRESSES as u32 - 1)));
        attempts.wrong(address(u32::MAX), at(600));
        assert_eq!(attempts.0.len(), 1, "what is over is forgotten first");
    }
}
