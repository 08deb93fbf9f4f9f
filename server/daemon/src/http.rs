//! Whether `starlingd` is ready, for its HTTP port.

use std::sync::Arc;
use std::time::Duration;

use starling_session::Service;

use crate::readiness::{self, Readiness};

/// Most connections at once.
pub(crate) const CONNECTIONS: usize = 256;
/// For the store's answer to a readiness probe.
const STORE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why it is not ready. What `service` stands on is asked whether it answers; `None`: there are no sessions here.
pub(crate) async fn unready(readiness: Readiness, service: Option<Arc<Service>>) -> Option<String> {
    match readiness.get() {
        readiness::State::Ready => {}
        state @ (readiness::State::Starting | readiness::State::Draining) => return Some(state.as_str().to_owned()),
    }
    let service = service?;
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
