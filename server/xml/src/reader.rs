//! The incremental reader.

mod check;
mod frame;
mod names;
mod prolog;
mod tag;

use crate::{Error, OwnedElement, RawElement, Scope, StreamHeader, element::Outline};
use frame::{Checker, Kind};

#[cfg(test)]
mod tests;

/// What one element may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a first-level element or a stream's header, tags included. At most 2 GiB.
    pub stanza_bytes: usize,
    /// Elements inside each other, the first-level element included.
    pub depth: usize,
    /// Attributes of one element, declarations included; also prefixes that are in force at once inside an element.
    pub attributes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { stanza_bytes: 256 * 1024, depth: 64, attributes: 64 }
    }
}

impl Limits {
    const fn held(mut self) -> Self {
        const MOST: usize = 1 << 31;
        if self.stanza_bytes > MOST {
            self.stanza_bytes = MOST;
        }
        self
    }
}

/// What a stream consists of. White space between elements, which keeps connections alive (RFC 6120 §4.6.1), is skipped.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// The stream's opening tag.
    Open(StreamHeader<'a>),
    /// A whole first-level element: a stanza, or part of the stream's negotiation.
    Element(RawElement<'a>),
    /// The stream's closing tag. Nothing more is read after it.
    Close,
}

/// Reads one stream from bytes that come in any fragmentation.
///
/// A frame that lies whole in its input is not copied; one that does not is collected in a buffer of the reader's own,
/// which is given back as soon as the frame was used. Time is linear in the bytes, memory bounded by
/// [`Limits::stanza_bytes`] and one input.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    state: State,
    /// Namespaces of the stream's header.
    scope: Scope,
    /// The name of the stream's opening tag, as written.
    root: Box<str>,
    /// A frame that has come in part, or the last frame that was collected, until the next call.
    partial: Option<Box<Partial>>,
    outline: Outline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the stream's opening tag.
    Prolog,
    /// The same, and white space may come before the XML declaration: the end of the stream before.
    Restarted,
    /// Inside of the stream.
    Open,
    /// The opening tag was `<stream:stream/>`: its closing follows.
    Closing,
    Ended(Error),
}

#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    checker: Checker,
    prolog: prolog::Prolog,
    /// The frame in it was given out.
    used: bool,
}

/// Where a frame's bytes are.
enum Found<'a> {
    Input(&'a [u8]),
    Collected,
}

impl Reader {
    /// A reader at the beginning of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: limits.held(),
            state: State::Prolog,
            scope: Scope::client(),
            root: Box::default(),
            partial: None,
            outline: Outline::default(),
        }
    }

    /// Sets the limits of what is read from now on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits.held();
    }

    /// Begins a new stream on the same connection (RFC 6120 §4.3.3). What was half read is forgotten. White space that comes
    /// first belongs to the stream before: some clients end each element with a new line.
    pub fn restart(&mut self) {
        self.state = State::Restarted;
        self.partial = None;
    }

    /// Whether part of an element has come and the rest has not.
    #[must_use]
    pub fn is_mid_stanza(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| !partial.used)
    }

    /// Takes from `input` what belongs to the next frame. `None`: all of it is taken, and more is needed.
    ///
    /// # Errors
    /// What the stream error to send is made of. The reader stays failed.
    pub fn read<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'a>>, Error> {
        if self.partial.as_ref().is_some_and(|partial| partial.used) {
            self.partial = None;
        }
        let found = match self.state {
            State::Ended(Error::Ended) if input.is_empty() => return Ok(None),
            State::Ended(error) => return Err(error),
            State::Closing => {
                self.state = State::Ended(Error::Ended);
                return Ok(Some(Frame::Close));
            }
            State::Restarted => {
                skip_space(input);
                if input.is_empty() {
                    return Ok(None);
                }
                self.state = State::Prolog;
                self.find_header(input).map(|found| found.map(|found| (found, None)))
            }
            State::Prolog => self.find_header(input).map(|found| found.map(|found| (found, None))),
            State::Open => self.find_frame(input).map(|found| found.map(|(found, kind)| (found, Some(kind)))),
        };
        let (found, kind) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.state = State::Ended(error);
                self.partial = None;
                return Err(error);
            }
        };
        if kind == Some(Kind::Close) {
            self.state = State::Ended(Error::Ended);
            return Ok(Some(Frame::Close));
        }
        let bytes = match found {
            Found::Input(bytes) => bytes,
            Found::Collected => self.partial.as_ref().map_or(&[][..], |partial| &partial.bytes),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8)?;
        Ok(Some(match kind {
            None => Frame::Open(StreamHeader { text: text.trim_start(), scope: &self.scope }),
            Some(_) => Frame::Element(RawElement { text, outline: &self.outline, scope: &self.scope }),
        }))
    }

    fn find_header<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Found<'a>>, Error> {
        let limits = self.limits;
        let (found, header) = match &mut self.partial {
            None => {
                let mut prolog = prolog::Prolog::default();
                let Some(header) = prolog.run(input, &limits)? else {
                    if !input.is_empty() {
                        let bytes = input.to_vec();
                        self.partial = Some(Box::new(Partial { bytes, prolog, ..Partial::default() }));
                    }
                    *input = &[];
                    return Ok(None);
                };
                let (_, rest) = input.split_at_checked(header.end).unwrap_or((input, &[]));
                let frame = input.get(header.start..header.end).unwrap_or_default();
                *input = rest;
                (Found::Input(frame), header)
            }
            Some(partial) => {
                let before = partial.bytes.len();
                partial.bytes.extend_from_slice(input);
                let Some(header) = partial.prolog.run(&partial.bytes, &limits)? else {
                    *input = &[];
                    return Ok(None);
                };
                *input = input.get(header.end.saturating_sub(before)..).unwrap_or_default();
                partial.bytes.truncate(header.end);
                partial.bytes.drain(..header.start);
                partial.used = true;
                (Found::Collected, header)
            }
        };
        self.scope = header.scope;
        self.root = header.root;
        self.state = if header.is_empty { State::Closing } else { State::Open };
        Ok(Some(found))
    }

    fn find_frame<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<(Found<'a>, Kind)>, Error> {
        let limits = self.limits;
        let Some(partial) = &mut self.partial else {
            skip_space(input);
            match input.first() {
                None => return Ok(None),
                Some(b'<') => {}
                Some(_) => return Err(Error::TextBetweenStanzas),
            }
            let mut checker = Checker::default();
            let Some((length, kind)) = checker.run(input, &limits, &self.scope, &self.root)? else {
                self.partial = Some(Box::new(Partial { bytes: input.to_vec(), checker, ..Partial::default() }));
                *input = &[];
                return Ok(None);
            };
            let (frame, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
            *input = rest;
            self.outline = checker.into_outline();
            return Ok(Some((Found::Input(frame), kind)));
        };
        if input.is_empty() {
            return Ok(None);
        }
        let before = partial.bytes.len();
        partial.bytes.extend_from_slice(input);
        let Some((length, kind)) = partial.checker.run(&partial.bytes, &limits, &self.scope, &self.root)? else {
            *input = &[];
            return Ok(None);
        };
        *input = input.get(length.saturating_sub(before)..).unwrap_or_default();
        partial.bytes.truncate(length);
        partial.used = true;
        self.outline = std::mem::take(&mut partial.checker).into_outline();
        Ok(Some((Found::Collected, kind)))
    }
}

fn skip_space(input: &mut &[u8]) {
    let space = input.iter().position(|byte| !tag::is_space(*byte)).unwrap_or(input.len());
    *input = input.get(space..).unwrap_or_default();
}

/// Reads one whole element that stands in `scope`.
///
/// # Errors
/// If it is not exactly one well-formed element within the limits.
pub fn parse(text: &str, scope: &Scope, limits: Limits) -> Result<OwnedElement, Error> {
    if !text.starts_with('<') {
        return Err(Error::NotWellFormed("no element"));
    }
    let mut checker = Checker::default();
    match checker.run(text.as_bytes(), &limits.held(), scope, "")? {
        Some((length, Kind::Element)) if length == text.len() => {
            Ok(OwnedElement { text: text.into(), outline: checker.into_outline(), scope: scope.clone() })
        }
        Some(_) => Err(Error::NotWellFormed("more than one element")),
        None => Err(Error::NotWellFormed("the element does not end")),
    }
}
