//! Rules of messages.

#![allow(clippy::unwrap_used, reason = "called by tests alone")]

use std::collections::BTreeMap;

use super::{bare, fresh};
use crate::{
    Change, Direction, MessageId, Origin, Row,
    RowState::{self, Delivered, InFlight, Pending},
    Store,
};

pub(super) async fn run(store: &dyn Store) {
    a_row_is_read_back_whole(store).await;
    a_row_that_is_there_can_only_become_pending(store).await;
    what_is_delivered_stays_only_in_the_archive(store).await;
    what_comes_back_waits_unless_a_client_has_it(store).await;
    what_a_stream_sent_is_known_by_its_count(store).await;
    a_group_is_as_its_changes_one_by_one(store).await;
    only_accounts_have_rows(store).await;
    what_waits_is_counted_up_to_a_bound(store).await;
    who_claims_gets_the_oldest_first(store).await;
    some_are_claimed_by_their_ids_as_far_as_they_wait(store).await;
    what_was_in_flight_waits_after_a_crash(store).await;
    only_what_is_old_archived_and_delivered_expires(store).await;
    rows_are_paged_in_order_however_they_came(store).await;
}

/// The instance that the suite's store is of: whatever it claims is held by it.
pub(super) const INSTANCE: u64 = 0xfeed_0000_0000_0001;
const HOLDERS: &[u64] = &[INSTANCE];

const fn id(number: u64) -> MessageId {
    MessageId::new(1_700_000_000_000 + number, 7, u64::MAX)
}

fn row(account: &str, number: u64, state: RowState, archived: bool) -> Row<'_> {
    let (peer, direction) = ("romeo@example.net/orchard", Direction::Received);
    let holders = if state == InFlight { HOLDERS } else { &[] };
    let stanza = b"<message/>";
    Row { account, id: id(number), peer, direction, state, archived, holders, origin: None, stanza }
}

async fn commit(store: &dyn Store, changes: &[Change<'_>]) {
    store.commit(changes).await.unwrap();
}

async fn put(store: &dyn Store, account: &str, number: u64, state: RowState, archived: bool) {
    commit(store, &[Change::Put(row(account, number, state, archived))]).await;
}

async fn states(store: &dyn Store, account: &str) -> Vec<(u64, RowState)> {
    let rows = store.rows(account, None, 1_000_000).await.unwrap();
    rows.iter().map(|row| (row.id.millis() - 1_700_000_000_000, row.state)).collect()
}

async fn a_row_is_read_back_whole(store: &dyn Store) {
    fresh(store, "whole@messages").await;
    let everything: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let ids = [MessageId(1), id(1), id(2), MessageId(u128::MAX)];
    let peers = ["a@example.net/\u{1f600}'\"", "example.net", "room@rooms.example.net/Juliet", "whole@messages/x"];
    let shapes = [
        (Direction::Sent, Delivered, true, &everything[..]),
        (Direction::Received, Pending, false, b"<message/>"),
        (Direction::Received, InFlight, true, b""),
        (Direction::Received, Delivered, true, b"\0"),
    ];
    let rows: Vec<_> = ids
        .iter()
        .zip(peers)
        .zip(shapes)
        .map(|((id, peer), (direction, state, archived, stanza))| Row {
            account: "whole@messages",
            id: *id,
            peer,
            direction,
            state,
            archived,
            holders: if state == InFlight { HOLDERS } else { &[] },
            origin: None,
            stanza,
        })
        .collect();
    let changes: Vec<_> = rows.iter().rev().map(|row| Change::Put(*row)).collect();
    commit(store, &changes).await;
    commit(store, &[]).await;
    let stored = store.rows("whole@messages", None, 10).await.unwrap();
    assert_eq!(stored.len(), rows.len());
    for (stored, row) in stored.iter().zip(&rows) {
        let said = (stored.id, &*stored.peer, stored.direction, stored.state, stored.archived, &*stored.stanza);
        assert_eq!(said, (row.id, row.peer, row.direction, row.state, row.archived, row.stanza));
    }
}

async fn a_row_that_is_there_can_only_become_pending(store: &dyn Store) {
    let table = [
        (Delivered, Delivered, Delivered),
        (Delivered, InFlight, Delivered),
        (Delivered, Pending, Pending),
        (InFlight, Delivered, InFlight),
        (InFlight, InFlight, InFlight),
        (InFlight, Pending, Pending),
        (Pending, Delivered, Pending),
        (Pending, InFlight, Pending),
        (Pending, Pending, Pending),
    ];
    // In one group and in two.
    for together in [true, false] {
        fresh(store, "again@messages").await;
        for (number, (before, put_again, after)) in (0..).zip(table) {
            let first = Change::Put(row("again@messages", number, before, true));
            let other = Row {
                peer: "other@example.net",
                stanza: b"other",
                archived: false,
                ..row("again@messages", number, put_again, true)
            };
            let changes = [first, Change::Put(other)];
            for changes in changes.chunks(if together { 2 } else { 1 }) {
                commit(store, changes).await;
            }
            let stored = store.rows("again@messages", None, 100).await.unwrap();
            let stored = stored.last().unwrap();
            assert_eq!(stored.state, after, "{before:?}, then {put_again:?}");
            assert_eq!((&*stored.stanza, stored.archived), (&b"<message/>"[..], true), "nothing else changes");
            assert_eq!(stored.peer, "romeo@example.net/orchard");
        }
    }
}

async fn what_is_delivered_stays_only_in_the_archive(store: &dyn Store) {
    fresh(store, "delivered@messages").await;
    let account = "delivered@messages";
    for (number, state) in (0..).zip([Pending, InFlight, Delivered]) {
        for archived in [true, false] {
            let number = 2 * number + u64::from(archived);
            put(store, account, number, state, archived).await;
            commit(store, &[Change::Delivered { account, id: id(number) }]).await;
            // Unknown by now, or known to be delivered: nothing happens.
            commit(store, &[Change::Delivered { account, id: id(number) }]).await;
        }
    }
    assert_eq!(states(store, account).await, [(1, Delivered), (3, Delivered), (5, Delivered)]);
    // Another account's row is another row.
    fresh(store, "other@messages").await;
    put(store, "other@messages", 7, Pending, false).await;
    commit(store, &[Change::Delivered { account, id: id(7) }]).await;
    assert_eq!(states(store, "other@messages").await, [(7, Pending)]);
}

async fn what_comes_back_waits_unless_a_client_has_it(store: &dyn Store) {
    let account = "returned@messages";
    fresh(store, account).await;
    let returned = |number| Change::Returned { account, id: id(number), holders: HOLDERS };
    for (number, state) in (0..).zip([Delivered, Pending, InFlight, InFlight]) {
        put(store, account, number, state, true).await;
    }
    commit(store, &[Change::Delivered { account, id: id(3) }]).await;
    for _ in 0..2 {
        commit(store, &(0..5).map(returned).collect::<Vec<_>>()).await;
        assert_eq!(states(store, account).await, [(0, Delivered), (1, Pending), (2, Pending), (3, Delivered)]);
    }
    // In one group, in the order in which they come.
    let (put, delivered) = (row(account, 7, InFlight, true), Change::Delivered { account, id: id(7) });
    commit(store, &[Change::Put(put), returned(7), delivered, returned(7)]).await;
    assert_eq!(states(store, account).await.last(), Some(&(7, Delivered)));
    let put = row(account, 8, InFlight, false);
    commit(store, &[Change::Put(put), returned(8)]).await;
    assert_eq!(states(store, account).await.last(), Some(&(8, Pending)));
}

/// A stream can be resumed after its server died: then what it had sent is recognised.
async fn what_a_stream_sent_is_known_by_its_count(store: &dyn Store) {
    let account = "origin@messages";
    fresh(store, account).await;
    let sent = |number, stream, count| {
        let origin = Some(Origin { stream, count });
        Change::Put(Row { direction: Direction::Sent, origin, ..row(account, number, Delivered, true) })
    };
    let changes = [sent(1, 7, 1), sent(2, u128::MAX, 2), sent(3, 7, u32::MAX), sent(4, 7, 0), sent(5, 8, 9)];
    commit(store, &changes).await;
    put(store, account, 6, Delivered, true).await;
    let counts = |stream, since| async move {
        let sent = store.sent(account, stream, since).await.unwrap();
        let mut counts: Vec<_> = sent.into_iter().map(|(count, _)| count).collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(counts(7, MessageId(0)).await, [0, 1, u32::MAX]);
    assert_eq!(counts(7, id(1)).await, [0, u32::MAX]);
    assert_eq!(counts(u128::MAX, MessageId(0)).await, [2]);
    assert_eq!(counts(9, MessageId(0)).await, [0; 0]);
    assert_eq!(store.sent(account, 8, MessageId(0)).await.unwrap(), [(9, b"<message/>".to_vec())]);
    assert_eq!(store.sent("nobody@messages", 7, MessageId(0)).await.unwrap(), []);
}

/// Whoever takes a session over wants what its client does not have, and nothing else.
async fn some_are_claimed_by_their_ids_as_far_as_they_wait(store: &dyn Store) {
    let account = "these@messages";
    fresh(store, account).await;
    fresh(store, "others@messages").await;
    for (number, state) in [(1, Pending), (2, InFlight), (3, Pending), (4, Delivered), (5, Pending), (6, Pending)] {
        put(store, account, number, state, true).await;
    }
    put(store, "others@messages", 7, Pending, true).await;
    let claim = |numbers: &'static [u64]| async move {
        let ids: Vec<_> = numbers.iter().copied().map(id).collect();
        let claimed = store.claim_these(account, &ids).await.unwrap();
        assert!(claimed.iter().all(|row| row.stanza == b"<message/>" && row.archived));
        claimed.iter().map(|row| row.id.millis() - 1_700_000_000_000).collect::<Vec<_>>()
    };
    assert_eq!(claim(&[6, 3, 4, 2, 7, 9, 1]).await, [1, 3, 6]);
    assert_eq!(claim(&[6, 3, 1]).await, [0; 0], "once");
    assert_eq!(claim(&[]).await, [0; 0]);
    let expected = [(1, InFlight), (2, InFlight), (3, InFlight), (4, Delivered), (5, Pending), (6, InFlight)];
    assert_eq!(states(store, account).await, expected);
}

/// What the changes must come to, one by one.
#[derive(Default)]
struct Model(BTreeMap<(String, u64), (RowState, bool)>);

impl Model {
    fn put(&mut self, account: &str, number: u64, state: RowState, archived: bool) {
        let key = (account.to_owned(), number);
        match self.0.get_mut(&key) {
            Some(row) if state == Pending => row.0 = Pending,
            Some(_) => {}
            None if state == Delivered && !archived => {}
            None => drop(self.0.insert(key, (state, archived))),
        }
    }

    fn delivered(&mut self, account: &str, number: u64) {
        let key = (account.to_owned(), number);
        match self.0.get_mut(&key) {
            Some((state, true)) => *state = Delivered,
            Some((_, false)) => drop(self.0.remove(&key)),
            None => {}
        }
    }
}

async fn a_group_is_as_its_changes_one_by_one(store: &dyn Store) {
    let accounts = ["one@group.messages", "two@group.messages"];
    for account in accounts {
        fresh(store, account).await;
    }
    let mut model = Model::default();
    // A generator of Knuth's: the same groups each time.
    let mut seed = 1_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..60 {
        let mut changes = Vec::new();
        for _ in 0..next(300) {
            let account = accounts[next(2) as usize];
            let number = next(60) + 10 * round;
            let archived = number % 3 != 0;
            let state = [Delivered, Pending, InFlight][next(3) as usize];
            if next(3) == 0 {
                model.delivered(account, number);
                changes.push(Change::Delivered { account, id: id(number) });
            } else {
                model.put(account, number, state, archived);
                changes.push(Change::Put(row(account, number, state, archived)));
            }
        }
        commit(store, &changes).await;
        for account in accounts {
            let expected = model.0.iter().filter(|((of, _), _)| of == account);
            let expected: Vec<_> = expected.map(|((_, number), (state, _))| (*number, *state)).collect();
            assert_eq!(states(store, account).await, expected, "round {round}, {account}");
        }
    }
}

async fn only_accounts_have_rows(store: &dyn Store) {
    fresh(store, "somebody@messages").await;
    let accounts =
        ["nobody@messages", "somebody@messages", "", "SOMEBODY@messages", "somebody@messages/x", "somebody@messages\0"];
    let changes = accounts.map(|account| Change::Put(row(account, 1, Pending, true)));
    commit(store, &changes).await;
    for account in accounts {
        let expected: &[_] = if account == "somebody@messages" { &[(1, Pending)] } else { &[] };
        assert_eq!(states(store, account).await, expected, "{account}");
    }
    // Rows go with their account, whatever their state.
    for (number, state) in (2..).zip([Pending, InFlight, Delivered]) {
        put(store, "somebody@messages", number, state, true).await;
    }
    put(store, "somebody@messages", 9, InFlight, false).await;
    fresh(store, "stays@messages").await;
    put(store, "stays@messages", 1, Pending, true).await;
    store.remove(&bare("somebody@messages")).await.unwrap();
    put(store, "somebody@messages", 10, Pending, true).await;
    assert_eq!(states(store, "somebody@messages").await, []);
    fresh(store, "somebody@messages").await;
    assert_eq!(states(store, "somebody@messages").await, []);
    assert_eq!(store.pending("somebody@messages", 10).await.unwrap(), 0);
    assert_eq!(states(store, "stays@messages").await, [(1, Pending)]);
}

async fn what_waits_is_counted_up_to_a_bound(store: &dyn Store) {
    fresh(store, "count@messages").await;
    for number in 0..10 {
        let state = [Pending, InFlight, Delivered][number as usize % 3];
        put(store, "count@messages", number, state, true).await;
    }
    assert_eq!(store.pending("count@messages", 100).await.unwrap(), 4);
    assert_eq!(store.pending("count@messages", 4).await.unwrap(), 4);
    assert_eq!(store.pending("count@messages", 3).await.unwrap(), 3);
    assert_eq!(store.pending("count@messages", 0).await.unwrap(), 0);
    assert_eq!(store.pending("nobody@messages", 100).await.unwrap(), 0);
}

async fn who_claims_gets_the_oldest_first(store: &dyn Store) {
    let account = "claim@messages";
    fresh(store, account).await;
    fresh(store, "claims@messages").await;
    put(store, "claims@messages", 0, Pending, true).await;
    for number in [5, 3, 9, 1, 7] {
        put(store, account, number, Pending, number != 3).await;
    }
    put(store, account, 2, InFlight, true).await;
    put(store, account, 4, Delivered, true).await;
    let claim = |limit, bytes| async move {
        let rows = store.claim(account, limit, bytes).await.unwrap();
        rows.iter().map(|row| row.id.millis() - 1_700_000_000_000).collect::<Vec<_>>()
    };
    assert_eq!(claim(0, 1000).await, [0; 0]);
    let first = store.claim(account, 2, 1000).await.unwrap();
    assert_eq!(first.iter().map(|row| (row.id, row.archived)).collect::<Vec<_>>(), [(id(1), true), (id(3), false)]);
    assert!(first.iter().all(|row| row.peer == "romeo@example.net/orchard" && row.stanza == b"<message/>"));
    // Stanzas of 10 bytes: the one that reaches the bound is the last, and there is always one.
    assert_eq!(claim(10, 0).await, [5]);
    assert_eq!(claim(10, 11).await, [7, 9]);
    assert_eq!(claim(10, 1000).await, [0; 0]);
    let expected =
        [(1, InFlight), (2, InFlight), (3, InFlight), (4, Delivered), (5, InFlight), (7, InFlight), (9, InFlight)];
    assert_eq!(states(store, account).await, expected);
    assert_eq!(store.pending("claims@messages", 10).await.unwrap(), 1, "only the account's");
    // Handed back, it waits again.
    put(store, account, 5, Pending, true).await;
    assert_eq!(claim(10, 1000).await, [5]);
}

async fn what_was_in_flight_waits_after_a_crash(store: &dyn Store) {
    let release = |limit| async move { store.release(INSTANCE, limit).await.unwrap() };
    while !release(1000).await.is_empty() {}
    fresh(store, "crash@messages").await;
    fresh(store, "crashed@messages").await;
    let all = [InFlight, Pending, Delivered, InFlight];
    for (number, state) in (0..).zip(all) {
        put(store, "crash@messages", number, state, true).await;
    }
    for number in 0..5 {
        put(store, "crashed@messages", number, InFlight, false).await;
    }
    assert_eq!(store.waiting(&["crashed@messages", "crash@messages", "no@b"]).await.unwrap(), [false, true, false]);
    assert_eq!(store.release_account("crashed@messages", INSTANCE).await.unwrap().len(), 5);
    assert_eq!(store.release_account("crashed@messages", INSTANCE).await.unwrap(), []);
    assert_eq!(store.waiting(&["crashed@messages", "no@b"]).await.unwrap(), [true, false]);
    assert_eq!(store.claim("crashed@messages", 100, 1000).await.unwrap().len(), 5);
    let mut released = Vec::new();
    while let accounts = release(3).await
        && !accounts.is_empty()
    {
        released.extend(accounts);
    }
    released.sort_unstable();
    released.dedup();
    assert_eq!(released, ["crash@messages", "crashed@messages"]);
    assert_eq!(store.pending("crashed@messages", 10).await.unwrap(), 5);
    assert_eq!(states(store, "crash@messages").await, [(0, Pending), (1, Pending), (2, Delivered), (3, Pending)]);
}

async fn only_what_is_old_archived_and_delivered_expires(store: &dyn Store) {
    let account = "expire@messages";
    while store.expire(MessageId(u128::MAX), 1000).await.unwrap() > 0 {}
    fresh(store, account).await;
    for number in 0..10 {
        put(store, account, number, Delivered, true).await;
    }
    put(store, account, 3, Pending, true).await;
    put(store, account, 20, InFlight, true).await;
    put(store, account, 21, Pending, false).await;
    assert_eq!(store.expire(id(8), 3).await.unwrap(), 3, "the oldest first");
    let numbers = |states: Vec<(u64, RowState)>| states.into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(numbers(states(store, account).await), [3, 4, 5, 6, 7, 8, 9, 20, 21]);
    assert_eq!(store.expire(id(8), 100).await.unwrap(), 4);
    assert_eq!(store.expire(id(8), 100).await.unwrap(), 0);
    assert_eq!(numbers(states(store, account).await), [3, 8, 9, 20, 21]);
    assert_eq!(store.expire(MessageId(u128::MAX), 100).await.unwrap(), 2);
    assert_eq!(numbers(states(store, account).await), [3, 20, 21]);
}

/// So many, and from so many times, that whatever the store keeps to find an account's rows is there in parts.
async fn rows_are_paged_in_order_however_they_came(store: &dyn Store) {
    let accounts = ["a@paged.messages", "b@paged.messages", "c@paged.messages"];
    for account in accounts {
        fresh(store, account).await;
    }
    // The clock goes back now and then, and single rows come late.
    let number = |count: u64| match count % 50 {
        0 => count / 2,
        1 => count + 3000,
        _ => count + if count > 10_000 { 0 } else { 5000 },
    };
    let mut model = Model::default();
    let mut changes = Vec::new();
    for count in 0..15_000 {
        let account = accounts[count as usize % 7 % 3];
        let state = if count % 100 == 3 { Pending } else { Delivered };
        let archived = state == Delivered || count % 200 == 3;
        model.put(account, number(count), state, archived);
        changes.push(Change::Put(row(account, number(count), state, archived)));
        if count % 500 == 499 {
            commit(store, &changes).await;
            changes.clear();
        }
    }
    let check = async |model: &Model| {
        for account in accounts {
            let mut paged = Vec::new();
            loop {
                let page = store.rows(account, paged.last().map(|(number, _)| id(*number)), 97).await.unwrap();
                assert!(page.len() <= 97);
                if page.is_empty() {
                    break;
                }
                paged.extend(page.iter().map(|row| (row.id.millis() - 1_700_000_000_000, row.state)));
            }
            let expected = model.0.iter().filter(|((of, _), _)| of == account);
            let expected: Vec<_> = expected.map(|((_, number), (state, _))| (*number, *state)).collect();
            assert_eq!(paged, expected, "{account}");
        }
    };
    check(&model).await;
    while store.expire(id(4000), 700).await.unwrap() > 0 {}
    model.0.retain(|(_, number), (state, _)| *number >= 4000 || *state != Delivered);
    check(&model).await;
    // Later than what is gone, older than all that is there.
    for number in [17, 3999] {
        put(store, accounts[0], number, Delivered, true).await;
        model.put(accounts[0], number, Delivered, true);
    }
    check(&model).await;
    store.remove(&bare(accounts[1])).await.unwrap();
    fresh(store, accounts[1]).await;
    model.0.retain(|(account, _), _| account != accounts[1]);
    check(&model).await;
}
