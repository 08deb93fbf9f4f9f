//! A whole server: started part by part, stopped in the reverse order.

mod clients;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use prometheus::Registry as Metrics;
use starling_c2s::C2s;
use starling_registry::InstanceId;
use starling_router::Router;
use starling_session::{ExtensionOptions, Service, all_extensions, extension::Extensions};
use starling_settings::{Role, Settings};
use starling_store::{JournalMetrics, Store};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    Error, Result,
    admin::{self, Admin},
    backends::{self, Linked, Registered},
    data::{DataFolder, Lock},
    http,
    metrics::{self, SettingsGauges},
    parts::Parts,
    readiness::{Readiness, State},
};
use clients::Clients;

/// For the helpers' tasks (HTTP, admin socket) to end once the clients are gone.
const HELPERS_GRACE: Duration = Duration::from_secs(5);
/// For what is to be written of messages once the sessions are gone.
const JOURNAL_GRACE: Duration = Duration::from_secs(10);
/// For other instances to hear what became of what they sent.
const LINK_GRACE: Duration = Duration::from_secs(5);

/// A running server.
pub struct Server {
    sessions: Option<Sessions>,
    readiness: Readiness,
    addresses: Vec<(&'static str, String)>,
    /// Those that it was started with, and what was taken up since. Held while others are taken up, so that one reading
    /// never overtakes another.
    settings: Mutex<Settings>,
    gauges: SettingsGauges,
    /// Helpers, and what serves others: the router.
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Others have taken this run for dead.
    revoked: CancellationToken,
}

/// What came of settings that were read again: paths of settings, as `c2s.limits.depth`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// They are taken up.
    pub taken_up: Vec<&'static str>,
    /// They have another value than what runs, and count after a restart.
    pub restart_needed: Vec<&'static str>,
}

/// Sessions, and what they stand on.
struct Sessions {
    instance: InstanceId,
    /// `None`: nobody connects here.
    clients: Option<Clients>,
    service: Arc<Service>,
    store: Arc<dyn Store>,
    registered: Registered,
    linked: Linked,
    extensions: ExtensionOptions,
    /// Of registry and link: they end when nobody needs them any more.
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Let go last: then another process may open the data.
    _lock: Lock,
}

impl Server {
    /// Starts a server and returns when it serves. Says in the log what it listens on.
    ///
    /// # Errors
    /// What hinders it; nothing is left running then.
    pub async fn start(settings: &Settings) -> Result<Self> {
        let parts = Parts::new(settings)?;
        let (stop, revoked) = (CancellationToken::new(), CancellationToken::new());
        // Whatever fails below, what was begun ends with this.
        let guard = stop.clone().drop_guard();
        let tasks = TaskTracker::new();
        let readiness = Readiness::default();
        let registry = metrics::registry()?;
        let gauges = SettingsGauges::new(&registry)?;
        let mut addresses = Vec::new();
        if settings.roles.contains(&Role::Router) {
            let number = backends::incarnation().0;
            let tls = backends::tls(&settings.link)?;
            let router = Router::bind(&parts.router, tls, number, starling_router::Metrics::new(&registry)?).await?;
            addresses.extend(router.addresses().iter().map(|address| ("router", address.to_string())));
            router.run(&tasks, &stop);
        }
        let sessions = match backends::has_sessions(settings) {
            true => Some(Sessions::start(settings, &parts, &revoked, &registry, &stop).await?),
            false => None,
        };
        if let Some(c2s) = sessions.as_ref().and_then(Sessions::c2s) {
            addresses.extend(c2s.addresses().iter().map(|(role, address)| (role.as_str(), address.to_string())));
        }
        if let Some(address) = parts.http {
            let (listener, address) = listen(address).await?;
            addresses.push(("http", address));
            let (state, service) = (readiness.clone(), sessions.as_ref().map(|sessions| sessions.service.clone()));
            let router = starling_http::router(registry, move || http::unready(state.clone(), service.clone()));
            let serve = starling_http::serve(listener, router, http::CONNECTIONS, tasks.clone(), stop.clone());
            tasks.spawn(serve);
        }
        if let Some(sessions) = &sessions {
            let socket = DataFolder::prepare(&settings.data)?.admin_socket();
            addresses.push(("admin", socket.display().to_string()));
            let admin = sessions.admin(&parts, &readiness, &addresses);
            admin::serve(&socket, admin, &tasks, stop.clone()).await?;
        }
        for (role, address) in &addresses {
            info!(role, address, "Listening");
        }
        if let Some(c2s) = sessions.as_ref().and_then(Sessions::c2s) {
            c2s.run();
        }
        readiness.set(State::Ready);
        info!(domains = parts.domains.join(" "), "Ready");
        guard.disarm();
        let settings = Mutex::new(settings.clone());
        Ok(Self { sessions, readiness, addresses, settings, gauges, tasks, stop, revoked })
    }

    /// What it listens on: roles as in the log, and addresses with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[(&'static str, String)] {
        &self.addresses
    }

    /// Returns when others have taken this run for dead. Nothing is to be said to anybody then: what it has is not its own any
    /// more, and is to be dropped as it is. Another run may begin.
    pub async fn is_revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// Reads the certificates' files again, as they are read by themselves when they change.
    pub async fn reload(&self) {
        if let Some(clients) = self.sessions.as_ref().and_then(|sessions| sessions.clients.as_ref()) {
            clients.reload_certificates().await;
        }
    }

    /// Takes up settings that were read again, as far as a running server can ([`starling_settings::reloaded`]): all of
    /// that, or nothing. `log.level` is taken up by whoever set up the logs. `read` may be the reason why there are none, for
    /// the metrics to tell of.
    ///
    /// # Errors
    /// What is wrong with them, also with those that would not be taken up. The old ones stay.
    pub fn apply(&self, read: Result<Settings>) -> Result<Applied> {
        let applied = read.and_then(|settings| self.take_up(&settings));
        match &applied {
            Ok(applied) => self.gauges.good(!applied.restart_needed.is_empty()),
            Err(_) => self.gauges.faulty(),
        }
        applied
    }

    fn take_up(&self, settings: &Settings) -> Result<Applied> {
        Parts::new(settings)?;
        // Nothing in between can panic.
        let mut running = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = running.taking_up(settings)?;
        let parts = Parts::new(&merged)?;
        let applied =
            Applied { taken_up: running.differs_from(&merged)?, restart_needed: merged.differs_from(settings)? };
        if !applied.taken_up.is_empty()
            && let Some(sessions) = &self.sessions
        {
            sessions.take_up(&parts);
        }
        *running = merged;
        Ok(applied)
    }

    fn stop_grace(&self) -> Duration {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_secs(settings.c2s.stop_grace.into())
    }

    /// Stops: no more clients, streams ended with what waits for them written, then helpers, the journal, the link, the
    /// store. Takes `c2s.stop_grace` at most for the clients. `true`: everything ended by itself.
    pub async fn stop(self) -> bool {
        self.readiness.set(State::Draining);
        let mut orderly = true;
        if let Some(sessions) = &self.sessions {
            orderly &= sessions.end_streams(self.stop_grace()).await;
        }
        self.stop.cancel();
        self.tasks.close();
        orderly &= tokio::time::timeout(HELPERS_GRACE, self.tasks.wait()).await.is_ok();
        if let Some(sessions) = self.sessions {
            orderly &= sessions.stop().await;
        }
        info!(orderly, "Stopped");
        orderly
    }
}

impl Sessions {
    async fn start(
        settings: &Settings,
        parts: &Parts,
        revoked: &CancellationToken,
        metrics: &Metrics,
        helpers: &CancellationToken,
    ) -> Result<Self> {
        let data = DataFolder::prepare(&settings.data)?;
        let lock = data.lock()?;
        let instance = backends::incarnation();
        let store = backends::store(settings, &data, instance).await?;
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let tasks = TaskTracker::new();
        let takes_clients = settings.roles.contains(&Role::C2s);
        let certificates = match takes_clients {
            true => Some(clients::certificates(parts, &data, &tasks, helpers).await?),
            false => None,
        };
        if let Some(certificates) = &certificates {
            metrics.register(Box::new(metrics::CertificateCollector::new(Some(certificates.clone()))?))?;
        }
        let registered = Registered::open(settings, instance, &store, revoked, &tasks, &stop, metrics).await?;
        backends::release_all(&*store, matches!(registered, Registered::Memory(_))).await?;
        let (linked, undriven) = Linked::open(settings, instance, metrics)?;
        let options = ExtensionOptions::new(parts.registration);
        let extensions = Extensions::new(all_extensions(options.clone()));
        let extensions = extensions.map_err(|error| Error::Extension(error.to_string()))?;
        let service = Arc::new(Service::new(starling_session::Parts {
            instance,
            domains: parts.domains.clone(),
            policy: parts.policy,
            registry: registered.registry(),
            link: linked.link(),
            store: store.clone(),
            extensions,
            metrics: starling_session::Metrics::new(metrics)?,
            journal: JournalMetrics::new(metrics)?,
            revoked: revoked.clone(),
        }));
        let clients = match certificates {
            Some(certificates) => Some(Clients::bind(parts, certificates, &store, &service, &linked, metrics).await?),
            None => None,
        };
        // From here on others send to this instance, and ask it.
        if let Some(undriven) = undriven {
            undriven.drive(service.handler(), &tasks, &stop);
        }
        let buries = settings.roles.contains(&Role::Session);
        tasks.spawn(service.clone().watch(buries, stop.clone()));
        if let Registered::Redis(redis) = &registered {
            let (lost, stop) = (backends::end_lost(redis.clone(), linked.link(), instance), stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(lost).await });
        }
        guard.disarm();
        Ok(Self {
            instance,
            clients,
            service,
            store,
            registered,
            linked,
            extensions: options,
            tasks,
            stop,
            _lock: lock,
        })
    }

    /// Extensions first: what they offer is in the rules for streams.
    fn take_up(&self, parts: &Parts) {
        self.service.set_policy(parts.policy);
        self.extensions.set_registration(parts.registration);
        if let Some(clients) = &self.clients {
            clients.take_up(parts);
        }
    }

    fn c2s(&self) -> Option<&C2s> {
        self.clients.as_ref().map(|clients| &clients.c2s)
    }

    fn admin(&self, parts: &Parts, readiness: &Readiness, addresses: &[(&'static str, String)]) -> Admin {
        Admin {
            store: self.store.clone(),
            service: self.service.clone(),
            readiness: readiness.clone(),
            domains: parts.domains.clone(),
            addresses: addresses.to_vec(),
            started: SystemTime::now(),
        }
    }

    async fn end_streams(&self, grace: Duration) -> bool {
        if let Linked::Routed(routed) = &self.linked {
            routed.drain();
        }
        match &self.clients {
            Some(clients) => clients.c2s.stop(grace).await,
            None => true,
        }
    }

    async fn stop(self) -> bool {
        let mut orderly = true;
        if let Linked::Routed(routed) = &self.linked {
            // Whoever is told that this instance is gone settles rows by itself: they are to be there. And until it is gone,
            // what others say of messages is written.
            self.service.journal_barrier().await;
            orderly &= routed.leave(LINK_GRACE).await;
        }
        // What sessions left behind is written before the store closes.
        orderly &= tokio::time::timeout(JOURNAL_GRACE, self.service.close()).await.is_ok();
        if orderly && let Err(error) = self.store.retire().await {
            warn!(instance = %self.instance, %error, "The database does not know that this process has ended in order");
        }
        if let Registered::Redis(redis) = &self.registered {
            orderly &= tokio::time::timeout(HELPERS_GRACE, redis.close()).await.is_ok();
        }
        self.stop.cancel();
        self.tasks.close();
        orderly &= tokio::time::timeout(HELPERS_GRACE, self.tasks.wait()).await.is_ok();
        self.store.close().await;
        orderly
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, String)> {
    let failed = |source| Error::Listen { role: "http", address: address.to_string(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound.to_string()))
}
