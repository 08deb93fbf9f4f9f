//! What the registry holds about one session.

use std::{fmt, sync::Arc};

use starling_xmpp::jid::FullJid;

/// One run of one process, its *incarnation*: never used again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

/// One session: never used again, so that a late change by an earlier holder of the resource is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u128);

/// The id by which a stream is resumed (XEP-0198 §5): 128 random bits, which only its client and the servers know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u128);

/// A bound resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The full JID that is bound.
    pub full: FullJid,
    /// The session that holds it.
    pub id: SessionId,
    /// Where the session lives.
    pub instance: InstanceId,
    /// The priority of its presence (RFC 6121 §4.7.2.3); `None` while it has sent no available presence.
    pub priority: Option<i8>,
    /// The available presence that it sent last, as it goes to others (portable form, `from` stamped). Also `None` where
    /// whoever read the record did not ask for it: see [`Registry::with_presence`](crate::Registry::with_presence).
    pub presence: Option<Arc<[u8]>>,
    /// It asked for the roster and gets its changes (RFC 6121 §2.2).
    pub roster: bool,
    /// It gets copies of what other resources send and receive (XEP-0280).
    pub carbons: bool,
    /// It asked for the block list and gets its changes (XEP-0191 §3.2).
    pub block_list: bool,
    /// Its active privacy list (XEP-0016 §2.4).
    pub active_list: Option<Arc<str>>,
    /// The stream by which its client can resume it.
    pub stream: Option<StreamId>,
}

impl SessionRecord {
    /// A session that was just bound.
    #[must_use]
    pub const fn new(full: FullJid, id: SessionId, instance: InstanceId) -> Self {
        Self {
            full,
            id,
            instance,
            priority: None,
            presence: None,
            roster: false,
            carbons: false,
            block_list: false,
            active_list: None,
            stream: None,
        }
    }

    /// Whether it takes messages to the bare JID (RFC 6121 §8.5.2.1.1: available, priority not negative).
    #[must_use]
    pub fn takes_messages(&self) -> bool {
        self.priority.is_some_and(|priority| priority >= 0)
    }
}

/// What a session changes in its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Its presence; `None`, `None`: it is no longer available.
    Presence {
        /// See [`SessionRecord::priority`].
        priority: Option<i8>,
        /// See [`SessionRecord::presence`].
        stanza: Option<Arc<[u8]>>,
    },
    /// Whether it gets changes of the roster.
    Roster(bool),
    /// Whether it gets copies.
    Carbons(bool),
    /// Whether it gets changes of the block list.
    BlockList(bool),
    /// Its active privacy list.
    ActiveList(Option<Arc<str>>),
    /// The stream by which it can be resumed.
    Stream(Option<StreamId>),
}

impl Update {
    /// Writes itself into `record`.
    pub fn apply(self, record: &mut SessionRecord) {
        match self {
            Self::Presence { priority, stanza } => {
                record.priority = priority;
                record.presence = stanza;
            }
            Self::Roster(roster) => record.roster = roster,
            Self::Carbons(carbons) => record.carbons = carbons,
            Self::BlockList(block_list) => record.block_list = block_list,
            Self::ActiveList(list) => record.active_list = list,
            Self::Stream(stream) => record.stream = stream,
        }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Whoever knows the id, and the account's password, takes the session: it does not stand in logs.
impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamId(…)")
    }
}
