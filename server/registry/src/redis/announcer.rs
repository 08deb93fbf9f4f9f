//! Makes Redis say what is true here, wherever it may say something else.
//!
//! ```text
//!   Redis is back, was emptied, or another node serves a part of it ──► all sessions of that part
//!   a change failed, or its caller left before the answer           ──► that account
//!   half of the keys' time is over                                  ──► every account, spread over hours
//!        each: written where it is absent or ours · left where it is another's: that session is lost
//! ```
//!
//! One pipeline at a time, of a bounded number of sessions: as fast as Redis takes it, and no faster. Streams are not
//! invented: whoever owns one opens it again.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use starling_xmpp::jid::bare_str;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    config::millis,
    core::Core,
    local::Gone,
    record::{pack, pack_presence},
    scripts,
    signals::Scope,
    values::int,
    wire::{Arguments, Failure, Reply, Request},
};
use crate::{InstanceId, SessionRecord};

/// Accounts of one pipeline.
const BATCH: usize = 128;
/// Of how many parts of the keys' time one is taken to look at all of them.
const ROUNDS: u32 = 4;

/// What a request of a batch was for.
enum Sent {
    Index,
    Session(SessionRecord),
    Gone(Gone),
}

/// Until `stop`.
pub(super) async fn announce(core: Arc<Core>, stop: CancellationToken) {
    stop.run_until_cancelled(announce_always(&core)).await;
}

async fn announce_always(core: &Core) {
    let renew = core.ground.times.renew;
    let mut tick = interval(renew);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round = Round::default();
    let mut was_available = false;
    loop {
        let ticked = tokio::select! {
            _ = tick.tick() => true,
            () = core.ground.signals.announce.notified() => false,
        };
        // Ahead of everything: nobody must find sessions that hang on no lease.
        if core.lease.holds() {
            core.announce_scope(&mut was_available).await;
            let dirty = core.local.dirty_accounts();
            core.write_again(dirty, true).await;
            if ticked {
                for gone in core.local.take_lingering(Instant::now()) {
                    let account = bare_str(&gone.full).to_owned();
                    core.local.mark_dirty(&account, Some(gone));
                }
                let accounts = round.next(core, renew);
                core.write_again(accounts, false).await;
                core.tidy_index().await;
            }
        }
        let metrics = &core.ground.metrics;
        let (accounts, bytes) = core.ground.cache.held();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.cache_accounts.set(count(accounts));
        metrics.cache_bytes.set(count(bytes));
        metrics.sessions.set(count(core.local.len()));
        metrics.dirty.set(count(core.local.dirty_len()));
    }
}

/// A round through all accounts, so slow that it takes a part of the keys' time.
#[derive(Debug, Default)]
struct Round {
    left: VecDeque<Box<str>>,
    each_time: usize,
    wait: u128,
}

impl Round {
    /// The accounts whose turn it is.
    fn next(&mut self, core: &Core, renew: Duration) -> Vec<Box<str>> {
        if self.wait > 0 {
            self.wait -= 1;
            return Vec::new();
        }
        if self.left.is_empty() {
            let times = ((core.ground.times.expiry / ROUNDS).as_nanos() / renew.as_nanos().max(1)).max(1);
            self.left = core.local.accounts().into();
            self.each_time = self.left.len().div_ceil(usize::try_from(times).unwrap_or(usize::MAX)).max(1);
            // Few accounts are done in less than the time of a round.
            self.wait = times.saturating_sub(self.left.len().div_ceil(self.each_time) as u128);
        }
        self.left.drain(..self.each_time.min(self.left.len())).collect()
    }
}

impl Core {
    /// Writes what is due after Redis was away, or a part of it.
    async fn announce_scope(&self, was_available: &mut bool) {
        let scope = self.ground.signals.take_scope();
        if !scope.is_empty() {
            let topology = self.discovery.topology();
            let within = |account: &str| {
                let node = topology.node_of_account(account);
                scope.all || node.is_none_or(|node| scope.nodes.contains(&node.address))
            };
            let mut accounts = self.local.accounts();
            accounts.retain(|account| within(account));
            let count = accounts.len();
            let done = self.write_again(accounts, true).await;
            self.ground.signals.end_scope(if done { Scope::default() } else { scope });
            if done && *was_available {
                tracing::info!(accounts = count, "Sessions announced again");
                self.ground.metrics.renewals.inc();
                self.renewals.send_modify(|renewals| *renewals += 1);
            }
        }
        *was_available |= self.is_available();
        self.tell_availability();
    }

    /// Writes these accounts; `always`: also where Redis seems to say the same, so that nothing that is still on its way by an
    /// earlier connection undoes it. `false`: not all of them; the rest stays dirty.
    async fn write_again(&self, accounts: Vec<Box<str>>, always: bool) -> bool {
        for batch in accounts.chunks(BATCH) {
            if !self.write_batch(batch, always).await {
                return false;
            }
        }
        true
    }

    async fn write_batch(&self, accounts: &[Box<str>], always: bool) -> bool {
        let (mut requests, mut sent) = (Vec::new(), Vec::new());
        for account in accounts {
            // The number first: what changes from here on has a larger one.
            let change = self.local.next_change();
            let gone = self.local.take_dirty_of(account);
            let sessions = self.local.get(account);
            if sessions.is_empty() {
                self.local.mark_idle(account);
            } else {
                requests.push(self.enter(account, change));
                sent.push(Sent::Index);
            }
            for gone in gone {
                if sessions.iter().any(|record| record.id == gone.id) {
                    // It was claimed again, and is one of ours.
                } else if self.local.knows(account, gone.id) {
                    self.local.mark_dirty(account, Some(gone));
                } else {
                    requests.push(self.release(&gone, self.local.instance));
                    sent.push(Sent::Gone(gone));
                }
            }
            for record in &*sessions {
                requests.push(self.announcement(record, change, always));
                sent.push(Sent::Session(record.clone()));
            }
        }
        let replies = self.run(requests).await;
        let mut all = true;
        for (sent, reply) in sent.into_iter().zip(replies) {
            all &= self.took(sent, reply);
        }
        if !all {
            for account in accounts {
                self.local.mark_dirty(account, None);
            }
        }
        all
    }

    /// What a reply says of what was sent; `false`: nothing.
    fn took(&self, sent: Sent, reply: Reply) -> bool {
        let result = match reply.result {
            Ok(value) => int(&value),
            Err(Failure::Garbage(what)) => {
                self.found_garbage(&what);
                return true;
            }
            Err(Failure::Away(_)) => {
                if let Sent::Gone(gone) = sent {
                    let account = bare_str(&gone.full).to_owned();
                    self.local.mark_dirty(&account, Some(gone));
                }
                return false;
            }
        };
        if let Sent::Gone(gone) = &sent
            && self.local.session(&gone.full, gone.id).is_some()
        {
            // It was claimed after all while this was on its way.
            self.mark_dirty(&gone.full, None);
        }
        if let Sent::Session(record) = sent {
            self.has_changed(bare_str(&record.full));
            if result == Some(0) && self.local.lose(&record.full, record.id) {
                tracing::warn!(session = %record.id, "A session's resource was bound by another while Redis was away");
                self.ground.metrics.lost.inc();
            }
            if result == Some(2) {
                self.ground.metrics.announced.inc();
            }
            if result != Some(0) && self.local.session(&record.full, record.id).is_none() {
                // It has ended while this was on its way.
                self.mark_dirty(&record.full, Some(Gone::from(&record)));
            }
        }
        true
    }

    fn announcement(&self, record: &SessionRecord, change: u64, always: bool) -> Request {
        let (keys, account) = (&self.ground.keys, bare_str(&record.full));
        let stream = record.stream.map(|stream| keys.stream(account, stream));
        let presence = record.presence.as_deref().map(|stanza| pack_presence(record.id, change, stanza));
        let arguments = Arguments::new()
            .text(record.full.resource())
            .bytes(record.id.0.to_be_bytes())
            .bytes(self.local.instance.0.to_be_bytes())
            .text(change)
            .bytes(pack(record, change))
            .bytes(presence.unwrap_or_default())
            .text(millis(self.ground.times.expiry))
            .flag(always);
        let (sessions, presence) = (keys.sessions(account), keys.presence(account));
        match &stream {
            Some(stream) => Request::script(&scripts::ANNOUNCE, &[&sessions, &presence, stream], arguments),
            None => Request::script(&scripts::ANNOUNCE, &[&sessions, &presence], arguments),
        }
    }

    /// Removes exactly this session, at exactly this instance, unless its stream is another's by now.
    pub(super) fn release(&self, gone: &Gone, instance: InstanceId) -> Request {
        let (keys, account) = (&self.ground.keys, bare_str(&gone.full));
        let arguments = Arguments::new()
            .text(gone.full.resource())
            .bytes(gone.id.0.to_be_bytes())
            .bytes(instance.0.to_be_bytes())
            .text(instance);
        let (sessions, presence) = (keys.sessions(account), keys.presence(account));
        match gone.stream.map(|stream| keys.stream(account, stream)) {
            Some(stream) => Request::script(&scripts::RELEASE, &[&sessions, &presence, &stream], arguments),
            None => Request::script(&scripts::RELEASE, &[&sessions, &presence], arguments),
        }
    }

    /// Takes accounts out of the index that have nothing here any more. `false`: there are none left, or it failed.
    pub(super) async fn tidy_index(&self) -> bool {
        let mut idle = self.local.take_idle(BATCH);
        if idle.is_empty() {
            return false;
        }
        let arguments = idle
            .iter()
            .fold(Arguments::new(), |arguments, (account, number)| arguments.bytes(account.as_bytes()).text(number));
        let index = self.ground.keys.index(self.local.instance);
        let tidied = self.one(Request::script(&scripts::TIDY, &[&index], arguments)).await;
        if tidied.is_err() {
            self.local.put_back_idle(mem::take(&mut idle));
        }
        tidied.is_ok()
    }
}
