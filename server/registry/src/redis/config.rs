//! What there is to say about a Redis.

use std::{path::PathBuf, time::Duration};

/// How Redis is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisMode {
    /// One server.
    Standalone,
    /// Servers that sentinels watch.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

/// Where Redis is, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Hosts and ports: of the server (of several, the first that can be written to), of the sentinels, or of some nodes of
    /// the cluster.
    pub servers: Vec<String>,
    /// What they are.
    pub mode: RedisMode,
    /// The name by which the sentinels know the primary.
    pub primary: String,
    /// An ACL user; empty: the default user. It needs the commands of `keys.rs`, and `client|tracking` with
    /// `client|caching` for the cache.
    pub username: String,
    /// The file with its password, which is read for each new connection; empty: none.
    pub password_file: PathBuf,
    /// The file with the password of the sentinels; empty: none.
    pub sentinel_password_file: PathBuf,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// The file with the authorities (PEM) that sign the servers' certificates; empty: those of the system.
    pub ca: PathBuf,
    /// What all keys begin with. Not empty.
    pub key_prefix: String,
    /// See there.
    pub times: RedisTimes,
    /// How many accounts the cache remembers.
    pub cache_accounts: usize,
    /// How many bytes the cache takes, as it counts them: what it holds, without the map's own needs.
    pub cache_bytes: usize,
}

/// Time constants. Those of one cluster have all the same.
#[derive(Clone, Debug)]
pub struct RedisTimes {
    /// For a new connection, with TLS and log-in.
    pub connect: Duration,
    /// For an answer. What takes longer has failed, and so has its connection.
    pub response: Duration,
    /// The first pause before a connection is tried again; it doubles.
    pub retry: Duration,
    /// The longest one.
    pub retry_at_most: Duration,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// A longer gap between two renewals that were to be made says that this process did not run.
    pub pause: Duration,
    /// How often the servers are asked where the primaries are, also where nothing hints at a change.
    pub discover: Duration,
    /// How long keys of accounts and streams last that nobody writes. Renewed when half of it is over.
    pub expiry: Duration,
    /// How long an ended stream is remembered.
    pub ended: Duration,
    /// How long somebody has the duty of cleaning up behind a dead instance.
    pub duty: Duration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            servers: vec!["127.0.0.1:6379".to_owned()],
            mode: RedisMode::Standalone,
            primary: "mymaster".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
            sentinel_password_file: PathBuf::new(),
            tls: false,
            ca: PathBuf::new(),
            key_prefix: "starling".to_owned(),
            times: RedisTimes::default(),
            cache_accounts: 131_072,
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Default for RedisTimes {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            response: Duration::from_secs(1),
            retry: Duration::from_millis(50),
            retry_at_most: Duration::from_secs(1),
            lease: Duration::from_secs(4),
            renew: Duration::from_secs(1),
            pause: Duration::from_secs(2),
            discover: Duration::from_secs(10),
            expiry: Duration::from_hours(24),
            ended: Duration::from_mins(15),
            duty: Duration::from_mins(1),
        }
    }
}

impl RedisTimes {
    /// A gap in the renewals of all instances together that says that Redis itself was away.
    pub(super) fn silence(&self) -> Duration {
        self.lease / 2
    }

    /// For how long nobody is declared dead after such a gap: all must have had the time to connect, and to renew.
    pub(super) fn grace(&self) -> Duration {
        self.lease + self.connect
    }
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
