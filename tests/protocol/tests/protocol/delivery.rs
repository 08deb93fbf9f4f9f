//! RFC 6120 §10 and RFC 6121 §8: who gets what.

use std::time::Duration;

use starling_test_support::{Element, Received, befriend};
use tokio::time::timeout;

use crate::{both, juliet, romeo, verona};

const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

fn condition(answer: &Element) -> Option<String> {
    let error = answer.as_raw().child("error", "jabber:client")?;
    error.children().find(|child| child.namespace() == STANZAS).map(|child| child.name().to_owned())
}

fn body(element: &Element) -> String {
    element.as_raw().child("body", "jabber:client").map(|body| body.text().into_owned()).unwrap_or_default()
}

fn message(to: &str, kind: &str, body: &str) -> String {
    format!("<message to='{to}' type='{kind}' id='m'><body>{body}</body></message>")
}

#[tokio::test]
async fn rfc6121_8_5_3_1_a_full_jid_gets_it_available_or_not() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    for kind in ["chat", "normal", "headline", "groupchat"] {
        juliet.send(&message("romeo@localhost/orchard", kind, kind)).await;
        assert_eq!(body(&romeo.element().await), kind);
    }
    romeo.send(&message("juliet@localhost/balcony", "chat", "back")).await;
    assert_eq!(body(&juliet.element().await), "back");
}

#[tokio::test]
async fn rfc6121_8_5_2_1_1_a_bare_jid_reaches_available_resources_of_no_negative_priority() {
    let server = verona().start().await;
    let mut sender = juliet(&server, "balcony").await;
    let (mut high, mut low) = (romeo(&server, "high").await, romeo(&server, "low").await);
    let (mut negative, mut silent) = (romeo(&server, "negative").await, romeo(&server, "silent").await);
    high.become_available(5).await;
    low.become_available(0).await;
    negative.become_available(-1).await;
    for client in [&mut high, &mut low, &mut negative] {
        client.expect_nothing_but_presence().await;
    }
    sender.send(&message("romeo@localhost", "chat", "to whom?")).await;
    sender.expect_nothing().await;
    let mut takers = 0;
    for client in [&mut high, &mut low] {
        client.settled().await;
        client.send("<iq type='get' id='sync' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").await;
        loop {
            let element = client.element().await;
            match element.as_raw().name() {
                "message" => takers += 1,
                "iq" => break,
                _ => {}
            }
        }
    }
    assert!(takers >= 1, "{}", high.transcript());
    negative.expect_nothing().await;
    silent.expect_nothing().await;
}

/// What is for an account that does not exist, or for a resource that is not there, is refused alike (RFC 6121 §8.5.1);
/// what waits for an account is shown in `offline`.
#[tokio::test]
async fn rfc6121_8_5_2_2_nobody_available_and_nobody_at_all_look_alike() {
    let server = verona().start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut unavailable = romeo(&server, "orchard").await;
    for to in ["romeo@localhost", "nobody@localhost", "nobody@localhost/x", "romeo@localhost/other"] {
        if to.starts_with("nobody") {
            for kind in ["chat", "normal"] {
                let answer = sender.ask(&message(to, kind, "?")).await;
                assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"), "{to} {kind}");
                assert_eq!(answer.as_raw().attribute("from").as_deref(), Some(to));
            }
        }
        let answer = sender.ask(&message(to, "groupchat", "?")).await;
        assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"), "{to}");
        sender.send(&message(to, "headline", "?")).await;
        let answer = sender.ask(&format!("<iq type='get' id='i' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>")).await;
        assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"), "{to}\n{}", sender.transcript());
    }
    unavailable.expect_nothing().await;
}

#[tokio::test]
async fn rfc6121_4_5_after_unavailable_presence_the_bare_jid_reaches_nobody_until_there_is_presence_again() {
    let server = verona().start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.become_available(0).await;
    sender.send(&message("romeo@localhost", "chat", "one")).await;
    assert_eq!(body(&recipient.element().await), "one");
    recipient.send("<presence type='unavailable'/>").await;
    recipient.expect_nothing_but_presence().await;
    sender.send(&message("romeo@localhost", "chat", "two")).await;
    sender.expect_nothing().await;
    recipient.become_available(0).await;
    assert_eq!(body(&recipient.message().await), "two");
}

#[tokio::test]
async fn rfc6120_10_5_4_a_domain_that_is_not_served_is_not_found() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for to in ["verona.example", "romeo@verona.example", "romeo@verona.example/orchard"] {
        let answer = client.ask(&message(to, "chat", "?")).await;
        assert_eq!(condition(&answer).as_deref(), Some("remote-server-not-found"), "{}", client.transcript());
    }
}

#[tokio::test]
async fn rfc6120_8_2_3_a_request_and_its_answer_between_two_clients() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    for kind in ["get", "set"] {
        juliet
            .send(&format!("<iq type='{kind}' id='q1' to='romeo@localhost/orchard'><q xmlns='urn:example:q'/></iq>"))
            .await;
        let request = romeo.element().await;
        assert_eq!(request.as_raw().attribute("from").as_deref(), Some("juliet@localhost/balcony"));
        assert!(request.as_raw().child("q", "urn:example:q").is_some());
        romeo.send("<iq type='result' id='q1' to='juliet@localhost/balcony'><a xmlns='urn:example:q'/></iq>").await;
        let answer = juliet.element().await;
        assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"));
        assert_eq!(answer.as_raw().attribute("from").as_deref(), Some("romeo@localhost/orchard"));
        assert!(answer.as_raw().child("a", "urn:example:q").is_some());
    }
}

/// RFC 6121 §8.5.2.1.3: the server answers for the account; its resources see nothing.
#[tokio::test]
async fn rfc6121_8_5_2_1_3_an_iq_to_a_bare_jid_is_never_handed_on() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    romeo.become_available(0).await;
    let answer = juliet.ask("<iq type='get' id='1' to='romeo@localhost'><q xmlns='urn:example:q'/></iq>").await;
    assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"));
    romeo.expect_nothing().await;
}

#[tokio::test]
async fn rfc6120_10_1_a_thousand_messages_arrive_once_and_in_order() {
    let server = verona().set("c2s.limits.bytes_per_second", "off").start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    let sender = async {
        let mut batch = String::new();
        for number in 0..1000 {
            batch.push_str(&message("romeo@localhost/orchard", "chat", &number.to_string()));
            if number % 50 == 49 {
                juliet.send(&batch).await;
                batch.clear();
            }
        }
        juliet.expect_nothing().await;
    };
    let recipient = async {
        for number in 0..1000 {
            assert_eq!(body(&romeo.element().await), number.to_string());
        }
        romeo.expect_nothing().await;
    };
    tokio::join!(sender, recipient);
}

/// RFC 6120 §10.1: also when some of them are answered by the server itself.
#[tokio::test]
async fn rfc6120_10_1_answers_come_in_the_order_of_the_questions() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let mut batch = String::new();
    for number in 0..100 {
        let payload = ["<ping xmlns='urn:xmpp:ping'/>", "<query xmlns='http://jabber.org/protocol/disco#info'/>"];
        batch.push_str(&format!("<iq type='get' id='{number}' to='localhost'>{}</iq>", payload[number % 2]));
    }
    client.send(&batch).await;
    for number in 0..100 {
        let answer = client.element().await;
        assert_eq!(answer.as_raw().attribute("id").as_deref(), Some(number.to_string().as_str()));
    }
}

/// A recipient that reads nothing: what it has no room for comes back, nothing is lost in silence, and the server's memory
/// does not grow with what is sent.
#[tokio::test]
async fn a_recipient_that_reads_nothing_costs_the_sender_errors_not_the_server_memory() {
    let server = verona()
        .set("c2s.limits.bytes_per_second", "off")
        .set("c2s.limits.queue_stanzas", "100")
        .set("c2s.limits.queue_bytes", "200000")
        .start()
        .await;
    let (mut juliet, mut romeo) = both(&server).await;
    romeo.become_available(0).await;
    let text = "x".repeat(10_000);
    let (mut sent, mut refused, mut before) = (0, 0, 0);
    for round in 0..200 {
        // By then all is full that can be.
        if round == 50 {
            before = server.memory_kib();
        }
        for _ in 0..20 {
            juliet.send(&message("romeo@localhost/orchard", "chat", &text)).await;
            sent += 1;
        }
        juliet.settled().await;
        juliet.send("<iq type='get' id='sync' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").await;
        loop {
            let answer = juliet.element().await;
            if answer.as_raw().name() == "iq" {
                break;
            }
            assert_eq!(condition(&answer).as_deref(), Some("resource-constraint"));
            refused += 1;
        }
    }
    let grown = server.memory_kib().saturating_sub(before);
    assert!(refused > 0 && refused < sent, "{refused} of {sent}");
    // The database's own caches are in it.
    assert!(grown < 16 * 1024, "grew by {grown} KiB for 30 MB");
    let mut arrived = 0;
    while arrived + refused < sent {
        assert_eq!(body(&romeo.element().await).len(), text.len());
        arrived += 1;
    }
    romeo.expect_nothing().await;
}

/// RFC 6121 §4.4.2 and §4.5.2 within one account: its own resources see each other.
#[tokio::test]
async fn rfc6121_4_presence_reaches_the_accounts_own_resources_and_nobody_else() {
    let server = verona().start().await;
    let (mut stranger, mut one) = (romeo(&server, "orchard").await, juliet(&server, "one").await);
    stranger.become_available(0).await;
    one.become_available(0).await;
    let mut two = juliet(&server, "two").await;
    two.send("<presence/>").await;
    let seen = loop {
        let presence = one.element().await;
        if presence.as_raw().attribute("from").as_deref() == Some("juliet@localhost/two") {
            break presence;
        }
    };
    assert_eq!(seen.as_raw().name(), "presence");
    drop(two);
    let gone = one.element().await;
    assert_eq!(gone.as_raw().attribute("type").as_deref(), Some("unavailable"), "{}", one.transcript());
    assert_eq!(gone.as_raw().attribute("from").as_deref(), Some("juliet@localhost/two"));
    let quiet = timeout(Duration::from_millis(100), stranger.receive()).await;
    assert!(quiet.is_err(), "{:?}", quiet.map(|received| matches!(received, Received::Element(_))));
}

/// What waits for a client is bounded: of presence, the latest of each contact is told once there is room again.
#[tokio::test]
async fn presence_that_does_not_fit_is_told_as_it_is_by_then() {
    let server = verona().set("c2s.limits.bytes_per_second", "off").set("c2s.limits.queue_stanzas", "20").start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet.become_available(0).await;
    romeo.become_available(0).await;
    befriend(&mut juliet, &mut romeo).await;
    let status = "x".repeat(50_000);
    for number in 0..400 {
        juliet.send(&format!("<presence><show>away</show><status>{number} {status}</status></presence>")).await;
        juliet.until_presence("juliet@localhost/balcony", None).await;
    }
    juliet.send("<presence><status>last</status></presence>").await;
    juliet.expect_nothing_but_presence().await;
    let mut seen = 0;
    loop {
        let presence = romeo.until_presence("juliet@localhost/balcony", None).await;
        seen += 1;
        let status = presence.as_raw().child("status", "jabber:client").map(|status| status.text().into_owned());
        if status.as_deref() == Some("last") {
            break;
        }
    }
    assert!(seen < 400, "everything fitted: nothing was shown");
}
