//! Our verdict on one element against that of `rxml`, which the trees' crate reads with: what we take, it takes, and it
//! finds the same tree; what we call not well-formed, it refuses.
//!
//! Differences that are allowed, all of them: what XMPP restricts beyond XML (RFC 6120 §11.1), our limits, and what may
//! stand around an element (white space, an XML declaration), which is not asked here. Line ends are normalised for the
//! judge as XML 1.0 §2.11 says, since it refuses a carriage return that stands alone.

use minidom::rxml::{Event, Reader};
use minidom::{Element, Node};
use starling_xml::{Error, Limits, Scope, parse};

/// The judge has a limit on the length of a token, which these inputs stay below.
const LONGEST: usize = 4096;

/// The target.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > LONGEST || !text.starts_with('<') || !text.ends_with('>') {
        return;
    }
    let ours = parse(text, &Scope::none(), Limits::default());
    let judge = judge(&text.replace("\r\n", "\n").replace('\r', "\n"));
    match (ours, judge) {
        (Ok(element), Ok(expected)) => {
            let tree = element.as_raw().to_tree().expect("what the reader lets through has a tree");
            assert_eq!(tree, expected, "another tree: {text}");
        }
        (Ok(_), Err(error)) => panic!("we take what the judge refuses ({error}): {text}"),
        (Err(error), Ok(_)) => {
            let allowed = matches!(
                error,
                Error::Restricted(_) | Error::TooLarge(_) | Error::TooDeep(_) | Error::TooManyAttributes(_)
            );
            assert!(allowed || text.starts_with("<?"), "we refuse what the judge takes: {error}: {text}");
        }
        (Err(_), Err(_)) => {}
    }
}

/// The judge's verdict, and the tree that it finds.
fn judge(text: &str) -> Result<Element, String> {
    let mut reader = Reader::new(text.as_bytes());
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    while let Some(event) = reader.read().map_err(|error| error.to_string())? {
        match event {
            Event::XmlDeclaration(..) => {}
            Event::StartElement(_, (namespace, name), attributes) => {
                let mut element = Element::bare(name.as_str(), namespace.as_str());
                *element.attrs_mut() = attributes;
                open.push(element);
            }
            Event::EndElement(_) => {
                let closed = open.pop().ok_or("an end without a start")?;
                match open.last_mut() {
                    Some(parent) => parent.append_node(Node::Element(closed)),
                    None => root = Some(closed),
                }
            }
            Event::Text(_, text) => {
                if let Some(element) = open.last_mut() {
                    element.append_text(text);
                }
            }
        }
    }
    root.ok_or_else(|| "no element".to_owned())
}
