//! RFC 6120 §11: XML.

use starling_test_support::RawClient;

use crate::{both, juliet, verona};

#[tokio::test]
async fn rfc6120_11_1_what_xmpp_forbids_is_restricted_xml() {
    let server = verona().start().await;
    let table = [
        "<!-- a comment -->",
        "<?php ?>",
        "<!DOCTYPE x [<!ENTITY lol 'lol'>]>",
        "<message to='romeo@localhost'><body><!-- inside --></body></message>",
        "<message to='romeo@localhost'><body><?pi?></body></message>",
        "<message to='romeo@localhost'><body>&lol;</body></message>",
        "<message to='&lol;'/>",
    ];
    for text in table {
        let mut client = juliet(&server, "balcony").await;
        client.send(text).await;
        client.expect_stream_error("restricted-xml").await;
    }
}

#[tokio::test]
async fn rfc6120_11_3_what_is_not_well_formed() {
    let server = verona().start().await;
    let table = [
        "<message><body></message></body>",
        "<message",
        "<message to='a' to='b'/>",
        "<message to=a/>",
        "<message><body>a < b</body></message>",
        "<message><body>a & b</body></message>",
        "<message><body>]]></body></message>",
        "<message><body>&#0;</body></message>",
        "<message><body>\u{1}</body></message>",
        "<message><1/></message>",
        "</message>",
    ];
    for text in table {
        let mut client = juliet(&server, "balcony").await;
        client.send(text).await;
        client.send("<message/>").await;
        client.expect_stream_error("not-well-formed").await;
    }
}

#[tokio::test]
async fn rfc6120_4_9_3_1_text_between_stanzas_is_bad_format() {
    let server = verona().start().await;
    for text in ["text", " <presence/> text", "&amp;", "<![CDATA[text]]>"] {
        let mut client = juliet(&server, "balcony").await;
        client.send(text).await;
        client.expect_one_of(&["bad-format", "not-well-formed"]).await;
    }
}

#[tokio::test]
async fn rfc6120_11_4_an_undeclared_prefix_is_bad_namespace_prefix() {
    let server = verona().start().await;
    let table = ["<x:message/>", "<message><x:y/></message>", "<message x:y='1'/>"];
    for text in table {
        let mut client = juliet(&server, "balcony").await;
        client.send(text).await;
        client.expect_stream_error("bad-namespace-prefix").await;
    }
}

#[tokio::test]
async fn rfc6120_11_6_bytes_that_are_no_utf8_are_refused() {
    let server = verona().start().await;
    let table: [&[u8]; 4] = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"];
    for bytes in table {
        let mut client = juliet(&server, "balcony").await;
        let mut text = b"<message><body>".to_vec();
        text.extend_from_slice(bytes);
        text.extend_from_slice(b"</body></message>");
        client.try_send(&text).await.unwrap();
        // RFC 6120 §4.9.3.13 and §4.9.3.22 both claim it.
        client.expect_one_of(&["not-well-formed", "unsupported-encoding", "bad-format"]).await;
    }
}

#[tokio::test]
async fn rfc6120_11_1_predefined_entities_references_and_cdata_are_text() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet
        .send(
            "<message to='romeo@localhost/orchard'><body>&lt;&gt;&amp;&apos;&quot;&#65;&#x1F319;<![CDATA[<&]]>\
             </body></message>",
        )
        .await;
    let message = romeo.element().await;
    assert_eq!(message.as_raw().child("body", "jabber:client").unwrap().text(), "<>&'\"A🌙<&");
}

/// What a stanza inherits from its own stream's header must still hold in another stream.
#[tokio::test]
async fn rfc6120_4_8_5_prefixes_of_the_senders_header_hold_at_the_recipient() {
    let server = verona().start().await;
    let mut romeo = crate::romeo(&server, "orchard").await;
    let mut juliet = RawClient::plain(&server).await;
    juliet.open("localhost").await;
    juliet.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
    juliet
        .send(
            "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:v='urn:example:verona' \
             xmlns:stream='http://etherx.jabber.org/streams'>",
        )
        .await;
    juliet.header().await;
    juliet.features().await;
    juliet.bind("balcony").await;
    juliet.send("<message to='romeo@localhost/orchard' v:mood='sad'><v:rose v:thorn='1'/></message>").await;
    let message = romeo.element().await;
    assert_eq!(message.as_raw().attribute_ns("urn:example:verona", "mood").as_deref(), Some("sad"));
    let rose = message.as_raw().child("rose", "urn:example:verona").unwrap();
    assert_eq!(rose.attribute_ns("urn:example:verona", "thorn").as_deref(), Some("1"));
}

#[tokio::test]
async fn rfc6120_13_12_stanzas_of_ten_thousand_bytes_pass_whatever_their_fragments() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    let text = "ä€🌙x".repeat(1000);
    let stanza = format!("<message to='romeo@localhost/orchard'><body>{text}</body></message>");
    assert!(stanza.len() > 10_000);
    for size in [1, 7, 1024, stanza.len()] {
        for part in stanza.as_bytes().chunks(size) {
            juliet.try_send(part).await.unwrap();
        }
        let message = romeo.element().await;
        assert_eq!(message.as_raw().child("body", "jabber:client").unwrap().text(), text.as_str(), "{size}");
    }
}
