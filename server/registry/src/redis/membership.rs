//! Our own lease, and that of the others.
//!
//! ```text
//!   each second, and at once when a connection came or went:
//!     did we run all the time? ── no ──► may we go on? (the guard)
//!     renew ── it was there ──► good
//!          └── it is gone: Redis was emptied, or we were away ──► the guard ──► anew, and everything is announced again
//! ```
//!
//! Nobody is declared dead by whoever cannot know. A lease is gone when its instance is, but also when Redis has lost it, or
//! was away so long that nobody could renew. So every renewal leaves its time, and notes when renewals began to come without a
//! gap (`calm`): a Redis that was emptied, stopped, or replaced by an older copy shows a gap. For a lease and the time to
//! connect after it, nothing is said of anybody.

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Value, cmd};
use starling_xmpp::jid::{BareJid, parse_bare};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    RedisRegistry,
    config::millis,
    core::Core,
    scripts,
    values::{int, ints, texts},
    wire::{Arguments, Failure, Request},
};
use crate::{Error, InstanceId, Members, Registry as _, SessionRecord};

/// Says whether this instance may go on after it was paused, or has lost its lease: others may have taken it for dead, and its
/// sessions. Until the answer, nothing is written, and nothing can be bound; after a `false`, never again.
#[async_trait]
pub trait Guard: Send + Sync + 'static {
    /// Asked before anything else is written. Dropped when the registry is stopped.
    async fn may_go_on(&self) -> bool;
}

/// Nobody else has a say.
#[async_trait]
impl Guard for () {
    async fn may_go_on(&self) -> bool {
        true
    }
}

/// When to leave, and that it was left.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) leave: CancellationToken,
    pub(super) left: watch::Sender<bool>,
}

/// Keeps the lease until it is to be given up, or `stop`: then it runs out by itself.
pub(super) async fn keep_lease(core: Arc<Core>, guard: Arc<dyn Guard>, leaving: Arc<Leaving>, stop: CancellationToken) {
    let keep = async {
        tokio::select! {
            biased;
            () = leaving.leave.cancelled() => core.leave().await,
            () = keep_always(&core, &*guard) => leaving.leave.cancelled().await,
        }
    };
    stop.run_until_cancelled(keep).await;
    // Nothing more is written, whoever still asks.
    core.lease.bar(true);
    core.ground.metrics.available.set(0);
    leaving.left.send_replace(true);
}

/// Returns when it may not go on.
async fn keep_always(core: &Core, guard: &dyn Guard) {
    let mut tick = interval(core.ground.times.renew);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut joined = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = core.ground.signals.links.notified() => {}
        }
        let mut asked = false;
        if core.lease.beat() {
            asked = true;
            if !core.may_go_on(guard, "this process has not run for too long").await {
                return;
            }
        }
        match core.renew(!joined).await {
            Ok(true) => joined = true,
            Ok(false) if !joined => joined = true,
            Ok(false) => {
                if !asked && !core.may_go_on(guard, "the lease is gone").await {
                    return;
                }
                core.ground.signals.announce_all();
                if core.renew(true).await.is_err() {
                    core.lease.fails();
                }
            }
            Err(error) => {
                // At first it is only not connected yet.
                if core.lease.fails() && joined {
                    tracing::warn!(%error, "Redis is away");
                }
            }
        }
        if core.lease.holds() && core.ground.signals.has_scope() {
            core.ground.signals.announce.notify_one();
        }
        core.tell_availability();
    }
}

impl Core {
    async fn may_go_on(&self, guard: &dyn Guard, why: &str) -> bool {
        self.lease.bar(true);
        self.ground.metrics.available.set(0);
        self.ground.metrics.pauses.inc();
        tracing::warn!(why, "Others may have taken this instance for dead");
        let may = guard.may_go_on().await;
        if may {
            // However long the answer took.
            self.lease.beat();
            self.lease.bar(false);
        } else {
            tracing::error!("This instance may not go on");
        }
        may
    }

    /// Renews the lease, and says whether it was there. If not, it is made anew only if that is asked for.
    async fn renew(&self, anew: bool) -> Result<bool, Failure> {
        let (keys, times, instance) = (&self.ground.keys, &self.ground.times, self.local.instance);
        let arguments = Arguments::new()
            .text(instance)
            .text(millis(times.lease))
            .text(millis(times.silence()))
            .text(millis(times.expiry))
            .flag(anew);
        let lease = keys.lease(instance);
        let mut requests =
            vec![Request::script(&scripts::RENEW, &[&keys.calm(), &keys.instances(), &lease], arguments)];
        let index = keys.index(instance);
        let mut keep = cmd("PEXPIRE");
        keep.arg(&index).arg(millis(times.expiry));
        requests.push(Request::plain(&index, keep));
        let topology = self.discovery.topology();
        let witnesses: Vec<_> = topology.witnesses(keys, instance).collect();
        for (_, key) in &witnesses {
            let mut here = cmd("SET");
            here.arg(key).arg(1).arg("PX").arg(millis(times.expiry)).arg("GET");
            requests.push(Request::plain(key, here));
        }
        let sent = Instant::now();
        let mut replies = self.wire.run(requests).await.into_iter();
        let there = match replies.next().map(|reply| reply.result) {
            Some(Ok(there)) => int(&there) == Some(1),
            Some(Err(failure)) => return Err(failure),
            None => return Err(Failure::Away("nothing was asked".to_owned())),
        };
        for ((node, key), reply) in witnesses.into_iter().zip(replies.skip(1)) {
            let Ok(before) = reply.result else { continue };
            if node.witness(&key) && before == Value::Nil {
                tracing::warn!(server = %node.address, "Redis has lost what it held");
                self.ground.signals.announce_node(&node.address);
            }
        }
        if there || anew {
            self.lease.renewed(sent, times.lease);
        }
        Ok(there)
    }

    /// Gives the lease up, and what was left nothing in.
    async fn leave(&self) {
        let (keys, instance) = (&self.ground.keys, self.local.instance);
        while self.tidy_index().await {}
        let index = keys.index(instance);
        let mut count = cmd("ZCARD");
        count.arg(&index);
        let left = self.wire.one(Request::plain(&index, count)).await;
        let nothing = matches!(left, Ok(left) if int(&left) == Some(0));
        let arguments = Arguments::new().text(instance).flag(nothing);
        let leave = Request::script(&scripts::LEAVE, &[&keys.lease(instance), &keys.instances()], arguments);
        if let Err(error) = self.wire.one(leave).await {
            tracing::warn!(%error, "The lease was not given up: it runs out by itself");
        }
    }

    /// Whether each of these has its lease; or, where that cannot be told of one without, nothing.
    async fn alive(&self, instances: &[InstanceId]) -> Result<Vec<bool>, Error> {
        if !self.lease.holds() {
            return Err(Error::Away("who has no lease of its own says nothing of others".to_owned()));
        }
        if instances.is_empty() {
            return Ok(Vec::new());
        }
        let (keys, times) = (&self.ground.keys, &self.ground.times);
        let arguments = Arguments::new().text(millis(times.silence())).text(millis(times.grace()));
        let leases = instances.iter().map(|instance| keys.lease(*instance));
        let all: Vec<_> = [keys.calm()].into_iter().chain(leases).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let answer = ints(&self.one(Request::script(&scripts::ALIVE, &all, arguments)).await?);
        match &*answer {
            [calm, alive @ ..]
                if alive.len() == instances.len() && (*calm == 1 || alive.iter().all(|there| *there == 1)) =>
            {
                Ok(alive.iter().map(|there| *there == 1).collect())
            }
            _ => Err(Error::Away("it is not known yet who is alive".to_owned())),
        }
    }
}

#[async_trait]
impl Members for RedisRegistry {
    async fn is_alive(&self, instance: InstanceId) -> Result<bool, Error> {
        Ok(self.core.alive(&[instance]).await?.first().copied().unwrap_or_default())
    }

    async fn dead(&self) -> Result<Vec<InstanceId>, Error> {
        let key = self.core.ground.keys.instances();
        let mut members = cmd("SMEMBERS");
        members.arg(&key);
        let Some(known) = self.core.ours(self.core.one(Request::plain(&key, members)).await)? else {
            return Ok(Vec::new());
        };
        let known = texts(&known).into_iter().filter_map(|name| u64::from_str_radix(&name, 16).ok().map(InstanceId));
        let others: Vec<_> = known.filter(|instance| *instance != self.core.local.instance).collect();
        let alive = self.core.alive(&others).await?;
        Ok(others.into_iter().zip(alive).filter(|(_, alive)| !alive).map(|(instance, _)| instance).collect())
    }

    async fn claim_dead(&self, dead: InstanceId) -> Result<bool, Error> {
        if self.is_alive(dead).await? {
            return Ok(false);
        }
        let keys = &self.core.ground.keys;
        let arguments = Arguments::new().text(self.core.local.instance).text(millis(self.core.ground.times.duty));
        let claim = Request::script(&scripts::CLAIM, &[&keys.lease(dead), &keys.duty(dead)], arguments);
        Ok(int(&self.core.one(claim).await?) == Some(1))
    }

    async fn accounts_of(&self, dead: InstanceId, limit: usize) -> Result<Vec<BareJid>, Error> {
        let key = self.core.ground.keys.index(dead);
        loop {
            let mut range = cmd("ZRANGE");
            range.arg(&key).arg(0).arg(limit.saturating_sub(1));
            if limit == 0 {
                return Ok(Vec::new());
            }
            let Some(names) = self.core.ours(self.core.one(Request::plain(&key, range)).await)? else {
                return Ok(Vec::new());
            };
            let names = texts(&names);
            let mut accounts = Vec::with_capacity(names.len());
            let mut garbage = cmd("ZREM");
            garbage.arg(&key);
            let mut found = false;
            for name in names {
                match parse_bare(&name) {
                    Ok(account) if account.as_str() == name => accounts.push(account),
                    _ => {
                        garbage.arg(name);
                        found = true;
                    }
                }
            }
            if !found {
                return Ok(accounts);
            }
            // What is no account would be read for ever.
            self.core.found_garbage(&key);
            self.core.one(Request::plain(&key, garbage)).await?;
            if !accounts.is_empty() {
                return Ok(accounts);
            }
        }
    }

    async fn forget_account(&self, dead: InstanceId, account: &BareJid) -> Result<(), Error> {
        let key = self.core.ground.keys.index(dead);
        let mut remove = cmd("ZREM");
        remove.arg(&key).arg(account.as_str());
        self.core.one(Request::plain(&key, remove)).await?;
        Ok(())
    }

    async fn forget_instance(&self, dead: InstanceId) -> Result<(), Error> {
        let keys = &self.core.ground.keys;
        // Whoever asks has found it dead; if it has come back, it writes its index again.
        let index = keys.index(dead);
        let mut remove = cmd("DEL");
        remove.arg(&index);
        let arguments = Arguments::new().text(dead);
        let (lease, duty, instances) = (keys.lease(dead), keys.duty(dead), keys.instances());
        self.core.one(Request::plain(&index, remove)).await?;
        self.core.one(Request::script(&scripts::FORGET, &[&lease, &duty, &instances], arguments)).await?;
        Ok(())
    }

    async fn evict(&self, record: &SessionRecord) -> Result<bool, Error> {
        if record.instance == self.core.local.instance && self.unbind(&record.full, record.id).await? {
            return Ok(true);
        }
        let evicted = int(&self.core.one(self.core.release(&record.into(), record.instance)).await?) == Some(1);
        self.core.has_changed(record.full.to_bare().as_str());
        Ok(evicted)
    }
}
