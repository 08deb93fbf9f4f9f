//! One process of `starlingd`, with the settings of `tests/open.toml` and variables over them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{Failure, target::users};

/// What a process is started with.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// Names as in the environment, without the prefix.
    pub(crate) variables: Vec<(String, String)>,
}

impl Start {
    /// On ports that the system chooses.
    pub(crate) fn new(program: &Path, data: &Path) -> Self {
        let start = Self { program: program.to_owned(), data: data.to_owned(), variables: Vec::new() };
        start
            .set("C2S_STARTTLS_LISTEN", "[\"127.0.0.1:0\"]")
            .set("C2S_DIRECT_TLS_LISTEN", "[\"127.0.0.1:0\"]")
            .set("HTTP_LISTEN", "127.0.0.1:0")
            .set("LOG_FORMAT", "json")
    }

    #[must_use]
    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((format!("STARLING_{name}"), value.into()));
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/../open.toml");
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--config", settings]);
        command.env("STARLING_DATA", &self.data);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.kill_on_drop(true);
        command
    }

    /// Makes so many accounts.
    pub(crate) async fn import(&self, accounts: usize) -> Result<(), Failure> {
        let import = self.command(&["user", "import", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut import = import.map_err(|error| format!("{}: {error}", self.program.display()))?;
        if let Some(mut input) = import.stdin.take() {
            input.write_all(users(accounts, "localhost").as_bytes()).await?;
        }
        if import.wait().await?.success() { Ok(()) } else { Err("accounts not imported".into()) }
    }

    /// Returns when it says that it is ready.
    pub(crate) async fn run(&self) -> Result<Starlingd, Failure> {
        let mut process = self.command(&["run"]).stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(process.stderr.take().ok_or("no log")?).lines();
        let (mut addresses, mut said) = (HashMap::new(), String::new());
        loop {
            let Some(line) = log.next_line().await? else {
                return Err(format!("the server does not start: {said}").into());
            };
            let Ok(event) = serde_json::from_str::<Value>(&line) else {
                said = line;
                continue;
            };
            match (event["message"].as_str(), event["role"].as_str(), event["address"].as_str()) {
                (Some("Listening"), Some(role), Some(address)) => {
                    // The admin socket has a path.
                    if let Ok(address) = address.parse() {
                        addresses.insert(role.to_owned(), address);
                    }
                }
                (Some("Ready"), ..) => break,
                _ => said = line,
            }
        }
        // Whoever does not read its log would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Starlingd { pid: process.id().ok_or("the server has ended")?, addresses, process })
    }
}

/// A process that runs until it is dropped.
pub(crate) struct Starlingd {
    pub(crate) pid: u32,
    addresses: HashMap<String, SocketAddr>,
    process: Child,
}

impl Starlingd {
    /// Where it listens, by the role that its log names.
    pub(crate) fn address(&self, role: &str) -> Result<SocketAddr, Failure> {
        Ok(*self.addresses.get(role).ok_or_else(|| format!("the server does not listen for {role}"))?)
    }

    /// The text of `/metrics`.
    pub(crate) async fn metrics(&self) -> Result<String, Failure> {
        let mut stream = TcpStream::connect(self.address("http")?).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        let (_, text) = response.split_once("\r\n\r\n").ok_or("no metrics")?;
        Ok(text.to_owned())
    }

    /// Ends it at once.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        self.process.kill().await?;
        Ok(())
    }
}
