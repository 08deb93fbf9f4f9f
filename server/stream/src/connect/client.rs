use starling_xml::OwnedElement;
use starling_xmpp::jid::{FullJid, Jid};
use starling_xmpp::negotiate::TlsInfo;

use super::Roots;
use super::negotiate::{self, Established};
use super::stream::Stream;
use crate::Error;

/// How a client's connection is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Security {
    /// From its first byte (XEP-0368).
    Direct,
    /// By STARTTLS, without which there is no log-in (RFC 6120 §5.3.1).
    #[default]
    StartTls,
    /// Not at all, even where the server offers it: the password may be read by anybody between. For tests, and for
    /// connections that are safe by other means.
    None,
}

/// Whom to log in as, and where.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The account; with a resource, that is asked for (RFC 6120 §7.7), else the server makes one up.
    pub jid: Jid,
    /// Its password, sent only by PLAIN, and that only under TLS.
    pub password: String,
    /// Where to connect to. `None`: the JID's domain. There is no look-up of SRV records.
    pub host: Option<String>,
    /// `None`: 5222, or 5223 for direct TLS.
    pub port: Option<u16>,
    /// How the connection is encrypted.
    pub security: Security,
    /// Which certificates are believed; they must be for the JID's domain, whatever the host.
    pub roots: Roots,
}

impl ClientOptions {
    /// STARTTLS to the JID's own domain, with the system's authorities.
    #[must_use]
    pub fn new(jid: Jid, password: String) -> Self {
        Self { jid, password, host: None, port: None, security: Security::default(), roots: Roots::default() }
    }
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions")
            .field("jid", &self.jid)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("security", &self.security)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

/// A client's stream, logged in and bound.
#[derive(Debug)]
pub struct ClientStream {
    stream: Stream,
    jid: FullJid,
    tls: Option<TlsInfo>,
}

/// Logs in: connection, TLS, the strongest SASL mechanism that both know, resource. Presence is not sent.
///
/// # Errors
/// [`Error::NoAddress`], [`Error::Io`]; [`Error::Tls`] when the certificate is not believed; [`Error::Negotiation`] when the
/// server refuses, or offers less than is asked for.
pub async fn client(options: &ClientOptions) -> Result<ClientStream, Error> {
    let domain = options.jid.domain().as_str();
    let port = options.port.unwrap_or(if options.security == Security::Direct { 5223 } else { 5222 });
    let mut stream = Stream::connect(options.host.as_deref().unwrap_or(domain), port).await?;
    let tls = match options.security {
        Security::Direct => Some(stream.start_tls(domain, &options.roots, true).await?),
        Security::StartTls | Security::None => None,
    };
    let Established { jid, tls } = negotiate::client(&mut stream, options, tls).await?;
    Ok(ClientStream { stream, jid, tls })
}

impl ClientStream {
    /// The address that was bound.
    #[must_use]
    pub const fn jid(&self) -> &FullJid {
        &self.jid
    }

    /// What the TLS handshake agreed on. `None`: no TLS.
    #[must_use]
    pub const fn tls_info(&self) -> Option<&TlsInfo> {
        self.tls.as_ref()
    }

    /// Sends bytes of a stream whose default namespace is `jabber:client`: whole stanzas, which are not checked.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, stanza: &str) -> Result<(), Error> {
        self.stream.send(stanza.as_bytes()).await
    }

    /// The next stanza, or stream error. `None`: the server has closed its stream. May be dropped without loss.
    ///
    /// # Errors
    /// [`Error::Ended`] when the connection ended without the stream; [`Error::Io`], [`Error::Xml`].
    pub async fn next(&mut self) -> Result<Option<OwnedElement>, Error> {
        self.stream.element().await
    }

    /// Closes the stream and waits until the server does (RFC 6120 §4.4), without a time limit; what comes until then is
    /// thrown away.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn close(self) -> Result<(), Error> {
        self.stream.close().await
    }
}
