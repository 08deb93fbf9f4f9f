//! XEP-0077: in-band registration, before and after log-in.

use starling_test_support::{Builder, Element, RawClient, Server, Versions, condition};

use crate::{juliet, verona};

const REGISTER: &str = "jabber:iq:register";
const FEATURE: &str = "http://jabber.org/features/iq-register";
const GET: &str = "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>";

fn open() -> Builder {
    verona().set("registration.enabled", "true")
}

fn set(inner: &str) -> String {
    format!("<iq type='set' id='r'><query xmlns='{REGISTER}'>{inner}</query></iq>")
}

fn named(name: &str, password: &str) -> String {
    set(&format!("<username>{name}</username><password>{password}</password>"))
}

fn is_result(answer: &Element) -> bool {
    answer.as_raw().attribute("type").as_deref() == Some("result")
}

/// Whether one can log in.
async fn lets_in(server: &Server, user: &str, password: &str) -> bool {
    let mut client = RawClient::plain(server).await;
    client.open("localhost").await;
    client.authenticate("SCRAM-SHA-256", user, password).await.is_ok()
}

#[tokio::test]
async fn xep0077_it_is_off_unless_it_is_switched_on() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    let features = client.open("localhost").await;
    assert!(features.as_raw().child("register", FEATURE).is_none());
    client.send(GET).await;
    client.expect_stream_error("not-authorized").await;
    let mut client = juliet(&server, "balcony").await;
    for request in [GET.to_owned(), named("juliet", "other"), set("<remove/>")] {
        assert_eq!(condition(&client.ask(&request).await).as_deref(), Some("service-unavailable"));
    }
    assert!(lets_in(&server, "juliet", "r0m30").await);
}

#[tokio::test]
async fn xep0077_3_1_an_account_is_made_and_logs_in_on_the_same_stream() {
    let server = open().start().await;
    let mut client = RawClient::plain(&server).await;
    let features = client.open("localhost").await;
    assert!(features.as_raw().child("register", FEATURE).is_some(), "{}", client.transcript());
    let answer = client.ask(GET).await;
    assert!(is_result(&answer));
    assert_eq!(answer.as_raw().attribute("from").as_deref(), Some("localhost"));
    let query = answer.as_raw().child("query", REGISTER).unwrap();
    for field in ["instructions", "username", "password"] {
        assert!(query.child(field, REGISTER).is_some(), "{field}");
    }
    assert!(query.child("registered", REGISTER).is_none());
    assert!(is_result(&client.ask(&named("Mercutio", "qu33nm4b")).await), "{}", client.transcript());
    assert_eq!(client.authenticate("SCRAM-SHA-256", "mercutio", "qu33nm4b").await, Ok(()));
    client.open("localhost").await;
    assert_eq!(client.bind("square").await, "mercutio@localhost/square");
    assert!(!server.logs().contains("qu33nm4b"));
}

#[tokio::test]
async fn xep0077_3_1_what_cannot_be_an_account_is_refused_and_another_try_is_open() {
    let server = open().set("registration.per_address_per_hour", "off").start().await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    for (request, expected) in [
        (named("juliet", "stolen"), "conflict"),
        (named("JULIET", "stolen"), "conflict"),
        (set("<username>tybalt</username>"), "not-acceptable"),
        (set("<password>x</password>"), "not-acceptable"),
        (named("tybalt", ""), "not-acceptable"),
        (named("ty balt", "x"), "not-acceptable"),
        (named("tybalt@localhost", "x"), "not-acceptable"),
        (named("tybalt", "&#x85;"), "not-acceptable"),
        (named(&"t".repeat(1024), "x"), "not-acceptable"),
        (named("tybalt", &"x".repeat(1025)), "not-acceptable"),
        (set("<remove/>"), "unexpected-request"),
    ] {
        let answer = client.ask(&request).await;
        assert_eq!(condition(&answer).as_deref(), Some(expected), "{request}");
    }
    assert!(lets_in(&server, "juliet", "r0m30").await && !lets_in(&server, "juliet", "stolen").await);
    assert!(is_result(&client.ask(&named("tybalt", "pr1nc30fc4ts")).await));
    assert!(lets_in(&server, "tybalt", "pr1nc30fc4ts").await);
}

#[tokio::test]
async fn xep0077_8_a_password_is_taken_only_where_plain_would_be() {
    let tables = [
        open().set("c2s.starttls.required", "true"),
        open().set("auth.mechanisms_without_tls", r#"["SCRAM-SHA-256"]"#),
    ];
    for builder in tables {
        let server = builder.start().await;
        let mut client = RawClient::plain(&server).await;
        let features = client.open("localhost").await;
        assert!(features.as_raw().child("register", FEATURE).is_none(), "{}", client.transcript());
        client.send(&named("tybalt", "x")).await;
        client.expect_stream_error("not-authorized").await;
        let mut client = RawClient::plain(&server).await;
        client.open("localhost").await;
        client.start_tls(Versions::Tls13).await;
        let features = client.open("localhost").await;
        assert!(features.as_raw().child("register", FEATURE).is_some(), "{}", client.transcript());
        assert!(is_result(&client.ask(&named("tybalt", "x")).await));
    }
}

#[tokio::test]
async fn attempts_from_one_address_are_limited() {
    let server = open().set("registration.per_address_per_hour", "2").start_one().await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    assert!(is_result(&client.ask(&named("tybalt", "x")).await));
    assert_eq!(condition(&client.ask(&named("tybalt", "x")).await).as_deref(), Some("conflict"));
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    let answer = client.ask(&named("mercutio", "x")).await;
    assert_eq!(condition(&answer).as_deref(), Some("resource-constraint"));
    let error = answer.as_raw().child("error", "jabber:client").unwrap();
    assert_eq!(error.attribute("type").as_deref(), Some("wait"));
    assert!(!lets_in(&server, "mercutio", "x").await);
}

#[tokio::test]
async fn xep0077_3_1_those_who_are_registered_learn_as_what() {
    let server = open().start().await;
    let mut client = juliet(&server, "balcony").await;
    for to in ["", "to='localhost'"] {
        let answer = client.ask(&GET.replace("id='r'", &format!("id='r' {to}"))).await;
        let query = answer.as_raw().child("query", REGISTER).unwrap();
        assert!(query.child("registered", REGISTER).is_some());
        assert_eq!(query.child("username", REGISTER).unwrap().text(), "juliet");
        assert_eq!(query.child("password", REGISTER).unwrap().text(), "");
    }
    let info = "http://jabber.org/protocol/disco#info";
    let answer = client.ask(&format!("<iq type='get' id='1' to='localhost'><query xmlns='{info}'/></iq>")).await;
    let query = answer.as_raw().child("query", info).unwrap();
    assert!(query.children().any(|child| child.attribute("var").as_deref() == Some(REGISTER)));
    let answer = client.ask(&GET.replace("id='r'", "id='r' to='romeo@localhost'")).await;
    assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"));
}

#[tokio::test]
async fn xep0077_3_3_one_changes_ones_own_password_and_no_other() {
    let server = open().start().await;
    let mut client = juliet(&server, "balcony").await;
    for (request, expected) in [
        (named("romeo", "st0l3n"), "forbidden"),
        (named("nobody", "st0l3n"), "forbidden"),
        (set("<password>st0l3n</password>"), "bad-request"),
        (set("<username>juliet</username>"), "bad-request"),
        (named("juliet", &"x".repeat(1025)), "not-acceptable"),
    ] {
        assert_eq!(condition(&client.ask(&request).await).as_deref(), Some(expected), "{request}");
    }
    assert!(lets_in(&server, "romeo", "jul13t").await && lets_in(&server, "juliet", "r0m30").await);
    assert!(is_result(&client.ask(&named("juliet", "w1ll14m")).await), "{}", client.transcript());
    assert!(lets_in(&server, "juliet", "w1ll14m").await && !lets_in(&server, "juliet", "r0m30").await);
    client.expect_nothing().await;
    assert!(!server.logs().contains("w1ll14m") && !server.logs().contains("st0l3n"));
}

#[tokio::test]
async fn xep0077_3_2_an_account_is_removed_with_all_that_hangs_on_it_and_its_streams_end() {
    let server = open().start().await;
    let mut client = juliet(&server, "balcony").await;
    let mut other = juliet(&server, "chamber").await;
    let answer = client.ask("<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard></iq>").await;
    assert!(is_result(&answer));
    let both = set("<remove/><username>juliet</username>");
    assert_eq!(condition(&client.ask(&both).await).as_deref(), Some("bad-request"));
    assert!(is_result(&client.ask(&set("<remove/>")).await), "{}", client.transcript());
    client.expect_stream_error("not-authorized").await;
    other.expect_stream_error("not-authorized").await;
    assert!(!lets_in(&server, "juliet", "r0m30").await);

    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    assert!(is_result(&client.ask(&named("juliet", "n3w")).await), "the name is free");
    let mut client = RawClient::session(&server, "juliet@localhost", "n3w", "balcony").await;
    let answer = client.ask("<iq type='get' id='v'><vCard xmlns='vcard-temp'/></iq>").await;
    assert_eq!(condition(&answer).as_deref(), Some("item-not-found"));
}
