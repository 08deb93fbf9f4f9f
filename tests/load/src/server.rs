//! The processes under load: `starlingd` with a data folder of its own, and the relay.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use starling_stream::connect::Security;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use crate::{
    Failure,
    target::{Target, users},
};

/// Of a size that rosters fit in, on every Linux.
const IN_MEMORY: &str = "/dev/shm";

/// Where a server keeps what lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where temporary files are.
    Disk,
    /// In memory, where that can be had: for what is written before anything is measured, not while.
    Memory,
}

/// A server's program, settings and data. The folder goes when this is dropped.
pub(crate) struct Installation {
    program: PathBuf,
    settings: &'static [(&'static str, &'static str)],
    data: TempDir,
}

impl Installation {
    /// A new data folder with so many accounts. `settings`: variables over those of `tests/open.toml`.
    pub(crate) async fn new(
        program: &Path,
        place: Place,
        accounts: usize,
        settings: &'static [(&'static str, &'static str)],
    ) -> Result<Self, Failure> {
        let data = match place {
            Place::Memory if Path::new(IN_MEMORY).is_dir() => tempfile::tempdir_in(IN_MEMORY)?,
            Place::Memory | Place::Disk => tempfile::tempdir()?,
        };
        let installation = Self { program: program.to_owned(), settings, data };
        let import = installation.command(&["user", "import", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut import = import.map_err(|error| format!("{}: {error}", program.display()))?;
        if let Some(mut input) = import.stdin.take() {
            input.write_all(users(accounts, "localhost").as_bytes()).await?;
        }
        if import.wait().await?.success() { Ok(installation) } else { Err("accounts not imported".into()) }
    }

    /// The file that the server keeps messages in.
    pub(crate) fn database(&self) -> PathBuf {
        self.data.path().join("starling.db")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/../open.toml");
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--config", settings]);
        command.env("STARLING_DATA", self.data.path());
        command.env("STARLING_C2S_STARTTLS_LISTEN", "[\"127.0.0.1:0\"]");
        command.env("STARLING_C2S_DIRECT_TLS_LISTEN", "[\"127.0.0.1:0\"]");
        command.env("STARLING_HTTP_LISTEN", "127.0.0.1:0").env("STARLING_LOG_FORMAT", "json");
        command.envs(self.settings.iter().copied());
        command.kill_on_drop(true);
        command
    }

    /// Starts a server on the folder, which no other may have.
    pub(crate) async fn start(self) -> Result<Server, Failure> {
        let mut process = self.command(&["run"]).stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(process.stderr.take().ok_or("no log")?).lines();
        let (mut starttls, mut said) = (None, String::new());
        loop {
            let Some(line) = log.next_line().await? else {
                return Err(format!("the server does not start: {said}").into());
            };
            let Ok(event) = serde_json::from_str::<Value>(&line) else {
                said = line;
                continue;
            };
            match event["message"].as_str() {
                Some("Listening") if event["role"] == "c2s-starttls" => {
                    starttls = event["address"].as_str().and_then(|address| address.parse().ok());
                }
                Some("Ready") => break,
                _ => said = line,
            }
        }
        // Whoever does not read its log would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Server {
            pid: process.id().ok_or("the server has ended")?,
            starttls: starttls.ok_or("the server does not listen")?,
            process,
            installation: self,
        })
    }
}

/// A `starlingd` that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) pid: u32,
    starttls: SocketAddr,
    process: Child,
    installation: Installation,
}

impl Server {
    pub(crate) fn target(&self, tls: bool) -> Result<Target, Failure> {
        let security = if tls { Security::StartTls } else { Security::None };
        let certificate = self.installation.data.path().join("tls/self-signed.crt");
        Target::xmpp(self.starttls, security, Some(&certificate), "localhost")
    }

    /// The file that it keeps messages in.
    pub(crate) fn database(&self) -> PathBuf {
        self.installation.database()
    }

    /// Ends the process at once.
    pub(crate) async fn end(self) -> Result<Installation, Failure> {
        let Self { mut process, installation, .. } = self;
        process.kill().await?;
        Ok(installation)
    }
}

/// A relay that runs until it is dropped.
pub(crate) struct Relay {
    pub(crate) pid: u32,
    plain: SocketAddr,
    tls: SocketAddr,
    _process: Child,
}

impl Relay {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut process = Command::new(program).arg("relay").stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut out = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        let line = out.next_line().await?.ok_or("the relay has ended")?;
        let (plain, tls) = line.split_once(' ').ok_or("no addresses")?;
        Ok(Self {
            pid: process.id().ok_or("the relay has ended")?,
            plain: plain.parse()?,
            tls: tls.parse()?,
            _process: process,
        })
    }

    pub(crate) const fn target(&self, tls: bool) -> Target {
        Target::Relay { address: if tls { self.tls } else { self.plain }, tls }
    }
}
