use super::*;
use crate::{Limits, parse};

fn written(scope: &Scope, write: impl FnOnce(&mut Writer<'_>)) -> String {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out, scope));
    String::from_utf8(out).unwrap()
}

#[test]
fn namespaces_are_declared_where_they_change_and_nowhere_else() {
    let text = written(&Scope::client(), |writer| {
        writer.start("iq", "jabber:client").attribute("id", "a'b");
        writer.start("query", "urn:q").start("item", "urn:q").text("<&>").end().end();
        writer.start("error", "http://etherx.jabber.org/streams").end().end();
    });
    assert_eq!(text, "<iq id='a&apos;b'><query xmlns='urn:q'><item>&lt;&amp;&gt;</item></query><stream:error/></iq>");
}

#[test]
fn attributes_in_namespaces_get_prefixes() {
    let text = written(&Scope::client(), |writer| {
        writer.start("a", "urn:a").attribute_ns("http://www.w3.org/XML/1998/namespace", "lang", "de");
        writer.attribute_ns("urn:b", "c", "1").attribute_ns("urn:b", "d", "2").end();
    });
    assert_eq!(text, "<a xmlns='urn:a' xml:lang='de' xmlns:ns0='urn:b' ns0:c='1' ns0:d='2'/>");
}

#[test]
fn a_raw_element_keeps_its_meaning_in_any_surrounding() {
    let theirs = Scope::new("jabber:server", [("x", "urn:x")]);
    let raw = parse("<message><x:a/><b xmlns='urn:f'/></message>", &theirs, Limits::default()).unwrap();
    let text = written(&Scope::client(), |writer| {
        writer.start("forwarded", "urn:f").raw(&raw.as_raw()).end();
    });
    let forwarded = parse(&text, &Scope::client(), Limits::default()).unwrap().as_raw().to_tree().unwrap();
    let message = forwarded.get_child("message", "jabber:server").unwrap();
    assert_eq!(*message, raw.as_raw().to_tree().unwrap());
}

#[test]
fn a_tree_written_and_read_is_the_same_tree() {
    let text = "<iq id='1' xml:lang='en'><a xmlns='urn:a' xmlns:b='urn:b' b:c='&lt;'>x<b:d/>y&amp;</a><e/></iq>";
    let tree = parse(text, &Scope::client(), Limits::default()).unwrap().as_raw().to_tree().unwrap();
    for scope in [Scope::client(), Scope::none(), Scope::new("urn:a", [("ns0", "urn:zero")])] {
        let text = written(&scope, |writer| {
            writer.tree(&tree);
        });
        assert_eq!(parse(&text, &scope, Limits::default()).unwrap().as_raw().to_tree().unwrap(), tree, "{text}");
    }
}
