//! A group of changes, as the arrays that one statement takes: what it costs does not depend on their number by much.

use std::collections::HashMap;

use sqlx::{Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::instances::bits;
use crate::{Change, MessageId, Origin, Row, RowState};

pub(super) const COMMIT: &str = "\
    SELECT message_commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
    $18, $19, $20, $21, $22, $23)";

/// Ids are stored as they are, the highest byte first.
pub(super) const fn uuid(id: MessageId) -> Uuid {
    Uuid::from_u128(id.0)
}

fn origin_bytes(origin: Origin) -> Vec<u8> {
    [&origin.stream.to_be_bytes()[..], &origin.count.to_be_bytes()].concat()
}

/// Changes that are applied together: see `message_commit`. The same as one by one.
#[derive(Default)]
pub(super) struct Round<'c> {
    /// Addresses, each once, and their places.
    accounts: Vec<&'c str>,
    places: HashMap<&'c str, i32>,
    seen: HashMap<Key, Seen>,
    rows: Vec<(i32, Row<'c>)>,
    held: Vec<(Key, u64, u64)>,
    returned: Vec<(Key, u64)>,
    delivered: Vec<Key>,
}

/// The place of the account, counted from 1, and the message.
type Key = (i32, MessageId);

/// What the round has of a message.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// The position of its row.
    row: Option<usize>,
    /// It was held by another, returned or delivered.
    settled: bool,
    delivered: bool,
}

/// Cuts changes into rounds, in most cases one.
pub(super) fn rounds<'c>(changes: &[Change<'c>]) -> Vec<Round<'c>> {
    let mut rounds = vec![Round::default()];
    for change in changes {
        if let Some(round) = rounds.last_mut()
            && !round.add(change)
        {
            let mut next = Round::default();
            next.add(change);
            rounds.push(next);
        }
    }
    rounds.retain(|round| !round.is_empty());
    rounds
}

impl<'c> Round<'c> {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.held.is_empty() && self.returned.is_empty() && self.delivered.is_empty()
    }

    /// `false`: it would have to be applied before what is there already; an empty round takes everything.
    fn add(&mut self, change: &Change<'c>) -> bool {
        match *change {
            Change::Put(row) => return self.put(row),
            Change::Held { account, id, from, to } => {
                let Some(key) = self.key(account, id) else { return true };
                let seen = self.seen.entry(key).or_default();
                if seen.settled {
                    return false;
                }
                seen.settled = true;
                self.held.push((key, from, to));
            }
            Change::Returned { account, id, holders } => {
                let Some(key) = self.key(account, id) else { return true };
                // Behind a delivery it changes nothing, and before it neither.
                self.seen.entry(key).or_default().settled = true;
                self.returned.extend(holders.iter().map(|holder| (key, *holder)));
            }
            Change::Delivered { account, id } => {
                let Some(key) = self.key(account, id) else { return true };
                let seen = self.seen.entry(key).or_default();
                seen.settled = true;
                if !seen.delivered {
                    seen.delivered = true;
                    self.delivered.push(key);
                }
            }
        }
        true
    }

    fn put(&mut self, row: Row<'c>) -> bool {
        // Nobody must get it, and nobody wants it kept.
        if row.state == RowState::Delivered && !row.archived {
            return true;
        }
        let Some(key) = self.key(row.account, row.id) else { return true };
        let seen = self.seen.entry(key).or_default();
        if seen.settled {
            return false;
        }
        match seen.row.and_then(|position| self.rows.get_mut(position)) {
            // Once more: it can only become pending.
            Some((_, first)) if row.state == RowState::Pending => first.state = RowState::Pending,
            Some(_) => {}
            None => {
                seen.row = Some(self.rows.len());
                self.rows.push((key.0, row));
            }
        }
        true
    }

    /// `None`: no account has such an address, since the database could not even be asked for it.
    fn key(&mut self, account: &'c str, id: MessageId) -> Option<Key> {
        if let Some(place) = self.places.get(account) {
            return Some((*place, id));
        }
        if !super::is_text(account) {
            return None;
        }
        self.accounts.push(account);
        let place = i32::try_from(self.accounts.len()).ok()?;
        self.places.insert(account, place);
        Some((place, id))
    }

    /// The statement that applies it. `careful`: rows may be there already.
    pub(super) fn statement(&self, own: u64, careful: bool) -> Query<'_, Postgres, PgArguments> {
        self.bind(sqlx::query(COMMIT), own, careful)
    }

    /// Binds what [`COMMIT`] takes.
    pub(super) fn bind<'q>(
        &'q self,
        query: Query<'q, Postgres, PgArguments>,
        own: u64,
        careful: bool,
    ) -> Query<'q, Postgres, PgArguments> {
        // Locks are taken in this order by all, or two groups could wait for each other.
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_unstable_by_key(|(_, row)| (row.account, row.id));
        let mut open = Vec::new();
        for ((_, row), place) in rows.iter().zip(1..) {
            match row.state {
                RowState::Delivered => {}
                RowState::InFlight if !row.holders.is_empty() => {
                    open.extend(row.holders.iter().map(|holder| (place, bits(*holder))));
                }
                RowState::Pending | RowState::InFlight => open.push((place, 0)),
            }
        }
        open.sort_unstable();
        open.dedup();
        let mut named: Vec<_> = open.iter().map(|(_, holder)| *holder).filter(|holder| *holder != 0).collect();
        named.extend(self.held.iter().map(|(.., to)| bits(*to)));
        named.push(bits(own));
        named.sort_unstable();
        named.dedup();
        let mut returned: Vec<_> = self.returned.iter().collect();
        let mut delivered: Vec<_> = self.delivered.iter().collect();
        let by_name = |(place, id): Key| (self.account(place), id);
        returned.sort_by_key(|(key, _)| by_name(*key));
        delivered.sort_by_key(|key| by_name(**key));

        let places = |keys: &mut dyn Iterator<Item = Key>| keys.map(|(place, _)| place).collect::<Vec<i32>>();
        let ids = |keys: &mut dyn Iterator<Item = Key>| keys.map(|(_, id)| uuid(id)).collect::<Vec<Uuid>>();
        query
            .bind(bits(own))
            .bind(named)
            .bind(careful)
            .bind(self.accounts.as_slice())
            .bind(rows.iter().map(|(place, _)| *place).collect::<Vec<i32>>())
            .bind(rows.iter().map(|(_, row)| uuid(row.id)).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| super::text(row.peer)).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.direction as i16).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.archived).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.state == RowState::Pending).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.origin.map(origin_bytes)).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, row)| row.stanza).collect::<Vec<_>>())
            .bind(open.iter().map(|(place, _)| *place).collect::<Vec<i32>>())
            .bind(open.iter().map(|(_, holder)| *holder).collect::<Vec<i64>>())
            .bind(places(&mut self.held.iter().map(|(key, ..)| *key)))
            .bind(ids(&mut self.held.iter().map(|(key, ..)| *key)))
            .bind(self.held.iter().map(|(_, from, _)| bits(*from)).collect::<Vec<_>>())
            .bind(self.held.iter().map(|(.., to)| bits(*to)).collect::<Vec<_>>())
            .bind(places(&mut returned.iter().map(|(key, _)| *key)))
            .bind(ids(&mut returned.iter().map(|(key, _)| *key)))
            .bind(returned.iter().map(|(_, holder)| bits(*holder)).collect::<Vec<_>>())
            .bind(places(&mut delivered.iter().map(|key| **key)))
            .bind(ids(&mut delivered.iter().map(|key| **key)))
    }

    fn account(&self, place: i32) -> &'c str {
        let position = usize::try_from(place - 1).unwrap_or_default();
        self.accounts.get(position).copied().unwrap_or_default()
    }
}
