//! Re-stamping: an element that is moved into another stream says there what it said in its own, apart from what was set.
//!
//! Input: a whole stream, header included.

use minidom::{Element, Node};
use starling_xml::{Frame, Limits, Reader, Scope, parse, restamp};

const SET: [(&str, Option<&str>); 3] = [("from", Some("a&b'@c\"/<>")), ("to", None), ("xml:lang", Some("x"))];

/// The target.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(Limits::default());
    let mut input = data;
    while let Ok(Some(frame)) = reader.read(&mut input) {
        let Frame::Element(element) = frame else { continue };
        let tree = element.to_tree().expect("what the reader lets through has a tree");
        let mut moved = Vec::new();
        restamp(&element, &SET, &mut moved);
        let moved = String::from_utf8(moved).expect("UTF-8");
        for scope in [Scope::client(), Scope::server()] {
            // Declarations that it inherited are written into it.
            let limits = Limits { attributes: 1000, stanza_bytes: 1 << 24, ..Limits::default() };
            let there = match parse(&moved, &scope, limits) {
                Ok(there) => there,
                Err(error) => panic!("{error}: {} became {moved}", element.as_str()),
            };
            let there = there.as_raw();
            assert_eq!(there.attribute("from").as_deref(), Some("a&b'@c\"/<>"), "{moved}");
            assert_eq!(there.lang().as_deref(), Some("x"), "{moved}");
            assert_eq!(there.attribute("to"), None, "{moved}");
            let there = there.to_tree().expect("a tree");
            assert!(is_same(&tree, &there, true), "{} became {moved}", element.as_str());
        }
    }
}

/// Content namespaces stand for each other (RFC 6120 §4.8.2).
fn is_same(one: &Element, other: &Element, is_root: bool) -> bool {
    let attributes = |element: &Element| -> Vec<(String, String, String)> {
        let all = element.attrs().iter().map(|((ns, name), value)| (ns.to_string(), name.to_string(), value.clone()));
        let mut kept: Vec<_> =
            all.filter(|(_, name, _)| !is_root || !["from", "to", "lang"].contains(&name.as_str())).collect();
        kept.sort();
        kept
    };
    let content = |element: &Element| {
        let namespace = element.ns();
        if starling_xml::is_content_namespace(&namespace) { "content".to_owned() } else { namespace }
    };
    one.name() == other.name()
        && content(one) == content(other)
        && attributes(one) == attributes(other)
        && one.nodes().count() == other.nodes().count()
        && one.nodes().zip(other.nodes()).all(|nodes| match nodes {
            (Node::Element(one), Node::Element(other)) => is_same(one, other, false),
            (one, other) => one.as_text() == other.as_text(),
        })
}
