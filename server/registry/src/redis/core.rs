//! What the registry's tasks and calls share.

use std::{
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::Value;
use starling_xmpp::jid::FullJid;
use tokio::{sync::watch, time::Instant};

use super::{
    config::millis,
    discovery::Discovery,
    link::Ground,
    local::{Gone, Local},
    wire::{Failure, Reply, Request, Wire},
};
use crate::SessionRecord;

/// See the module.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) ground: Arc<Ground>,
    pub(super) discovery: Arc<Discovery>,
    pub(super) wire: Wire,
    pub(super) local: Local,
    pub(super) lease: Lease,
    pub(super) renewals: watch::Sender<u64>,
    garbage: Once,
}

/// How things stand with our own lease.
#[derive(Debug)]
pub(super) struct Lease {
    started: Instant,
    pause: Duration,
    /// Until when we have it, in milliseconds since the start.
    until: AtomicU64,
    /// When we last saw ourselves run, likewise.
    beat: AtomicU64,
    /// Something was not done since it was renewed last.
    failing: AtomicBool,
    /// Nothing is written: somebody else has to say first that we may go on.
    barred: AtomicBool,
}

impl Lease {
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            started: Instant::now(),
            pause,
            until: AtomicU64::new(0),
            beat: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            barred: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// Notes that we run, and says whether we had not for longer than we may.
    pub(super) fn beat(&self) -> bool {
        let now = self.now();
        now.saturating_sub(self.beat.swap(now, Ordering::AcqRel)) > millis(self.pause)
    }

    /// Nobody may write: we have not run, or somebody is asked whether we may go on.
    pub(super) fn is_barred(&self) -> bool {
        let gap = self.now().saturating_sub(self.beat.load(Ordering::Acquire));
        self.barred.load(Ordering::Acquire) || gap > millis(self.pause)
    }

    pub(super) fn bar(&self, barred: bool) {
        self.barred.store(barred, Ordering::Release);
    }

    /// It was renewed by a request that was sent then.
    pub(super) fn renewed(&self, sent: Instant, lease: Duration) {
        let until = millis(sent.saturating_duration_since(self.started) + lease);
        self.until.store(until, Ordering::Release);
        self.failing.store(false, Ordering::Release);
    }

    /// Notes that something was not done; says whether that is new.
    pub(super) fn fails(&self) -> bool {
        !self.failing.swap(true, Ordering::AcqRel)
    }

    /// Whether we have it, and nothing has failed since.
    pub(super) fn holds(&self) -> bool {
        self.now() < self.until.load(Ordering::Acquire) && !self.failing.load(Ordering::Acquire) && !self.is_barred()
    }
}

impl Core {
    pub(super) fn new(ground: Arc<Ground>, discovery: Arc<Discovery>, local: Local) -> Self {
        Self {
            wire: Wire::new(Arc::clone(&ground), Arc::clone(&discovery)),
            lease: Lease::new(ground.times.pause),
            ground,
            discovery,
            local,
            renewals: watch::Sender::new(0),
            garbage: Once::new(),
        }
    }

    /// Carries out requests, unless we may not.
    pub(super) async fn run(&self, requests: Vec<Request>) -> Vec<Reply> {
        if self.lease.is_barred() {
            let barred = |_| Reply { result: Err(Failure::Away("this process was paused".to_owned())), tracked: false };
            return requests.iter().map(barred).collect();
        }
        let replies = self.wire.run(requests).await;
        let failures = replies.iter().filter(|reply| matches!(reply.result, Err(Failure::Away(_)))).count();
        if failures > 0 {
            self.ground.metrics.failures.inc_by(failures as u64);
            if self.lease.fails() {
                // Whether it is away altogether, the next renewal tells.
                self.ground.signals.links.notify_one();
            }
        }
        replies
    }

    /// The same for one.
    pub(super) async fn one(&self, request: Request) -> Result<Value, Failure> {
        let reply = self.run(vec![request]).await.pop();
        reply.map_or_else(|| Err(Failure::Away("nothing was asked".to_owned())), |reply| reply.result)
    }

    /// Whether new sessions can be bound.
    pub(super) fn is_available(&self) -> bool {
        self.lease.holds() && self.ground.signals.is_announced() && self.discovery.peek().is_live()
    }

    /// Tells whoever waits, and the gauge.
    pub(super) fn tell_availability(&self) {
        let available = self.is_available();
        self.ground.metrics.available.set(available.into());
        if available {
            self.ground.signals.ready.notify_waiters();
        }
    }

    /// What stands in Redis is not ours: said once.
    pub(super) fn found_garbage(&self, what: &str) {
        self.garbage.call_once(|| tracing::warn!(what, "Redis holds what no Starling wrote; it counts as nothing"));
    }

    /// What Redis answered. `None`: what no Starling wrote, which counts as nothing.
    ///
    /// # Errors
    /// If it did not answer.
    pub(super) fn ours(&self, result: Result<Value, Failure>) -> Result<Option<Value>, Failure> {
        match result {
            Err(Failure::Garbage(what)) => {
                self.found_garbage(&what);
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Until it is settled, or when it is dropped before: Redis may say something else of this session's account.
    pub(super) fn unsure(&self, record: &SessionRecord, gone: bool) -> Unsure<'_> {
        Unsure { core: self, full: record.full.clone(), gone: gone.then(|| Gone::from(record)), settled: false }
    }

    /// What this session was to Redis is to be removed, or written, by the announcer.
    pub(super) fn mark_dirty(&self, full: &FullJid, gone: Option<Gone>) {
        self.local.mark_dirty(starling_xmpp::jid::bare_str(full), gone);
        self.ground.signals.announce.notify_one();
    }
}

impl From<&SessionRecord> for Gone {
    fn from(record: &SessionRecord) -> Self {
        Self { full: record.full.clone(), id: record.id, stream: record.stream }
    }
}

/// See [`Core::unsure`]: holds also where a caller leaves before the answer is there.
#[derive(Debug)]
pub(super) struct Unsure<'c> {
    core: &'c Core,
    full: FullJid,
    gone: Option<Gone>,
    settled: bool,
}

impl Unsure<'_> {
    /// Redis has said how things stand.
    pub(super) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.core.mark_dirty(&self.full, self.gone.take());
        }
    }
}
