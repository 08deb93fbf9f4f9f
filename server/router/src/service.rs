//! The streams of instances.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use papaya::HashMap;
use starling_proto::link::{Down, Frame, Hello, Members, Up, VERSION, Welcome, router_server, up};
use tokio::{select, sync::watch, time::timeout};
use tokio_stream::{Stream, wrappers::WatchStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use crate::{
    Attached, Metrics, Refusal, Table,
    metrics::Dropped,
    outbox::{Outbox, Outgoing, outbox},
};

/// For the first message of a stream.
const HELLO: Duration = Duration::from_secs(5);

/// What all streams share.
pub(crate) struct Shared {
    router: u64,
    /// Locked when somebody comes or goes, never for a batch.
    table: Mutex<Table>,
    members: watch::Sender<Arc<Members>>,
    /// Instance → where its batches go. As many as are attached.
    routes: HashMap<u64, Arc<Route>>,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Route {
    attached: Attached,
    outbox: Outbox,
    /// Ends its stream.
    end: CancellationToken,
}

/// The service, as tonic serves it.
#[derive(Clone)]
pub(crate) struct Service(Arc<Shared>);

impl Service {
    pub(crate) fn new(router: u64, metrics: Metrics, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            router,
            table: Mutex::default(),
            members: watch::Sender::new(Arc::default()),
            routes: HashMap::new(),
            metrics,
            tasks,
            stop,
        }))
    }
}

#[tonic::async_trait]
impl router_server::Router for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<Down, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<Up>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut incoming = request.into_inner();
        let hello = match timeout(HELLO, incoming.message()).await {
            Ok(Ok(Some(Up { what: Some(up::What::Hello(hello)) }))) => hello,
            Ok(Err(status)) => return Err(status),
            Ok(Ok(_)) => return Err(Status::invalid_argument("no hello")),
            Err(_) => return Err(Status::deadline_exceeded("no hello in time")),
        };
        let (route, outgoing) = self.0.attach(hello).map_err(|refusal| {
            self.0.metrics.refused.inc();
            warn!(%refusal, "Instance refused");
            match refusal {
                Refusal::Revoked => Status::permission_denied(refusal.to_string()),
                Refusal::Version(_) => Status::failed_precondition(refusal.to_string()),
                Refusal::Nobody => Status::invalid_argument(refusal.to_string()),
            }
        })?;
        self.0.tasks.spawn(Arc::clone(&self.0).read(route, incoming));
        Ok(Response::new(Box::pin(outgoing)))
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&self, hello: Hello) -> Result<(Arc<Route>, Outgoing), Refusal> {
        let (instance, name) = (hello.instance, hello.name.clone());
        let welcome = Welcome { router: self.router, version: VERSION, features: Vec::new() };
        let (outbox, outgoing) = outbox(welcome, WatchStream::new(self.members.subscribe()), &self.metrics);
        let mut table = self.table();
        let attached = table.attach(hello)?;
        let route = Arc::new(Route { attached, outbox, end: self.stop.child_token() });
        // Under the lock: of two streams of one instance, the later one must have the route.
        if let Some(earlier) = self.routes.pin().insert(instance, Arc::clone(&route)) {
            earlier.end.cancel();
        }
        self.tell(&table);
        drop(table);
        self.metrics.attachments.inc();
        info!(instance = format_args!("{instance:016x}"), name, "Instance attached");
        Ok((route, outgoing))
    }

    fn tell(&self, table: &Table) {
        let members = table.members();
        self.metrics.attached.set(i64::try_from(members.members.len()).unwrap_or(i64::MAX));
        self.members.send_replace(Arc::new(members));
    }

    /// Until the stream ends, or somebody ends it.
    async fn read(self: Arc<Self>, route: Arc<Route>, mut incoming: Streaming<Up>) {
        let instance = route.attached.instance;
        let reason = loop {
            let message = select! {
                biased;
                () = route.end.cancelled() => break "ended here".to_owned(),
                message = incoming.message() => message,
            };
            match message {
                Ok(Some(Up { what: Some(what) })) => self.take(&route, what),
                // Of a newer release.
                Ok(Some(Up { what: None })) => {}
                Ok(None) => break "ended by the instance".to_owned(),
                Err(status) => break status.message().to_owned(),
            }
        };
        route.outbox.end();
        let mut table = self.table();
        if table.detach(route.attached) {
            self.tell(&table);
        }
        self.routes.pin().remove_if(&instance, |_, held| held.attached == route.attached).ok();
        drop(table);
        debug!(instance = format_args!("{instance:016x}"), reason, "Instance detached");
    }

    fn take(&self, route: &Route, what: up::What) {
        match what {
            up::What::Frame(frame) => self.forward(route.attached.instance, frame),
            up::What::Draining(_) => self.change(|table| table.drain(route.attached)),
            up::What::Bye(_) => self.change(|table| table.leave(route.attached)),
            up::What::Revoked(revoked) => {
                for instance in revoked.instances {
                    self.change(|table| table.revoke(instance));
                    if let Some(route) = self.routes.pin().remove(&instance) {
                        info!(instance = format_args!("{instance:016x}"), "Instance revoked");
                        route.end.cancel();
                    }
                }
            }
            // Once, and that was it.
            up::What::Hello(_) => {}
        }
    }

    fn change(&self, change: impl FnOnce(&mut Table) -> bool) {
        let mut table = self.table();
        if change(&mut table) {
            self.tell(&table);
        }
    }

    fn forward(&self, origin: u64, frame: Frame) {
        let routes = self.routes.pin();
        for mut batch in frame.batches {
            // Nobody speaks for another.
            batch.origin = origin;
            match routes.get(&batch.destination) {
                Some(route) => route.outbox.put(batch),
                None => self.metrics.dropped(Dropped::NoDestination),
            }
        }
    }
}
