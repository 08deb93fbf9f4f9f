//! Instances of a registry, and the servers that they share.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use starling_backends::redis::Redis;
use starling_registry::{
    InstanceId, RedisConfig, RedisMode, RedisRegistry, Registry,
    redis::{Guard, RedisTimes},
    suite::Subject,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What takes longer does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An instance.
pub(crate) struct Instance {
    pub(crate) registry: Arc<RedisRegistry>,
    pub(crate) id: InstanceId,
    pub(crate) metrics: prometheus::Registry,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Shorter times than those of a server, and long enough for a busy machine.
pub(crate) fn config(servers: Vec<String>, mode: RedisMode) -> RedisConfig {
    let times = RedisTimes {
        connect: Duration::from_secs(2),
        response: Duration::from_secs(1),
        retry: Duration::from_millis(20),
        retry_at_most: Duration::from_millis(200),
        lease: Duration::from_secs(2),
        renew: Duration::from_millis(250),
        pause: Duration::from_millis(1500),
        discover: Duration::from_millis(500),
        ..RedisTimes::default()
    };
    RedisConfig { servers, mode, times, ..RedisConfig::default() }
}

/// For one server.
pub(crate) fn alone(server: &Redis) -> RedisConfig {
    config(vec![server.address()], RedisMode::Standalone)
}

impl Instance {
    /// Started, and not waited for.
    pub(crate) fn start_guarded(config: &RedisConfig, guard: Arc<dyn Guard>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0x1000);
        // TLS needs one provider for the process, which the program installs when it starts.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let id = InstanceId(LAST.fetch_add(1, Ordering::Relaxed));
        let (tasks, stop, metrics) = (TaskTracker::new(), CancellationToken::new(), prometheus::Registry::new());
        let registry = RedisRegistry::start(config, id, guard, &tasks, &stop, &metrics).unwrap();
        Self { registry: Arc::new(registry), id, metrics, tasks, stop }
    }

    /// Started, and not waited for.
    pub(crate) fn begin(config: &RedisConfig) -> Self {
        Self::start_guarded(config, Arc::new(()))
    }

    /// Ready.
    pub(crate) async fn start(config: &RedisConfig) -> Self {
        let instance = Self::begin(config);
        instance.ready().await;
        instance
    }

    pub(crate) async fn ready(&self) {
        timeout(PATIENCE, self.registry.ready()).await.expect("it never became ready");
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { registry: &*self.registry, instance: self.id }
    }

    /// As if it were killed: nothing is given up.
    pub(crate) async fn crash(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.expect("its tasks do not end");
    }

    /// The orderly end.
    pub(crate) async fn close(self) {
        timeout(PATIENCE, self.registry.close()).await.expect("it does not close");
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.expect("its tasks do not end");
    }

    /// What it has counted.
    pub(crate) fn count(&self, name: &str) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no {name}"));
        let metric = &family.get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }

    /// Waits until everything was written again more often than `before`.
    pub(crate) async fn renewed_since(&self, before: u64) {
        let mut renewals = self.registry.renewals();
        let renewed = renewals.wait_for(|renewals| *renewals > before);
        timeout(PATIENCE, renewed).await.expect("nothing was announced").unwrap();
        self.ready().await;
    }

    pub(crate) fn renewals(&self) -> u64 {
        *self.registry.renewals().borrow()
    }
}

/// A file with a password, and a line's end as editors leave it.
pub(crate) fn secret(folder: &tempfile::TempDir, name: &str, password: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("{password}\n")).unwrap();
    path
}
