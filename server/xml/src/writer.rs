//! Writing elements into a stream.

use minidom::{Element, Node};

use crate::{
    RawElement, Scope, escape,
    restamp::{Outside, attribute, rewrite},
};

/// Writes elements into a stream of a known scope, declaring what it needs to, and nothing twice.
///
/// What is started is ended by [`Writer::end`]; whatever is still open when the writer is dropped stays open.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    scope: Scope,
    open: Vec<Open>,
    /// The last opening tag has no `>` yet.
    in_tag: bool,
}

#[derive(Debug)]
struct Open {
    name: String,
    /// The default namespace inside.
    default: String,
    /// Prefixes that the element declares: (prefix, namespace).
    prefixes: Vec<(String, String)>,
}

impl<'o> Writer<'o> {
    /// Appends to `out`, which goes into a stream of `scope`.
    pub fn new(out: &'o mut Vec<u8>, scope: &Scope) -> Self {
        Self { out, scope: scope.clone(), open: Vec::new(), in_tag: false }
    }

    /// Opens an element. `name` is a local name that XML allows.
    pub fn start(&mut self, name: &str, namespace: &str) -> &mut Self {
        self.close_tag();
        let default = self.default().to_owned();
        self.out.push(b'<');
        let prefix = self.scope.prefix_of(namespace).filter(|_| default != namespace);
        if let Some(prefix) = prefix.filter(|prefix| !self.is_shadowed(prefix)) {
            let name = format!("{prefix}:{name}");
            self.out.extend_from_slice(name.as_bytes());
            self.open.push(Open { name, default, prefixes: Vec::new() });
        } else {
            self.out.extend_from_slice(name.as_bytes());
            if default != namespace {
                attribute("xmlns", namespace, self.out);
            }
            self.open.push(Open { name: name.to_owned(), default: namespace.to_owned(), prefixes: Vec::new() });
        }
        self.in_tag = true;
        self
    }

    /// Adds an attribute to the element just started; without effect after its content has begun.
    pub fn attribute(&mut self, name: &str, value: &str) -> &mut Self {
        if self.in_tag {
            attribute(name, value, self.out);
        }
        self
    }

    /// Adds an attribute in a namespace, declaring a prefix for it if there is none.
    pub fn attribute_ns(&mut self, namespace: &str, name: &str, value: &str) -> &mut Self {
        if !self.in_tag {
            return self;
        }
        let prefix = self.prefix_for(namespace);
        attribute(&format!("{prefix}:{name}"), value, self.out);
        self
    }

    /// Adds character data.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.close_tag();
        escape::text(text, self.out);
        self
    }

    /// Adds an element that came from any stream.
    pub fn raw(&mut self, element: &RawElement<'_>) -> &mut Self {
        self.close_tag();
        let default = self.default().to_owned();
        rewrite(element, &[], Outside::Default(&default), self.out);
        self
    }

    /// Adds a tree.
    pub fn tree(&mut self, tree: &Element) -> &mut Self {
        self.start(tree.name(), &tree.ns());
        for ((namespace, name), value) in tree.attrs() {
            if namespace.is_none() {
                self.attribute(name, value);
            } else {
                self.attribute_ns(namespace.as_str(), name, value);
            }
        }
        for node in tree.nodes() {
            match node {
                Node::Element(child) => self.tree(child),
                Node::Text(text) => self.text(text),
            };
        }
        self.end()
    }

    /// Ends the element that was started last.
    pub fn end(&mut self) -> &mut Self {
        let Some(open) = self.open.pop() else { return self };
        if self.in_tag {
            self.in_tag = false;
            self.out.extend_from_slice(b"/>");
        } else {
            self.out.extend_from_slice(b"</");
            self.out.extend_from_slice(open.name.as_bytes());
            self.out.push(b'>');
        }
        self
    }

    fn close_tag(&mut self) {
        if self.in_tag {
            self.in_tag = false;
            self.out.push(b'>');
        }
    }

    fn default(&self) -> &str {
        self.open.last().map_or_else(|| self.scope.default_namespace(), |open| &open.default)
    }

    /// Whether an element around declares the prefix for itself.
    fn is_shadowed(&self, prefix: &str) -> bool {
        self.open.iter().any(|open| open.prefixes.iter().any(|(declared, _)| declared == prefix))
    }

    fn prefix_for(&mut self, namespace: &str) -> String {
        let declared = self.open.iter().rev().flat_map(|open| &open.prefixes);
        if let Some((prefix, _)) = declared.clone().find(|(_, declared)| declared == namespace) {
            return prefix.clone();
        }
        if let Some(prefix) = self.scope.prefix_of(namespace).filter(|prefix| !self.is_shadowed(prefix)) {
            return prefix.to_owned();
        }
        let taken = |prefix: &str| self.is_shadowed(prefix) || self.scope.namespace(prefix).is_some();
        let prefix = (0..).map(|n| format!("ns{n}")).find(|prefix| !taken(prefix)).unwrap_or_default();
        attribute(&format!("xmlns:{prefix}"), namespace, self.out);
        if let Some(open) = self.open.last_mut() {
            open.prefixes.push((prefix.clone(), namespace.to_owned()));
        }
        prefix
    }
}

#[cfg(test)]
mod tests;
