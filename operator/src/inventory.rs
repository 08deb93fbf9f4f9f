//! What there is of ours in the cluster, as the watches tell it: so that looking costs no request.
//!
//! ```text
//!   watches (metadata; of what has a state, all) ──► Inventory ──► what is missing, what was changed, what is left over
//!   answers to what we applied ────────────────────►     │
//!                                                        └──► whom a change concerns
//! ```
//!
//! An object is *as we left it* while we still own every field that we applied. Whoever changes one of them becomes its
//! owner (`metadata.managedFields`), so that the fields which are ours say it all, whatever others write beside them, and
//! nothing that the API server fills in or writes otherwise looks like a change.
//!
//! Holds a few numbers for each object, for as long as the object is there.

mod state;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::{Resource as _, ResourceExt, api::ObjectMeta, runtime::watcher::Event};
use tokio::sync::watch;

use crate::{crd::XmppServer, hash};

pub(crate) use self::state::TEMPLATE_HASH;
pub use self::state::{Address, Clients, JobState, Pod, State, Workload};

/// Whose things they are: an `XmppServer` by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ServerKey {
    /// Of any object's metadata.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

impl std::fmt::Display for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One of a server's things.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What is known of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// `resourceVersion`: which of two tellings is the later one.
    version: u64,
    /// The UID of the server that owns it.
    pub owner: String,
    /// What of it is ours.
    ours: Ours,
    /// Whether somebody deletes it.
    pub is_ending: bool,
    /// How it fares, where that matters.
    pub state: State,
    /// What we applied, and what was ours after that.
    applied: Option<(String, Ours)>,
}

/// A digest of the fields that are ours, and of which object.
type Ours = String;

/// What is to be done about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is as it is to be.
    Nothing,
    /// It is not there, or not known.
    Missing,
    /// It is to be otherwise than before, or it is not known what it was before.
    Changed,
    /// Somebody else changed it.
    Drifted,
}

impl Child {
    /// Reads it. `None`: it is not owned by an `XmppServer`.
    #[must_use]
    pub fn read(meta: &ObjectMeta, state: State) -> Option<(ServerKey, Self)> {
        let owner = meta.owner_references.iter().flatten().find(|owner| is_ours(&owner.api_version, &owner.kind))?;
        let key = ServerKey { namespace: meta.namespace.clone().unwrap_or_default(), name: owner.name.clone() };
        let child = Self {
            version: version(meta),
            owner: owner.uid.clone(),
            ours: ours(meta),
            is_ending: meta.deletion_timestamp.is_some(),
            state,
            applied: None,
        };
        Some((key, child))
    }

    /// Reads a pod: it is owned by others, and found by its labels.
    #[must_use]
    pub fn read_pod(meta: &ObjectMeta) -> Option<(ServerKey, Self)> {
        let name = meta.labels.as_ref()?.get("app.kubernetes.io/instance")?.clone();
        let key = ServerKey { namespace: meta.namespace.clone()?, name };
        let child = Self {
            version: version(meta),
            owner: String::new(),
            ours: String::new(),
            is_ending: meta.deletion_timestamp.is_some(),
            state: State::Pod(Pod::read(meta)),
            applied: None,
        };
        Some((key, child))
    }
}

fn is_ours(api_version: &str, kind: &str) -> bool {
    kind == XmppServer::kind(&()) && api_version.split('/').next() == Some(&XmppServer::group(&()))
}

fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn ours(meta: &ObjectMeta) -> Ours {
    let fields = state::owned_fields(meta).map(ToString::to_string).unwrap_or_default();
    hash::long(format!("{}{fields}", meta.uid.as_deref().unwrap_or_default()).as_bytes())
}

/// See the module.
#[derive(Debug)]
pub struct Inventory {
    servers: Mutex<HashMap<ServerKey, Things>>,
    /// Kinds whose first list has been read whole.
    listed: watch::Sender<BTreeSet<String>>,
}

type Things = BTreeMap<Key, Child>;

/// What there was of one server at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Its objects.
    pub children: BTreeMap<Key, Child>,
    /// Its pods, by name.
    pub pods: BTreeMap<String, Pod>,
}

impl Default for Inventory {
    fn default() -> Self {
        Self { servers: Mutex::default(), listed: watch::Sender::new(BTreeSet::new()) }
    }
}

impl Inventory {
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerKey, Things>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all of these kinds have been listed once. Before that, what is there may look as if it were missing.
    pub async fn listed(&self, kinds: &BTreeSet<String>) {
        // The sender lives as long as `self`.
        let mut listed = self.listed.subscribe();
        listed.wait_for(|listed| kinds.is_subset(listed)).await.ok();
    }

    /// Whether all of these kinds have been listed once.
    #[must_use]
    pub fn is_listed(&self, kinds: &BTreeSet<String>) -> bool {
        kinds.is_subset(&self.listed.borrow())
    }

    /// What there is of a server, as far as it is this one's and not that of an earlier one of the same name.
    #[must_use]
    pub fn of(&self, key: &ServerKey, uid: &str) -> Snapshot {
        let servers = self.lock();
        let Some(things) = servers.get(key) else { return Snapshot::default() };
        let own = things.iter().filter(|(_, child)| child.owner == uid);
        let pods = things.iter().filter_map(|(key, child)| match &child.state {
            State::Pod(pod) => Some((key.name.clone(), pod.clone())),
            _ => None,
        });
        Snapshot { children: own.map(|(key, child)| (key.clone(), child.clone())).collect(), pods: pods.collect() }
    }

    /// Notes what the API server answered to what we applied. `desired` is the digest of what that was.
    pub fn applied(&self, kind: &str, meta: &ObjectMeta, state: State, desired: &str) {
        let Some((server, mut child)) = Child::read(meta, state) else { return };
        child.applied = Some((desired.to_owned(), child.ours.clone()));
        self.put(server, Key { kind: kind.to_owned(), name: meta.name.clone().unwrap_or_default() }, child);
    }

    /// Returns whether anything changed.
    fn put(&self, server: ServerKey, key: Key, mut child: Child) -> bool {
        let mut servers = self.lock();
        let children = servers.entry(server).or_default();
        match children.get_mut(&key) {
            Some(known) if child.version < known.version => false,
            Some(known) => {
                child.applied = child.applied.or_else(|| known.applied.take());
                let is_other = (known.owner != child.owner)
                    || (known.ours != child.ours)
                    || (known.is_ending != child.is_ending)
                    || (known.state != child.state);
                *known = child;
                is_other
            }
            None => {
                children.insert(key, child);
                true
            }
        }
    }

    fn remove(&self, server: &ServerKey, key: &Key) -> bool {
        let mut servers = self.lock();
        let Some(things) = servers.get_mut(server) else { return false };
        let was_there = things.remove(key).is_some();
        if things.is_empty() {
            servers.remove(server);
        }
        was_there
    }

    /// All that is known of a kind.
    fn known(&self, kind: &str) -> Vec<(ServerKey, Key)> {
        let servers = self.lock();
        let all = servers.iter().flat_map(|(server, things)| things.keys().map(move |key| (server, key)));
        all.filter(|(_, key)| key.kind == kind).map(|(server, key)| (server.clone(), key.clone())).collect()
    }
}

impl Snapshot {
    /// What is to be done about an object of which `desired` is the digest.
    #[must_use]
    pub fn need(&self, key: &Key, desired: &str) -> Need {
        let Some(child) = self.children.get(key) else { return Need::Missing };
        match &child.applied {
            Some((applied, _)) if applied != desired => Need::Changed,
            Some((_, ours)) if *ours != child.ours => Need::Drifted,
            Some(_) => Need::Nothing,
            None => Need::Changed,
        }
    }

    /// The state of one of its objects.
    #[must_use]
    pub fn state(&self, kind: &str, name: &str) -> Option<&State> {
        self.children.get(&Key { kind: kind.to_owned(), name: name.to_owned() }).map(|child| &child.state)
    }
}

/// What the watch of one kind tells, taken into the inventory.
#[derive(Debug)]
pub struct Teller {
    kind: String,
    /// While a list is read: what stood in it.
    relisted: Option<BTreeSet<(ServerKey, Key)>>,
}

impl Teller {
    /// For objects of this kind.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        Self { kind: kind.to_owned(), relisted: None }
    }

    /// Takes an event. Returns whom it concerns.
    pub fn take<K: ResourceExt>(
        &mut self,
        inventory: &Inventory,
        event: Event<K>,
        read: impl Fn(&K) -> Option<(ServerKey, Child)>,
    ) -> Vec<ServerKey> {
        let read = |object: &K| {
            let (server, child) = read(object)?;
            Some((server, Key { kind: self.kind.clone(), name: object.name_any() }, child))
        };
        match event {
            Event::Init => {
                self.relisted = Some(BTreeSet::new());
                Vec::new()
            }
            Event::Apply(object) | Event::InitApply(object) => {
                let Some((server, key, child)) = read(&object) else { return Vec::new() };
                if let Some(relisted) = &mut self.relisted {
                    relisted.insert((server.clone(), key.clone()));
                }
                if inventory.put(server.clone(), key, child) { vec![server] } else { Vec::new() }
            }
            Event::Delete(object) => {
                let Some((server, key, _)) = read(&object) else { return Vec::new() };
                if inventory.remove(&server, &key) { vec![server] } else { Vec::new() }
            }
            Event::InitDone => {
                let there = self.relisted.take().unwrap_or_default();
                let gone = inventory.known(&self.kind).into_iter().filter(|known| !there.contains(known));
                let gone = gone.filter(|(server, key)| inventory.remove(server, key));
                let concerned = gone.map(|(server, _)| server).collect();
                inventory.listed.send_if_modified(|listed| listed.insert(self.kind.clone()));
                concerned
            }
        }
    }
}

#[cfg(test)]
mod tests;
