//! Paths: no text makes the compiler panic, and raw element and tree get the same answers.
//!
//! Input: paths, one a line, an empty line, then an element of a client's stream.

use starling_xml::{
    Limits, Scope, parse,
    path::{Path, PathSet},
};

/// The target.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (paths, element) = text.split_once("\n\n").unwrap_or((text, "<message/>"));
    let mut good = Vec::new();
    for path in paths.lines() {
        match Path::compile(path) {
            Ok(compiled) => good.push(compiled),
            Err(error) => assert!(error.position() <= path.len(), "an error behind the end"),
        }
    }
    let Ok(element) = parse(element, &Scope::client(), Limits::default()) else { return };
    let raw = element.as_raw();
    let tree = raw.to_tree().expect("what the reader lets through has a tree");
    let Ok(set) = PathSet::compile(good.iter().map(Path::as_str)) else { return };
    let matches = set.evaluate(&raw);
    assert_eq!(matches, set.evaluate_tree(&tree), "raw and tree differ");
    for (number, path) in good.iter().enumerate() {
        assert_eq!(path.matches(&raw), matches.contains(number), "alone and in a set: {path}");
        assert_eq!(path.matches_tree(&tree), matches.contains(number), "alone and in a set: {path}");
    }
}
