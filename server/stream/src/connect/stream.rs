use std::io;

use starling_xml::{Frame, Limits, OwnedElement, Reader};
use starling_xmpp::negotiate::TlsInfo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::tls::{self, Roots};
use crate::Error;

const READ_BYTES: usize = 16 * 1024;

/// An XML stream as its initiator: the connection, and the reader of what the other end sends.
#[derive(Debug)]
pub(super) struct Stream {
    link: Link,
    reader: Reader,
    buf: Vec<u8>,
    /// What of `buf` was read from the socket and not yet by `reader`.
    unread: std::ops::Range<usize>,
    ended: bool,
}

#[derive(Debug)]
enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// In the middle of STARTTLS, or after that failed.
    Gone,
}

impl Stream {
    /// Connects to the first of a host's addresses that answers.
    pub(super) async fn connect(host: &str, port: u16) -> Result<Self, Error> {
        let mut last = None;
        for address in tokio::net::lookup_host((host, port)).await? {
            match TcpStream::connect(address).await {
                Ok(tcp) => {
                    tcp.set_nodelay(true)?;
                    return Ok(Self {
                        link: Link::Plain(tcp),
                        reader: Reader::new(Limits::default()),
                        buf: vec![0; READ_BYTES],
                        unread: 0..0,
                        ended: false,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| Error::NoAddress(host.to_owned()), Error::Io))
    }

    /// Goes on under TLS. What came before is over: bytes that the server sent behind `<proceed/>` are an error, since
    /// anybody may have put them there (RFC 6120 §5.4.3.3).
    pub(super) async fn start_tls(&mut self, domain: &str, roots: &Roots, direct: bool) -> Result<TlsInfo, Error> {
        if !self.unread.is_empty() {
            return Err(Error::Unexpected("data between <proceed/> and TLS"));
        }
        match std::mem::replace(&mut self.link, Link::Gone) {
            Link::Plain(tcp) => {
                let (stream, info) = tls::handshake(tcp, domain, roots, direct).await?;
                self.link = Link::Tls(Box::new(stream));
                self.restart();
                Ok(info)
            }
            Link::Tls(_) | Link::Gone => Err(Error::Unexpected("TLS within TLS")),
        }
    }

    /// A new stream begins on the same connection (RFC 6120 §4.3.3).
    pub(super) fn restart(&mut self) {
        self.reader.restart();
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.link {
            Link::Plain(tcp) => tcp.write_all(bytes).await?,
            Link::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
            Link::Gone => return Err(Error::Ended),
        }
        Ok(())
    }

    /// Gives the next frame to `take`. Dropped in between, it loses nothing.
    pub(super) async fn frame<T>(&mut self, take: impl FnOnce(Frame<'_>) -> T) -> Result<T, Error> {
        loop {
            let mut input = self.buf.get(self.unread.clone()).unwrap_or_default();
            let before = input.len();
            let frame = self.reader.read(&mut input)?;
            self.unread.start += before - input.len();
            if let Some(frame) = frame {
                return Ok(take(frame));
            }
            let read = match &mut self.link {
                Link::Plain(tcp) => tcp.read(&mut self.buf).await?,
                Link::Tls(stream) => match stream.read(&mut self.buf).await {
                    // An end without close_notify: the XML stream has an end of its own, so that nothing can be cut off unseen.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                    other => other?,
                },
                Link::Gone => 0,
            };
            if read == 0 {
                return Err(Error::Ended);
            }
            self.unread = 0..read;
        }
    }

    /// The next first-level element; `None` once the other end has closed its stream.
    pub(super) async fn element(&mut self) -> Result<Option<OwnedElement>, Error> {
        if self.ended {
            return Ok(None);
        }
        let element = self
            .frame(|frame| match frame {
                Frame::Element(element) => Ok(Some(element.to_owned())),
                Frame::Close => Ok(None),
                Frame::Open(_) => Err(Error::Unexpected("a stream header within the stream")),
            })
            .await??;
        self.ended = element.is_none();
        Ok(element)
    }

    /// Closes the stream, waits for the other end to do so (RFC 6120 §4.4), and ends the connection. What still comes is
    /// thrown away.
    pub(super) async fn close(mut self) -> Result<(), Error> {
        self.send(b"</stream:stream>").await?;
        loop {
            match self.element().await {
                Ok(Some(_)) => {}
                Ok(None) | Err(Error::Ended) => break,
                Err(error) => return Err(error),
            }
        }
        let ended = match &mut self.link {
            Link::Plain(tcp) => tcp.shutdown().await,
            Link::Tls(stream) => stream.shutdown().await,
            Link::Gone => Ok(()),
        };
        // The other end may be gone before it hears of it.
        match ended {
            Err(error) if error.kind() != io::ErrorKind::NotConnected && error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }
}
