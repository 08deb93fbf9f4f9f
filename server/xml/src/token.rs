//! Tokens of an element that the reader has already checked, without allocation.
//!
//! The cursor trusts what the reader promised: the bytes are one whole well-formed element without comments, processing
//! instructions or DTDs. It therefore checks nothing twice. Given anything else it still neither panics nor loops for
//! ever: every step moves forward, and what cannot be understood ends the tokens.

use std::borrow::Cow;
use std::str::Chars;

use memchr::{memchr, memchr2, memchr3, memmem};

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An opening tag, or a whole empty element (`<a/>`): then no [`Token::End`] follows.
    Start(Tag<'a>),
    /// A closing tag.
    End,
    /// Character data as it came, entities unresolved. Never empty.
    Text(&'a str),
    /// What stands inside a CDATA section. May be empty.
    CData(&'a str),
}

/// An opening tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag<'a> {
    /// The name as written, with its prefix.
    pub(crate) name: &'a str,
    /// What stands between name and `>` or `/>`.
    attributes: &'a str,
    /// The element is empty by its tag: `<a/>`.
    pub(crate) empty: bool,
}

impl<'a> Tag<'a> {
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes { rest: self.attributes }
    }

    /// Prefix (empty if there is none) and local name.
    pub(crate) fn split_name(&self) -> (&'a str, &'a str) {
        split_name(self.name)
    }
}

/// An attribute or namespace declaration, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    /// The name as written, with its prefix.
    pub(crate) name: &'a str,
    /// The value between its quotes, entities unresolved.
    pub(crate) value: &'a str,
}

impl<'a> Attribute<'a> {
    /// The prefix that this attribute declares (empty for the default namespace), if it is a declaration.
    pub(crate) fn declares(&self) -> Option<&'a str> {
        let rest = self.name.strip_prefix("xmlns")?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix(':') }
    }
}

/// Prefix (empty if there is none) and local name of a qualified name.
pub(crate) fn split_name(name: &str) -> (&str, &str) {
    match memchr(b':', name.as_bytes()) {
        Some(colon) => (part(name, 0, colon), part(name, colon + 1, name.len())),
        None => ("", name),
    }
}

/// Walks over an element's tokens.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// From `at` on: behind a token, in bytes from the element's start.
    pub(crate) fn behind(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    /// Where the next token begins, in bytes from the element's start.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// After an opening tag that is not empty, or anywhere inside its element: moves behind the element's closing tag.
    pub(crate) fn skip_element(&mut self) {
        let bytes = self.text.as_bytes();
        let mut depth = 1usize;
        while let Some(open) = find(bytes, self.at, b'<') {
            match bytes.get(open + 1) {
                Some(b'/') => {
                    self.at = find(bytes, open, b'>').map_or(bytes.len(), |end| end + 1);
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                Some(b'!') => self.at = after_cdata(bytes, open),
                _ => {
                    let end = tag_end(bytes, open + 1);
                    self.at = (end + 1).min(bytes.len());
                    if bytes.get(end.wrapping_sub(1)) != Some(&b'/') {
                        depth += 1;
                    }
                }
            }
        }
        self.at = bytes.len();
    }

    /// Character data from here to the next tag, as one text node of the XPath data model (CDATA sections included).
    pub(crate) fn text_node(&mut self) -> TextNode<'a> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        while let Some(open) = find(bytes, self.at, b'<') {
            self.at = open;
            if bytes.get(open + 1) != Some(&b'!') {
                return TextNode { raw: part(self.text, start, open) };
            }
            self.at = after_cdata(bytes, open);
        }
        self.at = bytes.len();
        TextNode { raw: part(self.text, start, self.at) }
    }

    fn start(&mut self, open: usize) -> Token<'a> {
        let bytes = self.text.as_bytes();
        let name_start = open + 1;
        let rest = bytes.get(name_start..).unwrap_or_default();
        let name_end = name_start
            + rest
                .iter()
                .position(|byte| matches!(byte, b'>' | b'/' | b' ' | b'\t' | b'\r' | b'\n'))
                .unwrap_or(rest.len());
        let end = if bytes.get(name_end) == Some(&b'>') { name_end } else { tag_end(bytes, name_end) };
        self.at = (end + 1).min(bytes.len());
        let empty = end > name_end && bytes.get(end - 1) == Some(&b'/');
        let attributes_end = if empty { end - 1 } else { end };
        Token::Start(Tag {
            name: part(self.text, name_start, name_end),
            attributes: part(self.text, name_end, attributes_end),
            empty,
        })
    }
}

impl<'a> Iterator for Cursor<'a> {
    type Item = Token<'a>;

    #[inline]
    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at)? != &b'<' {
            let end = find(bytes, self.at, b'<').unwrap_or(bytes.len());
            let text = part(self.text, self.at, end);
            self.at = end;
            return Some(Token::Text(text));
        }
        let open = self.at;
        Some(match bytes.get(open + 1) {
            Some(b'/') => {
                self.at = find(bytes, open, b'>').map_or(bytes.len(), |end| end + 1);
                Token::End
            }
            Some(b'!') => {
                self.at = after_cdata(bytes, open);
                Token::CData(part(self.text, open + CDATA.len(), self.at.saturating_sub(CDATA_END.len())))
            }
            _ => self.start(open),
        })
    }
}

const CDATA: &str = "<![CDATA[";
const CDATA_END: &str = "]]>";

/// Attributes of a tag in the order in which they stand, declarations included.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        let bytes = self.rest.as_bytes();
        let start = bytes.iter().position(|byte| !is_space(*byte))?;
        let equals = start + bytes.get(start..)?.iter().position(|byte| *byte == b'=')?;
        let mut name_end = equals;
        while name_end > start && bytes.get(name_end - 1).copied().is_some_and(is_space) {
            name_end -= 1;
        }
        let open = equals + 1 + bytes.get(equals + 1..)?.iter().position(|byte| matches!(byte, b'"' | b'\''))?;
        let quote = *bytes.get(open)?;
        let close = find(bytes, open + 1, quote)?;
        let attribute = Attribute { name: part(self.rest, start, name_end), value: part(self.rest, open + 1, close) };
        self.rest = part(self.rest, close + 1, bytes.len());
        Some(attribute)
    }
}

/// A text node as it came: character data and CDATA sections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextNode<'a> {
    raw: &'a str,
}

impl<'a> TextNode<'a> {
    /// What it says, entities resolved and line ends normalised (XML 1.0 §2.11).
    pub(crate) fn chars(self) -> impl Iterator<Item = char> + 'a {
        Cursor::new(self.raw).flat_map(|token| match token {
            Token::Text(text) => Resolved::new(text, Place::Text),
            Token::CData(text) => Resolved::new(text, Place::CData),
            Token::Start(_) | Token::End => Resolved::new("", Place::Text),
        })
    }
}

/// Where raw text stands: what has to be resolved in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Between tags: references resolved, line ends normalised (XML 1.0 §2.11).
    Text,
    /// In an attribute's value: references resolved, white space normalised (XML 1.0 §3.3.3).
    Attribute,
    /// In a CDATA section: line ends normalised only.
    CData,
}

/// What raw text says, character by character.
#[derive(Clone, Debug)]
pub(crate) struct Resolved<'a> {
    rest: Chars<'a>,
    place: Place,
}

impl<'a> Resolved<'a> {
    pub(crate) fn new(raw: &'a str, place: Place) -> Self {
        Self { rest: raw.chars(), place }
    }

    fn reference(&mut self) -> Option<char> {
        let text = self.rest.as_str();
        let end = memchr(b';', text.as_bytes())?;
        let name = part(text, 0, end);
        let resolved = match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let digits = name.strip_prefix('#')?;
                let code = match digits.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => digits.parse(),
                };
                char::from_u32(code.ok()?)?
            }
        };
        self.rest = part(text, end + 1, text.len()).chars();
        Some(resolved)
    }
}

impl Iterator for Resolved<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        match next {
            '&' if self.place != Place::CData => Some(self.reference().unwrap_or('&')),
            '\r' => {
                let text = self.rest.as_str();
                self.rest = text.strip_prefix('\n').unwrap_or(text).chars();
                Some(if self.place == Place::Attribute { ' ' } else { '\n' })
            }
            '\t' | '\n' if self.place == Place::Attribute => Some(' '),
            other => Some(other),
        }
    }
}

/// What `raw` says; borrowed if nothing has to be resolved.
pub(crate) fn resolve(raw: &str, place: Place) -> Cow<'_, str> {
    if is_plain(raw, place) { Cow::Borrowed(raw) } else { Cow::Owned(Resolved::new(raw, place).collect()) }
}

/// Whether `raw` says `wanted`, without allocation.
pub(crate) fn says(raw: &str, place: Place, wanted: &str) -> bool {
    // What has to be resolved never gets longer by it.
    raw == wanted && is_plain(raw, place)
        || raw.len() >= wanted.len() && !is_plain(raw, place) && Resolved::new(raw, place).eq(wanted.chars())
}

fn is_plain(raw: &str, place: Place) -> bool {
    let bytes = raw.as_bytes();
    match place {
        Place::Text => memchr2(b'&', b'\r', bytes).is_none(),
        Place::Attribute => !bytes.iter().any(|byte| matches!(byte, b'&' | b'\t' | b'\n' | b'\r')),
        Place::CData => memchr(b'\r', bytes).is_none(),
    }
}

/// The `>` that ends an opening tag, or the end of all bytes. `>` may stand in an attribute's value.
fn tag_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr3(b'>', b'"', b'\'', bytes.get(at..).unwrap_or_default()).map(|offset| at + offset) {
        match bytes.get(found) {
            Some(b'>') | None => return found,
            Some(quote) => match find(bytes, found + 1, *quote) {
                Some(close) => at = close + 1,
                None => return bytes.len(),
            },
        }
    }
    bytes.len()
}

fn after_cdata(bytes: &[u8], open: usize) -> usize {
    let rest = bytes.get(open..).unwrap_or_default();
    memmem::find(rest, CDATA_END.as_bytes()).map_or(bytes.len(), |end| open + end + CDATA_END.len())
}

#[inline]
fn find(bytes: &[u8], from: usize, wanted: u8) -> Option<usize> {
    memchr(wanted, bytes.get(from..)?).map(|offset| from + offset)
}

#[inline]
fn part(text: &str, start: usize, end: usize) -> &str {
    text.get(start..end).unwrap_or_default()
}

#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests;
