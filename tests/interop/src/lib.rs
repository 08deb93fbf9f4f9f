//! Clients that we did not write, driven by tests: slixmpp (Python), @xmpp/client (JavaScript) and go-sendxmpp (Go).
//!
//! ```text
//!   test ── commands, one a line ──► clients/slixmpp_client.py, clients/xmpp_js_client.mjs ── TLS ──► starlingd
//!        ◄── events, lines of JSON ──
//! ```
//!
//! `tests/set-up` installs them, by the names of their packages.

#![allow(clippy::panic, reason = "a test that cannot go on says why")]

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

/// For anything that a client does.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a client's connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// After STARTTLS.
    StartTls,
    /// From the first byte.
    Direct,
}

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// slixmpp.
    Slixmpp,
    /// @xmpp/client.
    XmppJs,
}

/// A client's process; killed when it is dropped.
pub struct Client {
    name: String,
    process: Child,
    commands: Option<ChildStdin>,
    events: mpsc::Receiver<String>,
}

impl Client {
    /// Starts a client, which logs in at once.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn start(kind: Kind, jid: &str, password: &str, address: SocketAddr, tls: Tls, certificate: &Path) -> Self {
        let mut command = match kind {
            Kind::Slixmpp => {
                let mut command = Command::new(home().join("venv/bin/python"));
                command.arg(script("slixmpp_client.py"));
                command
            }
            Kind::XmppJs => {
                let own = home().join("node_modules/.bin/node");
                let mut command = if own.exists() { Command::new(own) } else { Command::new("node") };
                command.arg(script("xmpp_js_client.mjs")).env("XMPP_JS_MODULES", home());
                command
            }
        };
        let tls = match tls {
            Tls::StartTls => "starttls",
            Tls::Direct => "direct",
        };
        command.args([jid, password, &address.port().to_string(), tls]).env("NODE_EXTRA_CA_CERTS", certificate);
        if kind == Kind::Slixmpp {
            command.arg(certificate);
        }
        Self::spawn(format!("{kind:?} {jid}"), command)
    }

    /// Starts go-sendxmpp, which prints what it receives until it is dropped.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn go_listener(jid: &str, password: &str, address: SocketAddr, tls: Tls, certificate: &Path) -> Self {
        let mut command = go_sendxmpp(jid, password, address, tls, certificate);
        command.arg("--listen");
        Self::spawn(format!("go-sendxmpp {jid}"), command)
    }

    fn spawn(name: String, mut command: Command) -> Self {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut process = started.unwrap_or_else(|error| panic!("{name}: {error}; run tests/set-up"));
        let commands = process.stdin.take();
        let output = process.stdout.take().unwrap_or_else(|| panic!("{name} has no output"));
        let (lines, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        Self { name, process, commands, events }
    }

    /// The next line that it prints.
    ///
    /// # Panics
    /// If it prints none in time.
    #[must_use]
    pub fn line(&self) -> String {
        let line = self.events.recv_timeout(PATIENCE);
        line.unwrap_or_else(|error| panic!("{}: no word of it: {error}", self.name))
    }

    /// The next event of this name; others before it are passed over.
    ///
    /// # Panics
    /// If it does not come, or the client says that it failed.
    #[must_use]
    pub fn event(&self, name: &str) -> Value {
        loop {
            let line = self.line();
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}: {line}", self.name));
            if event["event"] == name {
                return event;
            }
            assert!(event["event"] != "failed" && event["event"] != "error", "{}: {line}", self.name);
        }
    }

    /// Tells it to do something.
    ///
    /// # Panics
    /// If it is gone.
    pub fn command(&mut self, command: &str) {
        let written =
            self.commands.as_mut().map(|commands| writeln!(commands, "{command}").and_then(|()| commands.flush()));
        assert!(matches!(written, Some(Ok(()))), "{}: does not listen", self.name);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Sends one message by go-sendxmpp and waits until that has ended.
///
/// # Panics
/// If it fails.
pub fn go_send(jid: &str, password: &str, address: SocketAddr, tls: Tls, certificate: &Path, to: &str, text: &str) {
    let mut command = go_sendxmpp(jid, password, address, tls, certificate);
    let started = command.arg(to).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = started.unwrap_or_else(|error| panic!("go-sendxmpp: {error}; run tests/set-up"));
    if let Some(mut input) = process.stdin.take() {
        writeln!(input, "{text}").unwrap_or_else(|error| panic!("go-sendxmpp: {error}"));
    }
    let output = process.wait_with_output().unwrap_or_else(|error| panic!("go-sendxmpp: {error}"));
    assert!(output.status.success(), "go-sendxmpp: {output:?}");
}

fn go_sendxmpp(jid: &str, password: &str, address: SocketAddr, tls: Tls, certificate: &Path) -> Command {
    let mut command = Command::new("go-sendxmpp");
    // Go takes the certificates that it trusts from here: ours is checked, not skipped.
    command.env("SSL_CERT_FILE", certificate);
    command.args(["-u", jid, "-p", password, "-j", &format!("localhost:{}", address.port())]);
    if tls == Tls::Direct {
        command.arg("-t");
    }
    command
}

/// Where `tests/set-up` put the clients.
fn home() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    home.join(".cache/starling/interop")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}
