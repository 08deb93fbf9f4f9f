//! Hostile input: each bad stream gets its own error, other sessions go on undisturbed, memory stays bounded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use starling_test_support::{RawClient, Server};

use crate::{both, juliet, verona};

const OPEN: &str = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                    xmlns:stream='http://etherx.jabber.org/streams'>";
const SASL: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";

/// Where in a stream the attack begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connected,
    Opened,
    Bound,
}

struct Attack {
    stage: Stage,
    condition: &'static str,
    bytes: Vec<u8>,
}

fn attacks() -> Vec<Attack> {
    use Stage::{Bound, Connected, Opened};
    const MANY: usize = 400_000;
    let table: Vec<(Stage, &'static str, String)> = vec![
        (Connected, "not-well-formed", "\u{16}\u{3}\u{1}\u{2}".to_owned()),
        (Connected, "not-well-formed", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (Connected, "not-well-formed", "\0".repeat(1000)),
        (Connected, "restricted-xml", format!("<!DOCTYPE s [<!ENTITY a '{}'>]>", "a".repeat(1000))),
        (Connected, "policy-violation", "<stream:stream a='".to_owned() + &"x".repeat(MANY)),
        (Connected, "policy-violation", format!("<{}", "n".repeat(MANY))),
        (Connected, "host-unknown", OPEN.replace("localhost", "elsewhere.example")),
        (Connected, "invalid-namespace", OPEN.replace("jabber:client", "jabber:server")),
        (Connected, "unsupported-version", OPEN.replace("1.0", "x")),
        (Connected, "unsupported-stanza-type", format!("{OPEN}{OPEN}</stream:stream>")),
        (Opened, "not-authorized", "<presence/>".to_owned()),
        (Opened, "not-authorized", "<message to='romeo@localhost'/>".to_owned()),
        (Opened, "unsupported-stanza-type", "<stream:features/>".to_owned()),
        (Opened, "policy-violation", format!("<auth {SASL}>{}", "A".repeat(MANY))),
        (Opened, "policy-violation", format!("<auth {SASL} mechanism='PLAIN'/>").repeat(10)),
        (Opened, "policy-violation", "<a>".repeat(MANY)),
        (Opened, "restricted-xml", "<!--".to_owned() + &"-".repeat(MANY)),
        (Bound, "policy-violation", "<a>".repeat(MANY)),
        (Bound, "policy-violation", format!("<message><body>{}", "x".repeat(MANY))),
        (Bound, "policy-violation", format!("<message {}", "a".repeat(MANY))),
        (Bound, "policy-violation", format!("<message {}/>", attributes(5_000))),
        (Bound, "policy-violation", format!("<message {}/>", declarations(5_000))),
        (Bound, "policy-violation", format!("<message><![CDATA[{}", "]".repeat(MANY))),
        (Bound, "not-well-formed", "<message a='1' a='1'/>".to_owned()),
        (Bound, "not-well-formed", "<message xmlns:p='urn:x' xmlns:q='urn:x' p:a='' q:a=''/>".to_owned()),
        (Bound, "not-well-formed", "<message></presence>".to_owned()),
        (Bound, "not-well-formed", "<message><body>&#xFFFE;</body></message>".to_owned()),
        (Bound, "bad-namespace-prefix", "<message><p:a/></message>".to_owned()),
        (Bound, "restricted-xml", "<message><body>&xxe;</body></message>".to_owned()),
        (Bound, "restricted-xml", "<?xml-stylesheet href='x'?>".to_owned()),
        (Bound, "invalid-from", "<message from='romeo@localhost/orchard' to='romeo@localhost'/>".to_owned()),
        (Bound, "unsupported-stanza-type", "<stream:error/>".to_owned()),
    ];
    table.into_iter().map(|(stage, condition, text)| Attack { stage, condition, bytes: text.into_bytes() }).collect()
}

fn attributes(count: usize) -> String {
    (0..count).map(|number| format!(" a{number}=''")).collect()
}

fn declarations(count: usize) -> String {
    (0..count).map(|number| format!(" xmlns:p{number}='urn:{number}'")).collect()
}

async fn at(server: &Server, stage: Stage, resource: &str) -> RawClient {
    match stage {
        Stage::Connected => RawClient::plain(server).await,
        Stage::Opened => {
            let mut client = RawClient::plain(server).await;
            client.open("localhost").await;
            client
        }
        Stage::Bound => juliet(server, resource).await,
    }
}

async fn suffer(server: &Server, attack: &Attack, resource: &str) {
    let mut client = at(server, attack.stage, resource).await;
    // The server may be gone before all is sent: it need not read what follows its error.
    client.try_send(&attack.bytes).await.ok();
    if attack.stage == Stage::Connected {
        client.header().await;
    }
    client.expect_stream_error(attack.condition).await;
}

/// Two clients that go on talking whatever happens beside them.
async fn talk(server: &Server, stop: &AtomicBool) -> u64 {
    let (mut juliet, mut romeo) = both(server).await;
    let mut exchanged = 0;
    while !stop.load(Ordering::Relaxed) {
        let body = format!("<message to='romeo@localhost/orchard' id='{exchanged}'><body>still here</body></message>");
        let sent = Instant::now();
        juliet.send(&body).await;
        let message = romeo.element().await;
        assert_eq!(message.as_raw().attribute("id").as_deref(), Some(exchanged.to_string().as_str()));
        assert!(sent.elapsed() < Duration::from_secs(3), "{:?} for a message", sent.elapsed());
        exchanged += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    exchanged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_stream_gets_its_own_error_and_others_are_undisturbed_in_bounded_memory() {
    let server = verona()
        .set("c2s.limits.failed_logins_per_address", "off")
        .set("c2s.limits.failed_logins_per_account", "off")
        .set("c2s.limits.bytes_per_second", "off")
        .set("session.resources_per_account", "100")
        .start()
        .await;
    let server = Arc::new(server);
    let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let talking = tokio::spawn({
        let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
        async move { talk(&server, &stop).await }
    });
    // Once alone, so that what is made only once is there.
    for (number, attack) in attacks().iter().enumerate() {
        suffer(&server, attack, &format!("warm{number}")).await;
    }
    let before = server.memory_kib();
    let measuring = tokio::spawn({
        let (server, stop, peak) = (Arc::clone(&server), Arc::clone(&stop), Arc::clone(&peak));
        async move {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(server.memory_kib(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    for round in 0..12 {
        let mut attackers = tokio::task::JoinSet::new();
        for (number, attack) in attacks().into_iter().enumerate() {
            let server = Arc::clone(&server);
            attackers.spawn(async move { suffer(&server, &attack, &format!("r{round}n{number}")).await });
        }
        while let Some(outcome) = attackers.join_next().await {
            outcome.unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    measuring.await.unwrap();
    let exchanged = talking.await.unwrap();
    let grown = peak.load(Ordering::Relaxed).saturating_sub(before);
    println!("{before} KiB before, at most {grown} KiB more; {exchanged} messages meanwhile");
    assert!(exchanged > 50, "{exchanged}");
    // Two stanzas' limits for each of the attackers at a time, of the 60 MB that they send.
    assert!(grown < 24 * 1024, "grew by {grown} KiB");
}

/// Many that stop in the middle of something hold no more than what they sent before log-in, which is little.
#[tokio::test]
async fn connections_that_stall_before_log_in_hold_little_memory() {
    let server = verona().set("c2s.limits.connections_per_address", "off").start().await;
    let mut session = juliet(&server, "balcony").await;
    let before = server.memory_kib();
    let mut stalled = Vec::new();
    for _ in 0..300 {
        let mut client = RawClient::plain(&server).await;
        client.open("localhost").await;
        client.send(&format!("<auth {SASL} mechanism='PLAIN'>{}", "A".repeat(9_000))).await;
        stalled.push(client);
    }
    session.expect_nothing().await;
    let each = server.memory_kib().saturating_sub(before) / 300;
    println!("{each} KiB for each stalled connection");
    // More processes have more of what the first connections cost.
    let most = if server.instances() > 1 { 96 } else { 48 };
    assert!(each <= most, "{each} KiB for each");
}
