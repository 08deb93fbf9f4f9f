//! Streams whose clients have come here from another instance: what is left of them is fetched, or, if that instance has
//! died, found in registry and store.
//!
//! ```text
//!   take (the registry: from now on it is ours) ─┬─ its owner lives ──► ask it ──────────────────┐
//!                                                └─ it has died ──► revoke · release its messages ┤
//!                                                                                                 ▼
//!   the client goes on ◄── record h ◄── settle (from now on others send here) ◄── adopt: mailbox, counts
//! ```

use std::{
    collections::HashMap,
    future::pending,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use starling_proto::instance::{Details, HandOver, HandedOver, Settling, Unacknowledged, notice, request};
use starling_registry::{InstanceId, SessionRecord, StreamId, StreamRecord, StreamState};
use starling_session::{Service, Session, moving::essence_of};
use starling_store::messages::MessageId;
use starling_xmpp::{acks::TooHigh, jid::BareJid};
use tokio::{select, sync::oneshot, time::sleep};
use tracing::{debug, info, warn};

use crate::{
    handing::hand_over,
    managed::{Item, Managed, Moved},
    resumption::Live,
    server::Shared,
};

/// For an owner that lives to hand a stream over.
const HAND_OVER: Duration = Duration::from_secs(10);
/// How often it is looked whether one that does not answer lives.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// For the registry to take what the client is about to be told.
const RECORD: Duration = Duration::from_secs(1);
/// How often the end of a hand-over is tried to be written.
const SETTLE: usize = 3;
/// How far back it is looked what a dead instance had made safe.
const LOOK_BACK: Duration = Duration::from_mins(10);

/// What came of it.
pub(crate) enum Taken {
    /// The session, and how many of its client's stanzas are safe.
    Session(Box<Live>, u32),
    /// There is none; how many of its client's stanzas are safe, if that is known.
    Refused(Option<u32>),
    /// The client acknowledges what it was not sent.
    TooHigh(TooHigh),
    /// Nobody can say for now.
    Away,
}

/// Fetches the stream that `id` names to this instance. Not in the caller's own task: it may end in the middle.
pub(crate) fn take(shared: &Arc<Shared>, account: &BareJid, id: u128, handled: u32) -> oneshot::Receiver<Taken> {
    let (sender, receiver) = oneshot::channel();
    let (shared, account) = (Arc::clone(shared), account.clone());
    shared.tasks.clone().spawn(async move {
        let taking = Taking { shared: &shared, account: &account, id, handled };
        if let Err(Taken::Session(live, _)) = sender.send(taking.take().await) {
            // Whoever asked is gone again.
            live.wait(&shared).await;
        }
    });
    receiver
}

struct Taking<'t> {
    shared: &'t Arc<Shared>,
    account: &'t BareJid,
    id: u128,
    handled: u32,
}

/// What is known of a stream.
struct Found {
    safe: u32,
    details: Details,
    known: Vec<(u32, u64)>,
    unacknowledged: Vec<Unacknowledged>,
    /// Its instance has died: what it was sent since is lost.
    is_bereaved: bool,
}

impl Taking<'_> {
    fn service(&self) -> &Arc<Service> {
        &self.shared.service
    }

    async fn take(&self) -> Taken {
        let registry = self.service().registry();
        let record = match registry.take_stream(self.account, StreamId(self.id)).await {
            Ok(Some(record)) => record,
            Ok(None) => return Taken::Refused(None),
            Err(error) => {
                warn!(account = %self.account, %error, "No stream can be taken");
                return Taken::Away;
            }
        };
        let Some(previous) = record.previous.filter(|_| record.state != StreamState::Ended) else {
            return Taken::Refused(Some(record.h));
        };
        let found = match self.find(&record, previous).await {
            Ok(found) => found,
            Err(taken) => return taken,
        };
        match self.adopt(&record, previous, found).await {
            Ok((live, safe)) => Taken::Session(live, safe),
            Err(taken) => taken,
        }
    }

    /// What is left of it, from whoever had it, or in spite of them.
    async fn find(&self, record: &StreamRecord, previous: InstanceId) -> Result<Found, Taken> {
        let asked = HandOver {
            account: self.account.to_string(),
            stream: self.id.to_be_bytes().to_vec(),
            fence: record.fence.0,
            handled: self.handled,
        };
        let service = self.service();
        let handed = if service.link().is_here(previous) {
            hand_over(self.shared, asked).await
        } else {
            let answer = async {
                let answer = service.ask(previous, request::What::HandOver(asked), HAND_OVER).await;
                match answer.and_then(|handed| HandedOver::decode(handed).ok()) {
                    Some(handed) => handed,
                    // It may have died of it, which is not known yet.
                    None => pending().await,
                }
            };
            let handed = select! {
                biased;
                () = is_dead(service, previous) => return self.inherit(record, previous).await,
                handed = answer => handed,
                () = sleep(HAND_OVER) => return Err(Taken::Away),
            };
            Some(handed).filter(|handed| !handed.nothing)
        };
        match handed {
            Some(HandedOver { sent: Some(sent), .. }) => Err(Taken::TooHigh(TooHigh { h: self.handled, sent })),
            Some(HandedOver { sent: None, safe, details, unacknowledged, .. }) => Ok(Found {
                safe,
                details: details.unwrap_or_default(),
                known: Vec::new(),
                unacknowledged,
                is_bereaved: false,
            }),
            // It lives, and has nothing of it.
            None => {
                let registry = service.registry();
                registry.close_stream(self.account, record.id, record.fence, record.h).await.ok();
                Err(Taken::Refused(Some(record.h)))
            }
        }
    }

    /// Its instance has died.
    async fn inherit(&self, record: &StreamRecord, previous: InstanceId) -> Result<Found, Taken> {
        let service = self.service();
        let away = |error: starling_store::Error| {
            warn!(account = %self.account, %error, "A stream cannot be taken from a dead instance");
            Taken::Away
        };
        let store = service.store();
        // From here on nothing of it is written any more.
        store.revoke(previous.0).await.map_err(away)?;
        service.link().end(previous);
        let released = store.release_account(self.account.as_str(), previous.0).await.map_err(away)?;
        // What this client had sent, and may be in flight there, must not be overtaken by what it sends here.
        if let Err(error) = service.release_all(previous).await {
            warn!(account = %self.account, %error, "A stream cannot be taken from a dead instance");
            return Err(Taken::Away);
        }
        let mut details = Details::decode(record.details.as_slice()).unwrap_or_default();
        // It may have ended in order, and have said what was where in the stream.
        let left = std::mem::take(&mut details.left);
        let received = self.handled.wrapping_sub(std::mem::take(&mut details.acknowledged)) as usize;
        let (received, missing) = left.split_at_checked(received).unwrap_or((&[], &left));
        self.confirm(received).await;
        let released = released.iter().map(|id| id.0.to_be_bytes().to_vec());
        let named = missing.iter().filter(|id| !id.is_empty()).cloned().chain(released);
        let unacknowledged: Vec<_> = named.map(|id| Unacknowledged { stanza: Vec::new(), id }).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = now.saturating_sub(LOOK_BACK).as_millis().try_into().unwrap_or(u64::MAX);
        let sent = store.sent(self.account.as_str(), self.id, MessageId::new(since, 0, 0)).await.map_err(away)?;
        let is_behind = |count: u32| count.wrapping_sub(record.h) as i32 > 0;
        let known = sent.into_iter().filter(|(count, _)| is_behind(*count));
        let known: Vec<_> = known.filter_map(|(count, stanza)| Some((count, essence_of(&stanza)?))).collect();
        info!(full = %record.full, from = %previous, released = unacknowledged.len(), known = known.len(), "Stream of a dead instance taken over");
        Ok(Found { safe: record.h, details, known, unacknowledged, is_bereaved: true })
    }

    async fn adopt(
        &self,
        record: &StreamRecord,
        previous: InstanceId,
        found: Found,
    ) -> Result<(Box<Live>, u32), Taken> {
        let service = self.service();
        let Ok(sessions) = service.registry().sessions(self.account).await else { return Err(Taken::Away) };
        let Some(bound) = sessions.iter().find(|bound| bound.id == record.session) else {
            debug!(full = %record.full, "A stream's session is not bound any more");
            service.registry().close_stream(self.account, record.id, record.fence, record.h).await.ok();
            return Err(Taken::Refused(Some(record.h)));
        };
        let Found { safe, details, known, unacknowledged, is_bereaved } = found;
        let (session, inbox) = service.adopt(bound, &details);
        self.settle(record, bound, &session).await?;
        self.say_settled(previous);
        let unacknowledged = self.claim(unacknowledged).await;
        for item in &unacknowledged {
            if let Item::Shared(envelope) = item {
                inbox.took(envelope.stanza.len());
            }
        }
        let record = StreamRecord { previous: None, state: StreamState::Live, ..record.clone() };
        let (seconds, written) = (record.seconds, record.h);
        let shadow = self.shared.recorder.shadow(record, details, true);
        let claim = self.shared.resumable.claim(self.id, &session, seconds, Some(Arc::clone(&shadow)));
        let mut managed = Managed::moved(Moved { id: self.id, safe, handled: self.handled, known, unacknowledged });
        managed.record_by(Box::new(Arc::clone(&shadow)));
        if safe != written {
            shadow.record_now(safe, RECORD).await;
        }
        if is_bereaved {
            inbox.miss_presence();
        }
        session.catch_up().await;
        self.shared.metrics.taken_over.inc();
        Ok((Box::new(Live { session, inbox, managed: Box::new(managed), claim }), safe))
    }

    /// The client has these messages, of which the store does not know that yet.
    async fn confirm(&self, received: &[Vec<u8>]) {
        let ids: Vec<_> = received.iter().filter_map(|id| message_id(id)).collect();
        if ids.is_empty() {
            return;
        }
        let service = self.service();
        match service.store().claim_these(self.account.as_str(), &ids).await {
            Ok(rows) => {
                let claimed = rows.into_iter().filter_map(|row| starling_session::moving::claimed(self.account, row));
                claimed.for_each(|envelope| service.acknowledged(&envelope));
            }
            // They come again, with the backlog.
            Err(error) => warn!(account = %self.account, %error, "What a client has is not known to the store"),
        }
    }

    /// Messages whose rows wait are this instance's from here on; of others, another client has them, and this one gets them
    /// as it would have.
    async fn claim(&self, unacknowledged: Vec<Unacknowledged>) -> Vec<Item> {
        let ids: Vec<_> = unacknowledged.iter().filter_map(|of| message_id(&of.id)).collect();
        // What entered here was returned to here, and is on its way into the store.
        self.service().journal_barrier().await;
        let claimed = match self.service().store().claim_these(self.account.as_str(), &ids).await {
            Ok(claimed) => claimed,
            Err(error) => {
                // Their rows wait: they come with the backlog.
                warn!(account = %self.account, %error, "Messages of a session that was taken over are fetched later");
                return unacknowledged.into_iter().filter(|of| of.id.is_empty()).map(own).collect();
            }
        };
        let mut claimed: HashMap<_, _> = claimed.into_iter().map(|row| (row.id, row)).collect();
        let item = |of: Unacknowledged| match message_id(&of.id).and_then(|id| claimed.remove(&id)) {
            Some(row) => starling_session::moving::claimed(self.account, row).map(Item::Shared),
            None => (!of.stanza.is_empty()).then(|| own(of)),
        };
        unacknowledged.into_iter().filter_map(item).collect()
    }

    /// From here on others send to this instance.
    async fn settle(&self, record: &StreamRecord, bound: &SessionRecord, session: &Session) -> Result<(), Taken> {
        let registry = self.service().registry();
        for _ in 0..SETTLE {
            match registry.settle_stream(record).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    debug!(full = %bound.full, "Somebody else has the stream by now");
                    session.discard();
                    return Err(Taken::Refused(None));
                }
                Err(error) => debug!(full = %bound.full, %error, "A stream is not settled yet"),
            }
        }
        session.discard();
        Err(Taken::Away)
    }

    fn say_settled(&self, previous: InstanceId) {
        if self.service().link().is_here(previous) {
            self.shared.frozen.settle(self.id);
        } else {
            let stream = self.id.to_be_bytes().to_vec();
            self.service().tell(previous, notice::What::Settling(Settling { stream }));
        }
    }
}

/// `None`: it is no message that is kept.
fn message_id(bytes: &[u8]) -> Option<MessageId> {
    Some(MessageId(u128::from_be_bytes(bytes.try_into().ok()?)))
}

fn own(unacknowledged: Unacknowledged) -> Item {
    Item::Own(unacknowledged.stanza.into())
}

/// Returns when an instance is known to be dead: no router of ours has it, and its lease is over.
async fn is_dead(service: &Service, instance: InstanceId) {
    loop {
        if service.link().is_gone(instance) {
            return;
        }
        let is_absent = service.link().absent().iter().any(|(absent, _)| *absent == instance);
        if is_absent && matches!(service.registry().is_alive(instance).await, Ok(false)) {
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}
