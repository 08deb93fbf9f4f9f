//! The path of a message from a client to an account of this server.
//!
//! ```text
//!  blocked? ─► who is there (registry) ─► RFC 6121 §8.5 (deliver) ─► id, stamp ─► sessions, or pending in the store
//!                                                                       └─► copies (XEP-0280) · rows · ledger
//! ```
//!
//! Nothing here waits where everything that has to be known is in memory. Where it is not, [`Need`] says what to ask for,
//! and the message is tried again.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Instant};

use smallvec::SmallVec;
use starling_link::{Delivery, Envelope, Settled, Tracking};
use starling_registry::{SessionRecord, Sessions};
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::{Jid, bare_str},
    stanza::{Kind, MessageType, Stanza},
};
use tracing::warn;

use crate::{
    BackendAway, Fate, Session, Step,
    copies::{self, Direction, Facts, Keep, Original, Recipient},
    deliver::{Decision, Recipients, decide},
    ledger::{Journaled, Ledger, PAUSE},
    offline::Admission,
    privacy::{self, Check},
    stamp,
};

/// What has to be known, or to have happened, before a message can be delivered.
enum Need {
    /// What the privacy lists of both say.
    Lists,
    /// The sessions of the recipient.
    Sessions,
    /// The sender's own sessions.
    Own,
    /// Whether the recipient exists, and how many messages wait for it.
    Account,
    /// An earlier message for it comes back from where its session was before, or stays there.
    Order,
}

/// What was asked for on behalf of one message.
#[derive(Default)]
struct Known {
    check: Option<Check>,
    sessions: Option<Sessions>,
    own: Option<Sessions>,
    exists: Option<bool>,
    /// How many messages wait for the recipient.
    waiting: Option<u32>,
    in_order: bool,
}

impl Session {
    /// Handles a message to an account of this server, the sender's own among them.
    pub(crate) fn message<'s>(&'s mut self, stanza: Stanza<'s>, out: &'s mut Vec<u8>) -> Step<'s> {
        match self.try_message(&stanza, &Known::default(), out) {
            Ok(fate) => {
                self.service.metrics().ended(Some(stanza.kind), fate);
                Step::Done
            }
            Err(need) => Step::Wait(Box::pin(self.message_later(stanza, need, out))),
        }
    }

    async fn message_later(&mut self, stanza: Stanza<'_>, mut need: Need, out: &mut Vec<u8>) {
        let mut known = Known::default();
        let fate = loop {
            match need {
                Need::Order => self.wait_for_order(&stanza, &mut known, out).await,
                Need::Account => self.wait_for_store(&stanza, out).await,
                Need::Lists | Need::Sessions | Need::Own => {}
            }
            if let Err(error) = self.find_out(&stanza, need, &mut known).await {
                warn!(%error, "Nothing known of a recipient.");
                let error = StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait);
                break self.refuse(&stanza, error, out);
            }
            match self.try_message(&stanza, &known, out) {
                Ok(fate) => break fate,
                Err(next) => need = next,
            }
        };
        self.service.metrics().ended(Some(stanza.kind), fate);
    }

    async fn find_out(&self, stanza: &Stanza<'_>, need: Need, known: &mut Known) -> Result<(), BackendAway> {
        let account = || stanza.to.as_ref().map_or_else(|| self.full.to_bare(), Jid::to_bare);
        match need {
            Need::Lists => {
                let to = stanza.to.clone().unwrap_or_else(|| Jid::from(account()));
                known.check = Some(privacy::checked(&self.service, &self.full, &to, stanza.kind).await?);
            }
            Need::Order => {}
            Need::Own => known.own = Some(self.service.registry().sessions(&self.full.to_bare()).await?),
            Need::Sessions => known.sessions = Some(self.service.registry().sessions(&account()).await?),
            Need::Account => {
                let account = account();
                let store = self.service.store();
                let exists = store.exists(&account).await?;
                if exists {
                    let waiting = self.service.waiting();
                    let count = store.pending(account.as_str(), waiting.limit()).await?;
                    waiting.set(account.as_str(), count);
                    known.waiting = Some(count);
                }
                known.exists = Some(exists);
            }
        }
        Ok(())
    }

    /// Waits until earlier messages for the same account are where they stay. Not for ever: order is then a lesser promise
    /// than an answer.
    async fn wait_for_order(&mut self, stanza: &Stanza<'_>, known: &mut Known, out: &mut Vec<u8>) {
        let account = stanza.to.as_ref().map_or(&*self.account, bare_str).to_owned();
        self.wait_while(|ledger| ledger.has_astray(&account, |_| false), out).await;
        known.in_order = true;
        // They may have changed since.
        known.sessions = None;
    }

    /// Waits until earlier messages for the account of `stanza` are in the store, where those that wait are counted.
    async fn wait_for_store(&mut self, stanza: &Stanza<'_>, out: &mut Vec<u8>) {
        if self.service.registry().are_shared() {
            let account = stanza.to.as_ref().map_or(&*self.account, bare_str).to_owned();
            self.wait_while(|ledger| ledger.has_diverted(&account), out).await;
        }
    }

    async fn wait_while(&mut self, waits: impl Fn(&Ledger) -> bool, out: &mut Vec<u8>) {
        let until = Instant::now() + PAUSE;
        loop {
            let now = Instant::now();
            while self.tend(now, out) {}
            if now >= until || !waits(&self.ledger) {
                return;
            }
            let deadline = self.ledger.deadline(now).map_or(until, |deadline| deadline.min(until));
            let mut first = true;
            let woken = poll_fn(|cx| {
                self.register(cx.waker());
                // What happened before the waker was there has woken nobody.
                let is_changed = !self.is_tended() || !waits(&self.ledger) || !std::mem::take(&mut first);
                if is_changed { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::time::timeout_at(deadline.into(), woken).await.ok();
        }
    }

    fn try_message(&mut self, stanza: &Stanza<'_>, known: &Known, out: &mut Vec<u8>) -> Result<Fate, Need> {
        let Kind::Message(kind) = stanza.kind else { return Ok(Fate::DroppedNobodyWaits) };
        let service = Arc::clone(&self.service);
        // Before it is looked whether earlier messages have been returned.
        let horizon = service.link().horizon();
        let own = Arc::clone(&self.account);
        let own = &*own;
        let account = stanza.to.as_ref().map_or(own, bare_str);
        let mut lists = Lists { each: false, stored: true };
        if account != own
            && let Some(to) = &stanza.to
        {
            match known.check.clone().unwrap_or_else(|| privacy::check(&service, &self.full, to, stanza.kind)) {
                Check::Allow => {}
                Check::Each { stored } => lists = Lists { each: true, stored },
                Check::DenyOut { blocked } => return Ok(self.deny_out(stanza, blocked, out)),
                Check::DenyIn => return Ok(self.refuse(stanza, Condition::ServiceUnavailable.into(), out)),
                Check::Load(_) => return Err(Need::Lists),
            }
        }
        let cached = known.sessions.clone().or_else(|| service.registry().cached(account));
        let Some(sessions) = cached else { return Err(Need::Sessions) };
        let mut facts = copies::facts(stanza).unwrap_or_default();
        if kind == MessageType::Error
            && let (Some(to), Some(id)) = (&stanza.to, &stanza.id)
        {
            facts.answers_copied = service.recent().answers(self.full.as_str(), bare_str(to), id);
        }
        let is_full = stanza.to.as_ref().filter(|to| to.is_full());
        let named = is_full.and_then(|to| sessions.iter().find(|record| record.full.as_str() == to.as_str()));
        let takers = sessions.iter().any(SessionRecord::takes_messages);
        let recipients = match (is_full, named) {
            (Some(_), Some(_)) => Recipients::FullMatch,
            (Some(_), None) => Recipients::FullNoMatch { takers },
            (None, _) if takers => Recipients::BareTakers,
            (None, _) => Recipients::BareNone,
        };
        let (original, targets) = match decide(recipients, stanza.kind) {
            Decision::ToResource => {
                let one = named.map(std::slice::from_ref).unwrap_or_default();
                (named.map_or(Original::Nobody, |record| Original::Session(record.id)), one)
            }
            Decision::ToTakers => (Original::Takers, &sessions[..]),
            Decision::Store => (Original::Nobody, &[][..]),
            Decision::Refuse(condition) => return Ok(self.refuse(stanza, condition.into(), out)),
            Decision::Drop(silence) => return Ok(silence.into()),
            // Not for messages.
            Decision::ToAvailable | Decision::OnBehalf => return Ok(Fate::DroppedNobodyWaits),
        };
        let keep = facts.keep();
        let lets_in = |record: &&SessionRecord| {
            original.went_to(record) && (!lists.each || privacy::takes(&service, record, &self.full, stanza.kind))
        };
        let targets: SmallVec<[&SessionRecord; 4]> = targets.iter().filter(lets_in).collect();
        let goes_to = |instance| targets.iter().any(|record| record.instance == instance);
        if (keep.archive || keep.offline) && !known.in_order && self.ledger.has_astray(account, goes_to) {
            return Err(Need::Order);
        }
        let own_sessions = match (account == own, facts.is_copied(Direction::Sent)) {
            (true, _) => Some(sessions.clone()),
            (false, false) => Some(Sessions::default()),
            (false, true) => known.own.clone().or_else(|| service.registry().cached(own)),
        };
        let Some(own_sessions) = own_sessions else { return Err(Need::Own) };
        if targets.is_empty() {
            if !lists.stored {
                return Ok(self.refuse(stanza, Condition::ServiceUnavailable.into(), out));
            }
            match self.may_wait(account, keep, &facts, &sessions, known)? {
                Wait::Granted => {}
                Wait::Refused(condition) => return Ok(self.refuse(stanza, condition.into(), out)),
                Wait::Pointless => return Ok(Fate::DroppedUnattended),
            }
        }
        if (keep.archive || keep.offline) && service.registry().are_shared() && service.waiting().is_suspect(account) {
            // Its recipient does not keep up. What waits for it by now, wherever it was stored, is counted by the store.
            match known.waiting {
                None => return Err(Need::Account),
                Some(count) if count < service.waiting().limit() => {}
                Some(_) => return Ok(self.refuse(stanza, too_much(), out)),
            }
        }
        if (keep.archive || keep.offline) && self.ledger.refuses() {
            return Ok(self.refuse(stanza, too_much(), out));
        }
        let theirs = if account == own { Recipient::Same } else { Recipient::Account(&sessions) };
        let copied = copies::targets(&facts, Some(self.id), &own_sessions, theirs, original).next().is_some();
        let sent = Sent { keep, horizon, copied };
        let (envelope, fate) = self.send_message(stanza, account, sent, targets.iter().copied(), out);
        if let Some(envelope) = envelope {
            let original = if fate == Fate::Delivered { original } else { Original::Nobody };
            self.copy(stanza, &facts, &envelope, (&own_sessions, &sessions), (original, lists.each));
        }
        Ok(fate)
    }

    /// RFC 6121 §8.5.2.2.1: nobody is there to take it. The account must exist, and not have too many already.
    fn may_wait(
        &self,
        account: &str,
        keep: Keep,
        facts: &Facts,
        sessions: &Sessions,
        known: &Known,
    ) -> Result<Wait, Need> {
        if known.exists == Some(false) {
            return Ok(Wait::Refused(Condition::ServiceUnavailable));
        }
        if !keep.offline {
            // Whether there is such an account does not show: what is not kept is refused, or of no importance later.
            let said = facts.body || facts.content;
            return Ok(if said { Wait::Refused(Condition::ServiceUnavailable) } else { Wait::Pointless });
        }
        // What others store and fetch is not counted here: the store is asked each time.
        if self.service.registry().are_shared() {
            return match known.waiting {
                None => Err(Need::Account),
                Some(count) if count < self.service.waiting().limit() => Ok(Wait::Granted),
                Some(_) => Ok(Wait::Refused(Condition::ResourceConstraint)),
            };
        }
        match self.service.waiting().admit(account) {
            Admission::Granted => Ok(Wait::Granted),
            Admission::Full => Ok(Wait::Refused(Condition::ResourceConstraint)),
            Admission::Unknown if known.exists.is_none() => Err(Need::Account),
            // Forgotten again since it was asked for: one more or less does not matter.
            Admission::Unknown => {
                debug_assert!(known.exists == Some(true) || !sessions.is_empty());
                Ok(Wait::Granted)
            }
        }
    }

    /// Hands the message to its targets, and what is kept to the journal and the ledger. The envelope, if anybody got it.
    fn send_message<'t>(
        &mut self,
        stanza: &Stanza<'_>,
        account: &str,
        sent: Sent,
        targets: impl Iterator<Item = &'t SessionRecord>,
        out: &mut Vec<u8>,
    ) -> (Option<Arc<Envelope>>, Fate) {
        let keep = sent.keep;
        let service = Arc::clone(&self.service);
        let archived = keep.archive && service.archives();
        if !archived && !keep.offline {
            let envelope = self.envelope(stanza);
            let fate = self.send_to(targets, stanza, &envelope, out);
            return ((fate == Fate::Delivered).then_some(envelope), fate);
        }
        let envelope = self.kept_envelope(stanza, account, archived, sent);
        let Some(tracking) = &envelope.tracking else { return (None, Fate::DroppedNobodyWaits) };
        let mut targets = targets.peekable();
        let meant_for_sessions = targets.peek().is_some();
        let delivery = if self.ledger.has_diverted(account) || service.untold().has(account) {
            Delivery { queued: 0, full: true }
        } else {
            service.link().deliver(&mut targets, &envelope)
        };
        let returned = tracking.release() == Settled::Returned;
        if returned && !keep.offline && !tracking.is_journaled() {
            // It was for sessions alone, and they are gone, or do not keep up.
            let error = if delivery.full { too_much() } else { Condition::ServiceUnavailable.into() };
            return (None, self.refuse(stanza, error, out));
        }
        if returned && meant_for_sessions {
            if service.registry().are_shared() {
                // Counted by nobody else: it went straight to the store, behind others.
                service.waiting().note(account);
            } else if !service.waiting().admit_unasked(account) {
                return (None, self.refuse(stanza, too_much(), out));
            }
        }
        let journaled = if returned || archived && tracking.is_answered() {
            service.write(&envelope)
        } else if !tracking.is_answered() && service.is_journal_full() {
            Journaled::Refused
        } else {
            Journaled::Later
        };
        self.ledger.hold(Arc::clone(&envelope), journaled, returned, Instant::now());
        (Some(envelope), if returned { Fate::Stored } else { Fate::Delivered })
    }

    fn kept_envelope(&self, stanza: &Stanza<'_>, account: &str, archived: bool, sent: Sent) -> Arc<Envelope> {
        let raw = &stanza.raw;
        let id = self.service.next_id();
        let mut bytes = Vec::with_capacity(raw.as_str().len() + self.full.as_str().len() + account.len() + 140);
        let is_ours = |domain: &str| self.service.serves(domain);
        stamp::stamp_message(raw, self.full.as_str(), self.lang.as_deref(), Some((account, id)), is_ours, &mut bytes);
        let mut tracking = Tracking::new(id.0, archived, Arc::clone(self.ledger.entry()));
        tracking.origin = self.origin;
        tracking.horizon = sent.horizon;
        let from = Jid::from(self.full.clone());
        let mut envelope = Envelope::kept(stanza.to.clone(), from, stanza.kind, bytes, tracking);
        envelope.copied = sent.copied;
        Arc::new(envelope)
    }

    /// XEP-0280: copies for the other resources of both sides.
    fn copy(
        &self,
        stanza: &Stanza<'_>,
        facts: &Facts,
        envelope: &Envelope,
        (own_sessions, sessions): (&Sessions, &Sessions),
        (original, each): (Original, bool),
    ) {
        let Kind::Message(kind) = stanza.kind else { return };
        let own = &*self.account;
        let account = stanza.to.as_ref().map_or(own, bare_str);
        let theirs = if account == own { Recipient::Same } else { Recipient::Account(sessions) };
        let mut copied = false;
        for copy in copies::targets(facts, Some(self.id), own_sessions, theirs, original) {
            let to = copy.record.full.as_str();
            let of = match copy.direction {
                Direction::Sent => own,
                // A session's own list holds for copies as for the message itself.
                Direction::Received if each && !privacy::takes(&self.service, copy.record, &self.full, stanza.kind) => {
                    continue;
                }
                Direction::Received => account,
            };
            let bytes = copies::carbon(copy.direction, of, to, kind, &envelope.stanza);
            let Ok(from) = starling_xmpp::jid::parse(of) else { continue };
            let target = Some(Jid::from(copy.record.full.clone()));
            self.service.send(copy.record, &Arc::new(Envelope::new(target, from, stanza.kind, bytes)));
            copied = true;
        }
        if copied && let (Some(to), Some(id)) = (&stanza.to, &stanza.id) {
            self.service.recent().note(own, to.as_str(), id);
        }
    }
}

/// How a message is sent.
#[derive(Clone, Copy)]
struct Sent {
    keep: Keep,
    /// See [`Tracking::horizon`].
    horizon: u64,
    /// Other sessions of both sides get copies.
    copied: bool,
}

/// What privacy lists leave open.
#[derive(Clone, Copy)]
struct Lists {
    /// Sessions have lists of their own.
    each: bool,
    /// It may wait for a session to come.
    stored: bool,
}

/// Whether a message may wait for its recipient.
enum Wait {
    Granted,
    Refused(Condition),
    /// It says nothing that matters later.
    Pointless,
}

fn too_much() -> StanzaError {
    StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorType::Wait)
}
