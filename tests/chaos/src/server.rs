//! The server under test: a process with a folder and ports of its own.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use starling_store::{SqliteStore, Store as _};

use crate::{Failure, random::Random, rows, run::Site, verdict::Rows, wire::DOMAIN};

/// For a start, and for an orderly stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of its log that are kept for when something goes wrong.
const TAIL: usize = 60;

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// `starlingd`, at this path.
    Starling(PathBuf),
    /// Prosody, from its package: it shows that these tests do what they say. With cuts alone it loses nothing; killed, it
    /// does, which it never promised not to.
    Prosody,
}

impl Program {
    /// `starlingd`, as the same build has made it.
    ///
    /// # Errors
    /// If there is none.
    pub fn beside() -> Result<Self, Failure> {
        Ok(Self::Starling(starling_backends::program("starlingd")?))
    }
}

/// The server.
pub struct Server {
    program: Program,
    folder: PathBuf,
    ports: [u16; 3],
    variables: Vec<(String, String)>,
    child: Option<Child>,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    tail: Mutex<VecDeque<String>>,
    panics: Mutex<Vec<String>>,
}

/// Whoever panicked with the lock had pushed a whole line or none.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    fn take(&self, line: String) {
        if line.contains("panicked at") {
            lock(&self.panics).push(line.clone());
        }
        let mut tail = lock(&self.tail);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}

impl Server {
    /// One that is not started yet. Its files are in `folder`, which is there. `variables` are its environment's, besides
    /// those that make it listen on loopback, without TLS and without limits of rate.
    ///
    /// # Errors
    /// If no ports are free.
    pub fn new(program: Program, folder: &Path, variables: &[(&str, &str)]) -> Result<Self, Failure> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let folder = folder.to_owned();
        Ok(Self { program, folder, ports: free_ports()?, variables, child: None, log: Arc::default() })
    }

    /// Where it listens for clients; the same after each start.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.ports[0])
    }

    /// The database of Starling.
    #[must_use]
    pub fn database(&self) -> Option<PathBuf> {
        matches!(self.program, Program::Starling(_)).then(|| self.folder.join("data/starling.db"))
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log(&self) -> String {
        lock(&self.log.tail).iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// Its process.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pid(&self) -> Result<u32, Failure> {
        Ok(self.child.as_ref().and_then(Child::id).ok_or("the server does not run")?)
    }

    /// Whether it has ended by itself, and how.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Makes the accounts `user0`, `user1`, … with the passwords `password0`, `password1`, ….
    ///
    /// # Errors
    /// If they were not made.
    pub async fn make_users(&self, count: u32) -> Result<(), Failure> {
        match &self.program {
            Program::Starling(program) => {
                let users: String = (0..count).map(|user| format!("user{user}@{DOMAIN} password{user}\n")).collect();
                let mut import = self.starling(program, &["user", "import", "-"]).stdin(Stdio::piped()).spawn()?;
                if let Some(mut input) = import.stdin.take() {
                    input.write_all(users.as_bytes()).await?;
                }
                let output = import.wait_with_output().await?;
                if !output.status.success() {
                    return Err(format!("import: {}", String::from_utf8_lossy(&output.stderr)).into());
                }
            }
            Program::Prosody => {
                let accounts = self.folder.join(format!("data/{DOMAIN}/accounts"));
                std::fs::create_dir_all(&accounts)?;
                for user in 0..count {
                    let account = format!("return {{ [\"password\"] = \"password{user}\"; }};\n");
                    std::fs::write(accounts.join(format!("user{user}.dat")), account)?;
                }
                let settings = include_str!("server/prosody.cfg.lua");
                let settings = settings.replace("FOLDER", &self.folder.display().to_string());
                std::fs::write(
                    self.folder.join("prosody.cfg.lua"),
                    settings.replace("PORT", &self.ports[0].to_string()),
                )?;
            }
        }
        Ok(())
    }

    fn starling(&self, program: &Path, arguments: &[&str]) -> Command {
        // What is ignored stays ignored in the program: a write beyond a limit of file size is to fail, not to kill.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program).args(arguments);
        command.args(["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/../open.toml")]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STARLING_")) {
            command.env_remove(name);
        }
        let [starttls, direct, http] = self.ports;
        command.env("STARLING_DATA", self.folder.join("data"));
        command.env("STARLING_C2S_STARTTLS_LISTEN", format!("[\"127.0.0.1:{starttls}\"]"));
        command.env("STARLING_C2S_DIRECT_TLS_LISTEN", format!("[\"127.0.0.1:{direct}\"]"));
        command.env("STARLING_HTTP_LISTEN", format!("127.0.0.1:{http}")).env("STARLING_LOG_FORMAT", "json");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Starts it; returns when it says that it is ready.
    ///
    /// # Errors
    /// If it does not, with the end of its log.
    pub async fn start(&mut self) -> Result<(), Failure> {
        let (mut command, marker) = match &self.program {
            Program::Starling(program) => (self.starling(program, &["run"]), "\"Ready\""),
            Program::Prosody => {
                let mut command = Command::new("prosody");
                command.arg("-F").arg("--config").arg(self.folder.join("prosody.cfg.lua"));
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
                (command, "Activated service 'c2s'")
            }
        };
        let mut child = command.stdin(Stdio::null()).spawn()?;
        let (ready, mut is_ready) = watch::channel(false);
        let ready = Arc::new(ready);
        if let Some(out) = child.stdout.take() {
            tokio::spawn(read_log(out, Arc::clone(&self.log), Arc::clone(&ready), marker));
        }
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(read_log(errors, Arc::clone(&self.log), ready, marker));
        }
        self.child = Some(child);
        match timeout(PATIENCE, is_ready.wait_for(|ready| *ready)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(format!("the server ended as it started:\n{}", self.log()).into()),
            Err(_) => Err(format!("the server is not ready after {PATIENCE:?}:\n{}", self.log()).into()),
        }
    }

    /// Starts it where it cannot work; whether it ends by itself with an error, in this time.
    ///
    /// # Errors
    /// If it could not be tried.
    pub async fn fails_to_start(&mut self, within: Duration) -> Result<bool, Failure> {
        let Program::Starling(program) = &self.program else { return Err("not of this program".into()) };
        let mut child = self.starling(program, &["run"]).stdin(Stdio::null()).spawn()?;
        let (ready, _) = watch::channel(false);
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(read_log(errors, Arc::clone(&self.log), Arc::new(ready), "\"Ready\""));
        }
        match timeout(within, child.wait()).await {
            Ok(status) => Ok(!status?.success()),
            Err(_) => {
                child.kill().await?;
                Ok(false)
            }
        }
    }

    /// `kill -9`; returns when it is gone.
    ///
    /// # Errors
    /// If it did not run.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        let mut child = self.child.take().ok_or("the server does not run")?;
        if let Some(status) = child.try_wait()? {
            return Err(format!("the server had ended by itself: {status}\n{}", self.log()).into());
        }
        Ok(child.kill().await?)
    }

    /// Asks it to stop, as an operator does; returns when it has.
    ///
    /// # Errors
    /// If it does not stop in time or not in order.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        let pid = self.pid()?.to_string();
        let mut child = self.child.take().ok_or("the server does not run")?;
        Command::new("kill").args(["-s", "TERM", &pid]).status().await?;
        let status = timeout(PATIENCE, child.wait()).await;
        let status = status.map_err(|_| format!("the server does not stop:\n{}", self.log()))??;
        // Prosody re-raises nothing and ends with 0; Starling does too.
        if status.success() { Ok(()) } else { Err(format!("the server stopped with {status}:\n{}", self.log()).into()) }
    }
}

impl Site for Server {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address()]
    }

    async fn make_users(&mut self, count: u32) -> Result<(), Failure> {
        Self::make_users(self, count).await?;
        self.start().await
    }

    fn check(&mut self) -> Result<(), Failure> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(format!("the server ended by itself: {status}\n{}", self.log()).into()),
        }
    }

    async fn end(&mut self, users: u32) -> Result<Option<Rows>, Failure> {
        self.stop().await?;
        let Some(database) = self.database() else { return Ok(None) };
        let store = SqliteStore::open(&database).await?;
        let rows = rows::read(&store, users).await?;
        store.close().await;
        Ok(Some(rows))
    }

    fn panics(&self) -> Vec<String> {
        lock(&self.log.panics).clone()
    }

    fn log(&self) -> String {
        Self::log(self)
    }
}

async fn read_log(from: impl AsyncRead + Unpin, log: Arc<Log>, ready: Arc<watch::Sender<bool>>, marker: &'static str) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let is_ready = line.contains(marker);
        log.take(line);
        if is_ready {
            // Nobody waits any more after the first.
            ready.send_replace(true);
        }
    }
}

/// Three ports that nobody has. From below those that the system gives to clients: one of those that find the server away
/// would get its port, and connect to itself.
fn free_ports() -> Result<[u16; 3], Failure> {
    const FIRST: u16 = 20_000;
    const COUNT: u32 = 10_000;
    let mut random = Random::of(&[u64::from(std::process::id())]);
    let mut ports = [0; 3];
    let mut found = Vec::new();
    for _ in 0..1000 {
        if found.len() == ports.len() {
            break;
        }
        let port = FIRST + u16::try_from(random.below(COUNT))?;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => found.push((port, listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (port, (free, _)) in ports.iter_mut().zip(&found) {
        *port = *free;
    }
    if ports.contains(&0) { Err("no free ports".into()) } else { Ok(ports) }
}
