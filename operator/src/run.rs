//! `starling-operator run`: the parts, put together, and ended in order.
//!
//! ```text
//!   HTTP (probes, metrics) ──► what does the cluster offer? ──► Lease ──► controller
//!   SIGTERM: the controller finishes its looks ──► the Lease is given up ──► HTTP
//!   the Lease is lost: the process ends, with an error
//! ```

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use kube::{Client, Config};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::info;

use crate::{
    capabilities, controller,
    crd::IpFamily,
    lease,
    telemetry::{self, LogFormat, Metrics},
};

/// Looks that have begun are waited for so long.
const FINISH: Duration = Duration::from_secs(20);

/// How it is run. Each flag can also come from the environment.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The namespace to look after. Without it, all of them.
    #[arg(long, env = "STARLING_OPERATOR_NAMESPACE")]
    pub namespace: Option<String>,
    /// The image of servers that name none.
    #[arg(long, env = "STARLING_OPERATOR_SERVER_IMAGE", default_value = concat!("ghcr.io/starling-im/starlingd:", env!("CARGO_PKG_VERSION")))]
    pub server_image: String,
    /// The namespace of the Lease by which one of several operators leads.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    /// Its name.
    #[arg(long, env = "STARLING_OPERATOR_LEASE", default_value = "starling-operator")]
    pub lease_name: String,
    /// Seconds that others wait for a leader that does not answer. It renews its Lease three times as often.
    #[arg(long, env = "STARLING_OPERATOR_LEASE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub lease_seconds: u64,
    /// This process's name: its pod's.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// The addresses of this process's pod, with commas between them: servers' pods have such of the same families.
    #[arg(long, env = "POD_IPS", value_delimiter = ',')]
    pub pod_ips: Vec<IpAddr>,
    /// Seconds between two looks at what the cluster offers beside Kubernetes itself: cert-manager, prometheus-operator,
    /// custom metrics.
    #[arg(long, env = "STARLING_OPERATOR_OFFERS_SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub offers_seconds: u64,
    /// Where metrics and probes are served.
    #[arg(long, env = "STARLING_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// What is logged: error, warn, info, debug, trace, also by part (info,kube=debug).
    #[arg(long, env = "STARLING_OPERATOR_LOG", default_value = "info")]
    pub log: String,
    /// What a line of the log looks like.
    #[arg(long, env = "STARLING_OPERATOR_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Logs could not be set up.
    #[error("{0}")]
    Log(String),
    /// The runtime could not be started, or signals not be heard.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The HTTP port.
    #[error("--listen {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no way to the API server.
    #[error("there is no way to the API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// A client could not be made.
    #[error("no client can be made: {0}")]
    Client(#[from] kube::Error),
    /// Metrics contradict each other, which is a fault of the program.
    #[error("{0}")]
    Metrics(#[from] prometheus::Error),
    /// Another operator leads.
    #[error("{0}")]
    Lost(#[from] lease::Lost),
    /// The controller ended although nobody told it to.
    #[error("the controller ended by itself")]
    Ended,
}

/// Runs it until SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not run, or go on.
pub fn main(arguments: Arguments) -> Result<(), Error> {
    telemetry::log(arguments.log_format, &arguments.log).map_err(Error::Log)?;
    // The only one in the program. Fails if there is one already, which then is the same.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    // Its work is waiting for answers.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told = stop.clone();
        let signals = tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM: ending"),
                _ = interrupt.recv() => info!("SIGINT: ending"),
            }
            told.cancel();
        });
        let mut config = Config::infer().await?;
        // Looks are tried again as a whole, later and later; requests by themselves are not.
        config.default_retry = false;
        let outcome = run(Client::try_from(config)?, arguments, stop).await;
        signals.abort();
        outcome
    })
}

/// How far it is, for `/readyz`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Starting,
    Waiting,
    Leading,
    Ending,
}

/// Runs it until `stop`.
///
/// # Errors
/// Why it could not run, or go on.
pub async fn run(client: Client, arguments: Arguments, stop: CancellationToken) -> Result<(), Error> {
    let metrics = Metrics::new()?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|source| Error::Listen { address: arguments.listen, source })?;
    info!(address = %listener.local_addr()?, "Metrics and probes are served");
    let phase = Arc::new(AtomicU8::new(Phase::Starting as u8));
    let listed: Arc<watch::Sender<Option<Listed>>> = Arc::new(watch::Sender::new(None));
    let http = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(telemetry::serve(listener, metrics.clone(), unready(&phase, &listed), http.clone()));
    let parts = Parts { client, arguments, metrics, phase: Arc::clone(&phase), listed };
    let outcome = parts.run(&stop).await;
    phase.store(Phase::Ending as u8, Ordering::Relaxed);
    http.cancel();
    tasks.close();
    tasks.wait().await;
    outcome
}

type Listed = Box<dyn Fn() -> bool + Send + Sync>;

fn unready(phase: &Arc<AtomicU8>, listed: &Arc<watch::Sender<Option<Listed>>>) -> telemetry::Unready {
    let (phase, listed) = (Arc::clone(phase), listed.subscribe());
    Arc::new(move || {
        let is = |of: Phase| phase.load(Ordering::Relaxed) == of as u8;
        if is(Phase::Starting) {
            Some("the API server has not answered yet")
        } else if is(Phase::Ending) {
            Some("ending")
        } else if is(Phase::Leading) && !listed.borrow().as_ref().is_some_and(|listed| listed()) {
            Some("what there is has not been listed yet")
        } else {
            // Who waits for the Lease is ready to take it.
            None
        }
    })
}

struct Parts {
    client: Client,
    arguments: Arguments,
    metrics: Metrics,
    phase: Arc<AtomicU8>,
    listed: Arc<watch::Sender<Option<Listed>>>,
}

impl Parts {
    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    async fn run(self, stop: &CancellationToken) -> Result<(), Error> {
        let families: BTreeSet<_> = self.arguments.pod_ips.iter().map(family).collect();
        let Some(cluster) = capabilities::first(&self.client, &families, stop).await else { return Ok(()) };
        self.enter(Phase::Waiting);
        let identity = self.identity();
        let settings = lease::Settings {
            namespace: self.arguments.lease_namespace.clone(),
            name: self.arguments.lease_name.clone(),
            identity: identity.clone(),
            duration: Duration::from_secs(self.arguments.lease_seconds),
        };
        let Some(held) = lease::acquire(self.client.clone(), settings, stop).await else { return Ok(()) };
        self.enter(Phase::Leading);
        self.metrics.leader.set(1);
        let (offers, cluster) = watch::channel(cluster);
        let controller = controller::Controller::new(controller::Settings {
            client: self.client.clone(),
            namespace: self.arguments.namespace.clone(),
            image: self.arguments.server_image.clone(),
            identity,
            cluster,
            leadership: held.leadership(),
            metrics: self.metrics.clone(),
        });
        self.listed.send_replace(Some(Box::new(controller.is_ready())));
        let (work, lease_stop) = (stop.child_token(), CancellationToken::new());
        let mut keeping = AbortOnDropHandle::new(tokio::spawn(held.keep(lease_stop.clone())));
        let mut working = AbortOnDropHandle::new(tokio::spawn(controller.run(work.clone())));
        let interval = Duration::from_secs(self.arguments.offers_seconds);
        let looking = capabilities::keep_looking(self.client.clone(), offers, interval);
        let looking = AbortOnDropHandle::new(tokio::spawn(looking));
        // Nothing ends by this alone: the tasks are only looked at.
        let outcome = tokio::select! {
            lost = &mut keeping => match lost {
                Ok(Err(lost)) => Err(Error::Lost(lost)),
                // It ends only when it is told to, and nobody has.
                _ => Err(Error::Ended),
            },
            _ = &mut working => if stop.is_cancelled() { Ok(()) } else { Err(Error::Ended) },
            () = stop.cancelled() => Ok(()),
        };
        looking.abort();
        work.cancel();
        self.metrics.leader.set(0);
        if outcome.is_ok() {
            // While we still lead: what has begun is finished, and then the Lease is free.
            if !working.is_finished() && timeout(FINISH, &mut working).await.is_err() {
                working.abort();
            }
            lease_stop.cancel();
            if let Ok(Err(lost)) = keeping.await {
                return Err(lost.into());
            }
        } else {
            // Another leads already: nothing that has begun may be finished.
            working.abort();
        }
        outcome
    }

    fn identity(&self) -> String {
        let named = self.arguments.identity.clone().filter(|name| !name.is_empty());
        named.unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}-{}", host.trim(), std::process::id())
        })
    }
}

const fn family(address: &IpAddr) -> IpFamily {
    match address {
        IpAddr::V4(_) => IpFamily::V4,
        IpAddr::V6(_) => IpFamily::V6,
    }
}
