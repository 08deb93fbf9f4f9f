//! Streams that can be resumed on whichever instance their client reaches next (XEP-0198 §5).
//!
//! ```text
//!                    save(fence): h, state, details — refused once somebody else has taken it
//!                      ┌──┐
//!   open(owner A) ──►  └─ Live ◄──► Detached ── take(by B) ──► owner B, previous A, fence + 1 ── settle ──► Live at B
//!                              └──────────────── close ──► Ended: remembers h for a while
//! ```
//!
//! One process needs none of it: its sessions pass from task to task. There the trait does nothing.

use async_trait::async_trait;
use starling_xmpp::jid::{BareJid, FullJid};

use crate::{Error, InstanceId, SessionId, StreamId};

/// Says who may change a stream's record: it rises each time that somebody takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// What a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// Its client is connected, as far as its owner knows.
    Live,
    /// Its client is not; it ends at this time (milliseconds since 1970) unless it is resumed.
    Detached {
        /// See there.
        until: u64,
    },
    /// It cannot be resumed any more. The record stays for a while, for its `h`.
    Ended,
}

/// What the registry holds about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// By which it is resumed.
    pub id: StreamId,
    /// The full JID of its session.
    pub full: FullJid,
    /// Its session.
    pub session: SessionId,
    /// Who has it.
    pub owner: InstanceId,
    /// Who had it before, while what it had is on its way to the owner.
    pub previous: Option<InstanceId>,
    /// See there.
    pub fence: Fence,
    /// See there.
    pub state: StreamState,
    /// How many of its client's stanzas are safe, modulo 2^32: no less was ever announced.
    pub h: u32,
    /// For how many seconds after its connection was cut it can be resumed.
    pub seconds: u32,
    /// What whoever resumes it wants to find: whoever writes it gives it a version.
    pub details: Vec<u8>,
}

/// A change of a stream's record by its owner. `None`: as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamSave {
    /// See [`StreamRecord::h`].
    pub h: Option<u32>,
    /// See [`StreamRecord::state`].
    pub state: Option<StreamState>,
    /// See [`StreamRecord::details`].
    pub details: Option<Vec<u8>>,
}

/// The records of streams. Changes compare before they act: only the owner, with the fence that it was given, changes
/// anything.
#[async_trait]
pub trait Streams: Send + Sync + 'static {
    /// Whether streams are known beyond this process: where not, nothing here does anything, and nobody can take one.
    fn are_shared(&self) -> bool;

    /// Writes the record of a new stream, or again that of one that the registry has lost, and its id into that of its
    /// session. Nothing is written where the session is no longer bound here, or somebody has taken the stream: which saving
    /// tells.
    async fn open_stream(&self, record: &StreamRecord) -> Result<(), Error>;

    /// Changes the records of many streams, in one round trip. For each, whether it was still its owner's; a record that
    /// the registry has lost is not written again by this, and is not its owner's then.
    async fn save_streams(&self, saves: &[(&BareJid, StreamId, Fence, StreamSave)]) -> Result<Vec<bool>, Error>;

    /// Makes this instance the owner, whoever it was, and returns the record with the owner that it had before: as
    /// `previous`, unless an earlier hand-over was not over, whose `previous` stays. An ended one is returned as it is,
    /// and not taken. `None`: there is no such stream of this account.
    async fn take_stream(&self, account: &BareJid, id: StreamId) -> Result<Option<StreamRecord>, Error>;

    /// What [`Streams::take_stream`] began is over: `previous` is forgotten, the stream is live, and its session lives here.
    /// `false`: somebody else has taken it meanwhile, or the session is no longer bound. After an error it is to be called
    /// again: it may have been done.
    async fn settle_stream(&self, record: &StreamRecord) -> Result<bool, Error>;

    /// The stream has ended, by its owner's word; its `h` is remembered for a while. `false`: it was no longer its owner's.
    async fn close_stream(&self, account: &BareJid, id: StreamId, fence: Fence, h: u32) -> Result<bool, Error>;

    /// The record as it is. `None`: there is none.
    async fn stream(&self, account: &BareJid, id: StreamId) -> Result<Option<StreamRecord>, Error>;
}
