//! Who can do what, as far as it is known: a state machine without clock and sockets.
//!
//! A hash becomes known to all only by the answer of a client that the server asked itself, and only if the answer has
//! that hash and no other answer could (see `info`). Whatever else a client says is believed of that client alone. So
//! nobody can say anything about another client's hash.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use starling_registry::SessionId;
use starling_xmpp::jid::FullJid;

use super::info::{Algorithm, Disco, Info};

/// Hashes that are known, in two generations of half as many: those used lately stay.
const KNOWN: usize = 1024;
/// Questions without an answer yet; beyond it nobody is asked.
const PENDING: usize = 256;
/// Sessions that wait for the answer of another one with the same hash, in case that it gives none; more are asked when
/// they send presence again.
const WAITERS: usize = 16;
/// How long one client that gives no answer keeps others with its hash from being asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `<c/>` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) node: String,
    pub(super) ver: String,
    /// `None`: the old form without a hash, or one that is not known here; it proves nothing.
    pub(super) hash: Option<Algorithm>,
}

/// A question for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) id: u128,
    pub(super) to: FullJid,
    /// `node#ver`
    pub(super) node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key(Algorithm, String);

impl Announced {
    fn key(&self) -> Option<Key> {
        self.hash.map(|hash| Key(hash, self.ver.clone()))
    }
}

/// A session that has announced something.
#[derive(Debug)]
struct Held {
    full: FullJid,
    announced: Announced,
    state: State,
    /// The question that it has not answered yet.
    asked: Option<u128>,
}

#[derive(Debug)]
enum State {
    /// It, or another with its hash, was asked, or will be.
    Waiting,
    Known(Arc<Info>),
    /// It gave no answer that could be read; it is not asked again.
    Silent,
}

#[derive(Debug)]
struct Pending {
    session: SessionId,
    key: Option<Key>,
    since: Instant,
    waiters: VecDeque<SessionId>,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: Generations,
    /// One per session at most: bounded by the connections.
    sessions: HashMap<SessionId, Held>,
    pending: HashMap<u128, Pending>,
    /// The question that is open for a hash.
    open: HashMap<Key, u128>,
}

impl Cache {
    /// A session announces what it can do. Whoever is to be asked about it, by ids that `id` makes.
    pub(super) fn announced(
        &mut self,
        session: SessionId,
        full: &FullJid,
        announced: Announced,
        now: Instant,
        mut id: impl FnMut() -> u128,
    ) -> Vec<Ask> {
        let mut asks = Vec::new();
        match self.sessions.get(&session) {
            Some(held) if held.announced == announced => match (&held.state, held.asked) {
                (State::Known(_) | State::Silent, _) | (State::Waiting, Some(_)) => return asks,
                (State::Waiting, None) => {}
            },
            Some(_) => asks.extend(self.ended(session, now, &mut id)),
            None => {}
        }
        let key = announced.key();
        let known = key.as_ref().and_then(|key| self.known.get(key));
        let is_known = known.is_some();
        let held =
            Held { full: full.clone(), announced, state: known.map_or(State::Waiting, State::Known), asked: None };
        self.sessions.insert(session, held);
        if is_known {
            return asks;
        }
        if let Some(open) = key.as_ref().and_then(|key| self.open.get(key)).copied()
            && let Some(pending) = self.pending.get_mut(&open)
        {
            if pending.waiters.len() < WAITERS && !pending.waiters.contains(&session) {
                pending.waiters.push_back(session);
            }
            if now.saturating_duration_since(pending.since) >= PATIENCE {
                asks.extend(self.give_up(open, now, &mut id));
            }
            return asks;
        }
        asks.extend(self.ask(session, VecDeque::new(), now, &mut id));
        asks
    }

    /// A client answers. `None`: that was not asked of this client. Else whoever is to be asked in its stead, because the
    /// answer proves nothing to others.
    pub(super) fn answered(
        &mut self,
        id: u128,
        session: SessionId,
        from: &FullJid,
        answer: Option<Disco>,
        now: Instant,
        mut next_id: impl FnMut() -> u128,
    ) -> Option<Option<Ask>> {
        let is_asked = self.pending.get(&id)?.session == session;
        let held = self.sessions.get_mut(&session).filter(|held| is_asked && held.full == *from)?;
        let Some(answer) = answer else {
            return Some(self.give_up(id, now, &mut next_id));
        };
        let proved = held
            .announced
            .hash
            .is_some_and(|hash| hash.ver(&answer.verification_string()) == held.announced.ver && answer.is_canonical());
        let info = Arc::new(answer.into_info());
        held.state = State::Known(Arc::clone(&info));
        held.asked = None;
        let Some(pending) = self.pending.remove(&id) else { return Some(None) };
        if let Some(key) = &pending.key {
            self.open.remove(key);
        }
        match pending.key.filter(|_| proved) {
            Some(key) => {
                for waiter in pending.waiters {
                    if let Some(held) = self.waiting_for(waiter, &key) {
                        held.state = State::Known(Arc::clone(&info));
                    }
                }
                self.known.insert(key, info);
                Some(None)
            }
            None => Some(self.ask_next(pending.waiters, now, &mut next_id)),
        }
    }

    /// A session has ended, or announces something else. Whoever is to be asked in its stead.
    pub(super) fn ended(&mut self, session: SessionId, now: Instant, mut id: impl FnMut() -> u128) -> Option<Ask> {
        let asked = self.sessions.remove(&session)?.asked?;
        self.give_up(asked, now, &mut id)
    }

    /// The question could not be sent.
    pub(super) fn not_sent(&mut self, asked: u128, now: Instant, mut id: impl FnMut() -> u128) -> Option<Ask> {
        self.give_up(asked, now, &mut id)
    }

    /// What a session can do, as far as it is known.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the PEP container: whom to notify (XEP-0163 §4)"))]
    pub(super) fn of(&mut self, session: SessionId) -> Option<Arc<Info>> {
        let held = self.sessions.get_mut(&session)?;
        match &held.state {
            State::Known(info) => Some(Arc::clone(info)),
            State::Silent => None,
            State::Waiting => {
                let info = self.known.get(&held.announced.key()?)?;
                held.state = State::Known(Arc::clone(&info));
                Some(info)
            }
        }
    }

    /// The session, if it still waits for this hash.
    fn waiting_for(&mut self, session: SessionId, key: &Key) -> Option<&mut Held> {
        let held = self.sessions.get_mut(&session)?;
        (matches!(held.state, State::Waiting) && held.announced.key().as_ref() == Some(key)).then_some(held)
    }

    fn ask(
        &mut self,
        session: SessionId,
        waiters: VecDeque<SessionId>,
        now: Instant,
        id: &mut dyn FnMut() -> u128,
    ) -> Option<Ask> {
        if self.pending.len() >= PENDING {
            self.forget_the_silent(now);
        }
        if self.pending.len() >= PENDING {
            return None;
        }
        let held = self.sessions.get_mut(&session)?;
        let id = id();
        let key = held.announced.key();
        held.asked = Some(id);
        if let Some(key) = &key {
            self.open.insert(key.clone(), id);
        }
        self.pending.insert(id, Pending { session, key, since: now, waiters });
        let Announced { node, ver, .. } = &held.announced;
        Some(Ask { id, to: held.full.clone(), node: format!("{node}#{ver}") })
    }

    /// Asks the first of those who wait that still does.
    fn ask_next(
        &mut self,
        mut waiters: VecDeque<SessionId>,
        now: Instant,
        id: &mut dyn FnMut() -> u128,
    ) -> Option<Ask> {
        while let Some(next) = waiters.pop_front() {
            let waits = |held: &Held| matches!(held.state, State::Waiting) && held.asked.is_none();
            if self.sessions.get(&next).is_some_and(waits) {
                return self.ask(next, waiters, now, id);
            }
        }
        None
    }

    /// Nothing to believe comes from whoever was asked.
    fn give_up(&mut self, asked: u128, now: Instant, id: &mut dyn FnMut() -> u128) -> Option<Ask> {
        let waiters = self.forget(asked)?;
        self.ask_next(waiters, now, id)
    }

    fn forget(&mut self, asked: u128) -> Option<VecDeque<SessionId>> {
        let pending = self.pending.remove(&asked)?;
        if let Some(key) = &pending.key {
            self.open.remove(key);
        }
        if let Some(held) = self.sessions.get_mut(&pending.session) {
            held.asked = None;
            held.state = State::Silent;
        }
        Some(pending.waiters)
    }

    /// Makes room. Those who wait for one of these are asked when they send presence again.
    fn forget_the_silent(&mut self, now: Instant) {
        let late = |pending: &Pending| now.saturating_duration_since(pending.since) >= PATIENCE;
        let late: Vec<_> = self.pending.iter().filter(|(_, pending)| late(pending)).map(|(id, _)| *id).collect();
        for id in late {
            self.forget(id);
        }
    }
}

/// What is known of hashes. When the young are as many as fit, they become old and the old are forgotten; what is used
/// is young again.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Arc<Info>>,
    old: HashMap<Key, Arc<Info>>,
}

impl Generations {
    fn get(&mut self, key: &Key) -> Option<Arc<Info>> {
        if let Some(info) = self.young.get(key) {
            return Some(Arc::clone(info));
        }
        let (key, info) = self.old.remove_entry(key)?;
        self.insert(key, Arc::clone(&info));
        Some(info)
    }

    fn insert(&mut self, key: Key, info: Arc<Info>) {
        if self.young.len() >= KNOWN / 2 && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, info);
    }
}

#[cfg(test)]
mod tests;
