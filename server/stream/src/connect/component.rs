use starling_xml::OwnedElement;

use super::negotiate;
use super::stream::Stream;
use crate::Error;

/// Which component to be, and where (XEP-0114).
#[derive(Clone)]
pub struct ComponentOptions {
    /// The component's domain, as the server knows it.
    pub domain: String,
    /// The secret that both share.
    pub secret: String,
    /// The server.
    pub host: String,
    /// Its port for components; there is no TLS, so it belongs on a network that is safe.
    pub port: u16,
}

impl std::fmt::Debug for ComponentOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ComponentOptions")
            .field("domain", &self.domain)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// A component's stream, whose handshake is done.
#[derive(Debug)]
pub struct ComponentStream(Stream);

/// Connects as an external component.
///
/// # Errors
/// [`Error::NoAddress`], [`Error::Io`]; [`Error::Negotiation`] when the server refuses the domain or the secret.
pub async fn component(options: &ComponentOptions) -> Result<ComponentStream, Error> {
    let mut stream = Stream::connect(&options.host, options.port).await?;
    negotiate::component(&mut stream, options).await?;
    Ok(ComponentStream(stream))
}

impl ComponentStream {
    /// Sends bytes of a stream whose default namespace is `jabber:component:accept`: whole stanzas, which are not checked,
    /// with `from` an address of the component's domain.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, stanza: &str) -> Result<(), Error> {
        self.0.send(stanza.as_bytes()).await
    }

    /// The next stanza, or stream error. `None`: the server has closed its stream. May be dropped without loss.
    ///
    /// # Errors
    /// [`Error::Ended`] when the connection ended without the stream; [`Error::Io`], [`Error::Xml`].
    pub async fn next(&mut self) -> Result<Option<OwnedElement>, Error> {
        self.0.element().await
    }

    /// Closes the stream and waits until the server does, without a time limit; what comes until then is thrown away.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn close(self) -> Result<(), Error> {
        self.0.close().await
    }
}
