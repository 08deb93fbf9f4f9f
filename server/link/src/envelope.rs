//! What travels on the link.

use starling_xmpp::{jid::Jid, stanza::Kind};

/// One stanza on its way: encoded once where it entered, and written as it is by whoever delivers it.
#[derive(Debug)]
pub struct Envelope {
    /// The address that the stanza's sender wrote; where it goes is the `target` of [`Link::send`](crate::Link::send).
    pub to: Option<Jid>,
    /// The sender, stamped by the server.
    pub from: Jid,
    /// What kind of stanza this is.
    pub kind: Kind,
    /// The whole stanza in portable form (see `starling_xml::restamp`): fits any stream of a content namespace.
    pub stanza: Vec<u8>,
}
