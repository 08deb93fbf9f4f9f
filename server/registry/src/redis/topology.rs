//! Which node serves which slot, and the connections to the nodes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connect::Address,
    keys::{self, Keys},
    link::{Ground, Link},
    slots,
};
use crate::InstanceId;

/// No node serves this slot.
const NOBODY: u16 = u16::MAX;

/// A server that can be written to.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) link: Arc<Link>,
    /// The key that was last seen to be there still; see `keys.rs`, `here`.
    pub(super) witnessed: Mutex<Option<String>>,
    stop: CancellationToken,
}

/// How things stand with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// What the cache holds of it is true.
    Tracked,
    /// It answers; nothing of it is cached.
    Untracked,
    /// It does not answer.
    Away,
}

impl Node {
    fn start(address: Address, ground: &Arc<Ground>, tasks: &TaskTracker, stop: CancellationToken) -> Arc<Self> {
        let link = Link::new(address.clone(), Arc::clone(ground));
        tasks.spawn(Arc::clone(&link).keep(stop.clone()));
        Arc::new(Self { address, link, witnessed: Mutex::new(None), stop })
    }

    pub(super) fn standing(&self) -> Standing {
        if self.link.tracks() {
            Standing::Tracked
        } else if self.link.is_live() {
            Standing::Untracked
        } else {
            Standing::Away
        }
    }

    /// Notes that the witness is written now, and says whether it should have been there already.
    pub(super) fn witness(&self, key: &str) -> bool {
        let mut witnessed = self.witnessed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = witnessed.replace(key.to_owned());
        before.as_deref() == Some(key)
    }
}

/// Who serves what, as of one moment.
#[derive(Debug, Default)]
pub(super) struct Topology {
    pub(super) nodes: Vec<Arc<Node>>,
    /// For each slot the index of its node. `None`: one node serves everything.
    slots: Option<Box<[u16]>>,
    /// For each node a hash tag that it serves. Where one serves everything, nobody asks.
    tags: Vec<Option<String>>,
}

/// What the servers say of themselves: who serves which slots, both ends being served too; without any, one serves all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) nodes: Vec<Address>,
    pub(super) ranges: Vec<(u16, u16, usize)>,
}

impl Topology {
    /// Takes over the nodes that stay, with their connections, ends those that go and starts those that come.
    pub(super) fn follow(
        &self,
        layout: &Layout,
        ground: &Arc<Ground>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let mut before: HashMap<&Address, &Arc<Node>> = self.nodes.iter().map(|node| (&node.address, node)).collect();
        let node = |address: &Address| match before.remove(address) {
            Some(node) => Arc::clone(node),
            None => Node::start(address.clone(), ground, tasks, stop.child_token()),
        };
        let nodes: Vec<_> = layout.nodes.iter().map(node).collect();
        for gone in before.into_values() {
            gone.stop.cancel();
        }
        let slots = (!layout.ranges.is_empty()).then(|| {
            let mut slots = vec![NOBODY; usize::from(slots::COUNT)];
            for (first, last, node) in &layout.ranges {
                if let Some(range) = slots.get_mut(usize::from(*first)..=usize::from(*last)) {
                    range.fill(u16::try_from(*node).unwrap_or(NOBODY));
                }
            }
            slots.into_boxed_slice()
        });
        let mut topology = Self { nodes, slots, tags: Vec::new() };
        topology.tags = (0..topology.nodes.len()).map(|node| topology.tag_of(node)).collect();
        topology
    }

    /// Whether it is a cluster's.
    pub(super) fn is_cluster(&self) -> bool {
        self.slots.is_some()
    }

    /// Who serves this slot.
    pub(super) fn node_of(&self, slot: u16) -> Option<&Arc<Node>> {
        self.nodes.get(self.index_of(slot)?)
    }

    /// Who serves this account.
    pub(super) fn node_of_account(&self, account: &str) -> Option<&Arc<Node>> {
        match &self.slots {
            None => self.nodes.first(),
            Some(_) => self.node_of(slots::of_tag(keys::tag(account).as_bytes())),
        }
    }

    /// The number of the node that serves this slot.
    pub(super) fn index_of(&self, slot: u16) -> Option<usize> {
        match &self.slots {
            None => (!self.nodes.is_empty()).then_some(0),
            Some(slots) => {
                slots.get(usize::from(slot)).map(|node| usize::from(*node)).filter(|node| *node < self.nodes.len())
            }
        }
    }

    /// For each node of a cluster, the key that says that it has not lost its data.
    pub(super) fn witnesses(&self, keys: &Keys, instance: InstanceId) -> impl Iterator<Item = (&Arc<Node>, String)> {
        let tags = self.nodes.iter().zip(&self.tags).filter(|_| self.is_cluster());
        let keys = keys.clone();
        tags.filter_map(move |(node, tag)| Some((node, keys.here(instance, tag.as_deref()?))))
    }

    /// Whether everything can be asked and changed.
    pub(super) fn is_live(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.iter().all(|node| node.link.is_live())
    }

    fn tag_of(&self, node: usize) -> Option<String> {
        // A node that serves one slot alone is met once in 16,384 tries.
        let tries = 10 * u32::from(slots::COUNT);
        (0..tries)
            .map(|number| number.to_string())
            .find(|tag| self.index_of(slots::of_tag(tag.as_bytes())) == Some(node))
    }
}
