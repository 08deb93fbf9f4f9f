//! Negotiation of a stream (RFC 6120 §4 to §7) as state machines without I/O: given what came, they write what is to be
//! sent and say what they wait for. [`accept`] is the server's side, [`initiate`] the client's and the component's.

pub mod accept;
mod header;
pub mod initiate;
#[cfg(test)]
mod tests;
mod wire;

pub use accept::{Accept, AcceptPolicy, Input, NewPassword, Next, TlsPolicy};

use crate::sasl::ChannelBindings;

/// What a TLS handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// What SASL may bind to.
    pub bindings: ChannelBindings,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
}
