//! What the registry holds about one session.

use std::fmt;

use starling_xmpp::jid::FullJid;

/// One run of one process: never used again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InstanceId(pub u64);

/// One session: never used again, so that a late change by an earlier holder of the resource is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u128);

/// A bound resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The full JID that is bound.
    pub full: FullJid,
    /// The session that holds it.
    pub id: SessionId,
    /// Where the session lives.
    pub instance: InstanceId,
    /// The priority of its presence (RFC 6121 §4.7.2.3); `None` while it has sent no available presence.
    pub priority: Option<i8>,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
