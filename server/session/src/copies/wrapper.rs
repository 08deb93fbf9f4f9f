//! The message that carries a copy.

use starling_xml::escape;
use starling_xmpp::{ns, stanza::MessageType};

use super::{CARBONS, Direction};

/// XEP-0297.
const FORWARD: &str = "urn:xmpp:forward:0";

/// Writes the copy of `message` for the resource `to` (full JID) of `account` (bare JID), in portable form: XEP-0280 §7
/// and §8. `message` is in portable form itself and must be a `<message/>`; inside, it declares `jabber:client` (XEP-0297
/// §3), because what is around it is in another namespace.
#[must_use]
pub fn carbon(direction: Direction, account: &str, to: &str, kind: MessageType, message: &[u8]) -> Vec<u8> {
    let element = match direction {
        Direction::Sent => "sent",
        Direction::Received => "received",
    };
    let mut out = Vec::with_capacity(message.len() + account.len() + to.len() + 256);
    out.extend_from_slice(b"<message");
    attribute("from", account, &mut out);
    attribute("to", to, &mut out);
    // The default is not written.
    if kind != MessageType::Normal {
        attribute("type", kind.as_str(), &mut out);
    }
    out.extend_from_slice(b"><");
    out.extend_from_slice(element.as_bytes());
    attribute("xmlns", CARBONS, &mut out);
    out.extend_from_slice(b"><forwarded");
    attribute("xmlns", FORWARD, &mut out);
    out.extend_from_slice(b"><message");
    attribute("xmlns", ns::CLIENT, &mut out);
    out.extend_from_slice(message.strip_prefix(b"<message").unwrap_or_default());
    out.extend_from_slice(b"</forwarded></");
    out.extend_from_slice(element.as_bytes());
    out.extend_from_slice(b"></message>");
    out
}

fn attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape::attribute(value, out);
    out.push(b'\'');
}
