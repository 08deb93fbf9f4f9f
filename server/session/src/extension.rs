//! What an extension container is, and how stanzas find theirs.
//!
//! A container names the stanzas that it wants by paths (`starling_xml::path`). All paths of all containers are compiled
//! into one set, which a stanza runs through once.
//!
//! ```text
//!  from a client                                        what a container may do, in this order
//!  ─────────────                                        ──────────────────────────────────────
//!  iq get/set for the server or an account   ─────────► handle    the first one that does not pass answers
//!  iq result/error for the server            ─────────► reply     the first one that takes it ends it
//!  presence without an address               ─────────► presence  all that match look at it, before it is broadcast
//!  the session's end                         ─────────► session_ended  all
//! ```
//!
//! Whether a stanza may pass between two accounts (blocking, privacy lists: `crate::privacy`), and who gets copies of a
//! message and where it is kept (`crate::copies`), are asked for every message, so that they are functions of the path
//! of a message itself, and the containers of these extensions only change what those functions look at. Their order:
//! the sender's lists, the recipient's lists, delivery (RFC 6121 §8.5), copies, rows.

use std::{future::Future, pin::Pin, sync::Arc};

use minidom::Element;
use smallvec::SmallVec;
use starling_registry::SessionId;
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
    /// The session that sent it.
    pub session: SessionId,
    /// The process that it came to.
    pub service: &'a Arc<Service>,
}

/// A stanza of a client that a container may look at: presence without an address, or an answer to the server.
pub struct Seen<'a> {
    /// The stanza.
    pub stanza: &'a Stanza<'a>,
    /// Who sent it.
    pub from: &'a FullJid,
    /// The session that sent it.
    pub session: SessionId,
    /// The process that it came to.
    pub service: &'a Arc<Service>,
}

/// A session that has ended.
pub struct Ended<'a> {
    /// The full JID that it had.
    pub full: &'a FullJid,
    /// The session.
    pub session: SessionId,
    /// Whether it was available until then.
    pub was_available: bool,
    /// It goes on at another instance.
    pub moved: bool,
    /// The process that it was on.
    pub service: &'a Arc<Service>,
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

    /// Looks at presence without an address (RFC 6121 §4) that matches one of its paths, before it is broadcast. Must not
    /// wait: what takes time goes into a task of its own (`Service::tasks`).
    fn presence(&self, presence: &Seen<'_>) {
        let _ = presence;
    }

    /// Takes an iq of type result or error that a client sent to the server, as the answer to something that this
    /// container asked. `false`: it did not ask that.
    fn reply(&self, reply: &Seen<'_>) -> bool {
        let _ = reply;
        false
    }

    /// Does what is left to do when a session has ended. The future owns what it needs.
    fn session_ended(&self, ended: &Ended<'_>) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let _ = ended;
        None
    }
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

    /// The containers of which a path matches, in their order, each once.
    fn matching(&self, stanza: &Stanza<'_>) -> impl Iterator<Item = &dyn Extension> {
        let matches = self.paths.evaluate(&stanza.raw);
        let mut owners: SmallVec<[usize; 8]> =
            matches.iter().filter_map(|path| self.owners.get(path).copied()).collect();
        owners.dedup();
        owners.into_iter().filter_map(|owner| self.list.get(owner)).map(AsRef::as_ref)
    }

    /// Asks the containers whose paths match, in their order.
    pub(crate) fn handle(&self, request: &Request<'_>) -> Verdict {
        for extension in self.matching(request.stanza) {
            match extension.handle(request) {
                Verdict::Pass => {}
                verdict => return verdict,
            }
        }
        Verdict::Pass
    }

    /// Shows presence to the containers whose paths match.
    pub(crate) fn presence(&self, presence: &Seen<'_>) {
        for extension in self.matching(presence.stanza) {
            extension.presence(presence);
        }
    }

    /// Whether a container takes this answer. Which one asked is not in the answer: all are tried.
    pub(crate) fn reply(&self, reply: &Seen<'_>) -> bool {
        self.iter().any(|extension| extension.reply(reply))
    }

    /// Lets all containers do what is left to do when a session has ended.
    pub(crate) async fn session_ended(&self, ended: &Ended<'_>) {
        for future in self.iter().filter_map(|extension| extension.session_ended(ended)).collect::<Vec<_>>() {
            future.await;
        }
    }
}
