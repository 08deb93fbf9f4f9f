//! Redis: one server, servers that sentinels watch, or a cluster of them.
//!
//! ```text
//!   Redis::start ──────► redis-server ── log in its folder             kill9 · stop · start_again · pause · resume · command
//!   Watched::start ────► primary ◄─ replica, three sentinels           kill_primary · failed_over
//!   Cluster::start ────► three primaries, with a replica each if asked  fail_over
//! ```
//!
//! Nothing is saved to disk unless asked for, everything listens on 127.0.0.1 alone, and every child ends with the thread
//! that started it. A server that was ended can be started again on its port. Ready is a server when it says so itself.

mod cluster;
mod process;
mod watched;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use tempfile::TempDir;
use tokio::process::Command;

use self::process::Process;
pub use self::{
    cluster::Cluster,
    watched::{SENTINEL_PASSWORD, Watched},
};
use crate::{Authority, Identity, Port};

/// The password of the user `default` where [`Options::users`] are given: for whoever administers the server.
pub const ADMIN_PASSWORD: &str = "the-password-of-the-administrator";

/// How one server is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// With TLS alone, by a certificate for `127.0.0.1` and `localhost`; see [`Redis::ca`].
    pub tls: bool,
    /// ACL users, each a line as in its configuration, without the word `user`: `starling on >password ~starling:* +@all`.
    pub users: Vec<String>,
    /// Where its files are. `None`: in a folder that goes with it.
    pub folder: Option<PathBuf>,
    /// `None`: one that is free.
    pub port: Option<u16>,
    /// Whether it writes an append-only file, so that it knows after a restart what it knew before.
    pub append_only: bool,
    /// Further lines of its configuration.
    pub lines: Vec<String>,
}

/// One server.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    options: Options,
    port: u16,
    /// Of a port that was free.
    _kept: Option<Port>,
    folder: PathBuf,
    identity: Option<Identity>,
    _temporary: Option<TempDir>,
}

impl Redis {
    /// A server that is ready.
    pub async fn start(options: Options) -> Self {
        let temporary = options.folder.is_none().then(|| tempfile::tempdir().unwrap());
        let folder = options.folder.clone().unwrap_or_else(|| temporary.as_ref().unwrap().path().to_owned());
        let identity = options.tls.then(|| Authority::new().issue(&["localhost", "127.0.0.1"], &folder));
        let kept = options.port.is_none().then(Port::free);
        let port = options.port.or_else(|| kept.as_ref().map(Port::number)).unwrap();
        let mut server = Self { process: None, options, port, _kept: kept, folder, identity, _temporary: temporary };
        server.start_again().await;
        server
    }

    /// Starts a server that was ended, on the same port.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let configuration = self.configuration();
        let process = Process::start("redis-server", &self.folder, "redis.conf", &configuration).await;
        process.says("Ready to accept connections").await;
        self.process = Some(process);
    }

    fn configuration(&self) -> String {
        // By default, a primary waits five seconds for further replicas before it serves the first.
        let mut lines = String::from("bind 127.0.0.1\ndaemonize no\nrepl-diskless-sync-delay 0\n");
        let port = self.port;
        match &self.identity {
            None => writeln!(lines, "port {port}").unwrap(),
            Some(Identity { certificate, key, authorities }) => {
                write!(lines, "port 0\ntls-port {port}\ntls-auth-clients no\ntls-replication yes\n").unwrap();
                let (certificate, key, ca) = (certificate.display(), key.display(), authorities.display());
                write!(lines, "tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n").unwrap();
            }
        }
        if self.options.append_only {
            lines.push_str("save \"\"\nappendonly yes\nappendfsync always\n");
        } else {
            lines.push_str("save \"\"\nappendonly no\n");
        }
        writeln!(lines, "dir {}", self.folder.display()).unwrap();
        if !self.options.users.is_empty() {
            writeln!(lines, "user default on >{ADMIN_PASSWORD} ~* &* +@all").unwrap();
        }
        for user in &self.options.users {
            writeln!(lines, "user {user}").unwrap();
        }
        for line in &self.options.lines {
            writeln!(lines, "{line}").unwrap();
        }
        lines
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The file of the authority that signed its certificate.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.identity.as_ref().expect("it was started with TLS").authorities
    }

    /// Whether it runs: it may have ended by itself.
    pub fn is_running(&mut self) -> bool {
        if self.process.as_mut().is_some_and(Process::is_over) {
            self.process = None;
        }
        self.process.is_some()
    }

    /// The number of its process.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref()?.number()
    }

    /// Lets it have forgotten everything at its next start. It must not run.
    pub fn forget(&self) {
        assert!(self.process.is_none(), "it runs");
        // There is nothing to forget of one that saves nothing.
        std::fs::remove_dir_all(self.folder.join("appendonlydir")).ok();
    }

    /// `kill -9`.
    pub async fn kill9(&mut self) {
        self.process.take().expect("it runs").kill9().await;
    }

    /// An orderly end.
    pub async fn stop(&mut self) {
        self.process.take().expect("it runs").stop().await;
    }

    /// Stops it from doing anything, without ending it (SIGSTOP): connections stay, and nothing is answered.
    pub async fn pause(&self) {
        self.running().signal("STOP").await;
    }

    /// It goes on (SIGCONT).
    pub async fn resume(&self) {
        self.running().signal("CONT").await;
    }

    /// Waits until it has said this in its log since it was started last.
    pub async fn says(&self, what: &str) {
        self.running().says(what).await;
    }

    /// Lets the administrator carry out a command, and returns what `redis-cli` prints, without the last line's end.
    pub async fn command(&self, arguments: &[&str]) -> String {
        let mut cli = cli(self.port);
        if let Some(identity) = &self.identity {
            cli.arg("--tls").arg("--cacert").arg(&identity.authorities);
        }
        if !self.options.users.is_empty() {
            cli.env("REDISCLI_AUTH", ADMIN_PASSWORD);
        }
        run(cli, arguments).await
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }
}

fn cli(port: u16) -> Command {
    let mut cli = Command::new("redis-cli");
    cli.args(["-h", "127.0.0.1", "-p", &port.to_string(), "--no-auth-warning"]);
    cli
}

async fn run(mut cli: Command, arguments: &[&str]) -> String {
    cli.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = cli.output().await.unwrap_or_else(|error| panic!("redis-cli: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    printed.trim_end_matches('\n').to_owned()
}
