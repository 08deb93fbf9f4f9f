//! What waits for one instance: batches from everybody, gathered into frames as fast as the instance takes them.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use starling_proto::link::{Batch, Down, Frame, Members, Welcome, down};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::WatchStream};
use tonic::Status;

use crate::metrics::{Dropped, Metrics};

/// Bytes that may wait for one instance. Credits hold each origin to about a mebibyte, so that this is full only when an
/// instance has stopped to read and many others do not know it yet.
const BYTES: usize = 64 << 20;
/// Of one frame; the batch that goes over it is still in.
const FRAME_BYTES: usize = 256 * 1024;
/// Batches of one frame.
const FRAME_BATCHES: usize = 64;

/// The end that batches are put into.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    /// Unbounded by itself: `bytes` counts what is in it. `None` ends the stream.
    queue: mpsc::UnboundedSender<Option<Batch>>,
    bytes: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// The stream that the instance reads.
pub(crate) struct Outgoing {
    welcome: Option<Welcome>,
    members: WatchStream<Arc<Members>>,
    queue: mpsc::UnboundedReceiver<Option<Batch>>,
    gathered: Vec<Batch>,
    has_ended: bool,
    bytes: Arc<AtomicUsize>,
    metrics: Metrics,
}

#[allow(clippy::disallowed_methods, reason = "`bytes` bounds it")]
pub(crate) fn outbox(welcome: Welcome, members: WatchStream<Arc<Members>>, metrics: &Metrics) -> (Outbox, Outgoing) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let bytes = Arc::new(AtomicUsize::new(0));
    let metrics = metrics.clone();
    let outbox = Outbox { queue: sender, bytes: Arc::clone(&bytes), metrics: metrics.clone() };
    let gathered = Vec::with_capacity(FRAME_BATCHES);
    let outgoing =
        Outgoing { welcome: Some(welcome), members, queue: receiver, gathered, has_ended: false, bytes, metrics };
    (outbox, outgoing)
}

impl Outbox {
    pub(crate) fn put(&self, batch: Batch) {
        let size = batch.body.len();
        if self.bytes.fetch_add(size, Ordering::Relaxed) >= BYTES {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            self.metrics.dropped(Dropped::Full);
            return;
        }
        self.metrics.queued_bytes.add(signed(size));
        if self.queue.send(Some(batch)).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            self.metrics.queued_bytes.sub(signed(size));
            self.metrics.dropped(Dropped::NoDestination);
            return;
        }
        self.metrics.forwarded.inc();
        self.metrics.forwarded_bytes.inc_by(size as u64);
    }

    /// Ends the stream, behind what is in the queue. (Dropped, it might not be for a while: see `papaya`.)
    pub(crate) fn end(&self) {
        self.queue.send(None).ok();
    }
}

impl Stream for Outgoing {
    type Item = Result<Down, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let said = |what| Poll::Ready(Some(Ok(Down { what: Some(what) })));
        if let Some(welcome) = this.welcome.take() {
            return said(down::What::Welcome(welcome));
        }
        if let Poll::Ready(Some(members)) = Pin::new(&mut this.members).poll_next(cx) {
            return said(down::What::Members(Arc::unwrap_or_clone(members)));
        }
        let mut size = 0;
        while !this.has_ended && size < FRAME_BYTES && this.gathered.len() < FRAME_BATCHES {
            match this.queue.poll_recv(cx) {
                Poll::Ready(Some(Some(batch))) => {
                    size += batch.body.len();
                    this.gathered.push(batch);
                }
                Poll::Ready(Some(None) | None) => {
                    this.has_ended = true;
                    break;
                }
                Poll::Pending if this.gathered.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if this.gathered.is_empty() {
            return Poll::Ready(None);
        }
        this.bytes.fetch_sub(size, Ordering::Relaxed);
        this.metrics.queued_bytes.sub(signed(size));
        let next = Vec::with_capacity(this.gathered.len());
        said(down::What::Frame(Frame { batches: std::mem::replace(&mut this.gathered, next) }))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.queue.close();
        while let Ok(batch) = self.queue.try_recv() {
            self.metrics.queued_bytes.sub(signed(batch.map_or(0, |batch| batch.body.len())));
        }
    }
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use tokio::sync::watch;
    use tokio_stream::StreamExt;

    use super::*;

    fn world() -> (Outbox, Outgoing, watch::Sender<Arc<Members>>, Metrics) {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let (members, watched) = watch::channel(Arc::new(Members::default()));
        let (outbox, outgoing) = outbox(Welcome::default(), WatchStream::new(watched), &metrics);
        (outbox, outgoing, members, metrics)
    }

    fn batch(size: usize) -> Batch {
        Batch { origin: 1, destination: 2, body: vec![0; size].into() }
    }

    async fn next(outgoing: &mut Outgoing) -> down::What {
        outgoing.next().await.unwrap().unwrap().what.unwrap()
    }

    #[tokio::test]
    async fn a_welcome_comes_first_then_the_members_then_what_waits_in_few_frames() {
        let (outbox, mut outgoing, _members, metrics) = world();
        for _ in 0..3 * FRAME_BATCHES / 2 {
            outbox.put(batch(10));
        }
        assert!(matches!(next(&mut outgoing).await, down::What::Welcome(_)));
        assert!(matches!(next(&mut outgoing).await, down::What::Members(_)));
        for expected in [FRAME_BATCHES, FRAME_BATCHES / 2] {
            let down::What::Frame(frame) = next(&mut outgoing).await else { panic!("no frame") };
            assert_eq!(frame.batches.len(), expected);
        }
        assert_eq!(metrics.queued_bytes.get(), 0);
    }

    #[tokio::test]
    async fn an_instance_that_does_not_read_is_held_to_its_bound_and_the_rest_is_dropped() {
        let (outbox, outgoing, _members, metrics) = world();
        for _ in 0..BYTES / FRAME_BYTES + 10 {
            outbox.put(batch(FRAME_BYTES));
        }
        assert_eq!(metrics.queued_bytes.get(), BYTES as i64);
        assert_eq!(metrics.forwarded.get(), (BYTES / FRAME_BYTES) as u64);
        drop(outgoing);
        assert_eq!(metrics.queued_bytes.get(), 0);
        outbox.put(batch(1));
        assert_eq!(metrics.queued_bytes.get(), 0);
    }

    #[tokio::test]
    async fn an_end_comes_behind_what_waits() {
        let (outbox, mut outgoing, _members, _) = world();
        outbox.put(batch(1));
        outbox.end();
        next(&mut outgoing).await;
        next(&mut outgoing).await;
        assert!(matches!(next(&mut outgoing).await, down::What::Frame(_)));
        assert!(outgoing.next().await.is_none() && outgoing.next().await.is_none());
    }
}
