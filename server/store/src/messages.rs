//! Messages: archive, offline store and crash journal in one table.

use std::{fmt, str::FromStr};

use async_trait::async_trait;

use crate::Error;

/// Names a message in the rows of its accounts: 48 bits of milliseconds since 1970, 16 bits to count within one, 64 bits
/// of the instance where it came in. So ids sort by time, and are unique without asking anyone. As text, and so as
/// XEP-0359 stanza-id: 32 hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u128);

impl MessageId {
    /// The `counter`th id of a millisecond (since 1970; 48 bits of it count) at an instance.
    #[must_use]
    pub const fn new(ms: u64, counter: u16, instance: u64) -> Self {
        Self(((ms as u128) << 80) | ((counter as u128) << 64) | instance as u128)
    }

    /// When it came in, in milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is no [`MessageId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 32 hexadecimal digits in lower case")]
pub struct NotAnId;

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return Err(NotAnId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NotAnId)
    }
}

/// Whose the message is, seen from the account of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The account sent it.
    Sent = 0,
    /// It was sent to the account.
    Received = 1,
}

/// Whether somebody must still get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
    /// Nobody must.
    Delivered = 0,
    /// It waits for a session of the account.
    Pending = 1,
    /// Sessions have it whose clients have not acknowledged it. After a crash it is pending.
    InFlight = 2,
}

/// Which stanza of a resumable stream (XEP-0198) a message was: a client whose server died sends again what it was told of
/// nothing, and by this it is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The id by which the stream is resumed.
    pub stream: u128,
    /// The client's own count, modulo 2^32.
    pub count: u32,
}

/// A row, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Whose it is: a bare JID.
    pub account: &'a str,
    /// The message.
    pub id: MessageId,
    /// The other side.
    pub peer: &'a str,
    /// See there.
    pub direction: Direction,
    /// See there.
    pub state: RowState,
    /// Whether it stays when it is delivered.
    pub archived: bool,
    /// The instances that have it, while it is in flight: see [`crate::Instances`]. One that has no right to it any more
    /// counts as one that has returned it: then, and if there are none, the row is pending. A store of one process does
    /// not ask.
    pub holders: &'a [u64],
    /// Of one that the account sent, what it was in its sender's stream, if that can be resumed.
    pub origin: Option<Origin>,
    /// The stanza in portable form.
    pub stanza: &'a [u8],
}

/// One change of the table.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Writes a row. If it is there already, only its state changes, and only to pending. Rows of addresses that are no
    /// account are left out.
    Put(Row<'a>),
    /// None of these instances has it any more, and no client does: if the row still says that one of them has it, it is
    /// pending, else nothing changes.
    Returned {
        /// Whose it is.
        account: &'a str,
        /// Which.
        id: MessageId,
        /// Who had it.
        holders: &'a [u64],
    },
    /// Another instance has it now: if the row still says that `from` has it.
    Held {
        /// Whose it is.
        account: &'a str,
        /// Which.
        id: MessageId,
        /// Who had it.
        from: u64,
        /// Who has it.
        to: u64,
    },
    /// A client has the message: its row says so if it is archived, and goes otherwise.
    Delivered {
        /// Whose it is.
        account: &'a str,
        /// Which.
        id: MessageId,
    },
}

/// A message that waited, handed to whoever claimed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRow {
    /// Which.
    pub id: MessageId,
    /// Who sent it.
    pub peer: String,
    /// Whether it stays when it is delivered.
    pub archived: bool,
    /// The stanza in portable form.
    pub stanza: Vec<u8>,
}

/// A row, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// The message.
    pub id: MessageId,
    /// The other side.
    pub peer: String,
    /// See there.
    pub direction: Direction,
    /// See there.
    pub state: RowState,
    /// Whether it stays when it is delivered.
    pub archived: bool,
    /// The stanza in portable form.
    pub stanza: Vec<u8>,
}

/// The table of messages. A row in flight says which instances have it (a *holder*, by the number of its incarnation); a
/// store of one process knows only one, and asks nobody which.
#[async_trait]
pub trait Messages: Send + Sync + 'static {
    /// Applies changes in their order, all or none.
    ///
    /// # Errors
    /// [`Error::Revoked`] if this instance has no right to write any more; nothing was written then.
    async fn commit(&self, changes: &[Change<'_>]) -> Result<(), Error>;

    /// How many messages wait for the account, counted up to `at_most`.
    async fn pending(&self, account: &str, at_most: u32) -> Result<u32, Error>;

    /// For each of the accounts, whether messages wait for it.
    async fn waiting(&self, accounts: &[&str]) -> Result<Vec<bool>, Error>;

    /// Takes messages that wait for the account, the oldest first: they are in flight from then on, and this instance has
    /// them. At most `limit`, and no more when there are `bytes` of them.
    async fn claim(&self, account: &str, limit: u32, bytes: usize) -> Result<Vec<PendingRow>, Error>;

    /// Takes these of the messages that wait for the account, the oldest first, as far as they do.
    async fn claim_these(&self, account: &str, ids: &[MessageId]) -> Result<Vec<PendingRow>, Error>;

    /// An instance is no more: what it had in flight waits. Up to `limit` messages; the accounts that they are for, each
    /// once. To be called until there are none.
    async fn release(&self, holder: u64, limit: u32) -> Result<Vec<String>, Error>;

    /// The same for the messages of one account, all of them; which.
    async fn release_account(&self, account: &str, holder: u64) -> Result<Vec<MessageId>, Error>;

    /// Which stanzas of a stream are in the account's archived rows, as sent by it: their counts, and the stanzas in portable
    /// form, of those behind `since`.
    async fn sent(&self, account: &str, stream: u128, since: MessageId) -> Result<Vec<(u32, Vec<u8>)>, Error>;

    /// Deletes up to `limit` delivered messages that are older than `before`. How many.
    async fn expire(&self, before: MessageId, limit: u32) -> Result<u64, Error>;

    /// Up to `limit` rows of an account behind `after`, by id.
    async fn rows(&self, account: &str, after: Option<MessageId>, limit: u32) -> Result<Vec<StoredRow>, Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_then_count_then_instance_and_so_do_their_texts() {
        let ids = [
            MessageId::new(0, 0, 1),
            MessageId::new(0, 1, 0),
            MessageId::new(1, 0, 0),
            MessageId::new(1, u16::MAX, 0),
            MessageId::new(1, u16::MAX, u64::MAX),
            MessageId::new(2, 0, 0),
            MessageId::new((1 << 48) - 1, u16::MAX, u64::MAX),
        ];
        assert!(ids.is_sorted());
        assert!(ids.map(|id| id.to_string()).is_sorted());
        assert_eq!(ids.map(MessageId::millis), [0, 0, 1, 1, 1, 2, (1 << 48) - 1]);
    }

    #[test]
    fn xep0359_an_id_is_read_back_from_its_text_and_from_no_other() {
        let id = MessageId::new(0x0123_4567_89ab, 0xcdef, 0x0011_2233_4455_6677);
        assert_eq!(id.to_string(), "0123456789abcdef0011223344556677");
        assert_eq!(id.to_string().parse(), Ok(id));
        let others = [
            "",
            "1",
            "0123456789ABCDEF0011223344556677",
            "+123456789abcdef0011223344556677",
            "0123456789abcdef00112233445566770",
            "0123456789abcdef001122334455667g",
            "\u{e9}23456789abcdef0011223344556677",
        ];
        for other in others {
            assert_eq!(other.parse::<MessageId>(), Err(NotAnId), "{other}");
        }
    }
}
