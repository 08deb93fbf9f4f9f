//! Connections to routers: found, made, and made again when they are lost.
//!
//! ```text
//!   Discovery ── addresses ──► one task for each: connect ── TLS ── Attach ──► Attached ──► driver
//!                                    ▲                                             │ lost
//!                                    └───────── back-off ◄─────────────────────────┘
//! ```

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use starling_mtls::MutualTls;
use starling_proto::link::{Down, Hello, MESSAGE_BYTES, Up, down, router_client::RouterClient, up};
use starling_registry::InstanceId;
use tokio::{
    net::TcpStream,
    select,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{
    sync::{CancellationToken, PollSender},
    task::TaskTracker,
};
use tonic::{Streaming, transport::Endpoint};
use tracing::{debug, info, warn};

use crate::discover::{AGAIN, Discovery};

/// From the first packet to the router's welcome.
const WITHIN: Duration = Duration::from_secs(5);
/// A router that does not answer a ping in time is gone.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_WITHIN: Duration = Duration::from_secs(2);
/// HTTP/2 windows; the link's own credits bound what is on its way long before.
const WINDOW: u32 = 16 << 20;
/// Frames that wait to be written to a router; more wait with the driver, and are larger then.
const FRAMES: usize = 2;
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LAST_BACK_OFF: Duration = Duration::from_secs(2);

/// A router that has let this instance in.
pub(crate) struct Attached {
    /// The router's own number.
    pub(crate) router: u64,
    pub(crate) incoming: Streaming<Down>,
    pub(crate) outgoing: PollSender<Up>,
    /// Dropped by the driver when it is through with the connection: then another is made.
    pub(crate) lost: CancellationToken,
}

/// What is needed to attach.
pub(crate) struct Attacher {
    pub(crate) instance: InstanceId,
    pub(crate) hello: Hello,
    pub(crate) tls: Arc<MutualTls>,
    pub(crate) router_name: String,
    pub(crate) attached: mpsc::Sender<Attached>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Attacher {
    /// Keeps a connection to every router that is found, until the stop.
    pub(crate) async fn run(self: Arc<Self>, mut discovery: Discovery) {
        let mut kept: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
        loop {
            let found = select! {
                biased;
                () = self.stop.cancelled() => return,
                found = discovery.look_up() => found.clone(),
            };
            kept.retain(|address, stop| {
                let stays = found.contains(address);
                if !stays {
                    info!(%address, "Router not found under its name any more");
                    stop.cancel();
                }
                stays
            });
            for address in found {
                kept.entry(address).or_insert_with(|| {
                    let stop = self.stop.child_token();
                    self.tasks.spawn(Arc::clone(&self).keep(address, stop.clone()));
                    stop
                });
            }
            if !discovery.may_change() {
                return;
            }
            select! {
                biased;
                () = self.stop.cancelled() => return,
                () = sleep(AGAIN) => {}
            }
        }
    }

    async fn keep(self: Arc<Self>, address: SocketAddr, stop: CancellationToken) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let attempt = select! {
                biased;
                () = stop.cancelled() => return,
                attempt = timeout(WITHIN, self.attach(address)) => attempt,
            };
            let failed = match attempt {
                Ok(Ok(attached)) => {
                    back_off = FIRST_BACK_OFF;
                    info!(%address, router = format_args!("{:016x}", attached.router), "Attached to a router");
                    let lost = attached.lost.clone();
                    if self.attached.send(attached).await.is_err() {
                        return;
                    }
                    select! {
                        biased;
                        // The driver ends the connection in its own order.
                        () = stop.cancelled() => return,
                        () = lost.cancelled() => {}
                    }
                    warn!(%address, "Router lost");
                    continue;
                }
                Ok(Err(error)) => error,
                Err(_) => "no answer in time".into(),
            };
            debug!(%address, error = %failed, "Not attached to a router; tried again");
            select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(self.jitter(back_off)) => {}
            }
            back_off = (2 * back_off).min(LAST_BACK_OFF);
        }
    }

    /// Instances that lost a router together do not come back together.
    fn jitter(&self, back_off: Duration) -> Duration {
        back_off.mul_f64(0.5 + (self.instance.0 % 1024) as f64 / 1024.0)
    }

    async fn attach(&self, address: SocketAddr) -> Result<Attached, Box<dyn std::error::Error + Send + Sync>> {
        let name = ServerName::try_from(self.router_name.clone())?;
        let connector = self.tls.connector();
        let connect = tower::service_fn(move |_| {
            let (connector, name) = (connector.clone(), name.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                connector.connect(name, tcp).await.map(TokioIo::new)
            }
        });
        // The address is only a form: the connector knows the way.
        let channel = Endpoint::from_static("https://router.starling.internal")
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_with_connector(connect)
            .await?;
        let mut client = RouterClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let (outgoing, frames) = mpsc::channel(FRAMES);
        outgoing.send(Up { what: Some(up::What::Hello(self.hello.clone())) }).await?;
        let mut incoming = client.attach(ReceiverStream::new(frames)).await?.into_inner();
        match incoming.message().await? {
            Some(Down { what: Some(down::What::Welcome(welcome)) }) => Ok(Attached {
                router: welcome.router,
                incoming,
                outgoing: PollSender::new(outgoing),
                lost: CancellationToken::new(),
            }),
            _ => Err("no welcome".into()),
        }
    }
}
