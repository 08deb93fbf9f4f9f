//! PostgreSQL: one server on a port of 127.0.0.1, and on a socket beside its data.
//!
//! ```text
//!   Postgres ──┬─ sh, the keeper ──► postgres          the keeper waits for its standard input to end, which it does when
//!              │                       │               this process does, however it does: then it ends the server and
//!              │                       │               removes its folder, if that was a temporary one
//!              └─ reader ◄── log ──────┘               a line says that the server is ready; the end, that no process of it
//!                                                      is left
//!   folder/   data  socket  log
//! ```
//!
//! Superuser is `postgres`, by the socket, without a password. Over TCP everybody needs a password.

mod files;
mod process;

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;

use self::process::Running;

/// Whether its programs are there, and the user as whom it runs if this process is root's.
#[must_use]
pub fn is_installed() -> bool {
    let answers = |program: &str| {
        let mut command = as_server(&files::program(program));
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    ["postgres", "initdb", "psql"].into_iter().all(answers)
}

/// What a server is started with. [`Options::default`]: a temporary folder, a port that is free, fast rather than safe.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where it keeps its data: made if it is not there, used as it is if it is. `None`: a temporary one. If tests run
    /// as root, the server runs as the user `postgres`, who has to be able to enter the folders above.
    pub folder: Option<PathBuf>,
    /// `None`: one that is free.
    pub port: Option<u16>,
    /// Whether what is committed survives the machine's power. What it survives otherwise is the server's end.
    pub fsync: bool,
    /// TLS, without which nobody comes in over TCP then.
    pub tls: Option<Tls>,
    /// Networks (`10.0.0.0/8`) from which it is reached as well, on all addresses of the machine.
    pub networks: Vec<String>,
    /// More settings, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

/// The server's certificate and its key, in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The certificate, and what leads to its authority.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// A server. It ends when this is dropped, or with the process.
#[derive(Clone, Debug)]
pub struct Postgres(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // Fields are dropped in this order: the server before its folder.
    running: Mutex<Option<Running>>,
    folder: PathBuf,
    port: u16,
    options: Options,
    temporary: Option<TempDir>,
}

impl Postgres {
    /// Starts a server, and returns when it takes connections.
    pub async fn start(options: Options) -> Self {
        blocking(move || {
            let (temporary, folder) = match &options.folder {
                Some(folder) => (None, folder.clone()),
                None => {
                    let temporary = files::temporary();
                    let folder = temporary.path().to_owned();
                    (Some(temporary), folder)
                }
            };
            files::prepare(&folder, &options);
            let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let port = options.port.unwrap_or_else(free);
            let server = Self(Arc::new(Inner { running: Mutex::default(), folder, port, options, temporary }));
            server.run();
            server
        })
        .await
    }

    /// Over TCP: `postgres://user@127.0.0.1:port/database`.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.0.port)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The folder of the socket, by which the superuser comes in.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.folder.join("socket")
    }

    /// What the server has said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.0.folder.join("log")).unwrap()
    }

    /// The number of the process that all others of the server are children of.
    #[must_use]
    pub fn postmaster(&self) -> u32 {
        let file = fs::read_to_string(self.0.folder.join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().trim().parse().unwrap()
    }

    /// The numbers of all of its processes.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let postmaster = self.postmaster();
        let mut all = process::children(postmaster);
        all.push(postmaster);
        all
    }

    /// A role that logs in with a password. One that is there gets the password.
    pub async fn role(&self, name: &str, password: &str) {
        let password = password.replace('\'', "''");
        let statement = format!(
            "DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
             ALTER ROLE {name} PASSWORD '{password}'"
        );
        self.sql("postgres", &statement).await;
    }

    /// A new database that belongs to a role, as `template` is: `template1` for an empty one.
    pub async fn database(&self, name: &str, owner: &str, template: &str) {
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {owner} TEMPLATE {template}")).await;
    }

    /// Has the superuser do something; returns the rows, columns separated by `|`.
    pub async fn sql(&self, database: &str, statements: &str) -> String {
        let mut command = Command::new(files::program("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        command.arg("-h").arg(self.socket()).args(["-p", &self.0.port.to_string()]);
        let statements = statements.to_owned();
        blocking(move || {
            // Not as an argument: there may be a password in it, and arguments are for everybody to see.
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut psql = command.spawn().unwrap();
            psql.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
            let output = psql.wait_with_output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            assert!(output.status.success(), "{statements}: {}", text(&output.stderr));
            text(&output.stdout)
        })
        .await
    }

    /// Whether it runs: it may have ended by itself.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let mut running = self.running();
        if running.as_ref().is_some_and(Running::is_over) {
            *running = None;
        }
        running.is_some()
    }

    /// Stops all of its processes from doing anything, without ending them (SIGSTOP): connections stay, and nothing is
    /// answered.
    pub async fn pause(&self) {
        self.signal("STOP").await;
    }

    /// They go on (SIGCONT).
    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, signal: &'static str) {
        let server = self.clone();
        blocking(move || process::signal(signal, &server.processes())).await;
    }

    /// Ends it in order: who is connected is cut, what is committed is written to its files.
    pub async fn stop(&self) {
        self.end("INT", |server| vec![server.postmaster()]).await;
    }

    /// Kills it, and all of its processes, as they stand.
    pub async fn kill9(&self) {
        self.end("KILL", Self::processes).await;
    }

    /// Starts it again after its end: the same data, the same port.
    pub async fn start_again(&self) {
        let server = self.clone();
        blocking(move || server.run()).await;
    }

    async fn end(&self, signal: &'static str, whom: fn(&Self) -> Vec<u32>) {
        let server = self.clone();
        blocking(move || {
            let running = server.running().take().expect("the server runs");
            process::signal(signal, &whom(&server));
            running.wait();
        })
        .await;
    }

    fn run(&self) {
        let Inner { folder, port, options, temporary, .. } = &*self.0;
        let mut settings = vec![
            ("listen_addresses".to_owned(), if options.networks.is_empty() { "127.0.0.1" } else { "*" }.to_owned()),
            ("port".to_owned(), port.to_string()),
            ("unix_socket_directories".to_owned(), folder.join("socket").display().to_string()),
            ("fsync".to_owned(), options.fsync.to_string()),
            ("full_page_writes".to_owned(), options.fsync.to_string()),
            ("max_connections".to_owned(), "200".to_owned()),
            ("ssl".to_owned(), options.tls.is_some().to_string()),
        ];
        settings.extend_from_slice(&options.settings);
        let remove = temporary.is_some().then_some(folder.as_path());
        let running = Running::start(folder, &settings, remove);
        assert!(self.running().replace(running).is_none(), "the server runs already");
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// How the server is run: as the user `postgres` if tests run as root, whom PostgreSQL refuses to serve.
fn as_server(program: &Path) -> Command {
    if files::is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

#[cfg(test)]
mod tests;
