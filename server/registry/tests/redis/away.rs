//! Redis away, slow, or emptied.

use std::time::Duration;

use starling_backends::redis::{ADMIN_PASSWORD, Options, Redis};
use starling_registry::{
    Bound, Error, Fence, OnConflict, RedisConfig, Registry as _, SessionRecord, StreamId, StreamRecord, StreamSave,
    StreamState, Streams as _, Update,
    suite::{bare, until},
};
use tokio::time::{Instant, timeout};

use crate::ground::{Instance, PATIENCE, alone, secret};

/// The time for an answer, as the tests have it, and what a busy machine adds.
const AN_ANSWER: Duration = Duration::from_millis(1900);
/// What does not wait for anybody.
const AT_ONCE: Duration = Duration::from_millis(400);

fn presence(text: &str) -> Update {
    Update::Presence { priority: Some(1), stanza: Some(text.as_bytes().into()) }
}

async fn bound(instance: &Instance, full: &str, id: u128) -> SessionRecord {
    let record = instance.subject().record(full, id);
    let bound = instance.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
    assert_eq!(bound, Bound::Claimed { replaced: None });
    record
}

async fn unavailable(instance: &Instance) {
    until("it is unavailable", || async { !instance.registry.is_available() }).await;
}

/// What it holds while Redis is away, and after it has come back with nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_started_again_empty_it_is_told_everything_again() {
    let mut server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    let here = bound(&one, "juliet@b/here", 1).await;
    let leaves = bound(&one, "juliet@b/leaves", 2).await;
    bound(&other, "juliet@b/there", 3).await;
    assert!(one.registry.update(&here.full, here.id, presence("before")).await.unwrap());
    assert_eq!(one.subject().ids("juliet@b").await, [1, 2, 3]);

    server.kill9().await;
    unavailable(&one).await;
    unavailable(&other).await;
    let record = one.subject().record("juliet@b/new", 9);
    assert!(matches!(one.registry.bind(record, OnConflict::Replace, 10).await, Err(Error::Away(_))));
    assert!(one.registry.update(&here.full, here.id, presence("meanwhile")).await.unwrap());
    assert!(one.registry.update(&here.full, here.id, Update::Carbons(true)).await.unwrap());
    assert!(one.registry.unbind(&leaves.full, leaves.id).await.unwrap());
    assert!(!one.registry.unbind(&leaves.full, leaves.id).await.unwrap());
    // What is true here, and what was known of the other.
    assert_eq!(one.subject().ids("juliet@b").await, [1, 3]);
    let known = one.registry.cached("juliet@b").unwrap();
    assert_eq!(known.iter().filter(|record| record.carbons).count(), 1);
    assert_eq!(one.registry.cached("stranger@b").unwrap().len(), 0);
    let with_presence = one.registry.with_presence(&[bare("juliet@b")]).await.unwrap();
    let own = with_presence[0].iter().find(|record| record.id == here.id).unwrap();
    assert_eq!(own.presence.as_deref(), Some(&b"meanwhile"[..]));
    assert!(matches!(one.registry.sessions_for_certain(&[bare("juliet@b")]).await, Err(Error::Away(_))));

    let (renewals, other_renewals) = (one.renewals(), other.renewals());
    server.start_again().await;
    one.renewed_since(renewals).await;
    other.renewed_since(other_renewals).await;
    let with_presence = other.registry.with_presence(&[bare("juliet@b")]).await.unwrap();
    let mut ids: Vec<_> = with_presence[0].iter().map(|record| record.id.0).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 3]);
    let for_certain = other.registry.sessions_for_certain(&[bare("juliet@b"), bare("stranger@b")]).await.unwrap();
    assert_eq!(for_certain.iter().map(|sessions| sessions.len()).collect::<Vec<_>>(), [2, 0]);
    let read = with_presence[0].iter().find(|record| record.id == here.id).unwrap();
    assert_eq!((read.presence.as_deref(), read.carbons), (Some(&b"meanwhile"[..]), true));
    let new = one.subject().record("juliet@b/new", 9);
    one.registry.bind(new, OnConflict::Refuse, 10).await.unwrap();
    assert_eq!(other.subject().ids("juliet@b").await, [1, 3, 9]);
}

/// It answers nothing, and its connections stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_it_holds_up_nobody_for_longer_than_an_answer_takes() {
    let server = Redis::start(Options::default()).await;
    let one = Instance::start(&alone(&server)).await;
    let session = bound(&one, "a@b/a", 1).await;
    server.pause().await;
    let began = Instant::now();
    assert!(one.registry.update(&session.full, session.id, presence("1")).await.unwrap());
    assert!(began.elapsed() < AN_ANSWER, "{:?}", began.elapsed());
    assert!(!one.registry.is_available());
    // From here on nobody waits at all.
    for round in 0..50 {
        let began = Instant::now();
        assert!(one.registry.update(&session.full, session.id, presence(&round.to_string())).await.unwrap());
        assert_eq!(one.subject().ids("a@b").await, [1]);
        assert!(one.registry.sessions(&bare("stranger@b")).await.unwrap().is_empty());
        let new = one.subject().record("a@b/new", 2);
        assert!(one.registry.bind(new, OnConflict::Refuse, 10).await.is_err());
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
    let renewals = one.renewals();
    server.resume().await;
    one.renewed_since(renewals).await;
    let other = Instance::start(&alone(&server)).await;
    // What was sent before it stopped came late, and undid nothing.
    let read = other.registry.with_presence(&[bare("a@b")]).await.unwrap();
    assert_eq!(read[0][0].presence.as_deref(), Some(&b"49"[..]));
}

/// A request that failed for its caller is carried out when the server goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_bound_too_late_does_not_stay() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    server.pause().await;
    let ghost = one.subject().record("ghost@b/a", 1);
    assert!(matches!(one.registry.bind(ghost, OnConflict::Refuse, 10).await, Err(Error::Away(_))));
    let renewals = one.renewals();
    server.resume().await;
    one.renewed_since(renewals).await;
    other.ready().await;
    // Whether it came before or after what was told then: whoever is named removes it when it is seen.
    until("it is gone", || async {
        one.registry.sessions(&bare("ghost@b")).await.unwrap();
        server.command(&["EXISTS", "starling:{ghost@b}:s"]).await == "0"
    })
    .await;
    // Its place is free.
    bound(&other, "ghost@b/a", 2).await;
    assert_eq!(one.subject().ids("ghost@b").await, [2]);
}

/// A caller that leaves in the middle leaves nothing behind. One thread, so that nothing happens but what is said.
#[tokio::test]
async fn what_a_caller_did_not_wait_for_is_put_right() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    let kept = bound(&one, "kept@b/a", 1).await;
    let mut left = 0;
    for number in 0..200_u128 {
        let record = one.subject().record(&format!("left{number}@b/a"), 100 + number);
        let (full, id) = (record.full.clone(), record.id);
        let mut bind = one.registry.bind(record, OnConflict::Refuse, 10);
        let mut changed = one.registry.update(&kept.full, kept.id, presence(&number.to_string()));
        // Sent, and as a rule not answered.
        assert!(futures_util::poll!(&mut changed).is_pending());
        assert!(futures_util::poll!(&mut bind).is_pending());
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        if futures_util::poll!(&mut bind).is_ready() {
            assert!(one.registry.unbind(&full, id).await.unwrap());
        } else {
            left += 1;
        }
    }
    assert!(left > 0, "all were answered");
    until("nobody is left", || async {
        let accounts: Vec<_> = (0..200).map(|number| bare(&format!("left{number}@b"))).collect();
        let left = other.registry.sessions_of(&accounts).await.unwrap();
        left.iter().all(|sessions| sessions.is_empty())
    })
    .await;
    until("the last change is there", || async {
        let read = other.registry.with_presence(&[bare("kept@b")]).await.unwrap();
        read[0][0].presence.as_deref() == Some(&b"199"[..])
    })
    .await;
    let index = format!("starling:index:{{{}}}", one.id);
    until("the index is tidy", || async { server.command(&["ZRANGE", &index, "0", "-1"]).await == "kept@b" }).await;
}

/// Its connections stay, and all keys are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_it_is_told_everything_again_but_streams() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    let session = bound(&one, "a@b/a", 1).await;
    one.registry.update(&session.full, session.id, presence("1")).await.unwrap();
    let stream = StreamRecord {
        id: StreamId(5),
        full: session.full.clone(),
        session: session.id,
        owner: one.id,
        previous: None,
        fence: Fence(1),
        state: StreamState::Live,
        h: 7,
        seconds: 300,
        details: Vec::new(),
    };
    one.registry.open_stream(&stream).await.unwrap();
    let (renewals, other_renewals) = (one.renewals(), other.renewals());
    other.registry.sessions(&bare("a@b")).await.unwrap();
    server.command(&["FLUSHALL"]).await;
    one.renewed_since(renewals).await;
    other.renewed_since(other_renewals).await;
    let read = other.registry.with_presence(&[bare("a@b")]).await.unwrap();
    assert_eq!((read[0][0].presence.as_deref(), read[0][0].stream), (Some(&b"1"[..]), Some(stream.id)));
    assert_eq!(one.registry.stream(&bare("a@b"), stream.id).await.unwrap(), None);
    let save = StreamSave { h: Some(8), ..StreamSave::default() };
    let account = bare("a@b");
    let saved = one.registry.save_streams(&[(&account, stream.id, stream.fence, save.clone())]).await.unwrap();
    assert_eq!(saved, [false]);
    one.registry.open_stream(&StreamRecord { h: 8, ..stream.clone() }).await.unwrap();
    assert_eq!(other.registry.stream(&account, stream.id).await.unwrap().unwrap().h, 8);
    let saved = one.registry.save_streams(&[(&account, stream.id, stream.fence, save)]).await.unwrap();
    assert_eq!(saved, [true]);
}

/// It says no to whatever is written, as when its memory is full, and answers all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_it_counts_as_away() {
    let server = Redis::start(Options::default()).await;
    let one = Instance::start(&alone(&server)).await;
    let session = bound(&one, "a@b/a", 1).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(one.registry.update(&session.full, session.id, presence("1")).await.unwrap());
    unavailable(&one).await;
    let new = one.subject().record("a@b/new", 2);
    assert!(matches!(one.registry.bind(new, OnConflict::Refuse, 10).await, Err(Error::Away(_))));
    assert!(one.registry.unbind(&session.full, session.id).await.unwrap());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    one.ready().await;
    until("what was changed meanwhile is there", || async {
        server.command(&["EXISTS", "starling:{a@b}:s"]).await == "0"
    })
    .await;
}

/// Two instances with users of their own, so that one can be shut out.
struct TwoUsers {
    server: Redis,
    configs: [RedisConfig; 2],
    _folder: tempfile::TempDir,
}

impl TwoUsers {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = |name: &str| format!("{name} on >{name}-secret ~* &* +@all");
        let users = vec![user("one"), user("other")];
        let server = Redis::start(Options { users, ..Options::default() }).await;
        let configs = ["one", "other"].map(|name| {
            let password_file = secret(&folder, name, &format!("{name}-secret"));
            RedisConfig { username: name.to_owned(), password_file, ..alone(&server) }
        });
        Self { server, configs, _folder: folder }
    }

    async fn shut_out_one(&self) {
        self.server.command(&["ACL", "SETUSER", "one", "off"]).await;
        self.server.command(&["CLIENT", "KILL", "USER", "one"]).await;
    }

    async fn let_in_one(&self) {
        self.server.command(&["ACL", "SETUSER", "one", "on"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_was_bound_by_another_meanwhile_is_lost_and_not_taken_back() {
    let ground = TwoUsers::start().await;
    let (one, other) = (Instance::start(&ground.configs[0]).await, Instance::start(&ground.configs[1]).await);
    let taken = bound(&one, "a@b/taken", 1).await;
    let kept = bound(&one, "a@b/kept", 2).await;
    ground.shut_out_one().await;
    unavailable(&one).await;
    let successor = other.subject().record("a@b/taken", 3);
    other.registry.bind(successor, OnConflict::Replace, 10).await.unwrap();
    assert!(one.registry.update(&taken.full, taken.id, presence("zombie")).await.unwrap());
    assert!(one.registry.update(&kept.full, kept.id, presence("kept")).await.unwrap());
    assert_eq!(one.subject().ids("a@b").await, [1, 2]);
    let renewals = one.renewals();
    ground.let_in_one().await;
    one.renewed_since(renewals).await;
    let lost = timeout(PATIENCE, one.registry.lost()).await.unwrap();
    assert_eq!(
        lost.iter().map(|lost| (lost.full.clone(), lost.id)).collect::<Vec<_>>(),
        [(taken.full.clone(), taken.id)]
    );
    let read = other.registry.with_presence(&[bare("a@b")]).await.unwrap();
    let mut read: Vec<_> = read[0].iter().map(|record| (record.id.0, record.presence.as_deref())).collect();
    read.sort_unstable();
    assert_eq!(read, [(2, Some(&b"kept"[..])), (3, None)]);
    assert!(!one.registry.update(&taken.full, taken.id, presence("zombie")).await.unwrap());
    assert_eq!(one.count("starling_registry_lost_sessions_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_has_changed_is_read_again() {
    let ground = TwoUsers::start().await;
    let one = Instance::start(&ground.configs[0]).await;
    bound(&one, "a@b/a", 1).await;
    std::fs::write(&ground.configs[0].password_file, "another").unwrap();
    ground.server.command(&["ACL", "SETUSER", "one", "resetpass", ">another"]).await;
    let renewals = one.renewals();
    ground.server.command(&["CLIENT", "KILL", "USER", "one"]).await;
    one.renewed_since(renewals).await;
    assert_eq!(one.subject().ids("a@b").await, [1]);
    assert!(!format!("{:?} {:?}", one.registry, ground.configs[0]).contains("another"));
    assert!(!ADMIN_PASSWORD.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_begins_without_redis_and_finds_it_later() {
    let mut server = Redis::start(Options::default()).await;
    server.stop().await;
    let one = Instance::begin(&alone(&server));
    assert!(!one.registry.is_available());
    assert_eq!(one.registry.cached("a@b").unwrap().len(), 0);
    let record = one.subject().record("a@b/a", 1);
    assert!(matches!(one.registry.bind(record, OnConflict::Refuse, 10).await, Err(Error::Away(_))));
    server.start_again().await;
    one.ready().await;
    bound(&one, "a@b/a", 1).await;
    assert_eq!(one.renewals(), 0, "there was nothing to be written anew");
    one.close().await;
}

/// Many sessions, announced in bounded batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_sessions_are_announced_and_others_log_in_meanwhile() {
    let mut server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    const COUNT: u128 = 3000;
    for chunk in (0..COUNT).collect::<Vec<_>>().chunks(100) {
        let bind = |number: &u128| {
            let record = one.subject().record(&format!("user{number}@b/a"), *number);
            one.registry.bind(record, OnConflict::Refuse, 10)
        };
        for bound in futures_util::future::join_all(chunk.iter().map(bind)).await {
            assert_eq!(bound.unwrap(), Bound::Claimed { replaced: None });
        }
    }
    let renewals = one.renewals();
    server.kill9().await;
    server.start_again().await;
    other.ready().await;
    bound(&other, "user1@b/other", 9999).await;
    one.renewed_since(renewals).await;
    let accounts: Vec<_> = (0..COUNT).map(|number| bare(&format!("user{number}@b"))).collect();
    let read = other.registry.sessions_of(&accounts).await.unwrap();
    assert_eq!(read.iter().map(|sessions| sessions.len()).sum::<usize>(), COUNT as usize + 1);
    assert!(one.count("starling_registry_announcements_total") >= COUNT as f64);
    let index = format!("starling:index:{{{}}}", one.id);
    assert_eq!(server.command(&["ZCARD", &index]).await, COUNT.to_string());
}
