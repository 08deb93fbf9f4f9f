//! The group commit: changes of messages from everywhere, written together, in their order.
//!
//! ```text
//!   push ──► queue (bounded) ──► group (256 records, 256 KiB) ──► Messages::commit ──► Observer::committed, in order
//!                                  ▲                                    │ fails: again, with back-off
//!                                  └────────── not given up ◄───────────┴──► too old: Observer::failed
//! ```
//!
//! A small group waits some milliseconds for company; in a flood, what comes while one group is written is the next.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::{Change, Error, Messages};

const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LAST_BACK_OFF: Duration = Duration::from_millis(500);

/// Something that is written.
pub trait Record: Send + Sync + 'static {
    /// What it writes, asked anew for each attempt. It may add nothing, when it was settled meanwhile.
    fn changes<'a>(&'a self, out: &mut Vec<Change<'a>>);

    /// How large it is.
    fn bytes(&self) -> usize;

    /// Whether it may be given up.
    fn may_fail(&self) -> bool;
}

/// Hears what became of records, in the order in which they were pushed. Must not wait: the next group waits for it.
pub trait Observer<R>: Send + Sync + 'static {
    /// These are on disk.
    fn committed(&self, records: &mut Vec<R>);

    /// These are given up.
    fn failed(&self, records: &mut Vec<R>, error: &Error);
}

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub struct JournalConfig {
    /// Records in one group.
    pub group_records: usize,
    /// Bytes in one group; the record that goes over it is still in.
    pub group_bytes: usize,
    /// How long a small group waits for company: one commit costs as much as many rows. A group of a quarter of
    /// `group_records` goes at once.
    pub linger: Duration,
    /// Records that wait.
    pub queue_records: usize,
    /// Bytes that wait.
    pub queue_bytes: usize,
    /// How long a record that may be given up is tried.
    pub give_up: Duration,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            group_records: 256,
            group_bytes: 256 * 1024,
            linger: Duration::from_millis(4),
            queue_records: 65_536,
            queue_bytes: 64 << 20,
            give_up: Duration::from_secs(5),
        }
    }
}

/// What the journal counts.
#[derive(Clone, Debug)]
pub struct JournalMetrics {
    groups: IntCounter,
    records: IntCounter,
    failures: IntCounter,
    given_up: IntCounter,
    queued: IntGauge,
    seconds: Histogram,
}

impl JournalMetrics {
    /// Registers everything with `registry`.
    ///
    /// # Errors
    /// If a name is taken there.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let queued = IntGauge::new("starling_journal_queue", "Changes of messages that wait to be written.")?;
        registry.register(Box::new(queued.clone()))?;
        let seconds = HistogramOpts::new("starling_journal_commit_seconds", "Time of a group's commit, in seconds.")
            .buckets(vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0]);
        let seconds = Histogram::with_opts(seconds)?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            groups: counter("starling_journal_groups_total", "Groups of changes committed.")?,
            records: counter("starling_journal_records_total", "Changes of messages committed.")?,
            failures: counter("starling_journal_failures_total", "Commits that failed; they are tried again.")?,
            given_up: counter(
                "starling_journal_given_up_total",
                "Messages that the database did not take in time, so that their senders are told.",
            )?,
            queued,
            seconds,
        })
    }
}

/// See the module. Clones share one queue.
pub struct Journal<R>(Arc<Shared<R>>);

impl<R> Clone for Journal<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<R> {
    queue: Mutex<Queue<R>>,
    /// The writer waits here for something to write.
    filled: Notify,
    /// Records that have left, written or given up.
    left: AtomicU64,
    /// Barriers wait here for that number to grow.
    grown: Notify,
    config: JournalConfig,
    metrics: JournalMetrics,
}

struct Queue<R> {
    records: VecDeque<Queued<R>>,
    /// Records that were ever pushed.
    pushed: u64,
    bytes: usize,
    closed: bool,
}

struct Queued<R> {
    record: R,
    since: Instant,
}

impl<R: Record> Journal<R> {
    /// Starts the writer, which ends when everything is written after [`Journal::close`].
    pub fn start(
        store: Arc<dyn Messages>,
        observer: Arc<dyn Observer<R>>,
        config: JournalConfig,
        tasks: &TaskTracker,
        metrics: JournalMetrics,
    ) -> Self {
        let queue = Mutex::new(Queue { records: VecDeque::new(), pushed: 0, bytes: 0, closed: false });
        let shared = Arc::new(Shared {
            queue,
            filled: Notify::new(),
            left: AtomicU64::new(0),
            grown: Notify::new(),
            config,
            metrics,
        });
        tasks.spawn(Writer { shared: Arc::clone(&shared), store, observer, group: Vec::new() }.run());
        Self(shared)
    }

    /// Hands over a record.
    ///
    /// # Errors
    /// The record, if the queue is full or closed. One that may not fail is always taken before the close: it stands for
    /// something in memory that other bounds hold for.
    pub fn push(&self, record: R) -> Result<(), R> {
        let shared = &*self.0;
        let mut queue = shared.lock();
        let full = queue.records.len() >= shared.config.queue_records || queue.bytes >= shared.config.queue_bytes;
        if queue.closed || (full && record.may_fail()) {
            return Err(record);
        }
        queue.bytes += record.bytes();
        let was_empty = queue.records.is_empty();
        queue.pushed += 1;
        queue.records.push_back(Queued { record, since: Instant::now() });
        shared.metrics.queued.inc();
        drop(queue);
        if was_empty {
            shared.filled.notify_one();
        }
        Ok(())
    }

    /// Waits until all that was pushed before is written or given up.
    pub async fn barrier(&self) {
        let shared = &*self.0;
        let pushed = shared.lock().pushed;
        loop {
            let mut grown = pin!(shared.grown.notified());
            // Registered before the number is read: what grows in between wakes it.
            grown.as_mut().enable();
            if shared.left.load(Ordering::Acquire) >= pushed {
                return;
            }
            grown.await;
        }
    }

    /// Takes no more. What is there is written, as long as the database takes it.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.filled.notify_one();
    }
}

impl<R> Shared<R> {
    fn leave(&self, records: usize) {
        self.left.fetch_add(records as u64, Ordering::AcqRel);
        self.grown.notify_waiters();
    }

    /// Held for a push or to take a group, never while anything is written.
    fn lock(&self) -> MutexGuard<'_, Queue<R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer<R> {
    shared: Arc<Shared<R>>,
    store: Arc<dyn Messages>,
    observer: Arc<dyn Observer<R>>,
    group: Vec<Queued<R>>,
}

impl<R: Record> Writer<R> {
    async fn run(mut self) {
        while self.next_group().await {
            self.write().await;
        }
    }

    /// `false`: the journal is closed, and everything is written.
    async fn next_group(&mut self) -> bool {
        loop {
            let closed = self.fill();
            if let Some(first) = self.group.first() {
                let since = first.since;
                let config = self.shared.config;
                if !closed && self.group.len() < config.group_records / 4 && since.elapsed() < config.linger {
                    sleep_until(since + config.linger).await;
                    self.fill();
                }
                return true;
            }
            if closed {
                return false;
            }
            self.shared.filled.notified().await;
        }
    }

    /// Takes what fits into the group. Whether the journal is closed.
    fn fill(&mut self) -> bool {
        let config = self.shared.config;
        let mut bytes: usize = self.group.iter().map(|queued| queued.record.bytes()).sum();
        let before = self.group.len();
        let mut queue = self.shared.lock();
        while self.group.len() < config.group_records
            && bytes < config.group_bytes
            && let Some(queued) = queue.records.pop_front()
        {
            let size = queued.record.bytes();
            queue.bytes -= size;
            bytes += size;
            self.group.push(queued);
        }
        self.shared.metrics.queued.sub(i64::try_from(self.group.len() - before).unwrap_or(i64::MAX));
        queue.closed
    }

    /// Writes the group, however long it takes.
    async fn write(&mut self) {
        let mut back_off = FIRST_BACK_OFF;
        let mut failing = false;
        while !self.group.is_empty() {
            let began = Instant::now();
            let error = {
                let mut changes = Vec::with_capacity(2 * self.group.len());
                self.group.iter().for_each(|queued| queued.record.changes(&mut changes));
                let result = if changes.is_empty() { Ok(()) } else { self.store.commit(&changes).await };
                result.err()
            };
            let metrics = &self.shared.metrics;
            let Some(error) = error else {
                metrics.seconds.observe(began.elapsed().as_secs_f64());
                metrics.groups.inc();
                metrics.records.inc_by(self.group.len() as u64);
                if failing {
                    info!("The database takes messages again");
                }
                let mut records: Vec<R> = self.group.drain(..).map(|queued| queued.record).collect();
                let left = records.len();
                self.observer.committed(&mut records);
                self.shared.leave(left);
                return;
            };
            metrics.failures.inc();
            if !failing {
                warn!(%error, "The database does not take messages; tried again");
                failing = true;
            }
            self.give_up(&error);
            if self.shared.lock().closed && self.group.is_empty() {
                return;
            }
            sleep(back_off).await;
            back_off = (2 * back_off).min(LAST_BACK_OFF);
            // What waits behind grows old as well, and is told in time.
            self.fill();
        }
    }

    /// Lets go what was tried long enough, in this group and behind it.
    fn give_up(&mut self, error: &Error) {
        let limit = self.shared.config.give_up;
        let is_over = |queued: &mut Queued<R>| queued.record.may_fail() && queued.since.elapsed() >= limit;
        let mut given_up: Vec<R> = self.group.extract_if(.., is_over).map(|queued| queued.record).collect();
        {
            let mut queue = self.shared.lock();
            if queue.records.front().is_some_and(|first| first.since.elapsed() >= limit) {
                let mut kept = VecDeque::with_capacity(queue.records.len());
                for mut queued in std::mem::take(&mut queue.records) {
                    if is_over(&mut queued) {
                        queue.bytes -= queued.record.bytes();
                        self.shared.metrics.queued.dec();
                        given_up.push(queued.record);
                    } else {
                        kept.push_back(queued);
                    }
                }
                queue.records = kept;
            }
        }
        if !given_up.is_empty() {
            self.shared.metrics.given_up.inc_by(given_up.len() as u64);
            let left = given_up.len();
            self.observer.failed(&mut given_up, error);
            self.shared.leave(left);
        }
    }
}
