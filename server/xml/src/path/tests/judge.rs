//! What a path means, said as plainly as possible: a search over the tree, at any cost.

use minidom::rxml::Namespace;
use minidom::{Element, Node};

use super::super::grammar::{Attribute, Axis, Condition, Pattern, Test, parse};

pub(super) fn matches(path: &str, root: &Element) -> bool {
    parse(path).expect("a path").iter().any(|pattern| match pattern.axis {
        Axis::Child => satisfies(root, pattern),
        Axis::Descendant => satisfies(root, pattern) || below(root, pattern),
    })
}

fn below(element: &Element, pattern: &Pattern) -> bool {
    element.children().any(|child| satisfies(child, pattern) || below(child, pattern))
}

fn satisfies(element: &Element, pattern: &Pattern) -> bool {
    pattern.name.as_deref().is_none_or(|name| name == element.name()) && holds(element, &pattern.condition)
}

fn holds(element: &Element, condition: &Condition) -> bool {
    match condition {
        Condition::All(parts) => parts.iter().all(|part| holds(element, part)),
        Condition::Any(parts) => parts.iter().any(|part| holds(element, part)),
        Condition::Not(inner) => !holds(element, inner),
        Condition::Attribute(Attribute::Namespace, test) => {
            let namespace = element.ns();
            !namespace.is_empty() && says(&namespace, test)
        }
        Condition::Attribute(Attribute::Written(name), test) => {
            let value = match name.strip_prefix("xml:") {
                Some(local) => element.attrs().get(&Namespace::XML, local).map(String::as_str),
                None => element.attr(name.as_str()),
            };
            value.is_some_and(|value| says(value, test))
        }
        Condition::Text(test) => element.nodes().filter_map(Node::as_text).any(|text| says(text, test)),
        Condition::Exists(pattern) => match pattern.axis {
            Axis::Child => element.children().any(|child| satisfies(child, pattern)),
            Axis::Descendant => below(element, pattern),
        },
    }
}

fn says(value: &str, test: &Test) -> bool {
    match test {
        Test::Present => true,
        Test::Is(wanted) => value == wanted,
        Test::IsNot(unwanted) => value != unwanted,
        Test::IsContentNamespace => value.starts_with("jabber:"),
    }
}
