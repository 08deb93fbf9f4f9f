//! One process of `starlingd`.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{Error, Name, PATIENCE, Result, http};

/// A process does not say to others that it is ready: it is asked so often.
const ASKED_EVERY: Duration = Duration::from_millis(20);
/// Of a log, in an error.
const LINES_SHOWN: usize = 20;

/// A process that can be started, ended, and started again.
#[derive(Debug)]
pub(crate) struct Process {
    name: Name,
    /// With its settings, its log and its data.
    folder: PathBuf,
    http: SocketAddr,
    child: Option<Child>,
    paused: bool,
}

impl Process {
    /// One that is not started; its settings are in `folder`.
    pub(crate) const fn new(name: Name, folder: PathBuf, http: SocketAddr) -> Self {
        Self { name, folder, http, child: None, paused: false }
    }

    pub(crate) const fn http(&self) -> SocketAddr {
        self.http
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.folder.join("starling.toml")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Whether it runs: it may have ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        if self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
            self.child = None;
        }
        self.child.is_some()
    }

    /// Whether it runs, and is not stopped.
    pub(crate) fn is_awake(&mut self) -> bool {
        self.is_running() && !self.paused
    }

    pub(crate) fn number(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// Starts it, and returns when it is ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let result = self.becomes_ready().await;
        if result.is_err() {
            // Whoever did not become ready is not left behind.
            self.kill9().await.ok();
        }
        result
    }

    /// Starts it, and returns at once.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        if self.is_running() {
            return Err(Error::Running(self.name));
        }
        let failed = || Error::io(format!("{}", self.name));
        let out = File::options().create(true).append(true).open(self.log()).map_err(failed())?;
        let errors = out.try_clone().map_err(failed())?;
        // It ends with the thread that started it, and what the terminal sends is not for it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(starling_backends::program("starlingd")?)
            .arg("run")
            .process_group(0);
        self.prepare(&mut command);
        command.stdin(Stdio::null()).stdout(out).stderr(errors);
        self.child = Some(command.spawn().map_err(failed())?);
        self.paused = false;
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn becomes_ready(&mut self) -> Result<()> {
        let ready = async {
            while http::get(self.http, "/readyz").await.is_err() {
                let child = self.child.as_mut().ok_or(Error::NotRunning(self.name))?;
                if let Some(status) = child.try_wait().map_err(Error::io(self.name.to_string()))? {
                    return Err(self.ended(status));
                }
                sleep(ASKED_EVERY).await;
            }
            Ok(())
        };
        match timeout(PATIENCE, ready).await {
            Ok(result) => result,
            Err(_) => Err(self.slow("does not become ready")),
        }
    }

    /// `kill -9`; returns when it is gone.
    pub(crate) async fn kill9(&mut self) -> Result<()> {
        let running = if self.is_running() { self.child.take() } else { None };
        let mut child = running.ok_or(Error::NotRunning(self.name))?;
        child.kill().await.map_err(Error::io(self.name.to_string()))
    }

    /// SIGTERM; returns when it has ended, which is an error if it does not say that all went well.
    pub(crate) async fn term(&mut self) -> Result<()> {
        self.signal("TERM").await?;
        if self.paused {
            self.resume().await?;
        }
        // It may have ended by now.
        let mut child = self.child.take().ok_or(Error::NotRunning(self.name))?;
        match timeout(PATIENCE, child.wait()).await {
            Err(_) => {
                child.kill().await.ok();
                Err(self.slow("does not end"))
            }
            Ok(status) => match status.map_err(Error::io(self.name.to_string()))? {
                status if status.success() => Ok(()),
                status => Err(self.ended(status)),
            },
        }
    }

    /// SIGSTOP.
    pub(crate) async fn pause(&mut self) -> Result<()> {
        self.signal("STOP").await?;
        self.paused = true;
        Ok(())
    }

    /// SIGCONT.
    pub(crate) async fn resume(&mut self) -> Result<()> {
        self.signal("CONT").await?;
        self.paused = false;
        Ok(())
    }

    /// Runs another command of the program on the same settings.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let failed = || Error::io(format!("starlingd {}", arguments.join(" ")));
        let mut command = Command::new(starling_backends::program("starlingd")?);
        command.args(arguments);
        self.prepare(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await.map_err(failed())?;
        }
        child.wait_with_output().await.map_err(failed())
    }

    fn prepare(&self, command: &mut Command) {
        // What is set in the environment would count before the file.
        let inherited = std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("STARLING_"));
        command.env_clear().envs(inherited).env("HOSTNAME", self.name.to_string());
        command.arg("--config").arg(self.settings()).current_dir(&self.folder).kill_on_drop(true);
    }

    async fn signal(&mut self, signal: &str) -> Result<()> {
        let number = if self.is_running() { self.number() } else { None };
        let number = number.ok_or(Error::NotRunning(self.name))?;
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$0\" \"$1\"", signal, &number.to_string()]);
        let status = kill.status().await.map_err(Error::io(format!("kill -s {signal}")))?;
        if status.success() { Ok(()) } else { Err(Error::NotRunning(self.name)) }
    }

    fn ended(&self, status: ExitStatus) -> Error {
        Error::Ended { name: self.name, status, log: self.log(), tail: tail(&self.log()) }
    }

    fn slow(&self, what: &'static str) -> Error {
        Error::Slow { name: self.name, what, log: self.log(), tail: tail(&self.log()) }
    }
}

/// The last lines of a file.
fn tail(file: &Path) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines.split_at(lines.len().saturating_sub(LINES_SHOWN)).1.join("\n")
}
