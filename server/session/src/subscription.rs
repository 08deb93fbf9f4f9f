//! The states of a presence subscription and what changes them: RFC 6121 appendix A as tables.
//!
//! Pure: who is told, and how, is `crate::presence`'s matter.

use starling_store::rosters::{RosterItem, Subscription};
use starling_xmpp::stanza::PresenceType;

/// RFC 6121 §A.1: what a user's server knows of a user and a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// "None"
    None,
    /// "None + Pending Out"
    NonePendingOut,
    /// "None + Pending In"
    NonePendingIn,
    /// "None + Pending Out+In"
    NonePendingOutIn,
    /// "To"
    To,
    /// "To + Pending In"
    ToPendingIn,
    /// "From"
    From,
    /// "From + Pending Out"
    FromPendingOut,
    /// "Both"
    Both,
}

impl State {
    /// All of them, in the order of the RFC's tables.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::NonePendingOut,
        Self::NonePendingIn,
        Self::NonePendingOutIn,
        Self::To,
        Self::ToPendingIn,
        Self::From,
        Self::FromPendingOut,
        Self::Both,
    ];

    /// The state that an item is in. What cannot be together (asking for what one has) counts as what one has.
    #[must_use]
    pub const fn of(item: Option<&RosterItem>) -> Self {
        let Some(item) = item else { return Self::None };
        match (item.subscription, item.ask, item.pending_in.is_some()) {
            (Subscription::None, false, false) => Self::None,
            (Subscription::None, true, false) => Self::NonePendingOut,
            (Subscription::None, false, true) => Self::NonePendingIn,
            (Subscription::None, true, true) => Self::NonePendingOutIn,
            (Subscription::To, _, false) => Self::To,
            (Subscription::To, _, true) => Self::ToPendingIn,
            (Subscription::From, false, _) => Self::From,
            (Subscription::From, true, _) => Self::FromPendingOut,
            (Subscription::Both, ..) => Self::Both,
        }
    }

    /// What of it the roster shows.
    #[must_use]
    pub const fn subscription(self) -> Subscription {
        match self {
            Self::None | Self::NonePendingOut | Self::NonePendingIn | Self::NonePendingOutIn => Subscription::None,
            Self::To | Self::ToPendingIn => Subscription::To,
            Self::From | Self::FromPendingOut => Subscription::From,
            Self::Both => Subscription::Both,
        }
    }

    /// *Pending out*: the user has asked.
    #[must_use]
    pub const fn asks(self) -> bool {
        matches!(self, Self::NonePendingOut | Self::NonePendingOutIn | Self::FromPendingOut)
    }

    /// *Pending in*: the contact has asked.
    #[must_use]
    pub const fn is_asked(self) -> bool {
        matches!(self, Self::NonePendingIn | Self::NonePendingOutIn | Self::ToPendingIn)
    }
}

/// The four stanzas that change subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// "I want your presence."
    Subscribe,
    /// "I want it no longer."
    Unsubscribe,
    /// "You may have mine."
    Subscribed,
    /// "You may not, or no longer."
    Unsubscribed,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Subscribe, Self::Unsubscribe, Self::Subscribed, Self::Unsubscribed];

    /// The change that presence of this type is, if it is one.
    #[must_use]
    pub const fn of(presence: PresenceType) -> Option<Self> {
        match presence {
            PresenceType::Subscribe => Some(Self::Subscribe),
            PresenceType::Subscribed => Some(Self::Subscribed),
            PresenceType::Unsubscribe => Some(Self::Unsubscribe),
            PresenceType::Unsubscribed => Some(Self::Unsubscribed),
            PresenceType::Available | PresenceType::Unavailable | PresenceType::Probe | PresenceType::Error => None,
        }
    }

    /// The stanza's type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
        }
    }
}

/// What a cell of the tables says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Outbound: the stanza goes to the contact's server. Inbound: it goes to the user's resources.
    pub passes: bool,
    /// The new state.
    pub next: State,
}

const fn pass(next: State) -> Cell {
    Cell { passes: true, next }
}

const fn stop(next: State) -> Cell {
    Cell { passes: false, next }
}

/// RFC 6121 §A.2: the user sends `change` to the contact.
#[must_use]
pub const fn outbound(change: Change, state: State) -> Cell {
    use State::{Both, From, FromPendingOut, None, NonePendingIn, NonePendingOut, NonePendingOutIn, To, ToPendingIn};
    match change {
        // §A.2.1
        Change::Subscribe => match state {
            None => pass(NonePendingOut),
            NonePendingIn => pass(NonePendingOutIn),
            From => pass(FromPendingOut),
            NonePendingOut | NonePendingOutIn | To | ToPendingIn | FromPendingOut | Both => pass(state),
        },
        // §A.2.2
        Change::Unsubscribe => match state {
            None | NonePendingIn | From => pass(state),
            NonePendingOut | To => pass(None),
            NonePendingOutIn | ToPendingIn => pass(NonePendingIn),
            FromPendingOut | Both => pass(From),
        },
        // §A.2.3; what does not pass may be a pre-approval (§3.4).
        Change::Subscribed => match state {
            None | NonePendingOut | To | From | FromPendingOut | Both => stop(state),
            NonePendingIn => pass(From),
            NonePendingOutIn => pass(FromPendingOut),
            ToPendingIn => pass(Both),
        },
        // §A.2.4; what does not pass may take a pre-approval back.
        Change::Unsubscribed => match state {
            None | NonePendingOut | To => stop(state),
            NonePendingIn | From => pass(None),
            NonePendingOutIn | FromPendingOut => pass(NonePendingOut),
            ToPendingIn | Both => pass(To),
        },
    }
}

/// RFC 6121 §A.3: the contact sends `change` to the user.
#[must_use]
pub const fn inbound(change: Change, state: State) -> Cell {
    use State::{Both, From, FromPendingOut, None, NonePendingIn, NonePendingOut, NonePendingOutIn, To, ToPendingIn};
    match change {
        // §A.3.1; what does not pass because the contact has it already is answered (§3.1.3).
        Change::Subscribe => match state {
            None => pass(NonePendingIn),
            NonePendingOut => pass(NonePendingOutIn),
            To => pass(ToPendingIn),
            NonePendingIn | NonePendingOutIn | ToPendingIn | From | FromPendingOut | Both => stop(state),
        },
        // §A.3.2
        Change::Unsubscribe => match state {
            None | NonePendingOut | To => stop(state),
            NonePendingIn | From => pass(None),
            NonePendingOutIn | FromPendingOut => pass(NonePendingOut),
            ToPendingIn | Both => pass(To),
        },
        // §A.3.3
        Change::Subscribed => match state {
            NonePendingOut => pass(To),
            NonePendingOutIn => pass(ToPendingIn),
            FromPendingOut => pass(Both),
            None | NonePendingIn | To | ToPendingIn | From | Both => stop(state),
        },
        // §A.3.4
        Change::Unsubscribed => match state {
            NonePendingOut | To => pass(None),
            NonePendingOutIn | ToPendingIn => pass(NonePendingIn),
            FromPendingOut | Both => pass(From),
            None | NonePendingIn | From => stop(state),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that the RFC's tables use, in their order.
    const NAMES: [&str; 9] = [
        "None",
        "None + Pending Out",
        "None + Pending In",
        "None + Pending Out/In",
        "To",
        "To + Pending In",
        "From",
        "From + Pending Out",
        "Both",
    ];

    /// `(ROUTE? or DELIVER?, NEW STATE)` for each existing state in the order of [`NAMES`]; `=`: no state change.
    type Table = [(&'static str, &'static str); 9];

    fn check(table: &Table, rule: impl Fn(State) -> Cell) {
        for (at, (passes, next)) in table.iter().enumerate() {
            let expected = if *next == "=" { at } else { NAMES.iter().position(|name| name == next).unwrap() };
            let cell = rule(State::ALL[at]);
            assert_eq!(cell.passes, *passes == "MUST", "{}", NAMES[at]);
            assert_eq!(cell.next, State::ALL[expected], "{}", NAMES[at]);
        }
    }

    #[test]
    fn rfc6121_a_2_1_outbound_subscribe() {
        let table = [
            ("MUST", "None + Pending Out"),
            ("MUST", "="),
            ("MUST", "None + Pending Out/In"),
            ("MUST", "="),
            ("MUST", "="),
            ("MUST", "="),
            ("MUST", "From + Pending Out"),
            ("MUST", "="),
            ("MUST", "="),
        ];
        check(&table, |state| outbound(Change::Subscribe, state));
    }

    #[test]
    fn rfc6121_a_2_2_outbound_unsubscribe() {
        let table = [
            ("MUST", "="),
            ("MUST", "None"),
            ("MUST", "="),
            ("MUST", "None + Pending In"),
            ("MUST", "None"),
            ("MUST", "None + Pending In"),
            ("MUST", "="),
            ("MUST", "From"),
            ("MUST", "From"),
        ];
        check(&table, |state| outbound(Change::Unsubscribe, state));
    }

    #[test]
    fn rfc6121_a_2_3_outbound_subscribed() {
        let table = [
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "From"),
            ("MUST", "From + Pending Out"),
            ("MUST NOT", "="),
            ("MUST", "Both"),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
        ];
        check(&table, |state| outbound(Change::Subscribed, state));
    }

    #[test]
    fn rfc6121_a_2_4_outbound_unsubscribed() {
        let table = [
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "None"),
            ("MUST", "None + Pending Out"),
            ("MUST NOT", "="),
            ("MUST", "To"),
            ("MUST", "None"),
            ("MUST", "None + Pending Out"),
            ("MUST", "To"),
        ];
        check(&table, |state| outbound(Change::Unsubscribed, state));
    }

    #[test]
    fn rfc6121_a_3_1_inbound_subscribe() {
        let table = [
            ("MUST", "None + Pending In"),
            ("MUST", "None + Pending Out/In"),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "To + Pending In"),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
        ];
        check(&table, |state| inbound(Change::Subscribe, state));
    }

    #[test]
    fn rfc6121_a_3_2_inbound_unsubscribe() {
        let table = [
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "None"),
            ("MUST", "None + Pending Out"),
            ("MUST NOT", "="),
            ("MUST", "To"),
            ("MUST", "None"),
            ("MUST", "None + Pending Out"),
            ("MUST", "To"),
        ];
        check(&table, |state| inbound(Change::Unsubscribe, state));
    }

    #[test]
    fn rfc6121_a_3_3_inbound_subscribed() {
        let table = [
            ("MUST NOT", "="),
            ("MUST", "To"),
            ("MUST NOT", "="),
            ("MUST", "To + Pending In"),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "Both"),
            ("MUST NOT", "="),
        ];
        check(&table, |state| inbound(Change::Subscribed, state));
    }

    #[test]
    fn rfc6121_a_3_4_inbound_unsubscribed() {
        let table = [
            ("MUST NOT", "="),
            ("MUST", "None"),
            ("MUST NOT", "="),
            ("MUST", "None + Pending In"),
            ("MUST", "None"),
            ("MUST", "None + Pending In"),
            ("MUST NOT", "="),
            ("MUST", "From"),
            ("MUST", "From"),
        ];
        check(&table, |state| inbound(Change::Unsubscribed, state));
    }

    #[test]
    fn a_state_survives_its_way_into_an_item_and_back() {
        for state in State::ALL {
            let item = RosterItem {
                contact: "romeo@example.net".parse().unwrap(),
                name: None,
                groups: Vec::new(),
                subscription: state.subscription(),
                ask: state.asks(),
                pending_in: state.is_asked().then(Vec::new),
                approved: false,
                listed: true,
                version: 0,
            };
            assert_eq!(State::of(Some(&item)), state);
        }
    }
}
