//! What the operator says of itself: metrics, probes, logs.

use std::{future::ready, io, sync::Arc};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};
use starling_metrics::Register as _;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing_subscriber::EnvFilter;

/// Most connections at once.
pub const CONNECTIONS: usize = 32;

/// What is counted.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Servers looked after, by how that ended.
    pub reconciliations: IntCounterVec,
    /// How long that took.
    pub seconds: Histogram,
    /// Servers that are there.
    pub servers: IntGauge,
    /// Objects applied, by why.
    pub applied: IntCounterVec,
    /// Objects deleted that were not to be there any more.
    pub orphans: IntCounter,
    /// Status written.
    pub status_patches: IntCounter,
    /// Events published.
    pub events: IntCounter,
    /// Watches that failed, and were begun anew.
    pub watch_errors: IntCounter,
    /// Whether this process leads.
    pub leader: IntGauge,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// If a name is taken, which is a fault of the program.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let help = "Always 1; the label says which release runs.";
        let build = registry.gauges("starling_operator_build_info", help, &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            reconciliations: registry.counters(
                "starling_operator_reconciliations_total",
                "Looks after a server, by how they ended: settled, progressing, invalid, paused, undecodable, failed.",
                &["outcome"],
            )?,
            seconds: registry.histogram(
                "starling_operator_reconcile_seconds",
                "How long one look after a server took.",
                &[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0],
            )?,
            servers: registry.gauge("starling_operator_servers", "XmppServers that are there.")?,
            applied: registry.counters(
                "starling_operator_applied_total",
                "Objects applied, by why: missing, changed, drifted (somebody else had changed them).",
                &["why"],
            )?,
            orphans: registry
                .counter("starling_operator_orphans_total", "Objects deleted that were not to be there any more.")?,
            status_patches: registry.counter("starling_operator_status_patches_total", "Status written.")?,
            events: registry.counter("starling_operator_events_total", "Events published.")?,
            watch_errors: registry
                .counter("starling_operator_watch_errors_total", "Watches that failed, and were begun anew.")?,
            leader: registry.gauge("starling_operator_leader", "1 while this process leads.")?,
            registry,
        })
    }
}

/// Why the process is not ready, or `None`.
pub type Unready = Arc<dyn Fn() -> Option<&'static str> + Send + Sync>;

/// Serves `/metrics`, `/healthz` and `/readyz` until `stop`; then what is being answered is finished.
pub async fn serve(listener: TcpListener, metrics: Metrics, unready: Unready, stop: CancellationToken) {
    let router = starling_http::router(metrics.registry, move || ready(unready()));
    let tasks = TaskTracker::new();
    starling_http::serve(listener, router, CONNECTIONS, tasks.clone(), stop).await;
    tasks.close();
    tasks.wait().await;
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Human,
}

/// Sends the process's events to standard error.
///
/// # Errors
/// If the filter cannot be read, or logs were set up before; says which.
pub fn log(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Human => builder.compact().with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|error| error.to_string())
}
