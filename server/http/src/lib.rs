//! The HTTP port of a process of ours: metrics and probes. Used by `starlingd` and by the operator, which say whether they are
//! ready.
//!
//! ```text
//!   kubelet, Prometheus ──► accept (a slot for each) ──► connection: HTTP/1, bounded ──► router(): /metrics, /healthz, /readyz
//! ```
//!
//! Bounds: so many connections at once as the caller says (more wait in the kernel's backlog), a request's head within
//! [`HEAD_TIMEOUT`] and 16 KiB (otherwise the connection is cut), an answer within [`ANSWER_TIMEOUT`] (otherwise 503).

mod accept;

use std::{convert::Infallible, fmt::Display, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus::{Registry, TextEncoder};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

/// For a request's head, and for the next request on a kept connection.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For working out an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES: usize = 16 * 1024;

/// `/metrics`: all that the registry has. `/healthz`: 200. `/readyz`: 200, or 503 with the reason why the process is not ready.
pub fn router<U, A, R>(registry: Registry, unready: U) -> Router
where
    U: Fn() -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Option<R>> + Send + 'static,
    R: Display + Send,
{
    Router::new()
        .route("/metrics", get(move || async move { metrics(&registry) }))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(move || async move { readiness(unready().await) }))
}

/// Serves `router` until `stop`, to `connections` at once; then what is being answered is finished, and the task ends.
/// Connections are tasks of `tasks`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: usize,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(connections));
    loop {
        let (stream, peer, slot) = tokio::select! {
            accepted = accept::with_slot(&slots, || listener.accept(), "http") => accepted,
            () = stop.cancelled() => return,
        };
        let (router, stop) = (router.clone(), stop.clone());
        tasks.spawn(async move {
            connection(stream, peer, router, stop).await;
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| answer(router.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "HTTP connection failed");
    }
}

async fn answer(router: Router, request: Request<hyper::body::Incoming>) -> Result<Response, Infallible> {
    match tokio::time::timeout(ANSWER_TIMEOUT, router.oneshot(request.map(Body::new))).await {
        Ok(response) => response,
        Err(_) => Ok((StatusCode::SERVICE_UNAVAILABLE, "this took too long\n").into_response()),
    }
}

fn metrics(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn readiness(unready: Option<impl Display>) -> Response {
    match unready {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
