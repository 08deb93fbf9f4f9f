//! Rules of stores that several instances have opened on the same database.

#![allow(clippy::unwrap_used, clippy::panic, reason = "called by tests alone")]

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::{account, bare, fresh};
use crate::{
    Change, Direction, Error, ItemChange, ItemChanged, MessageId, PutMode, RosterItem, Row,
    RowState::{self, Delivered, InFlight, Pending},
    Store, Subscription,
};

/// A store, and the number of its instance.
pub type Instance<'s> = (&'s dyn Store, u64);

/// Runs all rules of many instances against three of them, which may have been used before. The last is revoked then.
///
/// # Panics
/// If a rule is broken.
pub async fn run_many(instances: [Instance<'_>; 3]) {
    what_one_writes_the_others_read(instances).await;
    changes_at_the_same_time_come_one_after_the_other(instances).await;
    a_row_says_who_has_it(instances).await;
    changes_of_all_are_as_they_come(instances).await;
    a_message_is_handed_to_one_of_those_who_claim_it(instances).await;
    who_is_not_there_has_nothing(instances).await;
    who_is_revoked_writes_nothing_and_what_it_had_waits(instances).await;
}

const fn id(number: u64) -> MessageId {
    MessageId::new(1_700_000_000_000 + number, 7, 3)
}

fn row<'a>(account: &'a str, number: u64, state: RowState, archived: bool, holders: &'a [u64]) -> Change<'a> {
    let (peer, direction, stanza) = ("romeo@example.net/orchard", Direction::Received, b"<message/>");
    Change::Put(Row { account, id: id(number), peer, direction, state, archived, holders, origin: None, stanza })
}

const fn returned<'a>(account: &'a str, number: u64, holders: &'a [u64]) -> Change<'a> {
    Change::Returned { account, id: id(number), holders }
}

async fn states(store: &dyn Store, account: &str) -> Vec<(u64, RowState)> {
    let rows = store.rows(account, None, 1_000_000).await.unwrap();
    rows.iter().map(|row| (row.id.millis() - 1_700_000_000_000, row.state)).collect()
}

async fn state(store: &dyn Store, account: &str, number: u64) -> Option<RowState> {
    states(store, account).await.into_iter().find(|(of, _)| *of == number).map(|(_, state)| state)
}

async fn release_all(store: &dyn Store, holder: u64) -> BTreeSet<String> {
    let mut released = BTreeSet::new();
    while let accounts = store.release(holder, 7).await.unwrap()
        && !accounts.is_empty()
    {
        released.extend(accounts);
    }
    released
}

async fn others(store: &dyn Store) -> BTreeSet<u64> {
    store.others().await.unwrap().into_iter().collect()
}

fn item(contact: &str) -> RosterItem {
    RosterItem {
        contact: bare(contact),
        name: None,
        groups: Vec::new(),
        subscription: Subscription::None,
        ask: false,
        pending_in: None,
        approved: false,
        listed: true,
        version: 0,
    }
}

async fn what_one_writes_the_others_read([(a, _), (b, _), (c, _)]: [Instance<'_>; 3]) {
    let juliet = fresh(a, "juliet@instances").await;
    for mark in 1..4 {
        let changed = account("juliet@instances", mark);
        for store in [a, b, c] {
            store.put(std::slice::from_ref(&changed), PutMode::Replace).await.unwrap();
            for other in [a, b, c] {
                assert_eq!(other.credentials(&juliet).await.unwrap().as_ref(), Some(&changed.credentials));
            }
        }
    }
    b.commit(&[row("juliet@instances", 1, Pending, true, &[])]).await.unwrap();
    assert_eq!(a.pending("juliet@instances", 10).await.unwrap(), 1);
    assert!(b.put_document(&juliet, "private", "a", b"1", 100).await.unwrap());
    assert_eq!(c.document(&juliet, "private", "a").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(c.remove(&juliet).await.unwrap());
    assert!(!a.exists(&juliet).await.unwrap());
    assert_eq!(states(b, "juliet@instances").await, []);
}

async fn changes_at_the_same_time_come_one_after_the_other(instances: [Instance<'_>; 3]) {
    let stores = instances.map(|(store, _)| store);
    // Who is first makes it, and all have the same.
    let secrets = join_all(stores.iter().cycle().take(9).map(|store| store.secret("of all", 32))).await;
    let secrets: BTreeSet<_> = secrets.into_iter().map(Result::unwrap).collect();
    assert_eq!(secrets.len(), 1);
    // One of them creates it.
    let new = account("new@instances", 7);
    let created = stores.iter().map(|store| store.put(std::slice::from_ref(&new), PutMode::Create));
    let created: Vec<_> = join_all(created).await.into_iter().map(|left_out| left_out.unwrap().is_empty()).collect();
    assert_eq!(created.iter().filter(|created| **created).count(), 1);

    let juliet = fresh(stores[0], "busy@instances").await;
    let changes = (0..30).map(|number| {
        let (store, juliet) = (stores[number % 3], &juliet);
        async move {
            let contact = format!("contact{}@example.net", number % 5);
            let change = |_: Option<&RosterItem>| ItemChange::Put(item(&contact));
            match store.change_item(juliet, &bare(&contact), 1000, &change).await.unwrap() {
                ItemChanged::Changed { version, .. } => version,
                other => panic!("{other:?}"),
            }
        }
    });
    let versions: BTreeSet<_> = join_all(changes).await.into_iter().collect();
    assert_eq!(versions, (1..=30).collect::<BTreeSet<_>>(), "each its own");
    assert_eq!(stores[1].roster(&juliet).await.unwrap().version, 30);
    // As many bytes as there may be, whoever is first.
    let put = (0..12).map(|number| {
        let (store, juliet) = (stores[number % 3], &juliet);
        async move { store.put_document(juliet, "private", &number.to_string(), &[1; 30], 100).await.unwrap() }
    });
    assert_eq!(join_all(put).await.into_iter().filter(|put| *put).count(), 3);
}

async fn a_row_says_who_has_it([(a, at_a), (b, at_b), (_, at_c)]: [Instance<'_>; 3]) {
    let account = "holders@instances";
    fresh(a, account).await;
    let held = |number, from, to| Change::Held { account, id: id(number), from, to };
    // Several have it: it waits as soon as one has not any more.
    a.commit(&[row(account, 1, InFlight, true, &[at_a, at_b])]).await.unwrap();
    b.commit(&[returned(account, 1, &[at_c])]).await.unwrap();
    assert_eq!(state(a, account, 1).await, Some(InFlight), "who did not have it has nothing to return");
    b.commit(&[returned(account, 1, &[at_c, at_b])]).await.unwrap();
    assert_eq!(state(a, account, 1).await, Some(Pending));
    // The other has it as before; what waits is handed out only to those who have it not.
    assert_eq!(a.claim(account, 10, 1000).await.unwrap(), [], "it has it already, and it waits no more");
    assert_eq!(state(a, account, 1).await, Some(InFlight));
    assert_eq!(a.release(at_b, 10).await.unwrap(), [""; 0]);
    assert_eq!(a.release_account(account, at_a).await.unwrap().len(), 1);
    assert_eq!(b.claim(account, 10, 1000).await.unwrap().len(), 1);
    // Returned by all at once, it waits once.
    a.commit(&[row(account, 2, InFlight, false, &[at_a, at_b, at_c])]).await.unwrap();
    a.commit(&[returned(account, 2, &[at_a, at_b, at_c]), returned(account, 2, &[at_a])]).await.unwrap();
    assert_eq!(a.pending(account, 10).await.unwrap(), 1);
    b.commit(&[Change::Delivered { account, id: id(2) }]).await.unwrap();
    assert_eq!(state(a, account, 2).await, None);
    // It passes from one to the other.
    a.commit(&[row(account, 3, InFlight, true, &[at_a]), held(3, at_a, at_b)]).await.unwrap();
    a.commit(&[returned(account, 3, &[at_a])]).await.unwrap();
    assert_eq!(state(a, account, 3).await, Some(InFlight), "it has it no more");
    b.commit(&[held(3, at_a, at_c), held(3, at_b, at_c), held(3, at_c, at_a), held(3, at_c, at_b)]).await.unwrap();
    a.commit(&[returned(account, 3, &[at_b, at_c])]).await.unwrap();
    assert_eq!(state(a, account, 3).await, Some(InFlight));
    // To one that has it as well.
    a.commit(&[row(account, 4, InFlight, true, &[at_a, at_b]), held(4, at_a, at_b)]).await.unwrap();
    assert_eq!(a.release_account(account, at_a).await.unwrap(), [id(3)], "the third alone");
    a.commit(&[returned(account, 4, &[at_b])]).await.unwrap();
    assert_eq!(state(a, account, 4).await, Some(Pending));
    // What waits, or was delivered, nobody has; what a row says when it is written again changes nothing.
    a.commit(&[Change::Delivered { account, id: id(3) }, held(3, at_a, at_b), held(4, at_a, at_b)]).await.unwrap();
    a.commit(&[row(account, 3, InFlight, true, &[at_a]), row(account, 4, InFlight, true, &[at_a])]).await.unwrap();
    assert_eq!(state(a, account, 3).await, Some(Delivered));
    assert_eq!(state(a, account, 4).await, Some(Pending));
    // In flight at nobody: it waits.
    a.commit(&[row(account, 5, InFlight, true, &[])]).await.unwrap();
    assert_eq!(state(a, account, 5).await, Some(Pending));
    a.remove(&bare(account)).await.unwrap();
}

/// What the changes must come to: who has it, 0 for nobody yet.
#[derive(Default)]
struct Model(BTreeMap<u64, (bool, BTreeSet<u64>)>);

impl Model {
    fn apply(&mut self, change: &Change<'_>) {
        match *change {
            Change::Put(row) => {
                let number = row.id.millis() - 1_700_000_000_000;
                match self.0.get_mut(&number) {
                    Some((_, open)) if row.state == Pending => *open = BTreeSet::from([0]),
                    Some(_) => {}
                    None if row.state == Delivered && !row.archived => {}
                    None => {
                        let open = match row.state {
                            Delivered => BTreeSet::new(),
                            Pending => BTreeSet::from([0]),
                            InFlight => row.holders.iter().copied().collect(),
                        };
                        self.0.insert(number, (row.archived, open));
                    }
                }
            }
            Change::Returned { id, holders, .. } => {
                if let Some((_, open)) = self.0.get_mut(&(id.millis() - 1_700_000_000_000))
                    && holders.iter().any(|holder| open.contains(holder))
                {
                    open.retain(|holder| !holders.contains(holder));
                    open.insert(0);
                }
            }
            Change::Held { id, from, to, .. } => {
                if let Some((_, open)) = self.0.get_mut(&(id.millis() - 1_700_000_000_000))
                    && open.remove(&from)
                {
                    open.insert(to);
                }
            }
            Change::Delivered { id, .. } => {
                let number = id.millis() - 1_700_000_000_000;
                if let Some((archived, open)) = self.0.get_mut(&number) {
                    open.clear();
                    if !*archived {
                        self.0.remove(&number);
                    }
                }
            }
        }
    }

    fn release(&mut self, holder: u64) {
        for (_, open) in self.0.values_mut() {
            if open.remove(&holder) {
                open.insert(0);
            }
        }
    }

    /// The messages that are handed to it.
    fn claim(&mut self, holder: u64) -> Vec<u64> {
        let mut claimed = Vec::new();
        for (number, (_, open)) in &mut self.0 {
            if open.remove(&0) && open.insert(holder) {
                claimed.push(*number);
            }
        }
        claimed
    }

    fn states(&self) -> Vec<(u64, RowState)> {
        let state = |open: &BTreeSet<u64>| match open {
            open if open.contains(&0) => Pending,
            open if open.is_empty() => Delivered,
            _ => InFlight,
        };
        self.0.iter().map(|(number, (_, open))| (*number, state(open))).collect()
    }
}

async fn changes_of_all_are_as_they_come(instances: [Instance<'_>; 3]) {
    let account = "model@instances";
    fresh(instances[0].0, account).await;
    let holders = instances.map(|(_, instance)| instance);
    // A generator of Knuth's: the same changes each time.
    let mut seed = 1_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let sets: Vec<Vec<u64>> = (1..8_usize)
        .map(|set| {
            holders.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0).map(|(_, holder)| *holder).collect()
        })
        .collect();
    let mut model = Model::default();
    for round in 0..150 {
        let (store, own) = instances[next(3)];
        match next(6) {
            0 => {
                let holder = holders[next(3)];
                if next(2) == 0 {
                    release_all(store, holder).await;
                } else {
                    store.release_account(account, holder).await.unwrap();
                }
                model.release(holder);
            }
            1 => {
                let claimed = store.claim(account, 1000, usize::MAX).await.unwrap();
                let claimed: Vec<_> = claimed.iter().map(|row| row.id.millis() - 1_700_000_000_000).collect();
                assert_eq!(claimed, model.claim(own), "round {round}");
            }
            _ => {
                let changes: Vec<_> = (0..next(40))
                    .map(|_| {
                        let number = (next(12) + round / 10) as u64;
                        let (id, holders) = (id(number), sets[next(7)].as_slice());
                        match next(7) {
                            0 => Change::Delivered { account, id },
                            1 | 2 => Change::Returned { account, id, holders },
                            3 => Change::Held { account, id, from: holders[0], to: sets[next(7)][0] },
                            state => {
                                let state = [Delivered, Pending, InFlight][state - 4];
                                let holders = if state == InFlight { holders } else { &[] };
                                row(account, number, state, !number.is_multiple_of(3), holders)
                            }
                        }
                    })
                    .collect();
                store.commit(&changes).await.unwrap();
                changes.iter().for_each(|change| model.apply(change));
            }
        }
        assert_eq!(states(store, account).await, model.states(), "round {round}");
    }
    instances[0].0.remove(&bare(account)).await.unwrap();
}

async fn a_message_is_handed_to_one_of_those_who_claim_it(instances: [Instance<'_>; 3]) {
    let account = "claims@instances";
    fresh(instances[0].0, account).await;
    let rows: Vec<_> = (0..200).map(|number| row(account, number, Pending, true, &[])).collect();
    instances[0].0.commit(&rows).await.unwrap();
    // Few at once, so that they meet; none ends before there are none.
    let claims = instances.map(|(store, _)| async move {
        let mut claimed = Vec::new();
        while let some = store.claim(account, 9, 1_000_000).await.unwrap()
            && !some.is_empty()
        {
            assert!(some.is_sorted_by_key(|row| row.id));
            claimed.extend(some.into_iter().map(|row| row.id));
        }
        claimed
    });
    let mut claimed: Vec<_> = join_all(claims).await.into_iter().flatten().collect();
    claimed.sort_unstable();
    assert_eq!(claimed, (0..200).map(id).collect::<Vec<_>>(), "each once");
    for (_, instance) in instances {
        release_all(instances[0].0, instance).await;
    }
    assert_eq!(instances[1].0.pending(account, 1000).await.unwrap(), 200);
    instances[0].0.remove(&bare(account)).await.unwrap();
}

async fn who_is_not_there_has_nothing([(a, at_a), (b, at_b), _]: [Instance<'_>; 3]) {
    const NOBODY: u64 = 0x0dea_d000_0000_0001;
    let account = "nobody@instances";
    fresh(a, account).await;
    a.commit(&[
        row(account, 1, InFlight, true, &[NOBODY]),
        row(account, 2, InFlight, true, &[NOBODY, at_a]),
        row(account, 3, InFlight, true, &[at_a]),
        Change::Held { account, id: id(3), from: at_a, to: NOBODY },
        row(account, 4, InFlight, true, &[at_b]),
    ])
    .await
    .unwrap();
    assert_eq!(states(a, account).await, [(1, Pending), (2, Pending), (3, Pending), (4, InFlight)]);
    assert_eq!(b.release(NOBODY, 10).await.unwrap(), [""; 0]);
    b.revoke(NOBODY).await.unwrap();
    a.revoke(NOBODY).await.unwrap();
    a.remove(&bare(account)).await.unwrap();
}

async fn who_is_revoked_writes_nothing_and_what_it_had_waits([(a, at_a), (b, at_b), (c, at_c)]: [Instance<'_>; 3]) {
    let account = "revoked@instances";
    let juliet = fresh(a, account).await;
    c.commit(&[
        row(account, 1, InFlight, true, &[at_c]),
        row(account, 2, InFlight, false, &[at_c, at_b]),
        row(account, 3, Pending, true, &[]),
        row(account, 4, InFlight, true, &[at_b]),
        row(account, 5, Delivered, true, &[]),
    ])
    .await
    .unwrap();
    assert!(!c.is_revoked().await.unwrap());
    a.revoke(at_c).await.unwrap();
    b.revoke(at_c).await.unwrap();
    assert!(c.is_revoked().await.unwrap());
    assert_eq!(others(a).await, BTreeSet::from([at_b, at_c]), "it has messages in flight");
    assert_eq!(others(b).await, BTreeSet::from([at_a, at_c]));
    assert!(!a.is_revoked().await.unwrap() && !b.is_revoked().await.unwrap());

    let revoked = |result: Result<(), Error>, what: &str| {
        assert!(matches!(result, Err(Error::Revoked)), "{what}: {result:?}");
    };
    let known = super::account("revoked@instances", 9);
    let change = |_: Option<&RosterItem>| ItemChange::Put(item("romeo@example.net"));
    revoked(c.commit(&[row(account, 6, Pending, true, &[])]).await, "put");
    revoked(c.commit(&[Change::Delivered { account, id: id(1) }]).await, "delivered");
    revoked(c.claim(account, 10, 1000).await.map(drop), "claim");
    revoked(c.release(at_c, 10).await.map(drop), "release");
    revoked(c.release_account(account, at_b).await.map(drop), "release of an account");
    revoked(c.expire(MessageId(u128::MAX), 10).await.map(drop), "expire");
    revoked(c.put(&[known], PutMode::Upsert).await.map(drop), "accounts");
    revoked(c.remove(&juliet).await.map(drop), "removal");
    revoked(c.change_item(&juliet, &bare("romeo@example.net"), 10, &change).await.map(drop), "roster");
    revoked(c.put_document(&juliet, "private", "a", b"1", 100).await.map(drop), "document");
    revoked(c.remove_document(&juliet, "private", "a").await.map(drop), "removal of a document");
    revoked(c.secret("made too late", 32).await.map(drop), "secret");
    revoked(c.revoke(at_a).await, "revocation");
    assert!(!a.is_revoked().await.unwrap());

    // What it had is as it was, until somebody takes care of it.
    let as_before = [(1, InFlight), (2, InFlight), (3, Pending), (4, InFlight), (5, Delivered)];
    assert_eq!(states(a, account).await, as_before);
    assert!(a.roster(&juliet).await.unwrap().items.is_empty());
    assert_eq!(release_all(a, at_c).await, BTreeSet::from([account.to_owned()]));
    assert_eq!(others(a).await, BTreeSet::from([at_b]));
    assert_eq!(states(b, account).await, [(1, Pending), (2, Pending), (3, Pending), (4, InFlight), (5, Delivered)]);
    // It gets nothing any more; what others have they keep.
    a.commit(&[
        row(account, 7, InFlight, true, &[at_c]),
        row(account, 8, InFlight, true, &[at_b, at_c]),
        Change::Held { account, id: id(4), from: at_b, to: at_c },
    ])
    .await
    .unwrap();
    assert_eq!(a.pending(account, 100).await.unwrap(), 6);
    assert_eq!(release_all(a, at_c).await, BTreeSet::new());
    assert_eq!(release_all(a, at_b).await, BTreeSet::from([account.to_owned()]), "those that it has beside what waits");
    // Ends in order: it is forgotten, and so has nothing either.
    a.commit(&[row(account, 9, InFlight, true, &[at_b])]).await.unwrap();
    b.retire().await.unwrap();
    assert!(!b.is_revoked().await.unwrap(), "it has something in flight");
    a.commit(&[Change::Delivered { account, id: id(9) }]).await.unwrap();
    b.retire().await.unwrap();
    assert!(b.is_revoked().await.unwrap());
    assert_eq!(others(a).await, BTreeSet::new());
    a.commit(&[row(account, 10, InFlight, true, &[at_b])]).await.unwrap();
    assert_eq!(state(a, account, 10).await, Some(Pending));
    a.remove(&juliet).await.unwrap();
}
