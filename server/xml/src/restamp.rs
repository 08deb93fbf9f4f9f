//! Elements on their way into another stream.

use std::borrow::Cow;

use memchr::memchr_iter;

use crate::{
    RawElement,
    element::Context,
    escape,
    scope::is_content_namespace,
    token::{Attribute, Cursor, Tag, Token},
};

/// Writes `element` with attributes replaced (`Some`) or removed (`None`), in *portable form*: it is in its stream's
/// content namespace by inheritance, without a declaration of it, and declares itself whatever else it uses of its
/// stream's header. So it may be written into any stream whose default namespace is a content namespace
/// (RFC 6120 §4.8.2), which then is its own: what was `jabber:client` becomes `jabber:server` on a server's stream.
///
/// Names in `set` are as written, with their prefix (`from`, `xml:lang`); values are escaped here.
pub fn restamp(element: &RawElement<'_>, set: &[(&str, Option<&str>)], out: &mut Vec<u8>) {
    let scope = element.scope();
    let is_content = is_content_namespace(element.namespace());
    if !is_content || !scope.is_content() || !element.prefix().is_empty() {
        rewrite(element, set, Outside::Content, out);
        return;
    }
    let tag = element.tag();
    out.reserve(element.as_str().len() + 128);
    out.push(b'<');
    out.extend_from_slice(tag.name.as_bytes());
    for attribute in tag.attributes() {
        if attribute.name != "xmlns" && !set.iter().any(|(name, _)| *name == attribute.name) {
            write_raw(attribute, out);
        }
    }
    write_set(set, out);
    declare_inherited(element, &tag, out);
    if tag.empty {
        out.extend_from_slice(b"/>");
    } else {
        out.push(b'>');
        let rest = element.as_str().get(element.opening_tag().len()..).unwrap_or_default();
        out.extend_from_slice(rest.as_bytes());
    }
}

/// Where an element is written to.
#[derive(Clone, Copy)]
pub(crate) enum Outside<'o> {
    /// Into a stream whose default namespace is its content namespace.
    Content,
    /// Where this is the default namespace.
    Default(&'o str),
}

impl Outside<'_> {
    fn is(self, namespace: &str) -> bool {
        match self {
            Self::Content => is_content_namespace(namespace),
            Self::Default(default) => default == namespace,
        }
    }
}

/// The slow way: every element's name and default namespace anew.
pub(crate) fn rewrite(element: &RawElement<'_>, set: &[(&str, Option<&str>)], outside: Outside<'_>, out: &mut Vec<u8>) {
    let mut levels: Vec<Level<'_>> = Vec::new();
    for token in Cursor::new(element.as_str()) {
        match token {
            Token::Text(raw) => out.extend_from_slice(raw.as_bytes()),
            Token::CData(raw) => {
                out.extend_from_slice(b"<![CDATA[");
                out.extend_from_slice(raw.as_bytes());
                out.extend_from_slice(b"]]>");
            }
            Token::Start(tag) => {
                let context = match levels.last() {
                    Some(level) => level.context.clone(),
                    None => Context::of(element),
                };
                let level = open(&tag, context, levels.last(), outside, out);
                for attribute in tag.attributes() {
                    let replaced = levels.is_empty() && set.iter().any(|(name, _)| *name == attribute.name);
                    if attribute.name != "xmlns" && !replaced {
                        write_raw(attribute, out);
                    }
                }
                if levels.is_empty() {
                    write_set(set, out);
                    declare_inherited(element, &tag, out);
                }
                out.extend_from_slice(if tag.empty { b"/>" } else { b">" });
                if !tag.empty {
                    levels.push(level);
                }
            }
            Token::End => {
                if let Some(level) = levels.pop() {
                    out.extend_from_slice(b"</");
                    out.extend_from_slice(level.name.as_bytes());
                    out.push(b'>');
                }
            }
        }
    }
}

struct Level<'a> {
    /// The name as it was written.
    name: &'a str,
    /// The default namespace inside, as it was written; `None`: the one outside.
    default: Option<Cow<'a, str>>,
    context: Context<'a>,
}

fn open<'a>(
    tag: &Tag<'a>,
    context: Context<'a>,
    around: Option<&Level<'a>>,
    outside: Outside<'_>,
    out: &mut Vec<u8>,
) -> Level<'a> {
    let (prefix, local) = tag.split_name();
    let namespace = context.resolve(tag, prefix).unwrap_or_default();
    let default = around.and_then(|level| level.default.clone());
    let is_default = match &default {
        None => outside.is(&namespace),
        Some(default) => *default == namespace,
    };
    out.push(b'<');
    let context = context.inside(*tag);
    // What is in a content namespace becomes unprefixed, so that it is in that of the next stream.
    if !prefix.is_empty() && !is_content_namespace(&namespace) {
        out.extend_from_slice(tag.name.as_bytes());
        return Level { name: tag.name, default, context };
    }
    out.extend_from_slice(local.as_bytes());
    if is_default {
        return Level { name: local, default, context };
    }
    attribute("xmlns", &namespace, out);
    Level { name: local, default: Some(namespace), context }
}

/// Declarations of the stream's header that the element uses. To look for `prefix:` finds too many at worst.
fn declare_inherited(element: &RawElement<'_>, tag: &Tag<'_>, out: &mut Vec<u8>) {
    let bytes = element.as_str().as_bytes();
    for (prefix, namespace) in element.scope().prefixes() {
        let mut colons = memchr_iter(b':', bytes);
        let used = colons.any(|at| bytes.get(..at).is_some_and(|before| before.ends_with(prefix.as_bytes())));
        if used && !tag.attributes().any(|attribute| attribute.declares() == Some(prefix)) {
            out.extend_from_slice(b" xmlns:");
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(b"='");
            escape::attribute(namespace, out);
            out.push(b'\'');
        }
    }
}

fn write_set(set: &[(&str, Option<&str>)], out: &mut Vec<u8>) {
    for (name, value) in set {
        if let Some(value) = value {
            attribute(name, value, out);
        }
    }
}

/// An attribute as it came; its value cannot hold both kinds of quotes.
fn write_raw(attribute: Attribute<'_>, out: &mut Vec<u8>) {
    let quote = if attribute.value.contains('\'') { b'"' } else { b'\'' };
    out.push(b' ');
    out.extend_from_slice(attribute.name.as_bytes());
    out.extend_from_slice(&[b'=', quote]);
    out.extend_from_slice(attribute.value.as_bytes());
    out.push(quote);
}

pub(crate) fn attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape::attribute(value, out);
    out.push(b'\'');
}

#[cfg(test)]
mod tests;
