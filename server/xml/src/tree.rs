//! Raw element → tree, for what the server itself answers.

use minidom::rxml::{Namespace, NcName};
use minidom::{Element, Node};
use smallvec::SmallVec;

use crate::token::{Attribute, Cursor, Place, Tag, Token, resolve, split_name};
use crate::{Error, RawElement};

impl RawElement<'_> {
    /// The element as a tree. Text next to CDATA becomes one text node; prefixes are resolved and forgotten.
    ///
    /// # Errors
    /// [`Error::NotWellFormed`]: a name that the tree's crate does not take. The reader lets none through.
    pub fn to_tree(&self) -> Result<Element, Error> {
        let scope = self.scope();
        build(self.as_str(), |prefix| scope.namespace(prefix)).ok_or(Error::NotWellFormed("a name that no tree holds"))
    }
}

/// `inherited` says what a prefix means outside the element (the empty one: the default namespace).
pub(crate) fn build<'a>(text: &'a str, inherited: impl Fn(&str) -> Option<&'a str>) -> Option<Element> {
    let mut builder = Builder { inherited, declared: Vec::new(), open: Vec::new() };
    for token in Cursor::new(text) {
        let closed = match token {
            Token::Start(tag) => builder.start(tag)?,
            Token::End => builder.end(),
            Token::Text(text) => builder.text(text, Place::Text),
            Token::CData(text) => builder.text(text, Place::CData),
        };
        if closed.is_some() {
            return closed;
        }
    }
    None
}

struct Builder<'a, F> {
    inherited: F,
    /// Prefix and namespace as it came, outermost first.
    declared: Vec<(&'a str, &'a str)>,
    /// Open elements, and how many declarations there were outside of each.
    open: Vec<(Element, usize)>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Builder<'a, F> {
    /// `None`: cannot be built. `Some(Some(…))`: the root is complete.
    fn start(&mut self, tag: Tag<'a>) -> Option<Option<Element>> {
        let outside = self.declared.len();
        let attributes: SmallVec<[Attribute<'a>; 8]> = tag.attributes().collect();
        self.declared.extend(attributes.iter().filter_map(|attribute| Some((attribute.declares()?, attribute.value))));
        let (prefix, name) = tag.split_name();
        let mut element = Element::bare(name, self.namespace(prefix));
        for attribute in attributes.iter().filter(|attribute| attribute.declares().is_none()) {
            let (prefix, name) = split_name(attribute.name);
            let namespace = match prefix {
                "" => Namespace::NONE,
                "xml" => Namespace::XML,
                prefix => Namespace::from(self.namespace(prefix)),
            };
            let value = resolve(attribute.value, Place::Attribute).into_owned();
            element.attrs_mut().insert(namespace, NcName::try_from(name).ok()?, value);
        }
        self.open.push((element, outside));
        Some(if tag.empty { self.end() } else { None })
    }

    fn end(&mut self) -> Option<Element> {
        let (element, outside) = self.open.pop()?;
        self.declared.truncate(outside);
        match self.open.last_mut() {
            Some((parent, _)) => {
                parent.append_node(Node::Element(element));
                None
            }
            None => Some(element),
        }
    }

    fn text(&mut self, raw: &str, place: Place) -> Option<Element> {
        if let Some((element, _)) = self.open.last_mut()
            && !raw.is_empty()
        {
            element.append_text(resolve(raw, place));
        }
        None
    }

    fn namespace(&self, prefix: &str) -> String {
        match self.declared.iter().rev().find(|(declared, _)| *declared == prefix) {
            Some((_, namespace)) => resolve(namespace, Place::Attribute).into_owned(),
            None if prefix == "xml" => Namespace::XML.as_str().to_owned(),
            None => (self.inherited)(prefix).unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
