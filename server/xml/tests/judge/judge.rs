//! The reader's verdict on a stream beside that of `rxml`: both take it or refuse it at the same place, and find the
//! same header and the same elements in it. Uses nothing but `starling_xml` and `minidom`, so that a fuzz target can
//! include this file.
//!
//! Allowed differences, all of them, are the variants of [`Allowed`], and what [`prepared`] does to the judge's input.

use minidom::rxml::{Event, Options, Parse, Parser, RawEvent, RawParser, WithOptions, XMLNS_XMLNS, error::EndOrError};
use minidom::{Element, Node, rxml};
use starling_xml::{Error, Frame, Limits, RawElement, Reader, parse};

/// Why one of the two may refuse what the other takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// XMPP has no text between first-level elements (RFC 6120 §4.4); XML has.
    TextBetweenStanzas,
    /// One of our limits; XML has none.
    Limit,
    /// The judge takes references and any case in the values of an XML declaration (XML 1.0 §2.8 has neither).
    LaxDeclaration,
    /// The judge takes empty CDATA sections before the first tag (XML 1.0 §2.8 has no text there).
    SectionBefore,
    /// The judge refuses `standalone='no'`, and `standalone` without an encoding (XML 1.0 §2.8 has both).
    StrictDeclaration,
    /// The judge refuses character references of more than eight digits, as leading zeros make them (XML 1.0 §4.1).
    LongReference,
    /// The judge, and attributes of trees with it, has no names with characters from U+FDF0 to U+FFFD (XML 1.0 §2.3 has).
    Names,
}

/// What was found in a stream.
#[derive(Debug, PartialEq)]
pub(crate) struct Found<E> {
    /// The stream's opening tag, without content.
    pub(crate) header: Option<Element>,
    /// The first-level elements that came whole.
    pub(crate) elements: Vec<Element>,
    /// Whether the stream was closed (`Ok(true)`), stopped short, or was refused.
    pub(crate) end: Result<bool, E>,
}

/// Compares the two on one stream. What they agree on, or the difference.
///
/// # Panics
/// If they differ and may not.
pub(crate) fn compare(stream: &[u8]) -> (Found<Error>, Option<Allowed>) {
    let ours = ours(stream, stream.len());
    let judge = judge(stream);
    let allowed = allowed(&ours, &judge, stream);
    let text = String::from_utf8_lossy(stream);
    // Neither takes what stops short.
    let (we_take, it_takes) = (ours.end == Ok(true), judge.end == Ok(true));
    let same = ours.header == judge.header && ours.elements == judge.elements;
    match allowed {
        None => assert!(same && we_take == it_takes, "{text:?}\nours:  {ours:?}\njudge: {judge:?}"),
        // As far as both went they found the same.
        Some(_) => {
            let both = ours.elements.len().min(judge.elements.len());
            assert_eq!(ours.elements.get(..both), judge.elements.get(..both), "{text:?}");
        }
    }
    (ours, allowed)
}

fn allowed(ours: &Found<Error>, judge: &Found<rxml::Error>, stream: &[u8]) -> Option<Allowed> {
    let has_long_reference = || {
        let digit = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'x';
        stream
            .windows(2)
            .enumerate()
            .any(|(at, start)| start == b"&#" && stream.iter().skip(at + 2).take_while(|byte| digit(byte)).count() > 8)
    };
    match (&ours.end, &judge.end) {
        (Err(Error::TextBetweenStanzas), _) => Some(Allowed::TextBetweenStanzas),
        (Err(Error::TooLarge(_) | Error::TooDeep(_) | Error::TooManyAttributes(_) | Error::LongNamespace(_)), _) => {
            Some(Allowed::Limit)
        }
        (Err(Error::NotWellFormed("a bad XML declaration")), Ok(_)) => Some(Allowed::LaxDeclaration),
        (
            _,
            Err(
                rxml::Error::RestrictedXml("only standalone documents are allowed")
                | rxml::Error::InvalidSyntax("'version' attribute must be followed by '?>' or 'encoding' attribute"),
            ),
        ) => Some(Allowed::StrictDeclaration),
        (_, Err(rxml::Error::UnexpectedChar(_, '\u{fdf0}'..='\u{fffd}', _))) => Some(Allowed::Names),
        (Err(Error::NotWellFormed("bad markup")), Ok(_)) if ours.header.is_none() => Some(Allowed::SectionBefore),
        (_, Err(rxml::Error::UndeclaredEntity)) if has_long_reference() => Some(Allowed::LongReference),
        _ => None,
    }
}

/// What the reader finds if the stream comes in pieces of `size` bytes.
///
/// # Panics
/// If what it says of an element contradicts itself.
pub(crate) fn ours(stream: &[u8], size: usize) -> Found<Error> {
    let mut reader = Reader::new(Limits::default());
    let mut found = Found { header: None, elements: Vec::new(), end: Ok(false) };
    for mut piece in stream.chunks(size.max(1)) {
        loop {
            match reader.read(&mut piece) {
                Ok(None) => {
                    assert!(piece.is_empty(), "bytes were left");
                    break;
                }
                Ok(Some(Frame::Open(header))) => {
                    let whole = format!("{}</{}>", header.as_str(), root(header.as_str()));
                    let text = if header.as_str().ends_with("/>") { header.as_str() } else { &whole };
                    let element = parse(text, &starling_xml::Scope::none(), Limits::default());
                    let element = element.expect("a header is an element");
                    let tree = match element.as_raw().to_tree() {
                        Ok(tree) => tree,
                        Err(error) => return Found { end: Err(treeless(header.as_str(), error)), ..found },
                    };
                    assert_eq!((header.name(), header.namespace()), (tree.name(), &*tree.ns()));
                    found.header = Some(tree);
                }
                Ok(Some(Frame::Element(raw))) => {
                    let tree = match raw.to_tree() {
                        Ok(tree) => tree,
                        Err(error) => return Found { end: Err(treeless(raw.as_str(), error)), ..found },
                    };
                    check(&raw, &tree);
                    found.elements.push(tree);
                }
                Ok(Some(Frame::Close)) => return Found { end: Ok(true), ..found },
                Err(error) => return Found { end: Err(error), ..found },
            }
        }
    }
    found
}

/// The error of what has no tree, which is only allowed for [`Allowed::Names`].
fn treeless(text: &str, error: Error) -> Error {
    assert!(text.contains(|character| matches!(character, '\u{fdf0}'..='\u{fffd}')), "{error}: {text}");
    error
}

/// What an element says of itself is what its tree says.
fn check(raw: &RawElement<'_>, tree: &Element) {
    assert_eq!((raw.name(), raw.namespace()), (tree.name(), &*tree.ns()));
    for ((namespace, name), value) in tree.attrs() {
        let found = raw.attribute_ns(namespace.as_str(), name.as_str());
        assert_eq!(found.as_deref(), Some(value.as_str()), "{name} of {}", raw.as_str());
    }
    assert_eq!(raw.text(), tree.text());
    let children: Vec<_> = raw.children().map(|child| (child.name(), child.namespace().to_owned())).collect();
    let expected: Vec<_> = tree.children().map(|child| (child.name(), child.ns())).collect();
    assert_eq!(children, expected, "{}", raw.as_str());
    let again = parse(raw.as_str(), raw.scope(), Limits::default()).expect("what was read can be read again");
    assert_eq!(again, raw.to_owned());
}

fn root(tag: &str) -> &str {
    tag.trim_start_matches('<').split([' ', '\t', '\r', '\n', '>', '/']).next().unwrap_or_default()
}

/// The stream as the judge is given it. Line ends are normalised before (XML 1.0 §2.11), since it loses carriage returns in
/// attribute values or refuses them; white space before the first tag (XML 1.0 §2.8) is taken away, since it refuses that.
fn prepared(stream: &[u8]) -> Vec<u8> {
    let space = stream.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
    let rest = stream.get(space..).unwrap_or_default();
    // A declaration stands at the very start or nowhere.
    let kept = if rest.starts_with(b"<?") { stream } else { rest };
    let mut lines = Vec::with_capacity(kept.len());
    for (at, byte) in kept.iter().enumerate() {
        match byte {
            b'\r' if kept.get(at + 1) == Some(&b'\n') => {}
            b'\r' => lines.push(b'\n'),
            _ => lines.push(*byte),
        }
    }
    lines
}

fn options(length: usize) -> Options {
    // Above all that may be in the stream.
    Options { max_token_length: length + 16, ..Options::default() }
}

/// What the judge finds.
pub(crate) fn judge(stream: &[u8]) -> Found<rxml::Error> {
    let stream = prepared(stream);
    let mut input = &stream[..];
    let mut parser = Parser::with_options(options(stream.len()));
    let mut found = Found { header: None, elements: Vec::new(), end: Ok(false) };
    let mut open: Vec<Element> = Vec::new();
    let mut depth = 0;
    loop {
        match parser.parse(&mut input, true) {
            Ok(Some(Event::XmlDeclaration(..))) => {}
            Ok(Some(Event::StartElement(_, (namespace, name), attributes))) => {
                let mut element = Element::bare(name.as_str(), namespace.as_str());
                *element.attrs_mut() = attributes;
                if depth == 0 {
                    found.header = Some(element);
                } else {
                    open.push(element);
                }
                depth += 1;
            }
            Ok(Some(Event::EndElement(_))) => {
                depth -= 1;
                if depth == 0 {
                    found.end = Ok(true);
                    break;
                }
                let Some(closed) = open.pop() else { break };
                match open.last_mut() {
                    Some(parent) => parent.append_node(Node::Element(closed)),
                    None => found.elements.push(closed),
                }
            }
            Ok(Some(Event::Text(_, text))) => {
                if let Some(element) = open.last_mut() {
                    element.append_text(text);
                }
            }
            Ok(None) | Err(EndOrError::NeedMoreData | EndOrError::Error(rxml::Error::InvalidEof(_))) => break,
            Err(EndOrError::Error(error)) => {
                found.end = Err(error);
                break;
            }
        }
    }
    if let Some((in_header, whole, error)) = overlooked(&stream) {
        if in_header {
            found.header = None;
        }
        if in_header || whole <= found.elements.len() {
            found.elements.truncate(whole);
            found.end = Err(error);
        }
    }
    found
}

/// What the judge is lax about and Namespaces in XML 1.0 is not, made up for here: the default namespace declared twice by
/// one element (XML 1.0 §3.1), and the namespace of `xmlns` declared at all (§3). Whether it is in the stream's header, and
/// how many first-level elements came whole before.
fn overlooked(stream: &[u8]) -> Option<(bool, usize, rxml::Error)> {
    let mut input = stream;
    let mut parser = RawParser::with_options(options(stream.len()));
    let (mut depth, mut whole, mut has_default) = (0_usize, 0, false);
    while let Ok(Some(event)) = parser.parse(&mut input, true) {
        match event {
            RawEvent::ElementHeadOpen(..) => {
                depth += 1;
                has_default = false;
            }
            RawEvent::ElementFoot(_) => {
                depth -= 1;
                if depth == 0 {
                    return None;
                }
                whole += usize::from(depth == 1);
            }
            RawEvent::Attribute(_, (prefix, local), value) => {
                let is_default = prefix.is_none() && local == "xmlns";
                let declares = is_default || prefix.is_some_and(|prefix| prefix == "xmlns");
                if declares && value == XMLNS_XMLNS {
                    return Some((depth == 1, whole, rxml::Error::ReservedNamespaceName));
                }
                if is_default && std::mem::replace(&mut has_default, true) {
                    return Some((depth == 1, whole, rxml::Error::DuplicateAttribute));
                }
            }
            _ => {}
        }
    }
    None
}
