//! The listeners: connections come in, show their certificates, and are handed to tonic.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use starling_mtls::MutualTls;
use starling_proto::link::{MESSAGE_BYTES, router_server::RouterServer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    select,
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::{Metrics, service::Service};

/// For a stranger to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Strangers who are at it at one time; more wait in the kernel.
const HANDSHAKES: usize = 64;
/// An instance that does not answer a ping in time is gone.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_WITHIN: Duration = Duration::from_secs(2);
/// HTTP/2 windows: what may be on its way on a connection. The link's own credits bound it long before.
const WINDOW: u32 = 16 << 20;
/// A wait for what no event announces: file descriptors or memory of the system.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// Why a router cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The address is in use, not ours, or may not be used by this user.
    #[error("cannot listen on {address} (router): {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A router whose addresses are bound.
pub struct Router {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    tls: Arc<MutualTls>,
    id: u64,
    metrics: Metrics,
}

impl Router {
    /// Binds all addresses, and accepts nothing before [`Router::run`]. `id`: this run of the router.
    ///
    /// # Errors
    /// If an address cannot be bound.
    pub async fn bind(
        addresses: &[SocketAddr],
        tls: Arc<MutualTls>,
        id: u64,
        metrics: Metrics,
    ) -> Result<Self, RouterError> {
        let (mut listeners, mut bound) = (Vec::new(), Vec::new());
        for address in addresses {
            let failed = |source| RouterError::Bind { address: *address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            bound.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        Ok(Self { listeners, addresses: bound, tls, id, metrics })
    }

    /// Where it listens, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `stop`: then all streams end, and instances take other paths. All of it are tasks of `tasks`.
    pub fn run(self, tasks: &TaskTracker, stop: &CancellationToken) {
        let (connections, incoming) = mpsc::channel::<io::Result<Connection>>(HANDSHAKES);
        for listener in self.listeners {
            let (tls, connections) = (Arc::clone(&self.tls), connections.clone());
            tasks.spawn(accept(listener, tls, connections, tasks.clone(), stop.clone()));
        }
        let service = Service::new(self.id, self.metrics, tasks.clone(), stop.clone());
        let service = RouterServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let stop = stop.clone();
        tasks.spawn(async move {
            let server = tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(PING_EVERY))
                .http2_keepalive_timeout(Some(PING_WITHIN))
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .add_service(service)
                .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.cancelled_owned());
            if let Err(error) = server.await {
                warn!(%error, "Router failed");
            }
        });
    }
}

async fn accept(
    listener: TcpListener,
    tls: Arc<MutualTls>,
    connections: mpsc::Sender<io::Result<Connection>>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = select! {
            biased;
            () = stop.cancelled() => return,
            accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (listener.accept().await, slot)
            } => accepted,
        };
        let (tcp, peer, slot) = match accepted {
            (Ok((tcp, peer)), Ok(slot)) => (tcp, peer, slot),
            (Err(error), _) => {
                warn!(%error, "No connection of an instance accepted");
                sleep(AFTER_ACCEPT_ERROR).await;
                continue;
            }
            (_, Err(_closed)) => return,
        };
        let (acceptor, connections, stop) = (tls.acceptor(), connections.clone(), stop.clone());
        tasks.spawn(async move {
            tcp.set_nodelay(true).ok();
            let handshake = select! {
                biased;
                () = stop.cancelled() => return,
                handshake = timeout(HANDSHAKE, acceptor.accept(tcp)) => handshake,
            };
            drop(slot);
            match handshake {
                Ok(Ok(stream)) => drop(connections.send(Ok(Connection(stream))).await),
                Ok(Err(error)) => debug!(%peer, %error, "Stranger turned away"),
                Err(_) => debug!(%peer, "Stranger took too long to show a certificate"),
            }
        });
    }
}

/// A connection whose other end has shown a certificate of ours.
struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
