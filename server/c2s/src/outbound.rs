//! What waits to be written to one client: stanzas shared with their other recipients, and bytes of our own, in order.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll, ready},
};

use smallvec::SmallVec;
use starling_link::Envelope;
use starling_stream::Transport;

/// Pieces gathered into one write.
const GATHERED: usize = 32;

enum Chunk {
    Shared(Arc<Envelope>),
    Own(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(envelope) => &envelope.stanza,
            Self::Own(bytes) => bytes,
        }
    }
}

/// The queue into one socket. Its owner bounds it: it takes stanzas from the inbox only up to a limit, and reads from
/// the client only while the answers are below one.
#[derive(Default)]
pub(crate) struct Outbound {
    chunks: VecDeque<Chunk>,
    /// Our own bytes behind the last chunk.
    tail: Vec<u8>,
    /// Bytes of the first chunk that are written.
    at: usize,
    /// Bytes in `chunks`, those that are written included.
    queued: usize,
}

impl Outbound {
    /// Appends a stanza.
    pub(crate) fn push(&mut self, envelope: Arc<Envelope>) {
        self.seal();
        self.queued += envelope.stanza.len();
        self.chunks.push_back(Chunk::Shared(envelope));
    }

    /// Where our own bytes go.
    pub(crate) const fn own(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.queued + self.tail.len() - self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    /// Stanzas and pieces that wait.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.queued += self.tail.len();
            self.chunks.push_back(Chunk::Own(std::mem::take(&mut self.tail)));
        }
    }

    /// Writes as much as the socket takes, many chunks at once. Returns how many bytes of stanzas have left, for the
    /// inbox to make room, and whether nothing is left. Pending is `Ok((_, false))`, with the waker registered.
    pub(crate) fn poll_write(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> io::Result<Written> {
        self.seal();
        let mut done = Written { stanzas: 0, bytes: 0, all: false };
        while !self.chunks.is_empty() {
            let written = match self.write_once(transport, cx) {
                Poll::Pending => return Ok(done),
                Poll::Ready(written) => written?,
            };
            self.advance(written, &mut done);
        }
        self.release();
        if let Poll::Ready(flushed) = transport.poll_flush(cx) {
            flushed?;
            done.all = true;
        }
        Ok(done)
    }

    fn write_once(&self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices: SmallVec<[IoSlice<'_>; GATHERED]> = SmallVec::new();
        let mut skip = self.at;
        for chunk in self.chunks.iter().take(GATHERED) {
            slices.push(IoSlice::new(chunk.bytes().get(skip..).unwrap_or_default()));
            skip = 0;
        }
        match ready!(transport.poll_write_vectored(cx, &slices))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(Ok(written)),
        }
    }

    /// Drops what is written, and counts the stanzas among it.
    fn advance(&mut self, written: usize, done: &mut Written) {
        self.at += written;
        while let Some(first) = self.chunks.front() {
            let size = first.bytes().len();
            if self.at < size {
                break;
            }
            if matches!(first, Chunk::Shared(_)) {
                done.stanzas += 1;
                done.bytes += size;
            }
            self.at -= size;
            self.queued -= size;
            self.chunks.pop_front();
        }
    }

    /// An idle connection holds no memory for what it wrote once.
    fn release(&mut self) {
        if self.chunks.capacity() > GATHERED {
            self.chunks = VecDeque::new();
        }
    }
}

/// What [`Outbound::poll_write`] did.
pub(crate) struct Written {
    /// Stanzas that are wholly written.
    pub(crate) stanzas: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// Nothing waits any more.
    pub(crate) all: bool,
}

#[cfg(test)]
mod tests {
    use starling_xmpp::stanza::{Kind, MessageType};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn envelope(stanza: &str) -> Arc<Envelope> {
        let from = "romeo@example.net/orchard".parse().unwrap();
        Arc::new(Envelope::new(None, from, Kind::Message(MessageType::Chat), stanza.into()))
    }

    async fn connected() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Transport::plain(listener.accept().await.unwrap().0), client)
    }

    async fn write_all(outbound: &mut Outbound, transport: &mut Transport) -> usize {
        let mut bytes = 0;
        std::future::poll_fn(|cx| {
            let written = outbound.poll_write(transport, cx).unwrap();
            bytes += written.bytes;
            if written.all { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        bytes
    }

    #[tokio::test]
    async fn stanzas_and_own_bytes_leave_in_the_order_in_which_they_came() {
        let (mut transport, mut client) = connected().await;
        let mut outbound = Outbound::default();
        outbound.own().extend_from_slice(b"<a/>");
        outbound.push(envelope("<b/>"));
        outbound.push(envelope("<c/>"));
        outbound.own().extend_from_slice(b"<d/>");
        outbound.own().extend_from_slice(b"<e/>");
        assert_eq!(outbound.len(), 20);
        assert_eq!(write_all(&mut outbound, &mut transport).await, 8);
        assert!(outbound.is_empty());
        drop(transport);
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "<a/><b/><c/><d/><e/>");
    }

    #[tokio::test]
    async fn a_slow_reader_gets_every_byte_once_and_the_length_falls_to_nothing() {
        let (mut transport, mut client) = connected().await;
        let mut outbound = Outbound::default();
        let mut expected = Vec::new();
        for n in 0..3000 {
            let stanza = format!("<m n='{n}'>{}</m>", "x".repeat(1000));
            expected.extend_from_slice(stanza.as_bytes());
            outbound.push(envelope(&stanza));
        }
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            client.shutdown().await.ok();
            got
        });
        assert_eq!(write_all(&mut outbound, &mut transport).await, expected.len());
        assert_eq!(outbound.len(), 0);
        drop(transport);
        assert!(reader.await.unwrap() == expected);
    }
}
