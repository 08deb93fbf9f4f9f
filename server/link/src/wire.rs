//! `Body` of `link.proto`, written and read by hand: a stanza goes from the sender's memory into the frame in one copy, and
//! what comes is read where it lies. What is rare is left to the generated code, and tests hold both against it.

use std::borrow::Cow;

use prost::{
    Message as _,
    bytes::{BufMut, Bytes},
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len},
};
use smallvec::SmallVec;
use starling_proto::link as proto;
use starling_registry::SessionId;
use starling_xmpp::{
    error::{StreamCondition, StreamError},
    stanza::{IqType, Kind, MessageType, PresenceType},
};

use crate::{
    Envelope,
    item::{Addressees, Item},
};

/// What came cannot be read: a mistake of whoever sent it, or of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a body")]
pub(crate) struct Malformed;

/// Numbers of `Stanza.kind`. They never change; new ones go only to instances that know them.
const KINDS: [(u32, Kind); 17] = [
    (1, Kind::Message(MessageType::Normal)),
    (2, Kind::Message(MessageType::Chat)),
    (3, Kind::Message(MessageType::Groupchat)),
    (4, Kind::Message(MessageType::Headline)),
    (5, Kind::Message(MessageType::Error)),
    (16, Kind::Presence(PresenceType::Available)),
    (17, Kind::Presence(PresenceType::Unavailable)),
    (18, Kind::Presence(PresenceType::Subscribe)),
    (19, Kind::Presence(PresenceType::Subscribed)),
    (20, Kind::Presence(PresenceType::Unsubscribe)),
    (21, Kind::Presence(PresenceType::Unsubscribed)),
    (22, Kind::Presence(PresenceType::Probe)),
    (23, Kind::Presence(PresenceType::Error)),
    (32, Kind::Iq(IqType::Get)),
    (33, Kind::Iq(IqType::Set)),
    (34, Kind::Iq(IqType::Result)),
    (35, Kind::Iq(IqType::Error)),
];

fn number(kind: Kind) -> u32 {
    KINDS.iter().find(|(_, known)| *known == kind).map_or(0, |(number, _)| *number)
}

fn kind(number: u64) -> Option<Kind> {
    KINDS.iter().find(|(known, _)| u64::from(*known) == number).map(|(_, kind)| *kind)
}

/// What stands before the payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) first: u64,
    pub(crate) confirmed: u64,
    pub(crate) window: u32,
    pub(crate) missing: u64,
}

impl Head {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        for (field, value) in [(1, self.first), (2, self.confirmed), (4, self.missing)] {
            if value != 0 {
                encode_key(field, WireType::SixtyFourBit, out);
                out.put_u64_le(value);
            }
        }
        if self.window != 0 {
            encode_key(3, WireType::Varint, out);
            encode_varint(self.window.into(), out);
        }
    }
}

/// Appends an item as one payload. `stale`: of a kept message, see `Stanza.stale`.
pub(crate) fn write_item(item: &Item, stale: bool, out: &mut Vec<u8>) {
    const PAYLOADS: u32 = 5;
    const STANZA: u32 = 1;
    encode_key(PAYLOADS, WireType::LengthDelimited, out);
    if let Item::Stanza(envelope, addressees) = item {
        let length = stanza_length(envelope, addressees, stale);
        encode_varint((key_len(STANZA) + encoded_len_varint(length as u64) + length) as u64, out);
        encode_key(STANZA, WireType::LengthDelimited, out);
        encode_varint(length as u64, out);
        write_stanza(envelope, addressees, stale, out);
        return;
    }
    let payload = proto::Payload { what: what(item) };
    encode_varint(payload.encoded_len() as u64, out);
    payload.encode_raw(out);
}

fn what(item: &Item) -> Option<proto::payload::What> {
    use proto::payload::What;
    let session = |session: &SessionId| session.0.to_be_bytes().to_vec();
    Some(match item {
        Item::Stanza(..) => return None,
        Item::Reports(reports) => {
            let of = |acknowledged| reports.iter().filter(move |report| report.acknowledged == acknowledged);
            let sequences = |acknowledged| of(acknowledged).map(|report| report.sequence).collect();
            What::Reports(proto::Reports { acknowledged: sequences(true), returned: sequences(false) })
        }
        Item::Poke { full, session: id } => What::Poke(proto::Poke { full: full.to_string(), session: session(id) }),
        Item::Close { full, session: id, error } => What::Close(proto::Close {
            full: full.to_string(),
            session: session(id),
            condition: error.condition.as_str().to_owned(),
            text: error.text.as_deref().unwrap_or_default().to_owned(),
        }),
        Item::Request { id, content } => What::Request(proto::Request { id: *id, content: content.clone() }),
        Item::Response { id, content } => What::Response(proto::Response {
            id: *id,
            content: content.clone().unwrap_or_default(),
            refused: content.is_none(),
        }),
        Item::Notice(content) => What::Notice(proto::Notice { content: content.clone() }),
        Item::Void => What::Void(proto::Void {}),
    })
}

/// The fields of `Stanza` that are bytes, in the order of their numbers; empty ones are not written.
fn fields<'e>(envelope: &'e Envelope, id: &'e [u8]) -> [(u32, &'e [u8]); 4] {
    let to = envelope.to.as_ref().map_or("", |to| to.as_str());
    [(2, envelope.from.as_str().as_bytes()), (3, to.as_bytes()), (5, id), (7, &envelope.stanza)]
}

fn id(envelope: &Envelope) -> ([u8; 16], usize, bool) {
    match &envelope.tracking {
        Some(tracking) => (tracking.id.to_be_bytes(), 16, tracking.archived),
        None => ([0; 16], 0, false),
    }
}

const fn bytes_length(length: usize) -> usize {
    // Every field number here is below 16: its key is one byte.
    1 + encoded_len_varint(length as u64) + length
}

fn stanza_length(envelope: &Envelope, addressees: &Addressees, stale: bool) -> usize {
    let (id, length, archived) = id(envelope);
    let fields = fields(envelope, id.get(..length).unwrap_or_default());
    let written = fields.iter().filter(|(_, bytes)| !bytes.is_empty());
    let (targets, domain) = match addressees {
        Addressees::To => (0, 0),
        Addressees::Sessions(sessions) => (sessions.iter().map(|full| bytes_length(full.len())).sum(), 0),
        Addressees::Domain => (0, 2),
    };
    1 + encoded_len_varint(number(envelope.kind).into())
        + written.map(|(_, bytes)| bytes_length(bytes.len())).sum::<usize>()
        + targets
        + domain
        + 2 * (usize::from(archived) + usize::from(stale) + usize::from(envelope.copied))
}

fn write_stanza(envelope: &Envelope, addressees: &Addressees, stale: bool, out: &mut Vec<u8>) {
    let bytes = |field: u32, bytes: &[u8], out: &mut Vec<u8>| {
        encode_key(field, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    };
    let flag = |field: u32, out: &mut Vec<u8>| {
        encode_key(field, WireType::Varint, out);
        out.push(1);
    };
    encode_key(1, WireType::Varint, out);
    encode_varint(number(envelope.kind).into(), out);
    let (id, length, archived) = id(envelope);
    for (field, value) in fields(envelope, id.get(..length).unwrap_or_default()) {
        if field == 5
            && let Addressees::Sessions(sessions) = addressees
        {
            for full in sessions {
                bytes(4, full.as_bytes(), out);
            }
        }
        if field == 7 && archived {
            flag(6, out);
        }
        if !value.is_empty() {
            bytes(field, value, out);
        }
    }
    let flags = [(8, matches!(addressees, Addressees::Domain)), (9, stale), (10, envelope.copied)];
    flags.iter().filter(|(_, set)| *set).for_each(|(field, _)| flag(*field, out));
}

/// A payload where it lies.
#[derive(Debug)]
pub(crate) enum Payload<'b> {
    Stanza(Stanza<'b>),
    Reports {
        acknowledged: Vec<u64>,
        returned: Vec<u64>,
    },
    Poke {
        full: String,
        session: SessionId,
    },
    Close {
        full: String,
        session: SessionId,
        error: StreamError,
    },
    Request {
        id: u64,
        content: Bytes,
    },
    Response {
        id: u64,
        content: Option<Bytes>,
    },
    Notice(Bytes),
    /// Given up by whoever sent it, or of a newer release.
    Nothing,
}

/// A stanza where it lies.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Stanza<'b> {
    /// `None`: one that only newer releases know.
    pub(crate) kind: Option<Kind>,
    pub(crate) from: &'b str,
    pub(crate) to: &'b str,
    pub(crate) targets: SmallVec<[&'b str; 1]>,
    pub(crate) id: Option<u128>,
    pub(crate) archived: bool,
    pub(crate) to_domain: bool,
    pub(crate) stale: bool,
    pub(crate) copied: bool,
    pub(crate) stanza: &'b [u8],
}

/// Payloads as they lie, to be read by [`read_payload`].
pub(crate) type Payloads<'b> = SmallVec<[&'b [u8]; 16]>;

/// The head of a body, and its payloads as they lie, in their order.
pub(crate) fn read(body: &[u8]) -> Result<(Head, Payloads<'_>), Malformed> {
    let (mut head, mut payloads, mut rest) = (Head::default(), SmallVec::new(), body);
    while let Some((field, value)) = next(&mut rest)? {
        match (field, value) {
            (1, Value::Fixed(first)) => head.first = first,
            (2, Value::Fixed(confirmed)) => head.confirmed = confirmed,
            (3, Value::Varint(window)) => head.window = u32::try_from(window).map_err(|_| Malformed)?,
            (4, Value::Fixed(missing)) => head.missing = missing,
            (5, Value::Bytes(payload)) => payloads.push(payload),
            _ => {}
        }
    }
    Ok((head, payloads))
}

/// Reads one payload.
pub(crate) fn read_payload(payload: &[u8]) -> Result<Payload<'_>, Malformed> {
    let mut rest = payload;
    if let Some((1, Value::Bytes(stanza))) = next(&mut rest)? {
        return read_stanza(stanza).map(Payload::Stanza);
    }
    use proto::payload::What;
    let session = |bytes: Vec<u8>| match bytes.try_into() {
        Ok(bytes) => Ok(SessionId(u128::from_be_bytes(bytes))),
        Err(_) => Err(Malformed),
    };
    let decoded = proto::Payload::decode(payload).map_err(|_| Malformed)?;
    Ok(match decoded.what {
        None | Some(What::Void(_) | What::Stanza(_)) => Payload::Nothing,
        Some(What::Reports(proto::Reports { acknowledged, returned })) => Payload::Reports { acknowledged, returned },
        Some(What::Poke(proto::Poke { full, session: id })) => Payload::Poke { full, session: session(id)? },
        Some(What::Close(proto::Close { full, session: id, condition, text })) => {
            // One that only newer releases know.
            let condition = StreamCondition::from_name(&condition).unwrap_or(StreamCondition::UndefinedCondition);
            let text = Some(text).filter(|text| !text.is_empty()).map(Cow::Owned);
            let error = StreamError { condition, text };
            Payload::Close { full, session: session(id)?, error }
        }
        Some(What::Request(proto::Request { id, content })) => Payload::Request { id, content },
        Some(What::Response(proto::Response { id, content, refused })) => {
            Payload::Response { id, content: Some(content).filter(|_| !refused) }
        }
        Some(What::Notice(proto::Notice { content })) => Payload::Notice(content),
    })
}

fn read_stanza(bytes: &[u8]) -> Result<Stanza<'_>, Malformed> {
    let (mut stanza, mut rest) = (Stanza::default(), bytes);
    while let Some((field, value)) = next(&mut rest)? {
        match (field, value) {
            (1, Value::Varint(number)) => stanza.kind = kind(number),
            (2, Value::Bytes(from)) => stanza.from = text(from)?,
            (3, Value::Bytes(to)) => stanza.to = text(to)?,
            (4, Value::Bytes(target)) => stanza.targets.push(text(target)?),
            (5, Value::Bytes(id)) => {
                stanza.id = Some(u128::from_be_bytes(id.try_into().map_err(|_| Malformed)?));
            }
            (6, Value::Varint(archived)) => stanza.archived = archived != 0,
            (7, Value::Bytes(bytes)) => stanza.stanza = bytes,
            (8, Value::Varint(to_domain)) => stanza.to_domain = to_domain != 0,
            (9, Value::Varint(stale)) => stanza.stale = stale != 0,
            (10, Value::Varint(copied)) => stanza.copied = copied != 0,
            _ => {}
        }
    }
    Ok(stanza)
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

enum Value<'b> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'b [u8]),
    /// Four bytes, which no field here has.
    Other,
}

/// The next field.
fn next<'b>(rest: &mut &'b [u8]) -> Result<Option<(u32, Value<'b>)>, Malformed> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (field, wire) = decode_key(rest).map_err(|_| Malformed)?;
    let value = match wire {
        WireType::Varint => Value::Varint(decode_varint(rest).map_err(|_| Malformed)?),
        WireType::SixtyFourBit => {
            let (value, behind) = rest.split_first_chunk().ok_or(Malformed)?;
            *rest = behind;
            Value::Fixed(u64::from_le_bytes(*value))
        }
        WireType::LengthDelimited => {
            let length = decode_varint(rest).map_err(|_| Malformed)?;
            let length = usize::try_from(length).map_err(|_| Malformed)?;
            let (value, behind) = rest.split_at_checked(length).ok_or(Malformed)?;
            *rest = behind;
            Value::Bytes(value)
        }
        WireType::ThirtyTwoBit => {
            let (_, behind) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            *rest = behind;
            Value::Other
        }
        WireType::StartGroup | WireType::EndGroup => return Err(Malformed),
    };
    Ok(Some((field, value)))
}

#[cfg(test)]
mod tests;
