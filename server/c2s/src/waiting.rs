//! A session whose connection was cut: it takes what comes for its client until the client resumes it, or does not
//! (XEP-0198 §5).

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use starling_link::{Inbox, Parcel};
use starling_session::{Session, moving::Returning};
use starling_xmpp::error::{StreamCondition, StreamError};
use tokio::{sync::oneshot, time::Sleep};
use tracing::debug;

use crate::{
    handing::leave_behind,
    managed::{Item, Managed},
    resumption::Live,
    server::Shared,
    timer::Timer,
};

/// When the process stops: how long a client has to come back by another instance, which asks for what is left here. One that
/// comes later finds it in registry and store.
const STOPPING: Duration = Duration::from_secs(3);

/// Why the wait is over.
enum Over {
    /// The client resumes the session.
    Requested(oneshot::Sender<Box<Live>>),
    /// The client did not come in time, or somebody ends the session.
    Ended(&'static str),
    /// The process ends, and others can go on with the session.
    Stopped,
}

impl Live {
    /// Waits for the client. Whatever comes of it, the session is in somebody's hands or has ended afterwards.
    pub(crate) async fn wait(mut self, shared: &Arc<Shared>) {
        let time = Duration::from_secs(self.claim.seconds().into());
        let heard = since_1970();
        if let Some(shadow) = self.claim.shadow() {
            shadow.detach(millis(heard + time), self.session.details(millis(heard)));
        }
        let is_shared = self.claim.shadow().is_some();
        loop {
            let over = {
                let mut deadline = pin!(tokio::time::sleep(time));
                let mut stopped = pin!(async {
                    shared.stop.cancelled().await;
                    tokio::time::sleep(STOPPING).await;
                });
                let mut timer = Timer::default();
                poll_fn(|cx| {
                    if is_shared && stopped.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Over::Stopped);
                    }
                    self.poll(deadline.as_mut(), &mut timer, cx)
                })
                .await
            };
            match over {
                Over::Stopped => return self.abandon(shared).await,
                Over::Requested(sender) => match sender.send(Box::new(self)) {
                    Ok(()) => return,
                    // Whoever asked is gone again.
                    Err(live) => self = *live,
                },
                Over::Ended(reason) => {
                    debug!(full = %self.session.full(), reason, "Session not resumed.");
                    shared.metrics.not_resumed.inc();
                    self.end().await;
                    return;
                }
            }
        }
    }

    fn poll(&mut self, deadline: std::pin::Pin<&mut Sleep>, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<Over> {
        if let Some(sender) = self.claim.request(cx.waker()) {
            return Poll::Ready(Over::Requested(sender));
        }
        while let Poll::Ready(Some(parcel)) = self.inbox.poll_recv(cx) {
            if let Parcel::Stanza(envelope) = parcel {
                self.managed.sent(envelope);
            }
        }
        let closing = self.inbox.closing();
        // When the process stops, what others can resume is not ended.
        let stops = |error: &&StreamError| error.condition == StreamCondition::SystemShutdown;
        if let Some(error) = closing.filter(|error| !(stops(error) && self.claim.shadow().is_some())) {
            let reason = if error.condition == StreamCondition::Conflict { "replaced" } else { "ended by the server" };
            return Poll::Ready(Over::Ended(reason));
        }
        if deadline.poll(cx).is_ready() {
            return Poll::Ready(Over::Ended("the client did not come back"));
        }
        self.tend(timer, cx);
        Poll::Pending
    }

    fn tend(&mut self, timer: &mut Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        let (before, mut errors) = (self.session.safe(), Vec::new());
        loop {
            while self.session.tend(now, &mut errors) {}
            self.session.register(cx.waker());
            if self.session.is_tended() {
                break;
            }
        }
        self.managed.sent_errors(&errors, before);
        timer.arm(self.session.deadline(now), cx);
    }

    /// Ends the session: what its client has not acknowledged goes where it can still be had, in order.
    async fn end(self) {
        let Self { session, inbox, mut managed, claim } = self;
        managed.safe(session.safe());
        claim.ended(managed.final_count());
        give_back(&session, inbox, managed).await;
        session.end().await;
    }

    /// The same, but for whoever resumes it elsewhere, it is still there.
    async fn abandon(self, shared: &Arc<Shared>) {
        match self.managed.id() {
            Some(id) => leave_behind(shared, id, self).await,
            None => self.end().await,
        }
    }
}

/// What the client does not have goes to the store, before anybody learns that the session is not here any more.
async fn give_back(session: &Session, mut inbox: Inbox, mut managed: Box<Managed>) {
    let (service, mut returning) = (session.service(), Returning::default());
    // With nothing waited for in between: what is sent from now on must not get into the store first.
    for item in managed.drain() {
        if let Item::Shared(envelope) = item {
            returning.push(service, &envelope);
        }
    }
    session.detach();
    inbox.close();
    while let Some(parcel) = inbox.try_recv() {
        if let Parcel::Stanza(envelope) = parcel {
            returning.push(service, &envelope);
        }
    }
    returning.settled(service).await;
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
