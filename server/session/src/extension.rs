//! What an extension container is, and how stanzas find theirs.
//!
//! A container names the stanzas that it wants by paths (`starling_xml::path`). All paths of all containers are compiled
//! into one set, which each request to the server runs through once; the first container in the list whose path matches
//! and that does not pass it on answers.

use std::{future::Future, pin::Pin};

use minidom::Element;
use starling_xml::path::PathSet;
use starling_xmpp::{error::StanzaError, jid::FullJid, stanza::Stanza};

use crate::service::Service;

/// On whose behalf the server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The server's own domain (`to='example.com'`).
    Server,
    /// The account of whoever asks (no `to`, or its own bare JID).
    OwnAccount,
    /// Another account of this server, by its bare JID.
    OtherAccount,
}

/// The standard that a container implements: shown in the documentation, and held against the tests.
#[derive(Clone, Copy, Debug)]
pub struct Standard {
    /// `XEP-0199`, or `RFC 3921 §3`.
    pub name: &'static str,
    /// The version of it, as its document says.
    pub version: &'static str,
    /// The test file that shows it, below `tests/protocol/tests`.
    pub shown_by: &'static str,
}

/// A request that a container may answer: an iq of type get or set.
pub struct Request<'a> {
    /// The request itself.
    pub stanza: &'a Stanza<'a>,
    /// Whom it is for.
    pub scope: Scope,
    /// Who sent it.
    pub from: &'a FullJid,
    /// The process that it came to.
    pub service: &'a Service,
}

/// What comes back to whoever asked: the result's payload, if it has any, or an error.
pub type Answer = Result<Option<Element>, StanzaError>;

/// What a container does with a request.
pub enum Verdict {
    /// It is not for this container after all.
    Pass,
    /// Answered at once.
    Answer(Answer),
    /// Answered when the future ends, which owns what it needs. The session's next stanza waits for it (RFC 6120 §10.1).
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// An extension container.
pub trait Extension: Send + Sync + 'static {
    /// What it implements.
    fn standard(&self) -> Standard;

    /// The stanzas that it subscribes to.
    fn paths(&self) -> &'static [&'static str];

    /// The features that it adds to what `scope` announces (XEP-0030 §3.1).
    fn features(&self, scope: Scope) -> &'static [&'static str];

    /// Answers a request that matches one of its paths.
    fn handle(&self, request: &Request<'_>) -> Verdict;
}

/// All containers, with their subscription compiled.
pub struct Extensions {
    list: Vec<Box<dyn Extension>>,
    paths: PathSet,
    /// The container that each path of the set belongs to.
    owners: Vec<usize>,
}

impl Extensions {
    /// Compiles the paths of `list`.
    ///
    /// # Errors
    /// If a container's path cannot be compiled.
    pub fn new(list: Vec<Box<dyn Extension>>) -> Result<Self, starling_xml::path::PathError> {
        let paths = PathSet::compile(list.iter().flat_map(|extension| extension.paths()).copied())?;
        let owners = list.iter().enumerate().flat_map(|(at, extension)| extension.paths().iter().map(move |_| at));
        Ok(Self { owners: owners.collect(), paths, list })
    }

    /// The containers, in the order in which they are asked.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Extension> {
        self.list.iter().map(AsRef::as_ref)
    }

    /// Everything that `scope` announces, sorted, each once.
    #[must_use]
    pub fn features(&self, scope: Scope) -> Vec<&'static str> {
        let mut features: Vec<_> = self.iter().flat_map(|extension| extension.features(scope)).copied().collect();
        features.sort_unstable();
        features.dedup();
        features
    }

    /// Asks the containers whose paths match, in their order.
    pub(crate) fn handle(&self, request: &Request<'_>) -> Verdict {
        let matches = self.paths.evaluate(&request.stanza.raw);
        let mut asked = None;
        for path in matches.iter() {
            let owner = self.owners.get(path).copied();
            if owner == asked {
                continue;
            }
            asked = owner;
            let Some(extension) = owner.and_then(|owner| self.list.get(owner)) else { continue };
            match extension.handle(request) {
                Verdict::Pass => {}
                verdict => return verdict,
            }
        }
        Verdict::Pass
    }
}
