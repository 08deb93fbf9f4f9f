//! Children that end with this process, however it ends, and the folder that goes with the last of them.
//!
//! ```text
//!   this process ─── pipe ──► keeper (sh) ──► server      the pipe ends: the keeper kills its server, and ends
//!        │                      │
//!        └────── pipe ◄─────────┘
//!                 └──► caretaker (sh)                      nobody has this pipe open any more: the folder goes
//! ```

use std::{
    fs,
    io::{PipeWriter, pipe},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Runs `"$@"`, with `$0` for its log, until standard input ends. If the server ends before, so does the keeper.
const KEEPER: &str = "exec 3<&0 2>/dev/null; \"$@\" </dev/null >>\"$0\" 2>&1 3<&- & server=$!; \
                      (read -r _ <&3; kill -KILL $server) & reader=$!; wait $server; kill $reader";

const CARETAKER: &str = "read -r _; rm -rf -- \"$0\"";

/// A temporary folder. It goes when this and all [`Process`]es in it have gone, with this process or without it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    open: Option<PipeWriter>,
    caretaker: Child,
}

impl Folder {
    pub(crate) fn temporary() -> Self {
        let (ends, open) = pipe().unwrap();
        let path = tempfile::Builder::new().prefix("starling-kube-").tempdir().unwrap().keep();
        let mut command = Command::new("sh");
        command.args(["-c", CARETAKER]).arg(&path).current_dir("/").process_group(0);
        let caretaker = command.stdin(ends).stdout(Stdio::null()).spawn().unwrap();
        Self { path, open: Some(open), caretaker }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.open.take());
        self.caretaker.wait().ok();
    }
}

/// A server that runs. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    keeper: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program, which logs to a file of its name in `folder`.
    pub(crate) fn start(folder: &Folder, program: &Path, flags: &[String]) -> Self {
        let log = folder.path.join(program.file_name().unwrap()).with_extension("log");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER]).arg(&log).arg(program).args(flags);
        // Of a group of its own: what the terminal sends to the test's is not for it.
        command.current_dir(&folder.path).process_group(0).stdin(Stdio::piped());
        let open = folder.open.as_ref().unwrap().try_clone().unwrap();
        Self { keeper: command.stdout(open).spawn().unwrap(), log }
    }

    /// # Panics
    /// If it has ended: with its log.
    pub(crate) fn assert_runs(&mut self) {
        if self.keeper.try_wait().unwrap().is_some() {
            panic!("it has ended:\n{}", self.log_end());
        }
    }

    /// The last lines of its log.
    pub(crate) fn log_end(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(30)).map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        os::unix::fs::OpenOptionsExt as _,
    };

    use super::*;

    fn script(folder: &Folder, name: &str, text: &str) -> PathBuf {
        let path = folder.path().join(name);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o700).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    #[test]
    fn a_server_ends_with_its_process_and_the_folder_with_the_server() {
        let folder = Folder::temporary();
        let fifo = folder.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let program = script(&folder, "server", "#!/bin/sh\nexec sleep 1000 > fifo\n");
        let process = Process::start(&folder, &program, &[]);
        let mut reader = fs::File::open(&fifo).unwrap();
        drop(process);
        // The pipe's only writer was the server.
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
        let path = folder.path().to_owned();
        assert!(path.exists());
        drop(folder);
        assert!(!path.exists());
    }

    const KILLED: &str = "STARLING_TEST_KUBE_KILLED";

    #[test]
    fn a_process_that_is_killed_leaves_neither_server_nor_folder() {
        if std::env::var_os(KILLED).is_some() {
            let folder = Folder::temporary();
            let program = script(&folder, "server", "#!/bin/sh\nexec sleep 1000\n");
            let _process = Process::start(&folder, &program, &[]);
            println!("\nstarted {}", folder.path().display());
            loop {
                std::thread::park();
            }
        }
        let test = "process::tests::a_process_that_is_killed_leaves_neither_server_nor_folder";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", test, "--nocapture"]).env(KILLED, "1");
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let started = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("started ").map(PathBuf::from));
        let folder = started.expect("it starts");
        assert!(folder.exists());
        child.kill().unwrap();
        // The caretaker has it last, and waits for the keepers, who wait for their servers.
        child.stderr.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
        assert!(!folder.exists());
        child.wait().unwrap();
    }

    #[test]
    #[should_panic(expected = "no such flag")]
    fn a_server_that_ends_early_is_noticed_with_what_it_said() {
        let folder = Folder::temporary();
        let program = script(&folder, "server", "#!/bin/sh\necho no such flag\n");
        let mut process = Process::start(&folder, &program, &[]);
        // Not by the pipe's end: `wait` would close it.
        let pipe = process.keeper.stdin.take();
        process.keeper.wait().unwrap();
        drop(pipe);
        process.assert_runs();
    }
}
