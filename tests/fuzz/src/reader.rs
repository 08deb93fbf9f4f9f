//! The incremental reader: what it finds in a stream does not depend on how the stream's bytes were cut, and no bytes
//! make it panic.
//!
//! Input: a byte that seeds the cuts, then the stream.

use starling_xml::{Frame, Limits, Reader};

/// Small enough that a fuzzer reaches them.
const LIMITS: Limits = Limits { stanza_bytes: 2048, depth: 8, attributes: 8 };

/// The target.
pub fn run(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let whole = transcript(stream, |rest| rest);
    assert_eq!(whole, transcript(stream, |_| 1), "byte by byte");
    let mut state = u32::from(seed);
    let cut = transcript(stream, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as usize % 37 + 1
    });
    assert_eq!(whole, cut, "in pieces");
}

/// All that the reader says, its error last.
fn transcript(mut stream: &[u8], mut piece: impl FnMut(usize) -> usize) -> Vec<String> {
    let mut reader = Reader::new(LIMITS);
    let mut said = Vec::new();
    while !stream.is_empty() {
        let (mut input, rest) = stream.split_at(piece(stream.len()).clamp(1, stream.len()));
        stream = rest;
        loop {
            let before = input.len();
            match reader.read(&mut input) {
                // A header like `<stream:stream/>` says twice what it says: its end takes no bytes.
                Ok(Some(Frame::Close)) => said.push("close".to_owned()),
                Ok(Some(frame)) => {
                    said.push(describe(&frame));
                    assert!(input.len() < before, "nothing was taken");
                }
                Ok(None) => {
                    assert!(input.is_empty(), "bytes were left");
                    break;
                }
                Err(error) => {
                    said.push(format!("{error:?}"));
                    assert!(reader.read(&mut &b"<a/>"[..]).is_err(), "it went on after an error");
                    return said;
                }
            }
            if input.is_empty() {
                break;
            }
        }
    }
    said.push(format!("end, in a stanza: {}", reader.is_mid_stanza()));
    said
}

fn describe(frame: &Frame<'_>) -> String {
    match frame {
        Frame::Open(header) => {
            let attributes = ["to", "from", "id", "version"].map(|name| header.attribute(name));
            format!(
                "open {} {} {attributes:?} {:?} {:?}",
                header.name(),
                header.namespace(),
                header.lang(),
                header.scope()
            )
        }
        Frame::Element(element) => {
            assert!(element.as_str().len() <= LIMITS.stanza_bytes, "larger than its limit");
            let tree = element.to_tree().expect("what the reader lets through has a tree");
            assert_eq!((tree.name(), &*tree.ns()), (element.name(), element.namespace()));
            for name in ["to", "from", "id", "type", "x"] {
                assert_eq!(tree.attr(name), element.attribute(name).as_deref(), "{name}");
            }
            assert_eq!(tree.text(), element.text());
            let children: Vec<_> =
                element.children().map(|c| (c.name().to_owned(), c.namespace().to_owned())).collect();
            let expected: Vec<_> = tree.children().map(|child| (child.name().to_owned(), child.ns())).collect();
            assert_eq!(children, expected);
            format!("element {} {{{}}}", element.as_str(), element.namespace())
        }
        Frame::Close => "close".to_owned(),
    }
}
