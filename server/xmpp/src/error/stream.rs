//! Stream errors (RFC 6120 §4.9): unrecoverable, followed by the end of the stream.

use std::borrow::Cow;
use std::fmt;

use starling_xml::{RawElement, escape};

use crate::ns;

macro_rules! conditions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What is wrong with the stream (RFC 6120 §4.9.3).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum StreamCondition {
            $($(#[$doc])* $variant,)*
        }

        impl StreamCondition {
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
        }
    };
}

conditions! {
    /// §4.9.3.1: XML that cannot be processed, less precise than the others.
    BadFormat = "bad-format",
    /// §4.9.3.2: an undeclared or wrong namespace prefix.
    BadNamespacePrefix = "bad-namespace-prefix",
    /// §4.9.3.3: a newer stream of the same resource takes over, or two streams collide.
    Conflict = "conflict",
    /// §4.9.3.4: nothing came for too long, or stanzas cannot be delivered over this connection.
    ConnectionTimeout = "connection-timeout",
    /// §4.9.3.5: `to` names a domain that is no longer served.
    HostGone = "host-gone",
    /// §4.9.3.6: `to` names a domain that is not served.
    HostUnknown = "host-unknown",
    /// §4.9.3.7: a stanza between servers lacks `to` or `from`.
    ImproperAddressing = "improper-addressing",
    /// §4.9.3.8: the server cannot go on, by its own fault.
    InternalServerError = "internal-server-error",
    /// §4.9.3.9: `from` is not what was authorised.
    InvalidFrom = "invalid-from",
    /// §4.9.3.10: wrong namespace of the stream or of its content.
    InvalidNamespace = "invalid-namespace",
    /// §4.9.3.11: well-formed, but not valid by a schema that is checked.
    InvalidXml = "invalid-xml",
    /// §4.9.3.12: data before the stream was authenticated or a resource bound.
    NotAuthorized = "not-authorized",
    /// §4.9.3.13: not well-formed XML.
    NotWellFormed = "not-well-formed",
    /// §4.9.3.14: a rule of this service is broken, such as a limit.
    PolicyViolation = "policy-violation",
    /// §4.9.3.15: a server that this one depends on cannot be reached.
    RemoteConnectionFailed = "remote-connection-failed",
    /// §4.9.3.16: features have changed, the stream must be negotiated anew.
    Reset = "reset",
    /// §4.9.3.17: too little memory, too many connections.
    ResourceConstraint = "resource-constraint",
    /// §4.9.3.18: comments, processing instructions, DTDs, entities.
    RestrictedXml = "restricted-xml",
    /// §4.9.3.19: connect elsewhere; [`StreamError::text`] says where (`host` or `host:port`).
    SeeOtherHost = "see-other-host",
    /// §4.9.3.20: the server is going down.
    SystemShutdown = "system-shutdown",
    /// §4.9.3.21: none of the others.
    UndefinedCondition = "undefined-condition",
    /// §4.9.3.22: not UTF-8.
    UnsupportedEncoding = "unsupported-encoding",
    /// §4.9.3.23: a feature that the peer requires is not offered.
    UnsupportedFeature = "unsupported-feature",
    /// §4.9.3.24: a first-level element that nobody here understands.
    UnsupportedStanzaType = "unsupported-stanza-type",
    /// §4.9.3.25: a version of XMPP that is not spoken here.
    UnsupportedVersion = "unsupported-version",
}

/// A stream error: written, it is followed by `</stream:stream>` and the end of the connection (RFC 6120 §4.9.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamError {
    /// What is wrong.
    pub condition: StreamCondition,
    /// For a person who reads a log; for [`StreamCondition::SeeOtherHost`] the other host.
    pub text: Option<Cow<'static, str>>,
}

impl StreamError {
    /// An error without text.
    #[must_use]
    pub const fn new(condition: StreamCondition) -> Self {
        Self { condition, text: None }
    }

    /// An error with text for a person.
    #[must_use]
    pub fn with_text(condition: StreamCondition, text: impl Into<Cow<'static, str>>) -> Self {
        Self { condition, text: Some(text.into()) }
    }

    /// Writes `<stream:error>…</stream:error>`, for a stream whose header declares the prefix `stream`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let name = self.condition.as_str().as_bytes();
        out.extend_from_slice(b"<stream:error><");
        out.extend_from_slice(name);
        out.extend_from_slice(b" xmlns='");
        out.extend_from_slice(ns::STREAMS.as_bytes());
        match (&self.text, self.condition) {
            (Some(host), StreamCondition::SeeOtherHost) => {
                out.extend_from_slice(b"'>");
                escape::text(host, out);
                out.extend_from_slice(b"</");
                out.extend_from_slice(name);
                out.push(b'>');
            }
            (Some(text), _) => {
                out.extend_from_slice(b"'/><text xmlns='");
                out.extend_from_slice(ns::STREAMS.as_bytes());
                out.extend_from_slice(b"' xml:lang='en'>");
                escape::text(text, out);
                out.extend_from_slice(b"</text>");
            }
            (None, _) => out.extend_from_slice(b"'/>"),
        }
        out.extend_from_slice(b"</stream:error>");
    }

    /// Reads a peer's `<stream:error/>`; `None` if it is something else. A condition that RFC 6120 does not know is
    /// [`StreamCondition::UndefinedCondition`].
    #[must_use]
    pub fn parse(element: &RawElement<'_>) -> Option<Self> {
        if !element.is("error", ns::STREAM) {
            return None;
        }
        let mut error = Self::new(StreamCondition::UndefinedCondition);
        for child in element.children().filter(|child| child.namespace() == ns::STREAMS) {
            if child.name() == "text" {
                error.text.get_or_insert_with(|| child.text().into_owned().into());
            } else if let Some(condition) = StreamCondition::from_name(child.name()) {
                error.condition = condition;
                if condition == StreamCondition::SeeOtherHost {
                    error.text = Some(child.text().into_owned().into());
                }
            }
        }
        Some(error)
    }
}

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> Self {
        Self::new(condition)
    }
}

impl From<starling_xml::Error> for StreamError {
    fn from(error: starling_xml::Error) -> Self {
        let condition = StreamCondition::from_name(error.condition()).unwrap_or(StreamCondition::NotWellFormed);
        Self::with_text(condition, error.to_string())
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "stream error {}: {text}", self.condition.as_str()),
            None => write!(f, "stream error {}", self.condition.as_str()),
        }
    }
}

impl std::error::Error for StreamError {}
