//! A child, and what it says.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child that ends with the thread that started it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Counts what was said.
    said: watch::Receiver<u64>,
}

impl Process {
    /// Starts `program` with a configuration, which is written into `folder` under `name`, for nobody else to read.
    pub(super) async fn start(program: &str, folder: &Path, name: &str, configuration: &str) -> Self {
        let file = folder.join(name);
        let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file).unwrap();
        open.write_all(configuration.as_bytes()).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).arg(&file).current_dir(folder);
        // Of a group of its own: what the terminal sends to the test's is not for it.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, said) = watch::channel(0);
        let log = Arc::new(Mutex::new(String::new()));
        let own = Arc::clone(&log);
        let mut kept = OpenOptions::new().append(true).create(true).open(folder.join("log")).unwrap();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                // A disk that is full stops no test.
                writeln!(kept, "{line}").ok();
                let mut log = own.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
                drop(log);
                sender.send_modify(|count| *count += 1);
            }
        });
        Self { child, log, said }
    }

    pub(super) fn number(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has said this.
    pub(super) async fn says(&self, what: &str) {
        self.says_times(what, 1).await;
    }

    /// Waits until it has said this so many times.
    pub(super) async fn says_times(&self, what: &str, times: usize) {
        let mut said = self.said.clone();
        let log = || self.log.lock().unwrap().clone();
        let wait = said.wait_for(|_| self.log.lock().unwrap().matches(what).count() >= times);
        match timeout(PATIENCE, wait).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => panic!("it ended without having said “{what}”:\n{}", log()),
            Err(_) => panic!("it does not say “{what}”:\n{}", log()),
        }
    }

    pub(super) async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
        assert!(status.success());
    }

    pub(super) async fn kill9(mut self) {
        self.child.kill().await.unwrap();
    }

    pub(super) async fn stop(mut self) {
        self.signal("TERM").await;
        timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
    }
}
