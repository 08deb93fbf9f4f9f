//! `starling-operator`, as a process of its own.

use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use crate::{Access, PATIENCE, http, programs};

/// A process that ends with its test.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    /// What it has logged, line by line.
    log: watch::Receiver<Vec<Value>>,
}

impl Operator {
    /// Starts it as a pod of this name and namespace, at a port that was free. What it logs, as JSON, is shown by the test as
    /// well, for whoever reads why that fails.
    pub fn start(access: &Access, namespace: &str, name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(programs::own("starling-operator"));
        command.args(arguments).env("KUBECONFIG", access.file()).kill_on_drop(true);
        command.env("POD_NAMESPACE", namespace).env("POD_NAME", name).env("POD_IPS", "127.0.0.1");
        command.env("STARLING_OPERATOR_LISTEN", "127.0.0.1:0");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}");
                // What a panic says is no JSON.
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sender.send_modify(|log| log.push(line));
            }
        });
        Self { child, log }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits until it has logged this, at the level `info` or above, and returns the line.
    ///
    /// # Panics
    /// After [`PATIENCE`], or if it ends before.
    pub async fn said(&self, message: &str) -> Value {
        let is = |line: &Value| line["message"] == message;
        let mut log = self.log.clone();
        let log = timeout(PATIENCE, log.wait_for(|log| log.iter().any(is))).await;
        let log = log.unwrap_or_else(|_| panic!("it does not say {message:?}"));
        let log = log.unwrap_or_else(|_| panic!("it has ended, and did not say {message:?}"));
        log.iter().find(|line| is(line)).unwrap().clone()
    }

    /// Asks its HTTP port. Returns the status line and the rest of the answer.
    pub async fn get(&self, path: &str) -> (String, String) {
        let address = self.said("Metrics and probes are served").await["address"].as_str().unwrap().to_owned();
        let answer = http::get(address.parse().unwrap(), path).await.unwrap();
        let (status, rest) = answer.split_once("\r\n").unwrap();
        (status.to_owned(), rest.to_owned())
    }

    /// Sends it SIGTERM, as a kubelet does, and waits until it has ended.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub async fn end(mut self) -> ExitStatus {
        assert!(Command::new("kill").arg(self.id().to_string()).status().await.unwrap().success());
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap()
    }
}
