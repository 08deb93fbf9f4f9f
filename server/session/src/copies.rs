//! Which messages are copied to an account's other resources (XEP-0280), and which are kept (XEP-0160, XEP-0313, XEP-0334).
//!
//! ```text
//!   Stanza ── facts() ──► Facts ──┬─ is_copied() ──► targets() ──► carbon(): the wrapper, once per copy
//!            one pass             └─ keep() ───────► Keep { archive, offline }
//! ```
//!
//! [`Facts::is_copied`] and [`Facts::keep`] are the two tables; everything else of the crate asks them and has no rules
//! of its own about payloads.

mod recent;
mod targets;
#[cfg(test)]
mod tests;
mod wrapper;

use starling_xml::Child;
use starling_xmpp::{
    jid::Jid,
    ns,
    stanza::{Kind, MessageType, Stanza},
};

pub use self::{
    recent::Recent,
    targets::{Copy, Original, Recipient, targets},
    wrapper::carbon,
};

/// XEP-0280.
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// XEP-0280 §6.2: the rules of its §6.1 are followed to the letter.
pub const CARBONS_RULES: &str = "urn:xmpp:carbons:rules:0";
/// XEP-0085.
const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// XEP-0184.
const RECEIPTS: &str = "urn:xmpp:receipts";
/// XEP-0333.
const MARKERS: &str = "urn:xmpp:chat-markers:0";
/// XEP-0334.
const HINTS: &str = "urn:xmpp:hints";
/// XEP-0249.
const DIRECT_INVITATION: &str = "jabber:x:conference";
/// XEP-0045.
const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// XEP-0359.
pub(crate) const STANZA_IDS: &str = "urn:xmpp:sid:0";

/// On which side of the conversation the account is that the copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// One of its resources sent the message (XEP-0280 §8).
    Sent,
    /// The message was sent to it (XEP-0280 §7).
    Received,
}

/// What the tables ask of a message. Taken from the element in one pass; nothing is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of the tables")]
pub struct Facts {
    /// Its type.
    pub kind: MessageType,
    /// It has a `<body/>`.
    pub body: bool,
    /// It has something of XEP-0085, XEP-0184 or XEP-0333, the payloads that XEP-0280 §6.1 names.
    pub im: bool,
    /// It has something besides chat states, hints, thread, and what only identifies it.
    pub content: bool,
    /// `<private/>` (XEP-0280 §9).
    pub private: bool,
    /// It is a copy, or says that it is: `<sent/>` or `<received/>` of XEP-0280.
    pub is_copy: bool,
    /// An invitation to a room: direct (XEP-0249) or mediated (XEP-0045 §7.8.2).
    pub invitation: bool,
    /// `<x/>` of XEP-0045 that is no invitation: the mark of a private message within a room.
    pub muc_private: bool,
    /// Its `to` is a full JID.
    pub to_full: bool,
    /// Its `from` is a full JID, or is not written: then a client of this server sent it.
    pub from_full: bool,
    /// `<no-copy/>` (XEP-0334 §4.3).
    pub no_copy: bool,
    /// `<no-store/>` (XEP-0334 §4.2).
    pub no_store: bool,
    /// `<no-permanent-store/>` (XEP-0334 §4.1).
    pub no_permanent_store: bool,
    /// `<store/>` (XEP-0334 §4.4).
    pub store: bool,
    /// A message of type error that answers one which was copied, see [`Recent`]. Not seen in the element itself:
    /// [`facts`] leaves it `false`.
    pub answers_copied: bool,
}

/// What is kept of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// It belongs into the archives of sender and recipient (XEP-0313 §6.1.1).
    pub archive: bool,
    /// It waits for the recipient if nobody is there to take it (XEP-0160 §3).
    pub offline: bool,
}

/// Looks at a message's children once. Other stanzas have no facts: `None`.
#[must_use]
pub fn facts(stanza: &Stanza<'_>) -> Option<Facts> {
    let Kind::Message(kind) = stanza.kind else { return None };
    let mut facts = Facts {
        kind,
        to_full: stanza.to.as_ref().is_some_and(Jid::is_full),
        from_full: stanza.from.as_ref().is_none_or(Jid::is_full),
        ..Facts::default()
    };
    for child in stanza.raw.children() {
        facts.see(&child);
    }
    Some(facts)
}

impl Facts {
    fn see(&mut self, child: &Child<'_>) {
        let name = child.name();
        match child.namespace() {
            CHAT_STATES => self.im = true,
            STANZA_IDS => {}
            HINTS => match name {
                "no-copy" => self.no_copy = true,
                "no-store" => self.no_store = true,
                "no-permanent-store" => self.no_permanent_store = true,
                "store" => self.store = true,
                _ => {}
            },
            CARBONS => match name {
                "private" => self.private = true,
                "sent" | "received" => {
                    self.is_copy = true;
                    self.content = true;
                }
                _ => {}
            },
            RECEIPTS | MARKERS => {
                self.im = true;
                self.content = true;
            }
            DIRECT_INVITATION => {
                self.invitation |= name == "x";
                self.content = true;
            }
            MUC_USER => {
                if name == "x" {
                    let invites = child.child("invite", MUC_USER).is_some();
                    self.invitation |= invites;
                    self.muc_private |= !invites;
                }
                self.content = true;
            }
            content if ns::is_content(content) && name == "body" => {
                self.body = true;
                self.content = true;
            }
            content if ns::is_content(content) && name == "thread" => {}
            _ => self.content = true,
        }
    }

    /// XEP-0280 §6.1, all of it (§6.2 makes that a promise). The first line that fits decides:
    ///
    /// | message | sent | received |
    /// |---|---|---|
    /// | with `<private/>` or `<no-copy/>` (§9; hints do not count in errors, XEP-0334 §5) | no | no |
    /// | with `<sent/>` or `<received/>`: copies are not copied again (§11) | no | no |
    /// | type groupchat | no | no |
    /// | type error | if it answers a copied message | if it answers a copied message |
    /// | with an invitation, direct or mediated | yes | yes |
    /// | private within a room, to the participant's full JID | yes | – |
    /// | private within a room, from the participant's full JID | – | no |
    /// | type chat | yes | yes |
    /// | type normal with `<body/>` | yes | yes |
    /// | any other with receipts, chat states or markers | yes | yes |
    /// | all others | no | no |
    #[must_use]
    pub const fn is_copied(&self, direction: Direction) -> bool {
        if self.private || self.is_copy {
            return false;
        }
        match self.kind {
            MessageType::Groupchat => return false,
            MessageType::Error => return self.answers_copied,
            MessageType::Chat | MessageType::Headline | MessageType::Normal => {}
        }
        if self.no_copy {
            return false;
        }
        if self.invitation {
            return true;
        }
        if self.muc_private {
            match direction {
                Direction::Sent if self.to_full => return true,
                Direction::Received if self.from_full => return false,
                Direction::Sent | Direction::Received => {}
            }
        }
        match self.kind {
            MessageType::Chat => true,
            MessageType::Normal => self.body || self.im,
            MessageType::Headline => self.im,
            MessageType::Groupchat | MessageType::Error => false,
        }
    }

    /// What is kept, by XEP-0160 §3 (offline), XEP-0313 §6.1.1 (archive) and XEP-0334 §4 (hints). The first line that
    /// fits decides:
    ///
    /// | message | archive | offline |
    /// |---|---|---|
    /// | type error; hints do not count (XEP-0334 §5) | no | no |
    /// | type groupchat: the room keeps it | no | no |
    /// | with `<no-store/>` | no | no |
    /// | with `<no-permanent-store/>`, type chat or normal, with content or `<store/>` | no | yes |
    /// | with `<no-permanent-store/>`, all others | no | no |
    /// | type headline with `<store/>`; never offline: RFC 6121 §8.5.2.2.1 | yes | no |
    /// | type headline | no | no |
    /// | type chat or normal with `<body/>` or `<store/>` | yes | yes |
    /// | type chat or normal with other content (receipts, invitations, …) | no | yes |
    /// | type chat or normal with nothing but chat states, thread, hints and ids | no | no |
    #[must_use]
    pub const fn keep(&self) -> Keep {
        const NOTHING: Keep = Keep { archive: false, offline: false };
        match self.kind {
            MessageType::Error | MessageType::Groupchat => NOTHING,
            MessageType::Chat | MessageType::Headline | MessageType::Normal if self.no_store => NOTHING,
            MessageType::Headline => Keep { archive: self.store && !self.no_permanent_store, offline: false },
            MessageType::Chat | MessageType::Normal => Keep {
                archive: (self.body || self.store) && !self.no_permanent_store,
                offline: self.content || self.store,
            },
        }
    }
}
