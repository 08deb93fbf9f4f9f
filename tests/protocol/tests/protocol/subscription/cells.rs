//! RFC 6121 §A.2 and §A.3 over sockets: from each state each stanza is sent, and both rosters are what the tables say.

use starling_test_support::{RawClient, Server};

use crate::roster::{act, came, interest};

const STATES: [&str; 9] = [
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

/// The contact's state where the user's is the one of [`STATES`] in the same place.
const MIRRORED: [&str; 9] = [
    "None",
    "None + Pending In",
    "None + Pending Out",
    "None + Pending Out/In",
    "From",
    "From + Pending Out",
    "To",
    "To + Pending In",
    "Both",
];

/// How the state comes about: `user: type` or `contact: type`.
const STEPS: [&[&str]; 9] = [
    &[],
    &["user: subscribe"],
    &["contact: subscribe"],
    &["user: subscribe", "contact: subscribe"],
    &["user: subscribe", "contact: subscribed"],
    &["user: subscribe", "contact: subscribed", "contact: subscribe"],
    &["contact: subscribe", "user: subscribed"],
    &["contact: subscribe", "user: subscribed", "user: subscribe"],
    &["user: subscribe", "contact: subscribed", "contact: subscribe", "user: subscribed"],
];

type Table = [(&'static str, &'static str); 9];

/// ROUTE? and NEW STATE of §A.2.1 to §A.2.4, in the order of [`STATES`]; `=`: no state change.
const OUTBOUND: [(&str, Table); 4] = [
    (
        "subscribe",
        [
            ("MUST", "None + Pending Out"),
            ("MUST", "="),
            ("MUST", "None + Pending Out/In"),
            ("MUST", "="),
            ("MUST", "="),
            ("MUST", "="),
            ("MUST", "From + Pending Out"),
            ("MUST", "="),
            ("MUST", "="),
        ],
    ),
    (
        "unsubscribe",
        [
            ("MUST", "="),
            ("MUST", "None"),
            ("MUST", "="),
            ("MUST", "None + Pending In"),
            ("MUST", "None"),
            ("MUST", "None + Pending In"),
            ("MUST", "="),
            ("MUST", "From"),
            ("MUST", "From"),
        ],
    ),
    (
        "subscribed",
        [
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "From"),
            ("MUST", "From + Pending Out"),
            ("MUST NOT", "="),
            ("MUST", "Both"),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
        ],
    ),
    (
        "unsubscribed",
        [
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "None"),
            ("MUST", "None + Pending Out"),
            ("MUST NOT", "="),
            ("MUST", "To"),
            ("MUST", "None"),
            ("MUST", "None + Pending Out"),
            ("MUST", "To"),
        ],
    ),
];

/// DELIVER? and NEW STATE of §A.3.1 to §A.3.4.
const INBOUND: [(&str, Table); 4] = [
    (
        "subscribe",
        [
            ("MUST", "None + Pending In"),
            ("MUST", "None + Pending Out/In"),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "To + Pending In"),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
        ],
    ),
    (
        "unsubscribe",
        [
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "None"),
            ("MUST", "None + Pending Out"),
            ("MUST NOT", "="),
            ("MUST", "To"),
            ("MUST", "None"),
            ("MUST", "None + Pending Out"),
            ("MUST", "To"),
        ],
    ),
    (
        "subscribed",
        [
            ("MUST NOT", "="),
            ("MUST", "To"),
            ("MUST NOT", "="),
            ("MUST", "To + Pending In"),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST NOT", "="),
            ("MUST", "Both"),
            ("MUST NOT", "="),
        ],
    ),
    (
        "unsubscribed",
        [
            ("MUST NOT", "="),
            ("MUST", "None"),
            ("MUST NOT", "="),
            ("MUST", "None + Pending In"),
            ("MUST", "None"),
            ("MUST", "None + Pending In"),
            ("MUST NOT", "="),
            ("MUST", "From"),
            ("MUST", "From"),
        ],
    ),
];

fn cell(table: &Table, state: &'static str) -> (bool, &'static str) {
    let (may, next) = table[STATES.iter().position(|known| *known == state).unwrap()];
    (may == "MUST", if next == "=" { state } else { next })
}

/// What the roster says in this state; an item that is not there says the same as one of state "None".
fn shown(state: &str) -> &'static str {
    match state {
        "None" | "None + Pending In" => "none",
        "None + Pending Out" | "None + Pending Out/In" => "none ask",
        "To" | "To + Pending In" => "to",
        "From" => "from",
        "From + Pending Out" => "from ask",
        "Both" => "both",
        other => panic!("{other}"),
    }
}

/// What the roster of `client` says of `contact`.
async fn seen(client: &mut RawClient, contact: &str) -> String {
    let items = interest(client).await;
    let item = items.iter().find_map(|item| item.strip_prefix(&format!("{contact} ")));
    item.unwrap_or("none").trim_end_matches(" approved").to_owned()
}

/// Whether a request of `contact` waits: another session that becomes available is told of it.
async fn is_asked(server: &Server, account: &str, contact: &str) -> bool {
    let mut other = RawClient::session(server, account, "p", "other").await;
    let told = act(&mut other, "<presence/>").await;
    other.close().await;
    told.contains(&format!("subscribe {contact}"))
}

async fn check(server: &Server, at: usize, kind: &str, number: usize) {
    let (user, contact) = (format!("user{number}@localhost"), format!("contact{number}@localhost"));
    let mut one = RawClient::session(server, &user, "p", "x").await;
    let mut other = RawClient::session(server, &contact, "p", "x").await;
    for client in [&mut one, &mut other] {
        interest(client).await;
        act(client, "<presence/>").await;
    }
    for step in STEPS[at] {
        let (who, step) = step.split_once(": ").unwrap();
        let (client, to) = if who == "user" { (&mut one, &contact) } else { (&mut other, &user) };
        act(client, &format!("<presence to='{to}' type='{step}'/>")).await;
    }
    for client in [&mut one, &mut other] {
        came(client).await;
    }
    let case = format!("{kind} in {}", STATES[at]);
    assert_eq!(seen(&mut one, &contact).await, shown(STATES[at]), "before {case}");
    assert_eq!(seen(&mut other, &user).await, shown(MIRRORED[at]), "before {case}");
    act(&mut one, &format!("<presence to='{contact}' type='{kind}'/>")).await;
    let table = |tables: &[(&str, Table)]| tables.iter().find(|(name, _)| *name == kind).unwrap().1;
    let (routed, own) = cell(&table(&OUTBOUND), STATES[at]);
    let (delivered, theirs) = if routed { cell(&table(&INBOUND), MIRRORED[at]) } else { (false, MIRRORED[at]) };
    let told = came(&mut other).await;
    assert_eq!(told.contains(&format!("{kind} {user}")), delivered, "{case}: {told:?}");
    assert_eq!(seen(&mut one, &contact).await, shown(own), "{case}");
    assert_eq!(seen(&mut other, &user).await, shown(theirs), "{case}");
    assert_eq!(is_asked(server, &user, &contact).await, own.contains("In"), "{case}");
    assert_eq!(is_asked(server, &contact, &user).await, theirs.contains("In"), "{case}");
}

#[tokio::test]
async fn rfc6121_a_2_a_3_every_stanza_in_every_state() {
    let count = STATES.len() * OUTBOUND.len();
    let users = |builder: starling_test_support::Builder, number: usize| {
        builder.user(&format!("user{number}@localhost"), "p").user(&format!("contact{number}@localhost"), "p")
    };
    let server = (0..count).fold(Server::builder(), users).start().await;
    for (number, (at, (kind, _))) in
        (0..STATES.len()).flat_map(|at| OUTBOUND.iter().map(move |row| (at, row))).enumerate()
    {
        check(&server, at, kind, number).await;
    }
}
