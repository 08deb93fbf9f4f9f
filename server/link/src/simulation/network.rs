//! Routers, and the pipes to them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use starling_proto::link::{Batch, Hello, Members, VERSION};
use starling_registry::InstanceId;
use starling_router::{Attached, Table};

use super::world::Random;
use crate::paths::Path;

/// What comes out of a pipe at an instance.
pub(super) enum Down {
    Welcome(u64),
    Members(Members),
    Batch(Batch),
}

enum Up {
    Batch(Batch),
    Bye,
}

/// A connection between an instance and a router. What is in it when it is cut is lost.
pub(super) struct Pipe {
    pub(super) instance: InstanceId,
    pub(super) router: usize,
    pub(super) path: Path,
    attached: Option<Attached>,
    up: VecDeque<(Instant, Up)>,
    down: VecDeque<(Instant, Down)>,
}

/// A router, of which only the table lasts, and not even that.
struct Router {
    /// `None`: it is down.
    table: Option<Table>,
    id: u64,
}

pub(super) struct Network {
    routers: Vec<Router>,
    pub(super) pipes: BTreeMap<Path, Pipe>,
    next: u64,
    /// Batches are lost, doubled, and overtake each other.
    pub(super) harsh: bool,
}

impl Network {
    pub(super) fn new(routers: usize) -> Self {
        let routers = (0..routers).map(|n| Router { table: Some(Table::default()), id: 1000 + n as u64 }).collect();
        Self { routers, pipes: BTreeMap::new(), next: 0, harsh: false }
    }

    pub(super) fn routers(&self) -> usize {
        self.routers.len()
    }

    /// Connects an instance to a router, if it can be.
    pub(super) fn connect(&mut self, instance: InstanceId, router: usize, now: Instant, random: &mut Random) {
        let Some(table) = &mut self.routers[router].table else { return };
        let hello = Hello { instance: instance.0, version: VERSION, ..Hello::default() };
        let Ok(attached) = table.attach(hello) else { return };
        // An earlier connection, which the router has not found dead yet, is ended by it.
        let earlier: Vec<_> =
            self.pipes.values().filter(|p| p.instance == instance && p.router == router).map(|p| p.path).collect();
        self.next += 1;
        let path = Path(self.next);
        let down = [(now + random.delay(), Down::Welcome(self.routers[router].id))].into();
        let pipe = Pipe { instance, router, path, attached: Some(attached), up: VecDeque::new(), down };
        self.pipes.insert(path, pipe);
        for path in earlier {
            self.cut(path, now, random);
        }
        self.tell(router, now, random);
    }

    /// A connection is cut; both ends learn of it.
    pub(super) fn cut(&mut self, path: Path, now: Instant, random: &mut Random) -> Option<InstanceId> {
        let pipe = self.pipes.remove(&path)?;
        if let (Some(table), Some(attached)) = (&mut self.routers[pipe.router].table, pipe.attached)
            && table.detach(attached)
        {
            self.tell(pipe.router, now, random);
        }
        Some(pipe.instance)
    }

    pub(super) fn is_up(&self, router: usize) -> bool {
        self.routers[router].table.is_some()
    }

    /// A router dies. Whose connections were to it.
    pub(super) fn kill(&mut self, router: usize) -> Vec<(InstanceId, Path)> {
        self.routers[router].table = None;
        let lost: Vec<_> =
            self.pipes.values().filter(|pipe| pipe.router == router).map(|pipe| (pipe.instance, pipe.path)).collect();
        self.pipes.retain(|_, pipe| pipe.router != router);
        lost
    }

    pub(super) fn start(&mut self, router: usize) {
        self.routers[router].table = Some(Table::default());
        self.routers[router].id += 100;
    }

    pub(super) fn revoke(&mut self, instance: InstanceId, now: Instant, random: &mut Random) {
        for router in 0..self.routers.len() {
            if let Some(table) = &mut self.routers[router].table
                && table.revoke(instance.0)
            {
                self.tell(router, now, random);
            }
        }
    }

    fn tell(&mut self, router: usize, now: Instant, random: &mut Random) {
        let Some(table) = &self.routers[router].table else { return };
        let members = table.members();
        for pipe in self.pipes.values_mut().filter(|pipe| pipe.router == router) {
            let before = pipe.down.back().map_or(now, |(at, _)| *at);
            pipe.down.push_back((before.max(now + random.delay()), Down::Members(members.clone())));
        }
    }

    pub(super) fn send(&mut self, path: Path, to: InstanceId, body: Vec<u8>, now: Instant, random: &mut Random) {
        let Some(pipe) = self.pipes.get_mut(&path) else { return };
        let batch = Batch { origin: pipe.instance.0, destination: to.0, body: body.into() };
        if self.harsh && random.chance(5) {
            return;
        }
        let copies = if self.harsh && random.chance(5) { 2 } else { 1 };
        for _ in 0..copies {
            let before = pipe.up.back().filter(|_| !self.harsh).map_or(now, |(at, _)| *at);
            pipe.up.push_back((before.max(now + random.delay()), Up::Batch(batch.clone())));
        }
        if self.harsh {
            pipe.up.make_contiguous().sort_by_key(|(at, _)| *at);
        }
    }

    pub(super) fn say_bye(&mut self, instance: InstanceId, now: Instant) {
        for pipe in self.pipes.values_mut().filter(|pipe| pipe.instance == instance) {
            let at = pipe.up.back().map_or(now, |(at, _)| *at).max(now);
            pipe.up.push_back((at, Up::Bye));
        }
    }

    /// When something comes out of a pipe.
    pub(super) fn due(&self) -> Option<Instant> {
        let of = |pipe: &Pipe| {
            [pipe.up.front().map(|(at, _)| *at), pipe.down.front().map(|(at, _)| *at)].into_iter().flatten().min()
        };
        self.pipes.values().filter_map(of).min()
    }

    /// Takes on what came to routers, and gives out what came to instances.
    pub(super) fn step(&mut self, now: Instant, random: &mut Random) -> Vec<(InstanceId, Path, Down)> {
        let mut arrived = Vec::new();
        let mut out = Vec::new();
        for pipe in self.pipes.values_mut() {
            while pipe.up.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, up)) = pipe.up.pop_front() else { break };
                arrived.push((pipe.router, pipe.path, up));
            }
            while pipe.down.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, down)) = pipe.down.pop_front() else { break };
                out.push((pipe.instance, pipe.path, down));
            }
        }
        for (router, path, up) in arrived {
            let attached = self.pipes.get(&path).and_then(|pipe| pipe.attached);
            let (Some(table), Some(attached)) = (&mut self.routers[router].table, attached) else { continue };
            if !table.is_current(attached) {
                continue;
            }
            match up {
                Up::Bye => {
                    table.leave(attached);
                    self.tell(router, now, random);
                }
                Up::Batch(batch) => {
                    let destination = |pipe: &&mut Pipe| {
                        pipe.router == router && pipe.instance.0 == batch.destination && pipe.attached.is_some()
                    };
                    if let Some(pipe) = self.pipes.values_mut().filter(destination).last() {
                        let before = pipe.down.back().map_or(now, |(at, _)| *at);
                        pipe.down.push_back((before.max(now + random.delay()), Down::Batch(batch)));
                    }
                }
            }
        }
        out
    }
}
