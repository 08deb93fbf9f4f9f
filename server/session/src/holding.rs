//! What holders of envelopes say, and where it goes.
//!
//! ```text
//!   a session here:   acknowledged, returned ──┐
//!   another instance: settled, answered ───────┴──► entry: journal ──► rows
//!   what came from another instance ──────────────► a word to its entry; a row by ourselves where that is no more
//! ```

use std::sync::Arc;

use starling_link::{Envelope, Outcome, Sessions, Settled, Tracking};
use starling_registry::{InstanceId, SessionRecord};
use starling_xmpp::{
    error::{Condition, StanzaError},
    jid::{Jid, bare_str},
    stanza::{IqType, Kind, MessageType, Stanza},
};
use tracing::{debug, warn};

use crate::{
    Service,
    keeping::{Kept, KeptChange},
    ledger::Journaled,
};

impl Service {
    /// A client has it: it acknowledged it (XEP-0198), or, if it does not do that, its socket took it.
    pub fn acknowledged(&self, envelope: &Arc<Envelope>) {
        if let Some(tracking) = &envelope.tracking {
            self.settle(envelope, tracking, tracking.acknowledge());
        }
    }

    /// A session that held it has ended, and its client did not say that it has it. A message that is kept goes to the
    /// store, if nobody else holds it; who asked something is told that nobody answers.
    pub fn returned(self: &Arc<Self>, envelope: &Arc<Envelope>) {
        match &envelope.tracking {
            Some(tracking) => self.settle(envelope, tracking, tracking.release()),
            None => self.bounce(envelope),
        }
    }

    /// Hands the rows of a message that entered here to the journal, unless somebody has.
    pub(crate) fn write(&self, envelope: &Arc<Envelope>) -> Journaled {
        let Some(tracking) = &envelope.tracking else { return Journaled::Yes };
        if !tracking.take_to_journal() {
            return Journaled::Yes;
        }
        match self.keep(self.kept(envelope, KeptChange::Entered { sent: true })) {
            Ok(()) => Journaled::Yes,
            Err(_) => {
                tracking.take_back_from_journal();
                Journaled::Refused
            }
        }
    }

    fn kept(&self, envelope: &Arc<Envelope>, change: KeptChange) -> Kept {
        Kept::new(envelope, change, self.instance())
    }

    fn must_keep(&self, kept: Kept) {
        if self.keep(kept.without_fail()).is_err() {
            // Only after the close, behind everything.
            warn!("A message's row was not settled.");
        }
    }

    fn settle(&self, envelope: &Arc<Envelope>, tracking: &Tracking, settled: Settled) {
        let acknowledged = match settled {
            Settled::Nothing => return,
            Settled::Delivered => true,
            Settled::Returned => false,
        };
        if tracking.arrival().is_some() {
            if !self.link().report(envelope, acknowledged) {
                self.settle_row(envelope, acknowledged);
            }
            return;
        }
        if !acknowledged && self.registry().are_shared() {
            self.waiting().note(bare_str(envelope.to.as_ref().unwrap_or(&envelope.from)));
        }
        if acknowledged {
            self.must_keep(self.kept(envelope, KeptChange::Delivered));
        } else if tracking.is_in_flight() {
            self.must_keep(self.kept(envelope, KeptChange::Returned));
        } else if tracking.take_to_journal() {
            self.must_keep(self.kept(envelope, KeptChange::Entered { sent: true }));
        }
        // Else its row, which somebody has handed to the journal, will say that it is pending.
    }

    /// Changes the row of a message that entered elsewhere: to be done if that instance is no more, or cannot be waited for.
    pub(crate) fn settle_row(&self, envelope: &Arc<Envelope>, acknowledged: bool) {
        let change = if acknowledged { KeptChange::Delivered } else { KeptChange::Returned };
        self.must_keep(self.kept(envelope, change));
    }

    /// All other instances that a message was sent to have said whether they hold it.
    pub(crate) fn all_answered(&self, envelope: &Arc<Envelope>) {
        let Some(tracking) = &envelope.tracking else { return };
        if tracking.is_in_flight() {
            // Until now, its row names this instance; if that stays so, no harm is done.
            self.keep(self.kept(envelope, KeptChange::Held)).ok();
        } else if tracking.archived {
            // Refused: the ledger of its session tries again.
            self.write(envelope);
        }
    }

    /// Other instances let go of a message, and this is to be done.
    pub(crate) fn settled_elsewhere(&self, envelope: &Arc<Envelope>, settled: Settled) {
        if let Some(tracking) = &envelope.tracking {
            self.settle(envelope, tracking, settled);
        }
    }

    /// Somebody asked something of a session that has ended without an answer (RFC 6120 §8.2.3): its client may never have
    /// got it. Nothing else is answered: presence is of no use any more, and messages that are not kept are not missed.
    pub(crate) fn bounce(self: &Arc<Self>, envelope: &Envelope) {
        if let Some(answer) = refusal(envelope, Condition::ServiceUnavailable, false) {
            self.send_to_full(answer);
        }
    }

    /// The same, at the instance that it came to, for a stanza that found no session, or no room.
    pub(crate) fn send_back(&self, from: InstanceId, envelope: &Envelope, outcome: Outcome) {
        let condition = match outcome {
            Outcome::Full => Condition::ResourceConstraint,
            Outcome::NoSession | Outcome::Queued => Condition::ServiceUnavailable,
        };
        let Some(answer) = refusal(envelope, condition, true) else { return };
        let Some(Ok(to)) = answer.to.clone().map(Jid::try_into_full) else { return };
        self.link().send_there(from, Sessions::of(&[&to], &answer), &answer);
    }

    /// A stanza for one session, wherever that is by now.
    fn send_to_full(self: &Arc<Self>, envelope: Arc<Envelope>) {
        let Some(to) = envelope.to.clone() else { return };
        if self.link().send_here(to.as_str(), &envelope) != Outcome::NoSession {
            return;
        }
        if let Some(sessions) = self.registry().cached(bare_str(&to)) {
            self.send_to_named(&to, &sessions, &envelope);
            return;
        }
        let service = Arc::clone(self);
        let is_begun = self.later(async move {
            if let Ok(sessions) = service.registry().sessions(&to.to_bare()).await {
                service.send_to_named(&to, &sessions, &envelope);
            }
        });
        if !is_begun {
            debug!("An error is dropped: too many wait for a look-up.");
        }
    }

    fn send_to_named(&self, to: &Jid, sessions: &[SessionRecord], envelope: &Arc<Envelope>) {
        if let Some(named) = sessions.iter().find(|record| record.full.as_str() == to.as_str()) {
            self.send(named, envelope);
        }
    }
}

/// The error that answers a stanza which nobody took: a request and, if `messages`, a message that says something. `None`:
/// nobody waits for one.
fn refusal(envelope: &Envelope, condition: Condition, messages: bool) -> Option<Arc<Envelope>> {
    let kind = match envelope.kind {
        Kind::Iq(IqType::Get | IqType::Set) => Kind::Iq(IqType::Error),
        Kind::Message(MessageType::Normal | MessageType::Chat | MessageType::Groupchat) if messages => {
            Kind::Message(MessageType::Error)
        }
        Kind::Message(_) | Kind::Presence(_) | Kind::Iq(_) => return None,
    };
    // What the server itself asks, and its copies, are from addresses without a resource.
    if !envelope.from.is_full() {
        return None;
    }
    let from = envelope.to.clone()?;
    let mut answer = Vec::new();
    reply(envelope, &condition.into(), &mut answer)
        .then(|| Arc::new(Envelope::new(Some(envelope.from.clone()), from, kind, answer)))
}

/// Answers a stanza that was on its way. `false`: nobody waits for an error.
pub(crate) fn reply(envelope: &Envelope, error: &StanzaError, out: &mut Vec<u8>) -> bool {
    let limits = starling_xml::Limits { stanza_bytes: usize::MAX, ..starling_xml::Limits::default() };
    let text = std::str::from_utf8(&envelope.stanza).unwrap_or_default();
    let Ok(element) = starling_xml::parse(text, &starling_xml::Scope::client(), limits) else { return false };
    let Ok(stanza) = Stanza::parse(element.as_raw()) else { return false };
    error.reply(&stanza.raw, envelope.to.as_ref().map(Jid::as_str), Some(envelope.from.as_str()), out)
}
