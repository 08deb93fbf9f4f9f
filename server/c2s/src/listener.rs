//! Accepting connections.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use starling_stream::{Transport, read_proxy_header};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    limits::{Bucket, Refusal},
    log_in::{Origin, PROXY_HEADER_TIME, refuse, serve},
    server::Shared,
};

/// Connections that wait in the kernel while the accept rate holds them.
const BACKLOG: i32 = 1024;
/// Connections that are being told at one time that they are turned away. Beyond it they are just closed: an attacker
/// must not win by being refused.
pub(crate) const REFUSED_AT_ONCE: usize = 256;
/// A wait for what no event announces: file descriptors or memory of the system.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Streams that begin in the clear and may turn to TLS.
    StartTls,
    /// TLS from the first byte.
    DirectTls,
}

impl Role {
    /// As in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartTls => "c2s-starttls",
            Self::DirectTls => "c2s-direct-tls",
        }
    }
}

/// A bound address.
pub(crate) struct Listener {
    pub(crate) role: Role,
    pub(crate) address: SocketAddr,
    pub(crate) socket: TcpListener,
}

impl Listener {
    pub(crate) fn bind(role: Role, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            // Each address family has its own listener: `[::]` and `0.0.0.0` may both be asked for.
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        Ok(Self { role, address: socket.local_addr()?, socket })
    }

    /// Accepts until the server stops.
    pub(crate) async fn run(self, shared: Arc<Shared>) {
        let mut held_to = None;
        let mut rate = None;
        loop {
            let accepted = select! {
                biased;
                () = shared.stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    shared.metrics.accepted.inc();
                    shared.metrics.connections.inc();
                    shared.tasks.spawn(Box::pin(take(Arc::clone(&shared), self.role, tcp, peer)));
                }
                Err(error) => {
                    warn!(role = self.role.as_str(), %error, "No connection accepted.");
                    shared.metrics.accept_errors.inc();
                    sleep(AFTER_ACCEPT_ERROR).await;
                }
            }
            let wanted = shared.rules.load().limits.accept_rate;
            if wanted != held_to {
                rate = wanted.map(|(rate, burst)| Bucket::new(rate, burst, Instant::now()));
                held_to = wanted;
            }
            let wait = rate.as_mut().map_or(Duration::ZERO, |rate: &mut Bucket| rate.take(1.0, Instant::now()));
            if !wait.is_zero() {
                select! {
                    biased;
                    () = shared.stop.cancelled() => break,
                    () = sleep(wait) => {}
                }
            }
        }
    }
}

async fn take(shared: Arc<Shared>, role: Role, mut tcp: TcpStream, peer: SocketAddr) {
    let accepted = Instant::now();
    let prepared = async {
        prepare(&tcp)?;
        if !shared.rules.load().trusted_proxies.contains(peer.ip()) {
            return Ok(peer);
        }
        let header = timeout(PROXY_HEADER_TIME, read_proxy_header(&mut tcp)).await;
        let header = header.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        match header {
            Ok(client) => Ok(client.unwrap_or(peer)),
            Err(error) => {
                shared.metrics.proxy_errors.inc();
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    };
    let client = match prepared.await {
        Ok(client) => client,
        Err(error) => {
            debug!(%peer, %error, "Connection not usable.");
            shared.metrics.connections.dec();
            return;
        }
    };
    let transport = Transport::plain(tcp);
    let direct_tls = role == Role::DirectTls;
    match shared.gate.admit(client.ip(), accepted) {
        Ok(permit) => {
            let origin = Origin { address: client.ip(), direct_tls, accepted };
            serve(shared, transport, origin, permit).await;
        }
        Err(refusal) => {
            turn_away(&shared, transport, direct_tls, refusal).await;
            shared.metrics.connections.dec();
        }
    }
}

async fn turn_away(shared: &Arc<Shared>, transport: Transport, direct_tls: bool, refusal: Refusal) {
    shared.metrics.refused(refusal);
    let slots: &Semaphore = &shared.refusals;
    if let Ok(_slot) = slots.try_acquire() {
        refuse(Arc::clone(shared), transport, direct_tls, refusal).await;
    }
}

/// A dead client is found by the kernel's keep-alive: within five minutes, without a timer of ours per connection.
fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keep_alive =
        TcpKeepalive::new().with_time(Duration::from_secs(180)).with_interval(Duration::from_secs(30)).with_retries(4);
    SockRef::from(tcp).set_tcp_keepalive(&keep_alive)
}
