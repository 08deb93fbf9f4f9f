//! Where pods are: a bridge, and for each pod a network of its own with one address.
//!
//! ```text
//!   10.244.0.1 ── pods (bridge) ─┬─ pod-2 ═ eth0 10.244.0.2    a network namespace, held by a file
//!   Redis, PostgreSQL, names     └─ pod-3 ═ eth0 10.244.0.3
//! ```

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
};

use crate::isolated::run;

/// Where pods find what runs beside them.
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

const MAC: &str = "02:00:00:00:00:01";

/// The bridge.
#[derive(Debug)]
pub(super) struct Network {
    next: AtomicU16,
}

impl Network {
    pub(super) fn new() -> Self {
        // With an address of its own: else it takes one of its pods', and all others lose sight of it when that one goes.
        run(&format!(
            "ip link add pods address {MAC} type bridge; ip addr add {NODE}/16 dev pods; ip link set pods up"
        ));
        Self { next: AtomicU16::new(2) }
    }

    /// A pod's network. `file` holds it.
    pub(super) fn pod(&self, file: PathBuf) -> PodNetwork {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(10, 244, high, low);
        let (name, path) = (format!("pod-{number}"), file.display());
        run(&format!(
            "touch {path}; unshare --net={path} true
             ip link add {name} type veth peer name eth0 netns {path}
             ip link set {name} master pods up
             nsenter --net={path} sh -euc 'ip addr add {address}/16 dev eth0; ip link set eth0 up; ip link set lo up; \
             ip route add default via {NODE}'"
        ));
        PodNetwork { address, name, file }
    }
}

/// A pod's. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct PodNetwork {
    pub(super) address: Ipv4Addr,
    name: String,
    file: PathBuf,
}

impl PodNetwork {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        run(&format!("ip link del {}; umount {}", self.name, self.file.display()));
    }
}
