//! Requests that were given up, and are carried out all the same, after what was sent later by another connection.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use starling_backends::redis::{Options, Redis};
use starling_registry::{
    Error, OnConflict, RedisConfig, Registry as _, Update,
    suite::{bare, until},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::ground::{Instance, alone};

/// Stands between an instance and Redis. It can hold what a connection sends, beyond the connection's end, and pass it on later.
struct Proxy {
    address: String,
    /// What is sent by connections that were made by now is held.
    hold: Arc<AtomicBool>,
    /// Held bytes are passed on.
    release: watch::Sender<bool>,
}

impl Proxy {
    async fn start(server: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let hold = Arc::new(AtomicBool::new(false));
        let (release, released) = watch::channel(false);
        let (own, to) = (Arc::clone(&hold), server.address());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // Whoever comes while others are held is not.
                let hold = if own.load(Ordering::SeqCst) { Arc::default() } else { Arc::clone(&own) };
                let upstream = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(pass(client, upstream, hold, released.clone()));
            }
        });
        Self { address, hold, release }
    }
}

async fn pass(client: TcpStream, upstream: TcpStream, hold: Arc<AtomicBool>, mut released: watch::Receiver<bool>) {
    let ((mut from, mut back), (mut answer, mut to)) = (client.into_split(), upstream.into_split());
    tokio::spawn(async move {
        let (mut buffer, mut open) = (vec![0; 65_536], true);
        // To the end, also when nobody wants it any more.
        while let Ok(read @ 1..) = answer.read(&mut buffer).await {
            open = open && back.write_all(&buffer[..read]).await.is_ok();
        }
    });
    let (mut buffer, mut held) = (vec![0; 65_536], Vec::new());
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if hold.load(Ordering::SeqCst) {
            held.extend_from_slice(&buffer[..read]);
        } else {
            to.write_all(&buffer[..read]).await.unwrap();
        }
    }
    if !held.is_empty() {
        released.wait_for(|released| *released).await.unwrap();
        to.write_all(&held).await.unwrap();
        // Open for as long as the test runs.
        std::future::pending::<()>().await;
    }
}

fn presence(text: &str) -> Update {
    Update::Presence { priority: Some(1), stanza: Some(text.as_bytes().into()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_late_undoes_nothing_and_leaves_nothing() {
    let server = Redis::start(Options::default()).await;
    let proxy = Proxy::start(&server).await;
    let config = RedisConfig { servers: vec![proxy.address.clone()], ..alone(&server) };
    let (one, other) = (Instance::start(&config).await, Instance::start(&alone(&server)).await);
    let session = one.subject().record("a@b/a", 1);
    one.registry.bind(session.clone(), OnConflict::Refuse, 10).await.unwrap();
    let leaves = one.subject().record("a@b/leaves", 2);
    one.registry.bind(leaves.clone(), OnConflict::Refuse, 10).await.unwrap();

    let renewals = one.renewals();
    proxy.hold.store(true, Ordering::SeqCst);
    let ghost = one.subject().record("ghost@b/a", 3);
    let (changed, carbons, last, bound) = tokio::join!(
        one.registry.update(&session.full, session.id, presence("early")),
        one.registry.update(&session.full, session.id, Update::Carbons(true)),
        one.registry.update(&leaves.full, leaves.id, presence("early")),
        one.registry.bind(ghost.clone(), OnConflict::Refuse, 10),
    );
    assert!(changed.unwrap() && carbons.unwrap() && last.unwrap());
    assert!(matches!(bound, Err(Error::Away(_))));
    one.renewed_since(renewals).await;
    // By another connection.
    assert!(one.registry.update(&session.full, session.id, presence("late")).await.unwrap());
    assert!(one.registry.update(&session.full, session.id, Update::Carbons(false)).await.unwrap());
    assert!(one.registry.unbind(&leaves.full, leaves.id).await.unwrap());
    assert_eq!(server.command(&["EXISTS", "starling:{ghost@b}:s"]).await, "0");

    proxy.release.send(true).unwrap();
    until("the last of it is carried out", || async {
        server.command(&["EXISTS", "starling:{ghost@b}:s"]).await == "1"
    })
    .await;
    let read = other.registry.with_presence(&[bare("a@b")]).await.unwrap();
    let read = read[0].iter().find(|record| record.id == session.id).unwrap();
    assert_eq!((read.carbons, read.presence.as_deref()), (false, Some(&b"late"[..])));
    // What had ended may have come back, as a ghost does.
    assert_eq!(one.subject().ids("a@b").await, [1]);
    until("it is gone for good", || async { other.subject().ids("a@b").await == [1] }).await;
    // Others find the ghost, and it is nobody; whom it names removes it.
    assert_eq!(other.subject().ids("ghost@b").await, [3]);
    assert!(one.subject().ids("ghost@b").await.is_empty());
    until("it is gone", || async { server.command(&["EXISTS", "starling:{ghost@b}:s"]).await == "0" }).await;
}
