//! People's clients log in with the strongest mechanism that they know, over STARTTLS and direct TLS, and chat.

use starling_interop_tests::{Client, Kind, Tls, go_send};
use starling_test_support::Server;

async fn server() -> Server {
    Server::builder().user("alice@localhost", "secret1").user("bob@localhost", "secret2").start().await
}

fn start(server: &Server, kind: Kind, user: &str, password: &str, tls: Tls) -> Client {
    let address = match tls {
        Tls::StartTls => server.starttls(),
        Tls::Direct => server.direct_tls(),
    };
    Client::start(kind, &format!("{user}@localhost"), password, address, tls, &server.certificate())
}

/// What each client knows best, against a server that offers all.
const fn strongest(kind: Kind) -> &'static str {
    match kind {
        // Python's TLS has no exporter, which slixmpp's -PLUS mechanisms need on TLS 1.3.
        Kind::Slixmpp => "SCRAM-SHA-512",
        Kind::XmppJs => "SCRAM-SHA-1",
    }
}

fn chat(server: &Server, alice: (Kind, Tls), bob: (Kind, Tls)) {
    let mut alices = start(server, alice.0, "alice", "secret1", alice.1);
    let mut bobs = start(server, bob.0, "bob", "secret2", bob.1);
    let online = [(alice.0, alices.event("online")), (bob.0, bobs.event("online"))];
    for (kind, online) in &online {
        assert_eq!(online["mechanism"], strongest(*kind), "{online}");
        assert_eq!(online["tls"], "TLSv1.3", "{online}");
    }
    let [(_, alice_online), (_, bob_online)] = online;
    for (text, number) in [("Grüße, Bob & <friends> 🐦", 1), ("second", 2), ("third", 3)] {
        alices.command(&format!("send bob@localhost {text}"));
        let message = bobs.event("message");
        assert_eq!(message["body"], text, "{number}");
        assert_eq!(message["from"], alice_online["jid"]);
    }
    let to = alice_online["jid"].as_str().unwrap_or_default();
    bobs.command(&format!("send {to} to your full address"));
    let message = alices.event("message");
    assert_eq!((&message["body"], &message["from"]), (&"to your full address".into(), &bob_online["jid"]));
    for client in [&mut alices, &mut bobs] {
        client.command("ping localhost");
        let _pong = client.event("pong");
        client.command("close");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slixmpp_over_starttls_chats_with_xmpp_js_over_direct_tls() {
    let server = server().await;
    chat(&server, (Kind::Slixmpp, Tls::StartTls), (Kind::XmppJs, Tls::Direct));
}

#[tokio::test(flavor = "multi_thread")]
async fn slixmpp_over_direct_tls_chats_with_xmpp_js_over_starttls() {
    let server = server().await;
    chat(&server, (Kind::Slixmpp, Tls::Direct), (Kind::XmppJs, Tls::StartTls));
}

#[tokio::test(flavor = "multi_thread")]
async fn slixmpp_learns_by_disco_what_the_server_does() {
    let server = server().await;
    let client = start(&server, Kind::Slixmpp, "alice", "secret1", Tls::StartTls);
    let online = client.event("online");
    let features: Vec<_> = online["features"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    for feature in ["http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items", "urn:xmpp:ping"]
    {
        assert!(features.contains(&feature), "{features:?}");
    }
}

const PRESENCES: &str = "starling_stanzas_received_total{kind=\"presence\"}";

async fn until(server: &Server, metric: &str, holds: impl Fn(f64) -> bool) {
    while !holds(server.metric(metric).await) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn go_sendxmpp_listens_and_sends_over_starttls_and_direct_tls() {
    let server = server().await;
    let certificate = server.certificate();
    for (tls, address) in [(Tls::StartTls, server.starttls()), (Tls::Direct, server.direct_tls())] {
        let mut alice = start(&server, Kind::Slixmpp, "alice", "secret1", tls);
        let online = alice.event("online");
        go_send("bob@localhost", "secret2", address, tls, &certificate, "alice@localhost", "from Go");
        assert_eq!(alice.event("message")["body"], "from Go", "{tls:?}");
        // The session that sent is gone first, or it would get what is meant for the one that listens.
        until(&server, "starling_sessions", |sessions| sessions < 2.0).await;
        let before = server.metric(PRESENCES).await;
        let bob = Client::go_listener("bob@localhost", "secret2", address, tls, &certificate);
        // Its presence says that it listens.
        until(&server, PRESENCES, |presences| presences > before).await;
        alice.command("send bob@localhost to Go");
        let line = loop {
            let line = bob.line();
            if line.contains("to Go") {
                break line;
            }
        };
        assert!(line.contains(online["jid"].as_str().unwrap().split('/').next().unwrap()), "{line}");
        drop(bob);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_to_each_of_them() {
    let server = server().await;
    for kind in [Kind::Slixmpp, Kind::XmppJs] {
        let client = start(&server, kind, "alice", "wrong", Tls::StartTls);
        let line = loop {
            let line = client.line();
            assert!(!line.contains("online"), "{line}");
            if ["failed", "error", "disconnected"].iter().any(|end| line.contains(end)) {
                break line;
            }
        };
        assert!(server.metric("starling_c2s_log_ins_total").await < 1.0, "{line}");
    }
}
