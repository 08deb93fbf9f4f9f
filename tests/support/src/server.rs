//! `starlingd` in a data folder of its own.

mod accounting;
mod rows;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::yield_now,
    time::timeout,
};

use crate::PATIENCE;

/// What a server is started with.
pub struct Builder {
    folder: TempDir,
    users: String,
    variables: Vec<(String, String)>,
}

impl Builder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        Self { folder, users: String::new(), variables: Vec::new() }
            .set("data", &data)
            .set("log.format", "json")
            .set("http.listen", "127.0.0.1:0")
            .set("c2s.starttls.listen", r#"["127.0.0.1:0"]"#)
            .set("c2s.starttls.required", "false")
            .set("c2s.direct_tls.listen", r#"["127.0.0.1:0"]"#)
            .set("auth.mechanisms_without_tls", r#"["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]"#)
            .set("auth.iterations", "4096")
    }

    /// Sets `path` (as in the settings' file, joined by points) to `value` (TOML for lists). The last one counts.
    #[must_use]
    pub fn set(mut self, path: &str, value: &str) -> Self {
        set(&mut self.variables, path, value);
        self
    }

    /// An account that exists when the server starts.
    #[must_use]
    pub fn user(mut self, address: &str, password: &str) -> Self {
        self.users.push_str(&format!("{address} {password}\n"));
        self
    }

    /// Starts it; returns when it says that it is ready.
    pub async fn start(self) -> Server {
        let Self { folder, users, variables } = self;
        let place = Place { folder, variables };
        if !users.is_empty() {
            let output = place.run(&["user", "import", "-"], &users);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "import: {} {errors}", output.status);
        }
        let log = Arc::default();
        let (child, grown) = place.run_server(&log);
        let told_to_stop = AtomicBool::new(false);
        let mut server = Server { child, place, log, grown, addresses: HashMap::new(), told_to_stop };
        server.listens().await;
        server
    }
}

fn set(variables: &mut Vec<(String, String)>, path: &str, value: &str) {
    let name = format!("STARLING_{}", path.replace('.', "_").to_uppercase());
    variables.retain(|(known, _)| *known != name);
    variables.push((name, value.to_owned()));
}

fn collect(from: impl std::io::Read + Send + 'static, log: &Arc<Mutex<String>>, lines: &Arc<watch::Sender<u64>>) {
    let (log, lines) = (Arc::clone(log), Arc::clone(lines));
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
            drop(log);
            lines.send_modify(|count| *count += 1);
        }
    });
}

/// A field of a log event, whether fields are inside each other or flattened.
fn field<'e>(event: &'e Value, name: &str) -> &'e str {
    let value = event.get(name).or_else(|| event.get("fields")?.get(name));
    value.and_then(Value::as_str).unwrap_or_default()
}

struct Place {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Place {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        let inherited = std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("STARLING_"));
        command.env_clear().envs(inherited).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// What it prints is added to `log`; what is returned changes with each line, and is closed when the process is gone.
    fn run_server(&self, log: &Arc<Mutex<String>>) -> (Child, watch::Receiver<u64>) {
        let mut command = self.command(&["run"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, grown) = watch::channel(0);
        let lines = Arc::new(lines);
        collect(child.stdout.take().unwrap(), log, &lines);
        collect(child.stderr.take().unwrap(), log, &lines);
        (child, grown)
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // A program that ends without reading its input is no fault of the test.
        let feeder = thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }
}

/// `STARLINGD`, else what the same build made.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("STARLINGD") {
        return named.into();
    }
    // A test's executable is in `deps`, an ordinary one beside the program.
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("starlingd")).find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("no starlingd near {}: run `cargo build` first, or name one by STARLINGD", own.display())
    })
}

/// A running server; killed when it is dropped.
///
/// Before that its accounting is checked: every stanza that it received has ended in exactly one counter.
pub struct Server {
    child: Child,
    place: Place,
    log: Arc<Mutex<String>>,
    grown: watch::Receiver<u64>,
    addresses: HashMap<String, String>,
    /// Its counters may be gone at any moment.
    told_to_stop: AtomicBool,
}

impl Server {
    /// Ports that the system chooses, log-in without TLS allowed, otherwise the defaults.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Where streams begin in the clear.
    pub fn starttls(&self) -> SocketAddr {
        self.address("c2s-starttls")
    }

    /// Where TLS comes first.
    pub fn direct_tls(&self) -> SocketAddr {
        self.address("c2s-direct-tls")
    }

    /// Metrics and health.
    pub fn http(&self) -> SocketAddr {
        self.address("http")
    }

    fn address(&self, role: &str) -> SocketAddr {
        self.addresses.get(role).unwrap_or_else(|| panic!("no {role} in\n{}", self.logs())).parse().unwrap()
    }

    /// The self-signed certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.place.folder.path().join("data/tls/self-signed.crt")
    }

    /// Runs another command of the program on the same settings, with `input` as its standard input, to its end.
    pub fn run(&self, arguments: &[&str], input: &str) -> Output {
        self.place.run(arguments, input)
    }

    /// Everything it has printed.
    pub fn logs(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it is ready, and notes where it listens.
    async fn listens(&mut self) {
        self.wait_for_log("Ready").await;
        for event in self.events().filter(|event| field(event, "message") == "Listening") {
            self.addresses.insert(field(&event, "role").to_owned(), field(&event, "address").to_owned());
        }
    }

    fn events(&self) -> impl Iterator<Item = Value> + use<> {
        let lines: Vec<Value> = self.logs().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.into_iter()
    }

    /// Waits for an event with this message, also one of the past.
    pub async fn wait_for_log(&mut self, message: &str) {
        let found = timeout(PATIENCE, async {
            while !self.events().any(|event| field(&event, "message") == message) {
                if self.grown.changed().await.is_err() {
                    return self.events().any(|event| field(&event, "message") == message);
                }
            }
            true
        });
        assert!(found.await == Ok(true), "no {message:?} in\n{}", self.logs());
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let request = async {
            let mut stream = TcpStream::connect(self.http()).await.unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            response
        };
        let response = timeout(PATIENCE, request).await.expect("no metrics in time");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        response.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// One metric by its name with labels, as it is printed.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Waits until a metric, named as for [`Server::metric`], is as `wanted` says; 0 while it is not there. Its value.
    pub async fn until(&self, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let polled = async {
            loop {
                let text = self.metrics().await;
                let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                let value = value.map_or(0.0, |value| value.parse().unwrap());
                if wanted(value) {
                    return value;
                }
                yield_now().await;
            }
        };
        match timeout(PATIENCE, polled).await {
            Ok(value) => value,
            Err(_) => panic!("{name} is not as wanted in\n{}", self.metrics().await),
        }
    }

    /// Its memory, shared pages by its share of them.
    pub fn pss_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        pss.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as an operator does.
    pub fn terminate(&self) {
        self.told_to_stop.store(true, Ordering::Relaxed);
        let sent = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it without asking.
    pub fn kill(&mut self) {
        self.told_to_stop.store(true, Ordering::Relaxed);
        self.child.kill().unwrap();
    }

    /// Ends it without asking (SIGKILL), and waits until it is gone.
    pub fn kill9(&mut self) {
        self.kill();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same data folder, settings and ports. It must have ended.
    pub async fn start_again(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        let ports = [("c2s-starttls", "c2s.starttls.listen"), ("c2s-direct-tls", "c2s.direct_tls.listen")];
        for (role, setting) in ports {
            if let Some(address) = self.addresses.get(role) {
                set(&mut self.place.variables, setting, &format!("[\"{address}\"]"));
            }
        }
        if let Some(address) = self.addresses.get("http") {
            set(&mut self.place.variables, "http.listen", address);
        }
        // What it said before it ended must not be taken for what it says now.
        self.log.lock().unwrap().clear();
        (self.child, self.grown) = self.place.run_server(&self.log);
        self.told_to_stop.store(false, Ordering::Relaxed);
        self.listens().await;
    }

    /// Changes a setting, as [`Builder::set`], for the next [`Server::start_again`].
    pub fn set(&mut self, path: &str, value: &str) {
        set(&mut self.place.variables, path, value);
    }

    /// Waits for it to end by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        // Its outputs are closed when it is gone.
        let gone = timeout(PATIENCE, async { while self.grown.changed().await.is_ok() {} });
        assert!(gone.await.is_ok(), "still running\n{}", self.logs());
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that has failed says why by itself.
        if !thread::panicking() {
            self.check_accounting();
        }
        // It may have ended: then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
