//! XEP-0077 before log-in: the part that needs the store. What a client may ask, and how it is answered, is
//! `starling_xmpp::negotiate`'s; here the account is made.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use starling_store::{Account, PutMode};
use starling_xmpp::{
    SystemRandom,
    error::{Condition, ErrorType, StanzaError},
    jid::BareJid,
    negotiate::NewPassword,
    sasl::{Credentials, PasswordError},
};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::{
    limits::{AddressKey, Permit},
    server::Shared,
};

/// How long an attempt counts.
const WINDOW: Duration = Duration::from_secs(60 * 60);
/// Addresses that are remembered. Beyond it those whose hour is over go, then whichever comes to hand.
const REMEMBERED: usize = 65_536;

/// Attempts to make an account, by the address that they came from.
#[derive(Debug)]
pub(crate) struct Registrations(Mutex<Rate<AddressKey>>);

impl Registrations {
    /// `None`: no limit.
    pub(crate) fn new(per_address_per_hour: Option<u32>) -> Self {
        Self(Mutex::new(Rate { limit: per_address_per_hour, windows: HashMap::new() }))
    }

    /// Another limit from now on, also for attempts that were counted before.
    pub(crate) fn set_limit(&self, per_address_per_hour: Option<u32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).limit = per_address_per_hour;
    }

    /// Counts an attempt; `false`: it is one too many.
    fn admit(&self, address: AddressKey, now: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(address, now)
    }
}

/// Attempts per key and hour.
#[derive(Debug)]
struct Rate<K> {
    limit: Option<u32>,
    windows: HashMap<K, (u32, Instant)>,
}

impl<K: Hash + Eq + Copy> Rate<K> {
    fn admit(&mut self, key: K, now: Instant) -> bool {
        let Some(limit) = self.limit else { return true };
        let is_over = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if self.windows.len() >= REMEMBERED && !self.windows.contains_key(&key) {
            self.windows.retain(|_, (_, since)| !is_over(*since));
            if self.windows.len() >= REMEMBERED
                && let Some(any) = self.windows.keys().next().copied()
            {
                self.windows.remove(&any);
            }
        }
        let (count, since) = self.windows.entry(key).or_insert((0, now));
        if is_over(*since) {
            (*count, *since) = (0, now);
        }
        if *count >= limit {
            return false;
        }
        *count += 1;
        true
    }
}

/// Makes the account.
///
/// # Errors
/// What the client is told instead: `not-allowed` where registration was switched off meanwhile, `conflict` (XEP-0077 §3.1), `not-acceptable` for a password that cannot be one,
/// `resource-constraint` (type wait) above the rate of its address, `internal-server-error` (type wait) if the store is
/// away.
pub(crate) async fn register(
    shared: &Shared,
    permit: &Permit,
    account: BareJid,
    password: NewPassword,
) -> Result<(), StanzaError> {
    if !shared.rules.load().policy.registration {
        return Err(Condition::NotAllowed.into());
    }
    if !shared.registrations.admit(permit.key(), Instant::now()) {
        let error = StanzaError::with_text(Condition::ResourceConstraint, "too many attempts from your address");
        return Err(error.with_kind(ErrorType::Wait));
    }
    // Tells what is taken before it costs anything; what decides is the store's own word below.
    if shared.accounts.exists(&account).await.map_err(|error| away(&account, &error))? {
        return Err(Condition::Conflict.into());
    }
    let credentials = derive(shared, password).await?;
    let made = Account { jid: account, credentials };
    let left_out = shared.accounts.put(std::slice::from_ref(&made), PutMode::Create).await;
    match left_out.map_err(|error| away(&made.jid, &error))?.as_slice() {
        [] => {
            info!(account = %made.jid, "Account registered.");
            Ok(())
        }
        _ => Err(Condition::Conflict.into()),
    }
}

/// As costly as password checks, and so under their bound: off the threads that move bytes, no more at once than cores.
async fn derive(shared: &Shared, password: NewPassword) -> Result<Credentials, StanzaError> {
    let internal = || StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait);
    let turn = Arc::clone(&shared.password_checks).acquire_owned().await.map_err(|_closed| internal())?;
    let iterations = shared.rules.load().policy.fake_iterations;
    let derived = spawn_blocking(move || {
        let derived = password.derive(iterations, &mut SystemRandom);
        drop(turn);
        derived
    });
    derived
        .await
        .map_err(|_| internal())?
        .map_err(|error: PasswordError| StanzaError::with_text(Condition::NotAcceptable, error.to_string()))
}

fn away(account: &BareJid, error: &starling_store::Error) -> StanzaError {
    warn!(%account, %error, "Account not registered.");
    StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(limit: Option<u32>) -> Rate<usize> {
        Rate { limit, windows: HashMap::new() }
    }

    #[test]
    fn an_address_may_try_as_often_as_the_limit_says_and_again_when_the_hour_is_over() {
        let start = Instant::now();
        let mut rate = rate(Some(2));
        assert!(rate.admit(1, start) && rate.admit(1, start) && !rate.admit(1, start));
        assert!(rate.admit(2, start), "another address");
        assert!(!rate.admit(1, start + WINDOW - Duration::from_secs(1)), "refusals do not move the hour, nor end it");
        assert!(rate.admit(1, start + WINDOW));
    }

    #[test]
    fn memory_is_bounded_however_many_addresses_try() {
        let start = Instant::now();
        let mut rate = rate(Some(1));
        for address in 0..(REMEMBERED + 1000) {
            assert!(rate.admit(address, start));
        }
        assert!(rate.windows.len() <= REMEMBERED);
        assert!(!rate.admit(REMEMBERED + 999, start), "the newest is remembered");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let mut rate = rate(None);
        assert!((0..100).all(|_| rate.admit(1, Instant::now())));
        assert!(rate.windows.is_empty());
    }
}
