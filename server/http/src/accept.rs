//! Taking connections, within a bound, through whatever goes wrong with a single one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long to wait when the process or the machine has no descriptor or memory for one more connection: only the end of
/// another one helps, of which nobody tells.
const BREATH: Duration = Duration::from_millis(100);

/// The next connection and the slot that it takes; waits for a free slot first.
pub(crate) async fn with_slot<S, A, F>(
    slots: &Arc<Semaphore>,
    accept: impl Fn() -> F,
    role: &'static str,
) -> (S, A, OwnedSemaphorePermit)
where
    F: Future<Output = io::Result<(S, A)>>,
{
    let slot = match Arc::clone(slots).acquire_owned().await {
        Ok(slot) => slot,
        // The semaphore is never closed; a caller that closes it wants no more connections.
        Err(_) => std::future::pending().await,
    };
    loop {
        match accept().await {
            Ok((stream, address)) => return (stream, address, slot),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(role, %error, "Cannot accept connections");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Whether the fault is that of the connection which was about to be accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
