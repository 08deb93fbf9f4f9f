//! One process of a server.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::PATIENCE;

pub(super) fn set(variables: &mut Vec<(String, String)>, path: &str, value: &str) {
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

/// Where a process runs, and with what settings.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) variables: Vec<(String, String)>,
}

impl Place {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command =
            Command::new(starling_backends::program("starlingd").unwrap_or_else(|error| panic!("{error}")));
        let inherited = std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("STARLING_"));
        command.env_clear().envs(inherited).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(arguments).current_dir(&self.folder);
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

    pub(super) fn run(&self, arguments: &[&str], input: &str) -> Output {
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

/// A process that runs, or has ended.
pub(super) struct Process {
    child: Child,
    pub(super) place: Place,
    log: Arc<Mutex<String>>,
    grown: watch::Receiver<u64>,
    addresses: HashMap<String, String>,
    /// Its counters may be gone at any moment.
    told_to_stop: AtomicBool,
}

impl Process {
    /// Starts it; returns when it says that it is ready.
    pub(super) async fn start(place: Place) -> Self {
        let log = Arc::default();
        let (child, grown) = place.run_server(&log);
        let told_to_stop = AtomicBool::new(false);
        let mut process = Self { child, place, log, grown, addresses: HashMap::new(), told_to_stop };
        process.listens().await;
        process
    }

    pub(super) fn address(&self, role: &str) -> SocketAddr {
        self.addresses.get(role).unwrap_or_else(|| panic!("no {role} in\n{}", self.logs())).parse().unwrap()
    }

    pub(super) fn listens_on(&self, role: &str) -> Option<SocketAddr> {
        Some(self.addresses.get(role)?.parse().unwrap())
    }

    pub(super) fn data(&self) -> PathBuf {
        let value = self.place.variables.iter().find(|(name, _)| name == "STARLING_DATA").map(|(_, value)| value);
        Path::new(value.unwrap()).to_owned()
    }

    /// Everything it has printed.
    pub(super) fn logs(&self) -> String {
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

    pub(super) fn has_logged(&self, message: &str) -> bool {
        self.events().any(|event| field(&event, "message") == message)
    }

    /// Waits for an event with this message, also one of the past.
    pub(super) async fn wait_for_log(&mut self, message: &str) {
        let found = timeout(PATIENCE, async {
            while !self.has_logged(message) {
                if self.grown.changed().await.is_err() {
                    return self.has_logged(message);
                }
            }
            true
        });
        assert!(found.await == Ok(true), "no {message:?} in\n{}", self.logs());
    }

    /// The text of `/metrics`.
    pub(super) async fn metrics(&self) -> String {
        let response = self.get("/metrics").await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        response.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    async fn get(&self, path: &str) -> String {
        let request = async {
            let mut stream = TcpStream::connect(self.address("http")).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            response
        };
        timeout(PATIENCE, request).await.unwrap_or_else(|_| panic!("no {path} in time"))
    }

    /// What it has allocated. Not the pages of the program: other servers share them, and as those end, each that is left has
    /// a larger part.
    pub(super) fn memory_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let allocated = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).unwrap();
        allocated.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as an operator does.
    pub(super) fn terminate(&self) {
        self.told_to_stop.store(true, Ordering::Relaxed);
        let sent = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it without asking.
    pub(super) fn kill(&mut self) {
        self.told_to_stop.store(true, Ordering::Relaxed);
        // It may have ended: then there is nothing to kill.
        self.child.kill().ok();
    }

    /// Ends it without asking (SIGKILL), and waits until it is gone.
    pub(super) fn kill9(&mut self) {
        self.kill();
        self.child.wait().unwrap();
    }

    /// Whether it was told to stop, or has.
    pub(super) fn is_over(&mut self) -> bool {
        self.told_to_stop.load(Ordering::Relaxed) || self.child.try_wait().unwrap().is_some()
    }

    /// Starts it again on the same data folder and settings, and if asked to on the same ports. It must have ended.
    pub(super) async fn start_again(&mut self, on_same_ports: bool) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        let lists = [
            ("c2s-starttls", "c2s.starttls.listen"),
            ("c2s-direct-tls", "c2s.direct_tls.listen"),
            ("router", "router.listen"),
        ];
        // Those of one process of many may be somebody's by now: processes talk to each other by ports of the same range.
        if on_same_ports {
            for (role, setting) in lists {
                if let Some(address) = self.addresses.get(role) {
                    set(&mut self.place.variables, setting, &format!("[\"{address}\"]"));
                }
            }
            if let Some(address) = self.addresses.get("http") {
                set(&mut self.place.variables, "http.listen", address);
            }
        }
        // What it said before it ended must not be taken for what it says now.
        self.log.lock().unwrap().clear();
        (self.child, self.grown) = self.place.run_server(&self.log);
        self.told_to_stop.store(false, Ordering::Relaxed);
        self.listens().await;
    }

    /// Waits for it to end by itself.
    pub(super) async fn wait(&mut self) -> ExitStatus {
        // Its outputs are closed when it is gone.
        let gone = timeout(PATIENCE, async { while self.grown.changed().await.is_ok() {} });
        assert!(gone.await.is_ok(), "still running\n{}", self.logs());
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.child.wait().ok();
    }
}

/// The value of a metric, named with its labels as it is printed. `None`: it is not there.
pub(super) fn value(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}
