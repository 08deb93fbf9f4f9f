//! Sessions: bound, changed and given up here first, then in Redis; read from Redis, or from what is known.

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Value, cmd};
use starling_xmpp::jid::{BareJid, FullJid, bare_str};
use tokio::sync::watch;

use super::{
    RedisRegistry,
    cache::Epoch,
    config::millis,
    core::Core,
    local::Gone,
    record::{pack, pack_presence, unpack, unpack_presence},
    scripts,
    topology::Standing,
    values::{bytes, fields, int, items},
    wire::{Arguments, Failure, Reply, Request, all_of},
};
use crate::{Bound, Error, OnConflict, Registry, SessionId, SessionRecord, Sessions, Update};

#[async_trait]
impl Registry for RedisRegistry {
    fn is_available(&self) -> bool {
        self.core.is_available()
    }

    fn renewals(&self) -> watch::Receiver<u64> {
        self.core.renewals.subscribe()
    }

    /// One round trip: the index and the script.
    async fn bind(&self, record: SessionRecord, on_conflict: OnConflict, limit: usize) -> Result<Bound, Error> {
        let core = &*self.core;
        let _turn = core.local.turn(&record.full).await;
        if !core.lease.holds() {
            return Err(Error::Away("this instance has no lease".to_owned()));
        }
        let account = bare_str(&record.full);
        // Ahead of the claim, so that it is dropped after it: what is still claimed is not removed.
        let unsure = core.unsure(&record, true);
        let claim = core.local.claim(account, record.id);
        let change = core.local.next_change();
        let arguments = Arguments::new()
            .text(record.full.resource())
            .bytes(record.id.0.to_be_bytes())
            .bytes(record.instance.0.to_be_bytes())
            .bytes(pack(&record, change))
            .flag(on_conflict == OnConflict::Refuse)
            .text(limit)
            .text(millis(core.ground.times.expiry));
        let (sessions, presence) = (core.ground.keys.sessions(account), core.ground.keys.presence(account));
        let bind = Request::script(&scripts::BIND, &[&sessions, &presence], arguments);
        let mut replies = core.run(vec![core.enter(account, change), bind]).await.into_iter();
        let (entered, bound) = (replies.next(), replies.next());
        // Neither is enough: who is not in the index is not cleaned up after.
        entered.map_or_else(nothing, |reply| reply.result)?;
        let bound = bound.map_or_else(nothing, |reply| reply.result)?;
        let [verdict, replaced, presence] = items(&bound) else {
            return Err(Error::Away("the answer is not understood".to_owned()));
        };
        unsure.settle();
        core.has_changed(account);
        match int(verdict) {
            Some(0) => {}
            verdict => {
                drop(claim);
                core.local.mark_idle(account);
                return Ok(if verdict == Some(1) { Bound::Taken } else { Bound::TooMany });
            }
        }
        let replaced = bytes(replaced).and_then(|replaced| {
            let resource = record.full.resource().as_str().as_bytes();
            let mut replaced = unpack(&record.full.to_bare(), resource, replaced)?;
            replaced.presence = bytes(presence).and_then(|presence| unpack_presence(replaced.id, presence));
            Some(replaced)
        });
        core.local.insert(record);
        Ok(Bound::Claimed { replaced })
    }

    /// One script; none where nothing changes.
    async fn update(&self, full: &FullJid, id: SessionId, update: Update) -> Result<bool, Error> {
        let core = &*self.core;
        let Some(changed) = core.local.update(full, id, update) else {
            return Ok(false);
        };
        if !changed.routing && !changed.presence {
            return Ok(true);
        }
        let unsure = core.unsure(&changed.record, false);
        let (record, change) = (&changed.record, changed.change);
        let routing = if changed.routing { pack(record, change) } else { Vec::new() };
        let (what, presence) = match &record.presence {
            _ if !changed.presence => (b"=", Vec::new()),
            None => (b"-", Vec::new()),
            Some(stanza) => (b"+", pack_presence(id, change, stanza)),
        };
        let arguments = Arguments::new()
            .text(full.resource())
            .bytes(id.0.to_be_bytes())
            .bytes(core.local.instance.0.to_be_bytes())
            .text(change)
            .bytes(routing)
            .bytes(what)
            .bytes(presence)
            .text(millis(core.ground.times.expiry));
        let account = bare_str(full);
        let (sessions, presence) = (core.ground.keys.sessions(account), core.ground.keys.presence(account));
        let update = Request::script(&scripts::UPDATE, &[&sessions, &presence], arguments);
        match core.one(update).await.ok().as_ref().and_then(int) {
            Some(0) => {
                unsure.settle();
                core.local.remove(full, id);
                core.has_changed(account);
                return Ok(false);
            }
            Some(1) => unsure.settle(),
            // Not answered, lost, or overtaken by a newer one: all of it is written again.
            _ => drop(unsure),
        }
        if changed.routing {
            core.has_changed(account);
        }
        Ok(true)
    }

    async fn unbind(&self, full: &FullJid, id: SessionId) -> Result<bool, Error> {
        let core = &*self.core;
        let Some(record) = core.local.remove(full, id) else {
            return Ok(false);
        };
        let unsure = core.unsure(&record, true);
        let released = core.one(core.release(&Gone::from(&record), core.local.instance)).await;
        core.has_changed(bare_str(full));
        match released.ok().as_ref().and_then(int) {
            Some(released) => {
                unsure.settle();
                Ok(released == 1)
            }
            None => Ok(true),
        }
    }

    fn let_go(&self, full: &FullJid, id: SessionId) {
        if self.core.local.remove(full, id).is_some() {
            self.core.has_changed(bare_str(full));
        }
    }

    async fn sessions(&self, account: &BareJid) -> Result<Sessions, Error> {
        let mut read = self.core.read(&[account], Ask::Anew).await;
        Ok(read.pop().unwrap_or_default())
    }

    async fn sessions_of(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error> {
        Ok(self.core.read(&accounts.iter().collect::<Vec<_>>(), Ask::Unknown).await)
    }

    async fn sessions_for_certain(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error> {
        let core = &*self.core;
        let requests = accounts.iter().map(|account| {
            let key = core.ground.keys.sessions(account.as_str());
            Request::plain(&key, all_of(&key))
        });
        let mut replies = core.run(requests.collect()).await.into_iter();
        let sessions = |account: &BareJid| {
            let value = core.ours(replies.next().map_or_else(nothing, |reply| reply.result))?;
            Ok(value.map_or_else(Sessions::default, |value| core.decode(account, &value)))
        };
        accounts.iter().map(sessions).collect()
    }

    async fn with_presence(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error> {
        Ok(self.core.read(&accounts.iter().collect::<Vec<_>>(), Ask::WithPresence).await)
    }

    fn cached(&self, account: &str) -> Option<Sessions> {
        let known = self.core.known(account);
        let metrics = &self.core.ground.metrics;
        if known.is_some() { &metrics.cache_hits } else { &metrics.cache_misses }.inc();
        known
    }
}

fn nothing() -> Result<Value, Failure> {
    Err(Failure::Away("not answered".to_owned()))
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Sessions, as they are now.
    Anew,
    /// Sessions that are not known here.
    Unknown,
    /// Sessions and presence, as they are now: of two that log in at once, and read each other after they have written their
    /// own, one finds the other.
    WithPresence,
}

/// What is read of one account, and what is known of it before.
struct Asked<'a> {
    account: &'a BareJid,
    /// The sessions, where they need not be read.
    known: Option<Sessions>,
    epoch: Epoch,
}

impl Core {
    /// Enters an account into our index.
    pub(super) fn enter(&self, account: &str, change: u64) -> Request {
        let index = self.ground.keys.index(self.local.instance);
        let mut add = cmd("ZADD");
        add.arg(&index).arg("GT").arg(change).arg(account);
        Request::plain(&index, add)
    }

    /// What is known of an account without asking: while its part of Redis is there, what that says; while it is away, what is
    /// true here and was true elsewhere.
    pub(super) fn known(&self, account: &str) -> Option<Sessions> {
        match self.discovery.peek().node_of_account(account).map(|node| node.standing()) {
            Some(Standing::Tracked) => self.ground.cache.get(account),
            Some(Standing::Untracked) => None,
            Some(Standing::Away) | None => Some(self.believed(account)),
        }
    }

    /// Our own sessions, and those of others as they were known last.
    fn believed(&self, account: &str) -> Sessions {
        let own = self.local.get(account);
        let Some(before) = self.ground.cache.get(account) else {
            return own;
        };
        let is_free = |record: &&SessionRecord| own.iter().all(|own| own.full != record.full);
        let others = before.iter().filter(|record| record.instance != self.local.instance).filter(is_free);
        own.iter().chain(others).cloned().collect()
    }

    /// Reads many accounts by one pipeline for each node.
    async fn read(&self, accounts: &[&BareJid], ask: Ask) -> Vec<Sessions> {
        let keys = &self.ground.keys;
        let (mut asked, mut requests) = (Vec::with_capacity(accounts.len()), Vec::new());
        for account in accounts {
            let name = account.as_str();
            let known = if ask == Ask::Unknown || self.is_away(name) { self.known(name) } else { None };
            let epoch = self.ground.cache.epoch(name);
            if known.is_none() {
                let key = keys.sessions(name);
                requests.push(Request::tracked(&key, all_of(&key)));
                if ask == Ask::WithPresence {
                    let key = keys.presence(name);
                    requests.push(Request::plain(&key, all_of(&key)));
                }
            }
            asked.push(Asked { account, known, epoch });
        }
        let mut replies = if requests.is_empty() { Vec::new() } else { self.run(requests).await }.into_iter();
        let presence = ask == Ask::WithPresence;
        asked.into_iter().map(|asked| self.understand(asked, presence, &mut replies)).collect()
    }

    /// A change of ours is seen at once. While Redis is away it is anyway: what is believed begins with our own, and what is
    /// remembered of others is all that there is.
    pub(super) fn has_changed(&self, account: &str) {
        if !self.is_away(account) {
            self.ground.cache.forget(account);
        }
    }

    fn is_away(&self, account: &str) -> bool {
        self.discovery.peek().node_of_account(account).is_none_or(|node| node.standing() == Standing::Away)
    }

    fn understand(&self, asked: Asked<'_>, presence: bool, replies: &mut impl Iterator<Item = Reply>) -> Sessions {
        let name = asked.account.as_str();
        if let Some(known) = asked.known {
            return known;
        }
        let read = replies.next();
        let presence = if presence { replies.next() } else { None };
        let sessions = match read {
            Some(Reply { result: Ok(value), tracked }) => {
                let sessions = self.decode(asked.account, &value);
                if tracked {
                    self.ground.cache.remember(name, Arc::clone(&sessions), asked.epoch);
                }
                sessions
            }
            Some(Reply { result: Err(Failure::Garbage(what)), .. }) => {
                self.found_garbage(&what);
                return Sessions::default();
            }
            _ => return self.believed(name),
        };
        let Some(Reply { result: Ok(presence), .. }) = presence else {
            return sessions;
        };
        let presence = fields(&presence);
        let with_presence = |record: &SessionRecord| {
            let resource = record.full.resource().as_str().as_bytes();
            let packed = presence.iter().find(|(field, _)| *field == resource);
            let packed = packed.filter(|_| record.priority.is_some());
            let presence = packed.and_then(|(_, packed)| unpack_presence(record.id, packed));
            SessionRecord { presence, ..record.clone() }
        };
        sessions.iter().map(with_presence).collect()
    }

    /// The sessions that a hash holds. One that names us, and that we know nothing of, is a ghost: written by a request that
    /// was believed to have failed. It does not count, and is removed.
    fn decode(&self, account: &BareJid, value: &Value) -> Sessions {
        let decode = |(resource, packed): (&[u8], &[u8])| {
            let record = unpack(account, resource, packed);
            if record.is_none() {
                self.found_garbage(account.as_str());
            }
            let record = record?;
            if record.instance == self.local.instance && !self.local.knows(account.as_str(), record.id) {
                self.mark_dirty(&record.full, Some(Gone::from(&record)));
                return None;
            }
            Some(record)
        };
        fields(value).into_iter().filter_map(decode).collect()
    }
}
