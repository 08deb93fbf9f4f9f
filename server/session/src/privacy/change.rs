//! Changing an account's lists.

use std::sync::Arc;

use starling_store::Error;
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::BareJid,
};
use tracing::warn;

use super::{Held, Lists, cache::with_roster, document};
use crate::Service;

/// What a change did.
pub(crate) struct Changed {
    /// The lists before.
    pub(crate) before: Arc<Held>,
    /// The lists now, in force already; `None`: nothing has changed.
    pub(crate) after: Option<Arc<Held>>,
}

/// Changes the lists of an account, written and in force when it returns. The caller holds the account's turn
/// ([`super::Cache::turn`]), so that what it found out about the sessions is still so.
///
/// # Errors
/// That of `change`, and then nothing is changed; `resource-constraint` if the lists would be too large;
/// `internal-server-error` (type wait) if the store fails.
pub(crate) async fn change(
    service: &Service,
    account: &BareJid,
    change: impl FnOnce(&mut Lists) -> Result<(), StanzaError> + Send,
) -> Result<Changed, StanzaError> {
    let (store, cache) = (service.store(), service.privacy());
    if service.registry().are_shared() {
        // Another instance may have changed them a moment ago.
        cache.forget(account.as_str());
    }
    let before = cache.get(store, account).await.map_err(|error| failed(account, &error))?.unwrap_or_default();
    let mut lists = before.lists.clone();
    change(&mut lists)?;
    if lists == before.lists {
        return Ok(Changed { before, after: None });
    }
    match document::save(store, account, &lists).await {
        Ok(true) => {}
        Ok(false) => return Err(Condition::ResourceConstraint.into()),
        Err(error) => {
            // It may be written or not.
            cache.forget(account.as_str());
            return Err(failed(account, &error));
        }
    }
    if service.registry().are_shared() {
        service.forget_everywhere(account.as_str()).await;
    }
    match with_roster(store, account, lists).await {
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
    }
}

/// The answer where the store does not do what it should.
pub(super) fn failed(account: &BareJid, error: &Error) -> StanzaError {
    warn!(%account, %error, "Privacy lists neither read nor written.");
    StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait)
}
