//! The message that carries a copy.

use memchr::memmem;
use starling_xml::escape;
use starling_xmpp::{ns, stanza::MessageType};

use super::{CARBONS, Direction};

/// XEP-0297.
const FORWARD: &str = "urn:xmpp:forward:0";

/// Writes the copy of `message` for the resource `to` (full JID) of `account` (bare JID), in portable form: XEP-0280 §7
/// and §8. `message` is in portable form itself and must be a `<message/>`; inside, it declares `jabber:client` (XEP-0297
/// §3), because what is around it is in another namespace.
///
/// If `message` ends with the id that the server gave it for the recipient's archive, a copy of a sent message names the
/// account's own archive instead (XEP-0313 §3.5: nobody learns of an archive that is not theirs); the id is the same.
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
    let rest = message.strip_prefix(b"<message").unwrap_or_default();
    match by_of_id(rest).filter(|_| direction == Direction::Sent) {
        Some((before, behind)) => {
            out.extend_from_slice(before);
            escape::attribute(account, &mut out);
            out.extend_from_slice(behind);
        }
        None => out.extend_from_slice(rest),
    }
    out.extend_from_slice(b"</forwarded></");
    out.extend_from_slice(element.as_bytes());
    out.extend_from_slice(b"></message>");
    out
}

/// What stands before and behind the value of `by`, if the last child is an id as this server writes it (XEP-0359).
fn by_of_id(message: &[u8]) -> Option<(&[u8], &[u8])> {
    const START: &[u8] = b"<stanza-id xmlns='urn:xmpp:sid:0' by='";
    const DIGITS: usize = 32;
    let inside = message.strip_suffix(b"'/></message>")?;
    let (before_id, id) = inside.split_at_checked(inside.len().checked_sub(DIGITS)?)?;
    if !id.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let at = memmem::rfind(before_id, START)? + START.len();
    let by = before_id.get(at..)?.strip_suffix(b"' id='")?;
    if by.contains(&b'\'') {
        return None;
    }
    Some((message.get(..at)?, message.get(at + by.len()..)?))
}

fn attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape::attribute(value, out);
    out.push(b'\'');
}
