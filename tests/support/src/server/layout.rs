//! How many processes a server is. By `STARLING_LAYOUT`:
//!
//! - nothing: one process, with everything in its data folder.
//! - `cluster`: two routers and three instances, on the PostgreSQL and the Redis that `STARLING_TEST_…` name; whoever runs the
//!   tests has started them (`starling-cluster test`). Each server has a database and a key prefix of its own.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use starling_store::{Migrate, PgConfig, PgStore};
use tokio::{task::yield_now, time::timeout};

use super::{
    process::{Place, Process, set, value},
    quiet,
};
use crate::{Authority, Identity, PATIENCE};

const ROUTERS: usize = 2;
pub(super) const INSTANCES: usize = 3;

/// See the module.
pub(super) enum Layout {
    Single,
    Cluster(Backends),
}

/// What runs already.
pub(super) struct Backends {
    /// The folder of PostgreSQL's socket, by which the superuser comes in, and its port.
    postgres: (String, String),
    /// The role that owns the databases, and the file with its password.
    role: String,
    password: PathBuf,
    /// Servers and mode, as in the settings.
    redis: (String, String),
}

impl Layout {
    pub(super) fn of_environment() -> Self {
        let named = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        match env::var("STARLING_LAYOUT").as_deref() {
            Err(_) | Ok("" | "single") => Self::Single,
            Ok("cluster") => Self::Cluster(Backends {
                postgres: (named("STARLING_TEST_POSTGRES_SOCKET"), named("STARLING_TEST_POSTGRES_PORT")),
                role: named("STARLING_TEST_POSTGRES_ROLE"),
                password: named("STARLING_TEST_POSTGRES_PASSWORD_FILE").into(),
                redis: (named("STARLING_TEST_REDIS_SERVERS"), named("STARLING_TEST_REDIS_MODE")),
            }),
            Ok(other) => panic!("STARLING_LAYOUT is {other:?}: no such layout"),
        }
    }
}

impl Backends {
    fn sql(&self, statement: &str) {
        let (socket, port) = &self.postgres;
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-h", socket, "-p", port, "-U", "postgres", "-d", "postgres", "-c", statement]);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The processes of a cluster besides its instances.
pub(super) struct Cluster {
    routers: Vec<Process>,
    database: Database,
}

struct Database {
    backends: Backends,
    name: String,
}

impl Cluster {
    /// Makes a database, starts routers, and makes `place` one of an instance with them.
    pub(super) async fn start(backends: &Backends, place: &mut Place) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let backends = Backends {
            postgres: backends.postgres.clone(),
            role: backends.role.clone(),
            password: backends.password.clone(),
            redis: backends.redis.clone(),
        };
        let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let database = Database::make(backends, name);
        let folder = place.folder.clone();
        identify(&mut place.variables, &folder.join("instance"), "instance.test");
        let mut routers = Vec::new();
        for number in 0..ROUTERS {
            routers.push(Process::start(router(&folder.join(format!("router-{number}")))).await);
        }
        let found: Vec<_> = routers.iter().map(|router| router.address("router").to_string()).collect();
        let variables = &mut place.variables;
        let Database { backends, name } = &database;
        set(variables, "link.routers", &format!("{found:?}"));
        set(variables, "database.url", &database.url());
        set(variables, "database.password_file", &backends.password.display().to_string());
        set(variables, "database.connections", "6");
        set(variables, "redis.servers", &format!("{:?}", backends.redis.0.split(',').collect::<Vec<_>>()));
        set(variables, "redis.mode", &backends.redis.1);
        set(variables, "redis.key_prefix", name);
        Self { routers, database }
    }

    /// Starts instances that differ in their folders alone.
    pub(super) async fn instances(&self, first: Place, count: usize) -> Vec<Process> {
        let mut places = Vec::new();
        for number in 1..count {
            let mut place = first.clone();
            set(&mut place.variables, "data", &place.folder.join(format!("data-{number}")).display().to_string());
            places.push(place);
        }
        let mut instances = vec![Process::start(first).await];
        for place in places {
            // Clients that check it check that of the first.
            let tls = instances[0].data().join("tls");
            if tls.exists() {
                let data = place.variables.iter().find(|(name, _)| name == "STARLING_DATA").unwrap();
                copy_folder(&tls, &Path::new(&data.1).join("tls"));
            }
            instances.push(Process::start(place).await);
        }
        self.is_whole(&instances).await;
        instances
    }

    /// Waits until everybody is attached to all routers, and sees all others.
    pub(super) async fn is_whole(&self, instances: &[Process]) {
        let http: Arc<[_]> = instances.iter().map(|instance| instance.address("http")).collect();
        let clients = ["c2s-starttls", "c2s-direct-tls"].into_iter();
        let clients = clients.flat_map(|role| instances.iter().filter_map(move |instance| instance.listens_on(role)));
        quiet::clustered(clients, &http);
        for instance in instances {
            let whole = async {
                loop {
                    let text = instance.metrics().await;
                    let is = |name, count: usize| value(&text, name) == Some(count as f64);
                    if is("starling_link_routers", self.routers.len())
                        && is("starling_link_instances", instances.len() - 1)
                    {
                        return;
                    }
                    yield_now().await;
                }
            };
            assert!(timeout(PATIENCE, whole).await.is_ok(), "not whole\n{}", instance.logs());
        }
    }

    /// The database, beside the server.
    pub(super) async fn store(&self) -> PgStore {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let config = PgConfig {
            url: self.database.url(),
            password_file: Some(self.database.backends.password.clone()),
            ca: None,
            connections: 4,
            // No process makes such a number but by an unlikely chance.
            instance: NEXT.fetch_add(1, Ordering::Relaxed),
            migrate: Migrate::Wait,
        };
        PgStore::open(&config).await.unwrap()
    }
}

impl Database {
    fn make(backends: Backends, name: String) -> Self {
        backends.sql(&format!("CREATE DATABASE {name} OWNER {} TEMPLATE starling_template", backends.role));
        Self { backends, name }
    }

    fn url(&self) -> String {
        format!("postgres://{}@127.0.0.1:{}/{}", self.backends.role, self.backends.postgres.1, self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.backends.sql(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

/// A certificate of the one authority of this test.
fn identify(variables: &mut Vec<(String, String)>, folder: &Path, name: &str) {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    std::fs::create_dir_all(folder).unwrap();
    let Identity { certificate, key, authorities } = AUTHORITY.get_or_init(Authority::new).issue(&[name], folder);
    for (path, file) in [("certificate", certificate), ("key", key), ("ca", authorities)] {
        set(variables, &format!("link.tls.{path}"), &file.display().to_string());
    }
}

fn router(folder: &Path) -> Place {
    let mut variables = Vec::new();
    identify(&mut variables, folder, "router.starling.internal");
    for (path, value) in [
        ("roles", r#"["router"]"#),
        ("log.format", "json"),
        ("http.listen", "127.0.0.1:0"),
        ("router.listen", r#"["127.0.0.1:0"]"#),
    ] {
        set(&mut variables, path, value);
    }
    Place { folder: folder.to_owned(), variables }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
