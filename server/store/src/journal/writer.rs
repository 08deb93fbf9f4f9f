//! The task that writes.

use std::{
    collections::VecDeque,
    mem,
    ops::ControlFlow,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    select,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use super::{Observer, Queue, Queued, Record, Shared};
use crate::{Error, Messages};

const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LAST_BACK_OFF: Duration = Duration::from_millis(500);

pub(super) struct Writer<R> {
    shared: Arc<Shared<R>>,
    store: Arc<dyn Messages>,
    observer: Arc<dyn Observer<R>>,
    group: Vec<Queued<R>>,
}

impl<R: Record> Writer<R> {
    pub(super) fn new(shared: Arc<Shared<R>>, store: Arc<dyn Messages>, observer: Arc<dyn Observer<R>>) -> Self {
        Self { shared, store, observer, group: Vec::new() }
    }

    pub(super) async fn run(mut self) {
        while self.next_group().await {
            if self.write().await.is_break() {
                self.abandon();
            }
        }
    }

    /// `false`: the journal is closed, and everything has left.
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
        let mut bytes: usize = self.group.iter().map(|queued| queued.bytes).sum();
        let before = self.group.len();
        let mut queue = self.shared.lock();
        while self.group.len() < config.group_records
            && bytes < config.group_bytes
            && let Some(queued) = queue.records.pop_front()
        {
            queue.bytes -= queued.bytes;
            bytes += queued.bytes;
            self.group.push(queued);
        }
        self.shared.metrics.queued.sub(i64::try_from(self.group.len() - before).unwrap_or(i64::MAX));
        queue.closed.is_some()
    }

    /// Writes the group, however long it takes. Broken off: the journal is closed, and the database does not take it.
    async fn write(&mut self) -> ControlFlow<()> {
        let mut back_off = FIRST_BACK_OFF;
        let mut failing = false;
        while !self.group.is_empty() {
            let began = Instant::now();
            let result = self.commit().await?;
            let metrics = &self.shared.metrics;
            let Err(error) = result else {
                metrics.seconds.observe(began.elapsed().as_secs_f64());
                metrics.groups.inc();
                metrics.records.inc_by(self.group.len() as u64);
                if failing {
                    info!("The database takes messages again");
                }
                let mut records: Vec<R> = self.group.drain(..).map(|queued| queued.record).collect();
                self.observer.committed(&mut records);
                self.shared.advance(&self.group);
                return ControlFlow::Continue(());
            };
            metrics.failures.inc();
            if !failing {
                warn!(%error, "The database does not take messages; tried again");
                failing = true;
            }
            if let Error::Revoked = error {
                self.observer.revoked();
            }
            self.give_up(&error);
            if self.shared.is_over() {
                return ControlFlow::Break(());
            }
            sleep(back_off).await;
            back_off = (2 * back_off).min(LAST_BACK_OFF);
            // What waits behind grows old as well, and is told in time.
            self.fill();
        }
        ControlFlow::Continue(())
    }

    /// Tries the group once. What waits behind it is given up in time meanwhile.
    async fn commit(&self) -> ControlFlow<(), Result<(), Error>> {
        let mut changes = Vec::with_capacity(2 * self.group.len());
        self.group.iter().for_each(|queued| queued.record.changes(&mut changes));
        if changes.is_empty() {
            return ControlFlow::Continue(Ok(()));
        }
        let mut commit = pin!(self.store.commit(&changes));
        loop {
            let due = self.shared.due();
            select! {
                biased;
                result = &mut commit => return ControlFlow::Continue(result),
                () = self.shared.closing.notified() => {}
                () = sleep_until(due) => {}
            }
            if self.shared.is_over() {
                return ControlFlow::Break(());
            }
            let given_up = self.shared.take_old();
            self.tell_failed(given_up, &Error::NoAnswer);
        }
    }

    /// Lets go what was tried long enough, in this group and behind it.
    fn give_up(&mut self, error: &Error) {
        let limit = self.shared.config.give_up;
        let mut given_up: Vec<Queued<R>> = self.group.extract_if(.., |queued| queued.is_old(limit)).collect();
        given_up.extend(self.shared.take_old());
        self.tell_failed(given_up, error);
    }

    fn tell_failed(&self, given_up: Vec<Queued<R>>, error: &Error) {
        if given_up.is_empty() {
            return;
        }
        self.shared.metrics.given_up.inc_by(given_up.len() as u64);
        let mut records = given_up.into_iter().map(|queued| queued.record).collect();
        self.observer.failed(&mut records, error);
        self.shared.advance(&self.group);
    }

    /// The end, with a database that takes nothing: whoever waits is told, the rest is found again after the start.
    fn abandon(&mut self) {
        let behind = {
            let mut queue = self.shared.lock();
            queue.bytes = 0;
            mem::take(&mut queue.records)
        };
        self.shared.metrics.queued.set(0);
        let group = mem::take(&mut self.group);
        let (failed, lost): (Vec<_>, Vec<_>) = group.into_iter().chain(behind).partition(|q| q.record.may_fail());
        warn!(failed = failed.len(), lost = lost.len(), "Ended with what the database did not take");
        self.tell_failed(failed, &Error::NoAnswer);
        drop(lost);
        self.shared.advance(&self.group);
    }
}

impl<R: Record> Queued<R> {
    fn is_old(&self, limit: Duration) -> bool {
        self.record.may_fail() && self.since.elapsed() >= limit
    }
}

impl<R: Record> Shared<R> {
    /// When there is something to do while a commit does not answer: a record is old enough, or the close long ago.
    fn due(&self) -> Instant {
        let queue = self.lock();
        let first = queue.records.iter().find(|queued| queued.record.may_fail());
        let first = first.map_or_else(Instant::now, |queued| queued.since);
        queue.closed.map_or(first, |closed| first.min(closed)) + self.config.give_up
    }

    /// Closed, and tried long enough since.
    fn is_over(&self) -> bool {
        self.lock().closed.is_some_and(|closed| closed.elapsed() >= self.config.give_up)
    }

    /// Those in the queue that were there long enough.
    fn take_old(&self) -> Vec<Queued<R>> {
        let limit = self.config.give_up;
        let mut old = Vec::new();
        let mut queue = self.lock();
        if queue.records.front().is_none_or(|first| first.since.elapsed() < limit) {
            return old;
        }
        let Queue { records, bytes, .. } = &mut *queue;
        let mut kept = VecDeque::with_capacity(records.len());
        for queued in records.drain(..) {
            if queued.is_old(limit) {
                *bytes -= queued.bytes;
                self.metrics.queued.dec();
                old.push(queued);
            } else {
                kept.push_back(queued);
            }
        }
        *records = kept;
        old
    }

    /// Something has left. `group`: what of the group is still there.
    fn advance(&self, group: &[Queued<R>]) {
        let oldest = {
            let queue = self.lock();
            let first = group.first().or_else(|| queue.records.front());
            first.map_or(queue.pushed, |queued| queued.number)
        };
        self.oldest.store(oldest, Ordering::Release);
        self.grown.notify_waiters();
    }
}
