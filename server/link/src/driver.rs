//! The one task that gives the mesh its sockets: it takes what sessions want sent and what routers bring, all that there is
//! of both, and then writes to each router at most one frame with everything for everybody behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use starling_proto::link::{Batch, Bye, Down, Draining, Frame, Revoked, Up, down, up};
use starling_registry::{InstanceId, SessionId};
use starling_xmpp::{error::StreamError, jid};
use tokio::{sync::mpsc, time::Sleep};
use tokio_stream::Stream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    Arrival, Envelope, Handler, Link as _, Outcome, Settled, Tracking,
    attach::Attached,
    gathering::Gathering,
    item::{Item, Report},
    mesh::Mesh,
    paths::Path,
    peer::Sink,
    routed::{Command, Shared},
    wire::Stanza,
};

/// Commands and messages of routers that are taken before something is written.
const TAKEN: usize = 1024;
/// Bytes of a frame; the batch that goes over it is still in.
const FRAME_BYTES: usize = 256 * 1024;
/// Revoked instances that a router is told of when it lets this one in.
const TOLD: usize = 1024;

pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) sender: mpsc::WeakUnboundedSender<Command>,
    pub(crate) attached: mpsc::Receiver<Attached>,
    pub(crate) left: CancellationToken,
    pub(crate) stop: CancellationToken,
    /// Ends those that attach.
    pub(crate) attaching: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

pub(crate) struct Driver {
    mesh: Mesh,
    outside: Outside,
    commands: mpsc::UnboundedReceiver<Command>,
    taken: Vec<Command>,
    attached: mpsc::Receiver<Attached>,
    routers: BTreeMap<Path, Attached>,
    next_path: u64,
    timer: Pin<Box<Sleep>>,
    gathering: Gathering,
    revoked: Vec<u64>,
    draining: bool,
    leaving: bool,
    /// Of these routers we wait for the end of their streams: they have heard what we said last.
    left_routers: BTreeSet<Path>,
    left: CancellationToken,
    stop: CancellationToken,
    attaching: CancellationToken,
}

/// Where things go that come out of the mesh.
struct Outside {
    shared: Arc<Shared>,
    handler: Arc<dyn Handler>,
    tasks: TaskTracker,
    /// Answers to be sent, which tasks hand back.
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { shared, handler, commands, sender, attached, left, stop, attaching, tasks } = parts;
        let own = shared.own;
        let outside = Outside { shared, handler, tasks, commands: sender };
        Self {
            mesh: Mesh::new(own),
            outside,
            commands,
            taken: Vec::new(),
            attached,
            routers: BTreeMap::new(),
            next_path: 0,
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            gathering: Gathering::default(),
            revoked: Vec::new(),
            draining: false,
            leaving: false,
            left_routers: BTreeSet::new(),
            left,
            stop,
            attaching,
        }
    }

    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = poll_fn(|cx| self.poll(cx)) => {}
        }
        self.attaching.cancel();
        self.left.cancel();
    }

    /// Ready when everything is said, after [`Command::Leave`].
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let mut budget = TAKEN;
        while let Poll::Ready(Some(attached)) = self.attached.poll_recv(cx) {
            self.open(attached);
        }
        let commanded = self.poll_commands(now, &mut budget, cx);
        let came = self.poll_routers(now, &mut budget, cx);
        self.mesh.tick(now, &mut self.outside);
        if self.mesh.has_new_absent() {
            *self.outside.shared.absent.lock().unwrap_or_else(PoisonError::into_inner) = self.mesh.absent();
        }
        if budget == 0 {
            // There may be more, but not before others had their turn.
            cx.waker().wake_by_ref();
        } else if commanded > 0 && !came && self.gathering.begins() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.gathering.ends(commanded);
        self.transmit(now, cx);
        if self.leaving && (self.mesh.is_settled() || !self.left_routers.is_empty()) && self.say_bye(cx) {
            return Poll::Ready(());
        }
        self.arm(now, cx);
        Poll::Pending
    }

    fn open(&mut self, attached: Attached) {
        self.next_path += 1;
        let path = Path(self.next_path);
        self.mesh.router_opened(path, attached.router);
        self.outside.shared.metrics.attachments.inc();
        self.routers.insert(path, attached);
        self.outside.shared.metrics.routers.set(self.routers.len() as i64);
        // It may not have been there when they were revoked.
        if !self.revoked.is_empty() {
            let instances = self.revoked.clone();
            self.say(path, up::What::Revoked(Revoked { instances }));
        }
        if self.draining {
            self.say(path, up::What::Draining(Draining {}));
        }
    }

    /// Something for a router that goes behind whatever frames wait: rare, and small.
    fn say(&mut self, path: Path, what: up::What) {
        let Some(sender) = self.routers.get(&path).and_then(|router| router.outgoing.get_ref()).cloned() else {
            return;
        };
        self.outside.tasks.spawn(async move { sender.send(Up { what: Some(what) }).await.ok() });
    }

    fn say_to_all(&mut self, what: &up::What) {
        for path in self.routers.keys().copied().collect::<Vec<_>>() {
            self.say(path, what.clone());
        }
    }

    /// Takes what sessions want sent. How much it was.
    fn poll_commands(&mut self, now: Instant, budget: &mut usize, cx: &mut Context<'_>) -> usize {
        let (mut taken, before) = (std::mem::take(&mut self.taken), *budget);
        // Until nothing is there: only then does the next one wake this task.
        while *budget > 0
            && let Poll::Ready(count @ 1..) = self.commands.poll_recv_many(cx, &mut taken, *budget)
        {
            *budget -= count;
            for command in taken.drain(..) {
                match command {
                    Command::Send(to, item) => self.mesh.send(to, item, now, &mut self.outside),
                    Command::Report(to, report) => self.mesh.report(to, report, now, &mut self.outside),
                    Command::End(instance) => self.end(instance),
                    Command::Drain => {
                        self.draining = true;
                        self.say_to_all(&up::What::Draining(Draining {}));
                    }
                    Command::Leave => self.leaving = true,
                }
            }
        }
        self.taken = taken;
        before - *budget
    }

    fn end(&mut self, instance: InstanceId) {
        if self.mesh.is_gone(instance) {
            return;
        }
        info!(%instance, "Instance is no more");
        self.mesh.end(instance, &mut self.outside);
        if self.revoked.len() >= TOLD {
            self.revoked.remove(0);
        }
        self.revoked.push(instance.0);
        self.say_to_all(&up::What::Revoked(Revoked { instances: vec![instance.0] }));
        self.publish();
    }

    /// Takes what routers bring. Whether anything came.
    fn poll_routers(&mut self, now: Instant, budget: &mut usize, cx: &mut Context<'_>) -> bool {
        let (mut lost, mut changed, mut came) = (Vec::new(), false, false);
        for (path, router) in &mut self.routers {
            while *budget > 0 {
                let what = match Pin::new(&mut router.incoming).poll_next(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(Ok(Down { what }))) => what,
                    Poll::Ready(Some(Err(status))) => {
                        debug!(error = status.message(), "Stream of a router ended");
                        lost.push(*path);
                        break;
                    }
                    Poll::Ready(None) => {
                        lost.push(*path);
                        break;
                    }
                };
                *budget -= 1;
                came = true;
                match what {
                    Some(down::What::Frame(frame)) => {
                        self.outside.shared.metrics.received.inc_by(frame.batches.len() as u64);
                        for batch in frame.batches {
                            let from = InstanceId(batch.origin);
                            if self.mesh.receive(from, &batch.body, now, &mut self.outside).is_err() {
                                warn!(%from, "A batch cannot be read");
                            }
                        }
                    }
                    Some(down::What::Members(members)) => {
                        self.mesh.members(*path, members, now, &mut self.outside);
                        changed = true;
                    }
                    // Once, and that was before; or of a newer release.
                    Some(down::What::Welcome(_)) | None => {}
                }
            }
        }
        for path in lost {
            self.close(path, now);
            changed = true;
        }
        if changed {
            self.publish();
        }
        came
    }

    fn close(&mut self, path: Path, now: Instant) {
        if let Some(router) = self.routers.remove(&path) {
            router.lost.cancel();
        }
        self.mesh.router_closed(path, now);
        self.outside.shared.metrics.routers.set(self.routers.len() as i64);
    }

    fn publish(&self) {
        let described = self.mesh.described();
        let others = described.keys().filter(|id| **id != self.outside.shared.own).count();
        self.outside.shared.metrics.instances.set(others as i64);
        self.outside.shared.members.send_if_modified(|members| {
            let is_new = **members != described;
            if is_new {
                *members = Arc::new(described);
            }
            is_new
        });
    }

    /// Writes to each router that takes it one frame after the other, until there is nothing to say for now.
    fn transmit(&mut self, now: Instant, cx: &mut Context<'_>) {
        loop {
            let mut frames: BTreeMap<Path, (Vec<Batch>, usize)> = BTreeMap::new();
            let mut lost = Vec::new();
            for (path, router) in self.routers.iter_mut().filter(|(path, _)| !self.left_routers.contains(path)) {
                match router.outgoing.poll_reserve(cx) {
                    Poll::Ready(Ok(())) => drop(frames.insert(*path, (Vec::new(), 0))),
                    Poll::Ready(Err(_)) => lost.push(*path),
                    Poll::Pending => {}
                }
            }
            lost.into_iter().for_each(|path| self.close(path, now));
            loop {
                let takes = |path: Path| frames.get(&path).is_some_and(|(_, bytes)| *bytes < FRAME_BYTES);
                let Some((path, destination, body)) = self.mesh.transmit(now, takes) else { break };
                let Some((batches, bytes)) = frames.get_mut(&path) else { break };
                *bytes += body.len();
                let metrics = &self.outside.shared.metrics;
                metrics.batches.inc();
                metrics.batch_bytes.inc_by(body.len() as u64);
                batches.push(Batch { origin: 0, destination: destination.0, body: body.into() });
            }
            let mut more = false;
            for (path, (batches, bytes)) in frames {
                if batches.is_empty() {
                    continue;
                }
                more |= bytes >= FRAME_BYTES;
                self.outside.shared.metrics.frames.inc();
                let frame = Up { what: Some(up::What::Frame(Frame { batches })) };
                if let Some(router) = self.routers.get_mut(&path)
                    && router.outgoing.send_item(frame).is_err()
                {
                    self.close(path, now);
                }
            }
            if !more {
                return;
            }
        }
    }

    /// Whether every router has been told, and has heard it.
    fn say_bye(&mut self, cx: &mut Context<'_>) -> bool {
        self.attaching.cancel();
        for (path, router) in &mut self.routers {
            if self.left_routers.contains(path) || router.outgoing.poll_reserve(cx).is_pending() {
                continue;
            }
            router.outgoing.send_item(Up { what: Some(up::What::Bye(Bye {})) }).ok();
            // The router ends its half when it has read all of ours: were the stream dropped now, it might not.
            router.outgoing.close();
            self.left_routers.insert(*path);
            cx.waker().wake_by_ref();
        }
        self.routers.is_empty()
    }

    fn arm(&mut self, now: Instant, cx: &mut Context<'_>) {
        let Some(due) = self.mesh.due() else { return };
        let due = tokio::time::Instant::from_std(due.max(now));
        if self.timer.is_elapsed() || self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl Outside {
    /// A stanza that came, as an envelope of this process.
    fn envelope(from: InstanceId, sequence: u64, stanza: &Stanza<'_>) -> Option<Envelope> {
        let sender = jid::parse(stanza.from).ok()?;
        let to = if stanza.to.is_empty() { None } else { Some(jid::parse(stanza.to).ok()?) };
        let tracking = stanza.id.map(|id| Tracking::arrived(id, stanza.archived, Arrival { from, sequence }));
        let (kind, copied) = (stanza.kind?, stanza.copied);
        Some(Envelope { to, from: sender, kind, stanza: stanza.stanza.to_vec(), copied, tracking })
    }

    fn deliver(&self, from: InstanceId, full: &str, envelope: &Arc<Envelope>, refused: bool) {
        if refused {
            return;
        }
        if let Some(tracking) = &envelope.tracking {
            tracking.hold();
        }
        match (self.shared.local.send_here(full, envelope), &envelope.tracking) {
            (Outcome::Queued, _) => {}
            (_, Some(tracking)) => drop(tracking.release()),
            (outcome, None) => self.handler.undelivered(from, envelope, outcome),
        }
    }
}

impl Sink for Outside {
    fn stanza(
        &mut self,
        from: InstanceId,
        sequence: u64,
        stanza: &Stanza<'_>,
        refuses: &dyn Fn(&str) -> bool,
    ) -> Option<Report> {
        let Some(envelope) = Self::envelope(from, sequence, stanza).map(Arc::new) else {
            warn!(%from, "A stanza of an unknown kind, or with an address that is none");
            return None;
        };
        if envelope.copied {
            self.handler.copied(&envelope);
        }
        if stanza.to_domain {
            let domain = envelope.to.as_ref().map_or("", |to| to.domain().as_str());
            let outcome = self.shared.local.send_domain(domain, &envelope);
            if outcome != Outcome::Queued {
                self.handler.undelivered(from, &envelope, outcome);
            }
        } else if stanza.targets.is_empty() {
            self.deliver(from, stanza.to, &envelope, refuses(stanza.to));
        } else {
            stanza.targets.iter().for_each(|full| self.deliver(from, full, &envelope, refuses(full)));
        }
        let acknowledged = match envelope.tracking.as_ref()?.release() {
            Settled::Nothing => return None,
            Settled::Delivered => true,
            Settled::Returned => {
                self.shared.metrics.returned.inc();
                false
            }
        };
        Some(Report { sequence, acknowledged, envelope })
    }

    fn returned(&mut self) -> u64 {
        self.shared.horizon.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn taken(&mut self) {
        self.shared.metrics.taken.inc();
    }

    fn poke(&mut self, full: &str, session: SessionId) {
        self.shared.local.poke_here(full, session);
    }

    fn close(&mut self, full: &str, session: SessionId, error: StreamError) {
        self.shared.local.close_here(full, session, error);
    }

    fn request(&mut self, from: InstanceId, id: u64, content: prost::bytes::Bytes) {
        let (answer, commands) = (self.handler.request(from, content), self.commands.clone());
        let (waiting, metrics) = (self.shared.waiting(from), self.shared.metrics.clone());
        self.tasks.spawn(async move {
            let item = Item::Response { id, content: answer.await };
            waiting.items.fetch_add(1, Ordering::AcqRel);
            waiting.bytes.fetch_add(item.weight(), Ordering::AcqRel);
            metrics.queued.inc();
            metrics.sent.inc();
            if let Some(commands) = commands.upgrade() {
                commands.send(Command::Send(from, item)).ok();
            }
        });
    }

    fn response(&mut self, id: u64, content: Option<prost::bytes::Bytes>) {
        if let Some(sender) = self.shared.requests().remove(&id) {
            sender.send(content).ok();
        }
    }

    fn notice(&mut self, from: InstanceId, content: prost::bytes::Bytes) {
        self.handler.notified(from, content);
    }

    fn answered(&mut self, envelope: &Arc<Envelope>) {
        self.handler.answered(envelope);
    }

    fn settled(&mut self, envelope: &Arc<Envelope>, settled: Settled) {
        self.handler.settled(envelope, settled);
    }

    fn failed(&mut self, envelope: &Arc<Envelope>) {
        self.shared.metrics.failed.inc();
        self.handler.failed(envelope);
    }

    fn orphaned(&mut self, report: Report) {
        self.handler.orphaned(&report.envelope, report.acknowledged);
    }

    fn ended(&mut self, instance: InstanceId) {
        self.shared.waiting(instance).is_gone.store(true, Ordering::Release);
        self.shared.metrics.gone.inc();
    }

    fn forgotten(&mut self, instance: InstanceId) {
        self.shared.waiting.pin().remove(&instance);
    }

    fn freed(&mut self, instance: InstanceId, items: usize, bytes: usize) {
        let waiting = self.shared.waiting(instance);
        waiting.items.fetch_sub(items, Ordering::AcqRel);
        waiting.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.shared.metrics.queued.sub(items as i64);
    }
}

#[cfg(test)]
mod tests;
