//! A primary and a replica, watched by three sentinels.

use std::fmt::Write as _;

use tempfile::TempDir;

use super::{ADMIN_PASSWORD, Options, Redis, process::Process};
use crate::ports::Port;

/// The name by which the sentinels know the primary.
const PRIMARY: &str = "starling";
/// The password of sentinels that have one.
pub const SENTINEL_PASSWORD: &str = "the-password-of-the-sentinels";

/// Two servers and their sentinels.
#[derive(Debug)]
pub struct Watched {
    servers: [Redis; 2],
    sentinels: Vec<(Process, Port)>,
    _folders: Vec<TempDir>,
    primary: usize,
    failovers: usize,
}

impl Watched {
    /// Two servers in step, and three sentinels that know them and each other: a second of silence, and they agree on
    /// another primary.
    pub async fn start() -> Self {
        Self::start_with(Options::default(), "").await
    }

    /// The same with servers that know these users, as [`Options::users`] has it, and sentinels that ask for
    /// [`SENTINEL_PASSWORD`].
    pub async fn protected(users: Vec<String>) -> Self {
        let lines = vec![format!("masterauth {ADMIN_PASSWORD}")];
        let sentinel = format!(
            "sentinel auth-pass {PRIMARY} {ADMIN_PASSWORD}\nrequirepass {SENTINEL_PASSWORD}\n\
             sentinel sentinel-pass {SENTINEL_PASSWORD}\n"
        );
        Self::start_with(Options { users, lines, ..Options::default() }, &sentinel).await
    }

    async fn start_with(options: Options, sentinel_lines: &str) -> Self {
        let primary = Redis::start(options.clone()).await;
        let mut options = options;
        options.lines.push(format!("replicaof 127.0.0.1 {}", primary.port()));
        let replica = Redis::start(options).await;
        replica.says("MASTER <-> REPLICA sync: Finished with success").await;
        let (mut sentinels, mut folders) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (folder, port) = (tempfile::tempdir().unwrap(), Port::free());
            let mut lines = format!("bind 127.0.0.1\nport {}\ndir {}\n", port.number(), folder.path().display());
            writeln!(lines, "sentinel monitor {PRIMARY} 127.0.0.1 {} 2", primary.port()).unwrap();
            for (setting, value) in [("down-after-milliseconds", 1000), ("failover-timeout", 20_000)] {
                writeln!(lines, "sentinel {setting} {PRIMARY} {value}").unwrap();
            }
            lines.push_str(sentinel_lines);
            sentinels.push((Process::start("redis-sentinel", folder.path(), "sentinel.conf", &lines).await, port));
            folders.push(folder);
        }
        for (sentinel, _) in &sentinels {
            sentinel.says("+slave slave").await;
            sentinel.says_times("+sentinel sentinel", 2).await;
        }
        Self { servers: [primary, replica], sentinels, _folders: folders, primary: 0, failovers: 0 }
    }

    /// Hosts and ports of the sentinels.
    #[must_use]
    pub fn sentinels(&self) -> Vec<String> {
        self.sentinels.iter().map(|(_, port)| format!("127.0.0.1:{}", port.number())).collect()
    }

    /// The name by which they know the primary.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        PRIMARY
    }

    /// The primary, as far as [`Watched::failed_over`] has seen.
    #[must_use]
    pub fn primary(&self) -> &Redis {
        let [first, second] = &self.servers;
        if self.primary == 0 { first } else { second }
    }

    /// `kill -9`. The replica will be the primary.
    pub async fn kill_primary(&mut self) {
        let [first, second] = &mut self.servers;
        let primary = if self.primary == 0 { first } else { second };
        primary.kill9().await;
    }

    /// Asks for a failover: the primary lives on, as a replica.
    pub async fn demote_primary(&self) {
        let (_, port) = self.sentinels.first().unwrap();
        let answer = super::run(super::cli(port.number()), &["SENTINEL", "FAILOVER", PRIMARY]).await;
        assert_eq!(answer, "OK");
    }

    /// Waits until all sentinels agree that the other server is the primary.
    pub async fn failed_over(&mut self) {
        self.failovers += 1;
        for (sentinel, _) in &self.sentinels {
            sentinel.says_times("+switch-master", self.failovers).await;
        }
        self.primary = 1 - self.primary;
    }
}
