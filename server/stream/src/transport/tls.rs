use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::server::UnbufferedServerConnection;
use starling_xmpp::negotiate::TlsInfo;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use crate::Error;
use crate::tls::unbuffered::{Driven, MAX_SEALED, MAX_WIRE, Then, drive, into_io};
use crate::tls::{Handshake, TlsAcceptor};

/// How much of unfinished records is kept at most. Only a handshake message in several records comes to more than one, and
/// no client has reason to send a long one.
const MAX_PARTIAL: usize = 2 * MAX_WIRE;
/// What is read at least when there is more of a handshake message than one record.
const MIN_READ: usize = 4096;

thread_local! {
    /// Records as they come from the socket, decrypted in place.
    static INCOMING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Plaintext of several slices, put together to be sealed into one record.
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Sealed records on their way to the socket.
    static SEALED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection after its handshake. Each `Vec` owns memory only while it holds something.
pub(super) struct TlsStream {
    tcp: TcpStream,
    connection: UnbufferedServerConnection,
    info: TlsInfo,
    buffers: Buffers,
}

#[derive(Default)]
struct Buffers {
    /// The beginning of a record whose rest has not come.
    partial: Vec<u8>,
    /// Plaintext that the last caller had no room for.
    plain: Vec<u8>,
    /// What the socket has not taken yet.
    outgoing: Vec<u8>,
    read_state: ReadState,
    write_state: WriteState,
}

#[derive(Default)]
enum ReadState {
    #[default]
    Open,
    /// FIN, close_notify or an error that was told: nothing more is read.
    Ended,
    /// An error behind good data that the caller was given first.
    Failed(io::Error),
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum WriteState {
    #[default]
    Open,
    /// We sent close_notify.
    Closed,
    /// A fatal alert was sent or received: rustls must not be called again.
    Failed,
}

impl TlsStream {
    pub(super) async fn accept(mut tcp: TcpStream, acceptor: &TlsAcceptor) -> Result<Self, Error> {
        let mut handshake = acceptor.handshake()?;
        let mut buffers = Buffers::default();
        std::future::poll_fn(|cx| poll_handshake(cx, &mut tcp, &mut handshake, &mut buffers)).await?;
        let (connection, info) = handshake.finish();
        Ok(Self { tcp, connection, info, buffers })
    }

    pub(super) const fn info(&self) -> &TlsInfo {
        &self.info
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let Buffers { partial, plain, outgoing, .. } = &self.buffers;
        partial.capacity() + plain.capacity() + outgoing.capacity()
    }

    pub(super) const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { tcp, connection, buffers, .. } = self;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if !buffers.plain.is_empty() {
                return Poll::Ready(Ok(buffers.take_plain(buf)));
            }
            match std::mem::take(&mut buffers.read_state) {
                ReadState::Open => {}
                ReadState::Ended => {
                    buffers.read_state = ReadState::Ended;
                    return Poll::Ready(Ok(0));
                }
                ReadState::Failed(error) => {
                    buffers.read_state = ReadState::Ended;
                    return Poll::Ready(Err(error));
                }
            }
            let mut filled = 0;
            let mut kept = Vec::new();
            let step = buffers.poll_fill(cx, tcp, connection, |plain| {
                let room = buf.get_mut(filled..).unwrap_or_default();
                let (now, later) = plain.split_at(plain.len().min(room.len()));
                if let Some(room) = room.get_mut(..now.len()) {
                    room.copy_from_slice(now);
                    filled += now.len();
                }
                kept.extend_from_slice(later);
            });
            buffers.plain = kept;
            match step {
                Poll::Ready(result) => {
                    if filled == 0 {
                        result?;
                    } else {
                        if let Err(error) = result {
                            buffers.read_state = ReadState::Failed(error);
                        }
                        return Poll::Ready(Ok(filled));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        match (filled.next(), filled.next()) {
            (None, _) => Poll::Ready(Ok(0)),
            (Some(only), None) => self.poll_seal(cx, only.get(..MAX_SEALED).unwrap_or(only)),
            (Some(_), Some(_)) => GATHERED.with_borrow_mut(|gathered| {
                gathered.clear();
                for buf in bufs {
                    let room = MAX_SEALED - gathered.len();
                    gathered.extend_from_slice(buf.get(..room).unwrap_or(buf));
                }
                self.poll_seal(cx, gathered)
            }),
        }
    }

    /// Takes all of `bytes`; there must be nothing left from before.
    fn poll_seal(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.buffers.write_state != WriteState::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.send(cx, Then::Seal(bytes))?;
        Poll::Ready(Ok(bytes.len()))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.buffers.poll_flush(cx, &mut self.tcp)
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffers.write_state == WriteState::Open {
            ready!(self.poll_flush(cx))?;
            self.buffers.write_state = WriteState::Closed;
            self.send(cx, Then::Close)?;
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    /// Seals and writes at once; what the socket does not take is kept.
    fn send(&mut self, cx: &mut Context<'_>, then: Then<'_>) -> io::Result<()> {
        let Self { tcp, connection, buffers, .. } = self;
        SEALED.with_borrow_mut(|sealed| {
            sealed.clear();
            let driven =
                drive(connection, &mut buffers.partial, sealed, then, |plain| buffers.plain.extend_from_slice(plain));
            let Driven { consumed, peer_closed, done } = driven.map_err(|error| {
                buffers.write_state = WriteState::Failed;
                into_io(error)
            })?;
            if consumed > 0 {
                buffers.partial.drain(..consumed);
            }
            if peer_closed {
                buffers.read_state = ReadState::Ended;
            }
            if !done {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let written = match Pin::new(tcp).poll_write(cx, sealed) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            buffers.outgoing = sealed.get(written..).unwrap_or_default().to_vec();
            Ok(())
        })
    }
}

/// One readiness of the socket at a time, until both sides are through and all is sent.
fn poll_handshake(
    cx: &mut Context<'_>,
    tcp: &mut TcpStream,
    handshake: &mut Handshake,
    buffers: &mut Buffers,
) -> Poll<Result<(), Error>> {
    loop {
        ready!(buffers.poll_flush(cx, tcp))?;
        if !handshake.connection.is_handshaking() {
            return Poll::Ready(Ok(()));
        }
        if matches!(buffers.read_state, ReadState::Ended) {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
        }
        let mut plain = std::mem::take(&mut buffers.plain);
        let filled = buffers.poll_fill(cx, tcp, &mut handshake.connection, |bytes| plain.extend_from_slice(bytes));
        buffers.plain = plain;
        ready!(filled).map_err(from_io)?;
    }
}

/// Undoes [`into_io`]: the handshake tells a bad record from a broken connection.
fn from_io(error: io::Error) -> Error {
    match error.downcast::<rustls::Error>() {
        Ok(error) => Error::Tls(error),
        Err(error) => Error::Io(error),
    }
}

impl Buffers {
    fn take_plain(&mut self, buf: &mut [u8]) -> usize {
        let taken = self.plain.len().min(buf.len());
        if let (Some(buf), Some(plain)) = (buf.get_mut(..taken), self.plain.get(..taken)) {
            buf.copy_from_slice(plain);
        }
        if taken == self.plain.len() {
            self.plain = Vec::new();
        } else {
            self.plain.drain(..taken);
        }
        taken
    }

    /// Reads from the socket once, and gives the plaintext of the records that are whole now to `plain`, which may be
    /// none. At the socket's end, or the peer's word that it is done, `read_state` changes.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        tcp: &mut TcpStream,
        connection: &mut UnbufferedServerConnection,
        plain: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        INCOMING.with_borrow_mut(|incoming| {
            let before = self.partial.len();
            // No more than a record in all: its plaintext fits into what the caller gives.
            let room = MAX_WIRE.max(before + MIN_READ);
            if incoming.len() < room {
                incoming.resize(room, 0);
            }
            let (kept, free) = incoming.split_at_mut(before);
            kept.copy_from_slice(&self.partial);
            let mut free = ReadBuf::new(free.get_mut(..room - before).unwrap_or_default());
            ready!(Pin::new(&mut *tcp).poll_read(cx, &mut free))?;
            let read = free.filled().len();
            if read == 0 {
                // `partial` stays: rustls may still know of it.
                self.read_state = ReadState::Ended;
                return Poll::Ready(Ok(()));
            }
            let end = before + read;
            let input = incoming.get_mut(..end).unwrap_or_default();
            let driven = match drive(connection, input, &mut self.outgoing, Then::Stop, plain) {
                Ok(driven) => driven,
                Err(error) => {
                    self.read_state = ReadState::Ended;
                    self.write_state = WriteState::Failed;
                    self.partial = Vec::new();
                    // The alert, if the socket takes it; the peer may be told, but is not waited for.
                    match self.poll_flush(cx, tcp) {
                        Poll::Ready(Ok(())) | Poll::Pending => {}
                        Poll::Ready(Err(error)) => tracing::trace!(%error, "no alert was sent"),
                    }
                    return Poll::Ready(Err(into_io(error)));
                }
            };
            let rest = input.get(driven.consumed..).unwrap_or_default();
            if rest.len() > MAX_PARTIAL {
                self.read_state = ReadState::Ended;
                self.write_state = WriteState::Failed;
                self.partial = Vec::new();
                return Poll::Ready(Err(into_io(rustls::Error::General(
                    "handshake message in too many records".into(),
                ))));
            }
            if rest.is_empty() {
                self.partial = Vec::new();
            } else {
                self.partial.clear();
                self.partial.extend_from_slice(rest);
            }
            if driven.peer_closed {
                self.read_state = ReadState::Ended;
            }
            // Answers to key updates: sent now if the socket takes them, else before whatever is written next.
            match self.poll_flush(cx, tcp) {
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            }
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, tcp: &mut TcpStream) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let result = loop {
            let rest = self.outgoing.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                self.outgoing = Vec::new();
                return Poll::Ready(Ok(()));
            }
            match Pin::new(&mut *tcp).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => sent += written,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.outgoing.drain(..sent);
        result
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}
