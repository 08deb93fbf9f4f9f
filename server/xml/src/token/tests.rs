use proptest::prelude::*;

use super::*;

fn names_and_texts(text: &str) -> Vec<String> {
    Cursor::new(text)
        .map(|token| match token {
            Token::Start(tag) => format!("<{}{}>", tag.name, if tag.empty { "/" } else { "" }),
            Token::End => "</>".into(),
            Token::Text(text) => text.into(),
            Token::CData(text) => format!("[{text}]"),
        })
        .collect()
}

fn attributes(text: &str) -> Vec<(&str, &str)> {
    let Some(Token::Start(tag)) = Cursor::new(text).next() else { return Vec::new() };
    tag.attributes().map(|attribute| (attribute.name, attribute.value)).collect()
}

#[test]
fn every_kind_of_token_is_seen_in_order() {
    assert_eq!(
        names_and_texts("<a x='1'>one<b/>&amp;<c:d y=\"/>\" ><![CDATA[<no>]]></c:d ></a\n>"),
        ["<a>", "one", "<b/>", "&amp;", "<c:d>", "[<no>]", "</>", "</>"]
    );
}

#[test]
fn a_tag_ends_at_the_first_mark_outside_of_quotes() {
    assert_eq!(attributes("<a x='>' y=\"'/>\" z = '\"'/>"), [("x", ">"), ("y", "'/>"), ("z", "\"")]);
    assert_eq!(names_and_texts("<a x='/'></a>"), ["<a>", "</>"]);
    assert_eq!(names_and_texts("<a x='/'/>"), ["<a/>"]);
}

#[test]
fn an_attribute_is_read_whatever_white_space_surrounds_it() {
    assert_eq!(attributes("<a\t x\n=\r'1'   y='2'\n/>"), [("x", "1"), ("y", "2")]);
}

#[test]
fn a_declaration_is_told_from_an_attribute() {
    let declared = |name| Attribute { name, value: "" }.declares();
    assert_eq!(declared("xmlns"), Some(""));
    assert_eq!(declared("xmlns:a"), Some("a"));
    assert_eq!(declared("xmlnsa"), None);
    assert_eq!(declared("xml:lang"), None);
}

#[test]
fn an_element_is_skipped_with_all_that_is_inside() {
    let mut cursor = Cursor::new("<a><b><a x='</a>'/><![CDATA[</b>]]><b></b></b><c/></a>");
    cursor.next();
    cursor.next();
    cursor.skip_element();
    assert!(matches!(cursor.next(), Some(Token::Start(tag)) if tag.name == "c"));
    cursor.skip_element();
    assert_eq!(cursor.next(), None);
}

#[test]
fn a_text_node_runs_to_the_next_tag_over_cdata_sections() {
    let mut cursor = Cursor::new("<a>x &lt;\r\n<![CDATA[&lt;\r]]>y<b/></a>");
    cursor.next();
    assert_eq!(cursor.text_node().chars().collect::<String>(), "x <\n&lt;\ny");
    assert!(matches!(cursor.next(), Some(Token::Start(tag)) if tag.name == "b"));
}

#[test]
fn xml_3_3_3_white_space_in_attribute_values_becomes_a_space_but_not_when_it_is_referred_to() {
    assert_eq!(resolve("a\r\nb\tc\nd&#10;e&#x9;&amp;lt;", Place::Attribute), "a b c d\ne\t&lt;");
    assert!(matches!(resolve("plain", Place::Attribute), Cow::Borrowed("plain")));
}

#[test]
fn xml_2_11_line_ends_in_text_become_a_line_feed() {
    assert_eq!(resolve("a\r\nb\rc\n&#13;", Place::Text), "a\nb\nc\n\r");
    assert_eq!(resolve("&amp;\r\n", Place::CData), "&amp;\n");
}

#[test]
fn raw_text_says_what_it_resolves_to() {
    assert!(says("a&apos;b", Place::Attribute, "a'b"));
    assert!(!says("a&apos;b", Place::Attribute, "a&apos;b"));
    assert!(says("a\tb", Place::Attribute, "a b"));
    assert!(!says("a\tb", Place::Attribute, "a\tb"));
    assert!(says("a\tb", Place::Text, "a\tb"));
    assert!(!says("ab", Place::Text, "abc"));
}

proptest! {
    #[test]
    fn no_text_whatever_makes_the_cursor_panic_or_stand_still(text in "[<>/!a='\"&; \\[\\]CDATA\u{e9}]{0,60}") {
        let mut cursor = Cursor::new(&text);
        let mut before = 0;
        while let Some(token) = cursor.next() {
            prop_assert!(cursor.position() > before);
            before = cursor.position();
            if let Token::Start(tag) = token {
                prop_assert!(tag.attributes().count() <= text.len());
            }
        }
        Cursor::new(&text).skip_element();
        let mut cursor = Cursor::new(&text);
        prop_assert!(cursor.text_node().chars().count() <= text.len());
    }

    #[test]
    fn what_text_says_is_what_it_resolves_to(raw in "([a\r\n\t]|&amp;|&#9;|&lt;){0,12}", wanted in "[a&<\r\n\t ]{0,12}") {
        for place in [Place::Text, Place::Attribute, Place::CData] {
            prop_assert!(says(&raw, place, &resolve(&raw, place)));
            prop_assert_eq!(says(&raw, place, &wanted), resolve(&raw, place) == wanted);
        }
    }
}
