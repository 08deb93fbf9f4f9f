//! XEP-0191: Blocking Command.

use starling_test_support::{Element, RawClient, befriend, body, condition};

use crate::{both, juliet, romeo, verona};

const NS: &str = "urn:xmpp:blocking";
const ERRORS: &str = "urn:xmpp:blocking:errors";

/// Sends a request and passes over what comes before its answer, which is returned with it.
async fn answer(client: &mut RawClient, kind: &str, payload: &str) -> (Element, Vec<Element>) {
    client.send(&format!("<iq type='{kind}' id='asked'>{payload}</iq>")).await;
    let mut before = Vec::new();
    loop {
        let element = client.element().await;
        if element.as_raw().name() == "iq" && element.as_raw().attribute("id").as_deref() == Some("asked") {
            return (element, before);
        }
        before.push(element);
    }
}

fn command(name: &str, addresses: &[&str]) -> String {
    let items: String = addresses.iter().map(|jid| format!("<item jid='{jid}'/>")).collect();
    format!("<{name} xmlns='{NS}'>{items}</{name}>")
}

/// What came before the result.
async fn set(client: &mut RawClient, name: &str, addresses: &[&str]) -> Vec<Element> {
    let (result, before) = answer(client, "set", &command(name, addresses)).await;
    assert_eq!(result.as_raw().attribute("type").as_deref(), Some("result"), "{}", client.transcript());
    assert_eq!(result.as_raw().children().count(), 0);
    before
}

/// The presence from `from` with this type, whether it came before the result or comes after it.
async fn presence(client: &mut RawClient, before: Vec<Element>, from: &str, kind: Option<&str>) -> Element {
    let is_it = |element: &Element| {
        element.as_raw().attribute("from").as_deref() == Some(from)
            && element.as_raw().attribute("type").as_deref() == kind
    };
    match before.into_iter().find(is_it) {
        Some(element) => element,
        None => client.until_presence(from, kind).await,
    }
}

/// The list, sorted. From then on the session gets its changes.
async fn list(client: &mut RawClient) -> Vec<String> {
    let (result, _) = answer(client, "get", &format!("<blocklist xmlns='{NS}'/>")).await;
    let list = result.as_raw().child("blocklist", NS).unwrap_or_else(|| panic!("{}", client.transcript()));
    let mut items: Vec<_> = list.children().map(|item| item.attribute("jid").unwrap().into_owned()).collect();
    items.sort();
    items
}

/// A push: its command and its items.
fn pushed(element: &Element) -> (String, Vec<String>) {
    let raw = element.as_raw();
    assert_eq!((raw.name(), raw.attribute("type").as_deref()), ("iq", Some("set")));
    let command = raw.children().next().unwrap();
    assert_eq!(command.namespace(), NS);
    let items = command.children().map(|item| item.attribute("jid").unwrap().into_owned());
    (command.name().to_owned(), items.collect())
}

fn chat(to: &str, text: &str) -> String {
    format!("<message to='{to}' type='chat' id='m'><body>{text}</body></message>")
}

#[tokio::test]
async fn xep0191_3_1_the_server_says_that_it_knows_blocking() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let info = client.ask(&format!("<iq type='get' id='1' to='localhost'>{query}</iq>")).await;
    let query = info.as_raw().children().next().unwrap();
    assert!(query.children().any(|child| child.attribute("var").as_deref() == Some(NS)));
}

#[tokio::test]
async fn xep0191_3_2_the_list_is_empty_at_first_and_then_what_was_blocked() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    assert_eq!(list(&mut client).await, Vec::<String>::new());
    set(&mut client, "block", &["Romeo@localhost", "iago@shakespeare.example"]).await;
    set(&mut client, "block", &["romeo@localhost"]).await;
    assert_eq!(list(&mut client).await, ["iago@shakespeare.example", "romeo@localhost"]);
    // Another session of the account sees the same.
    let mut other = juliet(&server, "chamber").await;
    assert_eq!(list(&mut other).await, ["iago@shakespeare.example", "romeo@localhost"]);
}

#[tokio::test]
async fn xep0191_3_3_changes_are_pushed_to_those_who_asked_for_the_list() {
    let server = verona().start().await;
    let mut one = juliet(&server, "one").await;
    let mut two = juliet(&server, "two").await;
    let mut silent = juliet(&server, "silent").await;
    list(&mut one).await;
    list(&mut two).await;
    let commands = [
        ("block", vec!["romeo@localhost", "tybalt@localhost"]),
        ("unblock", vec!["tybalt@localhost"]),
        ("unblock", vec![]),
    ];
    for (name, items) in commands {
        one.send(&format!("<iq type='set' id='asked'>{}</iq>", command(name, &items))).await;
        // To the one that did it as well, before or after the result.
        let (first, second) = (one.element().await, one.element().await);
        let (push, result) =
            if first.as_raw().attribute("id").as_deref() == Some("asked") { (second, first) } else { (first, second) };
        assert_eq!(result.as_raw().attribute("type").as_deref(), Some("result"));
        let seen = two.element().await;
        for push in [push, seen] {
            let (pushed, found) = pushed(&push);
            assert_eq!((pushed.as_str(), found), (name, items.iter().map(ToString::to_string).collect()));
        }
    }
    silent.expect_nothing().await;
}

#[tokio::test]
async fn xep0191_3_3_what_blocks_nothing_is_a_bad_request() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for (payload, expected) in [
        (command("block", &[]), "bad-request"),
        (format!("<block xmlns='{NS}'><item/></block>"), "bad-request"),
        (format!("<block xmlns='{NS}'><q xmlns='urn:example:q'/></block>"), "bad-request"),
        (format!("<unblock xmlns='{NS}'><item/></unblock>"), "bad-request"),
        (command("block", &["@@"]), "jid-malformed"),
        (command("unblock", &["romeo@localhost", "@@"]), "jid-malformed"),
    ] {
        let (refused, _) = answer(&mut client, "set", &payload).await;
        assert_eq!(condition(&refused).as_deref(), Some(expected), "{payload}");
    }
    // Nothing of a request that was refused is done.
    assert_eq!(list(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_thousand_addresses_can_be_blocked_and_not_one_more() {
    let server = verona().set("c2s.limits.bytes_per_second", "off").start().await;
    let mut client = juliet(&server, "balcony").await;
    let addresses: Vec<_> = (0..1000).map(|n| format!("{n}@a.example")).collect();
    set(&mut client, "block", &addresses.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (refused, _) = answer(&mut client, "set", &command("block", &["one@more.example"])).await;
    assert_eq!(condition(&refused).as_deref(), Some("resource-constraint"));
    // What is blocked already is not more.
    set(&mut client, "block", &["7@a.example"]).await;
    assert_eq!(list(&mut client).await.len(), 1000);
}

#[tokio::test]
async fn nobody_elses_list_can_be_read_or_changed() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for (kind, payload) in [("get", format!("<blocklist xmlns='{NS}'/>")), ("set", command("block", &["a@b"]))] {
        let refused = client.ask(&format!("<iq type='{kind}' id='1' to='romeo@localhost'>{payload}</iq>")).await;
        assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
    }
    let mut romeo = romeo(&server, "orchard").await;
    assert_eq!(list(&mut romeo).await, Vec::<String>::new());
}

/// §3.3: messages and requests come back as if nobody were there; presence and answers end in silence.
#[tokio::test]
async fn xep0191_3_3_nothing_comes_through_from_who_is_blocked() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet.become_available(0).await;
    set(&mut juliet, "block", &["romeo@localhost"]).await;
    for to in ["juliet@localhost", "juliet@localhost/balcony"] {
        for kind in ["chat", "normal", "headline"] {
            let refused =
                romeo.ask(&format!("<message to='{to}' type='{kind}' id='m'><body>Ho!</body></message>")).await;
            assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"), "{}", romeo.transcript());
        }
        for kind in ["get", "set"] {
            let refused =
                romeo.ask(&format!("<iq to='{to}' type='{kind}' id='q'><q xmlns='urn:example:q'/></iq>")).await;
            assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"), "{}", romeo.transcript());
        }
    }
    romeo.send("<presence to='juliet@localhost'/><presence to='juliet@localhost/balcony'/>").await;
    romeo.send("<presence to='juliet@localhost' type='subscribe'/>").await;
    romeo.send("<presence to='juliet@localhost' type='probe'/>").await;
    romeo.send("<iq to='juliet@localhost/balcony' type='result' id='r'/>").await;
    let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    romeo.send(&format!("<message to='juliet@localhost/balcony' type='error' id='e'>{error}</message>")).await;
    romeo.expect_nothing().await;
    juliet.expect_nothing().await;
}

#[tokio::test]
async fn xep0191_3_3_what_was_blocked_does_not_wait_for_the_next_log_in() {
    let server = verona().start().await;
    let (mut one, mut romeo) = both(&server).await;
    set(&mut one, "block", &["romeo@localhost"]).await;
    one.close().await;
    let refused = romeo.ask(&chat("juliet@localhost", "later")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"), "{}", romeo.transcript());
    let mut two = juliet(&server, "two").await;
    two.send("<presence/>").await;
    two.expect_nothing_but_presence().await;
    set(&mut two, "unblock", &[]).await;
    two.expect_nothing_but_presence().await;
}

#[tokio::test]
async fn xep0191_3_3_to_who_is_blocked_nothing_is_sent_either() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    romeo.become_available(0).await;
    set(&mut juliet, "block", &["romeo@localhost"]).await;
    for stanza in [
        chat("romeo@localhost", "?"),
        chat("romeo@localhost/orchard", "?"),
        "<iq to='romeo@localhost/orchard' type='get' id='q'><q xmlns='urn:example:q'/></iq>".to_owned(),
        "<presence to='romeo@localhost'/>".to_owned(),
        "<presence to='romeo@localhost' type='subscribe'/>".to_owned(),
    ] {
        let refused = juliet.ask(&stanza).await;
        assert_eq!(condition(&refused).as_deref(), Some("not-acceptable"), "{}", juliet.transcript());
        let error = refused.as_raw().child("error", "jabber:client").unwrap();
        assert!(error.child("blocked", ERRORS).is_some());
        assert_eq!(error.attribute("type").as_deref(), Some("cancel"));
    }
    romeo.expect_nothing().await;
}

#[tokio::test]
async fn xep0191_3_3_3_4_presence_goes_when_blocked_and_comes_back_when_unblocked() {
    let server = verona().user("nurse@localhost", "n").start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    let mut nurse = RawClient::session(&server, "nurse@localhost", "n", "hall").await;
    for client in [&mut juliet, &mut romeo, &mut nurse] {
        client.become_available(0).await;
    }
    befriend(&mut juliet, &mut romeo).await;
    befriend(&mut juliet, &mut nurse).await;
    juliet.send("<presence><status>sighs</status></presence>").await;
    romeo.until_presence("juliet@localhost/balcony", None).await;
    nurse.until_presence("juliet@localhost/balcony", None).await;
    juliet.expect_nothing_but_presence().await;
    let before = set(&mut juliet, "block", &["romeo@localhost"]).await;
    romeo.until_presence("juliet@localhost/balcony", Some("unavailable")).await;
    // XEP-0016 §2.10: and she no longer sees him.
    presence(&mut juliet, before, "romeo@localhost/orchard", Some("unavailable")).await;
    // What changes meanwhile is not for him, nor his for her.
    juliet.send("<presence><status>waits</status></presence>").await;
    romeo.send("<presence><status>wanders</status></presence>").await;
    nurse.until_presence("juliet@localhost/balcony", None).await;
    assert!(romeo.until_quiet().await.iter().all(|seen| !is_from(seen, "juliet@localhost")));
    assert!(juliet.until_quiet().await.iter().all(|seen| !is_from(seen, "romeo@localhost")));
    let before = set(&mut juliet, "unblock", &["romeo@localhost"]).await;
    let back = romeo.until_presence("juliet@localhost/balcony", None).await;
    assert_eq!(back.as_raw().child("status", "jabber:client").unwrap().text(), "waits");
    let his = presence(&mut juliet, before, "romeo@localhost/orchard", None).await;
    assert_eq!(his.as_raw().child("status", "jabber:client").unwrap().text(), "wanders");
    nurse.expect_nothing().await;
}

fn is_from(element: &Element, account: &str) -> bool {
    element.as_raw().attribute("from").is_some_and(|from| from.starts_with(account))
}

#[tokio::test]
async fn xep0191_3_3_who_may_not_see_the_user_is_told_nothing() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet.become_available(0).await;
    romeo.become_available(0).await;
    set(&mut juliet, "block", &["romeo@localhost"]).await;
    set(&mut juliet, "unblock", &["romeo@localhost"]).await;
    romeo.expect_nothing().await;
}

#[tokio::test]
async fn xep0191_3_4_3_5_who_is_unblocked_gets_through_again() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    for how in [&["romeo@localhost"][..], &[][..]] {
        set(&mut juliet, "block", &["romeo@localhost", "paris@localhost"]).await;
        let refused = romeo.ask(&chat("juliet@localhost/balcony", "?")).await;
        assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
        set(&mut juliet, "unblock", how).await;
        romeo.send(&chat("juliet@localhost/balcony", "again")).await;
        assert_eq!(body(&juliet.message().await), "again");
        juliet.send(&chat("romeo@localhost/orchard", "too")).await;
        assert_eq!(body(&romeo.message().await), "too");
    }
    assert_eq!(list(&mut juliet).await, Vec::<String>::new());
    // What is not blocked can be unblocked.
    set(&mut juliet, "unblock", &["nobody@localhost"]).await;
}

#[tokio::test]
async fn xep0191_6_a_full_jid_blocks_one_resource_and_a_domain_all_of_its_users() {
    let server = verona().start().await;
    let (mut juliet, mut orchard) = both(&server).await;
    let mut garden = romeo(&server, "garden").await;
    set(&mut juliet, "block", &["romeo@localhost/orchard"]).await;
    let refused = orchard.ask(&chat("juliet@localhost/balcony", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
    garden.send(&chat("juliet@localhost/balcony", "!")).await;
    assert_eq!(body(&juliet.message().await), "!");
    set(&mut juliet, "unblock", &[]).await;
    set(&mut juliet, "block", &["localhost"]).await;
    let refused = garden.ask(&chat("juliet@localhost/balcony", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
    // The server itself stays within reach.
    juliet.expect_nothing().await;
}

/// XEP-0191 §5, note: an implementation must not block one resource of a user from another.
#[tokio::test]
async fn xep0191_5_nobody_can_block_themselves() {
    let server = verona().start().await;
    let mut one = juliet(&server, "one").await;
    let mut two = juliet(&server, "two").await;
    set(&mut one, "block", &["juliet@localhost", "juliet@localhost/two", "localhost"]).await;
    one.send(&chat("juliet@localhost/two", "Ay me")).await;
    assert_eq!(body(&two.message().await), "Ay me");
    two.send("<iq to='juliet@localhost/one' type='get' id='q'><q xmlns='urn:example:q'/></iq>").await;
    assert_eq!(one.element().await.as_raw().attribute("from").as_deref(), Some("juliet@localhost/two"));
    one.expect_nothing().await;
}

#[tokio::test]
async fn what_sessions_block_at_once_is_all_blocked() {
    let server = verona().start().await;
    let mut clients = Vec::new();
    for n in 0..4 {
        clients.push(juliet(&server, &format!("r{n}")).await);
    }
    let mut tasks = Vec::new();
    for (n, mut client) in clients.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            for m in 0..10 {
                set(&mut client, "block", &[&format!("{m}@{n}.example")]).await;
            }
            client
        }));
    }
    let mut client = None;
    for task in tasks {
        client = Some(task.await.unwrap());
    }
    assert_eq!(list(&mut client.unwrap()).await.len(), 40);
}
