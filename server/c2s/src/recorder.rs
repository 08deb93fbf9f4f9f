//! What the registry is told of streams that can be resumed elsewhere: who has them, and how many stanzas of their clients
//! are safe. A client is told of no more than that (XEP-0198 §4), so that it never hears less from another instance.
//!
//! ```text
//!   Managed ── record(h) ──► Shadow ──► queue (each in it once) ──► Recorder ── one round trip for all ──► registry
//!      ▲                        │                                                        │
//!      └──── outcome, waker ◄───┴────────────────────────────────────────────────────────┘
//! ```

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use futures_util::{
    future::{join_all, join3},
    task::AtomicWaker,
};
use prost::Message as _;
use starling_proto::instance::Details;
use starling_registry::{Fence, Registry, StreamId, StreamRecord, StreamSave, StreamState};
use starling_session::Service;
use starling_xmpp::jid::BareJid;
use tokio::{select, sync::mpsc, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::managed::{Record, Recorded};

/// Streams of one round trip.
const BATCH: usize = 1024;

/// Writes down what streams do, until [`Recorder::close`].
pub(crate) struct Recorder {
    /// Unbounded by itself: each stream is in it once at most.
    queue: mpsc::UnboundedSender<Option<Arc<Shadow>>>,
    tasks: TaskTracker,
}

/// What is written of one stream, and what is to be.
pub(crate) struct Shadow {
    account: BareJid,
    id: StreamId,
    state: Mutex<State>,
    /// See [`Outcome`].
    outcome: AtomicU64,
    owner: AtomicWaker,
    queue: mpsc::UnboundedSender<Option<Arc<Self>>>,
}

struct State {
    /// As it is, or will be, written.
    record: StreamRecord,
    details: Details,
    /// The record is there.
    is_open: bool,
    wanted: StreamSave,
    /// How many stanzas were safe at the end.
    closed: Option<u32>,
    is_queued: bool,
}

/// Nothing was said since it was asked last; else one of the others, or an `h` with [`WRITTEN`].
const NOTHING: u64 = 0;
const NOT_WRITTEN: u64 = 1;
const WRITTEN: u64 = 1 << 32;

/// One thing to be done.
enum Job {
    Open(Arc<Shadow>, StreamRecord),
    Save(Arc<Shadow>, Fence, StreamSave),
    Close(Arc<Shadow>, Fence, u32),
}

impl Recorder {
    #[allow(clippy::disallowed_methods, reason = "each stream is in it once at most")]
    pub(crate) fn start(service: &Arc<Service>) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        if service.registry().are_shared() {
            tasks.spawn(run(Arc::clone(service), waiting));
        }
        Self { queue, tasks }
    }

    /// A stream of a session of this process; to be written if it is not there yet.
    pub(crate) fn shadow(&self, record: StreamRecord, details: Details, is_open: bool) -> Arc<Shadow> {
        let shadow = Arc::new(Shadow {
            account: record.full.to_bare(),
            id: record.id,
            state: Mutex::new(State {
                record,
                details,
                is_open,
                wanted: StreamSave::default(),
                closed: None,
                is_queued: false,
            }),
            outcome: AtomicU64::new(NOTHING),
            owner: AtomicWaker::new(),
            queue: self.queue.clone(),
        });
        if !is_open {
            shadow.change(|_| {});
        }
        shadow
    }

    /// Returns when everything is written that was to be.
    pub(crate) async fn close(&self) {
        self.queue.send(None).ok();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Shadow {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if !std::mem::replace(&mut state.is_queued, true) {
            // After the close, nobody writes any more.
            self.queue.send(Some(Arc::clone(self))).ok();
        }
    }

    /// What others want to know of the session has changed; written with the next `h`, or whatever else.
    pub(crate) fn set_details(&self, details: Details) {
        self.lock().details = details;
    }

    /// The client's connection was cut; the stream ends at `until` (milliseconds since 1970).
    pub(crate) fn detach(self: &Arc<Self>, until: u64, details: Details) {
        self.change(|state| {
            state.details = details;
            state.wanted.state = Some(StreamState::Detached { until });
        });
    }

    /// The process ends, and leaves the stream to whoever comes; `h` of its client's stanzas are safe.
    pub(crate) fn leave(self: &Arc<Self>, h: u32, details: Details) {
        self.change(|state| {
            state.details = details;
            // A client was told of no less than is written.
            if h.wrapping_sub(state.record.h) as i32 > 0 {
                state.wanted.h = Some(h);
            }
        });
    }

    /// The client is there again.
    pub(crate) fn revive(self: &Arc<Self>) {
        self.change(|state| state.wanted.state = Some(StreamState::Live));
    }

    /// The stream has ended; `h` of the client's stanzas are safe, if that is known better than by what was written.
    pub(crate) fn close(self: &Arc<Self>, h: Option<u32>) {
        self.change(|state| state.closed = Some(h.unwrap_or(state.record.h)));
    }

    /// Registers whom to wake when something was written.
    pub(crate) fn register(&self, waker: &Waker) {
        self.owner.register(waker);
    }

    /// Writes `h`, and waits until it is written, or cannot be.
    pub(crate) async fn record_now(self: &Arc<Self>, h: u32, within: Duration) {
        self.record(h);
        let written = poll_fn(|cx| {
            self.register(cx.waker());
            if self.recorded().is_some() { Poll::Ready(()) } else { Poll::Pending }
        });
        if timeout(within, written).await.is_err() {
            debug!(account = %self.account, "A count is not written yet");
        }
    }

    fn job(self: Arc<Self>, roster: Option<u64>) -> Option<Job> {
        let mut state = self.lock();
        state.is_queued = false;
        let mut save = std::mem::take(&mut state.wanted);
        let fence = state.record.fence;
        let job = if let Some(h) = state.closed {
            drop(state);
            return Some(Job::Close(self, fence, h));
        } else {
            state.details.roster = roster;
            let details = state.details.encode_to_vec();
            if details != state.record.details {
                state.record.details.clone_from(&details);
                save.details = Some(details);
            }
            if let Some(h) = save.h {
                state.record.h = h;
            }
            if let Some(now) = save.state {
                state.record.state = now;
            }
            if state.is_open { None } else { Some(state.record.clone()) }
        };
        drop(state);
        Some(match job {
            Some(record) => Job::Open(self, record),
            None if save == StreamSave::default() => return None,
            None => Job::Save(self, fence, save),
        })
    }

    fn said(&self, outcome: u64) {
        self.outcome.store(outcome, Ordering::Release);
        self.owner.wake();
    }

    fn written(&self, h: Option<u32>) {
        if let Some(h) = h {
            self.said(WRITTEN | u64::from(h));
        }
    }

    /// It could not be written: what it says is said again by whatever is written next.
    fn not_written(&self, h: Option<u32>, save: StreamSave) {
        let mut state = self.lock();
        let wanted = std::mem::take(&mut state.wanted);
        state.wanted = StreamSave { h: None, state: wanted.state.or(save.state), details: None };
        if save.details.is_some() {
            // Whatever they are then.
            state.record.details.clear();
        }
        drop(state);
        if h.is_some() {
            self.said(NOT_WRITTEN);
        }
    }
}

impl Record for Arc<Shadow> {
    fn record(&self, h: u32) {
        self.change(|state| state.wanted.h = Some(h));
    }

    fn recorded(&self) -> Option<Recorded> {
        match self.outcome.swap(NOTHING, Ordering::AcqRel) {
            NOTHING => None,
            NOT_WRITTEN => Some(Recorded::Not),
            written => Some(Recorded::Written(written as u32)),
        }
    }
}

async fn run(service: Arc<Service>, mut waiting: mpsc::UnboundedReceiver<Option<Arc<Shadow>>>) {
    let mut renewals = service.registry().renewals();
    // Those whose record could not be written at their beginning.
    let mut unopened: Vec<Weak<Shadow>> = Vec::new();
    let mut taken = Vec::new();
    loop {
        select! {
            biased;
            count = waiting.recv_many(&mut taken, BATCH) => {
                if count == 0 {
                    return;
                }
            }
            renewed = renewals.changed() => {
                if renewed.is_ok() {
                    let again = std::mem::take(&mut unopened);
                    again.iter().filter_map(Weak::upgrade).for_each(|shadow| shadow.change(|_| {}));
                    continue;
                }
                // The registry is closed.
                std::future::pending::<()>().await;
            }
        }
        let is_last = taken.iter().any(Option::is_none);
        write(&service, taken.drain(..).flatten(), &mut unopened).await;
        if is_last {
            return;
        }
    }
}

async fn write(service: &Service, shadows: impl Iterator<Item = Arc<Shadow>>, unopened: &mut Vec<Weak<Shadow>>) {
    let (mut opens, mut saves, mut closes) = (Vec::new(), Vec::new(), Vec::new());
    for shadow in shadows {
        let roster = service.roster_told(&shadow.account);
        match shadow.job(roster) {
            Some(Job::Open(shadow, record)) => opens.push((shadow, record)),
            Some(Job::Save(shadow, fence, save)) => saves.push((shadow, fence, save)),
            Some(Job::Close(shadow, fence, h)) => closes.push((shadow, fence, h)),
            None => {}
        }
    }
    let registry = service.registry();
    let opened = join_all(opens.iter().map(|(_, record)| registry.open_stream(record)));
    let closed = closes.iter().map(|(shadow, fence, h)| registry.close_stream(&shadow.account, shadow.id, *fence, *h));
    let (opened, saved, closed) = join3(opened, save(registry, &saves), join_all(closed)).await;
    for ((shadow, record), opened) in opens.into_iter().zip(opened) {
        match opened {
            Ok(()) => {
                shadow.lock().is_open = true;
                shadow.written(Some(record.h));
            }
            Err(error) => {
                debug!(full = %record.full, %error, "A stream cannot be resumed elsewhere yet");
                unopened.push(Arc::downgrade(&shadow));
                shadow.not_written(Some(record.h), StreamSave::default());
            }
        }
    }
    for ((shadow, _, save), saved) in saves.into_iter().zip(saved) {
        match saved {
            Some(true) => shadow.written(save.h),
            Some(false) => not_its_owners(registry, &shadow, save).await,
            None => shadow.not_written(save.h, save),
        }
    }
    for ((shadow, ..), closed) in closes.iter().zip(closed) {
        if let Err(error) = closed {
            // It expires by itself.
            debug!(account = %shadow.account, %error, "The end of a stream is not written");
        }
    }
    if unopened.len() > BATCH {
        unopened.retain(|shadow| shadow.strong_count() > 0);
    }
}

/// `None`: the registry is away.
async fn save(registry: &dyn Registry, saves: &[(Arc<Shadow>, Fence, StreamSave)]) -> Vec<Option<bool>> {
    if saves.is_empty() {
        return Vec::new();
    }
    let changes: Vec<_> =
        saves.iter().map(|(shadow, fence, save)| (&shadow.account, shadow.id, *fence, save.clone())).collect();
    match registry.save_streams(&changes).await {
        Ok(saved) => saved.into_iter().map(Some).collect(),
        Err(error) => {
            debug!(streams = saves.len(), %error, "What streams do is not written");
            vec![None; saves.len()]
        }
    }
}

/// The registry has lost the record, or somebody else has the stream by now, and is about to ask for what is left of it.
async fn not_its_owners(registry: &dyn Registry, shadow: &Arc<Shadow>, save: StreamSave) {
    let is_lost = matches!(registry.stream(&shadow.account, shadow.id).await, Ok(None));
    shadow.not_written(save.h, save);
    if is_lost {
        shadow.change(|state| state.is_open = false);
    }
}
