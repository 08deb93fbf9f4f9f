//! The link of one process: every session is here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, ready};
use papaya::HashMap;
use prost::bytes::Bytes;
use starling_registry::{InstanceId, SessionId, SessionRecord};
use starling_xmpp::{error::StreamError, jid::FullJid};

use crate::{
    Bounds, Envelope, Inbox, Link, Members, Outcome, Sessions,
    mailbox::{Mailbox, mailbox},
};

/// Full JID → mailbox, read without a lock. Bounded by the sessions that `c2s` lets in.
#[derive(Debug, Default)]
pub struct LocalLink {
    sessions: HashMap<Box<str>, Arc<Mailbox>>,
    /// Domain → whoever speaks for it. Bounded by what the operator configures.
    domains: HashMap<Box<str>, Mailbox>,
}

impl LocalLink {
    /// A link with nobody on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells every attached session to end its stream with `error`.
    pub fn close_all(&self, error: &StreamError) {
        for mailbox in self.sessions.pin().values() {
            mailbox.close(error.clone());
        }
    }

    /// Everything for `domain`, which is not served here, goes into the inbox that is returned, until it is dropped.
    pub fn attach_domain(&self, domain: &str, bounds: Bounds) -> Inbox {
        let (mailbox, inbox) = mailbox(SessionId(0), bounds);
        self.domains.pin().insert(domain.into(), mailbox);
        inbox
    }

    /// The domains that somebody here speaks for.
    pub(crate) fn domains(&self) -> Vec<String> {
        self.domains.pin().keys().map(|domain| domain.to_string()).collect()
    }

    /// Sessions attached now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session is attached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl LocalLink {
    /// See [`Link::here`].
    pub(crate) fn records(&self, own: InstanceId) -> Vec<SessionRecord> {
        let sessions = self.sessions.pin();
        let records = sessions.iter().map(|(full, mailbox)| (full.parse(), mailbox.id));
        records.filter_map(|(full, id)| Some(SessionRecord::new(full.ok()?, id, own))).collect()
    }

    /// See [`Link::poke`].
    pub(crate) fn poke_here(&self, full: &str, id: SessionId) -> bool {
        match self.sessions.pin().get(full) {
            Some(mailbox) if mailbox.id == id => {
                mailbox.poke();
                true
            }
            _ => false,
        }
    }

    /// See [`Link::close`].
    pub(crate) fn close_here(&self, full: &str, id: SessionId, error: StreamError) -> bool {
        match self.sessions.pin().get(full) {
            Some(mailbox) if mailbox.id == id => {
                mailbox.close(error);
                true
            }
            _ => false,
        }
    }
}

/// All instances are this one.
impl Link for LocalLink {
    fn send_here(&self, full: &str, envelope: &Arc<Envelope>) -> Outcome {
        self.sessions.pin().get(full).map_or(Outcome::NoSession, |mailbox| mailbox.send(envelope))
    }

    fn is_here(&self, _: InstanceId) -> bool {
        true
    }

    fn send_there(&self, _: InstanceId, _: Sessions, _: &Arc<Envelope>) -> Outcome {
        Outcome::NoSession
    }

    fn send_domain(&self, domain: &str, envelope: &Arc<Envelope>) -> Outcome {
        self.domains.pin().get(domain).map_or(Outcome::NoSession, |mailbox| mailbox.send(envelope))
    }

    fn horizon(&self) -> u64 {
        0
    }

    fn poke(&self, session: &SessionRecord) -> bool {
        self.poke_here(session.full.as_str(), session.id)
    }

    fn close(&self, session: &SessionRecord, error: StreamError) -> bool {
        self.close_here(session.full.as_str(), session.id, error)
    }

    fn here(&self) -> Vec<SessionRecord> {
        self.records(InstanceId(0))
    }

    fn attach(&self, full: &FullJid, id: SessionId, bounds: Bounds) -> Inbox {
        let (mailbox, inbox) = mailbox(id, bounds);
        self.sessions.pin().insert(full.as_str().into(), Arc::new(mailbox));
        inbox
    }

    fn detach(&self, full: &FullJid, id: SessionId) {
        // Another session may have taken the full JID meanwhile: only what is still ours goes.
        self.sessions.pin().remove_if(full.as_str(), |_, mailbox| mailbox.id == id).ok();
    }

    fn report(&self, _: &Arc<Envelope>, _: bool) -> bool {
        false
    }

    fn request(&self, _: InstanceId, _: Bytes, _: Duration) -> BoxFuture<'static, Option<Bytes>> {
        Box::pin(ready(None))
    }

    fn notify(&self, _: InstanceId, _: Bytes) {}

    fn members(&self) -> Arc<Members> {
        Arc::default()
    }

    fn absent(&self) -> Vec<(InstanceId, Instant)> {
        Vec::new()
    }

    fn end(&self, _: InstanceId) {}

    fn is_gone(&self, _: InstanceId) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use starling_xmpp::{
        error::StreamCondition,
        jid::Jid,
        stanza::{Kind, MessageType, PresenceType},
    };

    use super::*;
    use crate::{Parcel, Tracking};

    const BOUNDS: Bounds = Bounds { stanzas: 2, bytes: 100 };

    fn envelope(size: usize) -> Arc<Envelope> {
        Arc::new(Envelope::new(None, romeo(), Kind::Message(MessageType::Chat), vec![b' '; size]))
    }

    fn kept() -> Arc<Envelope> {
        let tracking = Tracking::new(1, true, Arc::default());
        Arc::new(Envelope::kept(None, romeo(), Kind::Message(MessageType::Chat), vec![b' '], tracking))
    }

    fn romeo() -> Jid {
        "romeo@example.net/orchard".parse().unwrap()
    }

    fn juliet() -> FullJid {
        "juliet@example.com/balcony".parse().unwrap()
    }

    #[test]
    fn a_full_queue_refuses_by_stanzas_and_by_bytes_and_takes_again_after_it_was_written() {
        let link = LocalLink::new();
        let mut inbox = link.attach(&juliet(), SessionId(1), BOUNDS);
        let send = |size| link.send_here("juliet@example.com/balcony", &envelope(size));
        assert_eq!([send(1), send(1), send(1)], [Outcome::Queued, Outcome::Queued, Outcome::Full]);
        assert!(inbox.try_recv().is_some() && inbox.try_recv().is_some() && inbox.try_recv().is_none());
        inbox.left(2, 2);
        assert_eq!([send(150), send(1)], [Outcome::Queued, Outcome::Full]);
        inbox.try_recv();
        assert_eq!(send(1), Outcome::Full, "what is taken from the queue still counts until it is written");
        inbox.left(1, 150);
        assert_eq!(send(1), Outcome::Queued);
        assert!(!inbox.has_backlog(), "nothing of this was kept");
    }

    #[test]
    fn what_is_kept_goes_to_the_store_behind_what_did_not_fit_until_the_backlog_is_fetched() {
        let link = LocalLink::new();
        let mut inbox = link.attach(&juliet(), SessionId(1), BOUNDS);
        let send = || link.send_here("juliet@example.com/balcony", &kept());
        assert_eq!([send(), send(), send()], [Outcome::Queued, Outcome::Queued, Outcome::Full]);
        assert!(inbox.has_backlog() && !inbox.has_room());
        inbox.try_recv();
        inbox.try_recv();
        inbox.left(2, 2);
        assert_eq!(send(), Outcome::Full, "it would overtake the one in the store");
        assert_eq!(link.send_here("juliet@example.com/balcony", &envelope(1)), Outcome::Queued);
        inbox.begin_backlog();
        assert_eq!(send(), Outcome::Full, "what the store is asked for may be older, and may not fit into one answer");
        inbox.end_backlog();
        assert_eq!(send(), Outcome::Queued);
        inbox.begin_backlog();
        assert!(link.poke_here("juliet@example.com/balcony", SessionId(1)));
        inbox.end_backlog();
        assert!(inbox.has_backlog(), "more was written while the store was asked");
        inbox.begin_backlog();
        inbox.end_backlog();
        assert!(
            link.poke_here("juliet@example.com/balcony", SessionId(1))
                && !link.poke_here("juliet@example.com/balcony", SessionId(2))
        );
        assert_eq!(send(), Outcome::Full);
    }

    #[test]
    fn presence_that_does_not_fit_is_told_of_once() {
        let link = LocalLink::new();
        let inbox = link.attach(&juliet(), SessionId(1), BOUNDS);
        let presence = || Arc::new(Envelope::new(None, romeo(), Kind::Presence(PresenceType::Available), vec![b' ']));
        let sent: Vec<_> = (0..3).map(|_| link.send_here("juliet@example.com/balcony", &presence())).collect();
        assert_eq!(sent, [Outcome::Queued, Outcome::Queued, Outcome::Full]);
        assert!(inbox.has_missed_presence() && !inbox.has_missed_presence());
    }

    #[test]
    fn another_domain_is_reached_by_whoever_speaks_for_it() {
        let link = LocalLink::new();
        assert_eq!(link.send_domain("example.net", &envelope(1)), Outcome::NoSession);
        let mut inbox = link.attach_domain("example.net", BOUNDS);
        assert_eq!(link.send_domain("example.net", &envelope(1)), Outcome::Queued);
        assert!(inbox.try_recv().is_some());
        drop(inbox);
        assert_eq!(link.send_domain("example.net", &envelope(1)), Outcome::NoSession);
    }

    #[test]
    fn who_is_not_attached_gets_nothing_and_the_sender_is_told() {
        let link = LocalLink::new();
        assert_eq!(link.send_here("juliet@example.com/balcony", &envelope(1)), Outcome::NoSession);
        drop(link.attach(&juliet(), SessionId(1), BOUNDS));
        assert_eq!(link.send_here("juliet@example.com/balcony", &envelope(1)), Outcome::NoSession);
    }

    #[test]
    fn a_replaced_session_cannot_detach_its_successor() {
        let link = LocalLink::new();
        let _old = link.attach(&juliet(), SessionId(1), BOUNDS);
        let _new = link.attach(&juliet(), SessionId(2), BOUNDS);
        link.detach(&juliet(), SessionId(1));
        assert_eq!(link.send_here("juliet@example.com/balcony", &envelope(1)), Outcome::Queued);
        link.detach(&juliet(), SessionId(2));
        assert_eq!(link.send_here("juliet@example.com/balcony", &envelope(1)), Outcome::NoSession);
        assert!(link.is_empty());
    }

    #[tokio::test]
    async fn a_close_reaches_a_session_that_waits_and_one_whose_queue_is_full() {
        for queued in [0, 2] {
            let link = LocalLink::new();
            let mut inbox = link.attach(&juliet(), SessionId(1), BOUNDS);
            for _ in 0..queued {
                link.send_here("juliet@example.com/balcony", &envelope(1));
            }
            assert!(link.close_here("juliet@example.com/balcony", SessionId(1), StreamCondition::Conflict.into()));
            assert!(link.close_here("juliet@example.com/balcony", SessionId(1), StreamCondition::Reset.into()));
            for n in 0..queued.max(1) {
                let parcel = poll_fn(|cx| inbox.poll_recv(cx)).await;
                assert_eq!(matches!(parcel, Some(Parcel::Stanza(_))), n < queued);
            }
            assert_eq!(inbox.closing().map(|error| error.condition), Some(StreamCondition::Conflict));
        }
        let link = LocalLink::new();
        let mut inbox = link.attach(&juliet(), SessionId(1), BOUNDS);
        assert!(!link.close_here("juliet@example.com/balcony", SessionId(9), StreamCondition::Conflict.into()));
        poll_fn(|cx| {
            assert!(inbox.poll_recv(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
}
