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

/// An item as a roster has it, in this state.
fn item(state: State, approved: bool, listed: bool) -> RosterItem {
    RosterItem {
        name: Some("Romeo".to_owned()),
        groups: vec!["Friends".to_owned()],
        subscription: state.subscription(),
        ask: state.asks(),
        pending_in: state.is_asked().then(|| b"<presence type='subscribe'/>".to_vec()),
        approved,
        listed,
        version: 7,
        ..unknown(&contact())
    }
}

fn contact() -> BareJid {
    "romeo@example.net".parse().unwrap()
}

/// What is there after `change`, of which `before` was there.
fn applied(before: Option<&RosterItem>, change: ItemChange) -> Option<RosterItem> {
    match change {
        ItemChange::Keep => before.cloned(),
        ItemChange::Put(item) => Some(item),
        ItemChange::Remove => None,
    }
}

#[test]
fn items_follow_the_tables_and_nothing_else_of_them_changes() {
    for state in State::ALL {
        for change in Change::ALL {
            let before = item(state, false, true);
            let sent = applied(Some(&before), after_outbound(change, &contact(), Some(&before))).unwrap();
            assert_eq!(State::of(Some(&sent)), outbound(change, state).next, "{change:?} {state:?}");
            let came = applied(Some(&before), after_inbound(change, &contact(), Some(&before), b"<new/>")).unwrap();
            assert_eq!(State::of(Some(&came)), inbound(change, state).next, "{change:?} {state:?}");
            for after in [sent, came] {
                assert_eq!((&after.name, &after.groups, after.listed), (&before.name, &before.groups, true));
            }
        }
    }
}

/// §3.1.3: of many requests of the same contact one is kept.
#[test]
fn rfc6121_3_1_3_the_first_request_is_kept_until_it_is_answered() {
    let first = applied(None, after_inbound(Change::Subscribe, &contact(), None, b"<first/>")).unwrap();
    assert_eq!(first.pending_in.as_deref(), Some(b"<first/>".as_slice()));
    assert!(!first.listed, "§2.1.2.5: nobody sees it in the roster");
    let second = after_inbound(Change::Subscribe, &contact(), Some(&first), b"<second/>");
    assert_eq!(second, ItemChange::Keep);
    let granted = applied(Some(&first), after_outbound(Change::Subscribed, &contact(), Some(&first))).unwrap();
    assert_eq!((granted.pending_in, granted.listed, granted.approved), (None, true, false));
    for (outgoing, change) in [(true, Change::Unsubscribed), (false, Change::Unsubscribe)] {
        let change = if outgoing {
            after_outbound(change, &contact(), Some(&first))
        } else {
            after_inbound(change, &contact(), Some(&first), b"")
        };
        assert_eq!(change, ItemChange::Remove, "nobody asks any more, and nobody saw it");
    }
}

/// §3.4.2: by the state in which the user approves, whether that is noted.
#[test]
fn rfc6121_3_4_2_approval_is_noted_where_there_is_neither_request_nor_subscription() {
    let noted = [
        (State::None, true),
        (State::NonePendingOut, true),
        (State::NonePendingIn, false),
        (State::NonePendingOutIn, false),
        (State::To, true),
        (State::ToPendingIn, false),
        (State::From, false),
        (State::FromPendingOut, false),
        (State::Both, false),
    ];
    for (state, approved) in noted {
        let before = item(state, false, true);
        let after = applied(Some(&before), after_outbound(Change::Subscribed, &contact(), Some(&before))).unwrap();
        assert_eq!(after.approved, approved, "{state:?}");
        // And it can be taken back.
        let back = applied(Some(&after), after_outbound(Change::Unsubscribed, &contact(), Some(&after))).unwrap();
        assert!(!back.approved, "{state:?}");
    }
    let new = applied(None, after_outbound(Change::Subscribed, &contact(), None)).unwrap();
    assert_eq!((new.approved, new.listed, State::of(Some(&new))), (true, true, State::None));
}

/// §3.4.3 and §3.1.3: what a request finds, whether it is answered without the user, and the state after it.
#[test]
fn rfc6121_3_4_3_a_request_that_was_approved_of_is_granted_at_once() {
    let rows = [
        (State::None, true, true, State::From),
        (State::NonePendingOut, true, true, State::FromPendingOut),
        (State::To, true, true, State::Both),
        (State::From, true, true, State::From),
        (State::FromPendingOut, false, true, State::FromPendingOut),
        (State::Both, false, true, State::Both),
        (State::None, false, false, State::NonePendingIn),
        (State::NonePendingIn, false, false, State::NonePendingIn),
        (State::To, false, false, State::ToPendingIn),
    ];
    for (state, approved, granted, next) in rows {
        let before = item(state, approved, true);
        assert_eq!(is_granted(Some(&before)), granted, "{state:?}");
        let change = after_inbound(Change::Subscribe, &contact(), Some(&before), b"<request/>");
        let after = applied(Some(&before), change).unwrap();
        assert_eq!((State::of(Some(&after)), after.approved), (next, approved), "{state:?}");
        assert_eq!(after.pending_in.is_some(), next.is_asked(), "{state:?}");
    }
    assert!(!is_granted(None));
}

/// §2.5.2, and what was asked for ends with it.
#[test]
fn rfc6121_2_5_2_a_removal_ends_the_subscription_of_each_side_that_has_one() {
    for state in State::ALL {
        let ends = removal(state);
        let has = matches!(state.subscription(), Subscription::To | Subscription::Both) || state.asks();
        assert_eq!(ends.contains(&Change::Unsubscribe), has, "{state:?}");
        assert_eq!(ends.contains(&Change::Unsubscribed), state.gives() || state.is_asked(), "{state:?}");
        // After both have been sent, nothing is left between the two.
        let left = ends.iter().fold(state, |state, change| outbound(*change, state).next);
        assert_eq!(left, State::None, "{state:?}");
    }
}

/// Appendix A is about one side; the two sides of a server that hosts both never contradict each other.
#[test]
fn what_one_side_sends_leaves_both_sides_with_the_same_subscription() {
    let agree = |user: State, contact: State| {
        let has = |state: State| matches!(state.subscription(), Subscription::To | Subscription::Both);
        has(user) == contact.gives() && has(contact) == user.gives()
    };
    for user in State::ALL {
        for contact in State::ALL.into_iter().filter(|contact| agree(user, *contact)) {
            for change in Change::ALL {
                let sent = outbound(change, user);
                let came = if sent.passes { inbound(change, contact).next } else { contact };
                // What nobody asked for is granted by nobody, and that one asks is no subscription yet.
                let asked_for = change != Change::Subscribed || !sent.passes || contact.asks();
                assert!(agree(sent.next, came) || !asked_for, "{user:?} {contact:?} {change:?}");
            }
        }
    }
}
