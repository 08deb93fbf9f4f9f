//! The server's process, from start to end.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread,
};

use super::{as_server, files};

/// Runs the server, and ends it when it is told to, or its standard input ends: then nobody else removes `$0`. Only the
/// server's processes keep the pipe of its log open, so that the pipe's end is theirs.
const KEEPER: &str = "\"$@\" </dev/null 2>&1 & server=$!; exec >/dev/null 2>&1; \
                      read -r told; kill -QUIT $server; wait; [ \"$told\" ] || [ -z \"$0\" ] || rm -rf -- \"$0\"";

/// A server that runs. Dropped, it is ended without ado.
#[derive(Debug)]
pub(super) struct Running {
    keeper: Child,
    /// Ends with the last of the server's processes.
    ended: Receiver<()>,
}

impl Running {
    /// Starts it in `folder`, and returns when it takes connections.
    pub(super) fn start(folder: &Path, settings: &[(String, String)], remove: Option<&Path>) -> Self {
        let server = as_server(&files::program("postgres"));
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER]).arg(remove.unwrap_or_else(|| Path::new("")));
        command.arg(server.get_program()).args(server.get_args()).arg("-D").arg(folder.join("data"));
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // Of a group of its own: what the terminal sends to the test's is not for it.
        command.current_dir(folder).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        let said = keeper.stdout.take().unwrap();
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let (ready, became_ready) = sync_channel(1);
        let (ends, ended) = sync_channel(1);
        thread::spawn(move || read(said, log, &ready, ends));
        let running = Self { keeper, ended };
        // The reader drops its end when the server ends before.
        if became_ready.recv().is_err() {
            panic!("PostgreSQL does not start:\n{}", fs::read_to_string(folder.join("log")).unwrap());
        }
        running
    }

    /// Whether all of its processes have ended.
    pub(super) fn is_over(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Waits for the end of all of its processes, which somebody asked for.
    pub(super) fn wait(self) {
        // Nothing is ever sent.
        self.ended.recv().unwrap_err();
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut told) = self.keeper.stdin.take() {
            told.write_all(b"end\n").ok();
        }
        // The keeper has taken the server's exit status by then: nobody takes its number for that of a process that
        // lives.
        self.keeper.wait().ok();
    }
}

pub(super) fn signal(signal: &str, processes: &[u32]) {
    let numbers = processes.iter().map(u32::to_string);
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$@\"", signal]).args(numbers).output().unwrap();
    // One that has ended meanwhile is no failure.
    drop(sent);
}

/// Copies the log to its file. `ends` is dropped at its end.
fn read(said: ChildStdout, mut log: File, ready: &SyncSender<()>, ends: SyncSender<()>) {
    for line in BufReader::new(said).split(b'\n') {
        let Ok(mut line) = line else { break };
        line.push(b'\n');
        log.write_all(&line).ok();
        if String::from_utf8_lossy(&line).contains("database system is ready to accept") {
            ready.try_send(()).ok();
        }
    }
    drop(ends);
}

/// The children of a process.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let is_child = |number: &u32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state, parent.
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
        fields.split(' ').nth(1) == Some(parent.to_string().as_str())
    };
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(is_child).collect()
}
