//! Elements as the bytes that came, with accessors that find things in them.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::{
    Scope,
    token::{Cursor, Place, Tag, Token, resolve, split_name},
};

/// What the reader notes of a first-level element while it checks it: offsets into its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// Behind the `>` of the opening tag.
    pub(crate) tag_end: u32,
    /// The whole element is `<a/>`.
    pub(crate) is_empty: bool,
    /// Length of the prefix and its colon.
    pub(crate) prefix: u32,
    /// Behind the name.
    pub(crate) name_end: u32,
    /// The namespace, if the element declares it itself and it is not the stream's default.
    pub(crate) namespace: Option<Box<str>>,
    /// Where the values of the attributes of every stanza stand (RFC 6120 §8.1): offset and length.
    pub(crate) header: [Option<(u32, u32)>; HEADER],
}

/// The attributes that are asked for most.
const HEADER: usize = 5;
const LANG: usize = 4;

/// Where an attribute's place is noted. With a literal name there is nothing left of it to run.
#[inline]
fn slot(prefix: &str, local: &str) -> Option<usize> {
    match (prefix, local) {
        ("", "to") => Some(0),
        ("", "from") => Some(1),
        ("", "id") => Some(2),
        ("", "type") => Some(3),
        ("xml", "lang") => Some(LANG),
        _ => None,
    }
}

impl Outline {
    pub(crate) fn note(&mut self, prefix: &str, local: &str, at: u32, length: u32) {
        if let Some(slot) = slot(prefix, local).and_then(|index| self.header.get_mut(index)) {
            *slot = Some((at, length));
        }
    }
}

/// One whole, checked first-level element.
#[derive(Clone, Copy, Debug)]
pub struct RawElement<'a> {
    pub(crate) text: &'a str,
    pub(crate) outline: &'a Outline,
    pub(crate) scope: &'a Scope,
}

impl<'a> RawElement<'a> {
    /// The element as it came. What it inherits from the stream's header is in [`RawElement::scope`].
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The namespaces in force around it.
    #[must_use]
    pub const fn scope(&self) -> &'a Scope {
        self.scope
    }

    /// The local name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.part(1 + self.outline.prefix as usize, self.outline.name_end as usize)
    }

    /// The prefix of the name; empty if it has none.
    #[must_use]
    pub fn prefix(&self) -> &'a str {
        self.part(1, (self.outline.prefix as usize).max(1))
    }

    /// The namespace; empty if it is in none.
    #[must_use]
    pub fn namespace(&self) -> &'a str {
        match &self.outline.namespace {
            Some(namespace) => namespace,
            None => self.scope.namespace(self.prefix()).unwrap_or_default(),
        }
    }

    /// Whether it has this name in this namespace.
    #[must_use]
    pub fn is(&self, name: &str, namespace: &str) -> bool {
        self.name() == name && self.namespace() == namespace
    }

    /// The value of an attribute without prefix: references resolved, white space normalised (XML 1.0 §3.3.3).
    #[must_use]
    #[inline]
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        match slot("", name) {
            Some(index) => self.header(index),
            None => unprefixed(&self.tag(), name),
        }
    }

    /// The value of an attribute in a namespace.
    #[must_use]
    pub fn attribute_ns(&self, namespace: &str, name: &str) -> Option<Cow<'a, str>> {
        Context::of(self).attribute(&self.tag(), namespace, name)
    }

    /// `xml:lang`.
    #[must_use]
    pub fn lang(&self) -> Option<Cow<'a, str>> {
        self.header(LANG)
    }

    /// What stands between opening and closing tag, as it came.
    #[must_use]
    pub fn inner(&self) -> &'a str {
        if self.outline.is_empty {
            return "";
        }
        let end = memchr::memrchr(b'<', self.text.as_bytes()).unwrap_or_default();
        self.part(self.outline.tag_end as usize, end)
    }

    /// The opening tag as it came.
    #[must_use]
    pub fn opening_tag(&self) -> &'a str {
        self.part(0, self.outline.tag_end as usize)
    }

    /// The child elements, in order.
    pub fn children(&self) -> impl Iterator<Item = Child<'a>> + use<'a> {
        Children {
            cursor: Cursor::new(self.inner()),
            text: self.inner(),
            context: Context::of(self).inside(self.tag()),
        }
    }

    /// How many child elements there are, counted up to `most`.
    #[must_use]
    pub fn count_children(&self, most: usize) -> usize {
        let mut cursor = Cursor::new(self.inner());
        let mut count = 0;
        while count < most
            && let Some(token) = cursor.next()
        {
            if let Token::Start(tag) = token {
                count += 1;
                if !tag.empty {
                    cursor.skip_element();
                }
            }
        }
        count
    }

    /// The first child of this name and namespace.
    #[must_use]
    pub fn child(&self, name: &str, namespace: &str) -> Option<Child<'a>> {
        self.children().find(|child| child.is(name, namespace))
    }

    /// The character data directly inside, child elements left out.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        text_of(self.inner())
    }

    /// A copy that owns its bytes.
    #[must_use]
    pub fn to_owned(&self) -> OwnedElement {
        OwnedElement { text: self.text.into(), outline: self.outline.clone(), scope: self.scope.clone() }
    }

    pub(crate) fn tag(&self) -> Tag<'a> {
        first_tag(self.text)
    }

    fn header(&self, index: usize) -> Option<Cow<'a, str>> {
        let (at, length) = (*self.outline.header.get(index)?)?;
        let (at, length) = (at as usize, length as usize);
        Some(resolve(self.part(at, at + length), Place::Attribute))
    }

    fn part(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }
}

/// An element that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedElement {
    pub(crate) text: Box<str>,
    pub(crate) outline: Outline,
    pub(crate) scope: Scope,
}

impl OwnedElement {
    /// To look into it.
    #[must_use]
    pub const fn as_raw(&self) -> RawElement<'_> {
        RawElement { text: &self.text, outline: &self.outline, scope: &self.scope }
    }
}

/// An element inside of a first-level element.
#[derive(Clone, Debug)]
pub struct Child<'a> {
    text: &'a str,
    tag: Tag<'a>,
    namespace: Cow<'a, str>,
    context: Context<'a>,
}

impl<'a> Child<'a> {
    /// The element as it came. What it inherits is declared somewhere around it.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The local name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.tag.split_name().1
    }

    /// The namespace; empty if it is in none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether it has this name in this namespace.
    #[must_use]
    pub fn is(&self, name: &str, namespace: &str) -> bool {
        self.name() == name && self.namespace == namespace
    }

    /// The value of an attribute without prefix.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        unprefixed(&self.tag, name)
    }

    /// The value of an attribute in a namespace.
    #[must_use]
    pub fn attribute_ns(&self, namespace: &str, name: &str) -> Option<Cow<'a, str>> {
        self.context.attribute(&self.tag, namespace, name)
    }

    /// The character data directly inside, child elements left out.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        text_of(self.inner())
    }

    /// The child elements, in order.
    pub fn children(&self) -> impl Iterator<Item = Child<'a>> + use<'a> {
        let inner = self.inner();
        Children { cursor: Cursor::new(inner), text: inner, context: self.context.clone().inside(self.tag) }
    }

    /// The first child of this name and namespace.
    #[must_use]
    pub fn child(&self, name: &str, namespace: &str) -> Option<Self> {
        self.children().find(|child| child.is(name, namespace))
    }

    fn inner(&self) -> &'a str {
        if self.tag.empty {
            return "";
        }
        let mut cursor = Cursor::new(self.text);
        cursor.next();
        let end = memchr::memrchr(b'<', self.text.as_bytes()).unwrap_or_default();
        self.text.get(cursor.position()..end).unwrap_or_default()
    }
}

/// The declarations around an element: those of the elements it stands in, and of the stream.
#[derive(Clone, Debug)]
pub(crate) struct Context<'a> {
    scope: &'a Scope,
    /// Prefix and namespace as it came, innermost last.
    declared: SmallVec<[(&'a str, &'a str); 2]>,
}

impl<'a> Context<'a> {
    pub(crate) fn of(element: &RawElement<'a>) -> Self {
        Self { scope: element.scope, declared: SmallVec::new() }
    }

    /// As it is inside of `tag`.
    pub(crate) fn inside(mut self, tag: Tag<'a>) -> Self {
        self.declared.extend(declarations(&tag));
        self
    }

    /// What `prefix` stands for in `tag`.
    pub(crate) fn resolve(&self, tag: &Tag<'a>, prefix: &str) -> Option<Cow<'a, str>> {
        let own = declarations(tag).find(|(declared, _)| *declared == prefix);
        let found = own.or_else(|| self.declared.iter().rev().find(|(declared, _)| *declared == prefix).copied());
        match found {
            Some((_, namespace)) => Some(resolve(namespace, Place::Attribute)),
            None => self.scope.namespace(prefix).map(Cow::Borrowed),
        }
    }

    fn attribute(&self, tag: &Tag<'a>, namespace: &str, name: &str) -> Option<Cow<'a, str>> {
        if namespace.is_empty() {
            return unprefixed(tag, name);
        }
        let found = tag.attributes().find(|attribute| {
            let (prefix, local) = split_name(attribute.name);
            local == name
                && !prefix.is_empty()
                && prefix != "xmlns"
                && self.resolve(tag, prefix).is_some_and(|declared| declared == namespace)
        });
        found.map(|attribute| resolve(attribute.value, Place::Attribute))
    }
}

fn declarations<'a>(tag: &Tag<'a>) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    tag.attributes().filter_map(|attribute| Some((attribute.declares()?, attribute.value)))
}

struct Children<'a> {
    text: &'a str,
    cursor: Cursor<'a>,
    context: Context<'a>,
}

impl<'a> Iterator for Children<'a> {
    type Item = Child<'a>;

    fn next(&mut self) -> Option<Child<'a>> {
        loop {
            let start = self.cursor.position();
            let Token::Start(tag) = self.cursor.next()? else { continue };
            if !tag.empty {
                self.cursor.skip_element();
            }
            let text = self.text.get(start..self.cursor.position()).unwrap_or_default();
            let namespace = self.context.resolve(&tag, tag.split_name().0).unwrap_or_default();
            return Some(Child { text, tag, namespace, context: self.context.clone() });
        }
    }
}

pub(crate) fn first_tag(text: &str) -> Tag<'_> {
    match Cursor::new(text).next() {
        Some(Token::Start(tag)) => tag,
        _ => Tag::default(),
    }
}

pub(crate) fn unprefixed<'a>(tag: &Tag<'a>, name: &str) -> Option<Cow<'a, str>> {
    let found = tag.attributes().find(|attribute| attribute.name == name && attribute.declares().is_none());
    found.map(|attribute| resolve(attribute.value, Place::Attribute))
}

fn text_of(inner: &str) -> Cow<'_, str> {
    let mut cursor = Cursor::new(inner);
    let mut text = Cow::Borrowed("");
    while let Some(token) = cursor.next() {
        let piece = match token {
            Token::Text(raw) => resolve(raw, Place::Text),
            Token::CData(raw) => resolve(raw, Place::CData),
            Token::Start(tag) => {
                if !tag.empty {
                    cursor.skip_element();
                }
                continue;
            }
            Token::End => break,
        };
        if text.is_empty() {
            text = piece;
        } else {
            text.to_mut().push_str(&piece);
        }
    }
    text
}
