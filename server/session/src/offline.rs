//! Messages that wait for an account: how many there may be, and how a session gets them.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use papaya::HashMap;
use starling_link::{Envelope, Tracking};
use starling_store::messages::{MessageId, PendingRow};
use starling_xmpp::{
    jid::{BareJid, Jid},
    stanza::{Kind, MessageType, Stanza},
};

use crate::stamp;

/// Accounts whose number of waiting messages is known without asking the store.
const KNOWN: usize = 16_384;

/// How many messages wait for an account.
#[derive(Debug)]
pub(crate) struct Waiting {
    limit: AtomicU32,
    counts: HashMap<Box<str>, Arc<AtomicU32>>,
}

/// Whether one more may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is counted.
    Granted,
    /// The account has as many as it may.
    Full,
    /// Ask the store for the number, and say it by [`Waiting::set`].
    Unknown,
}

impl Waiting {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit: AtomicU32::new(limit), counts: HashMap::new() }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Another limit from now on. The store, which counts no further than to the limit, is asked again.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
        self.counts.pin().clear();
    }

    pub(crate) fn admit(&self, account: &str) -> Admission {
        match self.counts.pin().get(account) {
            None => Admission::Unknown,
            Some(count) if count.fetch_add(1, Ordering::Relaxed) < self.limit() => Admission::Granted,
            Some(count) => {
                count.fetch_sub(1, Ordering::Relaxed);
                Admission::Full
            }
        }
    }

    /// The same for an account that is there, but does not keep up. If the number is not known, it is counted from here on:
    /// a session has fetched what waited, or is about to.
    pub(crate) fn admit_unasked(&self, account: &str) -> bool {
        match self.admit(account) {
            Admission::Granted => true,
            Admission::Full => false,
            Admission::Unknown => {
                self.set(account, 1);
                true
            }
        }
    }

    /// Where others store messages as well: one more of this process waits, or nearly. What they come to is what the store says;
    /// [`Waiting::is_suspect`] says when to ask.
    pub(crate) fn note(&self, account: &str) {
        match self.counts.pin().get(account) {
            Some(count) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            None => self.set(account, 1),
        }
    }

    /// Whether as many wait as may, as far as is known here.
    pub(crate) fn is_suspect(&self, account: &str) -> bool {
        self.counts.pin().get(account).is_some_and(|count| count.load(Ordering::Relaxed) >= self.limit())
    }

    /// What the store says. What was counted meanwhile may be counted twice, until the account fetches its messages.
    pub(crate) fn set(&self, account: &str, count: u32) {
        let counts = self.counts.pin();
        if counts.len() >= KNOWN {
            counts.clear();
        }
        counts.insert(account.into(), Arc::new(AtomicU32::new(count)));
    }

    /// A session has fetched them.
    pub(crate) fn fetched(&self, account: &str) {
        self.counts.pin().remove(account);
    }
}

/// A message out of the store, as it goes to the session that claimed it: stamped with the time at which it came in
/// (XEP-0203). `None`: it cannot be read, which is the fault of whoever wrote it.
pub(crate) fn envelope(account: &BareJid, mut row: PendingRow) -> Option<Arc<Envelope>> {
    stamp::delay(account.domain().as_str(), row.id, &mut row.stanza)?;
    resumed(account, row)
}

/// The same for a session that it was sent to before: it has not waited for anybody.
pub(crate) fn resumed(account: &BareJid, row: PendingRow) -> Option<Arc<Envelope>> {
    let from = starling_xmpp::jid::parse(&row.peer).ok()?;
    let stanza = row.stanza;
    let kind = kind(&stanza)?;
    let tracking = Tracking::claimed(row.id.0, row.archived);
    Some(Arc::new(Envelope::kept(Some(Jid::from(account.clone())), from, kind, stanza, tracking)))
}

/// Its type decides nothing any more, but an envelope says it.
fn kind(stanza: &[u8]) -> Option<Kind> {
    let text = std::str::from_utf8(stanza).ok()?;
    let element = starling_xml::parse(text, &starling_xml::Scope::client(), starling_xml::Limits::default()).ok()?;
    Some(Stanza::parse(element.as_raw()).map_or(Kind::Message(MessageType::Normal), |stanza| stanza.kind))
}

/// When a message came in.
pub(crate) fn time(id: MessageId) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(id.millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_limit_counts_for_the_next_message_and_the_store_is_asked_again() {
        let waiting = Waiting::new(1);
        waiting.set("a@b", 1);
        assert_eq!(waiting.admit("a@b"), Admission::Full);
        waiting.set_limit(2);
        assert_eq!(waiting.admit("a@b"), Admission::Unknown, "the store counted no further than to the old limit");
        waiting.set("a@b", 1);
        assert_eq!(waiting.admit("a@b"), Admission::Granted);
        assert!(waiting.is_suspect("a@b"));
        waiting.set_limit(1);
        waiting.set("a@b", 1);
        assert_eq!(waiting.admit("a@b"), Admission::Full);
    }

    #[test]
    fn as_many_wait_as_may_and_the_store_is_asked_once() {
        let waiting = Waiting::new(2);
        assert_eq!(waiting.admit("a@b"), Admission::Unknown);
        waiting.set("a@b", 1);
        assert_eq!([waiting.admit("a@b"), waiting.admit("a@b")], [Admission::Granted, Admission::Full]);
        waiting.fetched("a@b");
        assert_eq!(waiting.admit("a@b"), Admission::Unknown);
    }

    #[test]
    fn the_store_is_asked_when_as_many_came_back_as_may_wait() {
        let waiting = Waiting::new(2);
        assert!(!waiting.is_suspect("a@b"));
        waiting.note("a@b");
        assert!(!waiting.is_suspect("a@b"));
        waiting.note("a@b");
        assert!(waiting.is_suspect("a@b") && !waiting.is_suspect("x@y"));
        waiting.set("a@b", 1);
        assert!(!waiting.is_suspect("a@b"));
    }
}
