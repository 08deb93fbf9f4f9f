//! Rules of sessions.

use futures_util::future::join_all;

use super::{Subject, bare};
use crate::{Bound, OnConflict, SessionId, StreamId, Update};

pub(super) async fn run(subject: Subject<'_>) {
    a_replaced_session_is_named_to_whoever_replaced_it(subject).await;
    a_session_that_was_replaced_can_neither_remove_nor_change_its_successor(subject).await;
    a_refused_or_surplus_resource_changes_nothing(subject).await;
    every_change_is_seen_by_the_next_read(subject).await;
    many_accounts_are_read_at_once_in_their_order(subject).await;
    presence_goes_with_its_session(subject).await;
    names_may_hold_anything_that_addresses_may(subject).await;
    a_session_is_evicted_by_its_whole_name_alone(subject).await;
    claims_made_at_once_leave_exactly_one_holder(subject).await;
}

async fn a_replaced_session_is_named_to_whoever_replaced_it(subject: Subject<'_>) {
    let first = subject.record("replaced@suite/balcony", 1);
    let bound = subject.registry.bind(first.clone(), OnConflict::Replace, 10).await.unwrap();
    assert_eq!(bound, Bound::Claimed { replaced: None });
    let presence = Update::Presence { priority: Some(5), stanza: Some(b"<presence/>".as_slice().into()) };
    assert!(subject.registry.update(&first.full, first.id, presence.clone()).await.unwrap());
    let mut first = first;
    presence.apply(&mut first);
    let second = subject.record("replaced@suite/balcony", 2);
    let bound = subject.registry.bind(second, OnConflict::Replace, 10).await.unwrap();
    assert_eq!(bound, Bound::Claimed { replaced: Some(first) });
    assert_eq!(subject.ids("replaced@suite").await, [2]);
}

async fn a_session_that_was_replaced_can_neither_remove_nor_change_its_successor(subject: Subject<'_>) {
    let full = subject.record("successor@suite/balcony", 1).full;
    for id in [1, 2] {
        let record = subject.record("successor@suite/balcony", id);
        subject.registry.bind(record, OnConflict::Replace, 10).await.unwrap();
    }
    assert!(!subject.registry.unbind(&full, SessionId(1)).await.unwrap());
    assert!(!subject.registry.update(&full, SessionId(1), Update::Carbons(true)).await.unwrap());
    assert_eq!(subject.ids("successor@suite").await, [2]);
    assert!(!subject.registry.sessions(&bare("successor@suite")).await.unwrap()[0].carbons);
    assert!(subject.registry.unbind(&full, SessionId(2)).await.unwrap());
    assert!(!subject.registry.unbind(&full, SessionId(2)).await.unwrap());
    assert!(subject.ids("successor@suite").await.is_empty());
}

async fn a_refused_or_surplus_resource_changes_nothing(subject: Subject<'_>) {
    let bind = |resource, id| {
        let record = subject.record(&format!("refused@suite/{resource}"), id);
        subject.registry.bind(record, OnConflict::Refuse, 2)
    };
    bind("1", 1).await.unwrap();
    assert_eq!(bind("1", 2).await.unwrap(), Bound::Taken);
    bind("2", 3).await.unwrap();
    assert_eq!(bind("3", 4).await.unwrap(), Bound::TooMany);
    assert_eq!(subject.ids("refused@suite").await, [1, 3]);
    // One in the place of another is not one more.
    let again = subject.record("refused@suite/1", 5);
    let bound = subject.registry.bind(again, OnConflict::Replace, 2).await.unwrap();
    assert!(matches!(bound, Bound::Claimed { replaced: Some(replaced) } if replaced.id == SessionId(1)));
}

async fn every_change_is_seen_by_the_next_read(subject: Subject<'_>) {
    let mut record = subject.record("changes@suite/balcony", 1);
    let (account, full, id) = (bare("changes@suite"), record.full.clone(), record.id);
    subject.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
    let updates = [
        Update::Roster(true),
        Update::Carbons(true),
        Update::BlockList(true),
        Update::ActiveList(Some("friends & {others}".into())),
        Update::Stream(Some(StreamId(77))),
        Update::Presence { priority: Some(-128), stanza: Some(b"<presence id='1'/>".as_slice().into()) },
        Update::Presence { priority: Some(-128), stanza: Some(b"<presence id='2'/>".as_slice().into()) },
        Update::Carbons(true),
        Update::Presence { priority: Some(0), stanza: Some(b"".as_slice().into()) },
        Update::Presence { priority: None, stanza: None },
        Update::Roster(false),
        Update::ActiveList(None),
        Update::Stream(None),
    ];
    for update in updates {
        assert!(subject.registry.update(&full, id, update.clone()).await.unwrap());
        update.clone().apply(&mut record);
        let with_presence = subject.registry.with_presence(std::slice::from_ref(&account)).await.unwrap();
        assert_eq!(*with_presence[0], [record.clone()], "{update:?}");
        // What was not asked for is told or not.
        let sessions = subject.registry.sessions(&account).await.unwrap();
        let mut read = sessions[0].clone();
        read.presence.clone_from(&record.presence);
        assert_eq!(read, record, "{update:?}");
        if let Some(cached) = subject.registry.cached("changes@suite") {
            assert_eq!(
                (cached[0].priority, cached[0].roster, cached[0].stream),
                (record.priority, record.roster, record.stream)
            );
        }
    }
    assert!(subject.registry.unbind(&full, id).await.unwrap());
    assert!(subject.registry.cached("changes@suite").unwrap_or_default().is_empty());
    assert!(!subject.registry.update(&full, id, Update::Carbons(true)).await.unwrap());
}

async fn many_accounts_are_read_at_once_in_their_order(subject: Subject<'_>) {
    let juliet = subject.record("juliet@suite/balcony", 7);
    subject.registry.bind(juliet.clone(), OnConflict::Refuse, 2).await.unwrap();
    subject.registry.bind(subject.record("romeo@suite/orchard", 8), OnConflict::Refuse, 2).await.unwrap();
    let presence = Update::Presence { priority: Some(3), stanza: Some(b"<presence/>".as_slice().into()) };
    assert!(subject.registry.update(&juliet.full, juliet.id, presence).await.unwrap());
    let accounts = ["nurse@suite", "juliet@suite", "suite", "romeo@suite", "juliet@suite"].map(bare);
    // Twice: from the registry itself, and from whatever remembers it.
    for _ in 0..2 {
        let sessions = subject.registry.sessions_of(&accounts).await.unwrap();
        let ids: Vec<_> = sessions.iter().map(|sessions| sessions.first().map(|record| record.id.0)).collect();
        assert_eq!(ids, [None, Some(7), None, Some(8), Some(7)]);
        assert_eq!(sessions[1][0].priority, Some(3));
        let sessions = subject.registry.with_presence(&accounts).await.unwrap();
        let presence: Vec<_> = sessions.iter().map(|sessions| sessions.first()?.presence.as_deref()).collect();
        assert_eq!(presence, [None, Some(&b"<presence/>"[..]), None, None, Some(&b"<presence/>"[..])]);
    }
    assert!(subject.registry.sessions_of(&[]).await.unwrap().is_empty());
}

async fn presence_goes_with_its_session(subject: Subject<'_>) {
    let account = bare("presence@suite");
    let presence = Update::Presence { priority: Some(1), stanza: Some(b"<presence/>".as_slice().into()) };
    let first = subject.record("presence@suite/a", 1);
    subject.registry.bind(first.clone(), OnConflict::Refuse, 10).await.unwrap();
    subject.registry.update(&first.full, first.id, presence.clone()).await.unwrap();
    let second = subject.record("presence@suite/a", 2);
    subject.registry.bind(second.clone(), OnConflict::Replace, 10).await.unwrap();
    let read = subject.registry.with_presence(std::slice::from_ref(&account)).await.unwrap();
    assert_eq!((read[0][0].priority, read[0][0].presence.as_deref()), (None, None));
    subject.registry.update(&second.full, second.id, presence).await.unwrap();
    subject.registry.unbind(&second.full, second.id).await.unwrap();
    let third = subject.record("presence@suite/a", 3);
    subject.registry.bind(third.clone(), OnConflict::Refuse, 10).await.unwrap();
    let available = Update::Presence { priority: Some(1), stanza: None };
    subject.registry.update(&third.full, third.id, available).await.unwrap();
    let read = subject.registry.with_presence(&[account]).await.unwrap();
    assert_eq!((read[0][0].priority, read[0][0].presence.as_deref()), (Some(1), None));
}

async fn names_may_hold_anything_that_addresses_may(subject: Subject<'_>) {
    for (account, resource) in [("}@suite", "a/b@c{d}"), ("{}%7d@suite", "%"), ("ü{@suite", "été Ω"), ("suite", "x")]
    {
        let record = subject.record(&format!("{account}/{resource}"), 1);
        subject.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
        let presence = Update::Presence { priority: Some(1), stanza: Some(b"<presence/>".as_slice().into()) };
        assert!(subject.registry.update(&record.full, record.id, presence).await.unwrap());
        let read = subject.registry.with_presence(&[bare(account)]).await.unwrap();
        assert_eq!(read[0][0].full, record.full);
        assert!(read[0][0].presence.is_some());
        assert!(subject.registry.unbind(&record.full, record.id).await.unwrap());
        assert!(subject.ids(account).await.is_empty());
    }
}

async fn a_session_is_evicted_by_its_whole_name_alone(subject: Subject<'_>) {
    let record = subject.record("evicted@suite/a", 1);
    subject.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
    let mut other = record.clone();
    other.id = SessionId(2);
    assert!(!subject.registry.evict(&other).await.unwrap());
    assert_eq!(subject.ids("evicted@suite").await, [1]);
    assert!(subject.registry.evict(&record).await.unwrap());
    assert!(!subject.registry.evict(&record).await.unwrap());
    assert!(subject.ids("evicted@suite").await.is_empty());
}

async fn claims_made_at_once_leave_exactly_one_holder(subject: Subject<'_>) {
    let claim = |id| subject.registry.bind(subject.record("claims@suite/c", id), OnConflict::Replace, 9);
    let mut replaced = Vec::new();
    for bound in join_all((0..64).map(claim)).await {
        if let Bound::Claimed { replaced: Some(record) } = bound.unwrap() {
            replaced.push(record.id.0);
        }
    }
    let held = subject.ids("claims@suite").await;
    assert_eq!(held.len(), 1);
    replaced.extend(&held);
    replaced.sort_unstable();
    assert_eq!(replaced, (0..64).collect::<Vec<_>>());
    // What is read, and what holds it here, agree on who that is.
    let full = subject.record("claims@suite/c", 0).full;
    assert!(subject.registry.unbind(&full, SessionId(held[0])).await.unwrap());
}
