use std::io;
use std::path::PathBuf;

use crate::proxy;

/// What went wrong with a connection or with what it needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection broke.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The handshake failed, or a record was bad; the alert that says so was sent where possible.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The PROXY header of a trusted network was not one.
    #[error("PROXY header: {0}")]
    Proxy(#[from] proxy::Error),
    /// A certificate or key cannot be used.
    #[error("{}: {reason}", path.display())]
    Certificate {
        /// The file at fault.
        path: PathBuf,
        /// Why, for a person.
        reason: String,
    },
    /// The files of certificates cannot be watched.
    #[error("watching certificates: {0}")]
    Watch(#[from] notify::Error),
    /// No certificate was given.
    #[error("no certificate is configured")]
    NoCertificate,
    /// The address to connect to is not known.
    #[error("{0} has no address")]
    NoAddress(String),
    /// What the caller asked for cannot be done: the reason.
    #[error("{0}")]
    Configuration(String),
    /// The peer ended the stream, orderly or not, before it was asked to.
    #[error("the stream has ended")]
    Ended,
    /// The peer's stream breaks RFC 6120.
    #[error("stream: {0}")]
    Xml(#[from] starling_xml::Error),
    /// The server refused us, or offers less than is asked for.
    #[error("negotiation: {0}")]
    Negotiation(#[from] starling_xmpp::negotiate::initiate::Error),
    /// The server did what the standards do not allow here.
    #[error("the server breaks the protocol: {0}")]
    Unexpected(&'static str),
}

/// Whose fault an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The other end, or the network between.
    Peer,
    /// This program's configuration or machine.
    Us,
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Io(_)
            | Self::Tls(_)
            | Self::Proxy(_)
            | Self::Ended
            | Self::Xml(_)
            | Self::Negotiation(_)
            | Self::Unexpected(_)
            | Self::NoAddress(_) => Blame::Peer,
            Self::Certificate { .. } | Self::Watch(_) | Self::NoCertificate | Self::Configuration(_) => Blame::Us,
        }
    }

    /// Whether the same again, later, may succeed without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Ended | Self::NoAddress(_))
    }
}
