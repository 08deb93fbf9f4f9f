//! The elements of stream management (XEP-0198): those that a client sends are read, those that a server sends written.

use std::{borrow::Cow, io::Write as _};

use starling_xml::RawElement;

use super::TooHigh;
use crate::{Condition, StreamCondition, StreamError, ns, stanza::attribute};

/// The stream feature that offers stream management (§3).
pub const FEATURE: &[u8] = b"<sm xmlns='urn:xmpp:sm:3'/>";

/// What a client says about its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nonza<'a> {
    /// `<enable/>` (§3).
    Enable {
        /// The client wants to be able to resume.
        resume: bool,
        /// How long it would like to be able to, in seconds. A value that is no number counts as none.
        max: Option<u32>,
    },
    /// `<resume/>` (§5).
    Resume {
        /// The id of the session.
        previd: Cow<'a, str>,
        /// How many stanzas the client has handled, modulo 2^32.
        h: u32,
    },
    /// `<r/>`: how much is handled? (§4)
    Request,
    /// `<a/>` (§4).
    Answer {
        /// How many stanzas the client has handled, modulo 2^32.
        h: u32,
    },
}

/// What is wrong with an element of this namespace. Always the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NonzaError {
    /// `h` of `<a/>` is missing or not a number of 32 bits.
    #[error("<a/> without a proper 'h'")]
    AnswerWithoutH,
    /// `h` of `<resume/>` is missing or not a number of 32 bits.
    #[error("<resume/> without a proper 'h'")]
    ResumeWithoutH,
    /// `previd` of `<resume/>` is missing.
    #[error("<resume/> without 'previd'")]
    ResumeWithoutPrevid,
    /// An element that this namespace does not have, or that only a server sends.
    #[error("no element that a client sends to manage its stream")]
    Unknown,
}

impl NonzaError {
    /// The condition for the `<failed/>` that answers it; `None`: it ends the stream.
    #[must_use]
    pub const fn failed(self) -> Option<Condition> {
        match self {
            Self::ResumeWithoutH | Self::ResumeWithoutPrevid => Some(Condition::BadRequest),
            Self::AnswerWithoutH | Self::Unknown => None,
        }
    }
}

impl From<NonzaError> for StreamError {
    fn from(error: NonzaError) -> Self {
        let condition = match error {
            NonzaError::AnswerWithoutH | NonzaError::ResumeWithoutH | NonzaError::ResumeWithoutPrevid => {
                StreamCondition::BadFormat
            }
            // RFC 6120 §4.9.3.24.
            NonzaError::Unknown => StreamCondition::UnsupportedStanzaType,
        };
        Self::with_text(condition, error.to_string())
    }
}

/// Reads what a client sent. `None`: the element is in another namespace.
///
/// # Errors
/// It is in this namespace and not what a client may send.
pub fn parse<'a>(element: &RawElement<'a>) -> Result<Option<Nonza<'a>>, NonzaError> {
    if element.namespace() != ns::SM {
        return Ok(None);
    }
    // XML Schema's unsignedInt, with the white space that its lexical form may have around it.
    let number = |name: &str| element.attribute(name).and_then(|value| value.trim_ascii().parse::<u32>().ok());
    let nonza = match element.name() {
        "enable" => {
            let resume = element.attribute("resume");
            Nonza::Enable { resume: matches!(resume.as_deref(), Some("true" | "1")), max: number("max") }
        }
        "resume" => Nonza::Resume {
            previd: element.attribute("previd").ok_or(NonzaError::ResumeWithoutPrevid)?,
            h: number("h").ok_or(NonzaError::ResumeWithoutH)?,
        },
        "r" => Nonza::Request,
        "a" => Nonza::Answer { h: number("h").ok_or(NonzaError::AnswerWithoutH)? },
        _ => return Err(NonzaError::Unknown),
    };
    Ok(Some(nonza))
}

/// `<enabled/>` (§3). `resumable`: the id to resume by, and for how many seconds after the connection ended.
pub fn write_enabled(resumable: Option<(&str, u32)>, out: &mut Vec<u8>) {
    open("enabled", out);
    if let Some((id, max)) = resumable {
        attribute("id", id, out);
        count("max", max, out);
        out.extend_from_slice(b" resume='true'");
    }
    out.extend_from_slice(b"/>");
}

/// `<resumed/>` (§5).
pub fn write_resumed(previd: &str, h: u32, out: &mut Vec<u8>) {
    open("resumed", out);
    attribute("previd", previd, out);
    count("h", h, out);
    out.extend_from_slice(b"/>");
}

/// `<failed/>` (§3, §5). `h`: what the server handled of the session that cannot be resumed, if it is known.
pub fn write_failed(condition: Condition, h: Option<u32>, out: &mut Vec<u8>) {
    open("failed", out);
    if let Some(h) = h {
        count("h", h, out);
    }
    out.extend_from_slice(b"><");
    out.extend_from_slice(condition.as_str().as_bytes());
    attribute("xmlns", ns::STANZAS, out);
    out.extend_from_slice(b"/></failed>");
}

/// `<a/>` (§4).
pub fn write_answer(h: u32, out: &mut Vec<u8>) {
    open("a", out);
    count("h", h, out);
    out.extend_from_slice(b"/>");
}

/// `<r/>` (§4).
pub fn write_request(out: &mut Vec<u8>) {
    open("r", out);
    out.extend_from_slice(b"/>");
}

/// The stream error `undefined-condition` with `<handled-count-too-high/>` (§4), for a stream whose header declares the
/// prefix `stream`. The end of the stream is not written.
pub fn write_handled_count_too_high(error: &TooHigh, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<stream:error><");
    out.extend_from_slice(StreamCondition::UndefinedCondition.as_str().as_bytes());
    attribute("xmlns", ns::STREAMS, out);
    out.extend_from_slice(b"/>");
    open("handled-count-too-high", out);
    count("h", error.h, out);
    count("send-count", error.sent, out);
    out.extend_from_slice(b"/></stream:error>");
}

fn open(name: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    attribute("xmlns", ns::SM, out);
}

fn count(name: &str, value: u32, out: &mut Vec<u8>) {
    // A vector takes whatever is written.
    write!(out, " {name}='{value}'").ok();
}
