//! Routers and links with real sockets and certificates, all in the test's own process.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, dead_code, missing_docs, unreachable_pub)]

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use prost::bytes::Bytes;
use starling_link::{
    Bounds, Config, Envelope, Handler, Inbox, Link as _, Member, Metrics, Outcome, Parcel, RoutedLink, RouterAddress,
    Settled, Tracking,
};
use starling_mtls::{Files, MutualTls};
use starling_registry::{InstanceId, SessionId, SessionRecord};
use starling_test_support::{Authority, Identity, PATIENCE};
use starling_xmpp::{
    jid::FullJid,
    stanza::{Kind, MessageType},
};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub const ROUTER: &str = "router.test";
pub const BOUNDS: Bounds = Bounds { stanzas: 100_000, bytes: 100 << 20 };

/// The certificates of one test.
pub struct Pki {
    authority: Authority,
    folders: std::sync::Mutex<Vec<tempfile::TempDir>>,
}

impl Pki {
    pub fn new() -> Self {
        Self { authority: Authority::new(), folders: std::sync::Mutex::default() }
    }

    pub fn tls(&self, name: &str) -> Arc<MutualTls> {
        let folder = tempfile::tempdir().unwrap();
        let Identity { certificate, key, authorities } = self.authority.issue(&[name], folder.path());
        self.folders.lock().unwrap().push(folder);
        Arc::new(MutualTls::open(Files { certificate, key, authorities }).unwrap())
    }
}

/// A router, until it is stopped or dropped.
pub struct Router {
    pub address: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Router {
    pub async fn start(pki: &Pki, address: &str) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let metrics = starling_router::Metrics::new(&prometheus::Registry::new()).unwrap();
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let address = address.parse().unwrap();
        let router = starling_router::Router::bind(&[address], pki.tls(ROUTER), id, metrics).await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let address = router.addresses()[0];
        router.run(&tasks, &stop);
        Self { address, tasks, stop }
    }

    /// Ends it, and waits until nothing of it is left.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.unwrap();
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a link's handler has heard.
#[derive(Debug)]
pub enum Event {
    Answered(u128),
    Settled(u128, Settled),
    Failed(String),
    Undelivered(InstanceId, Outcome),
    Orphaned(u128, bool),
    Notified(InstanceId, Bytes),
}

struct Recorder(mpsc::Sender<Event>);

impl Recorder {
    fn say(&self, event: Event) {
        // A test that is through does not listen any more.
        self.0.try_send(event).ok();
    }
}

fn id(envelope: &Envelope) -> u128 {
    envelope.tracking.as_ref().unwrap().id
}

impl Handler for Recorder {
    fn answered(&self, envelope: &Arc<Envelope>) {
        self.say(Event::Answered(id(envelope)));
    }

    fn settled(&self, envelope: &Arc<Envelope>, settled: Settled) {
        self.say(Event::Settled(id(envelope), settled));
    }

    fn failed(&self, envelope: &Arc<Envelope>) {
        self.say(Event::Failed(String::from_utf8_lossy(&envelope.stanza).into_owned()));
    }

    fn undelivered(&self, from: InstanceId, _: &Arc<Envelope>, outcome: Outcome) {
        self.say(Event::Undelivered(from, outcome));
    }

    fn orphaned(&self, envelope: &Arc<Envelope>, acknowledged: bool) {
        self.say(Event::Orphaned(id(envelope), acknowledged));
    }

    fn copied(&self, _: &Envelope) {}

    /// Says it back; never answers to `silence`.
    fn request(&self, _: InstanceId, content: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        Box::pin(async move {
            if content == "silence" {
                std::future::pending::<()>().await;
            }
            (content != "refuse").then_some(content)
        })
    }

    fn notified(&self, from: InstanceId, content: Bytes) {
        self.say(Event::Notified(from, content));
    }
}

/// One process, as far as the link goes.
pub struct Process {
    pub id: InstanceId,
    pub link: Arc<RoutedLink>,
    pub metrics: prometheus::Registry,
    events: Mutex<mpsc::Receiver<Event>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Process {
    pub fn start(pki: &Pki, id: u64, routers: &[&Router]) -> Self {
        let routers: Vec<_> = routers.iter().map(|router| router.address.to_string()).collect();
        Self::start_with(pki, id, &routers, Vec::new())
    }

    pub fn start_with(pki: &Pki, id: u64, routers: &[String], name_servers: Vec<SocketAddr>) -> Self {
        Self::start_after(pki, id, routers, name_servers, |_| {})
    }

    /// `before`: is done with the link before it attaches.
    pub fn start_after(
        pki: &Pki,
        id: u64,
        routers: &[String],
        name_servers: Vec<SocketAddr>,
        before: impl FnOnce(&RoutedLink),
    ) -> Self {
        let config = Config {
            instance: InstanceId(id),
            roles: vec!["c2s".to_owned()],
            name: format!("process {id}"),
            routers: routers.iter().map(|router| router.parse::<RouterAddress>().unwrap()).collect(),
            name_servers,
            tls: pki.tls("process.test"),
            router_name: ROUTER.to_owned(),
        };
        let metrics = prometheus::Registry::new();
        let (link, undriven) = RoutedLink::new(config, Metrics::new(&metrics).unwrap());
        before(&link);
        let (sender, events) = mpsc::channel(200_000);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        undriven.drive(Arc::new(Recorder(sender)), &tasks, &stop);
        Self { id: InstanceId(id), link, metrics, events: Mutex::new(events), tasks, stop }
    }

    /// Waits until it is attached to so many routers, and the others are too.
    pub async fn sees(&self, others: &[&Self], routers: i64) {
        self.until(|members| others.iter().all(|other| members.contains_key(&other.id))).await;
        eventually(|| self.metric("starling_link_routers") == routers as f64).await;
    }

    pub async fn until(&self, is_so: impl FnMut(&Arc<starling_link::Members>) -> bool) {
        timeout(PATIENCE, self.link.watch().wait_for(is_so)).await.unwrap().unwrap();
    }

    pub fn member(&self, other: &Self) -> Option<Member> {
        self.link.members().get(&other.id).cloned()
    }

    pub async fn event(&self) -> Event {
        timeout(PATIENCE, async { self.events.lock().await.recv().await }).await.unwrap().unwrap()
    }

    /// All of a kind, in their order, until there are so many.
    pub async fn events<T>(&self, count: usize, mut of: impl FnMut(Event) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        while found.len() < count {
            found.extend(of(self.event().await));
        }
        found
    }

    pub fn attach(&self, full: &str) -> Inbox {
        self.link.attach(&jid(full), SessionId(1), BOUNDS)
    }

    pub fn metric(&self, name: &str) -> f64 {
        let families = self.metrics.gather();
        let metric = &families.iter().find(|family| family.name() == name).unwrap().get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }

    /// As if it were killed: nothing more is said.
    pub async fn kill(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn jid(full: &str) -> FullJid {
    full.parse().unwrap()
}

pub fn message(to: &str, text: &str) -> Arc<Envelope> {
    let (to, from) = (to.parse().unwrap(), "romeo@example.com/orchard".parse().unwrap());
    let stanza = text.as_bytes().to_vec();
    Arc::new(Envelope::new(Some(to), from, Kind::Message(MessageType::Chat), stanza))
}

pub fn kept(to: &str, id: u128) -> Arc<Envelope> {
    let (to, from) = (to.parse().unwrap(), "romeo@example.com/orchard".parse().unwrap());
    let tracking = Tracking::new(id, true, Arc::default());
    Arc::new(Envelope::kept(Some(to), from, Kind::Message(MessageType::Chat), id.to_string().into(), tracking))
}

pub fn record(instance: InstanceId, full: &str) -> SessionRecord {
    SessionRecord::new(jid(full), SessionId(1), instance)
}

/// The next stanza.
pub async fn next(inbox: &mut Inbox) -> Arc<Envelope> {
    let next = async {
        loop {
            if let Some(Parcel::Stanza(envelope)) = poll_fn(|cx| inbox.poll_recv(cx)).await {
                return envelope;
            }
        }
    };
    timeout(PATIENCE, next).await.unwrap()
}

/// Whatever no event announces.
pub async fn eventually(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap();
}
