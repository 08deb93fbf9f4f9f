//! RFC 6121 §8 as a table: what becomes of a stanza for an account, by who is there to take it.
//!
//! A reader can hold [`decide`] against §8.5 line by line. Where the RFC leaves a choice between silence and an error,
//! the sender is told, except where it says that an error would disclose presence or could loop.

use starling_xmpp::{
    error::Condition,
    stanza::{IqType, Kind, MessageType, PresenceType},
};

/// Who is there for the address in `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// A full JID whose resource is bound (§8.5.3.1).
    FullMatch,
    /// A full JID whose resource is not bound; whether another resource of the account would take it in its stead
    /// (§8.5.3.2).
    FullNoMatch {
        /// An available resource with a non-negative priority exists.
        takers: bool,
    },
    /// A bare JID with at least one available resource of non-negative priority (§8.5.2.1).
    BareTakers,
    /// A bare JID without such a resource, or of an account that does not exist: the two must look alike (§8.5.1,
    /// §8.5.2.2, and §13.4 on directory harvesting).
    BareNone,
}

/// What is done with the stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Deliver to the resource that the full JID names.
    ToResource,
    /// Deliver to every available resource with a non-negative priority.
    ToTakers,
    /// Deliver to every available resource, whatever its priority (presence).
    ToAvailable,
    /// Keep for whoever of the account comes next.
    Store,
    /// The server answers on behalf of the account, or says that it does not know the request.
    OnBehalf,
    /// The sender gets this error.
    Refuse(Condition),
    /// It ends here in silence.
    Drop(Silence),
}

/// Why a stanza may end in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// An error or a result is never answered with an error (RFC 6120 §8.2.3, §8.3.1).
    NobodyWaits,
    /// A headline or a presence that nobody is there for.
    Unattended,
}

/// RFC 6121 §8.5. Presence subscriptions (§3) never come here: they act on rosters.
#[must_use]
pub fn decide(recipients: Recipients, kind: Kind) -> Decision {
    use Decision::{Drop, OnBehalf, Refuse, Store, ToAvailable, ToResource, ToTakers};
    use Recipients::{BareNone, BareTakers, FullMatch, FullNoMatch};
    const UNAVAILABLE: Decision = Refuse(Condition::ServiceUnavailable);
    const NOBODY_WAITS: Decision = Drop(Silence::NobodyWaits);
    const UNATTENDED: Decision = Drop(Silence::Unattended);

    match kind {
        Kind::Message(message) => match (recipients, message) {
            // §8.5.3.1
            (FullMatch, _) => ToResource,
            // §8.5.2.1.1, §8.5.2.2.1, §8.5.3.2.1, §8.5.1
            (BareTakers, MessageType::Normal | MessageType::Chat | MessageType::Headline) => ToTakers,
            (FullNoMatch { takers: true }, MessageType::Chat) => ToTakers,
            (FullNoMatch { takers: false } | BareNone, MessageType::Chat) | (BareNone, MessageType::Normal) => Store,
            (FullNoMatch { .. }, MessageType::Normal) => UNAVAILABLE,
            (FullNoMatch { .. } | BareTakers | BareNone, MessageType::Groupchat) => UNAVAILABLE,
            (FullNoMatch { .. } | BareNone, MessageType::Headline) => UNATTENDED,
            (FullNoMatch { .. } | BareTakers | BareNone, MessageType::Error) => NOBODY_WAITS,
        },
        Kind::Presence(_) => match recipients {
            // §8.5.3.1
            FullMatch => ToResource,
            // §8.5.2.1.2: to all available resources, of which some may have a negative priority.
            BareTakers | BareNone => ToAvailable,
            // §8.5.3.2.2
            FullNoMatch { .. } => UNATTENDED,
        },
        Kind::Iq(iq) => match (recipients, iq) {
            // §8.5.3.1
            (FullMatch, _) => ToResource,
            // §8.5.2.1.3, §8.5.2.2.3
            (BareTakers | BareNone, IqType::Get | IqType::Set) => OnBehalf,
            // §8.5.3.2.3
            (FullNoMatch { .. }, IqType::Get | IqType::Set) => UNAVAILABLE,
            (FullNoMatch { .. } | BareTakers | BareNone, IqType::Result | IqType::Error) => NOBODY_WAITS,
        },
    }
}

/// Whether this kind of presence acts on subscriptions (RFC 6121 §3) instead of being delivered.
#[must_use]
pub const fn is_subscription(presence: PresenceType) -> bool {
    match presence {
        PresenceType::Subscribe | PresenceType::Subscribed | PresenceType::Unsubscribe | PresenceType::Unsubscribed => {
            true
        }
        PresenceType::Available | PresenceType::Unavailable | PresenceType::Probe | PresenceType::Error => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONDITIONS: [Recipients; 5] = [
        Recipients::FullMatch,
        Recipients::FullNoMatch { takers: true },
        Recipients::FullNoMatch { takers: false },
        Recipients::BareTakers,
        Recipients::BareNone,
    ];

    fn row(kind: Kind) -> String {
        CONDITIONS
            .iter()
            .map(|condition| match decide(*condition, kind) {
                Decision::ToResource => 'D',
                Decision::ToTakers => 'M',
                Decision::ToAvailable => 'A',
                Decision::Store => 'O',
                Decision::OnBehalf => 'B',
                Decision::Refuse(_) => 'E',
                Decision::Drop(_) => 'S',
            })
            .collect()
    }

    /// The columns are `CONDITIONS`; the letters those of RFC 6121 §8.5.4, with A for all available and B for on behalf.
    #[test]
    fn rfc6121_8_5_4_every_cell_of_the_table() {
        let table = [
            (Kind::Message(MessageType::Normal), "DEEMO"),
            (Kind::Message(MessageType::Chat), "DMOMO"),
            (Kind::Message(MessageType::Groupchat), "DEEEE"),
            (Kind::Message(MessageType::Headline), "DSSMS"),
            (Kind::Message(MessageType::Error), "DSSSS"),
            (Kind::Presence(PresenceType::Available), "DSSAA"),
            (Kind::Presence(PresenceType::Unavailable), "DSSAA"),
            (Kind::Iq(IqType::Get), "DEEBB"),
            (Kind::Iq(IqType::Set), "DEEBB"),
            (Kind::Iq(IqType::Result), "DSSSS"),
            (Kind::Iq(IqType::Error), "DSSSS"),
        ];
        for (kind, expected) in table {
            assert_eq!(row(kind), expected, "{kind:?}");
        }
    }
}
