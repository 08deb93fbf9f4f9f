//! A session whose connection was cut: it takes what comes for its client until the client resumes it, or does not
//! (XEP-0198 §5).

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use starling_link::Parcel;
use starling_xmpp::error::StreamCondition;
use tokio::{sync::oneshot, time::Sleep};
use tracing::debug;

use crate::{managed::Item, resumption::Live, server::Shared, timer::Timer};

/// Why the wait is over.
enum Over {
    /// The client resumes the session.
    Requested(oneshot::Sender<Box<Live>>),
    /// The client did not come in time, or somebody ends the session.
    Ended(&'static str),
}

impl Live {
    /// Waits for the client. Whatever comes of it, the session is in somebody's hands or has ended afterwards.
    pub(crate) async fn wait(mut self, shared: &Arc<Shared>) {
        loop {
            let over = {
                let time = Duration::from_secs(self.claim.seconds().into());
                let mut deadline = pin!(tokio::time::sleep(time));
                let mut timer = Timer::default();
                poll_fn(|cx| self.poll(deadline.as_mut(), &mut timer, cx)).await
            };
            match over {
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
        if let Some(error) = self.inbox.closing() {
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
        let mut errors = Vec::new();
        loop {
            while self.session.tend(now, &mut errors) {}
            self.session.register(cx.waker());
            if self.session.is_tended() {
                break;
            }
        }
        if !errors.is_empty() {
            self.managed.sent_own(&errors);
        }
        timer.arm(self.session.deadline(now), cx);
    }

    /// Ends the session: what its client has not acknowledged goes where it can still be had, in order.
    async fn end(self) {
        let Self { session, mut inbox, mut managed, claim } = self;
        managed.safe(session.safe());
        claim.ended(managed.safe_count());
        let service = Arc::clone(session.service());
        // With nothing waited for in between: what is sent from now on must not get into the store first.
        for item in managed.drain() {
            if let Item::Shared(envelope) = item {
                service.returned(&envelope);
            }
        }
        session.detach();
        inbox.close();
        while let Some(parcel) = inbox.try_recv() {
            if let Parcel::Stanza(envelope) = parcel {
                service.returned(&envelope);
            }
        }
        session.end().await;
    }
}
