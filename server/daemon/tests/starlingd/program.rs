//! `starlingd` in a data folder of its own.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// For whatever a test waits for: far more than it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder, and the settings of all programs that use it.
pub(crate) struct Place {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Place {
    /// Ports that the system chooses, JSON logs, log-in without TLS.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        Self { folder, variables: Vec::new() }
            .with("STARLING_DATA", &data)
            .with("STARLING_LOG_FORMAT", "json")
            .with("STARLING_HTTP_LISTEN", "127.0.0.1:0")
            .with("STARLING_C2S_STARTTLS_LISTEN", r#"["127.0.0.1:0"]"#)
            .with("STARLING_C2S_STARTTLS_REQUIRED", "false")
            .with("STARLING_C2S_DIRECT_TLS_LISTEN", r#"["127.0.0.1:0"]"#)
            .with("STARLING_AUTH_MECHANISMS_WITHOUT_TLS", r#"["PLAIN"]"#)
            .with("STARLING_AUTH_ITERATIONS", "4096")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A file beside the data folder.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starlingd"));
        let inherited = std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("STARLING_"));
        command.env_clear().envs(inherited).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Runs a command that ends by itself, with `input` as its standard input.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Finished {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // A program that ends without reading its input is no fault of the test.
        let feeder = thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Finished::from(output)
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn succeed(&self, arguments: &[&str], input: &str) -> String {
        let finished = self.run(arguments, input);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.errors);
        finished.output
    }

    /// Runs a command that must end with `code`; what it complained about.
    pub(crate) fn fail(&self, arguments: &[&str], input: &str, code: i32) -> String {
        let finished = self.run(arguments, input);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {}{}", finished.output, finished.errors);
        finished.errors
    }

    pub(crate) fn accounts(&self) -> Vec<String> {
        self.succeed(&["user", "list"], "").lines().map(str::to_owned).collect()
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// Starts the server and returns when it says that it is ready.
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&["run"]);
        let mut child = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines_in, lines) = channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || errors.lines().map_while(Result::ok).try_for_each(|line| lines_in.send(line)));
        let mut running = Running { child, lines, log: Vec::new(), addresses: HashMap::new() };
        running.wait_for("Ready");
        let listening: Vec<Value> = running.events().filter(|event| event["message"] == "Listening").collect();
        for event in listening {
            let field = |name: &str| event[name].as_str().unwrap().to_owned();
            running.addresses.insert(field("role"), field("address"));
        }
        running
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A server that runs; killed if the test leaves it.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    pub(crate) log: Vec<String>,
    pub(crate) addresses: HashMap<String, String>,
}

impl Running {
    pub(crate) fn address(&self, role: &str) -> &str {
        &self.addresses[role]
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What was logged so far.
    pub(crate) fn events(&self) -> impl Iterator<Item = Value> {
        self.log.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Waits for an event with this message.
    pub(crate) fn wait_for(&mut self, message: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.log.push(line);
                    let event = self.events().last().unwrap();
                    if event["message"] == message {
                        return event;
                    }
                }
                Err(error) => panic!("no {message:?}: {error}\n{}", self.log.join("\n")),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the process to end by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.log.push(line),
                // Its standard error is closed.
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("still running\n{}", self.log.join("\n")),
            }
        }
    }

    /// Stops it as an operator does.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.signal("TERM");
        let status = self.ended();
        assert_eq!(status.code(), Some(0), "{}", self.log.join("\n"));
        std::mem::take(&mut self.log)
    }

    /// Status and body of `GET path`.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address("http")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// All files below `folder`, sockets too.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found
}
