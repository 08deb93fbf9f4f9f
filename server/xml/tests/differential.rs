//! The reader against `rxml` as the judge: the same verdict and the same events on streams that are mostly good.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{TestError, TestRunner},
};
use starling_xml::Error;

#[path = "judge/judge.rs"]
mod judge;

use judge::{Allowed, compare, ours};

/// Also in ill-formed places, by mutation.
const SNIPPETS: &[&str] = &[
    "<",
    ">",
    "/>",
    "</",
    "&",
    ";",
    "&amp;",
    "&#0;",
    "&#x41;",
    "&#xFFFE;",
    "&#0000000065;",
    "]]>",
    "<![CDATA[",
    "<!--x-->",
    "<?x y?>",
    "<!DOCTYPE x>",
    "<?xml version='1.0'?>",
    " ",
    "\r\n",
    "\r",
    "\t",
    "'",
    "\"",
    "=",
    ":",
    "xmlns",
    "xmlns=''",
    " xmlns='u'",
    " xmlns:p='u'",
    " xmlns:p=''",
    " xmlns:xml='u'",
    " xmlns:q='http://www.w3.org/XML/1998/namespace'",
    " xmlns:q='http://www.w3.org/2000/xmlns/'",
    " xmlns:xmlns='u'",
    " p:a='1'",
    " a='1'",
    " xml:lang='en'",
    "xml:",
    "p:",
    "q:",
    "\u{0}",
    "\u{b}",
    "\u{85}",
    "\u{d7}",
    "\u{300}",
    "\u{feff}",
    "\u{fffe}",
    "\u{ffff}",
    "é",
    "😀",
    "</s>",
    "</a>",
    "<a/>",
    "x",
];

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["a", "b", "body", "message", "p:a", "q:b", "s:c", "é", "a-b.c"][..])
}

fn attribute() -> impl Strategy<Value = String> {
    let value = prop::sample::select(
        &["", "1", "a b", "&amp;&lt;&#9;", "é\u{ff01}", "a>b", " \t\n", "x\r\ny\r", "&#x10FFFF;", "]]>", "="][..],
    );
    let space = prop::sample::select(&[" ", "  ", "\n", "\r\n\t"][..]);
    let equals = prop::sample::select(&["=", " = ", "=\n"][..]);
    (space, prop::sample::select(&["a", "b", "to", "xml:lang", "p:a", "q:a", "é"][..]), equals, value, any::<bool>())
        .prop_map(|(space, name, equals, value, single)| {
            let quote = if single { '\'' } else { '"' };
            format!("{space}{name}{equals}{quote}{value}{quote}")
        })
}

/// Declarations of the prefixes that names use, so that most are declared.
fn declarations() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "",
            "",
            "",
            " xmlns='u'",
            " xmlns=''",
            " xmlns:p='u'",
            " xmlns:p='v&amp;w' xmlns:q=\"v&#38;w\"",
            " xmlns:q='u' xmlns='jabber:client'",
            " xmlns:xml='http://www.w3.org/XML/1998/namespace'",
        ][..],
    )
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(
        &[
            "x",
            "grüße",
            "&amp;",
            "&#10;",
            "&#xe9;",
            "]]",
            "]",
            ">",
            "<![CDATA[<&]] >]]>",
            "<![CDATA[]]>",
            "\r",
            "\r\n",
            "😀",
        ][..],
    );
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn element() -> impl Strategy<Value = String> {
    let tag = || {
        (name(), declarations(), prop::collection::vec(attribute(), 0..3), prop::sample::select(&["", " ", "\n"][..]))
            .prop_map(|(name, declared, attributes, space)| {
                (name, format!("<{name}{declared}{}{space}", attributes.concat()))
            })
    };
    let leaf = (tag(), text(), any::<bool>()).prop_map(|((name, tag), text, empty)| {
        if empty { format!("{tag}/>") } else { format!("{tag}>{text}</{name} >") }
    });
    leaf.prop_recursive(4, 24, 4, move |inner| {
        (tag(), prop::collection::vec((text(), inner), 0..4)).prop_map(|((name, tag), content)| {
            let content: String = content.into_iter().map(|(text, element)| format!("{text}{element}")).collect();
            format!("{tag}>{content}</{name}>")
        })
    })
}

fn good_stream() -> impl Strategy<Value = String> {
    let declaration = prop::sample::select(
        &[
            "",
            "",
            "<?xml version='1.0'?>",
            "<?xml version=\"1.0\" encoding='utf-8'?>\n",
            "<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>",
            "\n ",
        ][..],
    );
    let header = prop::sample::select(
        &[
            "<s xmlns='jabber:client' xmlns:p='u' xmlns:q='urn:q' xmlns:s='urn:s'>",
            "<s xmlns:p='u' xmlns:q='v' xmlns:s='s' to='x&amp;y' xml:lang='de'>",
            "<s:s xmlns='c' xmlns:s='http://etherx.jabber.org/streams' xmlns:p='u' xmlns:q='q'\r\n>",
        ][..],
    );
    let spaced = (element(), prop::sample::select(&["", " ", "\r\n"][..])).prop_map(|(element, space)| element + space);
    let elements = prop::collection::vec(spaced, 0..4);
    (declaration, header, elements).prop_map(|(declaration, header, elements)| {
        let close = if header.starts_with("<s:s") { "</s:s>" } else { "</s>" };
        format!("{declaration}{header}{}{close}", elements.concat())
    })
}

#[derive(Clone, Debug)]
enum Mutation {
    Insert(usize, &'static str),
    Remove(usize, usize),
    Set(usize, u8),
    Repeat(usize, usize),
    Cut(usize),
}

impl Mutation {
    fn apply(&self, stream: &mut Vec<u8>) {
        let length = stream.len();
        let within = |at: usize| at % (length + 1);
        match *self {
            Self::Insert(at, snippet) => {
                let at = within(at);
                stream.splice(at..at, snippet.bytes());
            }
            Self::Remove(at, count) => {
                let at = within(at);
                stream.drain(at..(at + count).min(length));
            }
            Self::Set(at, byte) => {
                if let Some(place) = stream.get_mut(within(at)) {
                    *place = byte;
                }
            }
            Self::Repeat(at, count) => {
                let at = within(at);
                let again = stream[at..(at + count).min(length)].to_vec();
                stream.splice(at..at, again);
            }
            Self::Cut(at) => stream.truncate(within(at)),
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        5 => (any::<usize>(), prop::sample::select(SNIPPETS)).prop_map(|(at, snippet)| Mutation::Insert(at, snippet)),
        2 => (any::<usize>(), 1..6_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => (any::<usize>(), 1..20_usize).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        1 => any::<usize>().prop_map(Mutation::Cut),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let mutations = prop_oneof![
        1 => Just(Vec::new()),
        3 => prop::collection::vec(mutation(), 1..3),
    ];
    (good_stream(), mutations).prop_map(|(stream, mutations)| {
        let mut stream = stream.into_bytes();
        for mutation in mutations {
            mutation.apply(&mut stream);
        }
        stream
    })
}

#[test]
fn reader_and_judge_agree() {
    let config = ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&stream(), |stream| {
        compare(&stream);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, stream)) => panic!("{reason}\n{:?}", String::from_utf8_lossy(&stream)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn any_fragmentation_has_the_same_verdict_and_events() {
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&(stream(), 1..40_usize), |(stream, size)| {
        let whole = ours(&stream, stream.len());
        prop_assert_eq!(&ours(&stream, 1), &whole);
        prop_assert_eq!(&ours(&stream, size), &whole);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn the_generator_makes_enough_of_either_kind() {
    let mut runner = TestRunner::deterministic();
    let (mut taken, mut refused, mut elements) = (0, 0, 0);
    for _ in 0..1000 {
        let stream = stream().new_tree(&mut runner).unwrap().current();
        let (found, _) = compare(&stream);
        taken += usize::from(found.end == Ok(true));
        refused += usize::from(found.end.is_err());
        elements += found.elements.len();
    }
    assert!(taken > 150 && refused > 150 && elements > 300, "{taken} taken, {refused} refused, {elements} elements");
}

#[test]
fn each_allowed_difference_is_one() {
    for (stream, difference) in [
        ("<s>x</s>", Allowed::TextBetweenStanzas),
        ("<s><![CDATA[x]]></s>", Allowed::TextBetweenStanzas),
        ("<?xml version='1&#46;0'?><s/>", Allowed::LaxDeclaration),
        ("<?xml version='1.0' encoding='utf-8' standalone='YES'?><s/>", Allowed::LaxDeclaration),
        ("<![CDATA[]]><s/>", Allowed::SectionBefore),
        ("<?xml version='1.0' encoding='utf-8' standalone='no'?><s/>", Allowed::StrictDeclaration),
        ("<?xml version='1.0' standalone='yes'?><s/>", Allowed::StrictDeclaration),
        ("<s><a>&#0000000065;</a></s>", Allowed::LongReference),
        ("<s><\u{fdf0}/></s>", Allowed::Names),
    ] {
        let (ours, allowed) = compare(stream.as_bytes());
        assert_eq!(allowed, Some(difference), "{stream}");
        let judge = judge::judge(stream.as_bytes());
        assert_ne!(ours.end.is_ok(), judge.end.is_ok(), "{stream}");
    }
    let deep = format!("<s>{}{}</s>", "<a>".repeat(65), "</a>".repeat(65));
    assert_eq!(compare(deep.as_bytes()).1, Some(Allowed::Limit));
    assert_eq!(judge::judge(deep.as_bytes()).end, Ok(true));
}

/// Verdicts that hang on a single rule, each with what is right by it.
#[test]
fn reader_and_judge_agree_on_corner_cases() {
    let inside = |content: &str| format!("<s xmlns='u' xmlns:p='v'>{content}</s>").into_bytes();
    for good in [
        "<a>]]&gt;</a>",
        "<a>]]</a>",
        "<a><![CDATA[]]]]><![CDATA[>]]></a>",
        "<a b='>'/>",
        "<a b=']]>'/>",
        "<a b='\"' c=\"'\"/>",
        "<a b\n=\n''\n/>",
        "<a xmlns='' b='' p:b=''/>",
        "<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang=''/>",
        "<a xmlns:p='x'><p:b xmlns:p='y' p:c='' c=''/></a>",
        "<xml:a/>",
        "<xmlfoo/>",
        "<a>\u{85}\u{2028}\u{7f}\u{fffd}</a>",
        "<a>&#x9;&#xA;&#xD;&#x10FFFF;</a>",
        "<a b='&#xD;&#xA; \r\n \r'/>",
        "<a></a\r\n>",
    ] {
        assert_eq!(compare(&inside(good)).0.end, Ok(true), "{good:?}");
    }
    for bad in [
        "<a xmlns='u' xmlns='u'/>",
        "<a xmlns:q='http://www.w3.org/2000/xmlns/'/>",
        "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
        "<a xmlns:xml='u'/>",
        "<a xmlns:p=''/>",
        "<a xmlns:q='&#118;' p:b='' q:b=''/>",
        "<a q:b='' xmlns:r='v'/>",
        "<xmlns:a/>",
        "<a xmlns:xmlns='u'/>",
        "<a xmlns:=''/>",
        "<a :b=''/>",
        "<a p:b:c=''/>",
        "<p:9/>",
        "<a></ a>",
        "<a></a b=''>",
        "<a></a/>",
        "<a/ >",
        "<a b=''c=''/>",
        "<a b='&b='c'/>",
        "<a>&;</a>",
        "<a>&#x;</a>",
        "<a>&#X41;</a>",
        "<a>&AMP;</a>",
        "<a>\u{fffe}</a>",
        "<a b='\u{ffff}'/>",
        "<\u{d7}/>",
        "<a\u{a0}b=''/>",
        "<a><![CDATA[x]] ></a>",
        "<a><!---></a>",
    ] {
        assert!(compare(&inside(bad)).0.end != Ok(true), "{bad:?}");
    }
    for bad in
        [&b"<s><a>\xc3</a></s>"[..], b"<s><a b='\xff'/></s>", b"<s><\xc3/></s>", b"<s><a><![CDATA[\xe2\x82]]></a></s>"]
    {
        assert_eq!(compare(bad).0.end, Err(Error::NotUtf8), "{bad:x?}");
    }
}
