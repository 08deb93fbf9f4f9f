//! A logged-in client: its stanzas in, those for it out.

use std::{
    future::{Future, poll_fn},
    io,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use starling_link::{Envelope, Inbox, Origin, Parcel};
use starling_session::{Session, Step, moving::essence};
use starling_stream::Transport;
use starling_xml::{Frame, Reader};
use starling_xmpp::{
    acks::TooHigh,
    error::{StreamCondition, StreamError},
    ns,
};
use tokio::{sync::oneshot, time::Sleep};
use tracing::debug;

use crate::{
    closing::say_last_words,
    finished::Finished,
    limits::{Bucket, Permit},
    managed::{Incoming, Managed},
    outbound::Outbound,
    resumption::{Claim, Live},
    scratch::Scratch,
    server::Shared,
    timer::Timer,
};

/// Bytes that may wait for the socket before no more are taken from the inbox, whose own bound then holds the senders
/// off; and before the client's next stanza is handled, so that one that does not read its answers gets no more.
const HIGH_WATER: usize = 64 * 1024;
/// Chunks, likewise.
const HIGH_WATER_CHUNKS: usize = 64;

pub(crate) const END_OF_STREAM: &[u8] = b"</stream:stream>";

/// Everything about one logged-in client.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) transport: Transport,
    pub(crate) reader: Reader,
    pub(crate) session: Session,
    pub(crate) inbox: Inbox,
    pub(crate) outbound: Outbound,
    /// Once the client has enabled stream management.
    pub(crate) managed: Option<Box<Managed>>,
    /// Held while the session can be resumed.
    pub(crate) claim: Option<Claim>,
    pub(crate) permit: Permit,
    pub(crate) pace: Option<Box<Pace>>,
    /// What came and is not handled yet.
    pub(crate) input: Option<Input>,
    /// Armed while the client takes nothing.
    pub(crate) stalled: Option<Pin<Box<Sleep>>>,
    /// For what is due without anything happening: acknowledgements, messages that are not safe.
    pub(crate) timer: Timer,
}

/// Bytes from the client, and how many of them are handled.
pub(crate) struct Input {
    bytes: Bytes,
    at: usize,
}

enum Bytes {
    /// Just read.
    Read(Scratch),
    /// What came behind the bind request.
    Ahead(Vec<u8>),
}

impl Input {
    pub(crate) fn ahead(bytes: Vec<u8>) -> Option<Self> {
        (!bytes.is_empty()).then_some(Self { bytes: Bytes::Ahead(bytes), at: 0 })
    }
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = match &self.bytes {
            Bytes::Read(scratch) => scratch,
            Bytes::Ahead(ahead) => ahead.as_slice(),
        };
        bytes.get(self.at..).unwrap_or_default()
    }
}

/// How fast the client may send.
pub(crate) struct Pace {
    bucket: Bucket,
    /// Armed while reading pauses.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(crate) fn new((rate, burst): (f64, f64)) -> Self {
        Self { bucket: Bucket::new(rate, burst, Instant::now()), pause: None }
    }
}

/// What the connection woke up for.
enum Event {
    /// There is input to handle.
    Input,
    /// Kept messages wait in the store, and there is room for them.
    Backlog,
    /// Presence did not fit, and there is room again.
    MissedPresence,
    /// The client is gone.
    Gone(io::Result<()>),
    /// Somebody closes the session: a newer one, an administrator, the shutdown.
    Closed(StreamError),
    /// The client takes nothing.
    Stalled,
    /// The client resumes the session on another connection.
    Requested(oneshot::Sender<Box<Live>>),
}

/// Why the loop ended.
pub(crate) enum End {
    /// With an error of ours for the client.
    Error(StreamError),
    /// The client acknowledges what it was not sent (XEP-0198 §4).
    TooHigh(TooHigh),
    /// The client ended its stream.
    Finished,
    /// There is no connection any more to say anything on.
    Gone,
    /// The session goes on elsewhere.
    Requested(oneshot::Sender<Box<Live>>),
}

impl Connection {
    /// Runs until the connection ends; what is left of the session then waits to be resumed, or ends.
    pub(crate) async fn run(mut self) {
        let end = self.carry().await;
        // Boxed, as all that comes once: an idle connection's task is as large as the largest of its waits.
        Box::pin(self.conclude(end)).await;
    }

    async fn conclude(self, end: End) {
        let Self { shared, transport, reader, session, inbox, mut outbound, managed, claim, permit, .. } = self;
        let service = Arc::clone(session.service());
        match (end, managed, claim) {
            (End::Requested(sender), Some(managed), Some(claim)) => {
                let unmanaged: Vec<_> = outbound.unwritten().collect();
                let left = sender.send(Box::new(Live { session, inbox, managed, claim }));
                for envelope in unmanaged {
                    service.returned(&envelope);
                }
                shared.metrics.connections.dec();
                drop(permit);
                if let Err(live) = left {
                    // Whoever asked is gone again.
                    live.wait(&shared).await;
                    return;
                }
                // The client has gone over to the other connection: this one says so, and nothing else.
                let mut outbound = Outbound::default();
                StreamError::from(StreamCondition::Conflict).write(outbound.own());
                outbound.own().extend_from_slice(END_OF_STREAM);
                let time = shared.closing_time();
                say_last_words(transport, &mut outbound, time, drop, |_| {}).await;
            }
            // Whoever the client reaches next takes it over from here, or finds it in the store.
            (End::Error(error), Some(managed), Some(claim))
                if error.condition == StreamCondition::SystemShutdown && claim.shadow().is_some() =>
            {
                error.write(outbound.own());
                outbound.own().extend_from_slice(END_OF_STREAM);
                let time = shared.closing_time();
                shared.tasks.spawn(async move {
                    let taken = |envelope| service.acknowledged(&envelope);
                    say_last_words(transport, &mut outbound, time, taken, |_| {}).await;
                    outbound.unwritten().for_each(|envelope| service.returned(&envelope));
                    drop(permit);
                });
                shared.metrics.connections.dec();
                Box::pin(Live { session, inbox, managed, claim }.wait(&shared)).await;
            }
            (End::Gone, Some(managed), Some(claim)) => {
                for envelope in outbound.unwritten() {
                    service.returned(&envelope);
                }
                drop(transport);
                shared.metrics.connections.dec();
                drop(permit);
                Box::pin(Live { session, inbox, managed, claim }.wait(&shared)).await;
            }
            (end, managed, claim) => {
                drop(claim);
                let finished = Finished { shared: &shared, transport, reader, inbox, outbound, managed };
                finished.finish(session, &end).await;
                shared.metrics.connections.dec();
                drop(permit);
            }
        }
    }

    async fn carry(&mut self) -> End {
        // Whoever was attached before the stop is told by the link, whoever came later by this.
        if self.shared.stop.is_cancelled() {
            return End::Error(StreamCondition::SystemShutdown.into());
        }
        loop {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            let end = match event {
                Event::Input => match self.take().await {
                    Ok(()) => continue,
                    Err(end) => end,
                },
                Event::Backlog => {
                    Box::pin(self.fetch_backlog()).await;
                    continue;
                }
                Event::MissedPresence => {
                    Box::pin(self.refresh_presence()).await;
                    continue;
                }
                Event::Closed(error) => End::Error(error),
                Event::Gone(Ok(())) => End::Gone,
                Event::Gone(Err(error)) => {
                    debug!(full = %self.session.full(), %error, "Connection lost.");
                    End::Gone
                }
                Event::Stalled => {
                    debug!(full = %self.session.full(), waiting = self.outbound.len(), "Client takes nothing.");
                    self.shared.metrics.write_timeouts.inc();
                    End::Gone
                }
                Event::Requested(sender) => End::Requested(sender),
            };
            return end;
        }
    }

    /// One wake-up: what arrived for the client is queued and written, all of it at once; then the client is read.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(sender) = self.claim.as_ref().and_then(|claim| claim.request(cx.waker())) {
            return Poll::Ready(Event::Requested(sender));
        }
        loop {
            let more = self.fill(cx);
            if let Some(error) = self.inbox.closing() {
                return Poll::Ready(Event::Closed(error.clone()));
            }
            self.tend(cx);
            match self.poll_write(cx) {
                Ok(true) if more => {}
                Ok(true) => break,
                Ok(false) => {
                    if self.poll_stalled(cx) {
                        return Poll::Ready(Event::Stalled);
                    }
                    break;
                }
                Err(error) => return Poll::Ready(Event::Gone(Err(error))),
            }
        }
        if let Some(managed) = &self.managed
            && managed.is_overdrawn()
        {
            let error = StreamError::with_text(StreamCondition::PolicyViolation, "too much is not acknowledged");
            return Poll::Ready(Event::Closed(error));
        }
        if self.is_paused(cx) || self.is_behind() {
            return Poll::Pending;
        }
        if self.inbox.has_backlog() && self.inbox.has_room() && self.timer.may_retry(cx) {
            return Poll::Ready(Event::Backlog);
        }
        if self.inbox.has_room() && self.inbox.has_missed_presence() {
            return Poll::Ready(Event::MissedPresence);
        }
        if self.session.is_paused() {
            return Poll::Pending;
        }
        if self.input.is_some() {
            return Poll::Ready(Event::Input);
        }
        let mut scratch = Scratch::take();
        match self.transport.poll_read(cx, scratch.space()) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Event::Gone(Ok(()))),
            Poll::Ready(Ok(read)) => {
                scratch.fill(read);
                self.count(read);
                self.input = Some(Input { bytes: Bytes::Read(scratch), at: 0 });
                Poll::Ready(Event::Input)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Event::Gone(Err(error))),
        }
    }

    /// Takes from the inbox what may wait for the socket. `true`: there may be more.
    fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut queued, mut urgent) = (false, false);
        let more = loop {
            if self.is_behind() {
                break true;
            }
            match self.inbox.poll_recv(cx) {
                Poll::Ready(Some(Parcel::Stanza(envelope))) => {
                    queued = true;
                    // Nothing but the acknowledgement makes it safe.
                    urgent |= envelope.tracking.as_ref().is_some_and(|tracking| !tracking.archived);
                    self.push(envelope);
                }
                Poll::Ready(Some(Parcel::Wake)) => {}
                // Every sender is gone only when the session was detached: `closing` says why.
                Poll::Ready(None) | Poll::Pending => break false,
            }
        };
        if queued && let Some(managed) = &mut self.managed {
            managed.wrote(urgent, Instant::now());
        }
        more
    }

    fn push(&mut self, envelope: Arc<Envelope>) {
        match &mut self.managed {
            Some(managed) => {
                managed.sent(Arc::clone(&envelope));
                self.outbound.push_managed(envelope);
            }
            None => self.outbound.push(envelope),
        }
    }

    /// What is due now: errors for what could not be kept, acknowledgements.
    fn tend(&mut self, cx: &mut Context<'_>) {
        if self.managed.is_none() && self.session.is_settled() {
            return;
        }
        let now = Instant::now();
        let until = loop {
            let from = self.outbound.own().len();
            let before = self.session.safe();
            while self.session.tend(now, self.outbound.own()) {}
            let safe = self.session.safe();
            if let Some(managed) = &mut self.managed {
                managed.sent_errors(self.outbound.own().get(from..).unwrap_or_default(), before);
                managed.safe(safe);
            }
            let managed = self.managed.as_mut().and_then(|managed| managed.write(now, self.outbound.own()));
            let until = [managed, self.session.deadline(now)].into_iter().flatten().min();
            // What became safe before the waker was registered has woken nobody.
            self.session.register(cx.waker());
            if self.session.is_tended() && self.session.safe() == safe {
                break until;
            }
        };
        self.timer.arm(until, cx);
    }

    fn is_behind(&self) -> bool {
        self.outbound.len() >= HIGH_WATER || self.outbound.chunks() >= HIGH_WATER_CHUNKS
    }

    /// `true`: all is written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.outbound.is_empty() && self.stalled.is_none() {
            return Ok(true);
        }
        let waiting = self.outbound.len();
        let (service, inbox) = (self.session.service(), &self.inbox);
        let all = self.outbound.poll_write(&mut self.transport, cx, |envelope| {
            inbox.left(1, envelope.stanza.len());
            service.acknowledged(&envelope);
        })?;
        if all || self.outbound.len() < waiting {
            self.stalled = None;
        }
        Ok(all)
    }

    /// Whether the client has taken nothing for too long; the clock starts when a write first has to wait.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let timeout = || self.shared.rules.load().limits.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout())));
        stalled.as_mut().poll(cx).is_ready()
    }

    /// Whether reading pauses because the client sends too fast.
    fn is_paused(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(pace) = &mut self.pace else { return false };
        let Some(pause) = &mut pace.pause else { return false };
        if pause.as_mut().poll(cx).is_pending() {
            return true;
        }
        pace.pause = None;
        false
    }

    fn count(&mut self, read: usize) {
        self.shared.metrics.received_bytes.inc_by(read as u64);
        if let Some(pace) = &mut self.pace {
            let wait = pace.bucket.take(read as f64, Instant::now());
            if !wait.is_zero() {
                self.shared.metrics.slowed.inc();
                pace.pause = Some(Box::pin(tokio::time::sleep(wait)));
            }
        }
    }

    /// Handles what came, one stanza after the other (RFC 6120 §10.1), until the client has to wait.
    async fn take(&mut self) -> Result<(), End> {
        let Some(mut input) = self.input.take() else { return Ok(()) };
        // What was sent to the client before its own stanza came goes before the answer.
        while let Some(parcel) = self.inbox.try_recv() {
            if let Parcel::Stanza(envelope) = parcel {
                self.push(envelope);
            }
        }
        loop {
            let mut rest = &*input;
            let before = rest.len();
            match self.reader.read(&mut rest) {
                Ok(None) => return Ok(()),
                Ok(Some(Frame::Element(raw))) if raw.namespace() == ns::SM => {
                    let Self { shared, session, inbox, outbound, managed, claim, .. } = self;
                    let mut stream = crate::enabling::Stream { shared, session, inbox, managed, claim };
                    stream.handle(&raw, outbound.own())?;
                }
                Ok(Some(Frame::Element(raw))) => {
                    let essence = || essence(&raw);
                    let incoming = self.managed.as_mut().map(|managed| managed.received(raw.as_str(), essence));
                    self.session.set_origin(origin(self.managed.as_deref(), self.claim.as_ref()));
                    if incoming == Some(Incoming::Known) {
                        self.session.skip();
                    } else if incoming != Some(Incoming::Repeated) {
                        let from = self.outbound.own().len();
                        match self.session.handle(raw, self.outbound.own()) {
                            Ok(Step::Done) => {}
                            Ok(Step::Wait(done)) => done.await,
                            Err(error) => return Err(End::Error(error)),
                        }
                        if let Some(managed) = &mut self.managed {
                            let own = self.outbound.own().get(from..).unwrap_or_default();
                            managed.sent_own(own);
                            managed.wrote(false, Instant::now());
                        }
                        if self.session.has_new_details()
                            && let Some(shadow) = self.claim.as_ref().and_then(Claim::shadow)
                        {
                            shadow.set_details(self.session.details(0));
                        }
                    }
                }
                Ok(Some(Frame::Close)) => return Err(End::Finished),
                // The reader knows only one header per stream.
                Ok(Some(Frame::Open(_))) => {}
                Err(error) => return Err(End::Error(error.into())),
            }
            let handled = before - rest.len();
            input.at += handled;
            if self.is_behind() || self.session.is_paused() {
                self.input = Some(input);
                return Ok(());
            }
        }
    }

    async fn refresh_presence(&mut self) {
        let from = self.outbound.own().len();
        self.session.refresh_presence(self.outbound.own()).await;
        if let Some(managed) = &mut self.managed {
            managed.sent_own(self.outbound.own().get(from..).unwrap_or_default());
            managed.wrote(false, Instant::now());
        }
    }

    /// Kept messages that wait for the account go before whatever is in the inbox by then.
    async fn fetch_backlog(&mut self) {
        match self.session.fetch_backlog(&self.inbox).await {
            Ok(envelopes) => {
                for envelope in envelopes {
                    self.push(envelope);
                }
                if let Some(managed) = &mut self.managed {
                    managed.wrote(false, Instant::now());
                }
            }
            Err(_) => self.timer.retry_later(),
        }
    }
}

/// What the stanza that came last is in a stream that another instance may resume.
fn origin(managed: Option<&Managed>, claim: Option<&Claim>) -> Option<Origin> {
    claim?.shadow()?;
    let managed = managed?;
    Some(Origin { stream: managed.id?, count: managed.number() })
}
