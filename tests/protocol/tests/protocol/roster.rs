//! RFC 6121 §2: the roster.

mod versions;

use starling_test_support::{Element, RawClient, condition};

use crate::{both, juliet, verona};

pub(crate) const NS: &str = "jabber:iq:roster";

/// An item as `jid subscription`, then `ask` and `approved` where they are said, then name and groups in quotes.
pub(crate) fn items(iq: &Element) -> Vec<String> {
    let query = iq.as_raw().child("query", NS).unwrap();
    let items = query.children().map(|item| {
        let attribute = |name: &str| item.attribute(name).map(|value| value.into_owned());
        let mut text = [attribute("jid").unwrap(), attribute("subscription").unwrap()].join(" ");
        if let Some(ask) = attribute("ask") {
            assert_eq!(ask, "subscribe");
            text.push_str(" ask");
        }
        if let Some(approved) = attribute("approved") {
            assert_eq!(approved, "true");
            text.push_str(" approved");
        }
        for text_of in attribute("name").into_iter().chain(item.children().map(|group| group.text().into_owned())) {
            text.push_str(&format!(" '{text_of}'"));
        }
        text
    });
    items.collect()
}

/// What came, one line each: `subscribe romeo@localhost` (type and sender; no type is `available`), `push …` with the
/// item, and what else it is by its name.
pub(crate) fn told(elements: &[Element]) -> Vec<String> {
    elements.iter().map(line).collect()
}

fn line(element: &Element) -> String {
    let raw = element.as_raw();
    let attribute = |name: &str| raw.attribute(name).map(std::borrow::Cow::into_owned);
    let kind = attribute("type").unwrap_or_else(|| "available".to_owned());
    match raw.name() {
        "presence" => format!("{kind} {}", attribute("from").unwrap()),
        "iq" if kind == "set" => format!("push {}", items(element).concat()),
        other => format!("{other} {kind}"),
    }
}

/// Sends, waits until it is handled, and returns what came to the client because of it.
pub(crate) async fn act(client: &mut RawClient, stanza: &str) -> Vec<String> {
    client.send(stanza).await;
    // What it was sent by its own doing may stand behind the first answer.
    let mut came = client.until_quiet().await;
    came.extend(client.until_quiet().await);
    told(&came)
}

/// What has come to the client until now.
pub(crate) async fn came(client: &mut RawClient) -> Vec<String> {
    told(&client.until_quiet().await)
}

/// Asks for the roster, so that changes are pushed from then on; the items.
pub(crate) async fn interest(client: &mut RawClient) -> Vec<String> {
    items(&client.roster().await)
}

fn set(item: &str) -> String {
    format!("<iq type='set' id='set'><query xmlns='{NS}'>{item}</query></iq>")
}

/// Sets an item; the condition of the error, if it is refused. What is pushed comes behind the answer.
async fn put(client: &mut RawClient, item: &str) -> Option<String> {
    let answer = client.ask(&set(item)).await;
    let raw = answer.as_raw();
    assert_eq!(raw.attribute("id").as_deref(), Some("set"), "{}", client.transcript());
    if raw.attribute("type").as_deref() == Some("result") {
        assert_eq!(raw.children().count(), 0);
        return None;
    }
    Some(condition(&answer).unwrap())
}

#[tokio::test]
async fn rfc6121_2_1_3_a_new_roster_is_empty_and_of_some_version() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let roster = client.roster().await;
    assert_eq!(items(&roster), Vec::<String>::new());
    assert_eq!(roster.as_raw().attribute("type").as_deref(), Some("result"));
    assert!(roster.as_raw().child("query", NS).unwrap().attribute("ver").is_some());
}

#[tokio::test]
async fn rfc6121_2_2_a_roster_set_is_pushed_to_those_who_asked_for_the_roster_available_or_not() {
    let server = verona().start().await;
    let (mut one, mut two) = (juliet(&server, "one").await, juliet(&server, "two").await);
    let mut silent = juliet(&server, "silent").await;
    interest(&mut one).await;
    interest(&mut two).await;
    let item = "<item jid='nurse@localhost' name='Nurse'><group>Servants</group><group>A &amp; B</group></item>";
    assert_eq!(put(&mut one, item).await, None);
    let expected = ["push nurse@localhost none 'Nurse' 'A & B' 'Servants'"];
    assert_eq!(came(&mut one).await, expected);
    assert_eq!(came(&mut two).await, expected);
    assert_eq!(came(&mut silent).await, Vec::<String>::new());
    assert_eq!(interest(&mut silent).await, ["nurse@localhost none 'Nurse' 'A & B' 'Servants'"]);
}

#[tokio::test]
async fn rfc6121_2_1_6_a_push_is_a_set_for_one_session_with_an_id_and_its_answers_end_in_silence() {
    let server = verona().start().await;
    let (mut one, mut romeo) = both(&server).await;
    interest(&mut one).await;
    let mut ids = Vec::new();
    for (name, answer) in [("A", "result"), ("B", "error"), ("C", "none")] {
        assert_eq!(put(&mut one, &format!("<item jid='nurse@localhost' name='{name}'/>")).await, None);
        let push = one.element().await;
        let raw = push.as_raw();
        assert_eq!(raw.attribute("to").as_deref(), Some("juliet@localhost/balcony"));
        assert!(raw.attribute("from").is_none_or(|from| from == "juliet@localhost"));
        let id = raw.attribute("id").unwrap().into_owned();
        match answer {
            "result" => one.send(&format!("<iq type='result' id='{id}'/>")).await,
            "error" => {
                let error =
                    "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
                one.send(&format!("<iq type='error' id='{id}' to='juliet@localhost'>{error}</iq>")).await;
            }
            _ => {}
        }
        one.expect_nothing().await;
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    romeo.expect_nothing().await;
}

/// §2.1.2.5 and §2.1.2.2: only the server says what the subscription is.
#[tokio::test]
async fn rfc6121_2_1_2_what_a_client_says_of_subscriptions_is_ignored() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    interest(&mut client).await;
    for subscription in ["none", "to", "from", "both", "nonsense"] {
        let item = format!("<item jid='a@example.net' subscription='{subscription}' ask='subscribe' approved='true'/>");
        assert_eq!(put(&mut client, &item).await, None);
        assert_eq!(came(&mut client).await, ["push a@example.net none"]);
    }
}

#[tokio::test]
async fn rfc6121_2_1_2_3_contacts_are_bare_jids_as_they_are_compared() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for jid in ["Romeo@LOCALHOST", "romeo@localhost/orchard", "gateway.example.net"] {
        assert_eq!(put(&mut client, &format!("<item jid='{jid}'/>")).await, None);
    }
    assert_eq!(interest(&mut client).await, ["gateway.example.net none", "romeo@localhost none"]);
}

#[tokio::test]
async fn rfc6121_2_3_3_what_cannot_be_set() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    interest(&mut client).await;
    let (long, fits) = ("x".repeat(1024), "x".repeat(1023));
    let groups = |count: usize, length: usize| -> String {
        (0..count).map(|number| format!("<group>{number:0length$}</group>")).collect()
    };
    let cases = [
        (String::new(), "bad-request"),
        ("<item jid='a@b.example'/><item jid='c@b.example'/>".to_owned(), "bad-request"),
        ("<item/>".to_owned(), "bad-request"),
        ("<item jid=''/>".to_owned(), "bad-request"),
        ("<item jid='@b.example'/>".to_owned(), "bad-request"),
        ("<q xmlns='urn:example:q'/>".to_owned(), "bad-request"),
        ("<item jid='a@b.example'><group>G</group><group>G</group></item>".to_owned(), "bad-request"),
        ("<item jid='a@b.example'><group/></item>".to_owned(), "not-acceptable"),
        (format!("<item jid='a@b.example' name='{long}'/>"), "not-acceptable"),
        (format!("<item jid='a@b.example'><group>{long}</group></item>"), "not-acceptable"),
        (format!("<item jid='a@b.example'>{}</item>", groups(65, 2)), "not-acceptable"),
        (format!("<item jid='a@b.example'>{}</item>", groups(9, 1000)), "not-acceptable"),
        ("<item jid='juliet@localhost'/>".to_owned(), "not-allowed"),
        ("<item jid='juliet@localhost' subscription='remove'/>".to_owned(), "not-allowed"),
    ];
    for (item, expected) in cases {
        assert_eq!(put(&mut client, &item).await.as_deref(), Some(expected), "{item}");
    }
    // Nothing of it is there, and nobody was told of it.
    client.expect_nothing().await;
    assert_eq!(interest(&mut client).await, Vec::<String>::new());
    // What is just short enough.
    let mut client = juliet(&server, "chamber").await;
    for item in [
        format!("<item jid='a@b.example' name='{fits}'><group>{fits}</group></item>"),
        format!("<item jid='a@b.example'>{}</item>", groups(64, 2)),
    ] {
        assert_eq!(put(&mut client, &item).await, None, "{item}");
    }
}

/// §2.1.5, §2.3.3; and who has an account cannot be found out by it.
#[tokio::test]
async fn rfc6121_2_3_3_nobody_elses_roster_can_be_read_or_changed() {
    let server = verona().start().await;
    let (mut one, mut romeo) = both(&server).await;
    assert_eq!(put(&mut romeo, "<item jid='juliet@localhost'/>").await, None);
    for to in ["romeo@localhost", "nobody@localhost"] {
        for (kind, item) in [("get", ""), ("set", "<item jid='a@b.example'/>"), ("set", "")] {
            let query = format!("<query xmlns='{NS}'>{item}</query>");
            let refused = one.ask(&format!("<iq type='{kind}' id='1' to='{to}'>{query}</iq>")).await;
            assert_eq!(condition(&refused).as_deref(), Some("forbidden"), "{to} {kind}");
        }
    }
    assert_eq!(interest(&mut romeo).await, ["juliet@localhost none"]);
    // One's own may be named.
    let own = format!("<iq type='get' id='1' to='juliet@localhost'><query xmlns='{NS}'/></iq>");
    assert_eq!(items(&one.ask(&own).await), Vec::<String>::new());
}

#[tokio::test]
async fn rfc6121_2_4_a_second_set_replaces_name_and_groups() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    interest(&mut client).await;
    for (item, expected) in [
        ("<item jid='a@b.example' name='A'><group>One</group></item>", "push a@b.example none 'A' 'One'"),
        ("<item jid='a@b.example' name='B'><group>Two</group></item>", "push a@b.example none 'B' 'Two'"),
        // §2.3.2: pushed as well if it says what was so already.
        ("<item jid='a@b.example' name='B'><group>Two</group></item>", "push a@b.example none 'B' 'Two'"),
        ("<item jid='a@b.example' name=''/>", "push a@b.example none"),
    ] {
        assert_eq!(put(&mut client, item).await, None);
        assert_eq!(came(&mut client).await, [expected]);
    }
}

#[tokio::test]
async fn rfc6121_2_5_what_is_removed_is_gone_and_what_is_not_there_is_not_found() {
    let server = verona().start().await;
    let (mut one, mut two) = (juliet(&server, "one").await, juliet(&server, "two").await);
    assert_eq!(put(&mut one, "<item jid='a@b.example' name='A'/>").await, None);
    for client in [&mut one, &mut two] {
        assert_eq!(interest(client).await, ["a@b.example none 'A'"]);
    }
    let remove = "<item jid='a@b.example' subscription='remove'/>";
    assert_eq!(put(&mut one, remove).await, None);
    for client in [&mut one, &mut two] {
        assert_eq!(came(client).await, ["push a@b.example remove"]);
        assert_eq!(interest(client).await, Vec::<String>::new());
    }
    assert_eq!(put(&mut one, remove).await.as_deref(), Some("item-not-found"));
    two.expect_nothing().await;
}

#[tokio::test]
async fn a_roster_has_a_thousand_items_and_not_one_more() {
    let server = verona().set("c2s.limits.bytes_per_second", "off").start().await;
    let mut client = juliet(&server, "balcony").await;
    for batch in 0..10 {
        let sets: String =
            (0..100).map(|number| set(&format!("<item jid='{}@a.example'/>", 100 * batch + number))).collect();
        client.send(&sets).await;
        for _ in 0..100 {
            let answer = client.element().await;
            assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"), "{}", client.transcript());
        }
    }
    assert_eq!(put(&mut client, "<item jid='more@a.example'/>").await.as_deref(), Some("resource-constraint"));
    let refused = client.ask("<presence to='more@a.example' type='subscribe' id='s'/>").await;
    assert_eq!(condition(&refused).as_deref(), Some("resource-constraint"));
    // Those that are there can be changed and removed, and then there is room.
    assert_eq!(put(&mut client, "<item jid='7@a.example' name='Seven'/>").await, None);
    assert_eq!(put(&mut client, "<item jid='8@a.example' subscription='remove'/>").await, None);
    assert_eq!(put(&mut client, "<item jid='more@a.example'/>").await, None);
    assert_eq!(interest(&mut client).await.len(), 1000);
}

/// What is answered is on disk.
#[tokio::test]
async fn rfc6121_2_3_2_what_was_set_survives_the_process() {
    let mut server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    assert_eq!(put(&mut client, "<item jid='a@b.example' name='A'><group>G</group></item>").await, None);
    server.kill9();
    server.start_again().await;
    let mut client = juliet(&server, "balcony").await;
    assert_eq!(interest(&mut client).await, ["a@b.example none 'A' 'G'"]);
}
