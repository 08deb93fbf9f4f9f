//! What travels on the link.

use starling_xmpp::{jid::Jid, stanza::Kind};

use crate::Tracking;

/// One stanza on its way: encoded once where it entered, and written as it is by whoever delivers it.
#[derive(Debug)]
pub struct Envelope {
    /// The address that the stanza's sender wrote; where it goes is said to [`Link::deliver`](crate::Link::deliver).
    pub to: Option<Jid>,
    /// The sender, stamped by the server.
    pub from: Jid,
    /// What kind of stanza this is.
    pub kind: Kind,
    /// The whole stanza in portable form (see `starling_xml::restamp`): fits any stream of a content namespace.
    pub stanza: Vec<u8>,
    /// Other sessions of sender or recipient were sent a copy (XEP-0280).
    pub copied: bool,
    /// For a message that must not get lost: who holds it, and whether it is safe.
    pub tracking: Option<Tracking>,
}

impl Envelope {
    /// A stanza that nobody keeps.
    #[must_use]
    pub const fn new(to: Option<Jid>, from: Jid, kind: Kind, stanza: Vec<u8>) -> Self {
        Self { to, from, kind, stanza, copied: false, tracking: None }
    }

    /// A message that is kept until somebody has it.
    #[must_use]
    pub const fn kept(to: Option<Jid>, from: Jid, kind: Kind, stanza: Vec<u8>, tracking: Tracking) -> Self {
        Self { to, from, kind, stanza, copied: false, tracking: Some(tracking) }
    }
}
