//! What is under load: an XMPP server, or the relay. One connection to either looks the same to the loads.

use std::{fmt::Write as _, io, net::SocketAddr, path::Path};

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use starling_stream::connect::{ClientOptions, ClientStream, Roots, Security, client};
use starling_test_support::{Versions, connector};
use starling_xml::OwnedElement;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::Failure;

/// Where a load goes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Xmpp { address: SocketAddr, security: Security, roots: Roots, domain: String },
    Relay { address: SocketAddr, tls: bool },
}

/// A connection that messages go over.
pub(crate) enum Connection {
    Xmpp(Box<ClientStream>),
    Relay(Relayed),
}

/// What comes over a connection.
pub(crate) enum Came {
    /// A first-level element.
    Element(OwnedElement),
    /// A message that went through the relay: its id.
    Relayed(String),
}

/// A connection to the relay, and what of a message has come.
pub(crate) struct Relayed {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Accounts as `starlingd user import` reads them.
pub(crate) fn users(count: usize, domain: &str) -> String {
    let mut users = String::new();
    for number in 0..count {
        writeln!(users, "user{number}@{domain} password{number}").unwrap_or_default();
    }
    users
}

impl Target {
    pub(crate) fn xmpp(
        address: SocketAddr,
        security: Security,
        certificate: Option<&Path>,
        domain: &str,
    ) -> Result<Self, Failure> {
        if !address.ip().is_loopback() {
            return Err("load goes to loopback alone".into());
        }
        let roots = match certificate {
            Some(path) => {
                let der = CertificateDer::from_pem_file(path)?;
                let fingerprint = digest::digest(&digest::SHA256, &der);
                Roots::Pinned(fingerprint.as_ref().try_into()?)
            }
            None if security == Security::None => Roots::Native,
            None => return Err("TLS needs --certificate".into()),
        };
        Ok(Self::Xmpp { address, security, roots, domain: domain.to_owned() })
    }

    /// A user's address.
    pub(crate) fn bare_jid(&self, user: usize) -> String {
        match self {
            Self::Xmpp { domain, .. } => format!("user{user}@{domain}"),
            Self::Relay { .. } => format!("user{user}@localhost"),
        }
    }

    /// Logs a user in. At the relay, bytes go to `peer`, who connects as well.
    pub(crate) async fn connect(&self, user: usize, resource: &str, peer: usize) -> Result<Connection, Failure> {
        match self {
            Self::Xmpp { address, security, roots, .. } => {
                let full = format!("{}/{resource}", self.bare_jid(user));
                let mut options = ClientOptions::new(full.parse()?, format!("password{user}"));
                options.host = Some(address.ip().to_string());
                options.port = Some(address.port());
                options.security = *security;
                options.roots = roots.clone();
                Ok(Connection::Xmpp(Box::new(client(&options).await?)))
            }
            Self::Relay { address, tls } => {
                let mut stream = relay_stream(*address, *tls).await?;
                let mut hello = [0; 8];
                let (own, other) = hello.split_at_mut(4);
                own.copy_from_slice(&u32::try_from(user)?.to_be_bytes());
                other.copy_from_slice(&u32::try_from(peer)?.to_be_bytes());
                stream.write_all(&hello).await?;
                stream.flush().await?;
                Ok(Connection::Relay(Relayed { stream, buffer: Vec::new() }))
            }
        }
    }
}

async fn relay_stream(address: SocketAddr, tls: bool) -> Result<Box<dyn Stream>, Failure> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    if !tls {
        return Ok(Box::new(tcp));
    }
    // The relay makes its certificate anew for each run, on this machine.
    let connector = connector(Versions::Tls13, &[]);
    Ok(Box::new(connector.connect(ServerName::try_from("localhost")?, tcp).await?))
}

impl Connection {
    pub(crate) async fn send(&mut self, stanza: &str) -> Result<(), Failure> {
        match self {
            Self::Xmpp(stream) => stream.send(stanza).await?,
            Self::Relay(relayed) => {
                relayed.stream.write_all(stanza.as_bytes()).await?;
                relayed.stream.flush().await?;
            }
        }
        Ok(())
    }

    /// What comes next. May be dropped without loss.
    pub(crate) async fn next(&mut self) -> Result<Came, Failure> {
        match self {
            Self::Xmpp(stream) => Ok(Came::Element(stream.next().await?.ok_or("the server ended the stream")?)),
            Self::Relay(relayed) => Ok(Came::Relayed(relayed.message().await?)),
        }
    }

    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self {
            Self::Xmpp(stream) => stream.close().await?,
            Self::Relay(mut relayed) => relayed.stream.shutdown().await?,
        }
        Ok(())
    }
}

impl Relayed {
    async fn message(&mut self) -> Result<String, Failure> {
        const END: &[u8] = b"</message>";
        loop {
            if let Some(end) = self.buffer.windows(END.len()).position(|window| window == END) {
                let message: Vec<u8> = self.buffer.drain(..end + END.len()).collect();
                let text = std::str::from_utf8(&message)?;
                let id = text.split_once("id='").and_then(|(_, rest)| rest.split_once('\'')).map(|(id, _)| id);
                return Ok(id.ok_or("no id")?.to_owned());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

/// Bytes that go to and fro as in a log-in, at the relay's echo.
pub(crate) async fn relay_log_in(address: SocketAddr, tls: bool) -> Result<(), Failure> {
    const TURNS: usize = 5;
    const BYTES: usize = 300;
    let mut stream = relay_stream(address, tls).await?;
    let mut bytes = [b'x'; BYTES];
    // Nobody's peer: the relay echoes.
    stream.write_all(&[0xff; 8]).await?;
    for _ in 0..TURNS {
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        stream.read_exact(&mut bytes).await?;
    }
    stream.shutdown().await?;
    Ok(())
}
