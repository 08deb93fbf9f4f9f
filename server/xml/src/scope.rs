//! The namespaces that are in force around a first-level element: those of its stream's header.

use std::sync::{Arc, OnceLock};

pub(crate) const STREAMS: &str = "http://etherx.jabber.org/streams";
pub(crate) const XML: &str = "http://www.w3.org/XML/1998/namespace";
pub(crate) const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
/// The content namespaces (RFC 6120 §4.8.2, XEP-0114 §4): what stands in one of them means the same in the others.
const CONTENT: [&str; 3] = ["jabber:client", "jabber:server", "jabber:component:accept"];

/// Whether `namespace` is that of stanzas in some kind of stream.
#[must_use]
pub fn is_content_namespace(namespace: &str) -> bool {
    CONTENT.contains(&namespace)
}

/// Namespaces in force outside of an element. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(Arc<Declared>);

#[derive(Debug, PartialEq, Eq)]
struct Declared {
    default: Box<str>,
    prefixes: Box<[(Box<str>, Box<str>)]>,
    content: Option<usize>,
}

impl Scope {
    /// A scope with a default namespace (empty: none) and prefixes.
    pub fn new<'a>(default: &str, prefixes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let prefixes: Box<[_]> =
            prefixes.into_iter().map(|(prefix, namespace)| (prefix.into(), namespace.into())).collect();
        let content = CONTENT.iter().position(|content| *content == default);
        Self(Arc::new(Declared { default: default.into(), prefixes, content }))
    }

    fn shared(kind: usize) -> Self {
        static SHARED: OnceLock<[Scope; CONTENT.len()]> = OnceLock::new();
        let shared = SHARED.get_or_init(|| CONTENT.map(|content| Self::new(content, [("stream", STREAMS)])));
        shared.get(kind).cloned().unwrap_or_else(Self::none)
    }

    /// The usual one of a client's stream: `xmlns='jabber:client'` and the prefix `stream`.
    #[must_use]
    pub fn client() -> Self {
        Self::shared(0)
    }

    /// The usual one between servers.
    #[must_use]
    pub fn server() -> Self {
        Self::shared(1)
    }

    /// The usual one of an external component (XEP-0114).
    #[must_use]
    pub fn component() -> Self {
        Self::shared(2)
    }

    /// Nothing declared.
    #[must_use]
    pub fn none() -> Self {
        Self::new("", [])
    }

    /// This one, or the shared one that is equal to it.
    pub(crate) fn interned(self) -> Self {
        match self.0.content.map(Self::shared) {
            Some(shared) if shared == self => shared,
            _ => self,
        }
    }

    /// The default namespace; empty if there is none.
    #[must_use]
    pub fn default_namespace(&self) -> &str {
        &self.0.default
    }

    /// Whether the default namespace is a content namespace, as in all usual streams.
    #[must_use]
    pub fn is_content(&self) -> bool {
        self.0.content.is_some()
    }

    /// The namespace that `prefix` stands for. The empty prefix is the default namespace.
    #[must_use]
    pub fn namespace(&self, prefix: &str) -> Option<&str> {
        match prefix {
            "" => Some(&self.0.default),
            "xml" => Some(XML),
            _ => self.0.prefixes.iter().find(|(declared, _)| &**declared == prefix).map(|(_, namespace)| &**namespace),
        }
    }

    /// A prefix that stands for `namespace`.
    #[must_use]
    pub fn prefix_of(&self, namespace: &str) -> Option<&str> {
        if namespace == XML {
            return Some("xml");
        }
        self.0.prefixes.iter().find(|(_, declared)| &**declared == namespace).map(|(prefix, _)| &**prefix)
    }

    /// The declared prefixes and their namespaces.
    pub fn prefixes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.prefixes.iter().map(|(prefix, namespace)| (&**prefix, &**namespace))
    }
}
