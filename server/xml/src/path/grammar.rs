//! Text → syntax tree. The grammar stands in [`super`].

use super::{MAX_LENGTH, MAX_NESTING, MAX_STEPS, PathError, Reason};

/// An element that a path speaks of, and all that must hold of it.
///
/// The rest of a location path is itself such a condition: `/a[b]/c` says that the root is an `a` with a `b` and a `c`.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) axis: Axis,
    /// `None` is `*`.
    pub(super) name: Option<String>,
    pub(super) condition: Condition,
}

/// How a pattern is reached from the element that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Child,
    Descendant,
}

#[derive(Debug)]
pub(super) enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Attribute(Attribute, Test),
    Text(Test),
    Exists(Box<Pattern>),
}

/// What an attribute test looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    /// An attribute as it is written: without a prefix, or `xml:…`.
    Written(String),
    /// The namespace in force.
    Namespace,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Present,
    Is(String),
    IsNot(String),
    /// Only for a stanza's namespace: it is a content namespace. No syntax says it; a first step without a test of
    /// `@xmlns` means it.
    IsContentNamespace,
}

/// Parses a path: its alternatives, each a pattern for the root (`Child`) or for any element (`Descendant`).
pub(super) fn parse(text: &str) -> Result<Vec<Pattern>, PathError> {
    let mut parser = Parser { text, at: 0, nesting: 0, steps: 0 };
    if text.len() > MAX_LENGTH {
        return Err(parser.error(Reason::TooLong));
    }
    let mut alternatives = vec![parser.absolute()?];
    while parser.takes("|") {
        alternatives.push(parser.absolute()?);
    }
    parser.space();
    if parser.at < text.len() {
        return Err(parser.error(Reason::Unexpected));
    }
    Ok(alternatives)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    nesting: usize,
    steps: usize,
}

/// One step before it is folded with those that follow it.
struct Step {
    axis: Axis,
    name: Option<String>,
    predicates: Vec<Condition>,
}

impl<'a> Parser<'a> {
    fn absolute(&mut self) -> Result<Pattern, PathError> {
        let axis = self.axis()?.ok_or_else(|| self.error(Reason::NotAbsolute))?;
        let mut first = match self.chain(axis)? {
            Condition::Exists(pattern) => *pattern,
            _ => return Err(self.error(Reason::Unexpected)),
        };
        if first.axis == Axis::Child && first.name.is_some() && !speaks_of_namespace(&first.condition) {
            let content = Condition::Attribute(Attribute::Namespace, Test::IsContentNamespace);
            first.condition = Condition::All(vec![content, first.condition]);
        }
        Ok(first)
    }

    /// Steps and what may end them (`/@a='v'`, `/text()='v'`), the first step's axis being known.
    fn chain(&mut self, axis: Axis) -> Result<Condition, PathError> {
        let mut steps = vec![self.step(axis)?];
        let mut end = None;
        while let Some(axis) = self.axis()? {
            if axis == Axis::Child
                && let Some(leaf) = self.leaf()?
            {
                end = Some(leaf);
                break;
            }
            steps.push(self.step(axis)?);
        }
        let mut rest = end;
        while let Some(Step { axis, name, predicates }) = steps.pop() {
            let mut all = predicates;
            all.extend(rest);
            rest = Some(Condition::Exists(Box::new(Pattern { axis, name, condition: Condition::All(all) })));
        }
        rest.ok_or_else(|| self.error(Reason::Unexpected))
    }

    fn step(&mut self, axis: Axis) -> Result<Step, PathError> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(self.error(Reason::TooManySteps));
        }
        let name = if self.takes("*") { None } else { Some(self.name()?.to_owned()) };
        let mut predicates = Vec::new();
        while self.takes("[") {
            predicates.push(self.any()?);
            self.needs("]")?;
        }
        Ok(Step { axis, name, predicates })
    }

    fn axis(&mut self) -> Result<Option<Axis>, PathError> {
        Ok(if self.takes("//") {
            Some(Axis::Descendant)
        } else if self.takes("/") {
            Some(Axis::Child)
        } else {
            None
        })
    }

    /// `or`, and within it `and`. Every way down into a predicate passes here, so that nesting is counted here.
    fn any(&mut self) -> Result<Condition, PathError> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.error(Reason::TooDeep));
        }
        let mut any = vec![self.all()?];
        while self.takes_word("or") {
            any.push(self.all()?);
        }
        self.nesting -= 1;
        Ok(single(any, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, PathError> {
        let mut all = vec![self.term()?];
        while self.takes_word("and") {
            all.push(self.term()?);
        }
        Ok(single(all, Condition::All))
    }

    fn term(&mut self) -> Result<Condition, PathError> {
        if self.takes("(") {
            let inner = self.any()?;
            self.needs(")")?;
            return Ok(inner);
        }
        let before = self.at;
        if self.takes_word("not") && self.takes("(") {
            let inner = self.any()?;
            self.needs(")")?;
            return Ok(Condition::Not(Box::new(inner)));
        }
        self.at = before;
        if let Some(leaf) = self.leaf()? {
            return Ok(leaf);
        }
        let axis = if self.takes(".//") { Axis::Descendant } else { Axis::Child };
        self.space();
        if self.rest().starts_with('/') {
            return Err(self.error(Reason::AbsoluteInside));
        }
        self.chain(axis)
    }

    /// `@name` or `text()`, and what it is compared with.
    fn leaf(&mut self) -> Result<Option<Condition>, PathError> {
        if self.takes("@") {
            let name = self.name()?;
            let attribute = if name == "xmlns" {
                Attribute::Namespace
            } else if name == "xml" && self.rest().starts_with(':') {
                self.at += 1;
                Attribute::Written(format!("xml:{}", self.name()?))
            } else {
                Attribute::Written(name.to_owned())
            };
            if self.rest().starts_with(':') {
                return Err(self.error(Reason::Prefix));
            }
            return Ok(Some(Condition::Attribute(attribute, self.test()?)));
        }
        let before = self.at;
        if self.takes_word("text") && self.takes("(") {
            self.needs(")")?;
            return Ok(Some(Condition::Text(self.test()?)));
        }
        self.at = before;
        Ok(None)
    }

    fn test(&mut self) -> Result<Test, PathError> {
        if self.takes("!=") {
            Ok(Test::IsNot(self.literal()?))
        } else if self.takes("=") {
            Ok(Test::Is(self.literal()?))
        } else {
            Ok(Test::Present)
        }
    }

    fn literal(&mut self) -> Result<String, PathError> {
        for quote in ["'", "\""] {
            if self.takes(quote) {
                let Some((literal, _)) = self.rest().split_once(quote) else {
                    return Err(self.error(Reason::OpenLiteral));
                };
                self.at += literal.len() + quote.len();
                return Ok(literal.to_owned());
            }
        }
        Err(self.error(Reason::NoLiteral))
    }

    fn name(&mut self) -> Result<&'a str, PathError> {
        self.space();
        let rest = self.rest();
        if !rest.starts_with(is_name_start) {
            return Err(self.error(Reason::NoName));
        }
        let (name, rest) = rest.split_at(rest.find(|c| !is_name_char(c)).unwrap_or(rest.len()));
        self.at += name.len();
        // `xml:` is the attributes' business.
        if rest.starts_with(':') && name != "xml" {
            return Err(self.error(Reason::Prefix));
        }
        Ok(name)
    }

    fn takes(&mut self, sign: &str) -> bool {
        self.space();
        let taken = self.rest().starts_with(sign);
        if taken {
            self.at += sign.len();
        }
        taken
    }

    fn takes_word(&mut self, word: &str) -> bool {
        self.space();
        let taken =
            self.rest().strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c| is_name_char(c) || c == ':'));
        if taken {
            self.at += word.len();
        }
        taken
    }

    fn needs(&mut self, sign: &'static str) -> Result<(), PathError> {
        if self.takes(sign) { Ok(()) } else { Err(self.error(Reason::Missing(sign))) }
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_ascii_start().len();
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, reason: Reason) -> PathError {
        PathError::new(self.text, self.at, reason)
    }
}

/// A list of one needs no list.
fn single(mut list: Vec<Condition>, of: fn(Vec<Condition>) -> Condition) -> Condition {
    match list.pop() {
        Some(only) if list.is_empty() => only,
        Some(last) => {
            list.push(last);
            of(list)
        }
        None => of(list),
    }
}

/// Whether a step's own predicates test `@xmlns`.
fn speaks_of_namespace(condition: &Condition) -> bool {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().any(speaks_of_namespace),
        Condition::Not(inner) => speaks_of_namespace(inner),
        Condition::Attribute(attribute, _) => *attribute == Attribute::Namespace,
        Condition::Text(_) | Condition::Exists(_) => false,
    }
}

/// XML's `NameStartChar` without the colon, generously: a name that no element can have matches none.
fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_name_char(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit() || matches!(c, '-' | '.')
}
