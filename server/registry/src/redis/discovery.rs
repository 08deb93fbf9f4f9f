//! Finds the servers that can be written to: asks sentinels for the primary, or nodes of a cluster for its slots.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use redis::{Cmd, Value, aio::MultiplexedConnection, cmd};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    RedisConfig, RedisMode,
    connect::{Address, Peer},
    link::Ground,
    topology::{Layout, Topology},
};

/// Why nobody was found.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotFound(String);

/// See the module.
#[derive(Debug)]
pub(super) struct Discovery {
    mode: RedisMode,
    primary: String,
    servers: Vec<Address>,
    /// Which of several servers is tried next.
    turn: AtomicUsize,
    ground: Arc<Ground>,
    topology: ArcSwap<Topology>,
    /// Counts the times that the servers were looked for, found or not.
    looked: watch::Sender<u64>,
}

impl Discovery {
    pub(super) fn new(config: &RedisConfig, ground: Arc<Ground>) -> Self {
        let servers = config.servers.iter().filter_map(|server| {
            let address = Address::parse(server);
            if address.is_none() {
                tracing::error!(server, "Not a Redis server's host and port");
            }
            address
        });
        Self {
            mode: config.mode,
            primary: config.primary.clone(),
            servers: servers.collect(),
            turn: AtomicUsize::new(0),
            ground,
            topology: ArcSwap::from_pointee(Topology::default()),
            looked: watch::Sender::new(0),
        }
    }

    /// Who serves what, as far as is known.
    pub(super) fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// The same for a moment: does not wait, and counts nothing.
    pub(super) fn peek(&self) -> arc_swap::Guard<Arc<Topology>> {
        self.topology.load()
    }

    /// Looks for the servers again, and waits until that was done; no longer than `patience`.
    pub(super) async fn look_again(&self, patience: Duration) {
        let mut looked = self.looked.subscribe();
        self.ground.signals.discover.notify_one();
        // Late or ended: the caller tries with what there is.
        drop(timeout(patience, looked.changed()).await);
    }

    /// Looks for the servers until `stop`, whenever there is a sign that they have moved, and now and then without one.
    pub(super) async fn run(self: Arc<Self>, tasks: TaskTracker, stop: CancellationToken) {
        let mut layout = Layout::default();
        let mut failures = 0_u32;
        loop {
            let Some(found) = stop.run_until_cancelled(self.look()).await else {
                return;
            };
            match found {
                Ok(found) if found == layout => failures = 0,
                Ok(found) => {
                    let servers: Vec<_> = found.nodes.iter().map(ToString::to_string).collect();
                    tracing::info!(?servers, "Redis found");
                    let first = layout.nodes.is_empty();
                    let next = self.topology.load().follow(&found, &self.ground, &tasks, &stop);
                    self.topology.store(Arc::new(next));
                    (layout, failures) = (found, 0);
                    if !first {
                        // Of what is served elsewhere now, nobody tells of changes that were made before it was read there.
                        self.ground.cache.flush();
                        self.ground.metrics.cache_flushes.inc();
                        self.ground.signals.announce_all();
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!(%error, "Redis not found");
                    }
                }
            }
            self.looked.send_modify(|count| *count += 1);
            let times = &self.ground.times;
            let patience = if failures > 0 { times.retry_at_most } else { times.discover };
            // A sign, or the time for it; not more often than connections are tried, however many signs there are.
            let wait = async {
                sleep(times.retry).await;
                timeout(patience, self.ground.signals.discover.notified()).await
            };
            if stop.run_until_cancelled(wait).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self) -> Result<Layout, NotFound> {
        match self.mode {
            RedisMode::Standalone => self.next_server(),
            RedisMode::Sentinel => self.ask_sentinels().await,
            RedisMode::Cluster => self.ask_nodes().await,
        }
    }

    /// The server that there is; of several, the next one once the last does not take what is written.
    fn next_server(&self) -> Result<Layout, NotFound> {
        if let Some(node) = self.topology.load().nodes.first().filter(|node| !node.link.has_failed()) {
            return Ok(Layout { nodes: vec![node.address.clone()], ranges: Vec::new() });
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let server = self.servers.get(turn % self.servers.len().max(1));
        let server = server.ok_or_else(|| NotFound("no server is named".to_owned()))?;
        Ok(Layout { nodes: vec![server.clone()], ranges: Vec::new() })
    }

    async fn ask_sentinels(&self) -> Result<Layout, NotFound> {
        let mut last = "no sentinel is named".to_owned();
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.primary);
        for sentinel in &self.servers {
            let answer = match self.ground.connector.open(sentinel, Peer::Sentinel, None).await {
                Ok((mut connection, _)) => ask(&mut connection, &question).await,
                Err(error) => Err(error.to_string()),
            };
            match answer {
                Ok(Value::Array(parts)) => {
                    if let [host, port] = &*parts
                        && let Some(address) = place(host, port, sentinel)
                    {
                        return Ok(Layout { nodes: vec![address], ranges: Vec::new() });
                    }
                    last = format!("{sentinel} answers what is no address");
                }
                Ok(_) => last = format!("{sentinel} knows no primary of this name"),
                Err(error) => last = format!("{sentinel}: {error}"),
            }
        }
        Err(NotFound(last))
    }

    async fn ask_nodes(&self) -> Result<Layout, NotFound> {
        let mut last = "no node is named".to_owned();
        let mut question = cmd("CLUSTER");
        question.arg("SLOTS");
        let topology = self.topology();
        for node in &topology.nodes {
            let Some(live) = node.link.live() else { continue };
            match ask(&mut live.connection.clone(), &question).await.and_then(|answer| layout(&answer, &node.address)) {
                Ok(layout) => return Ok(layout),
                Err(error) => last = format!("{}: {error}", node.address),
            }
        }
        let known = topology.nodes.iter().map(|node| &node.address);
        for address in known.chain(&self.servers) {
            let answer = match self.ground.connector.open(address, Peer::Server, None).await {
                Ok((mut connection, _)) => ask(&mut connection, &question).await,
                Err(error) => Err(error.to_string()),
            };
            match answer.and_then(|answer| layout(&answer, address)) {
                Ok(layout) => return Ok(layout),
                Err(error) => last = format!("{address}: {error}"),
            }
        }
        Err(NotFound(last))
    }
}

async fn ask(connection: &mut MultiplexedConnection, question: &Cmd) -> Result<Value, String> {
    match connection.send_packed_command(question).await {
        Ok(Value::ServerError(error)) => Err(error.to_string()),
        Ok(answer) => Ok(answer),
        Err(error) => Err(error.to_string()),
    }
}

/// An address in an answer. A node that does not know its own is where it was asked.
fn place(host: &Value, port: &Value, asked: &Address) -> Option<Address> {
    let host = match host {
        Value::BulkString(host) if !host.is_empty() => str::from_utf8(host).ok()?.into(),
        Value::SimpleString(host) if !host.is_empty() => host.as_str().into(),
        Value::Nil | Value::BulkString(_) => Arc::clone(&asked.host),
        _ => return None,
    };
    let port = match port {
        Value::Int(port) => u16::try_from(*port).ok()?,
        Value::BulkString(port) => str::from_utf8(port).ok()?.parse().ok()?,
        _ => return None,
    };
    Some(Address { host, port })
}

/// The answer to `CLUSTER SLOTS`: of each range its first and last slot, its primary, then its replicas.
fn layout(answer: &Value, asked: &Address) -> Result<Layout, String> {
    let unclear = || "does not say who serves which slots".to_owned();
    let Value::Array(ranges) = answer else {
        return Err(unclear());
    };
    let mut layout = Layout::default();
    for range in ranges {
        let Value::Array(parts) = range else {
            return Err(unclear());
        };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &**parts else {
            return Err(unclear());
        };
        let [host, port, ..] = &**primary else {
            return Err(unclear());
        };
        let address = place(host, port, asked).ok_or_else(unclear)?;
        let (first, last) =
            (u16::try_from(*first).map_err(|_| unclear())?, u16::try_from(*last).map_err(|_| unclear())?);
        let node = layout.nodes.iter().position(|node| *node == address).unwrap_or_else(|| {
            layout.nodes.push(address);
            layout.nodes.len() - 1
        });
        layout.ranges.push((first, last, node));
    }
    if layout.ranges.is_empty() {
        return Err("serves no slots".to_owned());
    }
    // In an order of its own, so that the same answer of another node is the same.
    layout.ranges.sort_unstable();
    let mut sorted = layout.nodes.clone();
    sorted.sort_by_key(ToString::to_string);
    for (_, _, node) in &mut layout.ranges {
        let address = layout.nodes.get(*node);
        *node = sorted.iter().position(|sorted| Some(sorted) == address).unwrap_or(*node);
    }
    layout.nodes = sorted;
    Ok(layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), bulk("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node.clone(), node])
    }

    #[test]
    fn slots_are_read_as_they_are_told_by_whichever_node() {
        let asked = Address::parse("seed:7000").unwrap();
        let one = Value::Array(vec![
            range(0, 99, bulk("b"), 1),
            range(100, 199, Value::Nil, 7000),
            range(200, 16383, bulk("b"), 1),
        ]);
        let other = Value::Array(vec![
            range(200, 16383, bulk("b"), 1),
            range(100, 199, bulk(""), 7000),
            range(0, 99, bulk("b"), 1),
        ]);
        let read = layout(&one, &asked).unwrap();
        assert_eq!(read.nodes, [Address::parse("b:1").unwrap(), asked.clone()]);
        assert_eq!(read.ranges, [(0, 99, 0), (100, 199, 1), (200, 16383, 0)]);
        assert_eq!(layout(&other, &asked).unwrap(), read);
    }

    #[test]
    fn what_says_nothing_of_slots_is_refused() {
        let asked = Address::parse("seed:7000").unwrap();
        let negative = range(-1, 5, bulk("a"), 1);
        let port = range(0, 5, bulk("a"), 70_000);
        for answer in [Value::Nil, Value::Array(vec![]), Value::Array(vec![negative]), Value::Array(vec![port])] {
            assert!(layout(&answer, &asked).is_err(), "{answer:?}");
        }
    }
}
