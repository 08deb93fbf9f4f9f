//! What containers that keep elements in the store have in common.

use minidom::Element;
use starling_store::Error;
use starling_xml::{Limits, Scope, Writer};
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::BareJid,
};
use tracing::warn;

/// The element as it is kept: no namespace is inherited from anywhere.
pub(super) fn written(element: &Element) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, &Scope::none()).tree(element);
    bytes
}

/// The element that [`written`] wrote. `None`, and a line in the log, if that is not what it is.
pub(super) fn read(account: &BareJid, bytes: &[u8]) -> Option<Element> {
    // It was within the limits when it came, and may be longer as it is written.
    const LIMITS: Limits = Limits { stanza_bytes: 1 << 24, depth: 1 << 10, attributes: 1 << 16 };
    let text = str::from_utf8(bytes).ok()?;
    match starling_xml::parse(text, &Scope::none(), LIMITS).and_then(|element| element.as_raw().to_tree()) {
        Ok(element) => Some(element),
        Err(error) => {
            warn!(%account, %error, "A kept element is not readable.");
            None
        }
    }
}

/// What whoever asked is told when the store does not answer: `internal-server-error`, to be tried again.
pub(super) fn store_away(account: &BareJid, error: &Error) -> StanzaError {
    warn!(%account, %error, "The store does not answer an extension.");
    StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait)
}
