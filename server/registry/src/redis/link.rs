//! One connection, kept: made again, after a pause that grows, whenever it is lost.
//!
//! ```text
//!   keep ──► connect ──► set up ──► live ◄── anyone asks
//!    ▲                               │
//!    └── lost: closed, or an answer took too long (`fail`): from then on whoever asks is told at once that there is none
//! ```
//!
//! Changes, reads, and what Redis says of reads that are no longer true go by the same connection. So whoever was told that
//! its change is done has forgotten all that others had changed on that node before it, and reads nothing older by then.

use std::{
    ptr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{
    PushInfo, PushKind, RedisError, Value,
    aio::{AsyncPushSender, MultiplexedConnection, SendError},
};
use starling_xmpp::random::{Random as _, SystemRandom};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    RedisTimes,
    cache::Cache,
    connect::{Address, ConnectError, Connector, Peer},
    keys::Keys,
    metrics::Metrics,
    scripts,
    signals::Signals,
};

/// What all links share.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) connector: Connector,
    pub(super) keys: Keys,
    pub(super) cache: Cache,
    pub(super) signals: Signals,
    pub(super) metrics: Metrics,
    pub(super) times: RedisTimes,
}

/// A connection that is there now.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    /// Whether Redis says when what was read by it has changed.
    pub(super) tracks: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    address: Address,
    ground: Arc<Ground>,
    live: ArcSwapOption<Live>,
    tracks: AtomicBool,
    /// The last thing that happened to it was a failure.
    failed: AtomicBool,
    lost: Notify,
}

impl Link {
    pub(super) fn new(address: Address, ground: Arc<Ground>) -> Arc<Self> {
        let (tracks, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { address, ground, live: ArcSwapOption::empty(), tracks, failed, lost: Notify::new() })
    }

    /// The connection, if there is one.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.load().is_some()
    }

    /// Whether a connection was lost, or not to be had, and there is none since.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether there is a connection with tracking, so that the cache holds for what is read by it.
    pub(super) fn tracks(&self) -> bool {
        self.tracks.load(Ordering::Acquire)
    }

    /// Gives this connection up, if it is still the one.
    pub(super) fn fail(&self, failed: &Live, reason: &str) {
        let is_failed = |live: Option<&Live>| live.is_some_and(|live| ptr::eq(live, failed));
        let current = self.live.load();
        // Of several that see it fail, one gives it up; the next is not made before that one is done.
        if is_failed(current.as_deref()) && is_failed(self.live.compare_and_swap(&current, None).as_deref()) {
            tracing::warn!(server = %self.address, reason, "Connection to Redis lost");
            self.went();
        }
    }

    /// Gives up whichever there is.
    pub(super) fn drop_connection(&self, reason: &str) {
        if let Some(live) = self.live() {
            self.fail(&live, reason);
        }
    }

    fn went(&self) {
        self.tracks.store(false, Ordering::Release);
        self.failed.store(true, Ordering::Release);
        // What is on its way by the lost connection would never be invalidated. What is there stays, as a hint.
        self.ground.cache.close_epoch();
        self.lost.notify_one();
        self.ground.signals.links.notify_one();
        self.ground.signals.discover.notify_one();
    }

    /// Keeps the connection until `stop`.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(self.connect_always()).await;
        self.tracks.store(false, Ordering::Release);
        self.live.store(None);
    }

    async fn connect_always(self: &Arc<Self>) {
        let times = &self.ground.times;
        let mut pause = times.retry;
        let mut failures = 0_u32;
        loop {
            let began = Instant::now();
            match self.connect().await {
                Ok(()) => {
                    tracing::info!(server = %self.address, failures, "Connected to Redis");
                    failures = 0;
                    self.lost.notified().await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.failed.store(true, Ordering::Release);
                    // Once for each outage: it is tried again every second.
                    if failures == 1 {
                        tracing::warn!(server = %self.address, %error, "No connection to Redis");
                    }
                    self.ground.signals.discover.notify_one();
                }
            }
            if began.elapsed() > times.retry_at_most {
                pause = times.retry;
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(times.retry_at_most);
        }
    }

    async fn connect(self: &Arc<Self>) -> Result<(), ConnectError> {
        // One that is lost while it is set up leaves its word for the next.
        let (live, ended) = (OnceLock::new(), AtomicBool::new(false));
        let pushes = Arc::new(Pushes { link: Arc::downgrade(self), live, ended });
        let sender = Some(Arc::clone(&pushes) as Arc<dyn AsyncPushSender>);
        let (mut connection, resp3) = self.ground.connector.open(&self.address, Peer::Server, sender).await?;
        let tracks = self.set_up(&mut connection, resp3).await?;
        let live = Arc::new(Live { connection, tracks });
        pushes.live.get_or_init(|| Arc::downgrade(&live));
        // What was kept while Redis was away may have changed unseen.
        self.ground.cache.flush();
        self.ground.metrics.cache_flushes.inc();
        self.failed.store(false, Ordering::Release);
        // Ahead: nobody must take for announced what is only connected.
        self.ground.signals.announce_node(&self.address);
        self.live.store(Some(Arc::clone(&live)));
        self.tracks.store(tracks, Ordering::Release);
        self.ground.signals.links.notify_one();
        if pushes.ended.load(Ordering::Acquire) {
            self.fail(&live, "closed");
        }
        Ok(())
    }

    /// Loads the scripts, and says whether there is tracking.
    async fn set_up(&self, connection: &mut MultiplexedConnection, resp3: bool) -> Result<bool, ConnectError> {
        let mut set_up = redis::pipe();
        for script in scripts::all() {
            set_up.cmd("SCRIPT").arg("LOAD").arg(script.source());
        }
        if resp3 {
            // Of what is read, only what is asked for is tracked.
            set_up.cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN");
        }
        let mut answers = connection.send_packed_commands(&set_up, 0, set_up.len()).await?;
        let tracking = if resp3 { answers.pop() } else { None };
        // Where it may not load scripts, they come with their first call.
        if let Some(Value::ServerError(error)) = answers.pop() {
            tracing::debug!(server = %self.address, %error, "Scripts not loaded");
        }
        match tracking {
            Some(Value::ServerError(error)) => {
                tracing::warn!(server = %self.address, %error, "Redis offers no tracking: nothing is cached");
                Ok(false)
            }
            None => {
                tracing::warn!(server = %self.address, "Redis does not speak RESP3: nothing is cached");
                Ok(false)
            }
            Some(_) => Ok(true),
        }
    }
}

/// Takes what Redis says unasked, in its order with the answers: it is called between them.
struct Pushes {
    link: Weak<Link>,
    /// Weak, as the connection's own task holds this.
    live: OnceLock<Weak<Live>>,
    ended: AtomicBool,
}

impl AsyncPushSender for Pushes {
    fn send(&self, info: PushInfo) -> Result<(), SendError> {
        let link = self.link.upgrade().ok_or(SendError)?;
        match info.kind {
            PushKind::Disconnection => {
                self.ended.store(true, Ordering::Release);
                if let Some(live) = self.live.get().and_then(Weak::upgrade) {
                    link.fail(&live, "closed");
                }
            }
            PushKind::Invalidate => link.ground.invalidate(&info.data),
            _ => {}
        }
        Ok(())
    }
}

impl Ground {
    /// Forgets what these keys hold; without any, everything is gone.
    fn invalidate(&self, data: &[Value]) {
        match data.first() {
            Some(Value::Array(keys)) => {
                for key in keys {
                    let key = match key {
                        Value::BulkString(key) => key.as_slice(),
                        Value::SimpleString(key) => key.as_bytes(),
                        _ => continue,
                    };
                    if let Some(account) = self.keys.account_of(key) {
                        self.metrics.cache_invalidations.inc();
                        self.cache.forget(&account);
                    }
                }
            }
            _ => {
                self.metrics.cache_flushes.inc();
                self.cache.flush();
            }
        }
    }
}

/// Between half of it and all of it: those who lost their connections together do not come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut random = [0];
    SystemRandom.fill(&mut random);
    let [random] = random;
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / 255.0)
}

/// Whether the connection that this came by is of no use any more.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
}
