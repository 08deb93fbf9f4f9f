//! STARTTLS and SASL of the server (RFC 6120 §5 and §6).

use starling_xml::RawElement;

use super::{Inner, Next, State, TlsPolicy, Wait, features, wire};
use crate::error::{StreamCondition, StreamError};
use crate::jid::BareJid;
use crate::ns;
use crate::sasl::server::{Context, Exchange, Step};
use crate::sasl::{ChannelBindings, Failure, Mechanism};

impl Inner {
    /// A first-level element while features without log-in are offered.
    pub(super) fn unauthenticated(&mut self, element: &RawElement<'_>, out: &mut Vec<u8>) -> Result<Next, StreamError> {
        match (element.namespace(), element.name()) {
            (ns::TLS, "starttls") if self.tls.is_none() && self.policy.tls != TlsPolicy::Off => {
                out.extend_from_slice(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
                self.state = State::Handshake;
                Ok(Next::StartTls)
            }
            (ns::TLS, "starttls") => {
                // §5.4.2.2: the failure, then the end of the stream.
                out.extend_from_slice(b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
                Err(StreamError::with_text(StreamCondition::PolicyViolation, "STARTTLS is not offered"))
            }
            (ns::SASL, "auth") => self.auth(element, out),
            (ns::SASL, "abort") => Ok(self.refuse(Failure::Aborted, out)),
            (ns::SASL, "response") => Ok(self.refuse(Failure::MalformedRequest, out)),
            (ns::SM, _) => {
                self.state = State::Open;
                super::resume::unexpected(element, out)
            }
            (ns::CLIENT, "iq") => self.register(element, out),
            // §4.9.3.12: nothing but negotiation before log-in.
            (ns::CLIENT, "message" | "presence") => Err(StreamCondition::NotAuthorized.into()),
            _ => Err(StreamCondition::UnsupportedStanzaType.into()),
        }
    }

    /// RFC 6120 §6.4.2.
    fn auth(&mut self, element: &RawElement<'_>, out: &mut Vec<u8>) -> Result<Next, StreamError> {
        // §6.4.5: attempts are limited, also those refused before a password is looked at.
        if self.attempts >= self.policy.max_attempts {
            return Err(StreamError::with_text(StreamCondition::PolicyViolation, "too many attempts to log in"));
        }
        self.attempts += 1;
        let offered = features::mechanisms(&self.policy, self.tls.as_ref());
        let wanted = element.attribute("mechanism").and_then(|name| Mechanism::parse(&name));
        let Some(mechanism) = wanted.filter(|wanted| offered.contains(wanted)) else {
            // §6.5.4: it would be there under TLS.
            let after_tls = self.tls.is_none()
                && self.policy.tls != TlsPolicy::Off
                && wanted.is_some_and(|wanted| self.policy.mechanisms.contains(&wanted));
            let failure = if after_tls { Failure::EncryptionRequired } else { Failure::InvalidMechanism };
            return Ok(self.refuse(failure, out));
        };
        let Ok(initial) = wire::decode(&element.text()) else {
            return Ok(self.refuse(Failure::IncorrectEncoding, out));
        };
        let unbound = ChannelBindings::default();
        let context = Context {
            domain: self.domain.as_deref().unwrap_or_default(),
            offered: &offered,
            bindings: self.tls.as_ref().map_or(&unbound, |tls| &tls.bindings),
            fake_salt_key: &self.policy.fake_salt_key,
            fake_iterations: self.policy.fake_iterations,
        };
        match Exchange::start(mechanism, &context, &mut *self.random, initial.as_deref()) {
            Ok((exchange, step)) => Ok(self.step(Box::new(exchange), None, Ok(step), out)),
            Err(failure) => Ok(self.failed(failure, None, out)),
        }
    }

    /// RFC 6120 §6.4.3: the client's answer to a challenge.
    pub(super) fn respond(
        &mut self,
        mut exchange: Box<Exchange>,
        account: Option<BareJid>,
        element: &RawElement<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Next, StreamError> {
        match (element.namespace(), element.name()) {
            (ns::SASL, "response") => match wire::decode(&element.text()) {
                Ok(data) => {
                    let step = exchange.respond(&data.unwrap_or_default());
                    Ok(self.step(exchange, account, step, out))
                }
                Err(_) => Ok(self.refuse(Failure::IncorrectEncoding, out)),
            },
            // §6.4.4.
            (ns::SASL, "abort") => Ok(self.refuse(Failure::Aborted, out)),
            (ns::SASL, _) => Ok(self.refuse(Failure::MalformedRequest, out)),
            // Nothing else while an exchange goes on.
            _ => Err(StreamCondition::NotAuthorized.into()),
        }
    }

    /// Does what the exchange says, until it waits for somebody.
    pub(super) fn step(
        &mut self,
        mut exchange: Box<Exchange>,
        mut account: Option<BareJid>,
        mut step: Result<Step, Failure>,
        out: &mut Vec<u8>,
    ) -> Next {
        loop {
            match step {
                Ok(Step::Challenge(challenge)) => {
                    wire::sasl("challenge", None, Some(&*challenge).filter(|data| !data.is_empty()), out);
                    self.state = State::Exchange(exchange, account, Wait::Client);
                    return Next::Read;
                }
                Ok(Step::Load { username }) => {
                    if let Some(found) = self.account(&username) {
                        self.state = State::Exchange(exchange, Some(found.clone()), Wait::Credentials);
                        return Next::Load { account: found };
                    }
                    // What cannot be an address is an account that does not exist.
                    step = exchange.loaded(None);
                }
                Ok(Step::Check(check)) => {
                    self.state = State::Exchange(exchange, account, Wait::Verdict);
                    return Next::CheckPassword(check);
                }
                Ok(Step::Success { data, .. }) => {
                    let Some(account) = account.take() else { return self.refuse(Failure::NotAuthorized, out) };
                    wire::sasl("success", None, data.as_deref(), out);
                    self.restart(Some(account.clone()));
                    return Next::Authenticated { account };
                }
                Err(failure) => return self.failed(failure, account, out),
            }
        }
    }

    /// The exchange's own verdict.
    fn failed(&mut self, failure: Failure, account: Option<BareJid>, out: &mut Vec<u8>) -> Next {
        let next = self.refuse(failure, out);
        if matches!(failure, Failure::NotAuthorized | Failure::InvalidAuthzid) {
            Next::LogInFailed { account }
        } else {
            next
        }
    }

    /// Writes `<failure/>` (RFC 6120 §6.4.5); the client may try again.
    pub(super) fn refuse(&mut self, failure: Failure, out: &mut Vec<u8>) -> Next {
        out.extend_from_slice(b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><");
        out.extend_from_slice(failure.condition().as_bytes());
        out.extend_from_slice(b"/></failure>");
        self.state = State::Open;
        Next::Read
    }
}
