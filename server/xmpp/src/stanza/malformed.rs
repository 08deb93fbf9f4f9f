//! Why a first-level element is no stanza to work with, and what to do about it.

use crate::error::{Condition, StanzaError, StreamCondition, StreamError};
use crate::jid::JidError;

use super::IqType;

/// What is wrong with it: always the peer's fault, never mended by sending the same again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither message nor presence nor iq, or in no content namespace.
    #[error("neither message nor presence nor iq")]
    NotAStanza,
    /// The recipient's address.
    #[error("malformed 'to': {0}")]
    To(JidError),
    /// The sender's address.
    #[error("malformed 'from': {0}")]
    From(JidError),
    /// RFC 6121 §4.7.1.
    #[error("unknown type of presence")]
    PresenceType,
    /// RFC 6120 §8.2.3 rule 2.
    #[error("an iq without a known type")]
    IqType,
    /// RFC 6120 §8.2.3 rule 1.
    #[error("an iq without an id")]
    IqWithoutId,
    /// RFC 6120 §8.2.3 rules 3 to 6.
    #[error("an iq of type '{}' with the wrong number of children", .kind.as_str())]
    IqChildren {
        /// The type that demands another number.
        kind: IqType,
    },
    /// RFC 6120 §8.3.1 rule 3.
    #[error("type 'error' without an <error/> child")]
    ErrorWithoutChild,
}

/// What becomes of a malformed stanza.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Answer with this, if [`StanzaError::reply`] finds that there is anything to answer, and go on.
    Stanza(StanzaError),
    /// End the stream with this.
    Stream(StreamError),
}

impl Malformed {
    /// Maps the fault to the error that RFC 6120 wants for it.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            // RFC 6120 §4.9.3.24.
            Self::NotAStanza => Refusal::Stream(StreamError::new(StreamCondition::UnsupportedStanzaType)),
            // RFC 6120 §8.1.1.1, §8.3.3.8.
            Self::To(_) => self.stanza(Condition::JidMalformed),
            // RFC 6120 §8.1.2.1: a `from` that cannot be an address is not the one that was authorised.
            Self::From(_) => Refusal::Stream(StreamError::with_text(StreamCondition::InvalidFrom, self.to_string())),
            Self::PresenceType
            | Self::IqType
            | Self::IqWithoutId
            | Self::IqChildren { .. }
            | Self::ErrorWithoutChild => self.stanza(Condition::BadRequest),
        }
    }

    /// The error to answer with, if the stream goes on.
    #[must_use]
    pub fn stanza_error(&self) -> Option<StanzaError> {
        match self.refusal() {
            Refusal::Stanza(error) => Some(error),
            Refusal::Stream(_) => None,
        }
    }

    fn stanza(&self, condition: Condition) -> Refusal {
        Refusal::Stanza(StanzaError::with_text(condition, self.to_string()))
    }
}
