//! RFC 6120 §6: SASL. RFC 4616, RFC 5802, RFC 7677, RFC 9266, XEP-0440, XEP-0474.

use std::time::{Duration, Instant};

use starling_test_support::{Binding, RawClient, Scram, Server, Versions};

use crate::verona;

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";

fn offered(features: &starling_test_support::Element) -> Vec<String> {
    let mechanisms = features.as_raw().child("mechanisms", SASL);
    mechanisms.map(|list| list.children().map(|child| child.text().into_owned()).collect()).unwrap_or_default()
}

async fn opened(server: &Server) -> RawClient {
    let mut client = RawClient::plain(server).await;
    client.open("localhost").await;
    client
}

async fn opened_tls(server: &Server, versions: Versions) -> RawClient {
    let mut client = RawClient::connect(server.direct_tls()).await;
    client.handshake(versions, &[]).await;
    client.open("localhost").await;
    client
}

#[tokio::test]
async fn rfc6120_6_4_every_mechanism_in_the_clear() {
    let server = verona().start().await;
    for mechanism in ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut client = opened(&server).await;
        assert_eq!(client.authenticate(mechanism, "juliet", "r0m30").await, Ok(()), "{mechanism}");
        let mut client = opened(&server).await;
        let wrong = client.authenticate(mechanism, "juliet", "wrong").await;
        assert_eq!(wrong, Err("not-authorized".to_owned()), "{mechanism}");
    }
}

#[tokio::test]
async fn rfc5802_6_and_rfc9266_every_mechanism_under_tls_bound_and_unbound() {
    let server = verona().start().await;
    let table = ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(|name| (name, None));
    let bound = ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS"];
    let end_point = bound.map(|name| (name, Some("tls-server-end-point")));
    let exporter = bound.map(|name| (name, Some("tls-exporter")));
    for versions in [Versions::Tls12, Versions::Tls13] {
        for (mechanism, binding) in table.iter().chain(&end_point).chain(&exporter) {
            if versions == Versions::Tls12 && *binding == Some("tls-exporter") {
                continue;
            }
            let mut client = opened_tls(&server, versions).await;
            let outcome = if *mechanism == "PLAIN" {
                client.authenticate(mechanism, "juliet", "r0m30").await
            } else {
                let binding = binding.map(|name| client.binding(name).unwrap().clone());
                let mut scram = Scram::new(mechanism, "juliet", "r0m30", binding.as_ref(), "");
                client.scram(mechanism, &mut scram).await
            };
            assert_eq!(outcome, Ok(()), "{mechanism} {binding:?} {versions:?}\n{}", client.transcript());
        }
    }
}

#[tokio::test]
async fn rfc5802_6_a_channel_that_is_bound_to_another_connection_is_refused() {
    let server = verona().set("auth.max_attempts", "10").start().await;
    let other = opened_tls(&server, Versions::Tls13).await;
    let mut client = opened_tls(&server, Versions::Tls13).await;
    let forged = Binding { name: "tls-server-end-point", data: vec![7; 32] };
    for binding in [other.binding("tls-exporter").unwrap(), &forged] {
        let mut scram = Scram::new("SCRAM-SHA-256-PLUS", "juliet", "r0m30", Some(binding), "");
        let outcome = client.scram("SCRAM-SHA-256-PLUS", &mut scram).await;
        assert_eq!(outcome, Err("not-authorized".to_owned()), "{}", client.transcript());
    }
}

/// `y`: "I would bind if you could". The server can, so somebody has cut its offer.
#[tokio::test]
async fn rfc5802_6_a_client_that_was_led_to_believe_there_is_no_binding_is_refused() {
    let server = verona().start().await;
    let mut client = opened_tls(&server, Versions::Tls13).await;
    let failure = client.auth("SCRAM-SHA-256", "y,,n=juliet,r=abcdefghijklmnop").await;
    assert!(failure.as_raw().is("failure", SASL), "{}", client.transcript());
}

#[tokio::test]
async fn rfc6120_6_3_3_what_is_offered_with_and_without_tls() {
    let server = verona().start().await;
    let mut clear = RawClient::plain(&server).await;
    let features = clear.open("localhost").await;
    assert_eq!(offered(&features), ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]);
    assert!(features.as_raw().child("sasl-channel-binding", CHANNEL_BINDING).is_none());
    for (versions, types) in [
        (Versions::Tls12, vec!["tls-server-end-point"]),
        (Versions::Tls13, vec!["tls-exporter", "tls-server-end-point"]),
    ] {
        let mut client = RawClient::connect(server.direct_tls()).await;
        client.handshake(versions, &[]).await;
        let features = client.open("localhost").await;
        assert_eq!(
            offered(&features),
            [
                "SCRAM-SHA-512-PLUS",
                "SCRAM-SHA-256-PLUS",
                "SCRAM-SHA-1-PLUS",
                "SCRAM-SHA-512",
                "SCRAM-SHA-256",
                "SCRAM-SHA-1",
                "PLAIN"
            ]
        );
        let bindings = features.as_raw().child("sasl-channel-binding", CHANNEL_BINDING).unwrap();
        let found: Vec<_> = bindings.children().filter_map(|child| child.attribute("type").map(String::from)).collect();
        assert_eq!(found, types, "XEP-0440, {versions:?}");
    }
}

#[tokio::test]
async fn rfc6120_6_3_3_a_mechanism_that_is_not_offered_cannot_be_used() {
    let server = verona().set("auth.mechanisms", r#"["SCRAM-SHA-256"]"#).start().await;
    let mut client = opened_tls(&server, Versions::Tls13).await;
    for (mechanism, initial) in [("PLAIN", "\0juliet\0r0m30"), ("SCRAM-SHA-1", "n,,n=juliet,r=abcdefghijklmnop")] {
        let failure = client.auth(mechanism, initial).await;
        assert!(failure.as_raw().child("invalid-mechanism", SASL).is_some(), "{}", client.transcript());
    }
}

#[tokio::test]
async fn rfc6120_6_3_8_a_foreign_authorization_identity_is_refused_ones_own_is_not() {
    let server = verona().set("auth.max_attempts", "10").start().await;
    for foreign in ["romeo@localhost", "juliet@verona.example", "romeo"] {
        let mut client = opened(&server).await;
        let plain = client.plain_as(foreign, "juliet", "r0m30").await;
        assert_eq!(plain, Err("invalid-authzid".to_owned()), "{foreign}");
        let mut scram = Scram::new("SCRAM-SHA-256", "juliet", "r0m30", None, foreign);
        let outcome = client.scram("SCRAM-SHA-256", &mut scram).await;
        assert_eq!(outcome, Err("invalid-authzid".to_owned()), "{foreign}\n{}", client.transcript());
    }
    let mut client = opened(&server).await;
    assert_eq!(client.plain_as("juliet@localhost", "juliet", "r0m30").await, Ok(()));
    let mut client = opened(&server).await;
    let mut scram = Scram::new("SCRAM-SHA-256", "juliet", "r0m30", None, "juliet@localhost");
    assert_eq!(client.scram("SCRAM-SHA-256", &mut scram).await, Ok(()));
}

/// The salt and the rounds of a SCRAM challenge, and everything behind it without what is random.
async fn refusal(server: &Server, mechanism: &str, user: &str) -> (String, String, String) {
    let mut client = opened(server).await;
    let mut scram = Scram::new(mechanism, user, "wrong", None, "");
    let challenge = client.auth(mechanism, &scram.first()).await;
    let text = starling_test_support::decode(&challenge);
    let field = |name: &str| text.split(',').find_map(|field| field.strip_prefix(name)).unwrap().to_owned();
    let names: String = text.split(',').filter_map(|field| field.get(..2)).collect();
    let answer = scram.answer(&text);
    let failure = client.respond(&answer).await;
    let shape = format!("{names} i={} {} bytes of nonce", field("i="), field("r=").len());
    (field("s="), shape, failure.as_raw().as_str().to_owned())
}

#[tokio::test]
async fn rfc6120_6_5_10_an_unknown_user_cannot_be_told_from_a_wrong_password() {
    let server = verona().start().await;
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let known = refusal(&server, mechanism, "juliet").await;
        let unknown = refusal(&server, mechanism, "mallet").await;
        assert_eq!((&known.1, &known.2), (&unknown.1, &unknown.2), "{mechanism}");
        assert_eq!(known.0.len(), unknown.0.len(), "{mechanism}");
        // Asked again, the salt is the same: an account that does not exist has one too.
        assert_eq!(refusal(&server, mechanism, "mallet").await.0, unknown.0);
        assert_eq!(refusal(&server, mechanism, "juliet").await.0, known.0);
        assert_ne!(refusal(&server, mechanism, "mercutio").await.0, unknown.0);
    }
    let mut answers = Vec::new();
    for user in ["juliet", "mallet", "no such@name"] {
        let failure = opened(&server).await.auth("PLAIN", &format!("\0{user}\0wrong")).await;
        answers.push(failure.as_raw().as_str().to_owned());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

/// RFC 6120 §13.9: nor by the time that it takes. With PLAIN the server does all the work.
#[tokio::test]
async fn rfc6120_13_9_an_unknown_user_takes_as_long_as_a_wrong_password() {
    let server =
        verona().set("auth.iterations", "400000").set("auth.mechanisms_without_tls", r#"["PLAIN"]"#).start().await;
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..4 {
        for (time, user) in fastest.iter_mut().zip(["juliet", "mallet"]) {
            let mut client = opened(&server).await;
            let began = Instant::now();
            assert_eq!(client.plain_as("", user, "wrong").await, Err("not-authorized".to_owned()));
            *time = began.elapsed().min(*time);
        }
    }
    let [known, unknown] = fastest;
    assert!(unknown * 3 > known * 2 && known * 3 > unknown * 2, "{known:?} and {unknown:?}");
}

#[tokio::test]
async fn rfc6120_6_5_failures_each_with_its_condition() {
    let server = verona().set("auth.max_attempts", "100").start().await;
    let mut client = opened(&server).await;
    let auth = |mechanism: &str, data: &str| format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>{data}</auth>");
    let table = [
        ("incorrect-encoding", auth("PLAIN", "not base 64!")),
        ("incorrect-encoding", auth("SCRAM-SHA-256", "====")),
        ("malformed-request", auth("PLAIN", "AAAA")),
        ("malformed-request", auth("SCRAM-SHA-256", "bm9uc2Vuc2U=")),
        ("invalid-mechanism", auth("CRAM-MD5", "")),
        ("invalid-mechanism", auth("", "")),
        ("invalid-mechanism", format!("<auth xmlns='{SASL}'/>")),
        ("encryption-required", auth("SCRAM-SHA-256-PLUS", "")),
        ("not-authorized", auth("PLAIN", "AGp1bGlldAB3cm9uZw==")),
        ("malformed-request", format!("<response xmlns='{SASL}'/>")),
        ("aborted", format!("<abort xmlns='{SASL}'/>")),
    ];
    for (condition, text) in table {
        let failure = client.ask(&text).await;
        let raw = failure.as_raw();
        assert!(raw.is("failure", SASL) && raw.child(condition, SASL).is_some(), "{text}\n{}", client.transcript());
    }
    // §6.4.5: after all that the client may still log in.
    assert_eq!(client.authenticate("PLAIN", "juliet", "r0m30").await, Ok(()));
}

#[tokio::test]
async fn rfc6120_6_4_4_an_abort_in_the_middle_and_then_another_mechanism() {
    let server = verona().start().await;
    let mut client = opened(&server).await;
    let scram = Scram::new("SCRAM-SHA-256", "juliet", "r0m30", None, "");
    assert_eq!(client.auth("SCRAM-SHA-256", &scram.first()).await.as_raw().name(), "challenge");
    let failure = client.ask(&format!("<abort xmlns='{SASL}'/>")).await;
    assert!(failure.as_raw().child("aborted", SASL).is_some(), "{}", client.transcript());
    assert_eq!(client.authenticate("SCRAM-SHA-1", "juliet", "r0m30").await, Ok(()));
}

/// §6.4.2: without an initial response the server asks for it by an empty challenge.
#[tokio::test]
async fn rfc6120_6_4_2_the_initial_response_may_come_later_or_be_empty() {
    let server = verona().start().await;
    let mut client = opened(&server).await;
    let challenge = client.ask(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'/>")).await;
    assert!(challenge.as_raw().is("challenge", SASL) && challenge.as_raw().text().is_empty());
    let success = client.respond("\0juliet\0r0m30").await;
    assert!(success.as_raw().is("success", SASL), "{}", client.transcript());
    // `=` is an initial response of no bytes: no PLAIN message.
    let mut client = opened(&server).await;
    let failure = client.ask(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>=</auth>")).await;
    assert!(failure.as_raw().child("malformed-request", SASL).is_some(), "{}", client.transcript());
}

#[tokio::test]
async fn rfc6120_6_4_5_attempts_are_limited() {
    let server = verona().set("auth.max_attempts", "3").start().await;
    let mut client = opened(&server).await;
    for _ in 0..3 {
        assert!(client.authenticate("PLAIN", "juliet", "wrong").await.is_err());
    }
    client.send(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGp1bGlldAByMG0zMA==</auth>")).await;
    client.expect_stream_error("policy-violation").await;
}

#[tokio::test]
async fn rfc6120_6_3_5_no_stanza_while_an_exchange_goes_on() {
    let server = verona().start().await;
    let mut client = opened(&server).await;
    let scram = Scram::new("SCRAM-SHA-256", "juliet", "r0m30", None, "");
    client.auth("SCRAM-SHA-256", &scram.first()).await;
    client.send("<message to='romeo@localhost'><body>?</body></message>").await;
    client.expect_stream_error("not-authorized").await;
}

#[tokio::test]
async fn rfc5802_5_1_a_proof_for_another_nonce_is_refused() {
    let server = verona().start().await;
    let mut client = opened(&server).await;
    let mut scram = Scram::new("SCRAM-SHA-256", "juliet", "r0m30", None, "");
    let challenge = starling_test_support::decode(&client.auth("SCRAM-SHA-256", &scram.first()).await);
    let answer = scram.answer(&challenge.replacen(",s=", "x,s=", 1));
    assert_eq!(client.respond(&answer).await.as_raw().name(), "failure", "{}", client.transcript());
}

/// RFC 6120 §6.4.6: what follows success is a new stream, and nothing that came before counts for it.
#[tokio::test]
async fn rfc6120_6_4_6_after_success_a_stanza_without_a_header_is_refused() {
    let server = verona().start().await;
    let mut client = opened(&server).await;
    client.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
    client.send("<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>").await;
    client.header().await;
    client.expect_stream_error("invalid-namespace").await;
}

/// XEP-0474: a client that is shown a shorter offer than the server's learns it from the server's signed challenge.
#[tokio::test]
async fn xep0474_the_challenge_vouches_for_the_offer() {
    let server = verona().start().await;
    let mut client = opened(&server).await;
    let scram = Scram::new("SCRAM-SHA-256", "juliet", "r0m30", None, "");
    let challenge = starling_test_support::decode(&client.auth("SCRAM-SHA-256", &scram.first()).await);
    assert!(challenge.split(',').any(|field| field.starts_with("h=")), "{challenge}");
}
