use super::*;

fn tree(text: &str) -> Element {
    build(text, |prefix| match prefix {
        "" => Some("jabber:client"),
        "stream" => Some("http://etherx.jabber.org/streams"),
        _ => None,
    })
    .expect("a tree")
}

#[test]
fn names_and_attributes_are_in_the_namespaces_that_are_in_force() {
    let tree = tree(
        "<message to='a' xml:lang='de' xmlns:p='urn:p'><p:x p:y='1' y='2'/><z xmlns='urn:z'><q/></z><q/>\
         <stream:error/></message>",
    );
    assert!(tree.is("message", "jabber:client"));
    assert_eq!(tree.attrs().get(&Namespace::XML, "lang").map(String::as_str), Some("de"));
    let x = tree.get_child("x", "urn:p").expect("x");
    assert_eq!(x.attr("y"), Some("2"));
    assert_eq!(x.attrs().get(&Namespace::from("urn:p".to_owned()), "y").map(String::as_str), Some("1"));
    assert!(tree.get_child("z", "urn:z").is_some_and(|z| z.has_child("q", "urn:z")));
    assert!(tree.has_child("q", "jabber:client"));
    assert!(tree.has_child("error", "http://etherx.jabber.org/streams"));
}

#[test]
fn a_declaration_ends_with_its_element() {
    let tree = tree("<a><p:b xmlns:p='urn:1'><p:c xmlns:p='urn:2'/><p:d/></p:b></a>");
    let b = tree.get_child("b", "urn:1").expect("b");
    assert!(b.has_child("c", "urn:2"));
    assert!(b.has_child("d", "urn:1"));
}

#[test]
fn text_and_cdata_are_one_text_node() {
    let tree = tree("<a>x &amp;<![CDATA[&amp;]]><![CDATA[]]>\r\n<b/>y</a>");
    assert_eq!(tree.nodes().count(), 3);
    assert_eq!(tree.text(), "x &&amp;\ny");
}

#[test]
fn the_tree_is_the_one_that_the_trees_own_parser_builds() {
    let text = "<a xmlns='urn:a' x='&lt;&#65;'><b xmlns:p='urn:p'><p:c p:d='e'/></b>t&gt;<![CDATA[<]]><f/></a>";
    assert_eq!(build(text, |_| None), text.parse().ok());
}
