//! Stanzas: a parsed header over a payload that stays the bytes that came (RFC 6120 §8, RFC 6121 §4.7.1 and §5.2.2).

mod kind;
mod malformed;
mod reply;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use starling_xml::RawElement;

use crate::jid::{AddressCache, Jid};
use crate::ns;

pub use kind::{IqType, Kind, MessageType, PresenceType};
pub use malformed::{Malformed, Refusal};
pub(crate) use reply::attribute;
pub use reply::{iq_request, iq_result, write_reply_header};

/// One message, presence or iq.
#[derive(Debug, Clone)]
pub struct Stanza<'a> {
    /// Which of the three, and its type.
    pub kind: Kind,
    /// The recipient, normalised.
    pub to: Option<Jid>,
    /// The sender, as it claims, normalised.
    pub from: Option<Jid>,
    /// The value of `id`, entities resolved.
    pub id: Option<Cow<'a, str>>,
    /// The whole element.
    pub raw: RawElement<'a>,
}

impl<'a> Stanza<'a> {
    /// Reads the header of a first-level element and checks what RFC 6120 §8 demands of every stanza.
    pub fn parse(raw: RawElement<'a>) -> Result<Self, Malformed> {
        Self::read(raw, crate::jid::parse)
    }

    /// The same, for the hot path: addresses that this stream used lately are not normalised again.
    pub fn parse_with(raw: RawElement<'a>, cache: &mut AddressCache) -> Result<Self, Malformed> {
        Self::read(raw, |text| cache.parse(text))
    }

    fn read(
        raw: RawElement<'a>,
        mut parse: impl FnMut(&str) -> Result<Jid, crate::jid::JidError>,
    ) -> Result<Self, Malformed> {
        if !ns::is_content(raw.namespace()) {
            return Err(Malformed::NotAStanza);
        }
        let kind = Kind::read(&raw)?;
        let to = raw.attribute("to").map(|to| parse(&to)).transpose().map_err(Malformed::To)?;
        let from = raw.attribute("from").map(|from| parse(&from)).transpose().map_err(Malformed::From)?;
        let id = raw.attribute("id");
        if matches!(kind, Kind::Iq(_)) && id.is_none() {
            return Err(Malformed::IqWithoutId);
        }
        Ok(Self { kind, to, from, id, raw })
    }
}
