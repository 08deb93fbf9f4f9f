//! What stands between a store and its server: passes everything on until it is told otherwise.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// What becomes of what is sent from now on.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Way {
    /// It arrives.
    Open = 0,
    /// Requests arrive; the first answer is the end of its connection, and is lost.
    AnswersAreLost = 1,
    /// The same, of a commit.
    AnswersToCommitAreLost = 2,
    /// Nothing arrives, and nobody is told.
    Nowhere = 3,
}

#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) port: u16,
    way: Arc<AtomicU8>,
}

impl Proxy {
    pub(super) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), way: Arc::default() };
        let way = Arc::clone(&proxy.way);
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], server))).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let commits = Arc::new(AtomicBool::new(false));
                connections.spawn(requests(from_client, to_server, Arc::clone(&way), Arc::clone(&commits)));
                connections.spawn(answers(from_server, to_client, Arc::clone(&way), commits));
            }
        });
        proxy
    }

    pub(super) fn set(&self, way: Way) {
        self.way.store(way as u8, Ordering::SeqCst);
    }
}

/// `commits`: whether the last request is one.
async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Arc<AtomicU8>, commits: Arc<AtomicBool>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        commits.store(buffer[..read].windows(6).any(|bytes| bytes == b"COMMIT"), Ordering::SeqCst);
        if way.load(Ordering::SeqCst) != Way::Nowhere as u8 && to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Arc<AtomicU8>, commits: Arc<AtomicBool>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let way = way.load(Ordering::SeqCst);
        let is_lost = way == Way::AnswersAreLost as u8
            || (way == Way::AnswersToCommitAreLost as u8 && commits.load(Ordering::SeqCst));
        if is_lost || (way != Way::Nowhere as u8 && to.write_all(&buffer[..read]).await.is_err()) {
            break;
        }
    }
}
