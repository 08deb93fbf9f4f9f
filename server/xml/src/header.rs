//! A stream's opening tag.

use std::borrow::Cow;

use crate::{
    Scope,
    element::{first_tag, unprefixed},
    token::{Place, Tag, resolve},
};

/// The opening tag of a stream (RFC 6120 §4.7).
#[derive(Clone, Copy, Debug)]
pub struct StreamHeader<'a> {
    pub(crate) text: &'a str,
    pub(crate) scope: &'a Scope,
}

impl<'a> StreamHeader<'a> {
    /// The tag as it came.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    fn tag(&self) -> Tag<'a> {
        first_tag(self.text)
    }

    /// The local name; `stream` in a good one.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.tag().split_name().1
    }

    /// The namespace of the tag itself; `http://etherx.jabber.org/streams` in a good one.
    #[must_use]
    pub fn namespace(&self) -> &'a str {
        self.scope.namespace(self.tag().split_name().0).unwrap_or_default()
    }

    /// The namespaces that it declares, in force for all that the stream holds.
    #[must_use]
    pub const fn scope(&self) -> &'a Scope {
        self.scope
    }

    /// The value of an attribute without prefix.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        unprefixed(&self.tag(), name)
    }

    /// `xml:lang`.
    #[must_use]
    pub fn lang(&self) -> Option<Cow<'a, str>> {
        let found = self.tag().attributes().find(|attribute| attribute.name == "xml:lang");
        found.map(|attribute| resolve(attribute.value, Place::Attribute))
    }
}
