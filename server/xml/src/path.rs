//! Compiled paths: a small part of XPath 1.0, evaluated on raw elements and on trees.
//!
//! ```text
//! path      = absolute *( "|" absolute )
//! absolute  = ( "/" / "//" ) steps
//! steps     = step *( ( "/" / "//" ) step ) [ "/" leaf ]
//! step      = ( NCName / "*" ) *( "[" or "]" )
//! or        = and *( "or" and )
//! and       = term *( "and" term )
//! term      = "(" or ")" / "not" "(" or ")" / leaf / [ ".//" ] steps
//! leaf      = ( "@" attribute / "text()" ) [ ( "=" / "!=" ) literal ]
//! attribute = "xmlns" / [ "xml:" ] NCName
//! literal   = "'" *( any character but ' ) "'" / DQUOTE *( any character but DQUOTE ) DQUOTE
//! ```
//! White space may stand between any two of these. Some paths: `/iq[@type='get']/query[@xmlns='jabber:iq:roster']`,
//! `/message[body and not(@type='groupchat')]`, `//x[@xmlns='jabber:x:data']`, `/message/@type='chat'`.
//!
//! What differs from XPath, where namespaces would come from a context that is not here:
//! - `@xmlns='…'` tests the namespace that is in force for the element, inherited or declared, prefixed or not.
//! - A name is a local name. Without a test of `@xmlns` it fits in any namespace, but for the first step after a
//!   leading single `/`: `/message` is a stanza, in one of the content namespaces (`jabber:client`, `jabber:server`,
//!   `jabber:component:accept`). `/*` and `//message` are not restricted.
//! - A path does not select: it matches the element or does not.
//!
//! As in XPath: values are compared after entities are resolved and white space is normalised; `@a!='v'` needs an
//! attribute that differs, `not(@a='v')` is also true without one; the same holds for `text()`, which is *some* text
//! node directly inside (CDATA sections belong to the text around them); `a//b` is a descendant at any depth.
//!
//! **Bounds.** [`MAX_LENGTH`] bytes per path, [`MAX_STEPS`] steps, predicates, `not` and parentheses nested at most
//! [`MAX_NESTING`] deep, [`MAX_FACTS`] tests on one step, [`MAX_PATHS`] paths in a set. Evaluating costs at most
//! elements × steps of the set, whatever the path and the element.

mod compile;
mod eval;
mod grammar;
mod raw;
mod set;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::str::FromStr;

use minidom::Element;

pub use set::{Matches, PathSet};

use crate::RawElement;

/// Longest path, in bytes.
pub const MAX_LENGTH: usize = 2048;
/// Most steps in one path, those in predicates and alternatives included.
pub const MAX_STEPS: usize = 32;
/// How deep predicates, `not` and parentheses may be nested.
pub const MAX_NESTING: usize = 16;
/// Most tests on one step.
pub const MAX_FACTS: u8 = 64;
/// Most paths in a [`PathSet`].
pub const MAX_PATHS: usize = 1024;

/// One compiled path.
#[derive(Debug)]
pub struct Path {
    text: Box<str>,
    set: PathSet,
}

impl Path {
    /// Compiles a path.
    ///
    /// # Errors
    /// It is not one, or goes beyond a bound ([module documentation](self)).
    pub fn compile(text: &str) -> Result<Self, PathError> {
        Ok(Self { text: text.into(), set: PathSet::compile([text])? })
    }

    /// Whether the path matches a raw element.
    pub fn matches(&self, element: &RawElement<'_>) -> bool {
        self.set.evaluate(element).contains(0)
    }

    /// Whether the path matches a tree.
    pub fn matches_tree(&self, element: &Element) -> bool {
        self.set.evaluate_tree(element).contains(0)
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::compile(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a path. The fault of whoever wrote the path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path {path:?}, at byte {position}: {reason}")]
pub struct PathError {
    path: Box<str>,
    position: usize,
    reason: Reason,
}

impl PathError {
    fn new(text: &str, position: usize, reason: Reason) -> Self {
        let shown: String = text.chars().take(MAX_SHOWN).collect();
        Self { path: shown.into(), position, reason }
    }

    /// The path, cut short if it is long.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where it goes wrong, in bytes from its start.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What is wrong.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

/// Of a wrong path, an error keeps this many characters.
const MAX_SHOWN: usize = 200;

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A path begins with `/` or `//`.
    #[error("`/` or `//` is missing")]
    NotAbsolute,
    /// Paths inside predicates begin at the element.
    #[error("a path inside a predicate must be relative")]
    AbsoluteInside,
    /// A name, `*`, `@` or `text()` must stand here.
    #[error("a name is missing")]
    NoName,
    /// Namespace prefixes are not known here.
    #[error("prefixes have no meaning here: test @xmlns")]
    Prefix,
    /// A quoted value must stand here.
    #[error("a quoted value is missing")]
    NoLiteral,
    /// A quote is not closed.
    #[error("a quote is not closed")]
    OpenLiteral,
    /// This sign must stand here.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Nothing more was expected.
    #[error("the path should end here")]
    Unexpected,
    /// More than [`MAX_LENGTH`] bytes.
    #[error("the path is too long")]
    TooLong,
    /// More than [`MAX_STEPS`] steps.
    #[error("the path has too many steps")]
    TooManySteps,
    /// Nested deeper than [`MAX_NESTING`].
    #[error("the path is nested too deeply")]
    TooDeep,
    /// More than [`MAX_FACTS`] tests on one step.
    #[error("one step has too many tests")]
    TooManyTests,
    /// More than [`MAX_PATHS`] paths.
    #[error("the set has too many paths")]
    TooManyPaths,
}
