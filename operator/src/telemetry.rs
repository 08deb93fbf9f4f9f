//! What the operator says of itself: metrics, probes, logs.
//!
//! Bounds of the HTTP port: [`CONNECTIONS`] at once (more wait in the kernel's backlog), a request's head within
//! [`HEAD_TIMEOUT`] and 16 KiB; otherwise the connection is cut.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing_subscriber::EnvFilter;

/// Most connections at once.
pub const CONNECTIONS: usize = 32;
/// For a request's head, and for the next request on a kept connection.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_BYTES: usize = 16 * 1024;
/// After an `accept` that failed: for want of file descriptors, it would fail again at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

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
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let buckets = vec![0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
        let seconds = Histogram::with_opts(
            HistogramOpts::new("starling_operator_reconcile_seconds", "How long one look after a server took.")
                .buckets(buckets),
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let build = IntGaugeVec::new(
            Opts::new("starling_operator_build_info", "Always 1; the label says which release runs."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        let reconciliations = counters(
            "starling_operator_reconciliations_total",
            "Looks after a server, by how they ended: settled, progressing, invalid, paused, undecodable, failed.",
            "outcome",
        )?;
        let applied = counters(
            "starling_operator_applied_total",
            "Objects applied, by why: missing, changed, drifted (somebody else had changed them).",
            "why",
        )?;
        Ok(Self {
            reconciliations,
            seconds,
            applied,
            servers: gauge("starling_operator_servers", "XmppServers that are there.")?,
            orphans: counter("starling_operator_orphans_total", "Objects deleted that were not to be there any more.")?,
            status_patches: counter("starling_operator_status_patches_total", "Status written.")?,
            events: counter("starling_operator_events_total", "Events published.")?,
            watch_errors: counter("starling_operator_watch_errors_total", "Watches that failed, and were begun anew.")?,
            leader: gauge("starling_operator_leader", "1 while this process leads.")?,
            registry,
        })
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// If metrics contradict each other, which is a fault of the program.
    pub fn encode(&self) -> prometheus::Result<String> {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Why the process is not ready, or `None`.
pub type Unready = Arc<dyn Fn() -> Option<&'static str> + Send + Sync>;

#[derive(Clone)]
struct Context {
    metrics: Metrics,
    unready: Unready,
}

/// Serves `/metrics`, `/healthz` and `/readyz` until `stop`; then what is being answered is finished.
pub async fn serve(listener: TcpListener, metrics: Metrics, unready: Unready, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(show_readiness))
        .with_state(Context { metrics, unready });
    let (tasks, slots) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (listener.accept().await, slot)
        };
        // A connection that was accepted is never dropped here: `accept` gives it back to the kernel's queue.
        let (accepted, slot) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn(async move {
                    connection(stream, router, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "No connection could be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let answer = move |request: Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.into_response()) }
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(tower::service_fn(answer)));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "An HTTP connection failed");
    }
}

async fn show_metrics(State(context): State<Context>) -> Response {
    match context.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn show_readiness(State(context): State<Context>) -> Response {
    match (context.unready)() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
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
