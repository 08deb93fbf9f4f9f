//! A whole server: started part by part, stopped in the reverse order.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::Registry as Metrics;
use starling_c2s::C2s;
use starling_registry::InstanceId;
use starling_router::Router;
use starling_session::{Service, all_extensions, extension::Extensions};
use starling_settings::{Role, Settings};
use starling_store::{Accounts, JournalMetrics, Store};
use starling_stream::{CertificateFiles, Certificates};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    Error, Result,
    admin::{self, Admin},
    backends::{self, Linked, Registered},
    data::{DataFolder, Lock},
    http, metrics,
    parts::Parts,
    readiness::{Readiness, State},
    self_signed,
};

/// For the helpers' tasks (HTTP, admin socket) to end once the clients are gone.
const HELPERS_GRACE: Duration = Duration::from_secs(5);
/// For what is to be written of messages once the sessions are gone.
const JOURNAL_GRACE: Duration = Duration::from_secs(10);
/// For other instances to hear what became of what they sent.
const LINK_GRACE: Duration = Duration::from_secs(5);
/// Bytes of the secret from which salts of accounts that do not exist are made.
const FAKE_SALT_KEY: usize = 32;

/// A running server.
pub struct Server {
    sessions: Option<Sessions>,
    readiness: Readiness,
    addresses: Vec<(&'static str, String)>,
    stop_grace: Duration,
    /// Helpers, and what serves others: the router.
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Others have taken this run for dead.
    revoked: CancellationToken,
}

/// Sessions, and what they stand on.
struct Sessions {
    instance: InstanceId,
    /// `None`: without client connections.
    c2s: Option<Arc<C2s>>,
    service: Arc<Service>,
    store: Arc<dyn Store>,
    registered: Registered,
    linked: Linked,
    certificates: Certificates,
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
        if let Some(c2s) = sessions.as_ref().and_then(|sessions| sessions.c2s.as_ref()) {
            addresses.extend(c2s.addresses().iter().map(|(role, address)| (role.as_str(), address.to_string())));
        }
        if let Some(address) = parts.http {
            let (listener, address) = listen(address).await?;
            addresses.push(("http", address));
            let context = http::Context {
                registry,
                readiness: readiness.clone(),
                service: sessions.as_ref().map(|sessions| sessions.service.clone()),
            };
            tasks.spawn(http::serve(listener, http::router(context), tasks.clone(), stop.clone()));
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
        if let Some(c2s) = sessions.as_ref().and_then(|sessions| sessions.c2s.as_ref()) {
            c2s.run();
        }
        readiness.set(State::Ready);
        info!(domains = parts.domains.join(" "), "Ready");
        guard.disarm();
        Ok(Self { sessions, readiness, addresses, stop_grace: parts.stop_grace, tasks, stop, revoked })
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
        let Some(sessions) = &self.sessions else { return };
        let certificates = sessions.certificates.clone();
        match tokio::task::spawn_blocking(move || certificates.reload()).await {
            Ok(Ok(status)) if status.is_good() => info!("Certificates read again"),
            Ok(Ok(_)) => warn!("Certificates read again; of those that are faulty the old ones stay"),
            Ok(Err(error)) => warn!(%error, "Certificates not read again; the old ones stay"),
            Err(error) => warn!(%error, "Certificates not read again; the old ones stay"),
        }
    }

    /// Stops: no more clients, streams ended with what waits for them written, then helpers, the journal, the link, the
    /// store. Takes `c2s.stop_grace` at most for the clients. `true`: everything ended by itself.
    pub async fn stop(self) -> bool {
        self.readiness.set(State::Draining);
        let mut orderly = true;
        if let Some(sessions) = &self.sessions {
            orderly &= sessions.end_streams(self.stop_grace).await;
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
        let certificates = certificates(parts, &data, &tasks, helpers).await?;
        metrics.register(Box::new(metrics::CertificateCollector::new(Some(certificates.clone()))?))?;
        let registered = Registered::open(settings, instance, &store, revoked, &tasks, &stop, metrics).await?;
        backends::release_all(&*store, matches!(registered, Registered::Memory(_))).await?;
        let (linked, undriven) = Linked::open(settings, instance, metrics)?;
        let extensions =
            Extensions::new(all_extensions(parts.extensions)).map_err(|error| Error::Extension(error.to_string()))?;
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
        let c2s = match settings.roles.contains(&Role::C2s) {
            true => Some(Arc::new(c2s(parts, &store, &certificates, &service, &linked, metrics).await?)),
            false => None,
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
        Ok(Self { instance, c2s, service, store, registered, linked, certificates, tasks, stop, _lock: lock })
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
        match &self.c2s {
            Some(c2s) => c2s.stop(grace).await,
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

/// Those that are configured, or one of our own.
async fn certificates(
    parts: &Parts,
    data: &DataFolder,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Certificates> {
    let files = if parts.certificates.is_empty() {
        let made = self_signed::ensure(&data.tls(), &parts.domains, SystemTime::now())?;
        warn!(
            certificate = %made.certificate.display(),
            made = made.made,
            sha256 = made.fingerprint,
            "No certificate is configured: a self-signed one is served, which clients will question"
        );
        renew(data.tls(), parts.domains.clone(), made.renew_at, tasks, stop.clone());
        vec![CertificateFiles { certificate: made.certificate, key: made.key }]
    } else {
        parts.certificates.clone()
    };
    let certificates = Certificates::open(files).map_err(Error::Tls)?;
    certificates.watch(tasks, stop.clone()).map_err(Error::Tls)?;
    Ok(certificates)
}

/// Makes a new self-signed certificate in time; whoever watches the file takes it up.
fn renew(folder: PathBuf, domains: Vec<String>, mut at: SystemTime, tasks: &TaskTracker, stop: CancellationToken) {
    /// A clock that was set is noticed after this.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    tasks.spawn(async move {
        loop {
            let wait = at.duration_since(SystemTime::now()).unwrap_or_default().clamp(Duration::from_secs(60), LONGEST);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match self_signed::ensure(&folder, &domains, SystemTime::now()) {
                Ok(made) => at = made.renew_at,
                Err(error) => warn!(%error, "Self-signed certificate not renewed"),
            }
        }
    });
}

async fn c2s(
    parts: &Parts,
    store: &Arc<dyn Store>,
    certificates: &Certificates,
    service: &Arc<Service>,
    linked: &Linked,
    metrics: &Metrics,
) -> Result<C2s> {
    let secret = store.secret("fake-salt-key", FAKE_SALT_KEY).await?;
    let mut fake_salt_key = [0; FAKE_SALT_KEY];
    fake_salt_key.copy_from_slice(&secret);
    let accounts: Arc<dyn Accounts> = store.clone();
    let parts = starling_c2s::Parts {
        config: parts.c2s(fake_salt_key),
        certificates: Some(certificates.clone()),
        accounts,
        service: service.clone(),
        local: linked.local(),
    };
    Ok(C2s::bind(parts, metrics)?)
}
