//! The other end of a stream: a client that logs in, or an external component (XEP-0114).
//!
//! ```text
//!   client:     start ──▶ features ──▶ StartTls ──▶ TlsReady ──▶ features ──▶ SASL ──▶ Restart ──▶ bind ──▶ Established
//!   component:  start ──▶ header with id ──▶ <handshake/> ──▶ Accepted
//! ```

use std::borrow::Cow;

use aws_lc_rs::digest;
use starling_xml::{RawElement, StreamHeader};

use crate::error::{StanzaError, StreamError};
use crate::jid::{self, FullJid, Jid};
use crate::ns;
use crate::random::Random;
use crate::sasl::ChannelBindings;
use crate::sasl::client::{self, Exchange, LogIn, Offer};
use crate::stanza::IqType;

use super::{TlsInfo, header, wire};

/// What came.
#[derive(Debug)]
pub enum Input<'a> {
    /// The server's stream header.
    Open(&'a StreamHeader<'a>),
    /// A first-level element.
    Element(RawElement<'a>),
    /// The handshake that [`Next::StartTls`] asked for is done.
    TlsReady(TlsInfo),
}

/// What is to be done next; what was written is to be sent first, where it says so.
#[derive(Debug)]
pub enum Next {
    /// Send what was written, and read.
    Read,
    /// Shake hands, restart the reader, give [`Input::TlsReady`].
    StartTls,
    /// Logged in: restart the reader, send the new header that was written, and read.
    Restart,
    /// A client's resource is bound.
    Established {
        /// The address.
        full: FullJid,
    },
    /// The component's secret was right.
    Accepted,
}

/// Why it ended. All are final for this connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server ended the stream.
    #[error(transparent)]
    Stream(StreamError),
    /// The server refused the log-in; the name of the condition (RFC 6120 §6.5).
    #[error("log-in refused: {0}")]
    Refused(String),
    /// The server refused the resource.
    #[error("resource refused: {0}")]
    Bind(StanzaError),
    /// STARTTLS is demanded here and not offered, or failed there.
    #[error("the server does not offer STARTTLS")]
    NoTls,
    /// Neither mechanism nor resource binding is offered.
    #[error("the server does not offer {0}")]
    NotOffered(&'static str),
    /// SASL gave up: no mechanism that is good enough, or a server that is not who it says.
    #[error(transparent)]
    Sasl(#[from] client::Error),
    /// What RFC 6120 does not let a server say, or not now.
    #[error("unexpected from the server: {0}")]
    Unexpected(&'static str),
}

/// The negotiation of one connection.
pub struct Initiate {
    role: Role,
    random: Box<dyn Random>,
    state: State,
}

enum Role {
    Client(Box<Client>),
    Component { domain: String, secret: String },
}

struct Client {
    address: Jid,
    password: String,
    start_tls: bool,
    plain: Plain,
    tls: Option<TlsInfo>,
}

/// When the password may be sent by PLAIN.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Never,
    UnderTls,
    Always,
}

enum State {
    Header { authenticated: bool },
    Features { authenticated: bool },
    Proceed,
    Handshake,
    Exchange(Box<Exchange>),
    Binding,
    Secret,
    Done,
}

/// The id of the one iq that a negotiation sends.
const BIND_ID: &str = "bind";

impl std::fmt::Debug for Initiate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Initiate").finish_non_exhaustive()
    }
}

impl Initiate {
    /// A client that logs in as `address`; its resource, if it has one, is asked for. With `start_tls` nothing is said
    /// before TLS is there; `tls` is there when it came first.
    #[must_use]
    pub fn client(
        address: &Jid,
        password: &str,
        start_tls: bool,
        tls: Option<TlsInfo>,
        random: impl Random + 'static,
    ) -> Self {
        let client =
            Client { address: address.clone(), password: password.to_owned(), start_tls, plain: Plain::UnderTls, tls };
        Self {
            role: Role::Client(Box::new(client)),
            random: Box::new(random),
            state: State::Header { authenticated: false },
        }
    }

    /// Lets a client send its password by PLAIN without TLS: whoever listens has it then.
    #[must_use]
    pub fn allow_plain_without_tls(mut self) -> Self {
        if let Role::Client(client) = &mut self.role {
            client.plain = Plain::Always;
        }
        self
    }

    /// Never sends a client's password by PLAIN: for where nobody knows who is at the other end.
    #[must_use]
    pub fn refuse_plain(mut self) -> Self {
        if let Role::Client(client) = &mut self.role {
            client.plain = Plain::Never;
        }
        self
    }

    /// A component of this domain (XEP-0114 §3).
    #[must_use]
    pub fn component(domain: &str, secret: &str) -> Self {
        Self {
            role: Role::Component { domain: domain.to_owned(), secret: secret.to_owned() },
            random: Box::new(crate::random::SystemRandom),
            state: State::Header { authenticated: false },
        }
    }

    /// Writes the first header.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        match &self.role {
            Role::Client(client) => {
                // §4.7.1: who it is is told under TLS only.
                let from = client.tls.is_some().then(|| jid::bare_str(&client.address));
                let to = client.address.domain().as_str();
                header::write(ns::CLIENT, &[("from", from), ("to", Some(to)), ("version", Some("1.0"))], out);
            }
            Role::Component { domain, .. } => {
                header::write(ns::COMPONENT, &[("to", Some(domain))], out);
            }
        }
    }

    /// Takes what came and writes the answer to `out`.
    ///
    /// # Errors
    /// The negotiation is over, close the connection.
    pub fn handle(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Result<Next, Error> {
        let state = std::mem::replace(&mut self.state, State::Done);
        let element = match input {
            Input::Open(header) => {
                let State::Header { authenticated } = state else { return Err(Error::Unexpected("a header")) };
                return self.opened(header, authenticated, out);
            }
            Input::TlsReady(info) => {
                let (State::Handshake, Role::Client(client)) = (state, &mut self.role) else {
                    return Err(Error::Unexpected("TLS"));
                };
                client.tls = Some(info);
                self.state = State::Header { authenticated: false };
                self.start(out);
                return Ok(Next::Read);
            }
            Input::Element(element) => element,
        };
        if let Some(error) = StreamError::parse(&element) {
            return Err(Error::Stream(error));
        }
        match state {
            State::Features { authenticated } if element.is("features", ns::STREAM) => {
                if authenticated {
                    self.ask_to_bind(&element, out)
                } else {
                    self.log_in(&element, out)
                }
            }
            State::Proceed if element.is("proceed", ns::TLS) => {
                self.state = State::Handshake;
                Ok(Next::StartTls)
            }
            State::Proceed if element.is("failure", ns::TLS) => Err(Error::NoTls),
            State::Exchange(exchange) => self.exchange(exchange, &element, out),
            State::Binding => self.bound(&element),
            State::Secret if element.is("handshake", ns::COMPONENT) => Ok(Next::Accepted),
            State::Features { .. }
            | State::Proceed
            | State::Header { .. }
            | State::Handshake
            | State::Secret
            | State::Done => Err(Error::Unexpected("an element out of turn")),
        }
    }

    fn opened(&mut self, header: &StreamHeader<'_>, authenticated: bool, out: &mut Vec<u8>) -> Result<Next, Error> {
        if header.namespace() != ns::STREAM || header.name() != "stream" {
            return Err(Error::Unexpected("the header of something else"));
        }
        match &self.role {
            Role::Client(_) => self.state = State::Features { authenticated },
            Role::Component { secret, .. } => {
                // XEP-0114 §3: the hash is over the text of the id as it stands for, and the secret behind it.
                let id = header.attribute("id").ok_or(Error::Unexpected("a header without id"))?;
                let mut hashed = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
                hashed.update(id.as_bytes());
                hashed.update(secret.as_bytes());
                wire::element("handshake", &crate::random::to_hex(hashed.finish().as_ref()), out);
                self.state = State::Secret;
            }
        }
        Ok(Next::Read)
    }

    fn client_role(&self) -> Result<&Client, Error> {
        match &self.role {
            Role::Client(client) => Ok(client),
            Role::Component { .. } => Err(Error::Unexpected("a client's negotiation")),
        }
    }

    /// RFC 6120 §5.4.1 and §6.4.1.
    fn log_in(&mut self, features: &RawElement<'_>, out: &mut Vec<u8>) -> Result<Next, Error> {
        let Role::Client(client) = &self.role else { return Err(Error::Unexpected("features")) };
        if client.start_tls && client.tls.is_none() {
            if features.child("starttls", ns::TLS).is_none() {
                return Err(Error::NoTls);
            }
            out.extend_from_slice(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            self.state = State::Proceed;
            return Ok(Next::Read);
        }
        let Some(mechanisms) = features.child("mechanisms", ns::SASL) else {
            return Err(Error::NotOffered("a log-in"));
        };
        let mechanisms: Vec<String> = mechanisms
            .children()
            .filter(|child| child.is("mechanism", ns::SASL))
            .map(|child| child.text().into_owned())
            .collect();
        let binding_types = features
            .child("sasl-channel-binding", ns::SASL_CHANNEL_BINDING)
            .into_iter()
            .flat_map(|types| types.children().collect::<Vec<_>>())
            .filter(|child| child.is("channel-binding", ns::SASL_CHANNEL_BINDING))
            .filter_map(|child| child.attribute("type").map(Cow::into_owned))
            .collect();
        let unbound = ChannelBindings::default();
        let log_in = LogIn {
            username: client.address.node().map_or("", |node| node.as_str()),
            password: &client.password,
            authzid: None,
            bindings: client.tls.as_ref().map_or(&unbound, |tls| &tls.bindings),
            plain: match client.plain {
                Plain::Never => false,
                Plain::UnderTls => client.tls.is_some(),
                Plain::Always => true,
            },
        };
        let offer = Offer { mechanisms, binding_types };
        let mut exchange = Exchange::choose(&offer, &log_in, &mut *self.random)?;
        let initial = exchange.initial()?;
        wire::sasl("auth", Some(exchange.mechanism().name()), Some(&initial), out);
        self.state = State::Exchange(Box::new(exchange));
        Ok(Next::Read)
    }

    fn exchange(
        &mut self,
        mut exchange: Box<Exchange>,
        element: &RawElement<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Next, Error> {
        if element.namespace() != ns::SASL {
            return Err(Error::Unexpected("an element out of turn"));
        }
        let data = || wire::decode(&element.text()).map_err(|_| Error::Unexpected("SASL data that is not Base64"));
        match element.name() {
            "challenge" => {
                let answer = exchange.challenge(&data()?.unwrap_or_default())?;
                wire::sasl("response", None, Some(&answer), out);
                self.state = State::Exchange(exchange);
                Ok(Next::Read)
            }
            "success" => {
                exchange.success(data()?.as_deref())?;
                self.state = State::Header { authenticated: true };
                self.start(out);
                Ok(Next::Restart)
            }
            "failure" => {
                let condition = element.children().find(|child| child.name() != "text");
                Err(Error::Refused(condition.map_or_else(String::new, |condition| condition.name().to_owned())))
            }
            _ => Err(Error::Unexpected("an unknown SASL element")),
        }
    }

    /// RFC 6120 §7.4.
    fn ask_to_bind(&mut self, features: &RawElement<'_>, out: &mut Vec<u8>) -> Result<Next, Error> {
        if features.child("bind", ns::BIND).is_none() {
            return Err(Error::NotOffered("resource binding"));
        }
        let resource = self.client_role()?.address.resource().map(|resource| resource.as_str().to_owned());
        crate::stanza::iq_request(IqType::Set, BIND_ID, None, None, out, |out| {
            out.extend_from_slice(b"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>");
            if let Some(resource) = &resource {
                wire::element("resource", resource, out);
            }
            out.extend_from_slice(b"</bind>");
        });
        self.state = State::Binding;
        Ok(Next::Read)
    }

    fn bound(&self, element: &RawElement<'_>) -> Result<Next, Error> {
        if !element.is("iq", ns::CLIENT) || element.attribute("id").as_deref() != Some(BIND_ID) {
            return Err(Error::Unexpected("a stanza before the resource is bound"));
        }
        if let Some(error) = StanzaError::parse(element) {
            return Err(Error::Bind(error));
        }
        let full = element
            .child("bind", ns::BIND)
            .and_then(|bind| bind.child("jid", ns::BIND))
            .and_then(|address| jid::parse_full(&address.text()).ok());
        full.map(|full| Next::Established { full }).ok_or(Error::Unexpected("a bind result without address"))
    }
}
