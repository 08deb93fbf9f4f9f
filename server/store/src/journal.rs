//! The group commit: changes of messages from everywhere, written together, in their order.
//!
//! ```text
//!   push ──► queue (bounded) ──► group (256 records, 256 KiB) ──► Messages::commit ──► Observer::committed, in order
//!                                  ▲                                    │ fails: again, with back-off
//!                                  └────────── not given up ◄───────────┴──► too old: Observer::failed
//! ```
//!
//! A small group waits some milliseconds for company; in a flood, what comes while one group is written is the next.
//!
//! While a commit does not answer, what is behind it is given up in time; what is in it waits for the answer, because nobody
//! knows before whether it will be there.

mod metrics;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::task::TaskTracker;

pub use self::metrics::JournalMetrics;
use self::writer::Writer;
use crate::{Change, Error, Messages};

/// Something that is written.
pub trait Record: Send + Sync + 'static {
    /// What it writes, asked anew for each attempt. It may add nothing, when it was settled meanwhile.
    fn changes<'a>(&'a self, out: &mut Vec<Change<'a>>);

    /// How large it is.
    fn bytes(&self) -> usize;

    /// Whether it may be given up: always the same answer. One that may not is let go at the end of the process alone.
    fn may_fail(&self) -> bool;
}

/// Hears what became of records, in the order in which they were pushed. Must not wait: the next group waits for it.
pub trait Observer<R>: Send + Sync + 'static {
    /// These are on disk.
    fn committed(&self, records: &mut Vec<R>);

    /// These are given up.
    fn failed(&self, records: &mut Vec<R>, error: &Error);

    /// This instance has no right to write any more ([`Error::Revoked`]): nothing of what waits will ever be written.
    fn revoked(&self);
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
    /// The number of the oldest record that has not left, written or given up.
    oldest: AtomicU64,
    /// Barriers wait here for that number to grow.
    grown: Notify,
    /// A writer whose commit does not answer waits here for the close.
    closing: Notify,
    config: JournalConfig,
    metrics: JournalMetrics,
}

struct Queue<R> {
    records: VecDeque<Queued<R>>,
    /// Records that were ever pushed: the number of the next one.
    pushed: u64,
    bytes: usize,
    /// Since when.
    closed: Option<Instant>,
}

struct Queued<R> {
    record: R,
    number: u64,
    /// As it said when it was pushed.
    bytes: usize,
    since: Instant,
}

impl<R> Queue<R> {
    fn is_full(&self, config: &JournalConfig) -> bool {
        self.records.len() >= config.queue_records || self.bytes >= config.queue_bytes
    }
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
        let queue = Mutex::new(Queue { records: VecDeque::new(), pushed: 0, bytes: 0, closed: None });
        let shared = Arc::new(Shared {
            queue,
            filled: Notify::new(),
            oldest: AtomicU64::new(0),
            grown: Notify::new(),
            closing: Notify::new(),
            config,
            metrics,
        });
        tasks.spawn(Writer::new(Arc::clone(&shared), store, observer).run());
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
        if queue.closed.is_some() || (queue.is_full(&shared.config) && record.may_fail()) {
            return Err(record);
        }
        let (number, bytes) = (queue.pushed, record.bytes());
        queue.pushed += 1;
        queue.bytes += bytes;
        let was_empty = queue.records.is_empty();
        queue.records.push_back(Queued { record, number, bytes, since: Instant::now() });
        shared.metrics.queued.inc();
        drop(queue);
        if was_empty {
            shared.filled.notify_one();
        }
        Ok(())
    }

    /// Whether a record that may fail would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.lock().is_full(&self.0.config)
    }

    /// Waits until all that was pushed before is written or given up.
    pub async fn barrier(&self) {
        let shared = &*self.0;
        let pushed = shared.lock().pushed;
        loop {
            let mut grown = pin!(shared.grown.notified());
            // Registered before the number is read: what grows in between wakes it.
            grown.as_mut().enable();
            if shared.oldest.load(Ordering::Acquire) >= pushed {
                return;
            }
            grown.await;
        }
    }

    /// Takes no more. What is there is written; what the database has not taken after [`JournalConfig::give_up`] from now
    /// is let go, also what may not fail otherwise: [`Messages::release`] finds its rows as they were.
    pub fn close(&self) {
        self.0.lock().closed.get_or_insert_with(Instant::now);
        self.0.filled.notify_one();
        self.0.closing.notify_one();
    }
}

impl<R> Shared<R> {
    /// Held for a push or to take a group, never while anything is written.
    fn lock(&self) -> MutexGuard<'_, Queue<R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
