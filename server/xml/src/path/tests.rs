use proptest::prelude::*;

use super::*;
use crate::{Limits, OwnedElement, Scope, parse};

mod judge;

fn element(text: &str) -> OwnedElement {
    let limits = Limits { stanza_bytes: 1 << 20, depth: 1000, attributes: 100 };
    parse(text, &Scope::client(), limits).expect("an element")
}

/// What the raw element and its tree say; they must say the same.
fn matches(path: &str, text: &str) -> bool {
    let path = Path::compile(path).expect("a path");
    let element = element(text);
    let raw = path.matches(&element.as_raw());
    assert_eq!(
        path.matches_tree(&element.as_raw().to_tree().expect("a tree")),
        raw,
        "raw and tree differ: {path} on {text}"
    );
    raw
}

const MESSAGE: &str = "<message type='chat' from='a&apos;b@c' xml:lang='de'><body>hi &amp; ho</body>\
    <x xmlns='jabber:x:data'><field var=\"v\"><value>1</value></field></x>\
    <p:y xmlns:p='urn:y'><p:z/><q/></p:y><empty/><!-- --></message>";

fn message() -> String {
    MESSAGE.replace("<!-- -->", "")
}

#[test]
fn each_part_of_the_grammar_means_what_it_says() {
    for (path, expected) in [
        ("/message", true),
        ("/iq", false),
        ("/*", true),
        ("//*", true),
        ("//message", true),
        ("/message/body", true),
        ("/message/subject", false),
        ("/message/value", false),
        ("/message//value", true),
        ("/message/x//value", true),
        ("/message/body//value", false),
        ("//field/value", true),
        ("//x/value", false),
        ("//empty", true),
        ("/body", false),
        ("/message[@type='chat']/body", true),
        ("/message[@type=\"chat\"]/body", true),
        ("/message[@type='groupchat']/body", false),
        ("/message[@type]", true),
        ("/message[@id]", false),
        ("/message[@id!='x']", false),
        ("/message[not(@id='x')]", true),
        ("/message[@type!='chat']", false),
        ("/message[@type!='groupchat']", true),
        ("/message[@from=\"a'b@c\"]", true),
        ("/message[@from='a&apos;b@c']", false),
        ("/message[@xml:lang='de']", true),
        ("/message[@lang='de']", false),
        ("/message/@type", true),
        ("/message/@type='normal'", false),
        ("/message/body/text()='hi & ho'", true),
        ("/message[body/text()='hi & ho']", true),
        ("/message/body[text()='hi']", false),
        ("/message/body[text()!='hi']", true),
        ("/message/empty[text()]", false),
        ("/message[text()]", false),
        ("/message[body and not(@type='groupchat')]", true),
        ("/message[body and @type='groupchat' or x]", true),
        ("/message[body and (@type='groupchat' or y/q)]", true),
        ("/message[(subject or thread) and body]", false),
        ("/message[not(body)]", false),
        ("/message[not(subject)]/empty", true),
        ("/message[body][x][not(subject)]", true),
        ("/message[.//value]", true),
        ("/message[not(.//value)]", false),
        ("/message[.//field[@var='v']/value]", true),
        ("/message[x/field/@var='v']", true),
        ("/message/*[@xmlns='urn:y']", true),
        ("/message/y[@xmlns='urn:y']/z[@xmlns='urn:y']", true),
        ("/message/y/q[@xmlns='urn:y']", false),
        ("/message/y/q[@xmlns='jabber:client']", true),
        ("/message/x/field[@xmlns='jabber:x:data']", true),
        ("//x[@xmlns='jabber:x:data']", true),
        ("//x[@xmlns='jabber:x:oob']", false),
        ("//x[@xmlns!='jabber:x:oob']", true),
        ("/message[@xmlns='jabber:server']", false),
        ("/iq | /message", true),
        ("/iq|/presence | //nothing", false),
        (" / message [ @type = 'chat' ] / body ", true),
        ("/message[*]", true),
        ("/message[not[x]]", false),
    ] {
        assert_eq!(matches(path, &message()), expected, "{path}");
    }
}

#[test]
fn a_first_step_is_a_stanza_unless_it_says_otherwise() {
    for namespace in ["jabber:client", "jabber:server", "jabber:component:accept"] {
        assert!(matches("/iq", &format!("<iq xmlns='{namespace}'/>")), "{namespace}");
    }
    let foreign = "<iq xmlns='urn:x'><iq/></iq>";
    assert!(!matches("/iq", foreign));
    assert!(matches("/*", foreign));
    assert!(matches("//iq", foreign));
    assert!(matches("/*/iq", foreign));
    assert!(matches("/iq[@xmlns='urn:x']/iq", foreign));
    assert!(matches("/iq[not(@xmlns='jabber:client')]", foreign));
    assert!(matches("/iq/@xmlns", foreign));
}

#[test]
fn words_of_the_grammar_are_names_where_a_name_stands() {
    let text = "<message><and/><or/><not/><text/></message>";
    assert!(matches("/message[and and or and not and text]", text));
    assert!(matches("/message/and | /or", text));
    assert!(!matches("/message[not(and)]", text));
}

#[test]
fn nested_elements_of_one_pattern_do_not_mix_what_they_find() {
    // The inner <a> has the <c>, the outer the @k: neither has both as a child, the outer has both as descendants.
    let text = "<m><a k='1'><b/><a><c/></a></a></m>";
    assert!(!matches("//a[b and c]", text));
    assert!(!matches("/*/a[c]", text));
    assert!(matches("//a[@k and .//c]", text));
    assert!(matches("//a[b and .//c]", text));
    assert!(matches("//a[c and not(b)]", text));
    assert!(!matches("//a[.//a/b]", text));
    assert!(matches("//a[@k]//a/c", text));
}

#[test]
fn cdata_belongs_to_the_text_around_it() {
    let text = "<message><body>a<![CDATA[<b>]]>c</body><e><![CDATA[]]></e><f>x<g/>y</f></message>";
    assert!(matches("/message/body/text()='a<b>c'", text));
    assert!(!matches("/message/body/text()='a'", text));
    assert!(!matches("/message/e/text()", text));
    assert!(matches("/message/f[text()='x' and text()='y']", text));
    assert!(!matches("/message/f/text()='xy'", text));
}

#[test]
fn a_set_answers_for_each_of_its_paths() {
    let paths: Vec<String> = (0..200).map(|n| format!("/message[@n{}='1' or body]/x{}", n, n % 3)).collect();
    let set = PathSet::compile(paths.iter().map(String::as_str)).expect("paths");
    let element = element("<message><x1/><body/></message>");
    let found = set.evaluate(&element.as_raw());
    assert_eq!(found.iter().collect::<Vec<_>>(), (0..200).filter(|n| n % 3 == 1).collect::<Vec<_>>());
    assert!(!found.is_empty() && found.contains(1) && found.contains(199) && !found.contains(198));
    assert!(!found.contains(1000));
    assert_eq!(set.evaluate_tree(&element.as_raw().to_tree().expect("a tree")), found);
}

#[test]
fn an_empty_set_matches_nothing() {
    let set = PathSet::compile([]).expect("no paths");
    assert!(set.is_empty() && set.evaluate(&element("<message/>").as_raw()).is_empty());
}

#[test]
fn what_is_not_a_path_is_refused_where_it_goes_wrong() {
    for (path, position, reason) in [
        ("", 0, Reason::NotAbsolute),
        ("message", 0, Reason::NotAbsolute),
        ("/", 1, Reason::NoName),
        ("/message/", 9, Reason::NoName),
        ("///x", 2, Reason::NoName),
        ("/message[", 9, Reason::NoName),
        ("/message[]", 9, Reason::NoName),
        ("/message[@]", 10, Reason::NoName),
        ("/message[@a", 11, Reason::Missing("]")),
        ("/message[@a=]", 12, Reason::NoLiteral),
        ("/message[@a='x]", 13, Reason::OpenLiteral),
        ("/message[(@a]", 12, Reason::Missing(")")),
        ("/message[@a and]", 15, Reason::NoName),
        ("/message[@a]]", 12, Reason::Unexpected),
        ("/message/@a/b", 11, Reason::Unexpected),
        ("/message//@a", 10, Reason::NoName),
        ("/message[/x]", 9, Reason::AbsoluteInside),
        ("/message[@a=1]", 12, Reason::NoLiteral),
        ("/message and /iq", 9, Reason::Unexpected),
        ("/stream:features", 7, Reason::Prefix),
        ("/message[@x:y]", 11, Reason::Prefix),
        ("/message[x:y]", 10, Reason::Prefix),
        ("/message | iq", 11, Reason::NotAbsolute),
        ("/message[text(]", 14, Reason::Missing(")")),
        ("/1", 1, Reason::NoName),
    ] {
        let error = Path::compile(path).expect_err(path);
        assert_eq!((error.position(), error.reason()), (position, reason), "{path}");
        assert_eq!(error.path(), path);
    }
}

#[test]
fn a_path_beyond_a_bound_is_refused() {
    let reason = |path: String| Path::compile(&path).map(drop).map_err(|error| error.reason());
    assert_eq!(reason("/a".repeat(MAX_STEPS)), Ok(()));
    assert_eq!(reason("/a".repeat(MAX_STEPS + 1)), Err(Reason::TooManySteps));
    assert_eq!(reason(format!("/a[{}", "b[".repeat(MAX_STEPS))), Err(Reason::TooDeep));
    let nested = |depth| format!("/a[{}@b{}]", "not(".repeat(depth), ")".repeat(depth));
    assert_eq!(reason(nested(MAX_NESTING - 1)), Ok(()));
    assert_eq!(reason(nested(MAX_NESTING)), Err(Reason::TooDeep));
    assert_eq!(reason("(".repeat(MAX_LENGTH)), Err(Reason::NotAbsolute));
    assert_eq!(reason("/a".repeat(MAX_LENGTH)), Err(Reason::TooLong));
    let tests = |count| format!("/*[{}]", (0..count).map(|n| format!("@a{n}")).collect::<Vec<_>>().join(" or "));
    assert_eq!(reason(tests(64)), Ok(()));
    assert_eq!(reason(tests(65)), Err(Reason::TooManyTests));
    let many = PathSet::compile((0..=MAX_PATHS).map(|_| "/a"));
    assert_eq!(many.map(drop).map_err(|error| error.reason()), Err(Reason::TooManyPaths));
}

#[test]
fn a_hostile_stanza_under_hostile_paths_is_done_in_proportion() {
    // Each `a` may begin each step: a search that went back would take 2^32 steps.
    let path = "//a".repeat(MAX_STEPS);
    let set = PathSet::compile([&*path, &format!("//a[.//{}b]", "a//".repeat(8))]).expect("paths");
    let depth = 200;
    let mut text = String::from("<m>");
    text.push_str(&"<a>".repeat(depth));
    for _ in 0..2000 {
        text.push_str("<a/>");
    }
    text.push_str(&"</a>".repeat(depth));
    text.push_str("<b/></m>");
    let found = set.evaluate(&element(&text).as_raw());
    assert!(found.contains(0) && !found.contains(1));
}

fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "message"])
}

/// Documents over a handful of names, so that paths over the same names have a chance.
fn documents() -> impl Strategy<Value = String> {
    let attributes = prop::sample::select(vec![
        "",
        " x='1'",
        " x='&#50;' y='1'",
        " y=\"2\"",
        " xmlns='urn:n'",
        " xmlns='jabber:client' x='2'",
        " xml:lang='1'",
        " p:x='1'",
        " xmlns:p='urn:n'",
    ]);
    let texts = prop::sample::select(vec!["1", "&#49;", "2", "<![CDATA[1]]>", "<![CDATA[]]>", "\r\n"]);
    let leaf = (names(), attributes.clone()).prop_map(|(name, attributes)| format!("<{name}{attributes}/>"));
    let inner = leaf.prop_recursive(5, 40, 5, move |inner| {
        let content = prop_oneof![3 => inner, 1 => texts.clone().prop_map(str::to_owned)];
        let prefixes = prop::sample::select(vec!["", "", "p:"]);
        (prefixes, names(), attributes.clone(), prop::collection::vec(content, 0..5)).prop_map(
            |(prefix, name, attributes, content)| {
                let name = format!("{prefix}{name}");
                format!("<{name}{attributes}>{}</{name}>", content.concat())
            },
        )
    });
    prop::collection::vec(inner, 0..4)
        .prop_map(|content| format!("<message xmlns:p='urn:p'>{}</message>", content.concat()))
}

fn paths() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["@x", "@y", "@xml:lang", "@xmlns", "text()"]).prop_flat_map(|leaf| {
            prop::sample::select(vec!["", "='1'", "='2'", "!='1'", "='urn:n'", "='urn:p'", "!='urn:n'"])
                .prop_map(move |test| format!("{leaf}{test}"))
        }),
        names().prop_map(str::to_owned),
        names().prop_map(|name| format!(".//{name}")),
    ];
    let predicate = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} and {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.clone().prop_map(|a| format!("not({a})")),
            (names(), inner.clone()).prop_map(|(name, a)| format!("{name}[{a}]")),
            (names(), names(), inner).prop_map(|(one, two, a)| format!(".//{one}//{two}[{a}]")),
        ]
    });
    let step =
        (prop::sample::select(vec!["/", "//"]), prop_oneof![4 => names(), 1 => Just("*")], prop::option::of(predicate))
            .prop_map(|(axis, name, predicate)| match predicate {
                Some(predicate) => format!("{axis}{name}[{predicate}]"),
                None => format!("{axis}{name}"),
            });
    prop::collection::vec(prop::collection::vec(step, 1..4).prop_map(|steps| steps.concat()), 1..3)
        .prop_map(|alternatives| alternatives.join(" | "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn raw_and_tree_and_judge_agree(document in documents(), paths in prop::collection::vec(paths(), 1..8)) {
        let set = PathSet::compile(paths.iter().map(String::as_str)).expect("paths");
        let element = element(&document);
        let tree = element.as_raw().to_tree().expect("a tree");
        let found = set.evaluate(&element.as_raw());
        prop_assert_eq!(&found, &set.evaluate_tree(&tree));
        for (number, path) in paths.iter().enumerate() {
            prop_assert_eq!(found.contains(number), judge::matches(path, &tree), "{}", path);
        }
    }

    #[test]
    fn no_text_whatever_makes_the_compiler_panic(text in "[/a\\[\\]()@='\"!|. x:*ndotré]{0,40}") {
        if let Err(error) = Path::compile(&text) {
            prop_assert!(error.position() <= text.len());
        }
    }
}
