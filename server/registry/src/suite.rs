//! The rules that every registry keeps, to be run against each; and those between the instances that share one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "called by tests alone")]

mod sessions;
mod shared;
mod streams;

use std::{future::Future, time::Duration};

use starling_xmpp::jid::BareJid;
use tokio::time::{sleep, timeout};

use crate::{InstanceId, Registry, SessionId, SessionRecord};

/// What takes longer does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registry, and the instance that it is of.
#[derive(Clone, Copy)]
pub struct Subject<'r> {
    /// The registry.
    pub registry: &'r dyn Registry,
    /// Whose.
    pub instance: InstanceId,
}

/// Runs the rules of every registry. It need not be empty: nothing of `@suite` is in it.
pub async fn run(subject: Subject<'_>) {
    sessions::run(subject).await;
    if !subject.registry.are_shared() {
        streams::where_they_are_not_shared_nothing_is_done(subject).await;
    }
}

/// Runs the rules of a registry that two instances share. It need not be empty: nothing of `@shared` is in it.
pub async fn run_shared(one: Subject<'_>, other: Subject<'_>) {
    shared::run(one, other).await;
    streams::run(one, other).await;
}

/// Waits until something is so that nobody tells of.
pub async fn until<F: Future<Output = bool>>(what: &str, so: impl Fn() -> F) {
    let wait = async {
        while !so().await {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("it never became so: {what}"));
}

impl Subject<'_> {
    /// A session of this instance.
    #[must_use]
    pub fn record(&self, full: &str, id: u128) -> SessionRecord {
        SessionRecord::new(full.parse().unwrap(), SessionId(id), self.instance)
    }

    /// The ids of an account's sessions, in their order.
    pub async fn ids(&self, account: &str) -> Vec<u128> {
        let sessions = self.registry.sessions(&bare(account)).await.unwrap();
        let mut ids: Vec<_> = sessions.iter().map(|record| record.id.0).collect();
        ids.sort_unstable();
        ids
    }
}

/// An account.
#[must_use]
pub fn bare(account: &str) -> BareJid {
    account.parse().unwrap()
}
