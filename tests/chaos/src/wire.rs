//! A connection, and the XMPP stream on it (RFC 6120 §4), from the client's side.

use std::{io, net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use starling_xml::{Frame, Limits, OwnedElement, Reader};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const STREAMS: &str = "http://etherx.jabber.org/streams";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// XEP-0198.
pub const SM: &str = "urn:xmpp:sm:3";
/// What the server serves.
pub const DOMAIN: &str = "localhost";
/// For a connection, a step of a log-in, and for bytes to be taken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that are read at once.
const READ: usize = 16 * 1024;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The connection itself.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server closed the stream, or the connection.
    #[error("closed by the server")]
    Closed,
    /// A stream error (RFC 6120 §4.9).
    #[error("stream error {0}")]
    Error(String),
    /// Nothing came, or nothing was taken, in time.
    #[error("{0} took too long")]
    Late(&'static str),
    /// The server broke the protocol, which no fault excuses.
    #[error("{0}")]
    Wrong(String),
}

/// A connection and its stream.
pub struct Wire {
    tcp: TcpStream,
    reader: Reader,
    input: Vec<u8>,
}

impl Wire {
    /// Logs in as far as the features of the authenticated stream (RFC 6120 §6, PLAIN): what a client does before it binds
    /// or resumes.
    ///
    /// # Errors
    /// Why it did not come to that.
    pub async fn log_in(address: SocketAddr, user: &str, password: &str) -> Result<(Self, OwnedElement), Broken> {
        let tcp = timeout(PATIENCE, TcpStream::connect(address)).await.map_err(|_| Broken::Late("a connection"))??;
        tcp.set_nodelay(true)?;
        let mut wire = Self { tcp, reader: Reader::new(Limits::default()), input: Vec::new() };
        wire.open().await?;
        let secret = STANDARD.encode(format!("\0{user}\0{password}"));
        let answer = wire.ask(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{secret}</auth>")).await?;
        if !answer.as_raw().is("success", SASL) {
            let condition = condition(&answer, SASL);
            // A server that is being stopped or has no disk may well say so.
            return Err(match condition.as_str() {
                "temporary-auth-failure" => Broken::Error(condition),
                _ => Broken::Wrong(format!("log-in: {condition}")),
            });
        }
        wire.reader.restart();
        let features = wire.open().await?;
        Ok((wire, features))
    }

    /// Binds a resource (RFC 6120 §7).
    ///
    /// # Errors
    /// Why it was not bound.
    pub async fn bind(&mut self, resource: &str) -> Result<(), Broken> {
        let bind = format!("<bind xmlns='{BIND}'><resource>{resource}</resource></bind>");
        let answer = self.ask(&format!("<iq type='set' id='bind'>{bind}</iq>")).await?;
        match answer.as_raw().attribute("type").as_deref() {
            Some("result") => Ok(()),
            _ => Err(Broken::Error(format!("bind: {}", condition(&answer, "urn:ietf:params:xml:ns:xmpp-stanzas")))),
        }
    }

    async fn open(&mut self) -> Result<OwnedElement, Broken> {
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='{STREAMS}'>"
        ))
        .await?;
        self.answer().await
    }

    /// Sends, and waits for the next element.
    ///
    /// # Errors
    /// Why none came.
    pub async fn ask(&mut self, text: &str) -> Result<OwnedElement, Broken> {
        self.send(text).await?;
        self.answer().await
    }

    /// The next element, in time.
    ///
    /// # Errors
    /// Why none came.
    pub async fn answer(&mut self) -> Result<OwnedElement, Broken> {
        timeout(PATIENCE, self.next()).await.map_err(|_| Broken::Late("an answer"))?
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// If they were not taken in time; then part of them may have been.
    pub async fn send(&mut self, text: &str) -> Result<(), Broken> {
        let written = timeout(PATIENCE, self.tcp.write_all(text.as_bytes()));
        Ok(written.await.map_err(|_| Broken::Late("writing"))??)
    }

    /// The next element, a stream error excepted. Dropped in between, it has lost nothing.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn next(&mut self) -> Result<OwnedElement, Broken> {
        loop {
            let mut rest = self.input.as_slice();
            let before = rest.len();
            let frame = match self.reader.read(&mut rest) {
                Ok(Some(Frame::Element(element))) => Some(Ok(element.to_owned())),
                Ok(Some(Frame::Close)) => Some(Err(Broken::Closed)),
                Ok(Some(Frame::Open(_))) => None,
                Ok(None) => {
                    self.input.clear();
                    self.input.reserve(READ);
                    if self.tcp.read_buf(&mut self.input).await? == 0 {
                        return Err(Broken::Closed);
                    }
                    continue;
                }
                Err(error) => return Err(Broken::Wrong(format!("bad XML: {error}"))),
            };
            let taken = before - rest.len();
            self.input.drain(..taken);
            match frame {
                Some(Ok(element)) if element.as_raw().is("error", STREAMS) => {
                    return Err(Broken::Error(condition(&element, STREAM_ERRORS)));
                }
                Some(frame) => return frame,
                None => {}
            }
        }
    }
}

/// The first child's name in the namespace of conditions, also below `<error/>`.
pub fn condition(element: &OwnedElement, namespace: &str) -> String {
    let raw = element.as_raw();
    let direct = raw.children().find(|child| child.namespace() == namespace).map(|child| child.name().to_owned());
    let below = || {
        let error = raw.children().find(|child| child.name() == "error")?;
        let found = error.children().find(|child| child.namespace() == namespace)?;
        Some(found.name().to_owned())
    };
    direct.or_else(below).unwrap_or_else(|| format!("<{}/>", raw.name()))
}
