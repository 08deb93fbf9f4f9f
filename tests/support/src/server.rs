//! `starlingd`: one process in a data folder of its own, or a cluster of them, by the layout that the environment names.

mod accounting;
mod layout;
mod process;
mod quiet;
mod rows;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Output},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tempfile::TempDir;
use tokio::{task::yield_now, time::timeout};

pub use self::quiet::clustered;
pub(crate) use self::quiet::{is_clustered, quiet};
use self::{
    layout::{Cluster, INSTANCES, Layout},
    process::{Place, Process, set, value},
};
use crate::PATIENCE;

/// What a server is started with.
pub struct Builder {
    folder: TempDir,
    users: String,
    variables: Vec<(String, String)>,
    /// Of a cluster.
    instances: usize,
}

impl Builder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        Self { folder, users: String::new(), variables: Vec::new(), instances: INSTANCES }
            .set("data", &data)
            .set("log.format", "json")
            .set("http.listen", "127.0.0.1:0")
            .set("c2s.starttls.listen", r#"["127.0.0.1:0"]"#)
            .set("c2s.starttls.required", "false")
            .set("c2s.direct_tls.listen", r#"["127.0.0.1:0"]"#)
            .set("auth.mechanisms_without_tls", r#"["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]"#)
            .set("auth.iterations", "4096")
    }

    /// Sets `path` (as in the settings' file, joined by points) to `value` (TOML for lists). The last one counts.
    #[must_use]
    pub fn set(mut self, path: &str, value: &str) -> Self {
        set(&mut self.variables, path, value);
        self
    }

    /// An account that exists when the server starts.
    #[must_use]
    pub fn user(mut self, address: &str, password: &str) -> Self {
        self.users.push_str(&format!("{address} {password}\n"));
        self
    }

    /// Starts it; returns when it says that it is ready.
    pub async fn start(self) -> Server {
        self.start_as(Layout::of_environment()).await
    }

    /// The same, for what holds for each process by itself: of a cluster, there is only one instance.
    pub async fn start_one(mut self) -> Server {
        self.instances = 1;
        self.start().await
    }

    async fn start_as(self, layout: Layout) -> Server {
        let Self { folder, users, variables, instances: count } = self;
        let mut place = Place { folder: folder.path().to_owned(), variables };
        let cluster = match layout {
            Layout::Single => None,
            Layout::Cluster(backends) => Some(Cluster::start(&backends, &mut place).await),
        };
        if !users.is_empty() {
            let output = place.run(&["user", "import", "-"], &users);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "import: {} {errors}", output.status);
        }
        let instances = match &cluster {
            None => vec![Process::start(place).await],
            Some(cluster) => cluster.instances(place, count).await,
        };
        Server { instances, cluster, next: AtomicUsize::new(0), _folder: folder }
    }
}

/// A running server; killed when it is dropped. Of a cluster, clients go to one instance after the other, and what is counted is
/// counted over all of them.
///
/// Before that its accounting is checked: every stanza that it received has ended in exactly one counter.
pub struct Server {
    // Dropped in this order.
    instances: Vec<Process>,
    cluster: Option<Cluster>,
    next: AtomicUsize,
    _folder: TempDir,
}

impl Server {
    /// Ports that the system chooses, log-in without TLS allowed, otherwise the defaults.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// How many instances there are.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    /// Where streams begin in the clear: of the instances, each in turn.
    pub fn starttls(&self) -> SocketAddr {
        self.next().address("c2s-starttls")
    }

    /// Where TLS comes first, likewise.
    pub fn direct_tls(&self) -> SocketAddr {
        self.next().address("c2s-direct-tls")
    }

    fn next(&self) -> &Process {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.instances[next % self.instances.len()]
    }

    /// Metrics and health, of one instance.
    pub fn http(&self) -> SocketAddr {
        self.instances[0].address("http")
    }

    /// The self-signed certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.instances[0].data().join("tls/self-signed.crt")
    }

    /// Runs another command of the program on the same settings, with `input` as its standard input, to its end.
    pub fn run(&self, arguments: &[&str], input: &str) -> Output {
        self.instances[0].place.run(arguments, input)
    }

    /// Everything it has printed.
    pub fn logs(&self) -> String {
        self.instances.iter().map(Process::logs).collect()
    }

    /// Waits for an event with this message, also one of the past, of any instance.
    pub async fn wait_for_log(&mut self, message: &str) {
        if let [only] = &mut self.instances[..] {
            return only.wait_for_log(message).await;
        }
        let logged = async {
            while !self.instances.iter().any(|instance| instance.has_logged(message)) {
                yield_now().await;
            }
        };
        assert!(timeout(PATIENCE, logged).await.is_ok(), "no {message:?} in\n{}", self.logs());
    }

    /// The text of `/metrics`, of all instances.
    pub async fn metrics(&self) -> String {
        let mut all = String::new();
        for instance in &self.instances {
            all.push_str(&instance.metrics().await);
        }
        all
    }

    /// One metric by its name with labels, as it is printed; the sum over all instances. 0 while it is nowhere.
    async fn sum(&self, name: &str) -> Option<f64> {
        let mut sum = None;
        for instance in &self.instances {
            if let Some(value) = value(&instance.metrics().await, name) {
                *sum.get_or_insert(0.0) += value;
            }
        }
        sum
    }

    /// One metric by its name with labels, as it is printed; the sum over all instances.
    pub async fn metric(&self, name: &str) -> f64 {
        match self.sum(name).await {
            Some(sum) => sum,
            None => panic!("no {name} in\n{}", self.metrics().await),
        }
    }

    /// Waits until a metric, named as for [`Server::metric`], is as `wanted` says; 0 while it is not there. Its value.
    pub async fn until(&self, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let polled = async {
            loop {
                let value = self.sum(name).await.unwrap_or_default();
                if wanted(value) {
                    return value;
                }
                yield_now().await;
            }
        };
        match timeout(PATIENCE, polled).await {
            Ok(value) => value,
            Err(_) => panic!("{name} is not as wanted in\n{}", self.metrics().await),
        }
    }

    /// What it has allocated.
    pub fn memory_kib(&self) -> u64 {
        self.instances.iter().map(Process::memory_kib).sum()
    }

    /// The process; of a cluster, one of them.
    pub fn process(&self) -> u32 {
        self.instances[0].id()
    }

    /// Asks it to stop, as an operator does.
    pub fn terminate(&self) {
        self.instances.iter().for_each(Process::terminate);
    }

    /// Ends it without asking.
    pub fn kill(&mut self) {
        self.instances.iter_mut().for_each(Process::kill);
    }

    /// Ends it without asking (SIGKILL), and waits until it is gone.
    pub fn kill9(&mut self) {
        self.instances.iter_mut().for_each(Process::kill9);
    }

    /// Starts it again on the same data folder, settings and ports. It must have ended.
    pub async fn start_again(&mut self) {
        for instance in &mut self.instances {
            instance.start_again(self.cluster.is_none()).await;
        }
        if let Some(cluster) = &self.cluster {
            cluster.is_whole(&self.instances).await;
        }
    }

    /// Changes a setting, as [`Builder::set`], for the next [`Server::start_again`].
    pub fn set(&mut self, path: &str, value: &str) {
        for instance in &mut self.instances {
            set(&mut instance.place.variables, path, value);
        }
    }

    /// Waits for it to end by itself. The first status that is no success, if there is one.
    pub async fn wait(&mut self) -> ExitStatus {
        let mut statuses = Vec::new();
        for instance in &mut self.instances {
            statuses.push(instance.wait().await);
        }
        statuses.iter().find(|status| !status.success()).copied().unwrap_or(statuses[0])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that has failed says why by itself.
        if !thread::panicking() {
            self.check_accounting();
        }
    }
}
