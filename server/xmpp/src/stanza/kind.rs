//! The three kinds of stanzas and their types.

use starling_xml::RawElement;

use super::Malformed;

/// The kind of a stanza, with its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Push (RFC 6120 §8.2.1).
    Message(MessageType),
    /// Broadcast to those who subscribed (RFC 6120 §8.2.2).
    Presence(PresenceType),
    /// Request and response (RFC 6120 §8.2.3).
    Iq(IqType),
}

/// RFC 6121 §5.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MessageType {
    /// One of a one-to-one conversation.
    Chat,
    /// An error that answers an earlier message.
    Error,
    /// To or from a room.
    Groupchat,
    /// Nobody expects an answer.
    Headline,
    /// The default, and what every unknown type counts as.
    #[default]
    Normal,
}

/// RFC 6121 §4.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PresenceType {
    /// No `type`: the sender is online.
    Available,
    /// An error that answers an earlier presence stanza.
    Error,
    /// A server asks for the current presence.
    Probe,
    /// The sender wishes to subscribe.
    Subscribe,
    /// The sender allows the recipient to see its presence.
    Subscribed,
    /// The sender is no longer available.
    Unavailable,
    /// The sender unsubscribes.
    Unsubscribe,
    /// The subscription is denied or ended.
    Unsubscribed,
}

/// RFC 6120 §8.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IqType {
    /// Asks for something.
    Get,
    /// Changes something.
    Set,
    /// Answers a get or set that worked.
    Result,
    /// Answers a get or set that did not.
    Error,
}

impl Kind {
    /// The local name of such a stanza.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message(_) => "message",
            Self::Presence(_) => "presence",
            Self::Iq(_) => "iq",
        }
    }

    /// Name, type, and the children that the type demands. The namespace is checked by the caller.
    pub(super) fn read(raw: &RawElement<'_>) -> Result<Self, Malformed> {
        let given = raw.attribute("type");
        let given = given.as_deref();
        let kind = match raw.name() {
            "message" => Self::Message(MessageType::from_value(given)),
            "presence" => Self::Presence(PresenceType::from_value(given).ok_or(Malformed::PresenceType)?),
            "iq" => {
                let kind = given.and_then(IqType::from_value).ok_or(Malformed::IqType)?;
                kind.check_children(raw)?;
                Self::Iq(kind)
            }
            _ => return Err(Malformed::NotAStanza),
        };
        if given == Some("error") && raw.child("error", raw.namespace()).is_none() {
            return Err(Malformed::ErrorWithoutChild);
        }
        Ok(kind)
    }
}

impl MessageType {
    /// The type of this value of the attribute; absent and unknown ones are [`MessageType::Normal`].
    #[must_use]
    pub fn from_value(value: Option<&str>) -> Self {
        match value {
            Some("chat") => Self::Chat,
            Some("error") => Self::Error,
            Some("groupchat") => Self::Groupchat,
            Some("headline") => Self::Headline,
            Some(_) | None => Self::Normal,
        }
    }

    /// The value of the attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Error => "error",
            Self::Groupchat => "groupchat",
            Self::Headline => "headline",
            Self::Normal => "normal",
        }
    }
}

impl PresenceType {
    /// The type of this value of the attribute; unknown ones are none.
    #[must_use]
    pub fn from_value(value: Option<&str>) -> Option<Self> {
        Some(match value {
            None => Self::Available,
            Some("error") => Self::Error,
            Some("probe") => Self::Probe,
            Some("subscribe") => Self::Subscribe,
            Some("subscribed") => Self::Subscribed,
            Some("unavailable") => Self::Unavailable,
            Some("unsubscribe") => Self::Unsubscribe,
            Some("unsubscribed") => Self::Unsubscribed,
            Some(_) => return None,
        })
    }

    /// The value of the attribute; availability has none.
    #[must_use]
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Available => None,
            Self::Error => Some("error"),
            Self::Probe => Some("probe"),
            Self::Subscribe => Some("subscribe"),
            Self::Subscribed => Some("subscribed"),
            Self::Unavailable => Some("unavailable"),
            Self::Unsubscribe => Some("unsubscribe"),
            Self::Unsubscribed => Some("unsubscribed"),
        }
    }
}

impl IqType {
    /// The type of this value of the attribute; unknown ones are none.
    #[must_use]
    pub fn from_value(value: &str) -> Option<Self> {
        match value {
            "get" => Some(Self::Get),
            "set" => Some(Self::Set),
            "result" => Some(Self::Result),
            "error" => Some(Self::Error),
            _ => None,
        }
    }

    /// The value of the attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Result => "result",
            Self::Error => "error",
        }
    }

    /// RFC 6120 §8.2.3 rules 3 to 6.
    fn check_children(self, raw: &RawElement<'_>) -> Result<(), Malformed> {
        let found = raw.count_children(2);
        let right = match self {
            Self::Get | Self::Set => found == 1,
            Self::Result => found <= 1,
            Self::Error => true,
        };
        if right { Ok(()) } else { Err(Malformed::IqChildren { kind: self }) }
    }
}
