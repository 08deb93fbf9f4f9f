//! Syntax trees → one program for a whole set of paths: names and attribute tests interned, conditions over bits.

use super::grammar::{self, Attribute, Axis, Condition, Pattern, Test};
use super::{MAX_FACTS, MAX_PATHS, PathError, Reason};

/// A set of paths, ready to run.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) nodes: Vec<Node>,
    pub(super) names: Names,
    pub(super) tests: Vec<(Attribute, Test)>,
    /// Alternatives that begin at the root (`/a`), by the root's name.
    pub(super) roots: ByName,
    /// Alternatives that begin anywhere (`//a`), by name.
    pub(super) anywhere: ByName,
    /// How many of `anywhere` there are for each path.
    pub(super) anywhere_of: Vec<u32>,
    /// How many there are for all.
    pub(super) anywhere_count: usize,
    /// Some path tests `text()`.
    texts: bool,
}

/// Where an alternative of a path begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alternative {
    pub(super) path: u32,
    pub(super) node: u32,
}

/// A compiled pattern: a name test, facts that an element either has or lacks (each a bit), and a condition over them.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NameTest,
    /// Known from the opening tag: bit and index in `Program::tests`.
    pub(super) attributes: Vec<(u8, u32)>,
    /// Become true when such a child, or descendant, is found.
    pub(super) children: Vec<Wanted>,
    pub(super) descendants: Vec<Wanted>,
    /// Become true when such a text node is found.
    pub(super) texts: Vec<(u8, Test)>,
    /// The bits that only the element's content decides.
    pub(super) open: u64,
    /// The bits of `descendants`.
    pub(super) deep: u64,
    pub(super) formula: Formula,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) bit: u8,
    pub(super) name: NameTest,
    pub(super) node: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameTest {
    Any,
    Is(u16),
}

impl NameTest {
    #[inline]
    pub(super) fn admits(self, name: Option<u16>) -> bool {
        match self {
            Self::Any => true,
            Self::Is(wanted) => name == Some(wanted),
        }
    }
}

/// A condition over facts.
#[derive(Debug)]
pub(super) enum Formula {
    /// All of these bits; what nearly every step is.
    Bits(u64),
    All(Vec<Formula>),
    Any(Vec<Formula>),
    Not(Box<Formula>),
}

/// What can be said of a condition while some facts are still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    Open,
}

impl Formula {
    /// `found`: facts known to be true; `open`: facts that may still become true. All others are false.
    pub(super) fn judge(&self, found: u64, open: u64) -> Verdict {
        match self {
            Self::Bits(bits) if found & bits == *bits => Verdict::Yes,
            Self::Bits(bits) if (found | open) & bits == *bits => Verdict::Open,
            Self::Bits(_) => Verdict::No,
            Self::All(parts) => Self::fold(parts, Verdict::No, Verdict::Yes, found, open),
            Self::Any(parts) => Self::fold(parts, Verdict::Yes, Verdict::No, found, open),
            Self::Not(inner) => match inner.judge(found, open) {
                Verdict::Yes => Verdict::No,
                Verdict::No => Verdict::Yes,
                Verdict::Open => Verdict::Open,
            },
        }
    }

    fn fold(parts: &[Self], decisive: Verdict, neutral: Verdict, found: u64, open: u64) -> Verdict {
        let mut result = neutral;
        for part in parts {
            let verdict = part.judge(found, open);
            if verdict == decisive {
                return decisive;
            }
            if verdict == Verdict::Open {
                result = Verdict::Open;
            }
        }
        result
    }
}

/// Alternatives by the name of the element at which they begin.
#[derive(Debug, Default)]
pub(super) struct ByName {
    named: Vec<Vec<Alternative>>,
    any: Vec<Alternative>,
}

impl ByName {
    pub(super) fn of(&self, name: Option<u16>) -> impl Iterator<Item = Alternative> {
        let named = name.and_then(|name| self.named.get(usize::from(name))).map_or(&[][..], Vec::as_slice);
        named.iter().chain(&self.any).copied()
    }

    fn add(&mut self, name: NameTest, alternative: Alternative) {
        match name {
            NameTest::Any => self.any.push(alternative),
            NameTest::Is(name) => {
                let name = usize::from(name);
                if self.named.len() <= name {
                    self.named.resize(name + 1, Vec::new());
                }
                if let Some(list) = self.named.get_mut(name) {
                    list.push(alternative);
                }
            }
        }
    }
}

/// The names that any path speaks of.
#[derive(Debug, Default)]
pub(super) struct Names {
    list: Vec<(String, u16)>,
    heads: Vec<u16>,
}

const BUCKETS: usize = 64;
const NONE: u16 = u16::MAX;

impl Names {
    /// The number of a name, if any path speaks of it.
    #[inline]
    pub(super) fn find(&self, name: &str) -> Option<u16> {
        let mut at = self.heads.get(bucket(name)).copied().unwrap_or(NONE);
        while let Some((known, next)) = self.list.get(usize::from(at)) {
            if known == name {
                return Some(at);
            }
            at = *next;
        }
        None
    }

    fn intern(&mut self, name: &str) -> u16 {
        if let Some(known) = self.find(name) {
            return known;
        }
        self.heads.resize(BUCKETS, NONE);
        // Paths are limited in number and each in its steps: far fewer names than numbers.
        let number = u16::try_from(self.list.len()).unwrap_or(NONE);
        let head = self.heads.get_mut(bucket(name));
        let next = head.map_or(NONE, |head| std::mem::replace(head, number));
        self.list.push((name.to_owned(), next));
        number
    }
}

#[inline]
fn bucket(name: &str) -> usize {
    let bytes = name.as_bytes();
    let first = bytes.first().copied().unwrap_or_default();
    let last = bytes.last().copied().unwrap_or_default();
    (usize::from(first) ^ usize::from(last).wrapping_mul(5) ^ bytes.len().wrapping_mul(11)) % BUCKETS
}

impl Program {
    /// How many paths there are.
    pub(super) fn len(&self) -> usize {
        self.anywhere_of.len()
    }

    pub(super) fn has_texts(&self) -> bool {
        self.texts
    }

    /// Whether any path can match an element whose root has this name.
    #[inline]
    pub(super) fn may_match(&self, root: &str) -> bool {
        self.anywhere_count > 0 || self.roots.of(self.names.find(root)).next().is_some()
    }

    /// Adds a path; its number is how many were there before.
    pub(super) fn add(&mut self, text: &str) -> Result<(), PathError> {
        let path = u32::try_from(self.anywhere_of.len()).unwrap_or(u32::MAX);
        if self.anywhere_of.len() >= MAX_PATHS {
            return Err(PathError::new(text, 0, Reason::TooManyPaths));
        }
        let mut anywhere = 0;
        for pattern in grammar::parse(text)? {
            let (name, node) = self.node(&pattern).ok_or_else(|| PathError::new(text, 0, Reason::TooManyTests))?;
            match pattern.axis {
                Axis::Child => self.roots.add(name, Alternative { path, node }),
                Axis::Descendant => {
                    anywhere += 1;
                    self.anywhere.add(name, Alternative { path, node });
                }
            }
        }
        self.anywhere_of.push(anywhere);
        self.anywhere_count += anywhere as usize;
        Ok(())
    }

    /// `None`: more facts than bits.
    fn node(&mut self, pattern: &Pattern) -> Option<(NameTest, u32)> {
        let name = pattern.name.as_deref().map_or(NameTest::Any, |name| NameTest::Is(self.names.intern(name)));
        let mut node = Node {
            name,
            attributes: Vec::new(),
            children: Vec::new(),
            descendants: Vec::new(),
            texts: Vec::new(),
            open: 0,
            deep: 0,
            formula: Formula::Bits(0),
        };
        let mut used = 0;
        node.formula = self.formula(&pattern.condition, &mut node, &mut used)?;
        let number = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        Some((name, number))
    }

    /// Recursion is bounded by the grammar's nesting.
    fn formula(&mut self, condition: &Condition, node: &mut Node, used: &mut u8) -> Option<Formula> {
        match condition {
            Condition::All(parts) => {
                let mut bits = 0;
                let mut all = Vec::new();
                for part in parts {
                    match self.formula(part, node, used)? {
                        Formula::Bits(more) => bits |= more,
                        Formula::All(more) => all.extend(more),
                        other => all.push(other),
                    }
                }
                if all.is_empty() {
                    return Some(Formula::Bits(bits));
                }
                all.insert(0, Formula::Bits(bits));
                Some(Formula::All(all))
            }
            Condition::Any(parts) => {
                Some(Formula::Any(parts.iter().map(|part| self.formula(part, node, used)).collect::<Option<_>>()?))
            }
            Condition::Not(inner) => Some(Formula::Not(Box::new(self.formula(inner, node, used)?))),
            Condition::Attribute(attribute, test) => {
                let test = self.test(attribute, test);
                if let Some((bit, _)) = node.attributes.iter().find(|(_, known)| *known == test) {
                    return Some(Formula::Bits(1 << bit));
                }
                let bit = fact(used)?;
                node.attributes.push((bit, test));
                Some(Formula::Bits(1 << bit))
            }
            Condition::Text(test) => {
                let bit = fact(used)?;
                node.texts.push((bit, test.clone()));
                self.texts = true;
                node.open |= 1 << bit;
                Some(Formula::Bits(1 << bit))
            }
            Condition::Exists(pattern) => {
                let bit = fact(used)?;
                let (name, number) = self.node(pattern)?;
                let wanted = Wanted { bit, name, node: number };
                match pattern.axis {
                    Axis::Child => node.children.push(wanted),
                    Axis::Descendant => {
                        node.descendants.push(wanted);
                        node.deep |= 1 << bit;
                    }
                }
                node.open |= 1 << bit;
                Some(Formula::Bits(1 << bit))
            }
        }
    }

    fn test(&mut self, attribute: &Attribute, test: &Test) -> u32 {
        let known = self.tests.iter().position(|(a, t)| a == attribute && t == test);
        let number = known.unwrap_or_else(|| {
            self.tests.push((attribute.clone(), test.clone()));
            self.tests.len() - 1
        });
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}

/// The next free bit of a node.
fn fact(used: &mut u8) -> Option<u8> {
    let bit = *used;
    (bit < MAX_FACTS).then(|| {
        *used += 1;
        bit
    })
}
