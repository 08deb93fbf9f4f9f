//! A server of several processes: instances for clients, one router, and PostgreSQL and Redis as they are.
//!
//! ```text
//!   Backends ── PostgreSQL: a template with the accounts, a database for each cluster
//!       │   └── Redis: a key prefix for each cluster
//!       └─ Cluster ── router ◄── instances ◄── clients
//! ```
//!
//! The backends end this process if they do not start: see `tests/backends`.

mod counters;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use starling_backends::{
    postgres::{self, Postgres},
    redis::{self, Redis},
};
use starling_stream::connect::Security;
use starling_test_support::{Authority, Identity};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

pub(crate) use self::counters::{Counted, Counters};
use crate::{
    Failure, archive,
    process::Watched,
    starlingd::{Starlingd, Start},
    target::Target,
};

/// The role that owns the databases; its password goes to a file.
const ROLE: &str = "starling";
const PASSWORD: &str = "the-password-of-the-load";
/// The database that has the accounts.
const TEMPLATE: &str = "accounts";
/// Connections of each instance, as it comes.
const CONNECTIONS: usize = 12;
/// Instances of all clusters of a run, and more.
const MOST_INSTANCES: usize = 16;
/// For what takes a moment on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what tells nobody that it has changed.
const LOOK: Duration = Duration::from_millis(50);

/// What clusters stand on.
pub(crate) struct Backends {
    program: PathBuf,
    postgres: Postgres,
    redis: Redis,
    redis_pid: u32,
    authority: Authority,
    password: PathBuf,
    clusters: usize,
    folder: TempDir,
}

impl Backends {
    /// With so many accounts. To be awaited where it will be dropped: Redis ends with the thread that started it.
    pub(crate) async fn start(program: &Path, accounts: usize) -> Result<Self, Failure> {
        let settings = vec![("max_connections".to_owned(), (MOST_INSTANCES * CONNECTIONS + 20).to_string())];
        // What is committed is on disk, as it would be anywhere.
        let options = postgres::Options { settings, fsync: true, ..postgres::Options::default() };
        let postgres = Postgres::start(options).await;
        postgres.role(ROLE, PASSWORD).await;
        postgres.database(TEMPLATE, ROLE, "template1").await;
        let redis = Redis::start(redis::Options::default()).await;
        let about = redis.command(&["INFO", "server"]).await;
        let pid = about.lines().find_map(|line| line.trim().strip_prefix("process_id:"));
        let redis_pid = pid.ok_or("Redis does not say which process it is")?.parse()?;
        let folder = tempfile::tempdir()?;
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD)?;
        let (program, authority) = (program.to_owned(), Authority::new());
        let backends = Self { program, postgres, redis, redis_pid, authority, password, clusters: 0, folder };
        let importer = Start::new(&backends.program, &backends.folder.path().join("importer"));
        backends.on_database(importer, TEMPLATE).import(accounts).await?;
        Ok(backends)
    }

    fn on_database(&self, start: Start, name: &str) -> Start {
        start
            .set("DATABASE_URL", self.postgres.url(ROLE, name))
            .set("DATABASE_PASSWORD_FILE", self.password.display().to_string())
    }

    fn identified(&self, start: Start, name: &str) -> Result<Start, Failure> {
        std::fs::create_dir_all(&start.data)?;
        let Identity { certificate, key, authorities } = self.authority.issue(&[name], &start.data);
        Ok(start
            .set("LINK_TLS_CERTIFICATE", certificate.display().to_string())
            .set("LINK_TLS_KEY", key.display().to_string())
            .set("LINK_TLS_CA", authorities.display().to_string()))
    }

    /// A cluster of so many instances, on a database of its own, once all of them see each other.
    pub(crate) async fn cluster(&mut self, instances: usize, archive: bool) -> Result<Cluster, Failure> {
        self.clusters += 1;
        let name = format!("cluster{}", self.clusters);
        let folder = self.folder.path().join(&name);
        self.postgres.database(&name, ROLE, TEMPLATE).await;
        let router = Start::new(&self.program, &folder.join("router"))
            .set("ROLES", "[\"router\"]")
            .set("ROUTER_LISTEN", "[\"127.0.0.1:0\"]");
        let router = self.identified(router, "router.starling.internal")?.run().await?;
        let routers = format!("[\"{}\"]", router.address("router")?);
        let mut pods = Vec::new();
        for number in 0..instances {
            let start = Start::new(&self.program, &folder.join(format!("pod-{number}")))
                .set("DATABASE_CONNECTIONS", CONNECTIONS.to_string())
                .set("REDIS_SERVERS", format!("[\"{}\"]", self.redis.address()))
                .set("REDIS_KEY_PREFIX", &name)
                .set("LINK_ROUTERS", &routers)
                .set("ARCHIVE_ENABLED", archive.to_string());
            let start = self.on_database(start, &name);
            pods.push(self.identified(start, &format!("pod-{number}.test"))?.run().await?);
        }
        let watched = pods.iter().chain([&router]).map(|process| Watched::Process(process.pid));
        let backends = [Watched::Process(self.redis_pid), Watched::Family(self.postgres.postmaster())];
        let watched = watched.chain(backends).collect();
        let cluster = Cluster { name, archive, pods, router, watched };
        cluster.until_whole().await?;
        Ok(cluster)
    }

    /// Everything that the cluster's processes and Redis count.
    pub(crate) async fn counters(&self, cluster: &Cluster) -> Result<Counters, Failure> {
        let mut pods = Vec::new();
        for pod in &cluster.pods {
            pods.push(Counted::metrics(&pod.metrics().await?));
        }
        let router = Counted::metrics(&cluster.router.metrics().await?);
        let redis = Counted::commands(&self.redis.command(&["INFO", "commandstats"]).await);
        Ok(Counters { pods, router, redis })
    }

    /// How many archived rows there are of messages since then, once there are as many as `expected`, or it has taken too
    /// long. Asked of the database itself: a store that comes and goes looks like an instance that has died.
    pub(crate) async fn archived(&self, cluster: &Cluster, since: SystemTime, expected: u64) -> Result<u64, Failure> {
        let since = archive::id_at(since)?;
        let count = format!("SELECT count(*) FROM message WHERE archived AND id > '{since}'");
        let end = Instant::now() + PATIENCE;
        loop {
            // Writers are behind what they write for, and tell nobody here.
            let rows = self.postgres.sql(&cluster.name, &count).await.parse()?;
            if rows >= expected || Instant::now() > end {
                return Ok(rows);
            }
            sleep(LOOK).await;
        }
    }
}

/// Processes that run until this is dropped.
pub(crate) struct Cluster {
    /// Of its database, and of its keys.
    name: String,
    pub(crate) archive: bool,
    pub(crate) pods: Vec<Starlingd>,
    router: Starlingd,
    /// The instances in their order, the router, Redis, PostgreSQL.
    pub(crate) watched: Vec<Watched>,
}

impl Cluster {
    /// Where clients connect: the instances in their order.
    pub(crate) fn targets(&self) -> Result<Vec<Target>, Failure> {
        let target = |pod: &Starlingd| Target::xmpp(pod.address("c2s-starttls")?, Security::None, None, "localhost");
        self.pods.iter().map(target).collect()
    }

    async fn until_whole(&self) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        for pod in &self.pods {
            loop {
                let counted = Counted::metrics(&pod.metrics().await?);
                let others = counted.get("starling_link_instances");
                if counted.get("starling_link_routers") == 1 && others as usize == self.pods.len() - 1 {
                    break;
                }
                if Instant::now() > end {
                    return Err(format!("an instance sees {others} others, and not {}", self.pods.len() - 1).into());
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }
}
