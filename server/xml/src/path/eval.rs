//! Runs a program over an element's events, whoever sends them: one pass, no way back.
//!
//! ```text
//!  entries  [ iq: query? ] [ query: item? ] [ item: group? ]      what is not decided yet
//!  frames   └── <iq> ─────┘└── <query> ────┘└── <item> ────┘      one per open element that matters
//! ```
//! An element that may satisfy a pattern gets an *entry* when its tag opens, unless the tag alone decides. An entry
//! decided with yes sets its bit in the entry that waits for it, which may decide that one, down to a path's answer.
//! For one element there is at most one entry per pattern, so that a pass costs at most elements × patterns.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::compile::{Formula, Node, Program, Report, Verdict, Wanted};
use super::grammar::{Attribute, Test};
use super::set::Matches;
use crate::is_content_namespace;
use crate::token::{Place, resolve, says};

/// What an opening tag says.
pub(super) trait Facts {
    /// Whether the attribute (`name`, or `xml:name`) is there and `test` holds of its value.
    fn attribute(&mut self, name: &str, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool;
    /// The namespace in force; empty if none.
    fn namespace(&mut self, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool;
}

/// A value as an event source has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// An attribute's value as it came.
    Raw(&'a str),
    /// Resolved already.
    Plain(&'a str),
}

impl<'a> Value<'a> {
    fn is(self, wanted: &str) -> bool {
        match self {
            Value::Raw(raw) => says(raw, Place::Attribute, wanted),
            Value::Plain(value) => value == wanted,
        }
    }

    fn resolved(self) -> Cow<'a, str> {
        match self {
            Value::Raw(raw) => resolve(raw, Place::Attribute),
            Value::Plain(value) => Cow::Borrowed(value),
        }
    }
}

/// Whether an element's content is worth reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Nothing inside can matter, and [`Walk::leave`] is not to be called.
    Skip,
    /// Something inside may matter: [`Walk::leave`] must follow.
    Content,
}

/// A pattern that the open element may still satisfy.
#[derive(Debug)]
struct Entry {
    node: u32,
    waiter: Waiter,
    /// Facts known to be true.
    found: u64,
    /// An entry of the same pattern further out: what is found below this one is found below that one too.
    outer: Option<u32>,
    frame: u32,
    decided: bool,
    /// An entry of the same pattern further in looks for both.
    shadowed: bool,
}

/// Who wants to know that a pattern is satisfied.
#[derive(Clone, Copy, Debug)]
enum Waiter {
    Path(u32),
    Entry {
        entry: u32,
        bit: u8,
    },
    /// A shared step is never satisfied itself.
    Nobody,
}

#[derive(Debug)]
struct Frame {
    entries: u32,
    watchers: u32,
    /// Entries of this frame that are not decided.
    undecided: u32,
}

/// One pass.
pub(super) struct Walk<'p> {
    program: &'p Program,
    matches: Matches,
    entries: SmallVec<[Entry; 8]>,
    frames: SmallVec<[Frame; 4]>,
    /// Entries that look for descendants, outermost first.
    watchers: SmallVec<[u32; 4]>,
    /// Alternatives that begin anywhere and whose path has no answer yet.
    anywhere: usize,
}

impl<'p> Walk<'p> {
    #[inline]
    pub(super) fn new(program: &'p Program) -> Self {
        Self {
            program,
            matches: Matches::empty(program.len()),
            entries: SmallVec::new(),
            frames: SmallVec::new(),
            watchers: SmallVec::new(),
            anywhere: program.anywhere_count,
        }
    }

    pub(super) fn finish(self) -> Matches {
        self.matches
    }

    /// An opening tag.
    pub(super) fn enter(&mut self, name: &str, facts: &mut impl Facts) -> Interest {
        let program = self.program;
        let name = program.names.find(name);
        let mut tests = Tests { program, facts, known: 0, holds: 0 };
        let first_entry = self.entries.len();
        let first_watcher = self.watchers.len();
        let parent = self.frames.last().map(|frame| frame.entries as usize);

        match parent {
            None => {
                for wanted in program.roots.of(name) {
                    self.start(wanted, 0, &mut tests);
                }
            }
            Some(parent) => {
                for index in parent..first_entry {
                    let Some(node) = self.entries.get(index).filter(|entry| !entry.decided).map(|entry| entry.node)
                    else {
                        continue;
                    };
                    let Some(node) = program.nodes.get(node as usize) else { continue };
                    self.start_wanted(index, &node.children, name, &mut tests);
                }
            }
        }
        for at in 0..first_watcher {
            let Some(index) = self.watchers.get(at).map(|index| *index as usize) else { continue };
            let Some(entry) = self.entries.get(index).filter(|entry| entry.is_watching()) else { continue };
            let Some(node) = program.nodes.get(entry.node as usize) else { continue };
            self.start_wanted(index, &node.descendants, name, &mut tests);
        }
        if self.anywhere > 0 {
            for wanted in program.anywhere.of(name) {
                self.start(wanted, 0, &mut tests);
            }
        }

        if self.entries.len() == first_entry && self.anywhere == 0 && self.watchers.is_empty() {
            return Interest::Skip;
        }
        // Not before now: this element itself is still looked for on behalf of those further out.
        for at in first_watcher..self.watchers.len() {
            let index = self.watchers.get(at).copied().unwrap_or(u32::MAX);
            let outer = self.entries.get(index as usize).and_then(|entry| entry.outer);
            if let Some(outer) = outer.and_then(|outer| self.entries.get_mut(outer as usize)) {
                outer.shadowed = true;
            }
        }
        self.frames.push(Frame {
            entries: count(first_entry),
            watchers: count(first_watcher),
            undecided: count(self.entries.iter().skip(first_entry).filter(|entry| !entry.decided).count()),
        });
        if self.is_interested() {
            Interest::Content
        } else {
            self.leave();
            Interest::Skip
        }
    }

    /// The closing tag of an element whose content was of interest.
    pub(super) fn leave(&mut self) {
        let Some(frame) = self.frames.last() else { return };
        let (first_entry, first_watcher) = (frame.entries as usize, frame.watchers as usize);
        for index in first_entry..self.entries.len() {
            let Some(entry) = self.entries.get(index) else { break };
            let (outer, waiter) = (entry.outer, entry.waiter);
            if !entry.decided && self.judge(entry, 0) == Verdict::Yes {
                self.satisfied(waiter);
            }
            if let Some(outer) = outer.and_then(|outer| self.entries.get_mut(outer as usize)) {
                outer.shadowed = false;
            }
        }
        self.entries.truncate(first_entry);
        self.watchers.truncate(first_watcher);
        self.frames.pop();
    }

    /// Whether anything further inside the open element can matter.
    pub(super) fn is_interested(&self) -> bool {
        self.anywhere > 0
            || self.frames.last().is_some_and(|frame| frame.undecided > 0)
                && self.open_entries().any(|(_, _, node)| !self.is_answered(node))
            || self.watchers.iter().any(|index| {
                self.entries.get(*index as usize).is_some_and(|entry| {
                    let node = self.program.nodes.get(entry.node as usize);
                    entry.is_watching() && node.is_some_and(|node| !self.is_answered(node))
                })
            })
    }

    /// Whether a text node of the open element can matter.
    pub(super) fn wants_text(&self) -> bool {
        self.open_entries().any(|(_, _, node)| !node.texts.is_empty())
    }

    /// A text node, as XPath sees it (never empty, never two in a row). `is` compares it.
    pub(super) fn text(&mut self, is: impl Fn(&str) -> bool) {
        let mut found: SmallVec<[Waiter; 8]> = SmallVec::new();
        for (index, entry, node) in self.open_entries() {
            for (bit, test) in &node.texts {
                let holds = entry.found & (1 << bit) == 0
                    && match test {
                        Test::Is(wanted) => is(wanted),
                        Test::IsNot(unwanted) => !is(unwanted),
                        Test::Present | Test::IsContentNamespace => true,
                    };
                if holds {
                    found.push(Waiter::Entry { entry: count(index), bit: *bit });
                }
            }
        }
        for waiter in found {
            self.satisfied(waiter);
        }
    }

    /// The open element's entries that are not decided.
    fn open_entries(&self) -> impl Iterator<Item = (usize, &Entry, &'p Node)> {
        let program = self.program;
        let first = self.frames.last().map_or(usize::MAX, |frame| frame.entries as usize);
        let entries = self.entries.iter().enumerate().skip(first).filter(|(_, entry)| !entry.decided);
        entries.filter_map(|(index, entry)| Some((index, entry, program.nodes.get(entry.node as usize)?)))
    }

    fn start_wanted<F: Facts>(&mut self, index: usize, list: &[Wanted], name: Option<u16>, tests: &mut Tests<'_, F>) {
        for wanted in list.iter().filter(|wanted| wanted.name.admits(name)) {
            self.start(wanted, index, tests);
        }
    }

    /// The element's name fits what is `wanted` by the entry `index`: decides by the tag, or opens an entry.
    fn start<F: Facts>(&mut self, wanted: &Wanted, index: usize, tests: &mut Tests<'_, F>) {
        let number = wanted.node;
        let Some(node) = self.program.nodes.get(number as usize) else { return };
        let (waiter, is_known) = match wanted.report {
            Report::Path(path) => (Waiter::Path(path), self.matches.contains(path as usize)),
            Report::Step => (Waiter::Nobody, self.is_answered(node)),
            Report::Fact(bit) => {
                let known = self.entries.get(index).is_some_and(|entry| entry.found & (1 << bit) != 0);
                (Waiter::Entry { entry: count(index), bit }, known)
            }
        };
        if is_known {
            return;
        }
        let mut found = 0;
        for (bit, test) in &node.attributes {
            if tests.holds(*test) {
                found |= 1 << bit;
            } else if matches!(node.formula, Formula::Bits(_)) {
                return;
            }
        }
        match node.formula.judge(found, node.open) {
            Verdict::No => {}
            Verdict::Yes => self.satisfied(waiter),
            Verdict::Open => {
                let index = count(self.entries.len());
                let mut outer = None;
                if !node.descendants.is_empty() {
                    outer = self
                        .watchers
                        .iter()
                        .rev()
                        .copied()
                        .find(|index| self.entries.get(*index as usize).is_some_and(|entry| entry.node == number));
                    self.watchers.push(index);
                }
                let frame = count(self.frames.len());
                self.entries.push(Entry { node: number, waiter, found, outer, frame, decided: false, shadowed: false });
            }
        }
    }

    /// Whether the node is a shared step of no use any more: every path that goes on from it has its answer.
    fn is_answered(&self, node: &Node) -> bool {
        !node.paths.is_empty() && node.paths.iter().all(|path| self.matches.contains(*path as usize))
    }

    fn judge(&self, entry: &Entry, open: u64) -> Verdict {
        self.program
            .nodes
            .get(entry.node as usize)
            .map_or(Verdict::No, |node| node.formula.judge(entry.found, node.open & open))
    }

    fn answer(&mut self, path: u32) {
        if self.matches.insert(path as usize) && self.anywhere > 0 {
            let answered = self.program.anywhere_of.get(path as usize).map_or(0, |count| *count as usize);
            self.anywhere -= answered.min(self.anywhere);
        }
    }

    /// Tells `waiter`, and whoever is decided by that in turn.
    fn satisfied(&mut self, waiter: Waiter) {
        if let Waiter::Path(path) = waiter {
            return self.answer(path);
        }
        let mut news: SmallVec<[Waiter; 4]> = SmallVec::new();
        news.push(waiter);
        while let Some(waiter) = news.pop() {
            let (mut next, bit) = match waiter {
                Waiter::Path(path) => {
                    self.answer(path);
                    continue;
                }
                Waiter::Nobody => continue,
                Waiter::Entry { entry, bit } => (Some(entry), bit),
            };
            // Outwards until someone knows: those further out know it then, too.
            while let Some(index) = next {
                let Some(entry) = self.entries.get_mut(index as usize).filter(|entry| entry.found & (1 << bit) == 0)
                else {
                    break;
                };
                entry.found |= 1 << bit;
                let (node, outer) = (entry.node, entry.outer);
                let deep = self.program.nodes.get(node as usize).is_some_and(|node| node.deep & (1 << bit) != 0);
                next = if deep { outer } else { None };
                let Some(entry) = self.entries.get(index as usize).filter(|entry| !entry.decided) else { continue };
                let verdict = self.judge(entry, !entry.found);
                if verdict == Verdict::Open {
                    continue;
                }
                if verdict == Verdict::Yes {
                    news.push(entry.waiter);
                }
                let frame = entry.frame as usize;
                if let Some(frame) = self.frames.get_mut(frame) {
                    frame.undecided = frame.undecided.saturating_sub(1);
                }
                if let Some(entry) = self.entries.get_mut(index as usize) {
                    entry.decided = true;
                }
            }
        }
    }
}

impl Entry {
    /// Whether descendants are looked for on its behalf.
    fn is_watching(&self) -> bool {
        !self.shadowed && (!self.decided || self.outer.is_some())
    }
}

/// The opening tag's tests, each made at most once.
struct Tests<'a, F> {
    program: &'a Program,
    facts: &'a mut F,
    known: u128,
    holds: u128,
}

impl<F: Facts> Tests<'_, F> {
    fn holds(&mut self, number: u32) -> bool {
        let mask = 1u128.checked_shl(number).unwrap_or_default();
        if self.known & mask != 0 {
            return self.holds & mask != 0;
        }
        let Some((attribute, test)) = self.program.tests.get(number as usize) else { return false };
        let holds = match attribute {
            Attribute::Written(name) => self.facts.attribute(name, &mut |value| match test {
                Test::Present => true,
                Test::Is(wanted) => value.is(wanted),
                Test::IsNot(unwanted) => !value.is(unwanted),
                Test::IsContentNamespace => false,
            }),
            Attribute::Namespace => self.facts.namespace(&mut |value| match test {
                Test::Is(wanted) => value.is(wanted),
                Test::Present => !value.is(""),
                Test::IsNot(unwanted) => !value.is("") && !value.is(unwanted),
                Test::IsContentNamespace => is_content_namespace(&value.resolved()),
            }),
        };
        self.known |= mask;
        if holds {
            self.holds |= mask;
        }
        holds
    }
}

/// Entries and frames are far fewer than 2³²: elements are limited in size.
fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
