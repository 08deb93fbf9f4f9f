//! Who may come in.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use starling_xmpp::error::{StreamCondition, StreamError};

use super::Failures;

/// One client's network: an IPv4 address, or the /64 that one IPv6 customer has at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AddressKey(u64, bool);

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits()), false),
            IpAddr::V6(v6) => Self(upper_half(v6), true),
        }
    }
}

fn upper_half(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The instance has as many connections as it may.
    Full,
    /// The client's address has.
    Address,
    /// Too many log-ins from the client's address failed within a minute.
    FailedLogIns,
}

impl Refusal {
    pub(crate) const ALL: [Self; 3] = [Self::Full, Self::Address, Self::FailedLogIns];

    /// For the metric's label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "connections_per_address",
            Self::FailedLogIns => "failed_log_ins",
        }
    }
}

impl From<Refusal> for StreamError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::with_text(StreamCondition::ResourceConstraint, "too many connections"),
            Refusal::Address => {
                Self::with_text(StreamCondition::PolicyViolation, "too many connections from your address")
            }
            Refusal::FailedLogIns => {
                Self::with_text(StreamCondition::PolicyViolation, "too many failed log-ins from your address")
            }
        }
    }
}

/// Counts connections and failed log-ins. Locked for moments, once per connection and failure, never for a stanza.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connections: Option<u32>,
    per_address: Option<u32>,
    total: u32,
    /// Bounded by `total`: a key without connections has no entry.
    addresses: HashMap<AddressKey, u32>,
    failed_addresses: Failures<AddressKey>,
    failed_accounts: Failures<Box<str>>,
}

impl Gate {
    /// `None` everywhere: no limit.
    pub(crate) fn new(
        connections: Option<u32>,
        per_address: Option<u32>,
        failed_per_address: Option<u32>,
        failed_per_account: Option<u32>,
    ) -> Self {
        let state = State {
            connections,
            per_address,
            total: 0,
            addresses: HashMap::new(),
            failed_addresses: Failures::new(failed_per_address),
            failed_accounts: Failures::new(failed_per_account),
        };
        Self { state: Mutex::new(state) }
    }

    /// Other limits from now on. Whoever is in stays; what failed before counts against the new ones.
    pub(crate) fn set_limits(
        &self,
        connections: Option<u32>,
        per_address: Option<u32>,
        failed_per_address: Option<u32>,
        failed_per_account: Option<u32>,
    ) {
        let mut state = self.lock();
        (state.connections, state.per_address) = (connections, per_address);
        state.failed_addresses.set_limit(failed_per_address);
        state.failed_accounts.set_limit(failed_per_account);
    }

    /// Lets a connection in, or says why not.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Permit, Refusal> {
        let key = AddressKey::from(address);
        let mut state = self.lock();
        let per_address = state.per_address;
        if state.failed_addresses.is_barred(&key, now) {
            return Err(Refusal::FailedLogIns);
        }
        if state.connections.is_some_and(|limit| state.total >= limit) {
            return Err(Refusal::Full);
        }
        let count = state.addresses.entry(key).or_default();
        if per_address.is_some_and(|limit| *count >= limit) {
            // At a limit of zero the entry is new.
            if *count == 0 {
                state.addresses.remove(&key);
            }
            return Err(Refusal::Address);
        }
        *count += 1;
        state.total += 1;
        Ok(Permit { gate: Arc::clone(self), key })
    }

    /// Counts a failed log-in.
    pub(crate) fn failed(&self, key: AddressKey, account: Option<&str>, now: Instant) {
        let mut state = self.lock();
        state.failed_addresses.record(key, now);
        if let Some(account) = account {
            state.failed_accounts.record(account.into(), now);
        }
    }

    /// Whether the account has seen too many failed log-ins within a minute, wherever they came from.
    pub(crate) fn is_account_barred(&self, account: &str, now: Instant) -> bool {
        self.lock().failed_accounts.is_barred(account, now)
    }

    /// Whether the address has failed too often.
    pub(crate) fn is_address_barred(&self, key: AddressKey, now: Instant) -> bool {
        self.lock().failed_addresses.is_barred(&key, now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters stay true also if a thread died between two of them: nothing in between can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    key: AddressKey,
}

impl Permit {
    pub(crate) const fn key(&self) -> AddressKey {
        self.key
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.total = state.total.saturating_sub(1);
        if let Entry::Occupied(mut entry) = state.addresses.entry(self.key) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends_and_leaves_no_entry() {
        let gate = Arc::new(Gate::new(Some(2), Some(1), None, None));
        let now = Instant::now();
        let first = gate.admit(ip("192.0.2.1"), now).unwrap();
        assert_eq!(gate.admit(ip("192.0.2.1"), now).unwrap_err(), Refusal::Address);
        let second = gate.admit(ip("192.0.2.2"), now).unwrap();
        assert_eq!(gate.admit(ip("192.0.2.3"), now).unwrap_err(), Refusal::Full);
        drop((first, second));
        assert!(gate.lock().addresses.is_empty() && gate.lock().total == 0);
        gate.admit(ip("192.0.2.1"), now).unwrap();
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_and_a_mapped_address_as_its_ipv4() {
        let gate = Arc::new(Gate::new(None, Some(1), None, None));
        let now = Instant::now();
        let _first = gate.admit(ip("2001:db8::1"), now).unwrap();
        assert_eq!(gate.admit(ip("2001:db8::2"), now).unwrap_err(), Refusal::Address);
        let _other = gate.admit(ip("2001:db8:0:1::1"), now).unwrap();
        let _v4 = gate.admit(ip("192.0.2.1"), now).unwrap();
        assert_eq!(gate.admit(ip("::ffff:192.0.2.1"), now).unwrap_err(), Refusal::Address);
    }

    #[test]
    fn lowered_limits_turn_away_whoever_comes_next_and_raised_ones_let_it_in() {
        let gate = Arc::new(Gate::new(None, None, None, None));
        let now = Instant::now();
        let inside = [gate.admit(ip("192.0.2.1"), now).unwrap(), gate.admit(ip("192.0.2.1"), now).unwrap()];
        gate.set_limits(None, Some(2), None, None);
        assert_eq!(gate.admit(ip("192.0.2.1"), now).unwrap_err(), Refusal::Address);
        gate.set_limits(Some(1), None, None, None);
        assert_eq!(gate.admit(ip("192.0.2.2"), now).unwrap_err(), Refusal::Full);
        gate.set_limits(Some(3), Some(3), Some(1), None);
        let third = gate.admit(ip("192.0.2.1"), now).unwrap();
        drop((inside, third));
        assert!(gate.lock().addresses.is_empty() && gate.lock().total == 0);
        gate.failed(ip("192.0.2.1").into(), None, now);
        assert_eq!(gate.admit(ip("192.0.2.1"), now).unwrap_err(), Refusal::FailedLogIns);
        gate.set_limits(None, None, Some(2), None);
        gate.admit(ip("192.0.2.1"), now).unwrap();
    }

    #[test]
    fn failures_bar_the_address_and_the_account_for_a_minute() {
        let gate = Arc::new(Gate::new(None, None, Some(2), Some(3)));
        let now = Instant::now();
        let (one, two) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for _ in 0..2 {
            gate.failed(one.into(), Some("juliet@example.com"), now);
        }
        assert_eq!(gate.admit(one, now).unwrap_err(), Refusal::FailedLogIns);
        assert!(gate.is_address_barred(one.into(), now));
        assert!(!gate.is_account_barred("juliet@example.com", now));
        gate.failed(two.into(), Some("juliet@example.com"), now);
        assert!(gate.is_account_barred("juliet@example.com", now));
        gate.admit(two, now).unwrap();
        gate.admit(one, now + Duration::from_secs(60)).unwrap();
    }
}
