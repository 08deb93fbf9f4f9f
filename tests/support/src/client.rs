//! A client that says what it is told to, and keeps a transcript for when a test fails.

mod log_in;
mod managed;
mod social;

pub use log_in::decode;
pub use managed::{Counters, Enabled, Failed};
pub use social::{befriend, body, condition};

use std::{collections::VecDeque, net::SocketAddr};

use rustls::pki_types::ServerName;
use starling_xml::{Frame, Limits, OwnedElement, Reader};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use self::managed::Managed;
use crate::{Binding, PATIENCE, Server, Versions, connector};

const STREAMS: &str = "http://etherx.jabber.org/streams";
const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A stream header of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `id`.
    pub id: Option<String>,
    /// `from`.
    pub from: Option<String>,
    /// `to`.
    pub to: Option<String>,
    /// `version`.
    pub version: Option<String>,
    /// `xml:lang`.
    pub lang: Option<String>,
    /// The default namespace.
    pub content: String,
}

/// What came.
#[derive(Clone, Debug)]
pub enum Received {
    /// A header.
    Open(Header),
    /// A first-level element.
    Element(OwnedElement),
    /// `</stream:stream>`.
    Close,
    /// The connection's end; with the error that it ended by, if it did.
    End(Option<String>),
}

/// A connection and the stream on it.
pub struct RawClient {
    io: Option<Box<dyn Io>>,
    reader: Reader,
    input: Vec<u8>,
    /// `>` before what was sent, `<` before what came.
    transcript: String,
    bindings: Vec<Binding>,
    alpn: Option<Vec<u8>>,
    /// The full JID that was bound.
    full: String,
    /// Bare JID and password of the last log-in.
    account: Option<(String, String)>,
    /// XEP-0198 on this stream.
    managed: Managed,
    /// Came while something else was waited for.
    later: VecDeque<OwnedElement>,
    /// Where it connected to.
    server: Option<SocketAddr>,
}

impl RawClient {
    /// A TCP connection to the STARTTLS port, nothing said.
    pub async fn plain(server: &Server) -> Self {
        Self::connect(server.starttls()).await
    }

    /// A TCP connection, nothing said.
    pub async fn connect(address: SocketAddr) -> Self {
        let tcp = timeout(PATIENCE, TcpStream::connect(address)).await.expect("no connection in time").unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { server: Some(address), ..Self::over(Box::new(tcp)) }
    }

    /// TLS 1.3 from the first byte, nothing said.
    pub async fn direct_tls(server: &Server) -> Self {
        let mut client = Self::connect(server.direct_tls()).await;
        client.handshake(Versions::Tls13, &[b"xmpp-client"]).await;
        client
    }

    /// STARTTLS done, no stream opened on it.
    pub async fn starttls(server: &Server) -> Self {
        let mut client = Self::plain(server).await;
        client.open("localhost").await;
        client.start_tls(Versions::Tls13).await;
        client
    }

    fn over(io: Box<dyn Io>) -> Self {
        let limits = Limits { stanza_bytes: 16 << 20, ..Limits::default() };
        Self {
            io: Some(io),
            reader: Reader::new(limits),
            input: Vec::new(),
            transcript: String::new(),
            bindings: Vec::new(),
            alpn: None,
            full: String::new(),
            account: None,
            managed: Managed::default(),
            later: VecDeque::new(),
            server: None,
        }
    }

    /// Waits until whatever clients have sent is done with everywhere, if their servers are many processes. Within one, what
    /// was sent before is done with when the next stanza is answered.
    pub async fn settled(&self) {
        if let Some(server) = self.server {
            crate::server::quiet(server).await;
        }
    }

    /// Whether its servers are many processes.
    pub(crate) fn is_clustered(&self) -> bool {
        self.server.is_some_and(crate::server::is_clustered)
    }

    /// Asks for TLS on an open stream, and does it.
    pub async fn start_tls(&mut self, versions: Versions) {
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        let proceed = self.element().await;
        assert!(proceed.as_raw().is("proceed", "urn:ietf:params:xml:ns:xmpp-tls"), "{}", self.transcript);
        assert!(self.input.is_empty(), "RFC 6120 §5.4.2.3: nothing behind <proceed/>: {}", self.transcript);
        self.handshake(versions, &[]).await;
    }

    /// Does the handshake on what is there.
    pub async fn handshake(&mut self, versions: Versions, alpn: &[&[u8]]) {
        self.try_handshake(versions, alpn).await.unwrap_or_else(|error| panic!("{error}\n{}", self.transcript));
    }

    /// The same, when it may fail; then there is no connection any more.
    ///
    /// # Errors
    /// What the handshake ended by.
    pub async fn try_handshake(&mut self, versions: Versions, alpn: &[&[u8]]) -> std::io::Result<()> {
        let io = self.io.take().unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let handshake = connector(versions, alpn).connect(name, io);
        let stream = timeout(PATIENCE, handshake).await.expect("no handshake in time")?;
        let connection = stream.get_ref().1;
        self.alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
        let certificate = &connection.peer_certificates().unwrap()[0];
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        self.bindings = vec![Binding { name: "tls-server-end-point", data: digest.as_ref().to_vec() }];
        if versions == Versions::Tls13 {
            let exported = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).unwrap();
            self.bindings.push(Binding { name: "tls-exporter", data: exported.to_vec() });
        }
        self.io = Some(Box::new(stream));
        self.transcript.push_str("\n= TLS\n");
        self.restart();
        Ok(())
    }

    /// The ALPN name that was agreed on.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// What the channel can be bound by.
    #[must_use]
    pub fn binding(&self, name: &str) -> Option<&Binding> {
        self.bindings.iter().find(|binding| binding.name == name)
    }

    /// What comes next is a new stream.
    pub fn restart(&mut self) {
        self.reader.restart();
        self.managed.restart();
    }

    /// Both directions so far.
    #[must_use]
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Sends these bytes.
    pub async fn send(&mut self, text: &str) {
        self.try_send(text.as_bytes()).await.unwrap_or_else(|error| panic!("{error}\n{}", self.transcript));
    }

    /// Sends these bytes, also when the server may have gone.
    ///
    /// # Errors
    /// When they could not be sent.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.note('>', bytes);
        self.managed.sent(bytes);
        let io = self.io.as_mut().unwrap();
        let written = async {
            io.write_all(bytes).await?;
            io.flush().await
        };
        timeout(PATIENCE, written).await.unwrap_or_else(|_| panic!("not taken in time\n{}", self.transcript))
    }

    /// Ends this side of the connection.
    pub async fn shut_down(&mut self) {
        // The other side may have gone before.
        self.io.as_mut().unwrap().shutdown().await.ok();
    }

    fn note(&mut self, direction: char, bytes: &[u8]) {
        /// A failing test is read by a person.
        const SHOWN: usize = 2000;
        let shown = String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes));
        let cut = if bytes.len() > SHOWN { format!("… ({} bytes)", bytes.len()) } else { String::new() };
        if self.transcript.len() < 100_000 {
            self.transcript.push_str(&format!("{direction} {shown}{cut}\n"));
        }
    }

    /// What comes next, in time.
    pub async fn next(&mut self) -> Received {
        let received = timeout(PATIENCE, self.receive()).await;
        received.unwrap_or_else(|_| panic!("nothing came in time\n{}", self.transcript))
    }

    /// What comes next, without a limit of time.
    pub async fn receive(&mut self) -> Received {
        loop {
            let mut rest = self.input.as_slice();
            let before = rest.len();
            let received = match self.reader.read(&mut rest) {
                Ok(Some(Frame::Open(header))) => {
                    let text = |name| header.attribute(name).map(std::borrow::Cow::into_owned);
                    assert_eq!((header.name(), header.namespace()), ("stream", STREAMS), "{}", self.transcript);
                    Some(Received::Open(Header {
                        id: text("id"),
                        from: text("from"),
                        to: text("to"),
                        version: text("version"),
                        lang: header.lang().map(std::borrow::Cow::into_owned),
                        content: header.scope().default_namespace().to_owned(),
                    }))
                }
                Ok(Some(Frame::Element(element))) => Some(Received::Element(element.to_owned())),
                Ok(Some(Frame::Close)) => Some(Received::Close),
                Ok(None) => None,
                Err(error) => panic!("the server wrote bad XML: {error}\n{}", self.transcript),
            };
            let taken = before - rest.len();
            self.input.drain(..taken);
            if let Some(received) = received {
                if let Received::Element(element) = &received {
                    self.managed.received(element, &self.transcript);
                }
                return received;
            }
            let mut buffer = vec![0; 64 * 1024];
            match self.io.as_mut().unwrap().read(&mut buffer).await {
                Ok(0) => return Received::End(None),
                Ok(read) => {
                    buffer.truncate(read);
                    self.note('<', &buffer);
                    self.input.extend_from_slice(&buffer);
                }
                Err(error) => return Received::End(Some(error.to_string())),
            }
        }
    }

    /// The next thing, which must be a header.
    pub async fn header(&mut self) -> Header {
        match self.next().await {
            Received::Open(header) => header,
            other => panic!("not a header but {other:?}\n{}", self.transcript),
        }
    }

    /// The next thing, which must be an element, and not a stream error. Once XEP-0198 is enabled, what it adds between
    /// stanzas is passed over.
    pub async fn element(&mut self) -> OwnedElement {
        if let Some(element) = self.later.pop_front() {
            return element;
        }
        loop {
            match self.next().await {
                Received::Element(element) if self.managed.is_between_stanzas(&element) => {}
                Received::Element(element) if !element.as_raw().is("error", STREAMS) => return element,
                other => panic!("not an element but {other:?}\n{}", self.transcript),
            }
        }
    }

    /// Sends, and returns the element that comes next.
    pub async fn ask(&mut self, text: &str) -> OwnedElement {
        self.send(text).await;
        self.element().await
    }

    /// Sends a header as RFC 6120 §4.2 shows it.
    pub async fn send_header(&mut self, domain: &str) {
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xml:lang='en' xmlns='jabber:client' \
             xmlns:stream='{STREAMS}'>"
        ))
        .await;
    }

    /// Opens a stream; the features.
    pub async fn open(&mut self, domain: &str) -> OwnedElement {
        self.send_header(domain).await;
        self.header().await;
        self.features().await
    }

    /// The next thing, which must be the features.
    pub async fn features(&mut self) -> OwnedElement {
        let features = self.element().await;
        assert!(features.as_raw().is("features", STREAMS), "{}", self.transcript);
        features
    }

    /// RFC 6120 §4.9: the error with this condition, the end of the stream, the end of the connection. Stanzas that are
    /// still on their way before it are passed over.
    pub async fn expect_stream_error(&mut self, condition: &str) {
        self.expect_one_of(&[condition]).await;
    }

    /// The same, where standards leave a choice.
    pub async fn expect_one_of(&mut self, conditions: &[&str]) {
        loop {
            match self.next().await {
                Received::Element(element) if element.as_raw().is("error", STREAMS) => {
                    let raw = element.as_raw();
                    let named = raw.children().find(|child| child.namespace() == STREAM_ERRORS);
                    let named = named.map(|child| child.name().to_owned()).unwrap_or_default();
                    assert!(conditions.contains(&named.as_str()), "not {conditions:?}\n{}", self.transcript);
                    break;
                }
                Received::Element(_) => {}
                other => panic!("not {conditions:?} but {other:?}\n{}", self.transcript),
            }
        }
        self.expect_close().await;
    }

    /// `</stream:stream>` and then the end of the connection, which this side then ends too.
    pub async fn expect_close(&mut self) {
        match self.next().await {
            Received::Close => {}
            other => panic!("not the stream's end but {other:?}\n{}", self.transcript),
        }
        self.expect_end().await;
    }

    /// The end of the connection, in order.
    pub async fn expect_end(&mut self) {
        match self.next().await {
            Received::End(None) => self.shut_down().await,
            other => panic!("not the connection's end but {other:?}\n{}", self.transcript),
        }
    }

    /// The end of the connection, whatever comes before it and however it ends.
    pub async fn expect_gone(&mut self) {
        while !matches!(self.next().await, Received::End(_)) {}
    }

    /// The bytes that come until the connection's end, whatever they are and however it ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.input);
        // An error is an end too.
        let read = timeout(PATIENCE, self.io.as_mut().unwrap().read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "no end in time\n{}", self.transcript);
        self.note('<', &rest);
        rest
    }

    /// Shows that nothing is on its way: what a ping of the server brings back comes first.
    pub async fn expect_nothing(&mut self) {
        self.settled().await;
        let answer = self.ask("<iq type='get' id='nothing' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").await;
        assert_eq!(answer.as_raw().attribute("id").as_deref(), Some("nothing"), "{}", self.transcript);
        // What this client has sent is done with as well.
        self.settled().await;
    }
}
