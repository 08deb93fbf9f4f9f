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
    /// A stanza that the client has once the socket took it.
    Shared(Arc<Envelope>),
    /// A stanza that the client will acknowledge (XEP-0198): whoever waits for that has it as well.
    Managed(Arc<Envelope>),
    Own(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(envelope) | Self::Managed(envelope) => &envelope.stanza,
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
    /// Appends a stanza; its owner is told when it is written.
    pub(crate) fn push(&mut self, envelope: Arc<Envelope>) {
        self.append(Chunk::Shared(envelope));
    }

    /// Appends a stanza that the client will acknowledge.
    pub(crate) fn push_managed(&mut self, envelope: Arc<Envelope>) {
        self.append(Chunk::Managed(envelope));
    }

    fn append(&mut self, chunk: Chunk) {
        self.seal();
        self.queued += chunk.bytes().len();
        self.chunks.push_back(chunk);
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

    /// Writes as much as the socket takes, many chunks at once, and hands each stanza of [`Outbound::push`] that is
    /// wholly written to `taken`. `true`: nothing is left; else the waker is registered.
    pub(crate) fn poll_write(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
        mut taken: impl FnMut(Arc<Envelope>),
    ) -> io::Result<bool> {
        self.seal();
        while !self.chunks.is_empty() {
            match self.write_once(transport, cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(written) => self.advance(written?, &mut taken),
            }
        }
        self.release();
        match transport.poll_flush(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(flushed) => flushed.map(|()| true),
        }
    }

    /// The stanzas of [`Outbound::push`] that are not wholly written: nobody will say that the client has them.
    pub(crate) fn unwritten(&mut self) -> impl Iterator<Item = Arc<Envelope>> + use<> {
        self.queued = 0;
        self.at = 0;
        std::mem::take(&mut self.chunks).into_iter().filter_map(|chunk| match chunk {
            Chunk::Shared(envelope) => Some(envelope),
            Chunk::Managed(_) | Chunk::Own(_) => None,
        })
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

    /// Drops what is written.
    fn advance(&mut self, written: usize, taken: &mut impl FnMut(Arc<Envelope>)) {
        self.at += written;
        while let Some(first) = self.chunks.front() {
            let size = first.bytes().len();
            if self.at < size {
                break;
            }
            self.at -= size;
            self.queued -= size;
            if let Some(Chunk::Shared(envelope)) = self.chunks.pop_front() {
                taken(envelope);
            }
        }
    }

    /// An idle connection holds no memory for what it wrote once.
    fn release(&mut self) {
        if self.chunks.capacity() > GATHERED {
            self.chunks = VecDeque::new();
        }
    }
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
            let all = outbound.poll_write(transport, cx, |envelope| bytes += envelope.stanza.len()).unwrap();
            if all { Poll::Ready(()) } else { Poll::Pending }
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
