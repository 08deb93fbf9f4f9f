//! A logged-in client: its stanzas in, those for it out.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use starling_link::{Inbox, Parcel};
use starling_session::{Session, Step};
use starling_stream::Transport;
use starling_xml::{Frame, Reader};
use starling_xmpp::error::{StreamCondition, StreamError};
use tokio::time::Sleep;
use tracing::debug;

use crate::{
    closing::say_last_words,
    limits::{Bucket, Permit},
    outbound::Outbound,
    scratch::Scratch,
    server::Shared,
};

/// Bytes that may wait for the socket before no more are taken from the inbox, whose own bound then holds the senders
/// off; and before the client's next stanza is handled, so that one that does not read its answers gets no more.
const HIGH_WATER: usize = 64 * 1024;
/// Chunks, likewise.
const HIGH_WATER_CHUNKS: usize = 64;

const END_OF_STREAM: &[u8] = b"</stream:stream>";

/// Everything about one logged-in client.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) transport: Transport,
    pub(crate) reader: Reader,
    pub(crate) session: Session,
    pub(crate) inbox: Inbox,
    pub(crate) outbound: Outbound,
    pub(crate) permit: Permit,
    pub(crate) pace: Option<Box<Pace>>,
    /// Armed while the client takes nothing.
    pub(crate) stalled: Option<Pin<Box<Sleep>>>,
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
    /// The client sent something.
    Read(Scratch),
    /// The client is gone.
    Gone(io::Result<()>),
    /// Somebody closes the session: a newer one, an administrator, the shutdown.
    Closed(StreamError),
    /// The client takes nothing.
    Stalled,
}

/// Why the loop ended.
enum End {
    /// With an error of ours for the client.
    Error(StreamError),
    /// The client ended its stream.
    Finished,
    /// There is no connection any more to say anything on.
    Gone,
}

impl Connection {
    /// Runs until the connection ends. `ahead`: what the client sent behind its bind request without waiting.
    pub(crate) async fn run(mut self, ahead: Vec<u8>) {
        let end = self.carry(ahead).await;
        let Self { shared, transport, session, mut inbox, mut outbound, permit, .. } = self;
        // From here on its senders are told that nobody is there; what they sent until now is still written.
        session.end().await;
        if !matches!(end, End::Gone) {
            while let Some(parcel) = inbox.try_recv() {
                if let Parcel::Stanza(envelope) = parcel {
                    outbound.push(envelope);
                }
            }
            if let End::Error(error) = &end {
                error.write(outbound.own());
            }
            outbound.own().extend_from_slice(END_OF_STREAM);
            say_last_words(transport, outbound, shared.limits.closing_time).await;
        }
        shared.metrics.connections.dec();
        drop(permit);
    }

    async fn carry(&mut self, ahead: Vec<u8>) -> End {
        // Whoever was attached before the stop is told by the link, whoever came later by this.
        if self.shared.stop.is_cancelled() {
            return End::Error(StreamCondition::SystemShutdown.into());
        }
        if let Err(end) = self.take(&ahead).await {
            return end;
        }
        drop(ahead);
        loop {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            let end = match event {
                Event::Read(bytes) => match self.take(&bytes).await {
                    Ok(()) => continue,
                    Err(end) => end,
                },
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
            };
            return end;
        }
    }

    /// One wake-up: what arrived for the client is queued and written, all of it at once; then the client is read.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            let more = self.fill(cx);
            if let Some(error) = self.inbox.closing() {
                return Poll::Ready(Event::Closed(error.clone()));
            }
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
        if self.is_paused(cx) || self.is_behind() {
            return Poll::Pending;
        }
        let mut scratch = Scratch::take();
        match self.transport.poll_read(cx, scratch.space()) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Event::Gone(Ok(()))),
            Poll::Ready(Ok(read)) => {
                scratch.fill(read);
                self.count(read);
                Poll::Ready(Event::Read(scratch))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Event::Gone(Err(error))),
        }
    }

    /// Takes from the inbox what may wait for the socket. `true`: there may be more.
    fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.is_behind() {
            match self.inbox.poll_recv(cx) {
                Poll::Ready(Some(Parcel::Stanza(envelope))) => self.outbound.push(envelope),
                Poll::Ready(Some(Parcel::Wake)) => {}
                // Every sender is gone only when the session was detached: `closing` says why.
                Poll::Ready(None) | Poll::Pending => return false,
            }
        }
        true
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
        let written = self.outbound.poll_write(&mut self.transport, cx)?;
        if written.stanzas > 0 {
            self.inbox.left(written.stanzas, written.bytes);
        }
        if written.all || self.outbound.len() < waiting {
            self.stalled = None;
        }
        Ok(written.all)
    }

    /// Whether the client has taken nothing for too long; the clock starts when a write first has to wait.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let timeout = self.shared.limits.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
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

    /// Handles the stanzas in `bytes`, one after the other (RFC 6120 §10.1).
    async fn take(&mut self, bytes: &[u8]) -> Result<(), End> {
        let mut rest = bytes;
        loop {
            match self.reader.read(&mut rest) {
                Ok(None) => return Ok(()),
                Ok(Some(Frame::Element(raw))) => match self.session.handle(raw, self.outbound.own()) {
                    Ok(Step::Done) => {}
                    Ok(Step::Wait(done)) => done.await,
                    Err(error) => return Err(End::Error(error)),
                },
                Ok(Some(Frame::Close)) => return Err(End::Finished),
                // The reader knows only one header per stream.
                Ok(Some(Frame::Open(_))) => {}
                Err(error) => return Err(End::Error(error.into())),
            }
            if self.is_behind() {
                self.catch_up().await?;
            }
        }
    }

    /// Waits until the client has taken its answers.
    async fn catch_up(&mut self) -> Result<(), End> {
        poll_fn(|cx| match self.poll_write(cx) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) if self.poll_stalled(cx) => {
                self.shared.metrics.write_timeouts.inc();
                Poll::Ready(Err(End::Gone))
            }
            Ok(false) => Poll::Pending,
            Err(_) => Poll::Ready(Err(End::Gone)),
        })
        .await
    }
}
