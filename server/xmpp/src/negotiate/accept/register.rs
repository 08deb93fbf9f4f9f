//! XEP-0077 before log-in: a client without an account makes one, and then logs in on the same stream (§3.1, §8).

use std::fmt;

use starling_xml::RawElement;

use super::{Inner, Next, State, TlsInfo, TlsPolicy, wire};
use crate::error::{Condition, StanzaError, StreamCondition, StreamError};
use crate::jid::{self, BareJid};
use crate::ns;
use crate::random::Random;
use crate::sasl::{Credentials, Mechanism, PasswordError};
use crate::stanza::{self, IqType, Kind, Refusal, Stanza};

use super::AcceptPolicy;

/// For the person who registers.
const INSTRUCTIONS: &str = "Choose a name and a password.";

/// A password as a client sent it. Never shown, also not by [`fmt::Debug`].
pub struct NewPassword(Box<str>);

impl NewPassword {
    /// Takes it as it came.
    pub fn new(password: &str) -> Self {
        Self(password.into())
    }

    /// [`Credentials::derive`]. Takes milliseconds: not for I/O threads.
    ///
    /// # Errors
    /// What hinders it from being a password: `not-acceptable` to whoever sent it.
    pub fn derive(&self, iterations: u32, random: &mut dyn Random) -> Result<Credentials, PasswordError> {
        Credentials::derive(&self.0, iterations, random)
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword")
    }
}

/// Whether accounts are made on this stream: only where a password may be sent, by the rule that PLAIN is under. (§8:
/// under TLS; in the clear only where the operator lets PLAIN be used so.)
pub(super) fn is_offered(policy: &AcceptPolicy, tls: Option<&TlsInfo>) -> bool {
    let may_send = match (tls, policy.tls) {
        (Some(_), _) => true,
        (None, TlsPolicy::Required) => false,
        (None, TlsPolicy::Optional | TlsPolicy::Off) => policy.mechanisms_without_tls.contains(&Mechanism::Plain),
    };
    policy.registration && may_send
}

impl Inner {
    /// An iq before log-in. Only requests of XEP-0077 to the server are answered, and only where they are offered; all
    /// else ends the stream (RFC 6120 §4.9.3.12).
    pub(super) fn register(&mut self, element: &RawElement<'_>, out: &mut Vec<u8>) -> Result<Next, StreamError> {
        let query = element.child("query", ns::REGISTER).filter(|_| is_offered(&self.policy, self.tls.as_ref()));
        let Some(query) = query else {
            return Err(StreamCondition::NotAuthorized.into());
        };
        let stanza = match Stanza::parse(*element) {
            Ok(stanza) => stanza,
            Err(malformed) => {
                return match malformed.refusal() {
                    Refusal::Stanza(error) => Ok(self.answer(element, &error, out)),
                    Refusal::Stream(error) => Err(error),
                };
            }
        };
        if stanza.to.is_some_and(|to| Some(to.as_str()) != self.domain.as_deref()) {
            return Err(StreamCondition::NotAuthorized.into());
        }
        let child = |name| query.child(name, ns::REGISTER);
        match stanza.kind {
            Kind::Iq(IqType::Get) => {
                stanza::iq_result(element, self.domain.as_deref(), None, out, |out| {
                    out.extend_from_slice(b"<query");
                    stanza::attribute("xmlns", ns::REGISTER, out);
                    out.push(b'>');
                    wire::element("instructions", INSTRUCTIONS, out);
                    out.extend_from_slice(b"<username/><password/></query>");
                });
                self.state = State::Open;
                Ok(Next::Read)
            }
            // §3.2: there is nobody yet whose registration could be cancelled.
            Kind::Iq(IqType::Set) if child("remove").is_some() => {
                Ok(self.answer(element, &Condition::UnexpectedRequest.into(), out))
            }
            Kind::Iq(IqType::Set) => {
                let text = |name| child(name).map(|field| field.text().into_owned()).filter(|text| !text.is_empty());
                let (Some(username), Some(password)) = (text("username"), text("password")) else {
                    let error = StanzaError::with_text(Condition::NotAcceptable, "username and password are needed");
                    return Ok(self.answer(element, &error, out));
                };
                let Some(account) = self.account(&username) else {
                    let error = StanzaError::with_text(Condition::NotAcceptable, "no name for an account");
                    return Ok(self.answer(element, &error, out));
                };
                self.state = State::Registering(stanza.id.map(std::borrow::Cow::into_owned).unwrap_or_default());
                Ok(Next::Register { account, password: NewPassword::new(&password) })
            }
            // Answers to requests that nobody made.
            _ => Err(StreamCondition::NotAuthorized.into()),
        }
    }

    /// The account is there, or why it is not. The client may log in, or try again.
    pub(super) fn registered(&mut self, id: &str, result: Result<(), StanzaError>, out: &mut Vec<u8>) -> Next {
        out.extend_from_slice(b"<iq type='");
        out.extend_from_slice(if result.is_ok() { b"result" } else { b"error" });
        out.push(b'\'');
        stanza::attribute("id", id, out);
        if let Some(domain) = &self.domain {
            stanza::attribute("from", domain, out);
        }
        match result {
            Ok(()) => out.extend_from_slice(b"/>"),
            Err(error) => {
                out.push(b'>');
                error.write(out);
                out.extend_from_slice(b"</iq>");
            }
        }
        self.state = State::Open;
        Next::Read
    }

    fn answer(&mut self, element: &RawElement<'_>, error: &StanzaError, out: &mut Vec<u8>) -> Next {
        // What needs no answer gets none.
        let _answered = error.reply(element, self.domain.as_deref(), None, out);
        self.state = State::Open;
        Next::Read
    }

    /// The account of this name here, if RFC 7622 §3.3 lets it be one.
    pub(super) fn account(&self, username: &str) -> Option<BareJid> {
        let local = jid::parse_local(username).ok()?;
        let domain = jid::parse_domain(self.domain.as_deref()?).ok()?;
        Some(BareJid::from_parts(Some(&local), &domain))
    }
}
