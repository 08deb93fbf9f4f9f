//! Redis Cluster: three primaries, each with a third of the hash slots.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Options, Redis, cli, run};
use crate::Port;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nodes do not say when they have heard of each other by gossip: they are asked so often.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// The nodes. The first three are the primaries at first; where there are replicas, the one of node `n` is node `n + 3`.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
    _buses: Vec<Port>,
}

impl Cluster {
    /// Three primaries that serve all slots, each with a replica if `replicas` says so. A second of silence, and a node
    /// counts as failed.
    pub async fn start(replicas: bool) -> Self {
        let count = if replicas { 6 } else { 3 };
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let bus = Port::free();
            let lines = [
                "cluster-enabled yes".to_owned(),
                format!("cluster-port {}", bus.number()),
                "cluster-node-timeout 1000".to_owned(),
                "cluster-replica-validity-factor 0".to_owned(),
            ];
            nodes.push(Redis::start(Options { lines: lines.into(), ..Options::default() }).await);
            buses.push(bus);
        }
        let cluster = Self { nodes, _buses: buses };
        cluster.join(replicas).await;
        cluster
    }

    async fn join(&self, replicas: bool) {
        let slots = [(0, 5460), (5461, 10922), (10923, 16383)];
        for (index, node) in self.nodes.iter().enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await;
            if let Some((first, last)) = slots.get(index) {
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            }
        }
        let first = self.node(0);
        for (node, bus) in self.nodes.iter().zip(&self._buses).skip(1) {
            let (port, bus) = (node.port().to_string(), bus.number().to_string());
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        for node in &self.nodes {
            asked(node, &["CLUSTER", "INFO"], |answer| answer.contains(&known)).await;
        }
        if replicas {
            for (primary, replica) in self.nodes.iter().zip(self.nodes.iter().skip(3)) {
                let id = primary.command(&["CLUSTER", "MYID"]).await;
                asked(replica, &["CLUSTER", "NODES"], |answer| answer.contains(&id)).await;
                replica.command(&["CLUSTER", "REPLICATE", &id]).await;
                replica.says("MASTER <-> REPLICA sync: Finished with success").await;
            }
        }
        for node in &self.nodes {
            asked(node, &["CLUSTER", "INFO"], |answer| answer.contains("cluster_state:ok")).await;
            // Whoever asks for the slots is told the replicas too once gossip has brought their roles.
            let lines = if replicas { 3 } else { 0 };
            asked(node, &["CLUSTER", "NODES"], |answer| answer.matches("slave").count() == lines).await;
        }
    }

    /// A node.
    ///
    /// # Panics
    /// If there is none of this number.
    #[must_use]
    pub fn node(&self, index: usize) -> &Redis {
        self.nodes.get(index).expect("a node of this number")
    }

    /// A node, to be ended or started again.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn node_mut(&mut self, index: usize) -> &mut Redis {
        self.nodes.get_mut(index).expect("a node of this number")
    }

    /// Hosts and ports of all nodes.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::address).collect()
    }

    /// The number, from 0 to 2, of the primary that serves a key at first.
    pub async fn primary_of(&self, key: &str) -> usize {
        Self::primary_of_slot(self.node(0).command(&["CLUSTER", "KEYSLOT", key]).await.parse().unwrap())
    }

    /// The same for a hash slot.
    #[must_use]
    pub const fn primary_of_slot(slot: u16) -> usize {
        match slot {
            ..=5460 => 0,
            5461..=10922 => 1,
            _ => 2,
        }
    }

    /// Kills a primary (-9), and waits until its replica has taken its place.
    pub async fn fail_over(&mut self, primary: usize) {
        self.node_mut(primary).kill9().await;
        self.node(primary + 3).says("Failover election won").await;
    }

    /// Moves one slot from a primary to another, with its keys.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (from, to, slot) = (self.node(from), self.node(to), slot.to_string());
        let (from_id, to_id) = (from.command(&["CLUSTER", "MYID"]).await, to.command(&["CLUSTER", "MYID"]).await);
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
        let port = to.port().to_string();
        let keys = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await;
        for key in keys.lines().filter(|key| !key.is_empty()) {
            from.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
        }
        to.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
        from.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
    }

    /// Lets a command be carried out by whichever node serves its key.
    pub async fn command(&self, arguments: &[&str]) -> String {
        let mut cli = cli(self.node(0).port());
        cli.arg("-c");
        run(cli, arguments).await
    }
}

async fn asked(node: &Redis, question: &[&str], answered: impl Fn(&str) -> bool) {
    let mut last = String::new();
    let ask = async {
        loop {
            last = node.command(question).await;
            if answered(&last) {
                break;
            }
            sleep(ASKED_EVERY).await;
        }
    };
    if timeout(PATIENCE, ask).await.is_err() {
        panic!("{question:?} is still answered by {last}");
    }
}
