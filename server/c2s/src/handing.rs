//! Streams whose clients have come to another instance: what is left of them is handed over, and kept until the other has it
//! for good.
//!
//! ```text
//!   hand_over ──► the session's task lets go ──► kept messages: their rows wait, and their entries know
//!                                            ├─► all that its client sent is safe
//!                                            └─► what its client has not acknowledged, its counts ──► the other: claims the
//!                                                rows ── settled ──► nothing is left here
//! ```

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use starling_link::{Envelope, Parcel};
use starling_proto::instance::{Details, HandOver, HandedOver, Settling, Unacknowledged};
use starling_registry::{InstanceId, SessionRecord, StreamId};
use starling_session::{Service, Session, Streams, moving::Returning};
use starling_xmpp::{acks::TooHigh, jid::BareJid};
use tokio::{select, sync::oneshot, time::timeout};
use tracing::{debug, info};

use crate::{managed::Item, resumption::Live, server::Shared};

/// How long what the client sent has to become safe. The journal gives up before.
const SAFE_WITHIN: Duration = Duration::from_secs(8);

/// Streams of different turns do not wait for each other.
const TURNS: usize = 16;

/// Sessions that were handed over and that nobody has for good yet. As many as there were sessions at most.
#[derive(Default)]
pub(crate) struct Frozen {
    left: Mutex<HashMap<u128, Left>>,
    /// One stream at a time is handed over, so that a second who wants it finds what the first was given.
    turns: [tokio::sync::Mutex<()>; TURNS],
}

struct Left {
    account: BareJid,
    /// The session that it was, as far as it says where that was.
    record: SessionRecord,
    handed: HandedOver,
    /// Somebody has it for good.
    settled: oneshot::Sender<()>,
}

impl Frozen {
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self, id: u128) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match self.turns.get(id as usize % TURNS) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }

    /// What is left of a stream, as it was handed over.
    fn handed(&self, account: &BareJid, id: u128) -> Option<HandedOver> {
        self.lock().get(&id).filter(|left| left.account == *account).map(|left| left.handed.clone())
    }

    /// Whoever it was handed to has it for good. The session's record, if nobody has said so before.
    pub(crate) fn settle(&self, id: u128) -> Option<SessionRecord> {
        let left = self.lock().remove(&id)?;
        left.settled.send(()).ok();
        Some(left.record)
    }
}

/// What other instances ask of the streams of this process.
pub(crate) struct Asked(pub(crate) Weak<Shared>);

impl Streams for Asked {
    fn hand_over(&self, to: InstanceId, asked: HandOver) -> BoxFuture<'static, Option<HandedOver>> {
        let shared = self.0.upgrade();
        Box::pin(async move {
            let handed = hand_over(&shared?, asked).await;
            info!(%to, is_here = handed.is_some(), "A stream is wanted elsewhere");
            handed
        })
    }

    fn settled(&self, settling: Settling) {
        if let (Some(shared), Ok(id)) = (self.0.upgrade(), settling.stream.try_into()) {
            // At once: if it comes back here, the answer to that comes behind this.
            if let Some(record) = shared.frozen.settle(u128::from_be_bytes(id)) {
                shared.service.registry().let_go(&record.full, record.id);
            }
        }
    }
}

/// What is left of a stream of this process. `None`: there is nothing of it.
pub(crate) async fn hand_over(shared: &Arc<Shared>, asked: HandOver) -> Option<HandedOver> {
    let id = u128::from_be_bytes(asked.stream.try_into().ok()?);
    let account = BareJid::new(&asked.account).ok()?;
    let _turn = shared.frozen.turn(id).await;
    if let Some(handed) = shared.frozen.handed(&account, id) {
        // It was handed to somebody who did not come to have it, or left for whoever comes.
        return Some(handed);
    }
    let live = match shared.resumable.request(&account, id) {
        Some(mut fetching) => fetching.wait().await,
        None => None,
    };
    let Some(mut live) = live else {
        // The process ends, and has left it meanwhile.
        return shared.frozen.handed(&account, id);
    };
    if let Err(TooHigh { sent, .. }) = live.managed.acknowledged(asked.handled, live.session.service(), &live.inbox) {
        let shared = Arc::clone(shared);
        shared.tasks.clone().spawn(async move { live.wait(&shared).await });
        return Some(HandedOver { sent: Some(sent), ..HandedOver::default() });
    }
    let seconds = Duration::from_secs(live.claim.seconds().into());
    let Freezing { session, handed, settled, .. } = freeze(shared, id, account.clone(), *live).await;
    shared.metrics.handed_over.inc();
    let owner = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let service = Arc::clone(session.service());
        let is_settled = select! {
            settled = settled => settled.is_ok(),
            () = owner.stop.cancelled() => true,
            () = tokio::time::sleep(seconds) => is_elsewhere(&service, &account, id).await,
        };
        owner.frozen.lock().remove(&id);
        if is_settled {
            session.leave().await;
        } else {
            debug!(full = %session.full(), "A session was handed over to nobody");
            session.end().await;
        }
    });
    Some(handed)
}

/// The process ends, and others can go on with the session: what is left of it is here for whoever asks while this process is
/// there, and then in registry and store.
pub(crate) async fn leave_behind(shared: &Arc<Shared>, id: u128, live: Live) {
    let account = live.session.full().to_bare();
    let shadow = live.claim.shadow().cloned();
    let Freezing { session, handed, acknowledged, found, .. } = freeze(shared, id, account, live).await;
    if let (Some(shadow), Some(details)) = (shadow, handed.details) {
        let left = handed.unacknowledged.into_iter().map(|of| of.id).collect();
        shadow.leave(found, Details { left, acknowledged, ..details });
    }
    session.leave().await;
}

/// A session that goes on elsewhere.
struct Freezing {
    session: Session,
    handed: HandedOver,
    /// How many stanzas its client has acknowledged, modulo 2^32.
    acknowledged: u32,
    /// How many of the client's stanzas are safe for one who gets none of the errors that are left here.
    found: u32,
    /// Whoever has it says so.
    settled: oneshot::Receiver<()>,
}

async fn freeze(shared: &Arc<Shared>, id: u128, account: BareJid, live: Live) -> Freezing {
    let Live { mut session, mut inbox, mut managed, claim } = live;
    let acknowledged = managed.acknowledged_count();
    let service = Arc::clone(session.service());
    session.detach();
    inbox.close();
    let (mut returning, mut unacknowledged) = (Returning::default(), Vec::new());
    let mut take = |envelope: Arc<Envelope>| {
        let mut id = Vec::new();
        if let Some(tracking) = &envelope.tracking {
            id = tracking.id.to_be_bytes().to_vec();
            returning.push(&service, &envelope);
        }
        Unacknowledged { stanza: envelope.stanza.clone(), id }
    };
    for item in managed.drain() {
        unacknowledged.push(match item {
            Item::Shared(envelope) => take(envelope),
            Item::Own(bytes) => Unacknowledged { stanza: bytes.into(), id: Vec::new() },
        });
    }
    while let Some(parcel) = inbox.try_recv() {
        if let Parcel::Stanza(envelope) = parcel {
            unacknowledged.push(take(envelope));
        }
    }
    let (before, mut errors) = (session.safe(), Vec::new());
    timeout(SAFE_WITHIN, settle(&mut session, &mut errors)).await.ok();
    if !errors.is_empty() {
        managed.sent_errors(&errors, before);
        unacknowledged.push(Unacknowledged { stanza: errors, id: Vec::new() });
    }
    if !returning.settled(&service).await {
        // Nobody knows what the rows will say: messages come out of the store, when that can be asked.
        unacknowledged.iter_mut().filter(|of| !of.id.is_empty()).for_each(|of| of.stanza.clear());
    }
    managed.safe(session.safe());
    let details = Some(session.details(0));
    let handed = HandedOver { sent: None, safe: managed.safe_count(), details, unacknowledged, nothing: false };
    let (sender, settled) = oneshot::channel();
    let left = Left { account, record: session.record(), handed: handed.clone(), settled: sender };
    shared.frozen.lock().insert(id, left);
    // Not before: whoever asks finds it the one way or the other.
    claim.let_go();
    let found = managed.final_count();
    Freezing { session, handed, acknowledged, found, settled }
}

/// Whether somebody has the stream for good, or it is gone.
async fn is_elsewhere(service: &Service, account: &BareJid, id: u128) -> bool {
    match service.registry().stream(account, StreamId(id)).await {
        Ok(Some(record)) => record.previous != Some(service.instance()),
        Ok(None) | Err(_) => true,
    }
}

/// Until everything that the client sent is safe, or its sender is told otherwise.
async fn settle(session: &mut Session, errors: &mut Vec<u8>) {
    while !session.is_settled() {
        let now = Instant::now();
        while session.tend(now, errors) {}
        let deadline = session.deadline(now).unwrap_or(now + SAFE_WITHIN);
        let mut is_first = true;
        let woken = poll_fn(|cx| {
            session.register(cx.waker());
            // What happened before the waker was there has woken nobody.
            let is_woken = !session.is_tended() || session.is_settled() || !std::mem::replace(&mut is_first, false);
            if is_woken { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::time::timeout_at(deadline.into(), woken).await.ok();
    }
}
