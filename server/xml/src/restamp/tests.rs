use super::*;
use crate::{Limits, Scope, parse};

const FROM: (&str, Option<&str>) = ("from", Some("a@b/c"));

fn restamped(element: &str, scope: &Scope, set: &[(&str, Option<&str>)]) -> String {
    let mut out = Vec::new();
    restamp(&parse(element, scope, Limits::default()).unwrap().as_raw(), set, &mut out);
    String::from_utf8(out).unwrap()
}

/// What the element means, in the stream it came from and in another one, is the same.
fn assert_same_meaning(element: &str, scope: &Scope) {
    let written = restamped(element, scope, &[]);
    let before = parse(element, scope, Limits::default()).unwrap().as_raw().to_tree().unwrap();
    let after = parse(&written, &Scope::client(), Limits::default()).unwrap().as_raw().to_tree().unwrap();
    assert_eq!(before, after, "{element} became {written}");
}

#[test]
fn attributes_are_replaced_added_and_removed_and_the_rest_stays_as_it_came() {
    let set = [("from", Some("x'y&z")), ("id", None), ("xml:lang", Some("de"))];
    assert_eq!(
        restamped("<message from=\"evil\" to = 'b' id='1' ><body>&lt;  <b/></body></message >", &Scope::client(), &set),
        "<message to='b' from='x&apos;y&amp;z' xml:lang='de'><body>&lt;  <b/></body></message >"
    );
    assert_eq!(restamped("<presence/>", &Scope::client(), &[FROM]), "<presence from='a@b/c'/>");
}

#[test]
fn a_value_with_quotes_keeps_the_quotes_that_it_needs() {
    assert_eq!(restamped("<iq id=\"it's\"/>", &Scope::client(), &[]), "<iq id=\"it's\"/>");
}

#[test]
fn rfc6120_4_8_2_the_content_namespace_is_that_of_the_next_stream() {
    assert_eq!(restamped("<iq xmlns='jabber:client' id='1'/>", &Scope::client(), &[]), "<iq id='1'/>");
    assert_eq!(restamped("<iq xmlns='jabber:client' id='1'/>", &Scope::server(), &[]), "<iq id='1'/>");
    let prefixed = Scope::new("http://etherx.jabber.org/streams", [("c", "jabber:client")]);
    assert_eq!(
        restamped("<c:iq id='1'><c:a/><x xmlns='u'/><y/></c:iq>", &prefixed, &[]),
        "<iq id='1' xmlns:c='jabber:client'><a/><x xmlns='u'/><y xmlns='http://etherx.jabber.org/streams'/></iq>"
    );
}

#[test]
fn declarations_inherited_from_the_stream_header_come_along_if_they_are_used() {
    let scope =
        Scope::new("jabber:client", [("stream", "http://etherx.jabber.org/streams"), ("x", "urn:x"), ("y", "urn:y")]);
    for element in [
        "<message><x:a y:b='1'/></message>",
        "<message x:b='1'><body>no y: here</body></message>",
        "<message xmlns:x='urn:other'><x:a/></message>",
        "<message><a xmlns='urn:a'><message xmlns='jabber:client'><x:b/></message></a></message>",
        "<message><stream:a/></message>",
        "<message><a xmlns=''><b/></a></message>",
    ] {
        assert_same_meaning(element, &scope);
    }
    assert_eq!(restamped("<message><body>x</body></message>", &scope, &[]), "<message><body>x</body></message>");
}

#[test]
fn prefixed_stanzas_and_odd_default_namespaces_keep_their_meaning() {
    let scope = Scope::new("urn:odd", [("c", "jabber:client"), ("x", "urn:x")]);
    for element in [
        "<c:message><c:body>x</c:body></c:message>",
        "<c:message><odd><deeper/><c:body/></odd><x:a/></c:message>",
        "<c:message><x:a><c:b/><d xmlns='urn:d'><e/><c:f/></d></x:a></c:message>",
        "<c:message c:attr='1'/>",
        "<message xmlns='jabber:client'><c:b/><odd xmlns='urn:odd'/></message>",
        "<c:message><a><![CDATA[<&]]></a></c:message>",
    ] {
        assert_same_meaning(element, &scope);
    }
}
