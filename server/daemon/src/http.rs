//! What the HTTP port of `starlingd` answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use prometheus::Registry;
use starling_session::Service;

use crate::readiness::{self, Readiness};

/// Most connections at once.
pub(crate) const CONNECTIONS: usize = 256;
/// For the store's answer to a readiness probe.
const STORE_TIMEOUT: Duration = Duration::from_secs(3);

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

async fn show_metrics(State(context): State<Context>) -> Response {
    starling_http::metrics(&context.registry)
}

async fn show_readiness(State(context): State<Context>) -> Response {
    starling_http::readiness(unready(&context).await)
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
