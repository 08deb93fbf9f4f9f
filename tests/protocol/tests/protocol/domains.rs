//! Several domains on one server (RFC 6120 §4.7.2, §13.7.2).

use starling_test_support::{Builder, RawClient, Server};

const SERVED: &str = r#"["verona.example", "mantua.example"]"#;

fn two() -> Builder {
    Server::builder()
        .set("domains", SERVED)
        .user("juliet@verona.example", "r0m30")
        .user("juliet@mantua.example", "other")
}

#[tokio::test]
async fn accounts_of_one_name_in_two_domains_are_two() {
    let server = two().start().await;
    let mut verona = RawClient::session(&server, "juliet@verona.example", "r0m30", "r").await;
    let mut mantua = RawClient::session(&server, "juliet@mantua.example", "other", "r").await;
    verona.send("<message to='juliet@mantua.example/r' id='1'><body>?</body></message>").await;
    let message = mantua.element().await;
    assert_eq!(message.as_raw().attribute("from").as_deref(), Some("juliet@verona.example/r"));
    let mut client = RawClient::plain(&server).await;
    client.open("mantua.example").await;
    let wrong = client.authenticate("SCRAM-SHA-256", "juliet", "r0m30").await;
    assert_eq!(wrong, Err("not-authorized".to_owned()));
}

#[tokio::test]
async fn rfc6120_4_7_1_the_header_is_from_the_domain_that_it_was_to() {
    let server = two().start().await;
    for (to, from) in [
        ("verona.example", "verona.example"),
        ("mantua.example", "mantua.example"),
        ("Mantua.EXAMPLE", "mantua.example"),
    ] {
        let mut client = RawClient::plain(&server).await;
        client.send_header(to).await;
        assert_eq!(client.header().await.from.as_deref(), Some(from));
    }
}

#[tokio::test]
async fn rfc6120_4_9_3_6_a_header_that_names_none_of_several_is_host_unknown() {
    let server = two().start().await;
    let mut client = RawClient::plain(&server).await;
    client
        .send("<stream:stream version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
        .await;
    client.header().await;
    client.expect_stream_error("host-unknown").await;
}

/// What was authenticated is an account of one domain: the stream cannot go on in another.
#[tokio::test]
async fn rfc6120_6_4_6_a_stream_restarts_in_the_domain_of_its_account() {
    let server = two().start().await;
    let mut client = RawClient::plain(&server).await;
    client.open("verona.example").await;
    client.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
    client.send_header("mantua.example").await;
    client.header().await;
    client.expect_stream_error("host-unknown").await;
}

#[tokio::test]
async fn rfc6120_4_7_2_where_one_domain_is_served_it_need_not_be_named() {
    let server = crate::verona().start().await;
    let mut client = RawClient::plain(&server).await;
    client
        .send("<stream:stream version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
        .await;
    assert_eq!(client.header().await.from.as_deref(), Some("localhost"));
    client.features().await;
    assert_eq!(client.authenticate("SCRAM-SHA-256", "juliet", "r0m30").await, Ok(()));
}
