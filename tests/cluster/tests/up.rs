//! A cluster for people, driven as people do. All of it is on ports that are always the same: one test after the other.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use starling_cluster::PATIENCE;
use starling_test_support::{RawClient, Versions, body};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

const PORTS: [u16; 3] = [15222, 16222, 17222];

/// A folder that has the ports for itself, and is left without a process.
struct Folder(TempDir, #[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Folder {
    async fn new() -> Self {
        static PORTS_ARE_OURS: Mutex<()> = Mutex::const_new(());
        let turn = PORTS_ARE_OURS.lock().await;
        let folder = tempfile::tempdir().unwrap();
        // PostgreSQL of a root's cluster has to get in.
        Command::new("chmod").arg("711").arg(folder.path()).status().unwrap();
        Self(folder, turn)
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("cluster")
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling-cluster"));
        command.arg("up").arg("--data").arg(self.data()).args(options).stdin(Stdio::null());
        command
    }

    /// What it prints, on both outputs.
    fn run(&self, options: &[&str]) -> Result<String, String> {
        let output = self.command(options).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = text(&output.stdout) + &text(&output.stderr);
        if output.status.success() { Ok(all) } else { Err(all) }
    }

    fn does(&self, options: &[&str]) -> String {
        self.run(options).unwrap_or_else(|error| panic!("{options:?}: {error}"))
    }

    fn fails(&self, options: &[&str], why: &str) {
        let error = self.run(options).unwrap_err();
        assert!(error.contains(why), "{options:?}: {error}");
    }

    /// Runs one of the commands that are shown to people.
    fn as_shown(&self, shown: &str, line: &str) {
        let command = shown.lines().map(str::trim).find(|shown| shown.contains(line)).unwrap();
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// All processes that work in it, or whose command names it.
    fn processes(&self) -> Vec<u32> {
        let data = self.data();
        let ours = |process: &Path| {
            let within = std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&data));
            let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
            within || String::from_utf8_lossy(&command).contains(&data.display().to_string())
        };
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        all.filter(|entry| ours(&entry.path())).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// What these processes are.
    fn shown(&self) -> Vec<String> {
        let read = |process: u32, file| std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
        let text = |process, file| String::from_utf8_lossy(&read(process, file)).replace('\0', " ");
        let processes = self.processes().into_iter();
        processes.map(|process| text(process, "cmdline") + &text(process, "stat")).collect()
    }

    fn is_empty(&self) {
        assert!(self.processes().is_empty(), "{:?} are left", self.shown());
    }

    async fn until_nothing_is_left(&self) {
        let began = Instant::now();
        while !self.processes().is_empty() {
            assert!(began.elapsed() < PATIENCE, "{:?} are left", self.shown());
            tokio::task::yield_now().await;
        }
    }

    fn keeper(&self) -> u32 {
        let is_keeper = |process: &u32| {
            let command = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("--keep\0")
        };
        self.processes().into_iter().find(is_keeper).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Also when the test has failed; there may be nothing to stop.
        self.run(&["--stop"]).ok();
    }
}

fn signal(signal: &str, process: u32) {
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &process.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// As clients do, tries again while it is told that the server cannot log it in just now.
async fn logged_in(port: u16, user: &str, password: &str) -> RawClient {
    let began = Instant::now();
    loop {
        let mut client = RawClient::connect(SocketAddr::from(([127, 0, 0, 1], port))).await;
        if port % 1000 == 223 {
            client.handshake(Versions::Tls13, &[b"xmpp-client"]).await;
        }
        client.open("localhost").await;
        match client.authenticate("SCRAM-SHA-256", user, password).await {
            Err(condition) if condition == "temporary-auth-failure" && began.elapsed() < PATIENCE => continue,
            result => result.unwrap(),
        }
        client.open("localhost").await;
        client.bind(user).await;
        client.become_available(0).await;
        return client;
    }
}

/// Alice and Bob at two instances, one message each way.
async fn chat(first: u16, second: u16) {
    let (mut alice, mut bob) = (logged_in(first, "alice", "secret1").await, logged_in(second, "bob", "secret2").await);
    alice.send("<message to='bob@localhost/bob' type='chat'><body>Hello, Bob.</body></message>").await;
    assert_eq!(body(&bob.message().await), "Hello, Bob.");
    bob.send("<message to='alice@localhost/alice' type='chat'><body>Hello, Alice.</body></message>").await;
    assert_eq!(body(&alice.message().await), "Hello, Alice.");
    alice.close().await;
    bob.close().await;
}

fn make_accounts(folder: &Folder, shown: &str) {
    let add = shown.lines().map(str::trim).find(|line| line.contains("user add")).unwrap();
    folder.as_shown(shown, "user add");
    let bob = add.replace("secret1", "secret2").replace("alice", "bob");
    folder.as_shown(&bob, "user add");
}

#[tokio::test]
async fn a_detached_cluster_can_be_broken_part_by_part_and_keeps_its_data() {
    let folder = Folder::new().await;
    folder.fails(&["--kill9", "redis"], "No cluster is running");
    let shown = folder.does(&["--detach"]);
    make_accounts(&folder, &shown);
    for (index, port) in PORTS.into_iter().enumerate() {
        chat(port, PORTS[(index + 1) % 3]).await;
        chat(port + 1, PORTS[(index + 2) % 3] + 1).await;
    }
    folder.fails(&["--detach"], "running already");
    folder.fails(&[], "running already");
    folder.fails(&["--kill9", "c2s-3"], "there is no \"c2s-3\"");
    let another = tempfile::tempdir().unwrap();
    Command::new("chmod").arg("711").arg(another.path()).status().unwrap();
    let mut beside = Command::new(env!("CARGO_BIN_EXE_starling-cluster"));
    let output = beside.arg("up").arg("--data").arg(another.path()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && errors.contains("Port 15379 (redis)"), "{errors}");
    for name in ["router-0", "c2s-1", "redis", "postgres"] {
        folder.does(&["--kill9", name]);
        folder.fails(&["--kill9", name], "is not running");
        folder.fails(&["--term", name], "is not running");
        let status = folder.does(&["--status"]);
        assert_eq!(status.lines().filter(|line| line.contains("not running")).count(), 1, "{status}");
        folder.does(&["--start", name]);
        folder.fails(&["--start", name], "is running already");
        chat(PORTS[0], PORTS[1]).await;
        folder.does(&["--restart9", name]);
        chat(PORTS[1], PORTS[2]).await;
        folder.does(&["--term", name]);
        folder.does(&["--start", name]);
        chat(PORTS[2], PORTS[1]).await;
        folder.does(&["--pause", name]);
        folder.does(&["--resume", name]);
        chat(PORTS[1], PORTS[0]).await;
    }
    // Bob is not there: it waits for him, through the end of everything.
    let mut alice = logged_in(PORTS[0], "alice", "secret1").await;
    alice.send("<message to='bob@localhost' type='chat'><body>Later.</body></message>").await;
    alice.expect_nothing().await;
    alice.close().await;
    folder.does(&["--stop"]);
    folder.is_empty();
    folder.does(&["--detach"]);
    let mut bob = logged_in(PORTS[2], "bob", "secret2").await;
    assert_eq!(body(&bob.message().await), "Later.");
    bob.close().await;
    chat(PORTS[2], PORTS[0]).await;
    folder.does(&["--stop"]);
    folder.is_empty();
    folder.fails(&["--stop"], "No cluster is running");
}

/// Returns when it says that it is ready.
fn in_the_foreground(folder: &Folder) -> (Child, String) {
    let mut child = folder.command(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        shown += &(line.unwrap() + "\n");
        if shown.contains("Stop it") {
            return (child, shown);
        }
    }
    child.wait().unwrap();
    panic!("{shown}");
}

#[tokio::test]
async fn a_cluster_in_the_foreground_obeys_another_terminal_and_ends_by_signals() {
    let folder = Folder::new().await;
    let (mut child, shown) = in_the_foreground(&folder);
    make_accounts(&folder, &shown);
    chat(PORTS[0], PORTS[2]).await;
    folder.does(&["--kill9", "c2s-2"]);
    folder.does(&["--restart9", "router-1"]);
    folder.does(&["--start", "c2s-2"]);
    chat(PORTS[0], PORTS[2]).await;
    signal("INT", child.id());
    assert!(child.wait().unwrap().success());
    folder.is_empty();
    for end in ["TERM", "--stop"] {
        let (mut child, _) = in_the_foreground(&folder);
        chat(PORTS[2], PORTS[1]).await;
        // Also what does not answer is ended.
        folder.does(&["--pause", "c2s-0"]);
        folder.does(&["--pause", "postgres"]);
        match end {
            "TERM" => signal("TERM", child.id()),
            _ => drop(folder.does(&["--stop"])),
        }
        assert!(child.wait().unwrap().success());
        folder.is_empty();
    }
}

#[tokio::test]
async fn a_cluster_whose_keeper_was_killed_leaves_nothing_and_starts_again() {
    let folder = Folder::new().await;
    let shown = folder.does(&["--detach"]);
    make_accounts(&folder, &shown);
    chat(PORTS[0], PORTS[1]).await;
    signal("KILL", folder.keeper());
    folder.until_nothing_is_left().await;
    folder.fails(&["--stop"], "has ended without being stopped");
    // The machine has restarted, and PostgreSQL's number belongs to another process of the same user.
    let mut other = Command::new("sleep");
    if is_root() {
        other = Command::new("setpriv");
        other.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--", "sleep"]);
    }
    let mut other = other.arg("1000").spawn().unwrap();
    let data = folder.data().join("postgres/data");
    let stale = format!("{}\n{}\n1\n15432\n\n127.0.0.1\n", other.id(), data.display());
    std::fs::write(data.join("postmaster.pid"), stale).unwrap();
    folder.does(&["--detach"]);
    assert!(other.try_wait().unwrap().is_none(), "who has nothing to do with it was ended");
    other.kill().unwrap();
    other.wait().unwrap();
    chat(PORTS[0], PORTS[1]).await;
    // At once, without waiting for what the killed one leaves.
    signal("KILL", folder.keeper());
    folder.does(&["--detach"]);
    chat(PORTS[0], PORTS[1]).await;
    folder.does(&["--stop"]);
    folder.is_empty();
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}
