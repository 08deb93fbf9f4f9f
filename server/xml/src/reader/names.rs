//! Prefixes that elements inside a stanza declare.

use smallvec::SmallVec;

use crate::Scope;

/// A prefix and what it stands for.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) prefix: Box<str>,
    pub(super) namespace: Box<str>,
}

/// The prefixes in force, innermost last. Few stanzas declare any.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(SmallVec<[Binding; 1]>);

impl Names {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, binding: Binding) {
        self.0.push(binding);
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// Those declared after the first `length`.
    pub(super) fn since(&self, length: usize) -> impl Iterator<Item = &Binding> + Clone {
        self.0.iter().skip(length)
    }

    /// What a prefix stands for; for the empty one only that it needs no declaration.
    pub(super) fn resolve<'n>(&'n self, prefix: &str, scope: &'n Scope) -> Option<&'n str> {
        if prefix.is_empty() {
            return Some("");
        }
        let inner = self.0.iter().rev().find(|binding| &*binding.prefix == prefix);
        inner.map(|binding| &*binding.namespace).or_else(|| scope.namespace(prefix))
    }
}
