//! One bound resource: what it may send, and where that goes.

use std::{future::Future, pin::Pin, sync::Arc};

use minidom::Element;
use starling_link::{Envelope, Origin, Outcome};
use starling_registry::{SessionId, SessionRecord, Sessions};
use starling_xml::{RawElement, Writer};
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError, StreamCondition, StreamError},
    jid::{AddressCache, FullJid, Jid, bare_str},
    ns,
    stanza::{IqType, Kind, Malformed, MessageType, PresenceType, Refusal, Stanza, write_reply_header},
};
use tracing::warn;

use crate::{
    Fate, Service,
    deliver::{Decision, Recipients, decide},
    extension::{Answer, Ended, Request, Scope, Seen, Verdict},
    ledger::Ledger,
    presence,
    privacy::{self, Check},
    stamp,
};

/// A bound resource. The connection feeds it with [`Session::handle`] and ends it with [`Session::end`].
pub struct Session {
    pub(crate) service: Arc<Service>,
    pub(crate) full: FullJid,
    /// The bare JID of it.
    pub(crate) account: Arc<str>,
    pub(crate) id: SessionId,
    /// `xml:lang` of the client's stream, for stanzas that have none of their own (RFC 6120 §8.1.5).
    pub(crate) lang: Option<Box<str>>,
    /// The priority of the presence it sent last; `None`: unavailable.
    pub(crate) priority: Option<i8>,
    /// Whom it sent presence to directly, and who has to hear of its end (RFC 6121 §4.6.3).
    pub(crate) directed: Vec<Jid>,
    /// Since [`Session::has_new_details`] was asked.
    pub(crate) details_changed: bool,
    /// What it sent and what of it is safe.
    pub(crate) ledger: Ledger,
    /// What the stanza that is being handled is in the client's stream, if that can be resumed elsewhere.
    pub(crate) origin: Option<Origin>,
    addresses: AddressCache,
}

/// What handling a stanza took.
pub enum Step<'s> {
    /// It is done.
    Done,
    /// It is done when the future ends; the next stanza waits for that (RFC 6120 §10.1).
    Wait(Pin<Box<dyn Future<Output = ()> + Send + 's>>),
}

/// Whom a stanza is for, seen from the session that sends it.
enum Place {
    /// The server itself: a domain that it serves, without a localpart.
    Server,
    /// The account of the session, by its bare JID or by nothing at all.
    OwnAccount,
    /// An account of a domain that is served here, or one of its resources.
    Account,
    /// Another domain.
    Elsewhere,
}

impl Session {
    pub(crate) fn new(service: Arc<Service>, full: FullJid, id: SessionId) -> Self {
        let account = bare_str(&full).into();
        Self {
            service,
            full,
            account,
            id,
            lang: None,
            priority: None,
            directed: Vec::new(),
            details_changed: false,
            ledger: Ledger::default(),
            origin: None,
            addresses: AddressCache::default(),
        }
    }

    /// The full JID that is bound.
    #[must_use]
    pub const fn full(&self) -> &FullJid {
        &self.full
    }

    /// Whether it takes messages to the bare JID (RFC 6121 §8.5.2.1.1).
    pub(crate) fn takes_messages(&self) -> bool {
        self.priority.is_some_and(|priority| priority >= 0)
    }

    /// Sets the language of the client's stream (RFC 6120 §4.7.4).
    pub fn set_lang(&mut self, lang: Option<String>) {
        self.lang = lang.map(String::into_boxed_str);
    }

    /// Says what the next stanza is in the client's stream, if that can be resumed elsewhere.
    pub const fn set_origin(&mut self, origin: Option<Origin>) {
        self.origin = origin;
    }

    /// Takes what the client sent after it bound its resource. Answers to the client itself are appended to `out`, in
    /// portable form.
    ///
    /// # Errors
    /// The stream error that ends the stream: `invalid-from`, `unsupported-stanza-type`, …
    pub fn handle<'s>(&'s mut self, raw: RawElement<'s>, out: &'s mut Vec<u8>) -> Result<Step<'s>, StreamError> {
        // RFC 6120 §4.8.3: another content namespace than the stream's own holds no stanza of it.
        let parsed = if raw.namespace() == ns::CLIENT {
            Stanza::parse_with(raw, &mut self.addresses)
        } else {
            Err(Malformed::NotAStanza)
        };
        let this: &'s mut Self = self;
        this.ledger.handled();
        let metrics = this.service.metrics();
        let stanza = match parsed {
            Ok(stanza) => stanza,
            Err(malformed) => {
                metrics.received(None);
                return match malformed.refusal() {
                    Refusal::Stanza(error) => {
                        let answered = error.reply(&raw, None, Some(this.full.as_str()), out);
                        metrics.ended(None, if answered { Fate::Refused } else { Fate::DroppedNobodyWaits });
                        Ok(Step::Done)
                    }
                    Refusal::Stream(error) => {
                        metrics.ended(None, Fate::StreamEnded);
                        Err(error)
                    }
                };
            }
        };
        metrics.received(Some(stanza.kind));
        if !this.may_send_as(stanza.from.as_ref()) {
            metrics.ended(Some(stanza.kind), Fate::StreamEnded);
            return Err(StreamCondition::InvalidFrom.into());
        }
        this.route(stanza, out)
    }

    /// RFC 6120 §8.1.2.1: a client may leave `from` out, or write its own full or bare JID.
    fn may_send_as(&self, from: Option<&Jid>) -> bool {
        from.is_none_or(|from| from.as_str() == self.full.as_str() || from.as_str() == bare_str(&self.full))
    }

    fn place(&self, to: Option<&Jid>) -> Place {
        let Some(to) = to else { return Place::OwnAccount };
        if to.as_str() == bare_str(&self.full) {
            Place::OwnAccount
        } else if !self.service.serves(to.domain().as_str()) {
            Place::Elsewhere
        } else if to.node().is_none() {
            Place::Server
        } else {
            Place::Account
        }
    }

    /// RFC 6120 §10.
    fn route<'s>(&'s mut self, stanza: Stanza<'s>, out: &'s mut Vec<u8>) -> Result<Step<'s>, StreamError> {
        let kind = stanza.kind;
        let fate = match (kind, self.place(stanza.to.as_ref())) {
            (Kind::Presence(presence), _) => {
                // §10.3.2: presence without `to` is for those who are subscribed; with `to` it is for that address.
                if stanza.to.is_none() {
                    self.service.extensions().presence(&self.seen(&stanza));
                    if presence == PresenceType::Available && !self.takes_messages() {
                        // Kept messages go to the store from now on, until those that wait there have been fetched.
                        self.poke();
                    }
                }
                let to = stanza.to.is_some();
                return Ok(Step::Wait(Box::pin(presence::handle(self, stanza, presence, to, out))));
            }
            (Kind::Iq(IqType::Get | IqType::Set), Place::Server) => return Ok(self.ask(stanza, Scope::Server, out)),
            (Kind::Iq(IqType::Get | IqType::Set), Place::OwnAccount) => {
                return Ok(self.ask(stanza, Scope::OwnAccount, out));
            }
            (Kind::Iq(IqType::Result | IqType::Error), Place::Server)
                if self.service.extensions().reply(&self.seen(&stanza)) =>
            {
                Fate::Answered
            }
            (_, Place::Server | Place::Elsewhere) => self.unreachable(&stanza, out),
            (Kind::Message(_), Place::OwnAccount | Place::Account) => return Ok(self.message(stanza, out)),
            (_, Place::OwnAccount | Place::Account) => return Ok(self.to_account(stanza, out)),
        };
        self.service.metrics().ended(Some(kind), fate);
        Ok(Step::Done)
    }

    fn seen<'s>(&'s self, stanza: &'s Stanza<'s>) -> Seen<'s> {
        Seen { stanza, from: &self.full, session: self.id, service: &self.service }
    }

    /// Nobody at the address takes stanzas of this kind.
    fn unreachable(&self, stanza: &Stanza<'_>, out: &mut Vec<u8>) -> Fate {
        let condition = match self.place(stanza.to.as_ref()) {
            Place::Elsewhere => Condition::RemoteServerNotFound,
            Place::Server | Place::OwnAccount | Place::Account => Condition::ServiceUnavailable,
        };
        self.refuse(stanza, condition.into(), out)
    }

    /// Sends the stanza back as an error, unless nobody waits for one.
    pub(crate) fn refuse(&self, stanza: &Stanza<'_>, error: StanzaError, out: &mut Vec<u8>) -> Fate {
        if error.reply(&stanza.raw, None, Some(self.full.as_str()), out) {
            Fate::Refused
        } else {
            Fate::DroppedNobodyWaits
        }
    }

    /// XEP-0191 §3.3: the client's own lists hold it back.
    pub(crate) fn deny_out(&self, stanza: &Stanza<'_>, blocked: bool, out: &mut Vec<u8>) -> Fate {
        if privacy::refuse_out(&stanza.raw, self.full.as_str(), blocked, out) {
            Fate::Refused
        } else {
            Fate::DroppedNobodyWaits
        }
    }

    /// RFC 6121 §8.5: a stanza for an account of this server, by its bare JID or one of its full JIDs.
    fn to_account<'s>(&'s self, stanza: Stanza<'s>, out: &'s mut Vec<u8>) -> Step<'s> {
        let Some(to) = &stanza.to else { return self.to_allowed(stanza, out) };
        let denied = match privacy::check(&self.service, &self.full, to, stanza.kind) {
            // What is for the bare JID is answered by the server, which has no list of its own.
            Check::Allow | Check::Each { .. } => return self.to_allowed(stanza, out),
            Check::DenyOut { blocked } => self.deny_out(&stanza, blocked, out),
            Check::DenyIn => self.deny_in(&stanza, out),
            Check::Load(accounts) => {
                return Step::Wait(Box::pin(async move {
                    let checked = match &stanza.to {
                        Some(to) => privacy::checked(&self.service, &self.full, to, stanza.kind).await,
                        None => Ok(Check::Allow),
                    };
                    let fate = match checked {
                        Ok(Check::DenyOut { blocked }) => self.deny_out(&stanza, blocked, out),
                        Ok(Check::DenyIn) => self.deny_in(&stanza, out),
                        Ok(Check::Allow | Check::Each { .. } | Check::Load(_)) => {
                            if let Step::Wait(more) = self.to_allowed(stanza, out) {
                                more.await;
                            }
                            return;
                        }
                        Err(error) => {
                            warn!(?accounts, %error, "No privacy lists.");
                            let error = StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait);
                            self.refuse(&stanza, error, out)
                        }
                    };
                    self.service.metrics().ended(Some(stanza.kind), fate);
                }));
            }
        };
        self.service.metrics().ended(Some(stanza.kind), denied);
        Step::Done
    }

    /// XEP-0191 §3.3: the recipient's lists keep it out. It looks as if nobody were there.
    fn deny_in(&self, stanza: &Stanza<'_>, out: &mut Vec<u8>) -> Fate {
        match stanza.kind {
            Kind::Iq(IqType::Get | IqType::Set) => self.refuse(stanza, Condition::ServiceUnavailable.into(), out),
            _ => Fate::DroppedNobodyWaits,
        }
    }

    fn to_allowed<'s>(&'s self, stanza: Stanza<'s>, out: &'s mut Vec<u8>) -> Step<'s> {
        // Without `to`, a message is for the sender's own account (RFC 6120 §10.3.1).
        let is_full = stanza.to.as_ref().is_some_and(Jid::is_full);
        let envelope = self.envelope(&stanza);
        if is_full {
            let target = stanza.to.as_ref().map_or("", Jid::as_str);
            // Most are here, and then nobody is asked where.
            match self.service.link().send_here(target, &envelope) {
                Outcome::Queued => {
                    self.service.metrics().ended(Some(stanza.kind), Fate::Delivered);
                    return Step::Done;
                }
                Outcome::Full => {
                    let fate = self.full_queue(&stanza, out);
                    self.service.metrics().ended(Some(stanza.kind), fate);
                    return Step::Done;
                }
                Outcome::NoSession => {}
            }
        }
        let account = stanza.to.as_ref().map_or_else(|| bare_str(&self.full), bare_str);
        if let Some(sessions) = self.service.registry().cached(account) {
            return self.to_sessions(stanza, envelope, &sessions, is_full, out);
        }
        Step::Wait(Box::pin(async move {
            let bare = stanza.to.as_ref().map_or_else(|| self.full.to_bare(), Jid::to_bare);
            match self.service.registry().sessions(&bare).await {
                Ok(sessions) => {
                    if let Step::Wait(more) = self.to_sessions(stanza, envelope, &sessions, is_full, out) {
                        more.await;
                    }
                }
                Err(error) => {
                    warn!(%error, "No look-up of a recipient.");
                    let error = StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait);
                    let fate = self.refuse(&stanza, error, out);
                    self.service.metrics().ended(Some(stanza.kind), fate);
                }
            }
        }))
    }

    fn to_sessions<'s>(
        &'s self,
        stanza: Stanza<'s>,
        envelope: Arc<Envelope>,
        sessions: &Sessions,
        is_full: bool,
        out: &'s mut Vec<u8>,
    ) -> Step<'s> {
        let named = stanza.to.as_ref().filter(|_| is_full);
        let named = named.and_then(|to| sessions.iter().find(|record| record.full.as_str() == to.as_str()));
        let takers = sessions.iter().any(SessionRecord::takes_messages);
        let recipients = match (is_full, named, takers) {
            (true, Some(_), _) => Recipients::FullMatch,
            (true, None, takers) => Recipients::FullNoMatch { takers },
            (false, _, true) => Recipients::BareTakers,
            (false, _, false) => Recipients::BareNone,
        };
        let fate = match decide(recipients, stanza.kind) {
            Decision::ToResource => self.send_to(named.into_iter(), &stanza, &envelope, out),
            Decision::ToTakers | Decision::Store => {
                let targets = sessions.iter().filter(|record| record.takes_messages());
                self.send_to(targets, &stanza, &envelope, out)
            }
            Decision::ToAvailable => {
                let targets = sessions.iter().filter(|record| record.priority.is_some());
                self.send_to(targets, &stanza, &envelope, out)
            }
            Decision::OnBehalf => return self.ask(stanza, Scope::OtherAccount, out),
            Decision::Refuse(condition) => self.refuse(&stanza, condition.into(), out),
            Decision::Drop(silence) => silence.into(),
        };
        self.service.metrics().ended(Some(stanza.kind), fate);
        Step::Done
    }

    /// One envelope to many resources. It is delivered when one of them takes it.
    pub(crate) fn send_to<'t>(
        &self,
        mut targets: impl Iterator<Item = &'t SessionRecord>,
        stanza: &Stanza<'_>,
        envelope: &Arc<Envelope>,
        out: &mut Vec<u8>,
    ) -> Fate {
        match (self.service.link().deliver(&mut targets, envelope).outcome(), stanza.kind) {
            (Outcome::Queued, _) => Fate::Delivered,
            (Outcome::Full, _) => self.full_queue(stanza, out),
            (Outcome::NoSession, Kind::Presence(_) | Kind::Message(MessageType::Headline)) => Fate::DroppedUnattended,
            // They went between the look-up and now.
            (Outcome::NoSession, _) => self.refuse(stanza, Condition::ServiceUnavailable.into(), out),
        }
    }

    /// The recipient's client does not keep up.
    fn full_queue(&self, stanza: &Stanza<'_>, out: &mut Vec<u8>) -> Fate {
        match stanza.kind {
            Kind::Presence(_) => Fate::DroppedFull,
            Kind::Message(_) | Kind::Iq(_) => self.refuse(stanza, Condition::ResourceConstraint.into(), out),
        }
    }

    /// The stanza as it goes to others: stamped with the full JID (RFC 6120 §8.1.2.1) and, if it has none, with the
    /// stream's language (§8.1.5). Encoded once, however many receive it.
    pub(crate) fn envelope(&self, stanza: &Stanza<'_>) -> Arc<Envelope> {
        let mut bytes = Vec::with_capacity(stanza.raw.as_str().len() + self.full.as_str().len() + 48);
        let (raw, from, lang) = (&stanza.raw, self.full.as_str(), self.lang.as_deref());
        if let Kind::Message(_) = stanza.kind {
            stamp::stamp_message(raw, from, lang, None, |domain| self.service.serves(domain), &mut bytes);
        } else {
            stamp::stamp(raw, from, lang, &mut bytes);
        }
        let from = Jid::from(self.full.clone());
        Arc::new(Envelope::new(stanza.to.clone(), from, stanza.kind, bytes))
    }

    /// A request that the server answers, through the extension containers (RFC 6120 §8.4).
    fn ask<'s>(&'s self, stanza: Stanza<'s>, scope: Scope, out: &'s mut Vec<u8>) -> Step<'s> {
        let service = &self.service;
        let request = Request { stanza: &stanza, scope, from: &self.full, session: self.id, service };
        let answer = match service.extensions().handle(&request) {
            Verdict::Answer(answer) => answer,
            Verdict::Pass => Err(Condition::ServiceUnavailable.into()),
            Verdict::Later(answer) => {
                return Step::Wait(Box::pin(async move {
                    let answer = answer.await;
                    self.answer(&stanza, answer, out);
                }));
            }
        };
        self.answer(&stanza, answer, out);
        Step::Done
    }

    fn answer(&self, stanza: &Stanza<'_>, answer: Answer, out: &mut Vec<u8>) {
        let fate = match answer {
            Ok(payload) => {
                self.write_result(&stanza.raw, payload.as_ref(), out);
                Fate::Answered
            }
            Err(error) => self.refuse(stanza, error, out),
        };
        self.service.metrics().ended(Some(stanza.kind), fate);
    }

    /// RFC 6120 §8.2.3: the result of an iq, from the address that was asked.
    fn write_result(&self, request: &RawElement<'_>, payload: Option<&Element>, out: &mut Vec<u8>) {
        write_reply_header(request, "iq", "result", None, Some(self.full.as_str()), out);
        match payload {
            None => out.extend_from_slice(b"/>"),
            Some(payload) => {
                out.push(b'>');
                Writer::new(out, &starling_xml::Scope::client()).tree(payload);
                out.extend_from_slice(b"</iq>");
            }
        }
    }

    /// Says that messages for the account may wait in the store.
    fn poke(&self) {
        self.service.link().poke(&self.record());
    }

    /// Ends the way to the session: from here on its senders are told that nobody is there.
    pub fn detach(&self) {
        self.service.link().detach(&self.full, self.id);
    }

    /// Ends the session: the resource is given up, and those who saw it available learn that it is gone.
    pub async fn end(mut self) {
        self.detach();
        let was_available = self.priority.is_some();
        presence::gone(&mut self).await;
        match self.service.registry().unbind(&self.full, self.id).await {
            Ok(_) => {}
            Err(error) => warn!(full = %self.full, %error, "Resource not given up; its lease will end."),
        }
        self.service.roster_ends(&self.full.to_bare());
        let Self { service, full, id, .. } = &self;
        let ended = Ended { full, session: *id, was_available, moved: false, service };
        service.extensions().session_ended(&ended).await;
        self.service.metrics().sessions.dec();
    }
}
