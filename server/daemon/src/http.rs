//! The HTTP port: metrics and probes.
//!
//! Bounds: [`CONNECTIONS`] at once (more wait in the kernel's backlog), a request's head within [`HEAD_TIMEOUT`] and 16 KiB
//! (otherwise the connection is cut), an answer within [`ANSWER_TIMEOUT`] (otherwise 503).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::Registry;
use starling_session::Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::accept;
use crate::metrics;
use crate::readiness::{self, Readiness};

/// Most connections at once.
pub(crate) const CONNECTIONS: usize = 256;
/// For a request's head, and for the next request on a kept connection.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For working out an answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For the store's answer to a readiness probe.
const STORE_TIMEOUT: Duration = Duration::from_secs(3);
const HEAD_BYTES: usize = 16 * 1024;

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Context {
    /// For `/metrics`.
    pub(crate) registry: Registry,
    /// For `/readyz`.
    pub(crate) readiness: Readiness,
    /// For `/readyz`: what it stands on is asked whether it answers. `None`: there are no sessions here.
    pub(crate) service: Option<Arc<Service>>,
}

/// The paths of this port.
pub(crate) fn router(context: Context) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(show_readiness))
        .with_state(context)
}

/// Serves `router` until `stop`; then what is being answered is finished, and the task ends. Connections are tasks of `tasks`.
pub(crate) async fn serve(listener: TcpListener, router: Router, tasks: TaskTracker, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
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

async fn show_metrics(State(context): State<Context>) -> Response {
    match metrics::encode(&context.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn show_readiness(State(context): State<Context>) -> Response {
    match unready(&context).await {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn unready(context: &Context) -> Option<String> {
    match context.readiness.get() {
        readiness::State::Ready => {}
        state @ (readiness::State::Starting | readiness::State::Draining) => return Some(state.as_str().to_owned()),
    }
    let Some(service) = &context.service else { return None };
    if !service.registry().is_available() {
        return Some("the registry does not answer".to_owned());
    }
    if !service.is_linked() {
        return Some("no router has let this process in".to_owned());
    }
    match tokio::time::timeout(STORE_TIMEOUT, service.store().list(None, 1)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(format!("the store does not answer: {error}")),
        Err(_) => Some("the store does not answer in time".to_owned()),
    }
}
