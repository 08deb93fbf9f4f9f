//! The states of a presence subscription and what changes them: RFC 6121 appendix A as tables, and what the tables leave
//! to the text: approval before a request (§3.4), and what ends with an item (§2.5).
//!
//! Pure: who is told, and how, is `crate::presence`'s matter.

#[cfg(test)]
mod tests;

use starling_store::rosters::{ItemChange, RosterItem, Subscription};
use starling_xmpp::{jid::BareJid, stanza::PresenceType};

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

    /// The contact has the user's presence.
    #[must_use]
    pub const fn gives(self) -> bool {
        matches!(self, Self::From | Self::FromPendingOut | Self::Both)
    }

    /// The state after the contact's request has been granted, by the user or before it came.
    const fn granted(self) -> Self {
        match self {
            Self::None | Self::NonePendingIn => Self::From,
            Self::NonePendingOut | Self::NonePendingOutIn => Self::FromPendingOut,
            Self::To | Self::ToPendingIn => Self::Both,
            Self::From | Self::FromPendingOut | Self::Both => self,
        }
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
    pub const fn presence(self) -> PresenceType {
        match self {
            Self::Subscribe => PresenceType::Subscribe,
            Self::Unsubscribe => PresenceType::Unsubscribe,
            Self::Subscribed => PresenceType::Subscribed,
            Self::Unsubscribed => PresenceType::Unsubscribed,
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

/// What becomes of the user's item when the user sends `change` to the contact.
#[must_use]
pub fn after_outbound(change: Change, contact: &BareJid, item: Option<&RosterItem>) -> ItemChange {
    let before = State::of(item);
    let cell = outbound(change, before);
    let mut after = item.cloned().unwrap_or_else(|| unknown(contact));
    set_state(&mut after, cell.next);
    match change {
        // §3.4.2: there is no request yet, and no need for one.
        Change::Subscribed if !cell.passes && !before.gives() => after.approved = true,
        // §3.4.2: neither now nor when it asks.
        Change::Unsubscribed => after.approved = false,
        Change::Subscribe | Change::Subscribed | Change::Unsubscribe => {}
    }
    // §3.1.2, §3.1.5, §3.4.2: whom the user speaks to is in the roster.
    after.listed |= matches!(change, Change::Subscribe | Change::Subscribed);
    settled(item, after)
}

/// What becomes of the user's item when the contact sends `change`. `request`: the stanza, which is kept until a request
/// is answered (§3.1.3).
#[must_use]
pub fn after_inbound(change: Change, contact: &BareJid, item: Option<&RosterItem>, request: &[u8]) -> ItemChange {
    let before = State::of(item);
    let mut after = item.cloned().unwrap_or_else(|| unknown(contact));
    if change == Change::Subscribe && is_granted(item) {
        set_state(&mut after, before.granted());
    } else {
        let cell = inbound(change, before);
        set_state(&mut after, cell.next);
        if change == Change::Subscribe && cell.passes {
            after.pending_in = Some(request.to_vec());
        }
    }
    settled(item, after)
}

/// §3.1.3 and §3.4.2: whether a request of the contact is answered with `subscribed` without asking the user, who has
/// granted it before.
#[must_use]
pub fn is_granted(item: Option<&RosterItem>) -> bool {
    State::of(item).gives() || item.is_some_and(|item| item.approved)
}

/// RFC 6121 §2.5.2: what the contact is sent when the user removes it, in this order. It ends what was, and what was
/// asked for.
#[must_use]
pub const fn removal(state: State) -> &'static [Change] {
    match state {
        State::None => &[],
        State::NonePendingOut | State::To => &[Change::Unsubscribe],
        State::NonePendingIn | State::From => &[Change::Unsubscribed],
        State::NonePendingOutIn | State::ToPendingIn | State::FromPendingOut | State::Both => {
            &[Change::Unsubscribe, Change::Unsubscribed]
        }
    }
}

/// An item of somebody of whom nothing is known.
#[must_use]
pub fn unknown(contact: &BareJid) -> RosterItem {
    RosterItem {
        contact: contact.clone(),
        name: None,
        groups: Vec::new(),
        subscription: Subscription::None,
        ask: false,
        pending_in: None,
        approved: false,
        listed: false,
        version: 0,
    }
}

fn set_state(item: &mut RosterItem, state: State) {
    item.subscription = state.subscription();
    item.ask = state.asks();
    if !state.is_asked() {
        item.pending_in = None;
    }
}

/// What to do about an item that was `before` and is to be `after`. One that nobody sees and that says nothing goes.
fn settled(before: Option<&RosterItem>, after: RosterItem) -> ItemChange {
    let says_nothing = !after.listed && State::of(Some(&after)) == State::None && !after.approved;
    match before {
        None if says_nothing => ItemChange::Keep,
        Some(_) if says_nothing => ItemChange::Remove,
        Some(before) if *before == after => ItemChange::Keep,
        _ => ItemChange::Put(after),
    }
}
