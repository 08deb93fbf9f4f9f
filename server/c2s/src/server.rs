//! All client connections of a process: bound, run and stopped.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread::available_parallelism,
    time::Duration,
};

use arc_swap::ArcSwap;
use prometheus::Registry as MetricsRegistry;
use starling_link::LocalLink;
use starling_session::{Service, stream_features};
use starling_store::Accounts;
use starling_stream::Certificates;
use starling_xmpp::error::StreamCondition;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    Config, Role, Rules,
    closing::LAST_WORDS,
    handing::{Asked, Frozen},
    limits::Gate,
    listener::{Listener, REFUSED_AT_ONCE},
    metrics::Metrics,
    recorder::Recorder,
    register::Registrations,
    resumption::Resumable,
};

/// Why clients cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is in use, not ours, or may not be used by this user. A retry is sensible once that has changed.
    #[error("cannot listen on {address} ({}): {source}", .role.as_str())]
    Bind {
        /// What it is for.
        role: Role,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Direct TLS is asked for, and there is no certificate.
    #[error("direct TLS on {0} needs a certificate")]
    NoCertificate(SocketAddr),
    /// A metric's name is taken: a mistake of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What client connections stand on.
pub struct Parts {
    /// How to serve.
    pub config: Config,
    /// The certificates; `None`: no TLS.
    pub certificates: Option<Certificates>,
    /// Who may log in.
    pub accounts: Arc<dyn Accounts>,
    /// The stanza rules.
    pub service: Arc<Service>,
    /// The sessions of this process.
    pub local: Arc<LocalLink>,
}

/// What all connections share.
pub(crate) struct Shared {
    /// Those of this moment. A log-in keeps those that it began with.
    pub(crate) rules: ArcSwap<Rules>,
    pub(crate) certificates: Option<Certificates>,
    pub(crate) accounts: Arc<dyn Accounts>,
    pub(crate) service: Arc<Service>,
    pub(crate) resumable: Arc<Resumable>,
    pub(crate) recorder: Recorder,
    pub(crate) frozen: Frozen,
    pub(crate) gate: Arc<Gate>,
    pub(crate) password_checks: Arc<Semaphore>,
    pub(crate) registrations: Registrations,
    pub(crate) refusals: Semaphore,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    pub(crate) fn closing_time(&self) -> Duration {
        self.rules.load().limits.closing_time
    }
}

/// The rules with the stream features that extension containers add after log-in.
fn with_features_of(mut rules: Rules, service: &Service) -> Rules {
    let policy = Arc::make_mut(&mut rules.policy);
    policy.more_features.push_str(&stream_features(service.extensions()));
    rules
}

/// The client connections of a process.
pub struct C2s {
    shared: Arc<Shared>,
    local: Arc<LocalLink>,
    addresses: Vec<(Role, SocketAddr)>,
    listeners: Mutex<Vec<Listener>>,
}

impl C2s {
    /// Binds all listeners, and accepts nothing before [`C2s::run`].
    ///
    /// # Errors
    /// If an address cannot be bound; those that were bound are free again then.
    pub fn bind(parts: Parts, metrics: &MetricsRegistry) -> Result<Self, Error> {
        let Parts { config, certificates, accounts, service, local } = parts;
        let wanted = config.starttls.iter().map(|address| (Role::StartTls, *address));
        let wanted = wanted.chain(config.direct_tls.iter().map(|address| (Role::DirectTls, *address)));
        let listeners = wanted
            .map(|(role, address)| {
                if role == Role::DirectTls && certificates.is_none() {
                    return Err(Error::NoCertificate(address));
                }
                Listener::bind(role, address).map_err(|source| Error::Bind { role, address, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let limits = &config.rules.limits;
        let gate = Gate::new(
            limits.connections,
            limits.connections_per_address,
            limits.failed_log_ins_per_address,
            limits.failed_log_ins_per_account,
        );
        let recorder = Recorder::start(&service);
        let shared = Shared {
            recorder,
            frozen: Frozen::default(),
            registrations: Registrations::new(limits.registrations_per_address),
            rules: ArcSwap::from_pointee(with_features_of(config.rules, &service)),
            certificates,
            accounts,
            service,
            resumable: Arc::default(),
            gate: Arc::new(gate),
            password_checks: Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))),
            refusals: Semaphore::new(REFUSED_AT_ONCE),
            metrics: Metrics::new(metrics)?,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let addresses = listeners.iter().map(|listener| (listener.role, listener.address)).collect();
        let shared = Arc::new(shared);
        shared.service.set_streams(Arc::new(Asked(Arc::downgrade(&shared))));
        Ok(Self { shared, local, addresses, listeners: Mutex::new(listeners) })
    }

    /// Where it listens, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[(Role, SocketAddr)] {
        &self.addresses
    }

    /// Other rules from now on. Connections that are there keep what they were let in with, but for the times that a client
    /// has to take what is written to it, and how long a stream that is enabled later can be resumed. Which features
    /// streams offer is asked of the extension containers again.
    pub fn set_rules(&self, rules: Rules) {
        let shared = &self.shared;
        let limits = &rules.limits;
        shared.gate.set_limits(
            limits.connections,
            limits.connections_per_address,
            limits.failed_log_ins_per_address,
            limits.failed_log_ins_per_account,
        );
        shared.registrations.set_limit(limits.registrations_per_address);
        shared.rules.store(Arc::new(with_features_of(rules, &shared.service)));
    }

    /// Begins to accept. A second call does nothing.
    pub fn run(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        for listener in listeners {
            self.shared.tasks.spawn(listener.run(Arc::clone(&self.shared)));
        }
    }

    /// Accepts no more, tells every client `system-shutdown` behind what still waits for it, and returns when all
    /// connections have ended, or after `grace` and what clients have to close their side. `true`: all have.
    pub async fn stop(&self, grace: Duration) -> bool {
        drop(std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner)));
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let sessions = self.local.len();
        info!(sessions, "Client streams are being ended.");
        // A log-in that ended in a session between the two is told too: its task asks `stop` before it hands over.
        self.local.close_all(&StreamCondition::SystemShutdown.into());
        let ended = timeout(grace + LAST_WORDS, self.shared.tasks.wait()).await.is_ok();
        self.shared.recorder.close().await;
        if !ended {
            warn!(left = self.shared.tasks.len(), "Connections left when the time to stop was over.");
        }
        ended
    }
}
