//! One TCP connection, plain or under TLS, that holds no buffer while nothing is under way.

mod tls;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use starling_xmpp::negotiate::TlsInfo;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use crate::Error;
use crate::tls::TlsAcceptor;
use tls::TlsStream;

/// How large a buffer [`Transport::poll_read`] should be given, in bytes: the plaintext of one read from the socket always
/// fits.
pub const READ_BYTES: usize = 19 * 1024;

/// A TCP connection, plain or under TLS (as the server).
#[derive(Debug)]
pub struct Transport(Inner);

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Transport {
    /// A connection without TLS. Turns Nagle's algorithm off: stanzas are written whole.
    #[must_use]
    pub fn plain(tcp: TcpStream) -> Self {
        if let Err(error) = tcp.set_nodelay(true) {
            // The peer is gone already; reading will tell.
            tracing::debug!(%error, "TCP_NODELAY");
        }
        Self(Inner::Plain(tcp))
    }

    /// Does the server's side of a TLS handshake: on a new connection (direct TLS), or after `<proceed/>` was flushed
    /// (STARTTLS, RFC 6120 §5.4.3.1). A client that speaks early is understood; what it sends belongs to TLS.
    ///
    /// # Errors
    /// [`Error::Tls`] when the client speaks no TLS that we do; it was told so. [`Error::Io`], also when it hung up.
    /// [`Error::Configuration`] when the connection is under TLS already.
    pub async fn accept_tls(self, acceptor: &TlsAcceptor) -> Result<Self, Error> {
        match self.0 {
            Inner::Plain(tcp) => Ok(Self(Inner::Tls(Box::new(TlsStream::accept(tcp, acceptor).await?)))),
            Inner::Tls(_) => Err(Error::Configuration("the connection is under TLS already".to_owned())),
        }
    }

    /// What the handshake agreed on. `None`: no TLS.
    #[must_use]
    pub const fn tls_info(&self) -> Option<&TlsInfo> {
        match &self.0 {
            Inner::Plain(_) => None,
            Inner::Tls(stream) => Some(stream.info()),
        }
    }

    /// The other end, which may be a load balancer.
    ///
    /// # Errors
    /// The socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    /// The connection beneath: for its options, not for reading and writing.
    #[must_use]
    pub const fn tcp(&self) -> &TcpStream {
        match &self.0 {
            Inner::Plain(tcp) => tcp,
            Inner::Tls(stream) => stream.tcp(),
        }
    }

    /// Reads what has come, and says how many bytes: 0 at the end (FIN or close_notify). With [`READ_BYTES`] or more of
    /// `buf`, nothing is kept back. After a short read, the socket is not tried again before it is readable.
    ///
    /// # Errors
    /// The connection broke, or a record was bad ([`io::ErrorKind::InvalidData`]).
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Inner::Plain(tcp) => {
                let mut buf = ReadBuf::new(buf);
                ready!(Pin::new(tcp).poll_read(cx, &mut buf))?;
                Poll::Ready(Ok(buf.filled().len()))
            }
            Inner::Tls(stream) => stream.poll_read(cx, buf),
        }
    }

    /// Writes from `bufs`, and says how many bytes were taken. Under TLS they are sealed into as few records and written
    /// by as few calls as possible; what the socket does not take of that is kept, at most 64 KiB and the records' own
    /// bytes, and is sent before anything else is taken.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Inner::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Inner::Tls(stream) => stream.poll_write_vectored(cx, bufs),
        }
    }

    /// Sends what was kept.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            // Nothing is kept above the socket.
            Inner::Plain(_) => Poll::Ready(Ok(())),
            Inner::Tls(stream) => stream.poll_flush(cx),
        }
    }

    /// Sends what was kept, close_notify under TLS, and FIN. Reading goes on.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Inner::Tls(stream) => stream.poll_shutdown(cx),
        }
    }

    /// [`poll_read`](Self::poll_read) as a future, which may be dropped without loss.
    ///
    /// # Errors
    /// Those of [`poll_read`](Self::poll_read).
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// Writes all of `bytes` and flushes.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = std::future::poll_fn(|cx| self.poll_write_vectored(cx, &[IoSlice::new(bytes)])).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        self.flush().await
    }

    /// [`poll_flush`](Self::poll_flush) as a future.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn flush(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// [`poll_shutdown`](Self::poll_shutdown) as a future.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_shutdown(cx)).await
    }
}

#[cfg(test)]
mod tests;
