//! The whole table in one run: Starling, the relay beside it, and what is aimed at.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use starling_stream::connect::Security;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use crate::{
    Failure, chat, sessions,
    target::{Target, users},
};

/// How much of everything.
struct Extent {
    log_ins: usize,
    chat: Duration,
    many_pairs: usize,
    idle: usize,
}

const LONG: Extent = Extent { log_ins: 2000, chat: Duration::from_secs(10), many_pairs: 500, idle: 2000 };
const SHORT: Extent = Extent { log_ins: 200, chat: Duration::from_secs(2), many_pairs: 100, idle: 300 };
/// For runs that share their machine with others: wide, but a lost message or a copy per session shows.
const SHORT_BOUND: f64 = 6.0;

/// The aim of each row, and its unit.
const AIMS: [(&str, &str, f64); 9] = [
    ("first log-in, plain", "ms CPU", 0.25),
    ("log-in, plain", "ms CPU", 0.25),
    ("log-in, STARTTLS", "ms CPU", 0.45),
    ("chat, 50 pairs, plain", "us CPU/message", 9.5),
    ("chat, 50 pairs, TLS", "us CPU/message", 10.5),
    ("chat, 500 pairs, plain", "us CPU/message", 12.0),
    ("chat, 500 pairs, TLS", "us CPU/message", 15.0),
    ("idle session, plain", "KiB PSS", 8.0),
    ("idle session, TLS", "KiB PSS", 18.0),
];

/// Runs everything and prints the table.
pub(crate) async fn run(program: Option<PathBuf>, short: bool, json_file: Option<&Path>) -> Result<(), Failure> {
    let extent = if short { SHORT } else { LONG };
    let program = match program {
        Some(program) => program,
        None => std::env::current_exe()?.with_file_name("starlingd"),
    };
    let mut server = Server::start(&program, &extent).await?;
    let mut relay = Relay::start().await?;
    let mut rows = Vec::new();
    let mut broken = Vec::new();
    for (name, unit, aim) in AIMS {
        let tls = !name.ends_with("plain");
        if name.starts_with("idle") {
            // What earlier sessions left in the heap would be used again, and sessions seem to cost nothing.
            (server, relay) = (Server::start(&program, &extent).await?, Relay::start().await?);
        }
        let ours = figure(name, &server.target(name)?, server.pid, &extent, &mut broken).await?;
        let beside = figure(name, &relay.target(tls), relay.pid, &extent, &mut broken).await?;
        println!("{name:<24} {ours:>8.2} {unit:<15} relay {beside:>7.2}   aim {aim:>6.2}");
        if short && ours > aim * SHORT_BOUND {
            broken.push(format!("{name}: {ours:.2} {unit}, more than {SHORT_BOUND} times the aim of {aim}"));
        }
        rows.push(json!({ "scenario": name, "unit": unit, "starling": ours, "relay": beside, "aim": aim }));
    }
    if let Some(path) = json_file {
        std::fs::write(path, serde_json::to_string_pretty(&Value::Array(rows))?)?;
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n").into()) }
}

async fn figure(
    name: &str,
    target: &Target,
    pid: u32,
    extent: &Extent,
    broken: &mut Vec<String>,
) -> Result<f64, Failure> {
    if name.contains("log-in") {
        return Ok(sessions::log_in(target, pid, extent.log_ins, 8).await?.cpu_ms);
    }
    if name.starts_with("idle") {
        return Ok(sessions::idle(target, pid, extent.idle).await?.kib);
    }
    let pairs = if name.contains("500") { extent.many_pairs } else { 50 };
    let chat = chat::run(target, pid, pairs, 1, extent.chat).await?;
    eprintln!("  {chat}");
    let tally = &chat.tally;
    if tally.lost() + tally.doubled + tally.disordered + tally.errors > 0 || tally.received == 0 {
        broken.push(format!("{name}: {chat}"));
    }
    Ok(chat.cpu_us)
}

/// `starlingd` with the settings for load, on ports of its own.
struct Server {
    pid: u32,
    starttls: SocketAddr,
    certificate: PathBuf,
    _process: Child,
    _data: tempfile::TempDir,
}

impl Server {
    async fn start(program: &Path, extent: &Extent) -> Result<Self, Failure> {
        let data = tempfile::tempdir()?;
        let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/../open.toml");
        let command = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).args(["--config", settings]);
            command.env("STARLING_DATA", data.path());
            command.env("STARLING_C2S_STARTTLS_LISTEN", "[\"127.0.0.1:0\"]");
            command.env("STARLING_C2S_DIRECT_TLS_LISTEN", "[\"127.0.0.1:0\"]");
            command.env("STARLING_HTTP_LISTEN", "127.0.0.1:0").env("STARLING_LOG_FORMAT", "json");
            command.kill_on_drop(true);
            command
        };
        let accounts = (2 * extent.many_pairs).max(extent.idle + 100).max(extent.log_ins);
        let mut import = command(&["user", "import", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        if let Some(mut input) = import.stdin.take() {
            input.write_all(users(accounts, "localhost").as_bytes()).await?;
        }
        if !import.wait().await?.success() {
            return Err("accounts not imported".into());
        }
        let mut process = command(&["run"]).stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(process.stderr.take().ok_or("no log")?).lines();
        let mut starttls = None;
        while let Some(line) = log.next_line().await? {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            match event["message"].as_str() {
                Some("Listening") if event["role"] == "c2s-starttls" => {
                    starttls = event["address"].as_str().and_then(|address| address.parse().ok());
                }
                Some("Ready") => break,
                _ => {}
            }
        }
        // Whoever does not read its log would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Self {
            pid: process.id().ok_or("the server has ended")?,
            starttls: starttls.ok_or("the server does not listen")?,
            certificate: data.path().join("tls/self-signed.crt"),
            _process: process,
            _data: data,
        })
    }

    fn target(&self, name: &str) -> Result<Target, Failure> {
        let security = if name.ends_with("plain") { Security::None } else { Security::StartTls };
        Target::xmpp(self.starttls, security, Some(&self.certificate), "localhost")
    }
}

struct Relay {
    pid: u32,
    plain: SocketAddr,
    tls: SocketAddr,
    _process: Child,
}

impl Relay {
    async fn start() -> Result<Self, Failure> {
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

    const fn target(&self, tls: bool) -> Target {
        Target::Relay { address: if tls { self.tls } else { self.plain }, tls }
    }
}
