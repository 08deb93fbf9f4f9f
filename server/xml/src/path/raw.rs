//! Events of an element's bytes.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::compile::Program;
use super::eval::{Facts, Interest, Value, Walk};
use super::set::Matches;
use crate::RawElement;
use crate::token::{Attribute, Cursor, Place, Tag, Token, resolve};

pub(super) fn evaluate(program: &Program, element: &RawElement<'_>) -> Matches {
    if !program.may_match(element.name()) {
        return Matches::empty(program.len());
    }
    let mut walk = Walk::new(program);
    if walk.enter(element.name(), &mut RootFacts { element, kind: None, attributes: None }) == Interest::Skip {
        return walk.finish();
    }
    let mut open = Open { root: element, tags: SmallVec::new(), declared: SmallVec::new(), marks: SmallVec::new() };
    let mut cursor = Cursor::behind(element.as_str(), element.opening_tag().len());
    loop {
        if !walk.is_interested() {
            walk.leave();
            if !open.pop() {
                break;
            }
            cursor.skip_element();
            continue;
        }
        if program.has_texts() && walk.wants_text() {
            let node = cursor.text_node();
            if node.chars().next().is_some() {
                walk.text(|wanted| node.chars().eq(wanted.chars()));
            }
        }
        match cursor.next() {
            Some(Token::Start(tag)) => {
                let (prefix, name) = tag.split_name();
                let mut facts = TagFacts { tag, prefix, attributes: None, namespace: None, open: &mut open };
                match walk.enter(name, &mut facts) {
                    Interest::Content if tag.empty => walk.leave(),
                    Interest::Content => open.push(tag),
                    Interest::Skip if tag.empty => {}
                    Interest::Skip => cursor.skip_element(),
                }
            }
            Some(Token::End) => {
                walk.leave();
                if !open.pop() {
                    break;
                }
            }
            Some(Token::Text(_) | Token::CData(_)) => {}
            // Only behind an empty root.
            None => {
                walk.leave();
                break;
            }
        }
    }
    walk.finish()
}

/// The open elements and what they declare, read when it is first asked for.
struct Open<'e, 'a> {
    root: &'e RawElement<'a>,
    /// The open elements inside of the root.
    tags: SmallVec<[Tag<'a>; 4]>,
    /// Prefix and namespace as it came, outermost first, of the first `marks.len()` of `tags`.
    declared: SmallVec<[(&'a str, &'a str); 4]>,
    /// For each of these, how many declarations there are outside of it.
    marks: SmallVec<[usize; 4]>,
}

impl<'a> Open<'_, 'a> {
    fn push(&mut self, tag: Tag<'a>) {
        self.tags.push(tag);
    }

    /// `false`: it was the root.
    fn pop(&mut self) -> bool {
        let is_inside = self.tags.pop().is_some();
        if self.marks.len() > self.tags.len()
            && let Some(mark) = self.marks.pop()
        {
            self.declared.truncate(mark);
        }
        is_inside
    }

    fn namespace(&mut self, prefix: &str) -> Cow<'a, str> {
        for tag in self.tags.iter().skip(self.marks.len()) {
            self.marks.push(self.declared.len());
            self.declared.extend(tag.attributes().filter_map(|found| Some((found.declares()?, found.value))));
        }
        if let Some((_, namespace)) = self.declared.iter().rev().find(|(declared, _)| *declared == prefix) {
            return resolve(namespace, Place::Attribute);
        }
        if self.root.prefix() == prefix {
            return Cow::Borrowed(self.root.namespace());
        }
        let own = self.root.tag().attributes().find(|attribute| attribute.declares() == Some(prefix));
        match own {
            Some(declaration) => resolve(declaration.value, Place::Attribute),
            None => Cow::Borrowed(self.root.scope().namespace(prefix).unwrap_or_default()),
        }
    }
}

/// The root's opening tag: the reader has noted what is asked for most.
struct RootFacts<'e, 'a> {
    element: &'e RawElement<'a>,
    /// The attribute that paths ask for most.
    kind: Option<Option<Cow<'a, str>>>,
    attributes: Option<SmallVec<[Attribute<'a>; 8]>>,
}

impl Facts for RootFacts<'_, '_> {
    fn attribute(&mut self, name: &str, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        if name == "type" {
            let kind = self.kind.get_or_insert_with(|| self.element.attribute("type"));
            return kind.as_deref().is_some_and(|value| test(Value::Plain(value)));
        }
        let attributes = self.attributes.get_or_insert_with(|| self.element.tag().attributes().collect());
        attributes.iter().find(|found| found.name == name).is_some_and(|found| test(Value::Raw(found.value)))
    }

    fn namespace(&mut self, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        test(Value::Plain(self.element.namespace()))
    }
}

/// An opening tag; its attributes are read once, when first asked for.
struct TagFacts<'e, 'a, 'o> {
    tag: Tag<'a>,
    prefix: &'a str,
    attributes: Option<SmallVec<[Attribute<'a>; 8]>>,
    namespace: Option<Cow<'a, str>>,
    open: &'o mut Open<'e, 'a>,
}

impl<'a> TagFacts<'_, 'a, '_> {
    fn read(&mut self) -> &[Attribute<'a>] {
        self.attributes.get_or_insert_with(|| self.tag.attributes().collect())
    }
}

impl Facts for TagFacts<'_, '_, '_> {
    fn attribute(&mut self, name: &str, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        let found = self.read().iter().find(|attribute| attribute.name == name);
        found.is_some_and(|attribute| test(Value::Raw(attribute.value)))
    }

    fn namespace(&mut self, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        if self.namespace.is_none() {
            let prefix = self.prefix;
            let own = self.tag.attributes().find(|attribute| attribute.declares() == Some(prefix));
            self.namespace = Some(match own {
                Some(declaration) => resolve(declaration.value, Place::Attribute),
                None => self.open.namespace(prefix),
            });
        }
        test(Value::Plain(self.namespace.as_deref().unwrap_or_default()))
    }
}
