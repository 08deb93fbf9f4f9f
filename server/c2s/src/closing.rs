//! The last bytes of a connection.

use std::{future::poll_fn, task::Poll, time::Duration};

use starling_stream::Transport;
use tokio::time::timeout;

use crate::{outbound::Outbound, scratch::Scratch};

/// How long a client has to take the last bytes and to close its own side. Closing a socket with unread bytes in it
/// resets the connection, and the client would lose the error that says why.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(3);
/// Bytes from the client that are thrown away meanwhile.
const THROWN_AWAY: usize = 1 << 20;

/// Writes what waits, ends our side, and waits for the client to end its own; all within [`LAST_WORDS`].
pub(crate) async fn say_last_words(mut transport: Transport, mut outbound: Outbound) {
    let written_and_closed = async {
        poll_fn(|cx| match outbound.poll_write(&mut transport, cx) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(written) if written.all => Poll::Ready(Ok(())),
            Ok(_) => Poll::Pending,
        })
        .await?;
        poll_fn(|cx| transport.poll_shutdown(cx)).await?;
        let mut left = THROWN_AWAY;
        while left > 0 {
            let read = poll_fn(|cx| {
                let mut scratch = Scratch::take();
                transport.poll_read(cx, scratch.space())
            })
            .await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        std::io::Result::Ok(())
    };
    match timeout(LAST_WORDS, written_and_closed).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "Connection lost while it was closed."),
        Err(_) => tracing::debug!("Client did not close its side in time."),
    }
}
