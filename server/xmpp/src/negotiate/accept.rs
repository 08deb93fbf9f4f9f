//! The server's side of a client's stream, until a resource is bound: header, STARTTLS, SASL, a new stream, bind.

pub(super) mod features;
mod log_in;
mod register;
mod resume;

use std::sync::Arc;

use starling_xml::{RawElement, StreamHeader};

use super::{TlsInfo, header, wire};
use crate::acks::nonza;
use crate::error::{Condition, StanzaError, StreamCondition, StreamError};
use crate::jid::{self, BareJid, FullJid, ResourcePart};
use crate::random::Random;
use crate::sasl::server::{Exchange, PasswordCheck};
use crate::sasl::{Credentials, Failure, Mechanism};
use crate::stanza::{IqType, Kind, Refusal, Stanza};
use crate::{ns, stanza};

pub use register::NewPassword;

/// What becomes of encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsPolicy {
    /// Nothing but STARTTLS is offered in the clear (RFC 6120 §5.3.1).
    #[default]
    Required,
    /// STARTTLS is offered beside [`AcceptPolicy::mechanisms_without_tls`].
    Optional,
    /// There is no certificate: STARTTLS is not offered.
    Off,
}

/// What a listener offers and allows.
#[derive(Clone)]
pub struct AcceptPolicy {
    /// Served, normalised ([`jid::parse_domain`]). The first speaks to clients that name none that is served.
    pub domains: Vec<String>,
    /// Encryption.
    pub tls: TlsPolicy,
    /// Offered under TLS, in this order; those with channel binding only where there is something to bind to.
    pub mechanisms: Vec<Mechanism>,
    /// Offered in the clear, if [`TlsPolicy`] lets.
    pub mechanisms_without_tls: Vec<Mechanism>,
    /// `<auth/>` elements on one connection; the next ends the stream with `policy-violation` (RFC 6120 §6.4.5).
    pub max_attempts: u32,
    /// Salts of accounts that do not exist are derived from it: secret, and the same on every node.
    pub fake_salt_key: [u8; 32],
    /// Iterations that such accounts pretend to: those of real ones.
    pub fake_iterations: u32,
    /// `xml:lang` of our streams.
    pub lang: String,
    /// Whether clients may make accounts before they log in (XEP-0077), where a password may be sent.
    pub registration: bool,
    /// Stream features that are announced after log-in, beside bind: whole elements, each with its namespace.
    pub more_features: String,
}

impl std::fmt::Debug for AcceptPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { domains, tls, mechanisms, .. } = self;
        let mut debug = f.debug_struct("AcceptPolicy");
        debug.field("domains", domains).field("tls", tls).field("mechanisms", mechanisms).finish_non_exhaustive()
    }
}

/// What came, or became known.
#[derive(Debug)]
pub enum Input<'a> {
    /// The client's stream header.
    Open(&'a StreamHeader<'a>),
    /// A first-level element.
    Element(RawElement<'a>),
    /// The handshake that [`Next::StartTls`] asked for is done.
    TlsReady(TlsInfo),
    /// Answers [`Next::Load`]; `None`: no such account.
    Credentials(Option<Credentials>),
    /// Answers [`Next::Load`] or [`Next::CheckPassword`] when nobody can tell: `temporary-auth-failure`.
    BackendAway,
    /// Answers [`Next::CheckPassword`].
    PasswordChecked(bool),
    /// Answers [`Next::Register`]: the account is there, or what the client is told instead.
    Registered(Result<(), StanzaError>),
    /// Answers [`Next::Bind`].
    Bound(FullJid),
    /// Answers [`Next::Bind`]; the client may ask for another.
    BindRefused(StanzaError),
    /// Answers [`Next::Resume`]: the session is here, and this many of its stanzas are handled.
    Resumed(u32),
    /// Answers [`Next::Resume`]: there is no such session of the account. How many of its stanzas were handled, if that is
    /// known.
    ResumeRefused(Option<u32>),
}

/// What is to be done next; what was written is to be sent first.
#[derive(Debug)]
pub enum Next {
    /// Only more input helps.
    Read,
    /// Send `<proceed/>`, shake hands, restart the reader, give [`Input::TlsReady`]. Bytes read behind `<starttls/>`
    /// are an error, never part of the encrypted stream.
    StartTls,
    /// Answer with [`Input::Credentials`] or [`Input::BackendAway`].
    Load {
        /// Whose.
        account: BareJid,
    },
    /// Answer with [`Input::PasswordChecked`] or [`Input::BackendAway`].
    CheckPassword(PasswordCheck),
    /// `<success/>` is written; the reader restarts (RFC 6120 §6.4.6).
    Authenticated {
        /// Who.
        account: BareJid,
    },
    /// Credentials were wrong; `<failure/>` is written. For limits and logs; go on reading.
    LogInFailed {
        /// Whose, if it was said.
        account: Option<BareJid>,
    },
    /// Make the account, and answer with [`Input::Registered`].
    Register {
        /// Which.
        account: BareJid,
        /// What it is to log in with.
        password: NewPassword,
    },
    /// Answer with [`Input::Bound`] or [`Input::BindRefused`].
    Bind {
        /// Who.
        account: BareJid,
        /// The resource wished for; `None`: make one up.
        resource: Option<ResourcePart>,
    },
    /// Fetch the session, and answer with [`Input::Resumed`] or [`Input::ResumeRefused`].
    Resume {
        /// Who.
        account: BareJid,
        /// The id of the session.
        previd: String,
        /// How many of the server's stanzas the client has handled.
        h: u32,
    },
    /// `<resumed/>` is written: what the client has not handled follows.
    Resumed,
    /// The bind result is written: stanzas follow.
    Established {
        /// The address.
        full: FullJid,
        /// `xml:lang` of the client's stream (RFC 6120 §4.7.4).
        lang: Option<String>,
    },
}

/// One connection's negotiation: one pointer, dropped when established.
pub struct Accept(Box<Inner>);

struct Inner {
    policy: Arc<AcceptPolicy>,
    tls: Option<TlsInfo>,
    random: Box<dyn Random>,
    state: State,
    /// Our header of the present stream is written.
    opened: bool,
    /// Our closing tag is.
    closed: bool,
    attempts: u32,
    domain: Option<String>,
    /// The client's `from`, without resource.
    peer: Option<BareJid>,
    lang: Option<String>,
}

enum State {
    /// A stream header is to come.
    Header(Option<BareJid>),
    /// Features without log-in are offered.
    Open,
    /// `<proceed/>` is written.
    Handshake,
    Exchange(Box<Exchange>, Option<BareJid>, Wait),
    /// An account was asked for by the iq of this id.
    Registering(String),
    /// Bind is offered.
    Authenticated(BareJid),
    /// A resource was asked for by the iq of this id.
    Binding(BareJid, String),
    /// The session of this id was asked for.
    Resuming(BareJid, String),
    Done,
}

/// Whom an exchange waits for.
enum Wait {
    Client,
    Credentials,
    Verdict,
}

impl std::fmt::Debug for Accept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accept").field("attempts", &self.0.attempts).finish_non_exhaustive()
    }
}

impl Accept {
    /// A negotiation at its beginning; `tls` is there when TLS came first.
    #[must_use]
    pub fn new(policy: Arc<AcceptPolicy>, tls: Option<TlsInfo>, random: impl Random + 'static) -> Self {
        Self(Box::new(Inner {
            policy,
            tls,
            random: Box::new(random),
            state: State::Header(None),
            opened: false,
            closed: false,
            attempts: 0,
            domain: None,
            peer: None,
            lang: None,
        }))
    }

    /// A negotiation in which somebody has logged in.
    #[cfg(test)]
    pub(super) fn authenticated(policy: Arc<AcceptPolicy>, account: BareJid) -> Self {
        let mut accept = Self::new(policy, None, crate::random::SystemRandom);
        accept.0.state = State::Authenticated(account);
        accept
    }

    /// Takes what came and writes the answer to `out`.
    ///
    /// # Errors
    /// What ends the stream: give it to [`Accept::fail`].
    pub fn handle(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Result<Next, StreamError> {
        let inner = &mut *self.0;
        match (std::mem::replace(&mut inner.state, State::Done), input) {
            (State::Header(account), Input::Open(header)) => inner.open(header, account, out),
            (State::Open, Input::Element(element)) => inner.unauthenticated(&element, out),
            (State::Handshake, Input::TlsReady(info)) => {
                inner.tls = Some(info);
                inner.restart(None);
                Ok(Next::Read)
            }
            (State::Exchange(exchange, account, Wait::Client), Input::Element(element)) => {
                inner.respond(exchange, account, &element, out)
            }
            (State::Exchange(mut exchange, account, Wait::Credentials), Input::Credentials(credentials)) => {
                let step = exchange.loaded(credentials);
                Ok(inner.step(exchange, account, step, out))
            }
            (State::Exchange(mut exchange, account, Wait::Verdict), Input::PasswordChecked(holds)) => {
                let step = exchange.checked(holds);
                Ok(inner.step(exchange, account, step, out))
            }
            (State::Exchange(_, _, Wait::Credentials | Wait::Verdict), Input::BackendAway) => {
                Ok(inner.refuse(Failure::TemporaryAuthFailure, out))
            }
            (State::Registering(id), Input::Registered(result)) => Ok(inner.registered(&id, result, out)),
            (State::Authenticated(account), Input::Element(element)) if element.namespace() == ns::SM => {
                inner.resume(account, &element, out)
            }
            (State::Resuming(_, previd), Input::Resumed(h)) => {
                nonza::write_resumed(&previd, h, out);
                Ok(Next::Resumed)
            }
            (State::Resuming(account, _), Input::ResumeRefused(h)) => Ok(inner.resume_refused(account, h, out)),
            (State::Authenticated(account), Input::Element(element)) => inner.bind(account, &element, out),
            (State::Binding(_, id), Input::Bound(full)) => {
                out.extend_from_slice(b"<iq type='result'");
                stanza::attribute("id", &id, out);
                out.extend_from_slice(b"><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>");
                wire::element("jid", full.as_str(), out);
                out.extend_from_slice(b"</bind></iq>");
                Ok(Next::Established { full, lang: inner.lang.take() })
            }
            (State::Binding(account, id), Input::BindRefused(error)) => {
                out.extend_from_slice(b"<iq type='error'");
                stanza::attribute("id", &id, out);
                out.push(b'>');
                error.write(out);
                out.extend_from_slice(b"</iq>");
                inner.state = State::Authenticated(account);
                Ok(Next::Read)
            }
            // The caller's mistake, which costs this one stream.
            _ => Err(StreamError::with_text(StreamCondition::InternalServerError, "out of turn")),
        }
    }

    /// Writes an error and the end of the stream, before them the header if none was sent (RFC 6120 §4.9.1.2). Only the
    /// first error is written.
    pub fn fail(&mut self, error: &StreamError, out: &mut Vec<u8>) {
        let inner = &mut *self.0;
        inner.state = State::Done;
        if std::mem::replace(&mut inner.closed, true) {
            return;
        }
        if !inner.opened {
            inner.write_header(out);
        }
        error.write(out);
        out.extend_from_slice(b"</stream:stream>");
    }

    /// Answers the client's closing tag (RFC 6120 §4.4).
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let inner = &mut *self.0;
        inner.state = State::Done;
        if !std::mem::replace(&mut inner.closed, true) && inner.opened {
            out.extend_from_slice(b"</stream:stream>");
        }
    }
}

impl Inner {
    /// RFC 6120 §4.3.3: what follows is a new stream.
    fn restart(&mut self, account: Option<BareJid>) {
        self.state = State::Header(account);
        self.opened = false;
        self.peer = None;
        self.lang = None;
    }

    /// RFC 6120 §4.7 and §4.8.
    fn open(
        &mut self,
        header: &StreamHeader<'_>,
        account: Option<BareJid>,
        out: &mut Vec<u8>,
    ) -> Result<Next, StreamError> {
        self.lang = header.lang().map(std::borrow::Cow::into_owned);
        self.peer = header.attribute("from").and_then(|from| jid::parse(&from).ok()).map(|from| from.to_bare());
        let named = match (header.attribute("to"), self.policy.domains.as_slice()) {
            (Some(to), _) => jid::parse_domain(&to).ok().map(|domain| domain.as_str().to_owned()),
            // A client need not say where there is only one to choose.
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        };
        // After log-in the domain is that of the account.
        let is_served = |domain: &String| {
            let same = account.as_ref().is_none_or(|account| account.domain().as_str() == domain);
            same && self.policy.domains.contains(domain)
        };
        let served = named.filter(is_served);
        let known = served.is_some();
        self.domain = served.or_else(|| self.domain.take());
        if header.namespace() != ns::STREAM {
            return Err(StreamCondition::InvalidNamespace.into());
        }
        if header.name() != "stream" {
            return Err(StreamCondition::BadFormat.into());
        }
        // §4.8.3: the content namespace may also be named by a prefix.
        if header.scope().default_namespace() != ns::CLIENT && header.scope().prefix_of(ns::CLIENT).is_none() {
            return Err(StreamCondition::InvalidNamespace.into());
        }
        // §4.7.5: no version is one before 1.0.
        if !header.attribute("version").is_some_and(|version| header::is_spoken(&version)) {
            return Err(StreamCondition::UnsupportedVersion.into());
        }
        if !known {
            return Err(StreamCondition::HostUnknown.into());
        }
        self.write_header(out);
        if let Some(account) = account {
            features::write_authenticated(&self.policy, out);
            self.state = State::Authenticated(account);
        } else {
            features::write(&self.policy, self.tls.as_ref(), out);
            self.state = State::Open;
        }
        Ok(Next::Read)
    }

    fn write_header(&mut self, out: &mut Vec<u8>) {
        let id = crate::random::hex::<16>(&mut *self.random);
        let attributes = [
            ("id", Some(id.as_str())),
            ("from", self.domain.as_ref().or_else(|| self.policy.domains.first()).map(String::as_str)),
            // §4.7.2; a name that came in the clear is not repeated there.
            ("to", self.peer.as_ref().filter(|_| self.tls.is_some()).map(|peer| peer.as_str())),
            ("version", Some("1.0")),
            ("xml:lang", Some(self.policy.lang.as_str())),
        ];
        header::write(ns::CLIENT, &attributes, out);
        self.opened = true;
    }

    /// RFC 6120 §7.
    fn bind(&mut self, account: BareJid, element: &RawElement<'_>, out: &mut Vec<u8>) -> Result<Next, StreamError> {
        let parsed = Stanza::parse(*element);
        if let Err(malformed) = &parsed
            && let Refusal::Stream(error) = malformed.refusal()
        {
            return Err(error);
        }
        // §7.1: no stanza before a resource is bound.
        let Some(bind) = element.child("bind", ns::BIND).filter(|_| element.name() == "iq") else {
            return Err(StreamError::with_text(StreamCondition::NotAuthorized, "no resource is bound"));
        };
        let wish = bind.child("resource", ns::BIND).map(|resource| resource.text().into_owned());
        let resource = wish.filter(|wish| !wish.is_empty()).map(|wish| jid::parse_resource(&wish)).transpose();
        let error = match (parsed, resource) {
            (Ok(Stanza { kind: Kind::Iq(IqType::Set), id: Some(id), .. }), Ok(resource)) => {
                self.state = State::Binding(account.clone(), id.into_owned());
                return Ok(Next::Bind { account, resource });
            }
            (Err(malformed), _) => malformed.stanza_error().unwrap_or_else(|| Condition::BadRequest.into()),
            // §7.7.2.1: what RFC 7622 does not let be a resource.
            (Ok(_), _) => Condition::BadRequest.into(),
        };
        error.reply(element, None, None, out);
        self.state = State::Authenticated(account);
        Ok(Next::Read)
    }
}
