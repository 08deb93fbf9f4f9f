//! What a cluster consists of, and where it listens.

use std::{net::SocketAddr, path::PathBuf};

use starling_backends::Port;

use crate::RedisMode;

/// What a cluster is started with. [`Layout::default`]: for tests, with free ports and in a temporary folder.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Routers.
    pub routers: usize,
    /// Instances: processes with client connections and sessions.
    pub instances: usize,
    /// How Redis is run.
    pub redis: RedisMode,
    /// Whether Redis knows after a restart what it knew before.
    pub redis_remembers: bool,
    /// Whether what the database commits survives the machine's power. What it survives otherwise is its end.
    pub fsync: bool,
    /// Where everything is. `None`: in a temporary folder, removed with the cluster.
    pub folder: Option<PathBuf>,
    /// Where it listens.
    pub ports: Ports,
    /// Settings of the instances besides those of `tests/open.toml`: path (keys joined by points) and value (TOML).
    pub settings: Vec<(String, String)>,
    /// The same for routers.
    pub router_settings: Vec<(String, String)>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            routers: 2,
            instances: 3,
            redis: RedisMode::Standalone,
            redis_remembers: false,
            fsync: false,
            folder: None,
            ports: Ports::Free,
            settings: Vec::new(),
            router_settings: Vec::new(),
        }
    }
}

/// Where a cluster listens, on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// On ports that are free, and stay the processes' when they are started again.
    Free,
    /// Always on the same: 15222 and further, see [`Layout::fixed_ports`].
    Fixed,
}

impl Ports {
    /// STARTTLS, direct TLS and HTTP of an instance: 15222, 15223, 15280; 16222, … for the next.
    pub(crate) fn instance(self, number: usize, kept: &mut Vec<Port>) -> [SocketAddr; 3] {
        [222, 223, 280].map(|port| self.one(15_000 + number * 1000 + port, kept))
    }

    /// Link and HTTP of a router: 15270, 15271; 16270, … for the next.
    pub(crate) fn router(self, number: usize, kept: &mut Vec<Port>) -> [SocketAddr; 2] {
        [270, 271].map(|port| self.one(15_000 + number * 1000 + port, kept))
    }

    pub(crate) fn postgres(self, kept: &mut Vec<Port>) -> u16 {
        self.one(15_432, kept).port()
    }

    pub(crate) fn redis(self, kept: &mut Vec<Port>) -> u16 {
        self.one(15_379, kept).port()
    }

    fn one(self, fixed: usize, kept: &mut Vec<Port>) -> SocketAddr {
        let port = match self {
            Self::Fixed => u16::try_from(fixed).unwrap_or_default(),
            Self::Free => {
                let port = Port::free();
                let number = port.number();
                kept.push(port);
                number
            }
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

impl Layout {
    /// All ports, by what is behind them, if they are always the same.
    #[must_use]
    pub fn fixed_ports(&self) -> Vec<(String, u16)> {
        let mut kept = Vec::new();
        let ports = Ports::Fixed;
        let mut all =
            vec![("redis".to_owned(), ports.redis(&mut kept)), ("postgres".to_owned(), ports.postgres(&mut kept))];
        for number in 0..self.routers {
            all.extend(ports.router(number, &mut kept).map(|address| (format!("router-{number}"), address.port())));
        }
        for number in 0..self.instances {
            all.extend(ports.instance(number, &mut kept).map(|address| (format!("c2s-{number}"), address.port())));
        }
        all
    }
}
