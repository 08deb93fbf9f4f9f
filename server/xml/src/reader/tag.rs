//! An opening tag, checked strictly: XML 1.0 §3.1, Namespaces in XML 1.0 §3 to §6.

use std::borrow::Cow;

use memchr::memchr;
use smallvec::SmallVec;

use super::{
    check,
    names::{Binding, Names},
};
use crate::{
    Error, Limits, Scope,
    name::split_checked,
    scope::{XML, XMLNS},
    token::{Place, resolve},
};

/// An attribute that is no declaration.
pub(super) struct Attribute<'a> {
    pub(super) prefix: &'a str,
    pub(super) local: &'a str,
    /// As it came, between its quotes, which stand at `at - 1` of the tag.
    pub(super) value: &'a str,
    pub(super) at: usize,
}

pub(super) struct OpeningTag<'a> {
    pub(super) name: &'a str,
    pub(super) prefix: &'a str,
    pub(super) attributes: SmallVec<[Attribute<'a>; 8]>,
    /// The default namespace that it declares, and where the value stands in the tag.
    pub(super) default: Option<(Cow<'a, str>, usize)>,
    pub(super) is_empty: bool,
}

/// The most bytes of a namespace's name as it stands, and of all that a stream's header declares. Namespaces are inherited:
/// what uses one multiplies its name, in trees and in what is written to other streams.
pub(super) const NAMESPACE_BYTES: usize = 1024;

/// Checks `tag`, from `<` to `>`, and adds the prefixes that it declares to `names`.
pub(super) fn open<'a>(
    tag: &'a [u8],
    limits: &Limits,
    scope: &Scope,
    names: &mut Names,
) -> Result<OpeningTag<'a>, Error> {
    let text = check::utf8(tag)?;
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    let (inner, is_empty) = inner.strip_suffix('/').map_or((inner, false), |inner| (inner, true));
    let name_end = inner.bytes().position(is_space).unwrap_or(inner.len());
    let name = inner.get(..name_end).unwrap_or_default();
    let (prefix, _) = split_checked(name).ok_or(Error::NotWellFormed("a bad element name"))?;
    let mut attributes = SmallVec::new();
    let mut default = None;
    let before = names.len();
    let mut values = Values { text: inner, at: name_end };
    let mut count = 0;
    while let Some((name, value, at)) = values.next()? {
        count += 1;
        if count > limits.attributes {
            return Err(Error::TooManyAttributes(limits.attributes));
        }
        check::references(value)?;
        let (prefix, local) = split_checked(name).ok_or(Error::NotWellFormed("a bad attribute name"))?;
        // `inner` begins one byte behind the tag.
        let at = at + 1;
        if (prefix == "xmlns" || name == "xmlns") && value.len() > NAMESPACE_BYTES {
            return Err(Error::LongNamespace(NAMESPACE_BYTES));
        }
        match (prefix, local) {
            ("", "xmlns") => {
                let namespace = resolve(value, Place::Attribute);
                check_declaration("", &namespace)?;
                if default.replace((namespace, at)).is_some() {
                    return Err(TWICE);
                }
            }
            ("xmlns", declared) => {
                let namespace = resolve(value, Place::Attribute);
                check_declaration(declared, &namespace)?;
                if names.since(before).any(|binding| &*binding.prefix == declared) {
                    return Err(TWICE);
                }
                if names.len() >= limits.attributes {
                    return Err(Error::TooManyAttributes(limits.attributes));
                }
                names.push(Binding { prefix: declared.into(), namespace: namespace.into() });
            }
            _ => attributes.push(Attribute { prefix, local, value, at }),
        }
    }
    let tag = OpeningTag { name, prefix, attributes, default, is_empty };
    check_prefixes(&tag, scope, names)?;
    Ok(tag)
}

const TWICE: Error = Error::NotWellFormed("the same attribute twice");

/// Namespaces in XML 1.0 §3, the constraints on reserved prefixes, and §5: prefixes cannot be undeclared.
fn check_declaration(prefix: &str, namespace: &str) -> Result<(), Error> {
    match (prefix, namespace) {
        ("xml", XML) | ("", "") => Ok(()),
        ("xml", _) | (_, XML) => Err(Error::Namespace("the prefix 'xml' and its namespace belong together")),
        ("xmlns", _) | (_, XMLNS) => Err(Error::Namespace("the prefix 'xmlns' cannot be declared")),
        (_, "") => Err(Error::Namespace("a prefix cannot be undeclared")),
        _ => Ok(()),
    }
}

/// Every prefix is declared; no two attributes have the same expanded name (§6.3).
fn check_prefixes(tag: &OpeningTag<'_>, scope: &Scope, names: &Names) -> Result<(), Error> {
    if tag.prefix == "xmlns" || names.resolve(tag.prefix, scope).is_none() {
        return Err(Error::UndeclaredPrefix);
    }
    // Of each attribute the namespace; `None` for those without a prefix, which are in no namespace.
    let mut expanded: SmallVec<[(Option<&str>, &str); 8]> = SmallVec::new();
    for attribute in &tag.attributes {
        let namespace = match attribute.prefix {
            "" => None,
            prefix => Some(names.resolve(prefix, scope).ok_or(Error::UndeclaredPrefix)?),
        };
        if expanded.iter().any(|(other, local)| *local == attribute.local && *other == namespace) {
            return Err(TWICE);
        }
        expanded.push((namespace, attribute.local));
    }
    Ok(())
}

/// The attributes of a tag, as name, value and where the value begins.
struct Values<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Values<'a> {
    fn next(&mut self) -> Result<Option<(&'a str, &'a str, usize)>, Error> {
        let bytes = self.text.as_bytes();
        let begin = self.skip_space();
        if begin == bytes.len() {
            return Ok(None);
        }
        if begin == self.at {
            return Err(Error::NotWellFormed("no white space before an attribute"));
        }
        let rest = bytes.get(begin..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'=' || is_space(*byte)).unwrap_or(rest.len());
        let name = self.text.get(begin..begin + length).unwrap_or_default();
        self.at = begin + length;
        self.at = self.skip_space();
        if bytes.get(self.at) != Some(&b'=') {
            return Err(Error::NotWellFormed("an attribute without a value"));
        }
        self.at += 1;
        self.at = self.skip_space();
        let quote = match bytes.get(self.at) {
            Some(quote @ (b'"' | b'\'')) => *quote,
            _ => return Err(Error::NotWellFormed("an attribute's value without quotes")),
        };
        let start = self.at + 1;
        let length = bytes
            .get(start..)
            .and_then(|rest| memchr(quote, rest))
            .ok_or(Error::NotWellFormed("an attribute's value without its closing quote"))?;
        let value = self.text.get(start..start + length).unwrap_or_default();
        if memchr(b'<', value.as_bytes()).is_some() {
            return Err(Error::NotWellFormed("'<' in an attribute's value"));
        }
        self.at = start + length + 1;
        Ok(Some((name, value, start)))
    }

    fn skip_space(&self) -> usize {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        self.at + rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len())
    }
}

pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
