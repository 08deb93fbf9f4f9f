//! When a cluster is quiet: what one client's stanza set off is done everywhere. Within one process that is so when the next
//! stanza is answered; between processes it shows in what they count.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::process::value;

/// What goes to an instance that has died is never taken: if nothing changes for so long, it is quiet.
const STILL: Duration = Duration::from_millis(500);

type Clusters = Mutex<HashMap<SocketAddr, Arc<[SocketAddr]>>>;

/// Where clients connect → where all instances of that cluster show what they count.
static CLUSTERS: LazyLock<Clusters> = LazyLock::new(Clusters::default);

/// Instances of one cluster: where clients connect, and where it is shown what they count. From then on, whoever connects there
/// knows when the cluster is quiet.
pub fn clustered(clients: impl Iterator<Item = SocketAddr>, http: &Arc<[SocketAddr]>) {
    CLUSTERS.lock().unwrap().extend(clients.map(|address| (address, Arc::clone(http))));
}

/// Whether it is one of a cluster.
pub(crate) fn is_clustered(address: SocketAddr) -> bool {
    CLUSTERS.lock().unwrap().contains_key(&address)
}

/// Waits until the cluster that has this address is quiet. One process always is.
pub(crate) async fn quiet(address: SocketAddr) {
    let Some(http) = CLUSTERS.lock().unwrap().get(&address).cloned() else { return };
    let (mut before, mut since) = (None, Instant::now());
    loop {
        let counted = count(&http).await;
        if before.as_ref() == Some(&counted) {
            if counted.is_done() || since.elapsed() > STILL {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            (before, since) = (Some(counted), Instant::now());
        }
    }
}

/// Over all instances.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    sent: f64,
    taken: f64,
    later: f64,
}

impl Counted {
    fn is_done(&self) -> bool {
        self.sent == self.taken && self.later == 0.0
    }
}

async fn count(http: &[SocketAddr]) -> Counted {
    let mut all = Counted::default();
    for address in http {
        // One that was killed counts nothing.
        let Ok(text) = scrape(*address).await else { continue };
        let of = |name| value(&text, name).unwrap_or_default();
        all.sent += of("starling_link_sent_total") - of("starling_link_failed_total");
        all.taken += of("starling_link_taken_total");
        all.later += of("starling_session_later");
    }
    all
}

async fn scrape(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}
