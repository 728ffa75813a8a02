//! How much of something each network holds, so that one network cannot hold all of it.
//!
//! An attacker has the addresses of a network, rarely those of many: what is shared is counted by IPv4 /24 and IPv6 /56 (what one
//! customer of a provider is given).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The network of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network(IpAddr);

impl Network {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8)).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 72)).into(),
        })
    }
}

/// The table. Networks that hold nothing are not in it, so it is never longer than what is shared.
#[derive(Debug)]
pub struct Shares {
    most: usize,
    held: Mutex<HashMap<Network, usize>>,
}

/// One of what is shared, given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    network: Network,
}

impl Shares {
    /// At most so many for each network.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// Takes one for the network of an address; `None` where it holds its share already.
    #[must_use]
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Share> {
        let network = Network::of(address);
        let mut held = self.lock();
        let count = held.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Share { shares: Arc::clone(self), network })
    }

    /// How many the network of an address holds.
    #[must_use]
    pub fn held(&self, address: IpAddr) -> usize {
        self.lock().get(&Network::of(address)).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Network, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.lock();
        if let Some(count) = held.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_gets_its_share_and_others_theirs() {
        let shares = Shares::new(2);
        let held = [shares.take(ip("10.0.0.1")), shares.take(ip("10.0.0.255"))];
        assert!(held.iter().all(Option::is_some));
        assert!(shares.take(ip("10.0.0.7")).is_none());
        assert!(shares.take(ip("::ffff:10.0.0.7")).is_none(), "the same network written otherwise");
        assert!(shares.take(ip("10.0.1.1")).is_some());
        drop(held);
        assert_eq!(shares.held(ip("10.0.0.1")), 0);
        assert!(shares.take(ip("10.0.0.7")).is_some());
        assert!(shares.lock().is_empty(), "what was given back takes no room");
    }

    #[test]
    fn the_networks_of_ipv6_are_those_that_one_customer_is_given() {
        let shares = Shares::new(1);
        let _held = shares.take(ip("2001:db8:0:100::1"));
        assert!(shares.take(ip("2001:db8:0:1ff:ffff::2")).is_none());
        assert!(shares.take(ip("2001:db8:0:200::1")).is_some());
    }
}
