//! The rows that a stopped server has left.

use starling_store::{Direction, Messages, RowState};

use crate::{
    Failure,
    journal::Message,
    verdict::{Kept, Rows},
    wire::DOMAIN,
};

/// Rows that are read at one time.
const PAGE: u32 = 1000;

/// What the recipients' rows say of each message. No server may run on them.
///
/// # Errors
/// If the store cannot be read, or holds what no client sent.
pub async fn read(store: &impl Messages, users: u32) -> Result<Rows, Failure> {
    let mut rows = Rows::new();
    for user in 0..users {
        let account = format!("user{user}@{DOMAIN}");
        let mut after = None;
        loop {
            let page = store.rows(&account, after, PAGE).await?;
            after = page.last().map(|row| row.id);
            for row in &page {
                if row.direction == Direction::Sent {
                    continue;
                }
                let message = message(&row.stanza).ok_or_else(|| format!("{account}: row {} is no message", row.id))?;
                // What was sent again has more than one row: one that waits is what matters.
                let kept = match row.state {
                    RowState::Delivered => Kept::Archived,
                    RowState::Pending | RowState::InFlight => Kept::Waiting,
                };
                if kept == Kept::Waiting || !rows.contains_key(&message) {
                    rows.insert(message, kept);
                }
            }
            if page.is_empty() {
                break;
            }
        }
    }
    Ok(rows)
}

/// The message's name, which its body begins with.
fn message(stanza: &[u8]) -> Option<Message> {
    let text = std::str::from_utf8(stanza).ok()?;
    let (_, body) = text.split_once("<body>")?;
    body.split([' ', '<']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use starling_store::{Account, Accounts as _, Change, MessageId, PutMode, Row, SqliteStore};

    use super::*;

    #[tokio::test]
    async fn the_recipients_rows_are_read_and_one_that_waits_counts() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("starling.db");
        let store = SqliteStore::open(&database).await.unwrap();
        let accounts: Vec<Account> = (0..2)
            .map(|user| Account {
                jid: format!("user{user}@{DOMAIN}").parse().unwrap(),
                credentials: Default::default(),
            })
            .collect();
        store.put(&accounts, PutMode::Create).await.unwrap();
        let stanza = |sequence: u32| format!("<message><body>chaos-0-1-{sequence} xx</body></message>").into_bytes();
        let stanzas = [stanza(0), stanza(1), stanza(2)];
        let row = |counter, account, index: usize, direction, state| {
            let (id, peer) = (MessageId::new(1, counter, 1), "peer@localhost");
            let stanza = &stanzas[index];
            Change::Put(Row { account, id, peer, direction, state, archived: true, holders: &[], origin: None, stanza })
        };
        let changes = [
            row(0, "user1@localhost", 0, Direction::Received, RowState::Delivered),
            row(1, "user1@localhost", 1, Direction::Received, RowState::Pending),
            row(2, "user1@localhost", 1, Direction::Received, RowState::Delivered),
            row(3, "user0@localhost", 2, Direction::Sent, RowState::Delivered),
        ];
        store.commit(&changes).await.unwrap();
        let name = |sequence| Message { from: 0, to: 1, sequence };
        let rows = read(&store, 2).await.unwrap();
        assert_eq!(rows, Rows::from([(name(0), Kept::Archived), (name(1), Kept::Waiting)]));
    }
}
