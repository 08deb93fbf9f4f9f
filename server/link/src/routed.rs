//! The link of one of many processes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use prost::bytes::Bytes;
use starling_mtls::MutualTls;
use starling_proto::link::{Hello, VERSION};
use starling_registry::{InstanceId, SessionId, SessionRecord};
use starling_xmpp::{error::StreamError, jid::FullJid};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Bounds, Envelope, Handler, Inbox, Link, LocalLink, Member, Members, Metrics, Outcome, RouterAddress, Sessions,
    attach::Attacher,
    discover::Discovery,
    driver::{Driver, Parts},
    item::{Addressees, Item, Report},
};

/// Payloads that may wait for one instance, kept messages that it has not settled among them. One more is refused: what is
/// kept goes to the store.
const ITEMS: usize = 65_536;
/// Their bytes, likewise.
const BYTES: usize = 64 << 20;
/// Stanzas that are larger do not go to other instances.
const LARGEST: usize = 60 << 20;
/// Answers that are waited for at one time.
const REQUESTS: usize = 4096;

/// How this process is linked to the others.
pub struct Config {
    /// This run of this process.
    pub instance: InstanceId,
    /// What it does, for others to see.
    pub roles: Vec<String>,
    /// For people.
    pub name: String,
    /// Where the routers are.
    pub routers: Vec<RouterAddress>,
    /// To be asked about their names, in the place of those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// What this process shows, and whom it believes.
    pub tls: Arc<MutualTls>,
    /// The name that stands in the routers' certificates.
    pub router_name: String,
}

/// What goes to the driver.
pub(crate) enum Command {
    Send(InstanceId, Item),
    Report(InstanceId, Report),
    End(InstanceId),
    /// No new work for this instance.
    Drain,
    /// Say goodbye once everything is settled, and end.
    Leave,
}

/// How much waits for one instance.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) items: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    pub(crate) is_gone: AtomicBool,
}

/// What the link and its driver share.
pub(crate) struct Shared {
    pub(crate) own: InstanceId,
    pub(crate) local: Arc<LocalLink>,
    /// As many as there were instances since this one began, or a few thousand: see `Driver`.
    pub(crate) waiting: papaya::HashMap<InstanceId, Arc<Waiting>>,
    /// Locked for a request, never for a stanza.
    pub(crate) requests: Mutex<HashMap<u64, oneshot::Sender<Option<Bytes>>>>,
    pub(crate) absent: Mutex<Vec<(InstanceId, Instant)>>,
    /// See [`Link::horizon`].
    pub(crate) horizon: AtomicU64,
    pub(crate) members: watch::Sender<Arc<Members>>,
    pub(crate) metrics: Metrics,
}

impl Shared {
    pub(crate) fn requests(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Option<Bytes>>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waiting(&self, instance: InstanceId) -> Arc<Waiting> {
        let waiting = self.waiting.pin();
        Arc::clone(waiting.get_or_insert_with(instance, Arc::default))
    }
}

/// See the crate.
pub struct RoutedLink {
    shared: Arc<Shared>,
    /// Unbounded by itself: `Waiting` counts what is in it for each instance.
    commands: mpsc::UnboundedSender<Command>,
    next_request: Arc<AtomicU64>,
    left: CancellationToken,
}

/// A link that is not driven yet: its handler needs the link itself.
pub struct Undriven {
    config: Config,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// For answers, as long as the link is there.
    sender: mpsc::WeakUnboundedSender<Command>,
    left: CancellationToken,
}

impl RoutedLink {
    /// A link, and what drives it once there is a handler.
    #[allow(clippy::disallowed_methods, reason = "`Waiting` bounds it")]
    pub fn new(config: Config, metrics: Metrics) -> (Arc<Self>, Undriven) {
        let shared = Arc::new(Shared {
            own: config.instance,
            local: Arc::new(LocalLink::new()),
            waiting: papaya::HashMap::new(),
            requests: Mutex::default(),
            absent: Mutex::default(),
            horizon: AtomicU64::new(0),
            members: watch::Sender::new(Arc::default()),
            metrics,
        });
        let (sender, commands) = mpsc::unbounded_channel();
        let left = CancellationToken::new();
        let link = Self {
            shared: Arc::clone(&shared),
            commands: sender,
            next_request: Arc::new(AtomicU64::new(1)),
            left: left.clone(),
        };
        let sender = link.commands.downgrade();
        (Arc::new(link), Undriven { config, shared, commands, sender, left })
    }

    /// The sessions of this process.
    #[must_use]
    pub fn local(&self) -> &Arc<LocalLink> {
        &self.shared.local
    }

    /// Who is there, and whoever comes and goes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.shared.members.subscribe()
    }

    /// Tells the others that this instance is about to end.
    pub fn drain(&self) {
        self.command(Command::Drain);
    }

    /// Ends the link in order: what is on its way is taken by the others, and what became of what they sent is told them.
    /// `false`: not everything was settled in time; the others find out by themselves.
    pub async fn leave(&self, within: Duration) -> bool {
        self.command(Command::Leave);
        timeout(within, self.left.cancelled()).await.is_ok()
    }

    fn command(&self, command: Command) {
        // Without a driver, nothing is on its way any more.
        self.commands.send(command).ok();
    }

    /// Counts an item, and hands it to the driver.
    fn put(&self, to: InstanceId, item: Item) -> Outcome {
        let waiting = self.shared.waiting(to);
        if waiting.is_gone.load(Ordering::Acquire) {
            return Outcome::NoSession;
        }
        let weight = item.weight();
        let items = waiting.items.fetch_add(1, Ordering::AcqRel);
        let bytes = waiting.bytes.fetch_add(weight, Ordering::AcqRel);
        if items >= ITEMS || bytes >= BYTES || weight > LARGEST {
            waiting.items.fetch_sub(1, Ordering::AcqRel);
            waiting.bytes.fetch_sub(weight, Ordering::AcqRel);
            self.shared.metrics.refused.inc();
            return Outcome::Full;
        }
        self.shared.metrics.queued.inc();
        self.shared.metrics.sent.inc();
        self.command(Command::Send(to, item));
        Outcome::Queued
    }
}

impl Undriven {
    /// Starts the tasks of the link, which end after [`RoutedLink::leave`], or with `stop`.
    pub fn drive(self, handler: Arc<dyn Handler>, tasks: &TaskTracker, stop: &CancellationToken) {
        let Self { config, shared, commands, sender, left } = self;
        let Config { instance, roles, name, routers, name_servers, tls, router_name } = config;
        let hello = Hello {
            instance: instance.0,
            version: VERSION,
            features: Vec::new(),
            roles,
            domains: shared.local.domains(),
            name,
        };
        let (attached, incoming) = mpsc::channel(4);
        let attaching = stop.child_token();
        let attacher =
            Attacher { instance, hello, tls, router_name, attached, tasks: tasks.clone(), stop: attaching.clone() };
        tasks.spawn(Arc::new(attacher).run(Discovery::new(routers, &name_servers)));
        let (stop, own_tasks) = (stop.clone(), tasks.clone());
        let parts =
            Parts { shared, handler, commands, sender, attached: incoming, left, stop, attaching, tasks: own_tasks };
        tasks.spawn(Driver::new(parts).run());
    }
}

impl Link for RoutedLink {
    fn send_here(&self, full: &str, envelope: &Arc<Envelope>) -> Outcome {
        self.shared.local.send_here(full, envelope)
    }

    fn is_here(&self, instance: InstanceId) -> bool {
        instance == self.shared.own
    }

    fn send_there(&self, instance: InstanceId, sessions: Sessions, envelope: &Arc<Envelope>) -> Outcome {
        self.put(instance, Item::Stanza(Arc::clone(envelope), sessions.0))
    }

    fn send_domain(&self, domain: &str, envelope: &Arc<Envelope>) -> Outcome {
        match self.shared.local.send_domain(domain, envelope) {
            Outcome::NoSession => {}
            here => return here,
        }
        let members = self.shared.members.borrow().clone();
        let speaks = |(id, member): &(&InstanceId, &Member)| {
            **id != self.shared.own && !member.draining && member.domains.iter().any(|spoken| spoken == domain)
        };
        // The same address goes the same way, as long as the same instances are there.
        let address = envelope.to.as_ref().map_or(domain, |to| starling_xmpp::jid::bare_str(to));
        let chosen = members.iter().filter(speaks).max_by_key(|(id, _)| crate::paths::preference(**id, address));
        match chosen {
            Some((instance, _)) => self.put(*instance, Item::Stanza(Arc::clone(envelope), Addressees::Domain)),
            None => Outcome::NoSession,
        }
    }

    fn horizon(&self) -> u64 {
        self.shared.horizon.load(Ordering::Acquire)
    }

    fn poke(&self, session: &SessionRecord) -> bool {
        if self.is_here(session.instance) {
            return self.shared.local.poke_here(session.full.as_str(), session.id);
        }
        let item = Item::Poke { full: session.full.as_str().into(), session: session.id };
        self.put(session.instance, item) == Outcome::Queued
    }

    fn close(&self, session: &SessionRecord, error: StreamError) -> bool {
        if self.is_here(session.instance) {
            return self.shared.local.close_here(session.full.as_str(), session.id, error);
        }
        let item = Item::Close { full: session.full.as_str().into(), session: session.id, error };
        self.put(session.instance, item) == Outcome::Queued
    }

    fn here(&self) -> Vec<SessionRecord> {
        self.shared.local.records(self.shared.own)
    }

    fn attach(&self, full: &FullJid, id: SessionId, bounds: Bounds) -> Inbox {
        self.shared.local.attach(full, id, bounds)
    }

    fn detach(&self, full: &FullJid, id: SessionId) {
        self.shared.local.detach(full, id);
    }

    fn report(&self, envelope: &Arc<Envelope>, acknowledged: bool) -> bool {
        let Some(arrival) = envelope.tracking.as_ref().and_then(crate::Tracking::arrival) else { return false };
        if self.is_gone(arrival.from) {
            return false;
        }
        let report = Report { sequence: arrival.sequence, acknowledged, envelope: Arc::clone(envelope) };
        // Not counted: it stands for something that came from there, which its own bounds hold for.
        self.commands.send(Command::Report(arrival.from, report)).is_ok()
    }

    fn request(&self, instance: InstanceId, content: Bytes, within: Duration) -> BoxFuture<'static, Option<Bytes>> {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut requests = self.shared.requests();
            if requests.len() >= REQUESTS {
                requests.retain(|_, sender| !sender.is_closed());
            }
            if requests.len() >= REQUESTS {
                return Box::pin(async { None });
            }
            requests.insert(id, sender);
        }
        if self.put(instance, Item::Request { id, content }) != Outcome::Queued {
            self.shared.requests().remove(&id);
            return Box::pin(async { None });
        }
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let answer = timeout(within, receiver).await;
            shared.requests().remove(&id);
            answer.ok()?.ok()?
        })
    }

    fn notify(&self, instance: InstanceId, content: Bytes) {
        self.put(instance, Item::Notice(content));
    }

    fn members(&self) -> Arc<Members> {
        self.shared.members.borrow().clone()
    }

    fn absent(&self) -> Vec<(InstanceId, Instant)> {
        self.shared.absent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(&self, instance: InstanceId) {
        if instance != self.shared.own {
            self.shared.waiting(instance).is_gone.store(true, Ordering::Release);
            self.command(Command::End(instance));
        }
    }

    fn is_gone(&self, instance: InstanceId) -> bool {
        self.shared.waiting.pin().get(&instance).is_some_and(|waiting| waiting.is_gone.load(Ordering::Acquire))
    }
}
