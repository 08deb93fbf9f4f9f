//! Ports that nobody else takes, also while no server listens there.
//!
//! Not from the range of outgoing connections: one of those could take the port of a server that is to be started again, and
//! a connection to a port of that range, where nobody listens, can even be accepted by itself.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    ops::RangeInclusive,
};

const PORTS: RangeInclusive<u16> = 11_000..=31_999;

/// A port that is kept for its holder.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The lock between processes: whoever holds the UDP port of this number has the TCP port. It goes with its holder.
    _lock: UdpSocket,
}

impl Port {
    /// One that was free.
    #[must_use]
    pub fn free() -> Self {
        let range = u64::from(PORTS.end() - PORTS.start()) + 1;
        let first = RandomState::new().hash_one(()) % range;
        let numbers = (0..range).map(|step| PORTS.start() + ((first + step) % range) as u16);
        let free = |number| {
            let lock = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
            Some(Self { number, _lock: lock })
        };
        numbers.into_iter().find_map(free).expect("no port is free")
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let ports: Vec<_> = (0..100).map(|_| Port::free()).collect();
        let mut numbers: Vec<_> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());
    }
}
