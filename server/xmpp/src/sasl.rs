//! SASL (RFC 4422) as XMPP profiles it (RFC 6120 §6): PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677) with channel
//! binding, both ends, without I/O and without Base64 of the outer layer, which is the business of `negotiate`.
//!
//! ```text
//!   <auth/> ─▶ server::Exchange ─▶ Load ─▶ (store) ─▶ Challenge ─▶ <response/> ─▶ Success | Failure
//!                    │                        └ PLAIN: Check ─▶ PasswordCheck::run on another thread
//!                    ├ message      strict reading and writing of SCRAM's messages
//!                    ├ hash         digest, HMAC, PBKDF2: one hash function each
//!                    └ downgrade    XEP-0474's hash over what was advertised
//!   features ─▶ client::Exchange  (the same from the other end, chooses by XEP-0440)
//! ```

use std::fmt;

pub mod client;
mod credentials;
mod downgrade;
mod failure;
mod hash;
mod message;
pub mod server;

#[cfg(test)]
mod tests;

pub use credentials::{Credentials, PasswordError, Verifier};
pub use failure::Failure;
pub use hash::Hash;

/// The longest SASL message that either end looks at, in bytes, Base64 undone. More is malformed.
/// A localpart of 1023 bytes (RFC 7622 §3.3) fits with every byte escaped.
pub const MAX_MESSAGE: usize = 8 * 1024;

/// The fewest rounds of PBKDF2 that a client accepts and that new verifiers get (RFC 7677 §4).
pub const MIN_ITERATIONS: u32 = 4096;

/// The most rounds of PBKDF2 that a client lets a server make it do, and that new verifiers get.
pub const MAX_ITERATIONS: u32 = 10_000_000;

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// SCRAM over SHA-512, bound to the channel.
    ScramSha512Plus,
    /// SCRAM over SHA-512.
    ScramSha512,
    /// SCRAM over SHA-256, bound to the channel (RFC 7677).
    ScramSha256Plus,
    /// SCRAM over SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM over SHA-1, bound to the channel (RFC 5802).
    ScramSha1Plus,
    /// SCRAM over SHA-1 (RFC 5802).
    ScramSha1,
    /// The password itself (RFC 4616): for encrypted streams only.
    Plain,
}

impl Mechanism {
    /// Strongest first. A bound channel stands before a longer hash: it is what a man in the middle cannot relay.
    pub const BY_STRENGTH: [Self; 7] = [
        Self::ScramSha512Plus,
        Self::ScramSha256Plus,
        Self::ScramSha1Plus,
        Self::ScramSha512,
        Self::ScramSha256,
        Self::ScramSha1,
        Self::Plain,
    ];

    /// The name in IANA's registry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha512Plus => "SCRAM-SHA-512-PLUS",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
        }
    }

    /// The mechanism of this name. Names are upper case (RFC 4422 §3.1) and compared as they are.
    pub fn parse(name: &str) -> Option<Self> {
        Self::BY_STRENGTH.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Whether it binds the log-in to the TLS channel.
    pub const fn is_plus(self) -> bool {
        matches!(self, Self::ScramSha512Plus | Self::ScramSha256Plus | Self::ScramSha1Plus)
    }

    /// SCRAM's hash function; `None` for PLAIN.
    pub const fn hash(self) -> Option<Hash> {
        match self {
            Self::ScramSha512Plus | Self::ScramSha512 => Some(Hash::Sha512),
            Self::ScramSha256Plus | Self::ScramSha256 => Some(Hash::Sha256),
            Self::ScramSha1Plus | Self::ScramSha1 => Some(Hash::Sha1),
            Self::Plain => None,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A channel binding type (RFC 5056).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BindingType {
    /// `tls-exporter` (RFC 9266): this very connection.
    Exporter,
    /// `tls-server-end-point` (RFC 5929 §4): the certificate of the server.
    EndPoint,
}

impl BindingType {
    /// Strongest first.
    pub const BY_STRENGTH: [Self; 2] = [Self::Exporter, Self::EndPoint];

    /// The name in IANA's registry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exporter => "tls-exporter",
            Self::EndPoint => "tls-server-end-point",
        }
    }

    /// The type of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::BY_STRENGTH.into_iter().find(|kind| kind.name() == name)
    }
}

/// What this end of a TLS connection knows to bind a log-in to. Without TLS: neither.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ChannelBindings {
    /// `tls-exporter` (RFC 9266), TLS 1.3 only.
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` (RFC 5929 §4): the hash of the server's certificate.
    pub end_point: Option<Vec<u8>>,
}

impl ChannelBindings {
    /// The data of one type.
    pub fn get(&self, kind: BindingType) -> Option<&[u8]> {
        match kind {
            BindingType::Exporter => self.exporter.as_ref().map(<[u8; 32]>::as_slice),
            BindingType::EndPoint => self.end_point.as_deref(),
        }
    }

    /// The types that there is data of, strongest first.
    pub fn types(&self) -> impl Iterator<Item = BindingType> + '_ {
        BindingType::BY_STRENGTH.into_iter().filter(|&kind| self.get(kind).is_some())
    }

    /// Whether nothing can be bound to.
    pub const fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.end_point.is_none()
    }

    /// What a server that offers these mechanisms advertises by XEP-0440: every type it has data of, and none where no
    /// offered mechanism could use one. XEP-0474's hash covers exactly this list, so `<sasl-channel-binding/>` is to be
    /// written from it, and left out where it is empty.
    pub fn advertised(&self, offered: &[Mechanism]) -> Vec<BindingType> {
        if offered.iter().any(|mechanism| mechanism.is_plus()) { self.types().collect() } else { Vec::new() }
    }
}

impl fmt::Debug for ChannelBindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.types().map(BindingType::name)).finish()
    }
}

/// SASLprep (RFC 4013), refusing what comes out empty. `None`: prohibited.
fn saslprep(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    stringprep::saslprep(text).ok().filter(|prepared| !prepared.is_empty())
}
