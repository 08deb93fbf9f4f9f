//! A whole server: started part by part, stopped in the reverse order.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::Registry as Metrics;
use starling_c2s::C2s;
use starling_link::LocalLink;
use starling_registry::{InstanceId, MemoryRegistry};
use starling_session::{Service, all_extensions, extension::Extensions};
use starling_settings::Settings;
use starling_store::{Accounts, JournalMetrics, Messages, SqliteStore, Store};
use starling_stream::{CertificateFiles, Certificates};
use starling_xmpp::{Random, SystemRandom};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    Error, Result,
    admin::{self, Admin},
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
/// Messages in flight that one transaction makes pending.
const RELEASED_AT_ONCE: u32 = 10_000;
/// Bytes of the secret from which salts of accounts that do not exist are made.
const FAKE_SALT_KEY: usize = 32;

/// A running server.
pub struct Server {
    c2s: Arc<C2s>,
    service: Arc<Service>,
    store: Arc<SqliteStore>,
    certificates: Certificates,
    readiness: Readiness,
    addresses: Vec<(&'static str, String)>,
    stop_grace: Duration,
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
        let data = DataFolder::prepare(&settings.data)?;
        let lock = data.lock()?;
        let stop = CancellationToken::new();
        // Whatever fails below, what was begun ends with this.
        let guard = stop.clone().drop_guard();
        let tasks = TaskTracker::new();
        let readiness = Readiness::default();
        let registry = metrics::registry()?;
        let store = Arc::new(SqliteStore::open(&data.database()).await?);
        let certificates = certificates(&parts, &data, &tasks, &stop).await?;
        registry.register(Box::new(metrics::CertificateCollector::new(Some(certificates.clone()))?))?;
        let (c2s, service) = c2s(&parts, &store, &certificates, &registry).await?;
        let mut addresses: Vec<_> =
            c2s.addresses().iter().map(|(role, address)| (role.as_str(), address.to_string())).collect();
        if let Some(address) = parts.http {
            let (listener, address) = listen(address).await?;
            addresses.push(("http", address));
            let context = http::Context { registry, readiness: readiness.clone(), store: store.clone() };
            tasks.spawn(http::serve(listener, http::router(context), tasks.clone(), stop.clone()));
        }
        let socket = data.admin_socket();
        addresses.push(("admin", socket.display().to_string()));
        let admin = Admin {
            store: store.clone(),
            c2s: c2s.clone(),
            service: service.clone(),
            readiness: readiness.clone(),
            domains: parts.domains.clone(),
            addresses: addresses.clone(),
            started: SystemTime::now(),
        };
        admin::serve(&socket, admin, &tasks, stop.clone()).await?;
        for (role, address) in &addresses {
            info!(role, address, "Listening");
        }
        c2s.run();
        readiness.set(State::Ready);
        info!(domains = parts.domains.join(" "), "Ready");
        guard.disarm();
        Ok(Self {
            c2s,
            service,
            store,
            certificates,
            readiness,
            addresses,
            stop_grace: parts.stop_grace,
            tasks,
            stop,
            _lock: lock,
        })
    }

    /// What it listens on: roles as in the log, and addresses with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[(&'static str, String)] {
        &self.addresses
    }

    /// Reads the certificates' files again, as they are read by themselves when they change.
    pub async fn reload(&self) {
        let certificates = self.certificates.clone();
        match tokio::task::spawn_blocking(move || certificates.reload()).await {
            Ok(Ok(status)) if status.is_good() => info!("Certificates read again"),
            Ok(Ok(_)) => warn!("Certificates read again; of those that are faulty the old ones stay"),
            Ok(Err(error)) => warn!(%error, "Certificates not read again; the old ones stay"),
            Err(error) => warn!(%error, "Certificates not read again; the old ones stay"),
        }
    }

    /// Stops: no more clients, streams ended with what waits for them written, then helpers, the journal, the store. Takes
    /// `c2s.stop_grace` at most for the clients. `true`: everything ended by itself.
    pub async fn stop(self) -> bool {
        self.readiness.set(State::Draining);
        let mut orderly = self.c2s.stop(self.stop_grace).await;
        self.stop.cancel();
        self.tasks.close();
        orderly &= tokio::time::timeout(HELPERS_GRACE, self.tasks.wait()).await.is_ok();
        // What sessions left behind is written before the store closes.
        orderly &= tokio::time::timeout(JOURNAL_GRACE, self.service.close()).await.is_ok();
        self.store.close().await;
        info!(orderly, "Stopped");
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
    store: &Arc<SqliteStore>,
    certificates: &Certificates,
    metrics: &Metrics,
) -> Result<(Arc<C2s>, Arc<Service>)> {
    // Whoever held these messages when the last run ended without a word holds them no more.
    let mut accounts = 0;
    while let released = store.release(0, RELEASED_AT_ONCE).await?.len()
        && released > 0
    {
        accounts += released;
    }
    if accounts > 0 {
        info!(accounts, "Messages that were on their way when the server ended wait for their recipients");
    }
    let secret = store.secret("fake-salt-key", FAKE_SALT_KEY).await?;
    let mut fake_salt_key = [0; FAKE_SALT_KEY];
    fake_salt_key.copy_from_slice(&secret);
    let mut instance = [0; 8];
    SystemRandom.fill(&mut instance);
    let registry = Arc::new(MemoryRegistry::new());
    let link = Arc::new(LocalLink::new());
    let extensions =
        Extensions::new(all_extensions(parts.extensions)).map_err(|error| Error::Extension(error.to_string()))?;
    let service = Service::new(starling_session::Parts {
        instance: InstanceId(u64::from_be_bytes(instance)),
        domains: parts.domains.clone(),
        policy: parts.policy,
        registry,
        link: link.clone(),
        store: store.clone(),
        extensions,
        metrics: starling_session::Metrics::new(metrics)?,
        journal: JournalMetrics::new(metrics)?,
    });
    let service = Arc::new(service);
    let accounts: Arc<dyn Accounts> = store.clone();
    let parts = starling_c2s::Parts {
        config: parts.c2s(fake_salt_key),
        certificates: Some(certificates.clone()),
        accounts,
        service: Arc::clone(&service),
        local: link,
    };
    Ok((Arc::new(C2s::bind(parts, metrics)?), service))
}
