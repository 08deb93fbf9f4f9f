//! A run: a plan of what is said and what goes wrong, and what must hold in the end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use starling_registry::InstanceId;

use super::{
    instance::{Fate, Instance},
    network::{Down, Network},
};
use crate::{Settled, paths::Path};

/// What may go wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) batches: bool,
    pub(super) routers: bool,
    pub(super) instances: bool,
}

impl Faults {
    pub(super) const NONE: Self = Self { batches: false, routers: false, instances: false };
}

/// A generator of Steele's and others' (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }

    pub(super) const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Of something that travels: mostly short.
    pub(super) const fn delay(&mut self) -> Duration {
        let most = if self.chance(10) { 400_000 } else { 2_000 };
        Duration::from_micros(self.below(most))
    }
}

/// For as long as something may go wrong, and then until all is settled.
const TROUBLE: Duration = Duration::from_secs(6);
const AFTER: Duration = Duration::from_secs(60);
/// From a death to when it is known.
const DECLARED: Duration = Duration::from_secs(4);

pub(super) struct World {
    seed: u64,
    faults: Faults,
    random: Random,
    began: Instant,
    now: Instant,
    network: Network,
    living: BTreeMap<InstanceId, Instance>,
    /// Those that died, when it becomes known, and what they knew.
    dead: Vec<(Instant, bool, Instance)>,
    /// Those that said goodbye.
    left: Vec<Instance>,
    next: u64,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let (mut random, now) = (Random::new(seed), Instant::now());
        let mut network = Network::new(1 + random.below(3) as usize);
        network.harsh = faults.batches;
        let living = (1..=2 + random.below(3)).map(|n| (InstanceId(n), Instance::new(InstanceId(n), seed, now)));
        let living = living.collect();
        Self { seed, faults, random, began: now, now, network, living, dead: Vec::new(), left: Vec::new(), next: 0 }
    }

    pub(super) fn run(mut self) {
        self.connect_all();
        let mut next = self.now;
        while self.now < self.began + TROUBLE {
            if self.now >= next {
                self.something_happens();
                next = self.now + Duration::from_micros(self.random.below(20_000));
            }
            self.step();
        }
        self.make_good();
        let mut quiet = 0;
        while quiet < 3 {
            assert!(self.now < self.began + TROUBLE + AFTER, "seed {}: not settled: {}", self.seed, self.unsettled());
            self.living.values_mut().for_each(|instance| instance.at(self.now).work(true));
            self.connect_all();
            self.step();
            quiet = if self.is_settled() { quiet + 1 } else { 0 };
        }
        self.check();
    }

    fn connect_all(&mut self) {
        for id in self.living.keys() {
            for router in 0..self.network.routers() {
                let connected = self.network.pipes.values().any(|p| p.instance == *id && p.router == router);
                if !connected && self.random.chance(50) {
                    self.network.connect(*id, router, self.now, &mut self.random);
                }
            }
        }
    }

    fn something_happens(&mut self) {
        for _ in 0..self.random.below(4) {
            self.somebody_says_something();
        }
        if self.faults.routers && self.random.chance(2) {
            match self.random.below(3) {
                0 => self.a_connection_is_cut(),
                1 => self.a_router_dies(),
                _ => self.a_router_starts(),
            }
        }
        if self.faults.instances && self.random.below(200) == 0 {
            if self.random.chance(70) { self.an_instance_dies() } else { self.an_instance_leaves() }
        }
        if self.random.chance(20) {
            self.connect_all();
        }
    }

    fn anybody(&mut self) -> Option<InstanceId> {
        let count = self.living.len() as u64;
        (count > 0).then(|| self.living.keys().nth(self.random.below(count) as usize).copied()).flatten()
    }

    fn somebody_says_something(&mut self) {
        let Some(from) = self.anybody() else { return };
        // Also to those who are dead and not known to be.
        let dead = self.dead.iter().map(|(.., instance)| instance.id).chain(self.left.iter().map(|left| left.id));
        let others: Vec<_> = self.living.keys().copied().chain(dead).filter(|id| *id != from).collect();
        let Some(to) = others.get(self.random.below(others.len().max(1) as u64) as usize).copied() else { return };
        self.next += 1;
        let (number, kind) = (self.next, self.random.below(10));
        let now = self.now;
        let Some(instance) = self.living.get_mut(&from) else { return };
        match kind {
            0 => instance.at(now).ask(to, number),
            1..=4 => instance.at(now).say(to, number, false),
            _ => instance.at(now).say(to, number, true),
        }
    }

    fn a_connection_is_cut(&mut self) {
        let paths: Vec<Path> = self.network.pipes.keys().copied().collect();
        if let Some(path) = paths.get(self.random.below(paths.len().max(1) as u64) as usize)
            && let Some(instance) = self.network.cut(*path, self.now, &mut self.random)
        {
            self.closed(instance, *path);
        }
    }

    fn closed(&mut self, instance: InstanceId, path: Path) {
        let now = self.now;
        if let Some(instance) = self.living.get_mut(&instance) {
            instance.at(now).mesh.router_closed(path, now);
        }
    }

    fn a_router_dies(&mut self) {
        let router = self.random.below(self.network.routers() as u64) as usize;
        for (instance, path) in self.network.kill(router) {
            self.closed(instance, path);
        }
    }

    fn a_router_starts(&mut self) {
        let router = self.random.below(self.network.routers() as u64) as usize;
        if !self.network.is_up(router) {
            self.network.start(router);
        }
    }

    fn an_instance_dies(&mut self) {
        let Some(id) = self.anybody() else { return };
        let Some(instance) = self.living.remove(&id) else { return };
        self.disconnect(id);
        self.dead.push((self.now + DECLARED, false, instance));
        self.replace();
    }

    /// In order: it has told everybody what became of what it had.
    fn an_instance_leaves(&mut self) {
        let Some(id) = self.anybody() else { return };
        let now = self.now;
        if let Some(instance) = self.living.get_mut(&id) {
            instance.at(now).work(true);
        }
        // What it sent, and what is on its way to it, is lost with it: an orderly end waits for `is_settled`.
        if !self.living.get(&id).is_some_and(|instance| instance.mesh.is_settled()) {
            return;
        }
        self.network.say_bye(id, now);
        self.step();
        if let Some(instance) = self.living.remove(&id) {
            self.disconnect(id);
            self.dead.push((self.now + DECLARED, true, instance));
            self.replace();
        }
    }

    fn disconnect(&mut self, id: InstanceId) {
        let paths: Vec<_> = self.network.pipes.values().filter(|p| p.instance == id).map(|p| p.path).collect();
        for path in paths {
            self.network.cut(path, self.now, &mut self.random);
        }
    }

    fn replace(&mut self) {
        let id = InstanceId(100 + self.next);
        self.next += 1;
        self.living.insert(id, Instance::new(id, self.seed, self.now));
    }

    /// From now on nothing goes wrong any more.
    fn make_good(&mut self) {
        self.network.harsh = false;
        for router in 0..self.network.routers() {
            if !self.network.is_up(router) {
                self.network.start(router);
            }
        }
    }

    /// Until something comes, or somebody has something to do.
    fn step(&mut self) {
        self.transmit();
        let due = self.living.values().filter_map(|instance| instance.mesh.due());
        let next = due.chain(self.network.due()).min().unwrap_or(self.now);
        self.now = next.clamp(self.now + Duration::from_millis(1), self.now + Duration::from_millis(50));
        let now = self.now;
        for (id, path, down) in self.network.step(now, &mut self.random) {
            let Some(instance) = self.living.get_mut(&id) else { continue };
            let Instance { mesh, log, .. } = instance.at(now);
            match down {
                Down::Welcome(router) => mesh.router_opened(path, router),
                Down::Members(members) => mesh.members(path, members, now, log),
                Down::Batch(batch) => mesh.receive(InstanceId(batch.origin), &batch.body, now, log).unwrap(),
            }
        }
        for (at, known, dead) in &mut self.dead {
            if *at <= now && !*known {
                *known = true;
                self.network.revoke(dead.id, now, &mut self.random);
                for instance in self.living.values_mut() {
                    let Instance { mesh, log, .. } = instance.at(now);
                    mesh.end(dead.id, log);
                }
            }
        }
        for instance in self.living.values_mut() {
            let Instance { mesh, log, .. } = instance.at(now);
            // Whoever came later finds out as well.
            let is_dead = |id: &InstanceId| self.dead.iter().any(|(_, known, dead)| *known && dead.id == *id);
            for (absent, _) in mesh.absent().into_iter().filter(|(id, _)| is_dead(id)) {
                mesh.end(absent, log);
            }
            instance.work(false);
        }
        self.transmit();
        self.a_zombie_speaks();
    }

    fn transmit(&mut self) {
        let now = self.now;
        for instance in self.living.values_mut() {
            // A path that does not take anything for now must not hold up others.
            let stuck = self.random.chance(10).then(|| self.random.below(self.network.routers() as u64) as usize);
            let takes = |path| {
                let router = self.network.pipes.get(&path).map(|pipe| pipe.router);
                router.is_some() && router != stuck
            };
            let mut bodies = Vec::new();
            while let Some(body) = instance.mesh.transmit(now, takes) {
                bodies.push(body);
            }
            for (path, to, body) in bodies {
                self.network.send(path, to, body, now, &mut self.random);
            }
        }
    }

    /// One that was taken for dead, and was only paused: what it still says, by whatever way, must not be heard.
    fn a_zombie_speaks(&mut self) {
        let now = self.now;
        for (_, known, dead) in &mut self.dead {
            if !*known || !self.random.chance(1) {
                continue;
            }
            // Who came later has never heard of it; the routers keep the two apart.
            let Some(living) = self.living.values_mut().find(|one| one.mesh.is_gone(dead.id)) else { continue };
            let mut body = Vec::new();
            crate::wire::Head { first: 1, ..Default::default() }.write(&mut body);
            crate::wire::write_item(&crate::item::Item::Notice(b"boo".as_slice().into()), false, &mut body);
            let Instance { mesh, log, .. } = living.at(now);
            mesh.receive(dead.id, &body, now, log).unwrap();
            assert_eq!(log.notices, 0, "seed {}: a zombie was heard", self.seed);
        }
    }

    fn is_settled(&self) -> bool {
        let all_known = self.dead.iter().all(|(_, known, _)| *known);
        all_known
            && self.living.values().all(|instance| {
                instance.mesh.is_settled()
                    && instance.log.holding.is_empty()
                    && instance.log.waiting.values().all(|waiting| *waiting == (0, 0))
                    && instance.log.asked.keys().all(|number| instance.log.responses.contains_key(number))
            })
    }

    fn unsettled(&self) -> String {
        let of = |instance: &Instance| {
            let Instance { id, mesh, log } = instance;
            format!("{id}: settled {}, waiting {:?}, mesh {mesh:?}\n", mesh.is_settled(), log.waiting)
        };
        self.living.values().map(of).collect()
    }

    fn check(&self) {
        let seed = self.seed;
        for (id, from) in &self.living {
            for (to, sent) in &from.log.sent {
                let Some(recipient) = self.living.get(to) else {
                    self.check_definite(from, sent);
                    continue;
                };
                let came = recipient.log.came.get(id).cloned().unwrap_or_default();
                let expected: Vec<_> =
                    sent.iter().copied().filter(|n| !from.log.failed.contains(n) || came.contains(n)).collect();
                assert_eq!(came, expected, "seed {seed}: from {id} to {to}");
                for number in sent.iter().filter(|number| from.log.kept.contains_key(number)) {
                    assert_eq!(from.log.answered.get(number), Some(&1), "seed {seed}: {number} of {id} to {to}");
                    let fate = match from.log.kept[number].tracking.as_ref().map(|t| (t.is_returned(), t.is_safe())) {
                        Some((true, false)) => Fate::Returned,
                        Some((false, true)) => Fate::Acknowledged,
                        other => panic!("seed {seed}: {number} is {other:?}"),
                    };
                    assert_eq!(recipient.log.fates.get(number), Some(&fate), "seed {seed}: {number} of {id} to {to}");
                    let settled = from.log.settled.get(number).copied();
                    // No row was written: only what comes back has anything to be done.
                    let expected = (fate == Fate::Returned).then_some(Settled::Returned);
                    assert_eq!(settled, expected, "seed {seed}: {number} of {id} to {to}");
                }
            }
            for (number, to) in &from.log.asked {
                let answer = from.log.responses.get(number);
                assert!(answer.is_some(), "seed {seed}: nobody answers {number} of {id} to {to}");
                if let Some(Some(content)) = answer {
                    assert_eq!(content[..], number.to_be_bytes(), "seed {seed}");
                }
                if !self.faults.routers && !self.faults.instances && !self.faults.batches {
                    assert!(answer.is_some_and(Option::is_some), "seed {seed}: {number} of {id} to {to} failed");
                }
            }
            if !self.faults.routers && !self.faults.instances && !self.faults.batches {
                assert!(from.log.failed.is_empty(), "seed {seed}: {:?} failed", from.log.failed);
            }
        }
    }

    /// Its recipient is no more: all that was kept has come back, or was acknowledged before; all else has failed or arrived.
    fn check_definite(&self, from: &Instance, sent: &[u64]) {
        for number in sent {
            let Some(envelope) = from.log.kept.get(number) else { continue };
            let tracking = envelope.tracking.as_ref().unwrap();
            assert!(tracking.is_answered(), "seed {}: {number} is not answered", self.seed);
            assert!(tracking.is_returned() || tracking.is_safe(), "seed {}: {number} is still held", self.seed);
            assert_eq!(from.log.answered.get(number), Some(&1), "seed {}: {number}", self.seed);
        }
    }
}
