//! The checking of one first-level element, token by token, as far as its bytes have come.

use memchr::{memchr, memmem};
use quick_xml::parser::{ElementParser, Parser};
use smallvec::SmallVec;

use super::{
    check,
    names::Names,
    tag::{self, OpeningTag, is_space},
};
use crate::{Error, Limits, Scope, element::Outline};

/// What the frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Element,
    /// The closing tag of the stream itself.
    Close,
}

/// An element whose closing tag has not come.
#[derive(Clone, Debug)]
struct Opened {
    /// Where its name stands in the frame.
    name: (u32, u32),
    /// Prefixes in force outside of it.
    names: u32,
}

/// How far one frame is checked. Each byte is looked at a bounded number of times, however it is cut into reads.
#[derive(Clone, Debug)]
pub(super) struct Checker {
    /// All before is checked: a token begins here.
    at: usize,
    /// How far the token that begins at `at` was searched for its end.
    searched: usize,
    /// Where a search for the end of an opening tag stands.
    quotes: ElementParser,
    opened: SmallVec<[Opened; 8]>,
    names: Names,
    outline: Outline,
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            at: 0,
            searched: 0,
            quotes: ElementParser::Outside,
            opened: SmallVec::new(),
            names: Names::default(),
            outline: Outline::default(),
        }
    }
}

const CDATA: &[u8] = b"<![CDATA[";

impl Checker {
    /// What was found out about the outermost element.
    pub(super) fn into_outline(self) -> Outline {
        self.outline
    }

    /// Checks on. `bytes` is the frame from its `<` on, as far as it has come (the same bytes as at the last call, and
    /// more). `root` is the name of the stream's own element. The frame's length, once its end has come.
    pub(super) fn run(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        scope: &Scope,
        root: &str,
    ) -> Result<Option<(usize, Kind)>, Error> {
        loop {
            let checked = self.step(bytes, limits, scope, root)?;
            match checked {
                Some(Some(kind)) if self.at <= limits.stanza_bytes => return Ok(Some((self.at, kind))),
                None if bytes.len() <= limits.stanza_bytes => return Ok(None),
                Some(None) if self.at <= limits.stanza_bytes => {}
                _ => return Err(Error::TooLarge(limits.stanza_bytes)),
            }
        }
    }

    /// One token. `None`: its end has not come. `Some(Some(_))`: it was the last.
    fn step(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        scope: &Scope,
        root: &str,
    ) -> Result<Option<Option<Kind>>, Error> {
        let Some(first) = bytes.get(self.at) else { return Ok(None) };
        if *first != b'<' {
            let Some(end) = self.find(bytes, 0, b'<') else { return Ok(None) };
            let text = check::utf8(bytes.get(self.at..end).unwrap_or_default())?;
            check::character_data(text)?;
            self.advance(end);
            return Ok(Some(None));
        }
        match bytes.get(self.at + 1) {
            None => Ok(None),
            Some(b'/') => {
                let Some(end) = self.find(bytes, 2, b'>') else { return Ok(None) };
                let name = bytes.get(self.at + 2..end).unwrap_or_default();
                let kind = self.close(bytes, name, root)?;
                self.advance(end + 1);
                Ok(Some(kind))
            }
            Some(b'?') => Err(Error::Restricted("processing instructions")),
            Some(b'!') => self.section(bytes),
            Some(_) => {
                let rest = bytes.get(self.searched.max(self.at)..).unwrap_or_default();
                let Some(found) = self.quotes.feed(rest) else {
                    self.searched = bytes.len();
                    return Ok(None);
                };
                let end = self.searched.max(self.at) + found + 1;
                let kind = self.open(bytes.get(self.at..end).unwrap_or_default(), limits, scope)?;
                self.quotes = ElementParser::Outside;
                self.advance(end);
                Ok(Some(kind))
            }
        }
    }

    fn advance(&mut self, to: usize) {
        self.at = to;
        self.searched = to;
    }

    /// The next `wanted` at or behind `skip` bytes of the token.
    fn find(&mut self, bytes: &[u8], skip: usize, wanted: u8) -> Option<usize> {
        let from = self.searched.max(self.at + skip);
        let found = bytes.get(from..).and_then(|rest| memchr(wanted, rest));
        self.searched = bytes.len().max(from);
        found.map(|found| from + found)
    }

    /// `<!…`: a CDATA section, or what XMPP forbids.
    fn section(&mut self, bytes: &[u8]) -> Result<Option<Option<Kind>>, Error> {
        let token = bytes.get(self.at..).unwrap_or_default();
        if !token.starts_with(CDATA) {
            return match token.get(2) {
                None => Ok(None),
                Some(b'[') if CDATA.starts_with(token) => Ok(None),
                Some(b'-') => Err(Error::Restricted("comments")),
                Some(b'D') => Err(Error::Restricted("document type declarations")),
                Some(_) => Err(Error::NotWellFormed("bad markup")),
            };
        }
        if self.opened.is_empty() {
            return Err(Error::TextBetweenStanzas);
        }
        let content = self.at + CDATA.len();
        // The end may have been cut in two by the last search.
        let from = content.max(self.searched.saturating_sub(2));
        let Some(found) = bytes.get(from..).and_then(|rest| memmem::find(rest, b"]]>")) else {
            self.searched = bytes.len();
            return Ok(None);
        };
        check::utf8(bytes.get(content..from + found).unwrap_or_default())?;
        self.advance(from + found + 3);
        Ok(Some(None))
    }

    fn open(&mut self, bytes: &[u8], limits: &Limits, scope: &Scope) -> Result<Option<Kind>, Error> {
        let outside = self.names.len();
        let tag = tag::open(bytes, limits, scope, &mut self.names)?;
        if self.opened.len() >= limits.depth {
            return Err(Error::TooDeep(limits.depth));
        }
        if self.opened.is_empty() {
            self.outline = outline(&tag, bytes.len(), &self.names, scope);
        }
        if tag.is_empty {
            self.names.truncate(outside);
            return Ok(self.opened.is_empty().then_some(Kind::Element));
        }
        self.opened.push(Opened { name: (narrow(self.at + 1), narrow(tag.name.len())), names: narrow(outside) });
        Ok(None)
    }

    fn close(&mut self, bytes: &[u8], name: &[u8], root: &str) -> Result<Option<Kind>, Error> {
        let space = name.iter().rev().take_while(|byte| is_space(**byte)).count();
        let name = name.get(..name.len() - space).unwrap_or_default();
        let Some(opened) = self.opened.pop() else {
            return if name == root.as_bytes() { Ok(Some(Kind::Close)) } else { Err(MISMATCH) };
        };
        let (start, length) = (opened.name.0 as usize, opened.name.1 as usize);
        if bytes.get(start..start + length) != Some(name) {
            return Err(MISMATCH);
        }
        self.names.truncate(opened.names as usize);
        Ok(self.opened.is_empty().then_some(Kind::Element))
    }
}

const MISMATCH: Error = Error::NotWellFormed("a closing tag of another element");

/// Frames are smaller than 4 GiB: `Limits::stanza_bytes` is held to that.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

fn outline(tag: &OpeningTag<'_>, length: usize, names: &Names, scope: &Scope) -> Outline {
    let prefix = if tag.prefix.is_empty() { 0 } else { tag.prefix.len() + 1 };
    let mut outline = Outline {
        tag_end: narrow(length),
        is_empty: tag.is_empty,
        prefix: narrow(prefix),
        name_end: narrow(1 + tag.name.len()),
        ..Outline::default()
    };
    for attribute in &tag.attributes {
        outline.note(attribute.prefix, attribute.local, narrow(attribute.at), narrow(attribute.value.len()));
    }
    // What the stream's header declares is looked up there.
    outline.namespace = match &tag.default {
        Some((namespace, _)) if tag.prefix.is_empty() && **namespace == *scope.default_namespace() => None,
        Some((namespace, _)) if tag.prefix.is_empty() => Some((**namespace).into()),
        _ => names.since(0).find(|binding| &*binding.prefix == tag.prefix).map(|binding| binding.namespace.clone()),
    };
    outline
}
