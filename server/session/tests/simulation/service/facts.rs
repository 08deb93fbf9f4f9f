//! What clients know, and what must be true of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::simulation::seeds::Dice;

/// What everybody shares: chance, and the facts.
#[derive(Clone)]
pub(crate) struct Shared {
    dice: Arc<Mutex<Dice>>,
    facts: Arc<Mutex<Facts>>,
    start: Instant,
    trace: bool,
}

/// Which message: who sent it, and the how-many-th it was.
pub(crate) type Message = (usize, u32);

#[derive(Default)]
pub(crate) struct Facts {
    /// What was sent, and whether whoever sent it was told that it is safe.
    sent: BTreeMap<Message, bool>,
    /// The session that it was sent in; `None`: in several, so that copies of it are under way.
    sent_in: BTreeMap<Message, Option<u64>>,
    /// What clients were refused.
    refused: BTreeSet<Message>,
    /// What a client without stream management was written: nobody can say more of it.
    written: BTreeSet<Message>,
    /// What came to which account.
    received: BTreeMap<(usize, Message), u32>,
    /// The last of each session of a sender that came to an account for the first time.
    last: BTreeMap<(usize, usize, u64), u32>,
    /// Ids of the server's (XEP-0359), with the session that they came to and what there was before.
    ids: BTreeMap<(usize, String), Handled>,
    /// The server's id of a message that came to an account.
    id_of: BTreeMap<(usize, Message), String>,
    /// Kills of the process.
    pub(crate) kills: u32,
    /// Sessions whose end both sides know, with all that went before it.
    clean: BTreeSet<u64>,
    /// Whether order can be expected: one resource per account, addressed by its bare JID.
    pub(crate) ordered: bool,
}

#[derive(Clone, Copy)]
struct Handled {
    session: u64,
    kills: u32,
}

impl Shared {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let dice = Arc::new(Mutex::new(Dice::new(seed)));
        Self { dice, facts: Arc::default(), start: Instant::now(), trace }
    }

    pub(crate) fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.dice().chance(percent)
    }

    /// Some time, mostly short.
    pub(crate) fn some_ms(&self, most: u64) -> std::time::Duration {
        std::time::Duration::from_millis(self.dice().mostly_small(most))
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>7} {}", self.start.elapsed().as_millis(), what());
        }
    }
}

impl Facts {
    /// Sent, or sent again in a new session.
    pub(crate) fn sent(&mut self, message: Message, session: u64) {
        self.sent.entry(message).or_default();
        self.sent_in.entry(message).and_modify(|before| *before = None).or_insert(Some(session));
    }

    pub(crate) fn is_refused(&self, message: Message) -> bool {
        self.refused.contains(&message)
    }

    pub(crate) fn acknowledged(&mut self, message: Message) {
        self.sent.insert(message, true);
    }

    pub(crate) fn refused(&mut self, message: Message) {
        self.refused.insert(message);
    }

    pub(crate) fn written(&mut self, message: Message) {
        self.written.insert(message);
    }

    pub(crate) fn ended_clean(&mut self, session: u64) {
        self.clean.insert(session);
    }

    /// A message came to a session of an account.
    pub(crate) fn received(&mut self, account: usize, session: u64, id: Option<String>, message: Message) {
        let stream = self.sent_in.get(&message).copied().flatten();
        if let Some(id) = &id
            && let Some(before) = self.id_of.insert((account, message), id.clone())
        {
            assert!(before == *id || stream.is_none(), "{message:?} was sent in one session and handled twice");
        }
        let now = Handled { session, kills: self.kills };
        if let Some(before) = id.and_then(|id| self.ids.insert((account, id), now))
            // With several resources each may have it.
            && self.ordered
        {
            assert!(before.session != session, "{message:?} came twice to session {session}");
            let forgotten = !self.clean.contains(&before.session) || before.kills < self.kills;
            assert!(forgotten, "{message:?} came again to session {session}, though {} had said so", before.session);
        }
        let count = self.received.entry((account, message)).or_default();
        *count += 1;
        let (sender, number) = message;
        // RFC 6120 §10.1: what is sent in one stream, or one that resumes it, is in order.
        if let Some(stream) = stream
            && *count == 1
            && self.ordered
        {
            let last = self.last.insert((account, sender, stream), number);
            assert!(last.is_none_or(|last| last < number), "{message:?} came to {account} behind {last:?}");
        }
    }

    /// Every message that was acknowledged is accounted for.
    pub(crate) fn check(&self, everything_is_sent_again: bool) {
        let received: BTreeSet<_> = self.received.keys().map(|(_, message)| *message).collect();
        for (message, acknowledged) in &self.sent {
            let found = received.contains(message) || self.refused.contains(message) || self.written.contains(message);
            assert!(found || !acknowledged, "{message:?} is acknowledged and lost");
            assert!(found || !everything_is_sent_again, "{message:?} was never acknowledged, and is lost");
        }
    }

    /// How many came, how often altogether.
    pub(crate) fn counts(&self) -> (usize, u32, usize) {
        (self.received.len(), self.received.values().sum(), self.refused.len())
    }
}
