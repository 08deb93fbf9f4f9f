//! Answers to stanzas, in portable form: no namespace of their own, to be written into any stream whose default
//! namespace is a content namespace.

use std::borrow::Cow;

use starling_xml::{RawElement, escape};

/// Writes the result that answers `request` (RFC 6120 §8.2.3): `id` kept, addresses swapped. `payload` writes the
/// child, which declares its own namespace, or nothing. `from` and `to` are those of the answer; `None` takes the
/// request's own `to` and `from`.
pub fn iq_result(
    request: &RawElement<'_>,
    from: Option<&str>,
    to: Option<&str>,
    out: &mut Vec<u8>,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    write_reply_header(request, "iq", "result", from, to, out);
    let empty = out.len();
    out.push(b'>');
    payload(out);
    if out.len() == empty + 1 {
        out.truncate(empty);
        out.extend_from_slice(b"/>");
    } else {
        out.extend_from_slice(b"</iq>");
    }
}

/// Writes a request of our own: `kind` is `get` or `set`, `payload` writes its one child.
pub fn iq_request(
    kind: super::IqType,
    id: &str,
    from: Option<&str>,
    to: Option<&str>,
    out: &mut Vec<u8>,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(b"<iq");
    attribute("type", kind.as_str(), out);
    attribute("id", id, out);
    if let Some(from) = from {
        attribute("from", from, out);
    }
    if let Some(to) = to {
        attribute("to", to, out);
    }
    out.push(b'>');
    payload(out);
    out.extend_from_slice(b"</iq>");
}

/// Writes `<name type='kind' id='…' from='…' to='…'`, the tag left open: the beginning of an answer to `stanza`. `None`
/// takes the stanza's own `to` and `from`.
pub fn write_reply_header(
    stanza: &RawElement<'_>,
    name: &str,
    kind: &str,
    from: Option<&str>,
    to: Option<&str>,
    out: &mut Vec<u8>,
) {
    let from = from.map(Cow::Borrowed).or_else(|| stanza.attribute("to"));
    let to = to.map(Cow::Borrowed).or_else(|| stanza.attribute("from"));
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    attribute("type", kind, out);
    for (name, value) in [("id", stanza.attribute("id")), ("from", from), ("to", to)] {
        if let Some(value) = value {
            attribute(name, &value, out);
        }
    }
}

/// ` name='value'`, escaped.
pub(crate) fn attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape::attribute(value, out);
    out.push(b'\'');
}
