//! All other instances, and the routers between: a state machine without sockets and clock. It is told what came and what
//! time it is, and says what is to be sent by which router.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use starling_proto::link as proto;
use starling_registry::InstanceId;

use crate::{
    item::{Item, Report},
    paths::{Path, Paths},
    peer::{Peer, Sink},
    wire::Malformed,
};

/// Instances that are no more and are remembered: what they said before may still be on its way.
const GONE: usize = 4096;

/// Another instance, as the routers describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What it understands beyond the version.
    pub features: Vec<String>,
    /// What it does.
    pub roles: Vec<String>,
    /// Domains that it takes stanzas for, besides those of its sessions.
    pub domains: Vec<String>,
    /// For people.
    pub name: String,
    /// It is about to end.
    pub draining: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mesh {
    own: InstanceId,
    paths: Paths,
    peers: HashMap<InstanceId, Peer>,
    /// Those that may have something to say.
    ready: BTreeSet<InstanceId>,
    /// When which of them has something to do. It may have been done already.
    timers: BTreeSet<(Instant, InstanceId)>,
    /// Of each router, whom it describes how.
    described: BTreeMap<Path, Arc<BTreeMap<InstanceId, Member>>>,
    /// Instances that were attached, or were sent something, and are not attached anywhere now; since when.
    absent: BTreeMap<InstanceId, Instant>,
    /// Others have come to be absent, or are not any more, since this was asked.
    absent_changed: bool,
    gone: BTreeSet<InstanceId>,
    gone_order: VecDeque<InstanceId>,
}

impl Mesh {
    pub(crate) fn new(own: InstanceId) -> Self {
        Self {
            own,
            paths: Paths::default(),
            peers: HashMap::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            described: BTreeMap::new(),
            absent: BTreeMap::new(),
            absent_changed: false,
            gone: BTreeSet::new(),
            gone_order: VecDeque::new(),
        }
    }

    /// A router has let this instance in.
    pub(crate) fn router_opened(&mut self, path: Path, id: u64) {
        self.paths.open(path, id);
    }

    /// A router is gone: what went by it takes other paths.
    pub(crate) fn router_closed(&mut self, path: Path, now: Instant) {
        if self.paths.close(path) {
            self.described.remove(&path);
            self.reroute(now);
        }
    }

    /// A router says who is attached to it, and who has ended in order.
    pub(crate) fn members(&mut self, path: Path, members: proto::Members, now: Instant, sink: &mut dyn Sink) {
        let describe = |member: proto::Member| {
            let proto::Member { instance, features, roles, domains, name, draining, .. } = member;
            (InstanceId(instance), Member { features, roles, domains, name, draining })
        };
        let described: BTreeMap<_, _> = members.members.into_iter().map(describe).collect();
        self.paths.set_members(path, described.keys().copied().collect());
        self.described.insert(path, Arc::new(described));
        for left in members.left {
            self.end(InstanceId(left), sink);
        }
        self.reroute(now);
    }

    /// Every instance that is attached to a router of ours, this one among them.
    pub(crate) fn described(&self) -> BTreeMap<InstanceId, Member> {
        let all = self.described.values().flat_map(|of| of.iter()).filter(|(id, _)| !self.gone.contains(id));
        all.map(|(instance, member)| (*instance, member.clone())).collect()
    }

    /// Instances that are not attached to any router of ours, and since when; nothing while we have no router.
    pub(crate) fn absent(&self) -> Vec<(InstanceId, Instant)> {
        if self.paths.is_open() { self.absent.iter().map(|(id, since)| (*id, *since)).collect() } else { Vec::new() }
    }

    /// Whether [`Mesh::absent`] says something else than when this was asked last.
    pub(crate) const fn has_new_absent(&mut self) -> bool {
        std::mem::replace(&mut self.absent_changed, false)
    }

    /// Looks for a path to everybody, and who is absent.
    fn reroute(&mut self, now: Instant) {
        let members = self.paths.members();
        self.absent_changed = true;
        for member in &members {
            self.absent.remove(member);
        }
        for peer in self.peers.keys().filter(|peer| !members.contains(peer)) {
            self.absent.entry(*peer).or_insert(now);
        }
        // So that whoever is attached now, and is not any more later, is known to be absent, also without a word between us.
        for member in members {
            if member != self.own && !self.gone.contains(&member) {
                self.peer(member, now);
            }
        }
        let Self { own, paths, peers, ready, timers, .. } = self;
        for (id, peer) in peers {
            let best = paths.choose(*own, *id);
            let holds = peer.path().is_some_and(|path| paths.leads_to(path, *id));
            // A path that holds is left only when nothing is on it.
            if best != peer.path() && (!holds || peer.is_idle()) {
                peer.set_path(best, now);
            }
            ready.insert(*id);
            schedule(timers, *id, peer);
        }
    }

    fn peer(&mut self, id: InstanceId, now: Instant) -> &mut Peer {
        let (paths, own, absent, changed) = (&self.paths, self.own, &mut self.absent, &mut self.absent_changed);
        self.peers.entry(id).or_insert_with(|| {
            let path = paths.choose(own, id);
            if path.is_none() && !paths.lead_to(id) {
                absent.entry(id).or_insert(now);
                *changed = true;
            }
            Peer::new(id, path)
        })
    }

    /// Something for another instance.
    pub(crate) fn send(&mut self, to: InstanceId, item: Item, now: Instant, sink: &mut dyn Sink) {
        if self.gone.contains(&to) {
            let mut peer = Peer::new(to, None);
            peer.send(item, now);
            peer.end(sink);
            return;
        }
        let peer = self.peer(to, now);
        peer.send(item, now);
        self.touch(to);
    }

    /// What became of a kept message that came from another instance.
    pub(crate) fn report(&mut self, to: InstanceId, report: Report, now: Instant, sink: &mut dyn Sink) {
        if self.gone.contains(&to) {
            return sink.orphaned(report);
        }
        self.peer(to, now).report(report, now);
        self.touch(to);
    }

    /// A batch came.
    pub(crate) fn receive(
        &mut self,
        from: InstanceId,
        body: &[u8],
        now: Instant,
        sink: &mut dyn Sink,
    ) -> Result<(), Malformed> {
        if self.gone.contains(&from) || from == self.own {
            return Ok(());
        }
        let taken = self.peer(from, now).receive(body, now, sink);
        self.touch(from);
        taken
    }

    /// An instance is no more, for good: it was revoked, or said that it has ended.
    pub(crate) fn end(&mut self, instance: InstanceId, sink: &mut dyn Sink) {
        if instance == self.own || !self.gone.insert(instance) {
            return;
        }
        sink.ended(instance);
        self.gone_order.push_back(instance);
        if self.gone_order.len() > GONE
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
            sink.forgotten(oldest);
        }
        self.absent_changed |= self.absent.remove(&instance).is_some();
        self.ready.remove(&instance);
        if let Some(peer) = self.peers.remove(&instance) {
            peer.end(sink);
        }
    }

    /// Whether the instance is known to be no more.
    pub(crate) fn is_gone(&self, instance: InstanceId) -> bool {
        self.gone.contains(&instance)
    }

    /// Does what is due by now.
    pub(crate) fn tick(&mut self, now: Instant, sink: &mut dyn Sink) {
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, id));
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.timer = None;
                peer.tick(now, sink);
                self.ready.insert(id);
                // What is due by now is said by the next transmission, which schedules the rest.
                if peer.due().is_some_and(|due| due > now) {
                    schedule(&mut self.timers, id, peer);
                }
            }
        }
    }

    /// When [`Mesh::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next body that is to be sent, by a path that `takes` says is open. `None`: there is none for now.
    pub(crate) fn transmit(
        &mut self,
        now: Instant,
        takes: impl Fn(Path) -> bool,
    ) -> Option<(Path, InstanceId, Vec<u8>)> {
        let mut next = self.ready.first().copied();
        while let Some(id) = next {
            let behind = (std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded);
            let Some(peer) = self.peers.get_mut(&id) else {
                self.ready.remove(&id);
                next = self.ready.range(behind).next().copied();
                continue;
            };
            // A better path is taken as soon as nothing is on the old one.
            if peer.is_idle()
                && let Some(best) = self.paths.choose(self.own, id)
                && peer.path() != Some(best)
            {
                peer.set_path(Some(best), now);
            }
            let Some(path) = peer.path().filter(|_| peer.is_ready(now)) else {
                self.ready.remove(&id);
                next = self.ready.range(behind).next().copied();
                continue;
            };
            if takes(path) {
                let body = peer.transmit(now);
                schedule(&mut self.timers, id, peer);
                return body.map(|body| (path, id, body));
            }
            next = self.ready.range(behind).next().copied();
        }
        None
    }

    /// Whether nothing is left between this instance and any other that is attached.
    pub(crate) fn is_settled(&self) -> bool {
        self.peers.values().all(|peer| peer.path().is_none() || peer.is_settled())
    }

    fn touch(&mut self, id: InstanceId) {
        self.ready.insert(id);
        if let Some(peer) = self.peers.get_mut(&id) {
            schedule(&mut self.timers, id, peer);
        }
    }
}

/// One timer for each at most. One that fires too early does no harm.
fn schedule(timers: &mut BTreeSet<(Instant, InstanceId)>, id: InstanceId, peer: &mut Peer) {
    let Some(due) = peer.due() else { return };
    if peer.timer.is_none_or(|at| due < at) {
        if let Some(at) = peer.timer {
            timers.remove(&(at, id));
        }
        timers.insert((due, id));
        peer.timer = Some(due);
    }
}
