//! What the tasks tell each other.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::connect::Address;

/// See the fields.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// A connection came or went: the lease is to be renewed at once. For `membership`.
    pub(super) links: Notify,
    /// Something is to be written again. For `announcer`.
    pub(super) announce: Notify,
    /// The servers may have moved. For `discovery`.
    pub(super) discover: Notify,
    /// It may have become available. For whoever waits for that.
    pub(super) ready: Notify,
    scope: Mutex<Scopes>,
}

#[derive(Debug, Default)]
struct Scopes {
    waiting: Scope,
    /// Something is being written again.
    at_work: bool,
}

/// Of which nodes all sessions are to be written again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) all: bool,
    pub(super) nodes: HashSet<Address>,
}

impl Scope {
    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.nodes.is_empty()
    }
}

impl Signals {
    /// What this node serves is to be written again; once the lease has been renewed.
    pub(super) fn announce_node(&self, node: &Address) {
        self.scopes().waiting.nodes.insert(node.clone());
        self.links.notify_one();
    }

    /// Everything is to be written again; once the lease has been renewed.
    pub(super) fn announce_all(&self) {
        self.scopes().waiting.all = true;
        self.links.notify_one();
    }

    /// What is to be written again, for whoever does.
    pub(super) fn take_scope(&self) -> Scope {
        let mut scopes = self.scopes();
        scopes.at_work = !scopes.waiting.is_empty();
        std::mem::take(&mut scopes.waiting)
    }

    /// It is written, except for what is put back.
    pub(super) fn end_scope(&self, rest: Scope) {
        let mut scopes = self.scopes();
        scopes.at_work = false;
        scopes.waiting.all |= rest.all;
        scopes.waiting.nodes.extend(rest.nodes);
    }

    /// Whether something waits to be written again.
    pub(super) fn has_scope(&self) -> bool {
        !self.scopes().waiting.is_empty()
    }

    /// Whether everything is written.
    pub(super) fn is_announced(&self) -> bool {
        let scopes = self.scopes();
        !scopes.at_work && scopes.waiting.is_empty()
    }

    fn scopes(&self) -> MutexGuard<'_, Scopes> {
        self.scope.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
