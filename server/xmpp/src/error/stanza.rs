//! Stanza errors (RFC 6120 §8.3): recoverable, one stanza answered with one error.

use std::borrow::Cow;
use std::fmt;

use starling_xml::{RawElement, escape};

use crate::ns;

/// What the sender may do about it (RFC 6120 §8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// Retry after providing credentials.
    Auth,
    /// Do not retry.
    Cancel,
    /// Go on, this was only a warning.
    Continue,
    /// Retry after changing what was sent.
    Modify,
    /// Retry after waiting.
    Wait,
}

impl ErrorType {
    /// The value of the attribute `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auth" => Some(Self::Auth),
            "cancel" => Some(Self::Cancel),
            "continue" => Some(Self::Continue),
            "modify" => Some(Self::Modify),
            "wait" => Some(Self::Wait),
            _ => None,
        }
    }
}

macro_rules! conditions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $kind:ident,)*) => {
        /// What is wrong with the stanza (RFC 6120 §8.3.3).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Condition {
            $($(#[$doc])* $variant,)*
        }

        impl Condition {
            /// All of them, in the order of the standard.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The element's name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The condition of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// The type that RFC 6120 §8.3.3 associates with the condition.
            #[must_use]
            pub const fn default_type(self) -> ErrorType {
                match self { $(Self::$variant => ErrorType::$kind,)* }
            }
        }
    };
}

conditions! {
    /// §8.3.3.1: malformed, or an unknown `type`.
    BadRequest = "bad-request", Modify,
    /// §8.3.3.2: the name or address is taken.
    Conflict = "conflict", Cancel,
    /// §8.3.3.3: the payload is understood, the feature is not provided.
    FeatureNotImplemented = "feature-not-implemented", Cancel,
    /// §8.3.3.4: the sender lacks the permission.
    Forbidden = "forbidden", Auth,
    /// §8.3.3.5: the recipient can no longer be reached at this address.
    Gone = "gone", Cancel,
    /// §8.3.3.6: by the server's own fault.
    InternalServerError = "internal-server-error", Cancel,
    /// §8.3.3.7: the addressed item does not exist.
    ItemNotFound = "item-not-found", Cancel,
    /// §8.3.3.8: an address breaks RFC 7622.
    JidMalformed = "jid-malformed", Modify,
    /// §8.3.3.9: breaks a rule that the recipient states.
    NotAcceptable = "not-acceptable", Modify,
    /// §8.3.3.10: nobody may do this here.
    NotAllowed = "not-allowed", Cancel,
    /// §8.3.3.11: credentials are needed first.
    NotAuthorized = "not-authorized", Auth,
    /// §8.3.3.12: a rule of this service is broken.
    PolicyViolation = "policy-violation", Modify,
    /// §8.3.3.13: the recipient is away for a while.
    RecipientUnavailable = "recipient-unavailable", Wait,
    /// §8.3.3.14: go elsewhere.
    Redirect = "redirect", Modify,
    /// §8.3.3.15: register first.
    RegistrationRequired = "registration-required", Auth,
    /// §8.3.3.16: the remote server does not exist.
    RemoteServerNotFound = "remote-server-not-found", Cancel,
    /// §8.3.3.17: the remote server does not answer in time.
    RemoteServerTimeout = "remote-server-timeout", Wait,
    /// §8.3.3.18: too busy.
    ResourceConstraint = "resource-constraint", Wait,
    /// §8.3.3.19: the service is not provided, or not told to this sender.
    ServiceUnavailable = "service-unavailable", Cancel,
    /// §8.3.3.20: a subscription is needed first.
    SubscriptionRequired = "subscription-required", Auth,
    /// §8.3.3.21: none of the others.
    UndefinedCondition = "undefined-condition", Modify,
    /// §8.3.3.22: understood, but not expected now.
    UnexpectedRequest = "unexpected-request", Wait,
}

/// A stanza error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StanzaError {
    /// What the sender may do about it.
    pub kind: ErrorType,
    /// What is wrong.
    pub condition: Condition,
    /// For a person.
    pub text: Option<Cow<'static, str>>,
}

impl StanzaError {
    /// An error with the type that the standard associates with its condition.
    #[must_use]
    pub const fn new(condition: Condition) -> Self {
        Self { kind: condition.default_type(), condition, text: None }
    }

    /// An error with text for a person.
    #[must_use]
    pub fn with_text(condition: Condition, text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: condition.default_type(), condition, text: Some(text.into()) }
    }

    /// The same with another type, where the standard leaves the choice.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorType) -> Self {
        self.kind = kind;
        self
    }

    /// Writes the error that answers `stanza`, in portable form (RFC 6120 §8.3.1): same name and `id`, addresses
    /// swapped, the payload not echoed. `from` and `to` are those of the answer; `None` takes the stanza's own `to`
    /// and `from`.
    ///
    /// Says whether there is an answer: an error, an iq result and what is no stanza are never answered, and `out` is
    /// untouched then.
    pub fn reply(&self, stanza: &RawElement<'_>, from: Option<&str>, to: Option<&str>, out: &mut Vec<u8>) -> bool {
        let name = match stanza.name() {
            name @ ("message" | "presence" | "iq") if ns::is_content(stanza.namespace()) => name,
            _ => return false,
        };
        match stanza.attribute("type").as_deref() {
            Some("error") => return false,
            Some("result") if name == "iq" => return false,
            _ => {}
        }
        crate::stanza::write_reply_header(stanza, name, "error", from, to, out);
        out.push(b'>');
        self.write(out);
        out.extend_from_slice(b"</");
        out.extend_from_slice(name.as_bytes());
        out.push(b'>');
        true
    }

    /// Writes `<error>…</error>` in portable form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<error type='");
        out.extend_from_slice(self.kind.as_str().as_bytes());
        out.extend_from_slice(b"'><");
        out.extend_from_slice(self.condition.as_str().as_bytes());
        out.extend_from_slice(b" xmlns='");
        out.extend_from_slice(ns::STANZAS.as_bytes());
        out.extend_from_slice(b"'/>");
        if let Some(text) = &self.text {
            out.extend_from_slice(b"<text xmlns='");
            out.extend_from_slice(ns::STANZAS.as_bytes());
            out.extend_from_slice(b"' xml:lang='en'>");
            escape::text(text, out);
            out.extend_from_slice(b"</text>");
        }
        out.extend_from_slice(b"</error>");
    }

    /// Reads the error of a stanza of type `error`; `None` if it has no `<error/>` child. Unknown conditions become
    /// [`Condition::UndefinedCondition`], an unknown type that of the condition (RFC 6120 §8.3.2).
    #[must_use]
    pub fn parse(stanza: &RawElement<'_>) -> Option<Self> {
        let error = stanza.child("error", stanza.namespace())?;
        let mut condition = Condition::UndefinedCondition;
        let mut text = None;
        for child in error.children().filter(|child| child.namespace() == ns::STANZAS) {
            if child.name() == "text" {
                text.get_or_insert_with(|| child.text().into_owned().into());
            } else if let Some(known) = Condition::from_name(child.name()) {
                condition = known;
            }
        }
        let kind = error
            .attribute("type")
            .and_then(|kind| ErrorType::from_name(&kind))
            .unwrap_or_else(|| condition.default_type());
        Some(Self { kind, condition, text })
    }
}

impl From<Condition> for StanzaError {
    fn from(condition: Condition) -> Self {
        Self::new(condition)
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "stanza error {}: {text}", self.condition.as_str()),
            None => write!(f, "stanza error {}", self.condition.as_str()),
        }
    }
}

impl std::error::Error for StanzaError {}
