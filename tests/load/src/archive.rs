//! An archive that has grown before the server starts.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use starling_store::{Change, Direction, MessageId, Messages as _, Row, RowState, SqliteStore, Store as _};

use crate::Failure;

/// Rows of one transaction, or one read.
const GROUP: u64 = 1000;
/// Over which the messages are spread, up to now.
const SPAN: Duration = Duration::from_secs(30 * 24 * 3600);
const BODY: usize = 200;
/// The instance that gave these ids: none that runs.
const INSTANCE: u64 = 0;

/// Writes `rows` rows into a database that no server has open: what pairs of the first `users` users have sent each
/// other, a row for each end, all delivered.
pub(crate) async fn fill(database: &Path, users: usize, rows: u64) -> Result<(), Failure> {
    let store = SqliteStore::open(database).await?;
    let began = millis(SystemTime::now() - SPAN)?;
    let (messages, span) = (rows / 2, u64::try_from(SPAN.as_millis())?);
    let pairs = (users / 2).max(1) as u64;
    let body = "x".repeat(BODY);
    for first in (0..messages).step_by(usize::try_from(GROUP / 2)?) {
        let group: Vec<Archived> = (first..(first + GROUP / 2).min(messages))
            .map(|number| {
                let id = MessageId::new(began + number * span / messages, (number % 0x1_0000) as u16, INSTANCE);
                Archived::new(id, number % pairs, number, &body)
            })
            .collect();
        let changes: Vec<_> = group.iter().flat_map(Archived::rows).collect();
        store.commit(&changes).await?;
    }
    // Pair 0 has the first message, and so the most.
    let expected = usize::try_from(messages.div_ceil(pairs))?;
    let there = store.rows("user0@localhost", None, u32::try_from(expected + 1)?).await?.len();
    store.close().await;
    if there == expected { Ok(()) } else { Err(format!("{there} rows of user0, not {expected}").into()) }
}

/// How many rows the first `users` users have that came after `since`. A server may have the database open.
pub(crate) async fn count(database: &Path, users: usize, since: SystemTime) -> Result<u64, Failure> {
    let store = SqliteStore::open(database).await?;
    let since = id_at(since)?;
    let mut counted = 0;
    for user in 0..users {
        let (account, mut after) = (format!("user{user}@localhost"), Some(since));
        loop {
            let rows = store.rows(&account, after, GROUP as u32).await?;
            counted += rows.len() as u64;
            after = rows.last().map(|row| row.id);
            if (rows.len() as u64) < GROUP {
                break;
            }
        }
    }
    store.close().await;
    Ok(counted)
}

/// Ids of later messages are greater.
pub(crate) fn id_at(time: SystemTime) -> Result<MessageId, Failure> {
    Ok(MessageId::new(millis(time)?, 0, 0))
}

fn millis(time: SystemTime) -> Result<u64, Failure> {
    Ok(u64::try_from(time.duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// One message.
struct Archived {
    id: MessageId,
    from: String,
    to: String,
    stanza: String,
}

impl Archived {
    fn new(id: MessageId, pair: u64, number: u64, body: &str) -> Self {
        let (from, to) = (format!("user{}@localhost", 2 * pair), format!("user{}@localhost", 2 * pair + 1));
        let stanza = format!(
            "<message from='{from}/load' to='{to}/load' type='chat' id='old-{number}'><body>{body}</body></message>"
        );
        Self { id, from, to, stanza }
    }

    /// One for each end.
    fn rows(&self) -> [Change<'_>; 2] {
        let row = |account, peer, direction| {
            let (id, state, archived) = (self.id, RowState::Delivered, true);
            Change::Put(Row {
                account,
                id,
                peer,
                direction,
                state,
                archived,
                holders: &[],
                origin: None,
                stanza: self.stanza.as_bytes(),
            })
        };
        [row(&self.from, &self.to, Direction::Sent), row(&self.to, &self.from, Direction::Received)]
    }
}
