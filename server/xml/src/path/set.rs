//! Many paths at once.

use minidom::Element;
use smallvec::SmallVec;

use super::compile::Program;
use super::{PathError, raw, tree};
use crate::RawElement;

/// Paths that are evaluated together, in one pass over an element. Immutable; share it by reference or `Arc`.
#[derive(Debug, Default)]
pub struct PathSet {
    program: Program,
}

impl PathSet {
    /// Compiles `paths`; each has the number of its place.
    ///
    /// # Errors
    /// The first path that is not one, or that goes beyond a bound ([module documentation](super)).
    pub fn compile<'a>(paths: impl IntoIterator<Item = &'a str>) -> Result<Self, PathError> {
        let mut program = Program::default();
        for path in paths {
            program.add(path)?;
        }
        Ok(Self { program })
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.program.len()
    }

    /// Whether there are no paths.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says which paths match. Reads no further than it must, and does not allocate for up to 128 paths and
    /// ordinary elements.
    pub fn evaluate(&self, element: &RawElement<'_>) -> Matches {
        raw::evaluate(&self.program, element)
    }

    /// The same for a tree.
    pub fn evaluate_tree(&self, element: &Element) -> Matches {
        tree::evaluate(&self.program, element)
    }
}

/// Which paths of a [`PathSet`] match: a set of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches {
    words: SmallVec<[u64; 2]>,
}

impl Matches {
    pub(super) fn empty(paths: usize) -> Self {
        Self { words: SmallVec::from_elem(0, paths.div_ceil(64).max(2)) }
    }

    /// Whether it was not there yet.
    pub(super) fn insert(&mut self, path: usize) -> bool {
        let bit = 1 << (path % 64);
        match self.words.get_mut(path / 64) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Whether the path with this number matches.
    pub fn contains(&self, path: usize) -> bool {
        self.words.get(path / 64).is_some_and(|word| word & (1 << (path % 64)) != 0)
    }

    /// Whether no path matches.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The numbers of the paths that match, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.checked_ilog2().map(|_| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(at * 64 + bit as usize)
            })
        })
    }
}
