//! The last bytes of a connection.

use std::{future::poll_fn, io, sync::Arc, task::Poll, time::Duration};

use starling_link::Envelope;
use starling_stream::Transport;
use tokio::time::timeout;

use crate::{outbound::Outbound, scratch::Scratch};

/// How long a client has to close its own side. Closing a socket with unread bytes in it resets the connection, and the
/// client would lose the error that says why.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(3);
/// Bytes from the client that are read meanwhile.
const READ: usize = 1 << 20;

/// Writes what waits, within `write_time`, and hands each stanza that is written to `taken`; ends our side; and waits for
/// the client to end its own, within [`LAST_WORDS`], handing what it says meanwhile to `heard`.
pub(crate) async fn say_last_words(
    mut transport: Transport,
    outbound: &mut Outbound,
    write_time: Duration,
    mut taken: impl FnMut(Arc<Envelope>),
    heard: impl FnMut(&[u8]),
) {
    let written = poll_fn(|cx| match outbound.poll_write(&mut transport, cx, &mut taken) {
        Err(error) => Poll::Ready(Err(error)),
        Ok(true) => Poll::Ready(Ok(())),
        Ok(false) => Poll::Pending,
    });
    let said = match timeout(write_time, written).await {
        Ok(Ok(())) => timeout(LAST_WORDS, hang_up(&mut transport, heard)).await,
        Ok(Err(error)) => Ok(Err(error)),
        Err(late) => Err(late),
    };
    match said {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "Connection lost while it was closed."),
        Err(_) => tracing::debug!(waiting = outbound.len(), "Client took too long to close."),
    }
}

async fn hang_up(transport: &mut Transport, mut heard: impl FnMut(&[u8])) -> io::Result<()> {
    poll_fn(|cx| transport.poll_shutdown(cx)).await?;
    let mut left = READ;
    while left > 0 {
        let read = poll_fn(|cx| {
            let mut scratch = Scratch::take();
            transport.poll_read(cx, scratch.space()).map_ok(|read| {
                scratch.fill(read);
                heard(&scratch);
                read
            })
        })
        .await?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}
