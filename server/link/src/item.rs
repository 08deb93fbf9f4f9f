//! What goes from one instance to another.

use std::sync::Arc;

use prost::bytes::Bytes;
use starling_registry::SessionId;
use starling_xmpp::error::StreamError;

use crate::Envelope;

/// One payload, as it waits to be taken by its destination. It is encoded each time that it is sent; a stanza is shared with
/// all other destinations.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Stanza(Arc<Envelope>, Addressees),
    Reports(Vec<Report>),
    Poke {
        full: Box<str>,
        session: SessionId,
    },
    Close {
        full: Box<str>,
        session: SessionId,
        error: StreamError,
    },
    Request {
        id: u64,
        content: Bytes,
    },
    Response {
        id: u64,
        content: Option<Bytes>,
    },
    Notice(Bytes),
    /// In the place of something that was given up.
    Void,
}

/// Which sessions a stanza is for.
#[derive(Clone, Debug)]
pub(crate) enum Addressees {
    /// The one whose full JID is the stanza's own `to`.
    To,
    /// These, by their full JIDs.
    Sessions(Vec<Box<str>>),
    /// Whoever speaks for the domain of its `to`.
    Domain,
}

/// What became of a kept message that came from the other side.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Its number on the way here.
    pub(crate) sequence: u64,
    /// Whether a client has it.
    pub(crate) acknowledged: bool,
    /// The message: if the other side dies before it has heard of it, this side settles its row.
    pub(crate) envelope: Arc<Envelope>,
}

impl Item {
    /// Of a kept message.
    pub(crate) fn kept(&self) -> Option<&Arc<Envelope>> {
        match self {
            Self::Stanza(envelope, _) if envelope.tracking.is_some() => Some(envelope),
            _ => None,
        }
    }

    /// Whether it counts against the bounds of what waits for one instance. Reports do not: they stand for messages that came
    /// from there, which its own bounds hold for.
    pub(crate) const fn is_counted(&self) -> bool {
        !matches!(self, Self::Reports(_) | Self::Void)
    }

    /// About what it takes on its way, and in memory.
    pub(crate) fn weight(&self) -> usize {
        const REST: usize = 64;
        REST + match self {
            Self::Stanza(envelope, addressees) => {
                let to = envelope.to.as_ref().map_or(0, |to| to.as_str().len());
                envelope.stanza.len() + envelope.from.as_str().len() + to + addressees.weight()
            }
            Self::Reports(reports) => 10 * reports.len(),
            Self::Poke { full, .. } | Self::Close { full, .. } => full.len() + 16,
            Self::Request { content, .. } | Self::Notice(content) => content.len(),
            Self::Response { content, .. } => content.as_ref().map_or(0, Bytes::len),
            Self::Void => 0,
        }
    }
}

impl Addressees {
    fn weight(&self) -> usize {
        match self {
            Self::To | Self::Domain => 0,
            Self::Sessions(sessions) => sessions.iter().map(|full| full.len() + 2).sum(),
        }
    }
}
