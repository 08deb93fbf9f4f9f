//! Which resources get a copy.

use starling_registry::{SessionId, SessionRecord};

use super::{Direction, Facts};

/// Who gets the message itself, by RFC 6121 §8.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Original {
    /// The one session that a full JID named.
    Session(SessionId),
    /// Every available session of a priority that is not negative.
    Takers,
    /// Nobody: it was stored, refused, or went to another domain.
    Nobody,
}

impl Original {
    /// Whether `record` got the message itself.
    #[must_use]
    pub fn went_to(self, record: &SessionRecord) -> bool {
        match self {
            Self::Session(id) => record.id == id,
            Self::Takers => record.takes_messages(),
            Self::Nobody => false,
        }
    }
}

/// The account that a message is for.
#[derive(Clone, Copy, Debug)]
pub enum Recipient<'r> {
    /// The sender's own: what it has in `own` and in `recipient` is the same, and nobody gets two copies.
    Same,
    /// Another account of this server.
    Account(&'r [SessionRecord]),
    /// Nobody whose resources are known here.
    Elsewhere,
}

/// One copy to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy<'r> {
    /// `<sent/>` or `<received/>`.
    pub direction: Direction,
    /// Who gets it.
    pub record: &'r SessionRecord,
}

/// XEP-0280 §7 and §8: every resource that enabled copies and did not get the message itself, neither by receiving nor
/// by having sent it. Availability and priority do not matter, and a resource gets one copy at most.
///
/// `own`: the resources of the sender, whose session is `sender` (`None`: it is not one of this server, and `own` is
/// empty).
pub fn targets<'r>(
    facts: &Facts,
    sender: Option<SessionId>,
    own: &'r [SessionRecord],
    recipient: Recipient<'r>,
    original: Original,
) -> impl Iterator<Item = Copy<'r>> + use<'r> {
    let (sent, received) = (facts.is_copied(Direction::Sent), facts.is_copied(Direction::Received));
    // To oneself: a copy shows the message as sent, which it is.
    let (theirs, own_got) = match recipient {
        Recipient::Same => (&[][..], original),
        Recipient::Account(theirs) => (theirs, Original::Nobody),
        Recipient::Elsewhere => (&[][..], Original::Nobody),
    };
    let wants = move |record: &SessionRecord| record.carbons && Some(record.id) != sender;
    let own = own
        .iter()
        .filter(move |record| sent && wants(record) && !own_got.went_to(record))
        .map(|record| Copy { direction: Direction::Sent, record });
    let theirs = theirs
        .iter()
        .filter(move |record| received && wants(record) && !original.went_to(record))
        .map(|record| Copy { direction: Direction::Received, record });
    own.chain(theirs)
}
