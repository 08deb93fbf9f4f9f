//! Rules between instances that share a registry.

use super::{Subject, bare, until};
use crate::{Bound, OnConflict, SessionId, Update};

pub(super) async fn run(one: Subject<'_>, other: Subject<'_>) {
    what_one_binds_the_other_finds(one, other).await;
    a_session_is_changed_by_its_own_instance_alone(one, other).await;
    what_is_remembered_is_forgotten_when_another_changes_it(one, other).await;
    a_change_of_status_alone_leaves_what_is_remembered_as_it_is(one, other).await;
    a_session_of_another_is_evicted_while_it_is_that(one, other).await;
    accounts_are_counted_over_all_instances(one, other).await;
    the_living_are_alive_and_are_not_cleaned_up_after(one, other).await;
}

async fn what_one_binds_the_other_finds(one: Subject<'_>, other: Subject<'_>) {
    let (first, second) = (one.record("both@shared/one", 1), other.record("both@shared/other", 2));
    one.registry.bind(first.clone(), OnConflict::Refuse, 10).await.unwrap();
    other.registry.bind(second.clone(), OnConflict::Refuse, 10).await.unwrap();
    for subject in [one, other] {
        let mut sessions = subject.registry.sessions(&bare("both@shared")).await.unwrap().to_vec();
        sessions.sort_by_key(|record| record.id.0);
        assert_eq!(sessions, [first.clone(), second.clone()]);
        // Also by what is remembered, which is not what the instance has itself.
        if let Some(cached) = subject.registry.cached("both@shared") {
            assert_eq!(cached.len(), 2);
        }
    }
}

async fn a_session_is_changed_by_its_own_instance_alone(one: Subject<'_>, other: Subject<'_>) {
    let first = one.record("own@shared/a", 1);
    one.registry.bind(first.clone(), OnConflict::Refuse, 10).await.unwrap();
    assert!(!other.registry.update(&first.full, first.id, Update::Carbons(true)).await.unwrap());
    assert!(!other.registry.unbind(&first.full, first.id).await.unwrap());
    let second = other.record("own@shared/a", 2);
    let bound = other.registry.bind(second.clone(), OnConflict::Replace, 10).await.unwrap();
    assert_eq!(bound, Bound::Claimed { replaced: Some(first.clone()) });
    assert!(!one.registry.update(&first.full, first.id, Update::Carbons(true)).await.unwrap());
    assert!(!one.registry.unbind(&first.full, first.id).await.unwrap());
    assert_eq!(one.ids("own@shared").await, [2]);
    assert!(other.registry.update(&second.full, second.id, Update::Carbons(true)).await.unwrap());
    assert!(other.registry.unbind(&second.full, second.id).await.unwrap());
}

async fn what_is_remembered_is_forgotten_when_another_changes_it(one: Subject<'_>, other: Subject<'_>) {
    let account = bare("watched@shared");
    assert!(other.registry.sessions(&account).await.unwrap().is_empty());
    let record = one.record("watched@shared/a", 1);
    let seen = |ids: Vec<u128>| async move {
        until("the other sees the change", || async {
            let cached = match other.registry.cached("watched@shared") {
                Some(cached) => cached,
                None => other.registry.sessions(&bare("watched@shared")).await.unwrap(),
            };
            cached.iter().map(|record| record.id.0).eq(ids.iter().copied())
        })
        .await;
    };
    one.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
    seen(vec![1]).await;
    assert!(one.registry.update(&record.full, record.id, Update::Carbons(true)).await.unwrap());
    until("the other sees that it gets copies", || async {
        other.registry.cached("watched@shared").is_none_or(|cached| cached.iter().any(|record| record.carbons))
    })
    .await;
    other.registry.sessions(&account).await.unwrap();
    one.registry.bind(one.record("watched@shared/a", 2), OnConflict::Replace, 10).await.unwrap();
    seen(vec![2]).await;
    assert!(one.registry.unbind(&record.full, SessionId(2)).await.unwrap());
    seen(Vec::new()).await;
}

async fn a_change_of_status_alone_leaves_what_is_remembered_as_it_is(one: Subject<'_>, other: Subject<'_>) {
    let account = bare("status@shared");
    let record = one.record("status@shared/a", 1);
    let presence = |text: &str| Update::Presence { priority: Some(1), stanza: Some(text.as_bytes().into()) };
    one.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
    assert!(one.registry.update(&record.full, record.id, presence("1")).await.unwrap());
    other.registry.sessions(&account).await.unwrap();
    // What is still on its way is over when this is answered.
    until("it is remembered", || async {
        other.registry.sessions(&bare("status@shared")).await.unwrap();
        other.registry.cached("status@shared").is_some()
    })
    .await;
    for number in 2..20 {
        assert!(one.registry.update(&record.full, record.id, presence(&number.to_string())).await.unwrap());
        let read = other.registry.with_presence(std::slice::from_ref(&account)).await.unwrap();
        assert_eq!(read[0][0].presence.as_deref(), Some(number.to_string().as_bytes()));
        assert!(other.registry.cached("status@shared").is_some(), "forgotten at {number}");
    }
}

async fn a_session_of_another_is_evicted_while_it_is_that(one: Subject<'_>, other: Subject<'_>) {
    let record = one.record("evict@shared/a", 1);
    one.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
    let mut elsewhere = record.clone();
    elsewhere.instance = other.instance;
    assert!(!other.registry.evict(&elsewhere).await.unwrap());
    assert_eq!(one.ids("evict@shared").await, [1]);
    assert!(other.registry.evict(&record).await.unwrap());
    assert!(other.ids("evict@shared").await.is_empty());
    // Whoever lives is not evicted for good by a mistake: it says so with its next change.
    assert!(one.registry.update(&record.full, record.id, Update::Carbons(true)).await.unwrap());
    until("it is there again", || async { other.ids("evict@shared").await == [1] }).await;
    assert!(other.registry.sessions(&bare("evict@shared")).await.unwrap()[0].carbons);
}

async fn accounts_are_counted_over_all_instances(one: Subject<'_>, other: Subject<'_>) {
    one.registry.bind(one.record("limit@shared/1", 1), OnConflict::Refuse, 2).await.unwrap();
    other.registry.bind(other.record("limit@shared/2", 2), OnConflict::Refuse, 2).await.unwrap();
    let third = one.registry.bind(one.record("limit@shared/3", 3), OnConflict::Refuse, 2).await.unwrap();
    assert_eq!(third, Bound::TooMany);
    let taken = one.registry.bind(one.record("limit@shared/2", 4), OnConflict::Refuse, 2).await.unwrap();
    assert_eq!(taken, Bound::Taken);
}

async fn the_living_are_alive_and_are_not_cleaned_up_after(one: Subject<'_>, other: Subject<'_>) {
    until("it is known who lives", || async { one.registry.is_alive(other.instance).await.is_ok() }).await;
    assert!(one.registry.is_alive(other.instance).await.unwrap());
    assert!(one.registry.is_alive(one.instance).await.unwrap());
    assert!(!one.registry.dead().await.unwrap().contains(&other.instance));
    assert!(!one.registry.claim_dead(other.instance).await.unwrap());
    // What it has is known, should it die.
    let accounts = one.registry.accounts_of(other.instance, 1000).await.unwrap();
    assert!(accounts.contains(&bare("both@shared")), "{accounts:?}");
    assert_eq!(one.registry.accounts_of(other.instance, 1).await.unwrap().len(), 1);
    assert!(one.registry.accounts_of(other.instance, 0).await.unwrap().is_empty());
}
