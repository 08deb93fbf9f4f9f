//! Syntax trees → one program for a whole set of paths: names and attribute tests interned, conditions over bits.

use super::grammar::{self, Attribute, Axis, Condition, Pattern, Test};
use super::{MAX_FACTS, MAX_PATHS, PathError, Reason};

/// A set of paths, ready to run.
///
/// The steps at which a path only has to be *on its way* (`/iq[@type='get']` in `/iq[@type='get']/query`) are shared by
/// all paths that begin alike.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) nodes: Vec<Node>,
    pub(super) names: Names,
    pub(super) tests: Vec<(Attribute, Test)>,
    /// What begins at the root (`/a`), by the root's name.
    pub(super) roots: ByName,
    /// What begins anywhere (`//a`), by name.
    pub(super) anywhere: ByName,
    /// How many alternatives of each path begin anywhere.
    pub(super) anywhere_of: Vec<u32>,
    /// How many there are of all.
    pub(super) anywhere_count: usize,
    /// Some path tests `text()`.
    texts: bool,
}

/// A compiled pattern: facts that an element either has or lacks (each a bit), and a condition over them.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Known from the opening tag: bit and index in `Program::tests`.
    pub(super) attributes: Vec<(u8, u32)>,
    /// What is looked for among children and descendants.
    pub(super) children: Vec<Wanted>,
    pub(super) descendants: Vec<Wanted>,
    /// Become true when such a text node is found.
    pub(super) texts: Vec<(u8, Test)>,
    /// The bits that only the element's content decides.
    pub(super) open: u64,
    /// Those of `open` that a descendant decides.
    pub(super) deep: u64,
    pub(super) formula: Formula,
    /// For a shared step: the paths that go on from here. It stays open as long as one of them has no answer.
    pub(super) paths: Vec<u32>,
}

/// An element that is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) name: NameTest,
    pub(super) node: u32,
    pub(super) report: Report,
}

/// What is known once such an element is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// A fact of the node that wants it.
    Fact(u8),
    /// A path's answer.
    Path(u32),
    /// Nothing: a shared step.
    Step,
}

/// The bit of a shared step that is never found, so that the step stays open.
const STEP: u64 = 1 << 63;

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
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Formula {
    /// All of these bits; what nearly every step is.
    Bits(u64),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
}

impl Default for Formula {
    fn default() -> Self {
        Self::Bits(0)
    }
}

impl Node {
    fn is_same_step(&self, other: &Self) -> bool {
        self.attributes == other.attributes && self.formula == other.formula
    }
}

/// If a pattern is nothing but tests of its tag and one thing to find inside: these.
fn split(condition: &Condition) -> Option<(Vec<&Condition>, &Pattern)> {
    let mut own = Vec::new();
    let mut next = None;
    let mut parts = vec![condition];
    while let Some(part) = parts.pop() {
        match part {
            Condition::All(inner) => parts.extend(inner.iter().rev()),
            Condition::Exists(pattern) if next.is_none() => next = Some(&**pattern),
            Condition::Exists(_) => return None,
            part if is_of_tag(part) => own.push(part),
            _ => return None,
        }
    }
    Some((own, next?))
}

/// Whether the opening tag alone decides.
fn is_of_tag(condition: &Condition) -> bool {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().all(is_of_tag),
        Condition::Not(inner) => is_of_tag(inner),
        Condition::Attribute(..) => true,
        Condition::Text(_) | Condition::Exists(_) => false,
    }
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

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Bits(one), Self::Bits(other)) => Self::Bits(one | other),
            (Self::Bits(0), other) => other,
            (Self::All(mut all), Self::Bits(bits)) => {
                match all.first_mut() {
                    Some(Self::Bits(first)) => *first |= bits,
                    _ => all.insert(0, Self::Bits(bits)),
                }
                Self::All(all)
            }
            (Self::All(mut all), other) => {
                all.push(other);
                Self::All(all)
            }
            (one, Self::Bits(bits)) => Self::All(vec![Self::Bits(bits), one]),
            (one, other) => Self::All(vec![one, other]),
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

/// Where paths begin, by the name of the element.
#[derive(Debug, Default)]
pub(super) struct ByName {
    named: Vec<Vec<Wanted>>,
    any: Vec<Wanted>,
}

impl ByName {
    pub(super) fn of(&self, name: Option<u16>) -> impl Iterator<Item = &Wanted> {
        let named = name.and_then(|name| self.named.get(usize::from(name))).map_or(&[][..], Vec::as_slice);
        named.iter().chain(&self.any)
    }

    fn list(&mut self, name: NameTest) -> &mut Vec<Wanted> {
        match name {
            NameTest::Any => &mut self.any,
            NameTest::Is(name) => {
                let name = usize::from(name);
                if self.named.len() <= name {
                    self.named.resize(name + 1, Vec::new());
                }
                self.named.get_mut(name).unwrap_or(&mut self.any)
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
            anywhere += u32::from(pattern.axis == Axis::Descendant);
            self.way(None, &pattern, path).ok_or_else(|| PathError::new(text, 0, Reason::TooManyTests))?;
        }
        self.anywhere_of.push(anywhere);
        self.anywhere_count += anywhere as usize;
        Ok(())
    }

    /// Adds what is left of a path behind the shared step `from` (`None`: from the start), as shared steps as far as
    /// that goes. `None`: more facts than bits. Recursion is bounded by the number of steps.
    fn way(&mut self, from: Option<u32>, pattern: &Pattern, path: u32) -> Option<()> {
        let name = self.name(pattern);
        let Some((own, next)) = split(&pattern.condition) else {
            let node = self.node(pattern)?;
            self.list(from, pattern.axis, name)?.push(Wanted { name, node, report: Report::Path(path) });
            return Some(());
        };
        let mut step = Node::default();
        let mut used = 0;
        for condition in own {
            let formula = self.formula(condition, &mut step, &mut used)?;
            step.formula = step.formula.and(formula);
        }
        if used >= MAX_FACTS {
            return None;
        }
        step.formula = step.formula.and(Formula::Bits(STEP));
        step.open = STEP;
        let known = self.list(from, pattern.axis, name)?.clone().into_iter().find(|wanted| {
            wanted.report == Report::Step
                && wanted.name == name
                && self.nodes.get(wanted.node as usize).is_some_and(|known| known.is_same_step(&step))
        });
        let number = match known {
            Some(wanted) => wanted.node,
            None => {
                let number = u32::try_from(self.nodes.len()).ok()?;
                self.nodes.push(step);
                self.list(from, pattern.axis, name)?.push(Wanted { name, node: number, report: Report::Step });
                number
            }
        };
        let paths = &mut self.nodes.get_mut(number as usize)?.paths;
        if !paths.contains(&path) {
            paths.push(path);
        }
        self.way(Some(number), next, path)
    }

    fn list(&mut self, from: Option<u32>, axis: Axis, name: NameTest) -> Option<&mut Vec<Wanted>> {
        Some(match (from, axis) {
            (None, Axis::Child) => self.roots.list(name),
            (None, Axis::Descendant) => self.anywhere.list(name),
            (Some(node), Axis::Child) => &mut self.nodes.get_mut(node as usize)?.children,
            (Some(node), Axis::Descendant) => &mut self.nodes.get_mut(node as usize)?.descendants,
        })
    }

    fn name(&mut self, pattern: &Pattern) -> NameTest {
        pattern.name.as_deref().map_or(NameTest::Any, |name| NameTest::Is(self.names.intern(name)))
    }

    /// `None`: more facts than bits.
    fn node(&mut self, pattern: &Pattern) -> Option<u32> {
        let mut node = Node::default();
        let mut used = 0;
        node.formula = self.formula(&pattern.condition, &mut node, &mut used)?;
        let number = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        Some(number)
    }

    /// Recursion is bounded by the grammar's nesting.
    fn formula(&mut self, condition: &Condition, node: &mut Node, used: &mut u8) -> Option<Formula> {
        match condition {
            Condition::All(parts) => {
                let mut all = Formula::default();
                for part in parts {
                    all = all.and(self.formula(part, node, used)?);
                }
                Some(all)
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
                let wanted = Wanted { name: self.name(pattern), node: self.node(pattern)?, report: Report::Fact(bit) };
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
