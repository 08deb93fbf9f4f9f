//! Changing an account's lists.

use std::sync::Arc;

use starling_store::Error;
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::BareJid,
};
use tracing::warn;

use super::{
    Held, Lists,
    cache::with_roster,
    document::{self, Saved},
};
use crate::Service;

/// How often a change is tried, where sessions at other instances change the same lists.
const ATTEMPTS: usize = 16;

/// What a change did.
pub(crate) struct Changed {
    /// The lists before.
    pub(crate) before: Arc<Held>,
    /// The lists now, in force already; `None`: nothing has changed.
    pub(crate) after: Option<Arc<Held>>,
}

/// Changes the lists of an account, written and in force when it returns; `change` is asked again where another instance was
/// faster. The caller holds the account's turn ([`super::Cache::turn`]), so that what it found out about the sessions here is
/// still so.
///
/// # Errors
/// That of `change`, and then nothing is changed; `resource-constraint` if the lists would be too large;
/// `internal-server-error` (type wait) if the store fails.
pub(crate) async fn change(
    service: &Service,
    account: &BareJid,
    change: impl Fn(&mut Lists) -> Result<(), StanzaError> + Send,
) -> Result<Changed, StanzaError> {
    let (store, cache) = (service.store(), service.privacy());
    let away = |error: Error| failed(account, &error);
    for _ in 0..ATTEMPTS {
        let read = document::load(store, account).await.map_err(away)?;
        let found = read.as_ref().map(|read| read.lists.clone()).unwrap_or_default();
        let mut lists = found.clone();
        change(&mut lists)?;
        let before = Arc::new(with_roster(store, account, found).await.map_err(away)?);
        if lists == before.lists {
            return Ok(Changed { before, after: None });
        }
        match document::save(store, account, read.as_ref(), &lists).await {
            Ok(Saved::Yes) => {}
            Ok(Saved::TooLarge) => return Err(Condition::ResourceConstraint.into()),
            Ok(Saved::Changed) => continue,
            Err(error) => {
                // It may be written or not.
                cache.forget(account.as_str());
                return Err(failed(account, &error));
            }
        }
        if service.registry().are_shared() {
            service.forget_everywhere(account.as_str()).await;
        }
        return match with_roster(store, account, lists).await {
            Ok(held) => {
                let held = Arc::new(held);
                let known = Some(Arc::clone(&held)).filter(|held| !held.lists.is_empty());
                cache.put(account, known);
                Ok(Changed { before, after: Some(held) })
            }
            Err(error) => {
                cache.forget(account.as_str());
                Err(failed(account, &error))
            }
        };
    }
    warn!(%account, "Privacy lists not written: others change them, or there is no such account");
    Err(StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorType::Wait))
}

/// The answer where the store does not do what it should.
pub(super) fn failed(account: &BareJid, error: &Error) -> StanzaError {
    warn!(%account, %error, "Privacy lists neither read nor written.");
    StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait)
}
