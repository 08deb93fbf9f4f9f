//! Rules of streams.

use super::{Subject, bare, until};
use crate::{Fence, OnConflict, SessionId, SessionRecord, StreamId, StreamRecord, StreamSave, StreamState, Update};

pub(super) async fn where_they_are_not_shared_nothing_is_done(subject: Subject<'_>) {
    let session = subject.record("alone@suite/a", 1);
    let record = record(subject, &session, 1);
    subject.registry.open_stream(&record).await.unwrap();
    assert_eq!(subject.registry.stream(&bare("alone@suite"), record.id).await.unwrap(), None);
    assert_eq!(subject.registry.take_stream(&bare("alone@suite"), record.id).await.unwrap(), None);
}

pub(super) async fn run(one: Subject<'_>, other: Subject<'_>) {
    what_its_owner_saves_is_read_by_all(one, other).await;
    a_stream_that_was_taken_is_its_former_owners_no_more(one, other).await;
    a_hand_over_that_was_not_over_keeps_its_first_owner(one, other).await;
    a_session_lives_where_its_stream_was_settled(one, other).await;
    a_stream_of_a_session_that_has_ended_is_not_settled(one, other).await;
    an_ended_stream_remembers_what_it_counted(one, other).await;
    what_is_not_there_is_not_made_by_saving_it(one).await;
    streams_are_found_by_their_own_account_alone(one, other).await;
    a_stream_that_was_taken_is_not_opened_again_by_its_former_owner(one, other).await;
}

fn record(owner: Subject<'_>, session: &SessionRecord, id: u128) -> StreamRecord {
    StreamRecord {
        id: StreamId(id),
        full: session.full.clone(),
        session: session.id,
        owner: owner.instance,
        previous: None,
        fence: Fence(1),
        state: StreamState::Live,
        h: 0,
        seconds: 300,
        details: vec![0, 255, 13, 10],
    }
}

/// A session with a stream.
async fn opened(owner: Subject<'_>, full: &str, id: u128) -> (SessionRecord, StreamRecord) {
    let session = owner.record(full, id);
    owner.registry.bind(session.clone(), OnConflict::Replace, 10).await.unwrap();
    let stream = record(owner, &session, id << 64 | 5);
    owner.registry.open_stream(&stream).await.unwrap();
    (session, stream)
}

async fn save(owner: Subject<'_>, stream: &StreamRecord, save: StreamSave) -> bool {
    let account = stream.full.to_bare();
    let saved = owner.registry.save_streams(&[(&account, stream.id, stream.fence, save)]).await.unwrap();
    assert_eq!(saved.len(), 1);
    saved[0]
}

async fn read(subject: Subject<'_>, stream: StreamRecord) {
    let read = subject.registry.stream(&stream.full.to_bare(), stream.id).await.unwrap();
    assert_eq!(read, Some(stream));
}

fn h(h: u32) -> StreamSave {
    StreamSave { h: Some(h), ..StreamSave::default() }
}

async fn what_its_owner_saves_is_read_by_all(one: Subject<'_>, other: Subject<'_>) {
    let account = bare("saved@shared");
    let (_, mut stream) = opened(one, "saved@shared/a", 1).await;
    read(one, stream.clone()).await;
    read(other, stream.clone()).await;
    // Whoever reads its session finds it.
    let sessions = other.registry.sessions(&account).await.unwrap();
    assert_eq!(sessions[0].stream, Some(stream.id));
    assert!(save(one, &stream, h(u32::MAX)).await);
    stream.h = u32::MAX;
    read(other, stream.clone()).await;
    let detached = StreamState::Detached { until: 1_790_000_000_123 };
    let details = Some(vec![1, 2, 3]);
    assert!(save(one, &stream, StreamSave { h: Some(0), state: Some(detached), details }).await);
    (stream.h, stream.state, stream.details) = (0, detached, vec![1, 2, 3]);
    read(other, stream.clone()).await;
    assert!(save(one, &stream, StreamSave::default()).await);
    read(other, stream.clone()).await;
    assert!(!save(other, &stream, h(9)).await, "not its owner");
    stream.fence = Fence(2);
    assert!(!save(one, &stream, h(9)).await, "not its fence");
    stream.fence = Fence(1);
    read(other, stream).await;
}

async fn a_stream_that_was_taken_is_its_former_owners_no_more(one: Subject<'_>, other: Subject<'_>) {
    let (session, stream) = opened(one, "taken@shared/a", 1).await;
    let account = bare("taken@shared");
    let taken = other.registry.take_stream(&account, stream.id).await.unwrap().unwrap();
    let expected =
        StreamRecord { owner: other.instance, previous: Some(one.instance), fence: Fence(2), ..stream.clone() };
    assert_eq!(taken, expected);
    assert!(!save(one, &stream, h(7)).await);
    assert!(!one.registry.close_stream(&account, stream.id, stream.fence, 7).await.unwrap());
    assert!(!one.registry.settle_stream(&stream).await.unwrap());
    // Its session goes on, wherever it is now: whoever had it only forgets it.
    assert!(!one.registry.unbind(&session.full, session.id).await.unwrap());
    assert_eq!(other.ids("taken@shared").await, [1]);
    assert!(other.registry.accounts_of(other.instance, 1000).await.unwrap().contains(&account));
    assert!(other.registry.settle_stream(&taken).await.unwrap());
    assert!(save(other, &taken, h(7)).await);
    let settled = other.registry.stream(&account, stream.id).await.unwrap().unwrap();
    assert_eq!(settled, StreamRecord { previous: None, h: 7, ..taken });
}

async fn a_hand_over_that_was_not_over_keeps_its_first_owner(one: Subject<'_>, other: Subject<'_>) {
    let (_, stream) = opened(one, "again@shared/a", 1).await;
    let account = bare("again@shared");
    let first = other.registry.take_stream(&account, stream.id).await.unwrap().unwrap();
    // As if the other had died: whoever takes it next still has to ask the first.
    let second = one.registry.take_stream(&account, stream.id).await.unwrap().unwrap();
    assert_eq!((second.owner, second.previous, second.fence), (one.instance, Some(one.instance), Fence(3)));
    assert!(!other.registry.settle_stream(&first).await.unwrap());
    assert!(one.registry.settle_stream(&second).await.unwrap());
    assert!(!save(other, &first, h(1)).await);
    assert!(save(one, &second, h(1)).await);
}

async fn a_session_lives_where_its_stream_was_settled(one: Subject<'_>, other: Subject<'_>) {
    let (session, stream) = opened(one, "moved@shared/a", 1).await;
    let (account, full) = (bare("moved@shared"), session.full.clone());
    let presence = |text: &str| Update::Presence { priority: Some(5), stanza: Some(text.as_bytes().into()) };
    for update in [presence("1"), Update::Carbons(true), Update::ActiveList(Some("x".into())), presence("2")] {
        assert!(one.registry.update(&full, session.id, update).await.unwrap());
    }
    let before = one.registry.with_presence(std::slice::from_ref(&account)).await.unwrap()[0].to_vec();
    let taken = other.registry.take_stream(&account, stream.id).await.unwrap().unwrap();
    assert!(other.registry.settle_stream(&taken).await.unwrap());
    let mut expected = before;
    expected[0].instance = other.instance;
    until("all see where it lives", || async {
        one.registry.with_presence(std::slice::from_ref(&account)).await.unwrap()[0].to_vec() == expected
    })
    .await;
    assert!(!one.registry.update(&full, session.id, Update::Carbons(false)).await.unwrap());
    assert!(!one.registry.unbind(&full, session.id).await.unwrap());
    // The new instance counts its changes from the beginning, and they count.
    assert!(other.registry.update(&full, session.id, presence("3")).await.unwrap());
    assert!(other.registry.update(&full, session.id, Update::Carbons(false)).await.unwrap());
    let read = other.registry.with_presence(std::slice::from_ref(&account)).await.unwrap();
    assert_eq!((read[0][0].presence.as_deref(), read[0][0].carbons), (Some(&b"3"[..]), false));
    assert!(other.registry.unbind(&full, session.id).await.unwrap());
    assert!(one.ids("moved@shared").await.is_empty());
}

async fn a_stream_of_a_session_that_has_ended_is_not_settled(one: Subject<'_>, other: Subject<'_>) {
    let (session, stream) = opened(one, "unbound@shared/a", 1).await;
    assert!(one.registry.unbind(&session.full, session.id).await.unwrap());
    let taken = other.registry.take_stream(&bare("unbound@shared"), stream.id).await.unwrap().unwrap();
    assert!(!other.registry.settle_stream(&taken).await.unwrap());
    // Nor one whose resource is another's by now.
    let (session, stream) = opened(one, "unbound@shared/a", 2).await;
    let taken = other.registry.take_stream(&bare("unbound@shared"), stream.id).await.unwrap().unwrap();
    other.registry.bind(other.record("unbound@shared/a", 3), OnConflict::Replace, 9).await.unwrap();
    assert!(!other.registry.settle_stream(&taken).await.unwrap());
    assert!(!one.registry.update(&session.full, session.id, Update::Carbons(true)).await.unwrap());
    assert_eq!(one.ids("unbound@shared").await, [3]);
}

async fn an_ended_stream_remembers_what_it_counted(one: Subject<'_>, other: Subject<'_>) {
    let (session, stream) = opened(one, "ended@shared/a", 1).await;
    let account = bare("ended@shared");
    assert!(one.registry.close_stream(&account, stream.id, stream.fence, 42).await.unwrap());
    assert!(!one.registry.close_stream(&account, stream.id, stream.fence, 43).await.unwrap());
    assert!(!save(one, &stream, h(44)).await);
    let ended = other.registry.take_stream(&account, stream.id).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.h, ended.owner, ended.fence), (StreamState::Ended, 42, one.instance, Fence(1)));
    assert!(!other.registry.settle_stream(&ended).await.unwrap());
    assert!(one.registry.unbind(&session.full, session.id).await.unwrap());
}

async fn what_is_not_there_is_not_made_by_saving_it(one: Subject<'_>) {
    let (session, stream) = opened(one, "many@shared/a", 1).await;
    let account = session.full.to_bare();
    let saves = [
        (&account, StreamId(99), Fence(1), h(1)),
        (&account, stream.id, Fence(1), h(1)),
        (&account, StreamId(98), Fence(1), h(1)),
    ];
    assert_eq!(one.registry.save_streams(&saves).await.unwrap(), [false, true, false]);
    assert_eq!(one.registry.stream(&account, StreamId(99)).await.unwrap(), None);
    assert!(!one.registry.close_stream(&account, StreamId(99), Fence(1), 1).await.unwrap());
    assert!(one.registry.save_streams(&[]).await.unwrap().is_empty());
}

async fn streams_are_found_by_their_own_account_alone(one: Subject<'_>, other: Subject<'_>) {
    let (_, stream) = opened(one, "mine@shared/a", 1).await;
    assert_eq!(other.registry.take_stream(&bare("thief@shared"), stream.id).await.unwrap(), None);
    assert_eq!(other.registry.stream(&bare("thief@shared"), stream.id).await.unwrap(), None);
    assert!(save(one, &stream, h(1)).await);
}

async fn a_stream_that_was_taken_is_not_opened_again_by_its_former_owner(one: Subject<'_>, other: Subject<'_>) {
    let (session, stream) = opened(one, "reopened@shared/a", 1).await;
    // By its owner it is, as after a loss.
    one.registry.open_stream(&StreamRecord { h: 3, ..stream.clone() }).await.unwrap();
    assert_eq!(other.registry.stream(&bare("reopened@shared"), stream.id).await.unwrap().unwrap().h, 3);
    let taken = other.registry.take_stream(&bare("reopened@shared"), stream.id).await.unwrap().unwrap();
    one.registry.open_stream(&StreamRecord { h: 9, ..stream.clone() }).await.unwrap();
    assert_eq!(other.registry.stream(&bare("reopened@shared"), stream.id).await.unwrap(), Some(taken));
    // Nor one of a session that is not its own.
    let foreign = StreamRecord { id: StreamId(1234), session: SessionId(9), ..record(one, &session, 1) };
    one.registry.open_stream(&foreign).await.unwrap();
    assert_eq!(one.registry.stream(&bare("reopened@shared"), StreamId(1234)).await.unwrap(), None);
}
