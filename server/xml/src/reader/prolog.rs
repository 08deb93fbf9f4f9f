//! What stands before the content of a stream: an XML declaration, and the stream's opening tag.

use memchr::memmem;
use quick_xml::parser::{ElementParser, Parser};

use super::{
    check,
    names::Names,
    tag::{self, is_space},
};
use crate::{Error, Limits, Scope};

/// How far the prolog is checked.
#[derive(Clone, Debug)]
pub(super) struct Prolog {
    /// All before is checked.
    at: usize,
    /// How far the declaration, or the opening tag, was searched for its end.
    searched: usize,
    quotes: ElementParser,
}

impl Default for Prolog {
    fn default() -> Self {
        Self { at: 0, searched: 0, quotes: ElementParser::Outside }
    }
}

/// The stream's opening tag: where it stands, and what it declares.
pub(super) struct Header {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) scope: Scope,
    pub(super) root: Box<str>,
    pub(super) is_empty: bool,
}

const DECLARATION: &[u8] = b"<?xml";

impl Prolog {
    /// Checks on; `bytes` are all that came since the stream's beginning. A byte order mark is refused: RFC 6120 §11.6
    /// has no use for one.
    pub(super) fn run(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Header>, Error> {
        let header = self.step(bytes, limits)?;
        let length = header.as_ref().map_or(bytes.len(), |header| header.end);
        if length > limits.stanza_bytes {
            return Err(Error::TooLarge(limits.stanza_bytes));
        }
        Ok(header)
    }

    fn step(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Header>, Error> {
        if self.at == 0 {
            if bytes.len() < DECLARATION.len() + 1 && DECLARATION.starts_with(bytes) {
                return Ok(None);
            }
            if bytes.starts_with(DECLARATION) && bytes.get(DECLARATION.len()).is_some_and(|next| is_space(*next)) {
                // The end may have been cut in two by the last search.
                let from = self.searched.saturating_sub(1).max(DECLARATION.len());
                let Some(found) = bytes.get(from..).and_then(|rest| memmem::find(rest, b"?>")) else {
                    self.searched = bytes.len();
                    return Ok(None);
                };
                let end = from + found;
                declaration(check::utf8(bytes.get(DECLARATION.len()..end).unwrap_or_default())?)?;
                self.at = end + 2;
            }
        }
        let rest = bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len());
        match (bytes.get(self.at), bytes.get(self.at + 1)) {
            (None, _) | (Some(b'<'), None) => return Ok(None),
            (Some(b'<'), Some(b'?')) => return Err(Error::Restricted("processing instructions")),
            (Some(b'<'), Some(b'!')) => {
                return match bytes.get(self.at + 2) {
                    None => Ok(None),
                    Some(b'-') => Err(Error::Restricted("comments")),
                    Some(b'D') => Err(Error::Restricted("document type declarations")),
                    Some(_) => Err(Error::NotWellFormed("bad markup")),
                };
            }
            (Some(b'<'), Some(b'/')) => return Err(Error::NotWellFormed("a closing tag before any opening tag")),
            (Some(b'<'), Some(_)) => {}
            (Some(_), _) => return Err(Error::NotWellFormed("text before the stream's opening tag")),
        }
        let from = self.searched.max(self.at);
        let Some(found) = self.quotes.feed(bytes.get(from..).unwrap_or_default()) else {
            self.searched = bytes.len();
            return Ok(None);
        };
        let (start, end) = (self.at, from + found + 1);
        let mut names = Names::default();
        let tag = tag::open(bytes.get(start..end).unwrap_or_default(), limits, &Scope::none(), &mut names)?;
        let default = tag.default.as_ref().map_or("", |(namespace, _)| namespace);
        let prefixes = names.since(0).map(|binding| (&*binding.prefix, &*binding.namespace));
        let declared = prefixes.clone().map(|(prefix, namespace)| prefix.len() + namespace.len()).sum::<usize>();
        if default.len() + declared > tag::NAMESPACE_BYTES {
            return Err(Error::LongNamespace(tag::NAMESPACE_BYTES));
        }
        let scope = Scope::new(default, prefixes).interned();
        Ok(Some(Header { start, end, scope, root: tag.name.into(), is_empty: tag.is_empty }))
    }
}

/// XML 1.0 §2.8, production 23, and §4.3.3.
fn declaration(text: &str) -> Result<(), Error> {
    const BAD: Error = Error::NotWellFormed("a bad XML declaration");
    let mut rest = text;
    let mut value = |name: &str| -> Result<Option<&str>, Error> {
        let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(after) = trimmed.strip_prefix(name) else { return Ok(None) };
        if trimmed.len() == rest.len() {
            return Err(BAD);
        }
        let after = after.trim_start_matches([' ', '\t', '\r', '\n']).strip_prefix('=').ok_or(BAD)?;
        let after = after.trim_start_matches([' ', '\t', '\r', '\n']);
        let quote = after.chars().next().filter(|quote| matches!(quote, '"' | '\'')).ok_or(BAD)?;
        let (value, behind) = after.get(1..).and_then(|after| after.split_once(quote)).ok_or(BAD)?;
        rest = behind;
        Ok(Some(value))
    };
    if value("version")? != Some("1.0") {
        return Err(BAD);
    }
    let encoding = value("encoding")?;
    if value("standalone")?.is_some_and(|standalone| !matches!(standalone, "yes" | "no")) {
        return Err(BAD);
    }
    if !rest.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
        return Err(BAD);
    }
    match encoding {
        Some(name) if !name.eq_ignore_ascii_case("utf-8") => Err(Error::Encoding),
        _ => Ok(()),
    }
}
