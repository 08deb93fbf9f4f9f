//! XEP-0280: Message Carbons.

use starling_test_support::{Element, RawClient, body, condition};

use crate::{juliet, romeo, verona};

const NS: &str = "urn:xmpp:carbons:2";
const RULES: &str = "urn:xmpp:carbons:rules:0";

async fn switch(client: &mut RawClient, name: &str) {
    let answer = client.ask(&format!("<iq type='set' id='{name}'><{name} xmlns='{NS}'/></iq>")).await;
    assert_eq!(answer.as_raw().attribute("id").as_deref(), Some(name), "{}", client.transcript());
    assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"), "{}", client.transcript());
}

/// A message, or a copy: what it is (empty: not a copy), its sender, its recipient and its body.
fn shown(message: &Element) -> (String, String, String, String) {
    let raw = message.as_raw();
    let copy = raw.children().find(|child| child.namespace() == NS && child.name() != "private");
    let inner = copy.and_then(|copy| {
        let forwarded = copy.child("forwarded", "urn:xmpp:forward:0")?;
        Some((copy.name().to_owned(), forwarded.child("message", "jabber:client")?))
    });
    let text = |value: Option<std::borrow::Cow<'_, str>>| value.unwrap_or_default().into_owned();
    match inner {
        Some((name, inner)) => {
            let body = inner.child("body", "jabber:client").map(|body| body.text().into_owned());
            (name, text(inner.attribute("from")), text(inner.attribute("to")), body.unwrap_or_default())
        }
        None => (String::new(), text(raw.attribute("from")), text(raw.attribute("to")), body(message)),
    }
}

/// Everything that was on its way. The answer to a ping may overtake what came in while the server wrote another; it does
/// not overtake the answer to the next ping.
async fn all(client: &mut RawClient) -> Vec<Element> {
    let mut all = client.until_quiet().await;
    all.extend(client.until_quiet().await);
    all
}

/// The messages that came, as [`shown`] says, shortened to what and text.
async fn came(client: &mut RawClient) -> Vec<(String, String)> {
    let all = all(client).await;
    let messages = all.iter().filter(|element| element.as_raw().name() == "message").map(shown);
    messages.map(|(what, _, _, text)| (what, text)).collect()
}

fn one(what: &str, text: &str) -> Vec<(String, String)> {
    vec![(what.to_owned(), text.to_owned())]
}

const NOTHING: Vec<(String, String)> = Vec::new();

fn chat(to: &str, text: &str) -> String {
    format!("<message to='{to}' type='chat' id='m'><body>{text}</body></message>")
}

#[tokio::test]
async fn xep0280_3_6_2_the_server_announces_copies_and_their_rules() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for to in ["to='localhost'", ""] {
        let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let info = client.ask(&format!("<iq type='get' id='1' {to}>{query}</iq>")).await;
        let query = info.as_raw().children().next().unwrap();
        for feature in [NS, RULES] {
            assert!(query.children().any(|child| child.attribute("var").as_deref() == Some(feature)), "{feature}");
        }
    }
}

#[tokio::test]
async fn xep0280_4_5_10_1_copies_are_enabled_and_disabled_as_often_as_the_client_likes() {
    let server = verona().start().await;
    let mut sender = romeo(&server, "orchard").await;
    let mut target = juliet(&server, "balcony").await;
    let mut other = juliet(&server, "chamber").await;
    for (name, gets) in [
        ("disable", false),
        ("enable", true),
        ("enable", true),
        ("disable", false),
        ("disable", false),
        ("enable", true),
    ] {
        switch(&mut other, name).await;
        sender.hears_of("juliet@localhost").await;
        sender.send(&chat("juliet@localhost/balcony", name)).await;
        sender.expect_nothing().await;
        assert_eq!(body(&target.message().await), name);
        assert_eq!(came(&mut other).await, if gets { one("received", name) } else { NOTHING });
    }
    // For nobody else.
    let refused = other.ask(&format!("<iq type='set' id='1' to='romeo@localhost'><enable xmlns='{NS}'/></iq>")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
}

#[tokio::test]
async fn xep0280_7_the_copy_of_a_received_message() {
    let server = verona().start().await;
    let mut sender = romeo(&server, "orchard").await;
    let mut target = juliet(&server, "balcony").await;
    let mut other = juliet(&server, "chamber").await;
    let mut silent = juliet(&server, "hall").await;
    switch(&mut target, "enable").await;
    switch(&mut other, "enable").await;
    let payload = "<thread>t</thread><x:q xmlns:x='urn:example:q' a='1'>&lt;</x:q>";
    let message = format!(
        "<message to='juliet@localhost/balcony' type='chat' id='m1' xml:lang='it'><body>Che?</body>{payload}</message>"
    );
    sender.send(&message).await;
    sender.expect_nothing().await;
    // §7: not to whom the message itself went.
    assert_eq!(came(&mut target).await, one("", "Che?"));
    let copy = other.message().await;
    let raw = copy.as_raw();
    assert_eq!(raw.attribute("from").as_deref(), Some("juliet@localhost"));
    assert_eq!(raw.attribute("to").as_deref(), Some("juliet@localhost/chamber"));
    assert_eq!(raw.attribute("type").as_deref(), Some("chat"));
    let forwarded = raw.child("received", NS).unwrap().child("forwarded", "urn:xmpp:forward:0").unwrap();
    let inner = forwarded.child("message", "jabber:client").unwrap();
    for (name, value) in
        [("from", "romeo@localhost/orchard"), ("to", "juliet@localhost/balcony"), ("type", "chat"), ("id", "m1")]
    {
        assert_eq!(inner.attribute(name).as_deref(), Some(value), "{}", other.transcript());
    }
    assert_eq!(inner.child("body", "jabber:client").unwrap().text(), "Che?");
    assert_eq!(inner.child("q", "urn:example:q").unwrap().text(), "<");
    silent.expect_nothing().await;
}

#[tokio::test]
async fn xep0280_7_to_the_bare_jid_each_resource_gets_the_message_or_a_copy() {
    let server = verona().start().await;
    let mut sender = romeo(&server, "orchard").await;
    let mut clients = Vec::new();
    // Priority, copies, what comes.
    for (at, (priority, copies, what)) in [
        (Some(5), true, Some("")),
        (Some(0), false, Some("")),
        (Some(-1), true, Some("received")),
        (Some(-1), false, None),
        (None, true, Some("received")),
        (None, false, None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = juliet(&server, &format!("r{at}")).await;
        if copies {
            switch(&mut client, "enable").await;
        }
        if let Some(priority) = priority {
            client.become_available(priority).await;
        }
        clients.push((client, what));
    }
    sender.send(&chat("juliet@localhost", "all")).await;
    sender.expect_nothing().await;
    for (client, what) in &mut clients {
        let expected = what.map_or(NOTHING, |what| one(what, "all"));
        assert_eq!(came(client).await, expected, "{}", client.transcript());
    }
}

#[tokio::test]
async fn xep0280_8_the_copy_of_a_sent_message() {
    let server = verona().start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut other = juliet(&server, "chamber").await;
    let mut target = romeo(&server, "orchard").await;
    switch(&mut other, "enable").await;
    // §8: whether the sender itself has copies or not, it gets none.
    for name in ["disable", "enable"] {
        switch(&mut sender, name).await;
        sender.send(&chat("romeo@localhost/orchard", name)).await;
        assert_eq!(body(&target.message().await), name);
        sender.expect_nothing().await;
        let copy = other.message().await;
        let raw = copy.as_raw();
        assert_eq!(raw.attribute("from").as_deref(), Some("juliet@localhost"));
        assert_eq!(raw.attribute("to").as_deref(), Some("juliet@localhost/chamber"));
        assert_eq!(raw.attribute("type").as_deref(), Some("chat"));
        // XEP-0313 §3.5: the id is that of the sender's archive; the recipient's is nobody else's matter.
        let forwarded = raw.child("sent", NS).unwrap().child("forwarded", "urn:xmpp:forward:0").unwrap();
        let inner = forwarded.child("message", "jabber:client").unwrap();
        let ids = inner.children().filter(|child| child.is("stanza-id", "urn:xmpp:sid:0"));
        let by: Vec<_> = ids.map(|id| id.attribute("by").unwrap().into_owned()).collect();
        assert_eq!(by, ["juliet@localhost"], "{}", other.transcript());
        let (what, from, to, text) = shown(&copy);
        assert_eq!(
            (what.as_str(), from.as_str(), to.as_str(), text.as_str()),
            ("sent", "juliet@localhost/balcony", "romeo@localhost/orchard", name)
        );
    }
    target.expect_nothing().await;
}

/// §8: also where the recipient is not there to get it.
#[tokio::test]
async fn xep0280_8_a_message_that_waits_for_its_recipient_is_copied_to_the_senders_resources() {
    let server = verona().start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut other = juliet(&server, "chamber").await;
    switch(&mut other, "enable").await;
    sender.send(&chat("romeo@localhost", "later")).await;
    sender.expect_nothing().await;
    assert_eq!(came(&mut other).await, one("sent", "later"));
}

#[tokio::test]
async fn xep0280_8_to_oneself_each_resource_gets_the_message_or_one_copy() {
    let server = verona().start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut target = juliet(&server, "chamber").await;
    let mut other = juliet(&server, "hall").await;
    for client in [&mut sender, &mut target, &mut other] {
        switch(client, "enable").await;
    }
    sender.send(&chat("juliet@localhost/chamber", "note")).await;
    assert_eq!(came(&mut sender).await, NOTHING);
    assert_eq!(came(&mut target).await, one("", "note"));
    assert_eq!(came(&mut other).await, one("sent", "note"));
}

#[tokio::test]
async fn xep0280_6_1_what_is_eligible_and_what_is_not() {
    let server = verona().start().await;
    let mut sender = romeo(&server, "orchard").await;
    let mut also = romeo(&server, "garden").await;
    let mut target = juliet(&server, "balcony").await;
    let mut other = juliet(&server, "chamber").await;
    switch(&mut also, "enable").await;
    switch(&mut other, "enable").await;
    // Type, payload, whether it is copied when sent, and when received.
    for (kind, payload, sent, received) in [
        ("chat", "<body>b</body>", true, true),
        ("chat", "<q xmlns='urn:example:q'/>", true, true),
        ("normal", "<body>b</body>", true, true),
        ("normal", "<q xmlns='urn:example:q'/>", false, false),
        ("normal", "<received xmlns='urn:xmpp:receipts' id='1'/>", true, true),
        ("normal", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", true, true),
        ("normal", "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", true, true),
        ("normal", "<x xmlns='jabber:x:conference' jid='r@muc.example'/>", true, true),
        ("normal", "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x>", true, true),
        ("chat", "<body>b</body><x xmlns='http://jabber.org/protocol/muc#user'/>", true, false),
        ("headline", "<body>b</body>", false, false),
        ("groupchat", "<body>b</body>", false, false),
        ("chat", "<body>b</body><private xmlns='urn:xmpp:carbons:2'/>", false, false),
        ("chat", "<body>b</body><no-copy xmlns='urn:xmpp:hints'/>", false, false),
    ] {
        sender.send(&format!("<message to='juliet@localhost/balcony' type='{kind}' id='m'>{payload}</message>")).await;
        sender.expect_nothing().await;
        target.message().await;
        let copies = (came(&mut also).await.len(), came(&mut other).await.len());
        assert_eq!(copies, (sent.into(), received.into()), "{kind} {payload}");
    }
}

/// §9: <private/> is not taken out on the way.
#[tokio::test]
async fn xep0280_9_what_is_private_arrives_as_it_was_sent() {
    let server = verona().start().await;
    let mut sender = romeo(&server, "orchard").await;
    let mut target = juliet(&server, "balcony").await;
    let payload = "<body>b</body><private xmlns='urn:xmpp:carbons:2'/><no-copy xmlns='urn:xmpp:hints'/>";
    sender.send(&format!("<message to='juliet@localhost/balcony' type='chat' id='m'>{payload}</message>")).await;
    let message = target.message().await;
    assert!(message.as_raw().child("private", NS).is_some());
    assert!(message.as_raw().child("no-copy", "urn:xmpp:hints").is_some());
}

#[tokio::test]
async fn xep0280_6_1_an_error_is_copied_if_it_answers_a_copied_message() {
    let server = verona().start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut other = juliet(&server, "chamber").await;
    let mut target = romeo(&server, "orchard").await;
    switch(&mut other, "enable").await;
    let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    for (kind, id, copied) in [("chat", "e1", true), ("headline", "e2", false)] {
        sender
            .send(&format!("<message to='romeo@localhost/orchard' type='{kind}' id='{id}'><body>b</body></message>"))
            .await;
        sender.expect_nothing().await;
        target.message().await;
        came(&mut other).await;
        target.send(&format!("<message to='juliet@localhost/balcony' type='error' id='{id}'>{error}</message>")).await;
        target.expect_nothing().await;
        assert_eq!(condition(&sender.message().await).as_deref(), Some("gone"));
        let copies = all(&mut other).await;
        assert_eq!(copies.len(), usize::from(copied), "{kind}\n{}", other.transcript());
        if copied {
            assert_eq!(copies[0].as_raw().attribute("type").as_deref(), Some("error"));
            assert_eq!(shown(&copies[0]).0, "received");
        }
    }
}

/// §11: a copy is from one's own bare JID, which nobody else's message can be.
#[tokio::test]
async fn xep0280_11_a_forged_copy_carries_its_forgers_name_and_is_not_copied() {
    let server = verona().start().await;
    let mut forger = romeo(&server, "orchard").await;
    let mut target = juliet(&server, "balcony").await;
    let mut other = juliet(&server, "chamber").await;
    for client in [&mut target, &mut other] {
        switch(client, "enable").await;
    }
    let inner =
        "<message xmlns='jabber:client' from='paris@localhost/p' to='juliet@localhost'><body>forged</body></message>";
    let copy = |name: &str, from: &str| {
        format!(
            "<message {from} to='juliet@localhost/balcony' type='chat'><{name} xmlns='{NS}'>\
             <forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded></{name}></message>"
        )
    };
    for name in ["received", "sent"] {
        for from in ["", "from='romeo@localhost'"] {
            forger.send(&copy(name, from)).await;
            forger.expect_nothing().await;
            let message = target.message().await;
            assert_eq!(message.as_raw().attribute("from").as_deref(), Some("romeo@localhost/orchard"));
            other.expect_nothing().await;
        }
    }
    // Not even by another resource of the same account.
    other.send(&copy("received", "from='juliet@localhost'")).await;
    let message = target.message().await;
    assert_eq!(message.as_raw().attribute("from").as_deref(), Some("juliet@localhost/chamber"));
    forger.send(&copy("received", "from='juliet@localhost'")).await;
    forger.expect_stream_error("invalid-from").await;
}

#[tokio::test]
async fn what_the_recipient_blocks_is_copied_to_nobody() {
    let server = verona().start().await;
    let mut sender = romeo(&server, "orchard").await;
    let mut also = romeo(&server, "garden").await;
    let mut target = juliet(&server, "balcony").await;
    let mut other = juliet(&server, "chamber").await;
    switch(&mut also, "enable").await;
    switch(&mut other, "enable").await;
    target
        .send("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='romeo@localhost'/></block></iq>")
        .await;
    target.until_quiet().await;
    let refused = sender.ask(&chat("juliet@localhost/balcony", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("service-unavailable"));
    let refused = target.ask(&chat("romeo@localhost/orchard", "?")).await;
    assert_eq!(condition(&refused).as_deref(), Some("not-acceptable"));
    for client in [&mut also, &mut other] {
        client.expect_nothing().await;
    }
}
