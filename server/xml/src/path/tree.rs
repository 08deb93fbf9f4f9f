//! Events of a tree.

use minidom::rxml::Namespace;
use minidom::{Element, Node};

use super::compile::Program;
use super::eval::{Facts, Interest, Value, Walk};
use super::set::Matches;

pub(super) fn evaluate(program: &Program, root: &Element) -> Matches {
    let mut walk = Walk::new(program);
    // A stack of its own: a tree's depth is not ours to bound.
    let mut open = Vec::new();
    if walk.enter(root.name(), &mut TreeFacts(root)) == Interest::Content {
        open.push(root.nodes().peekable());
    }
    while let Some(nodes) = open.last_mut() {
        let next = if walk.is_interested() { nodes.next() } else { None };
        match next {
            Some(Node::Element(element)) => {
                if walk.enter(element.name(), &mut TreeFacts(element)) == Interest::Content {
                    open.push(element.nodes().peekable());
                }
            }
            Some(Node::Text(text)) => {
                let mut text = std::borrow::Cow::Borrowed(text.as_str());
                while let Some(more) = nodes.next_if(|node| matches!(node, Node::Text(_))) {
                    text.to_mut().push_str(more.as_text().unwrap_or_default());
                }
                if !text.is_empty() && walk.wants_text() {
                    walk.text(|wanted| text == wanted);
                }
            }
            None => {
                walk.leave();
                open.pop();
            }
        }
    }
    walk.finish()
}

struct TreeFacts<'a>(&'a Element);

impl Facts for TreeFacts<'_> {
    fn attribute(&mut self, name: &str, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        let (namespace, name) = match name.strip_prefix("xml:") {
            Some(local) => (Namespace::XML, local),
            None => (Namespace::NONE, name),
        };
        self.0.attrs().get(&namespace, name).is_some_and(|value| test(Value::Plain(value)))
    }

    fn namespace(&mut self, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        test(Value::Plain(&self.0.ns()))
    }
}
