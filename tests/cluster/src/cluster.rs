//! The cluster: started as a whole, ended and started again part by part.

mod operations;

use std::{
    fs::DirBuilder,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use futures_util::future::{join_all, try_join_all};
use starling_backends::{Port, postgres::Postgres};
use starling_test_support::{Authority, Identity};
use tempfile::TempDir;

use crate::{Error, Layout, Name, Redis, Result, backends::Database, process::Process, settings::Settings};

/// A cluster. Dropped, all of its processes are killed; see [`Cluster::end`].
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: instances before what they stand on, all of them before their folder.
    instances: Vec<Instance>,
    routers: Vec<Process>,
    redis: Redis,
    database: Database,
    folder: PathBuf,
    _ports: Vec<Port>,
    _temporary: Option<TempDir>,
}

#[derive(Debug)]
struct Instance {
    process: Process,
    starttls: SocketAddr,
    direct_tls: SocketAddr,
}

impl Cluster {
    /// Starts one, and returns when all are ready and see each other.
    ///
    /// # Errors
    /// What hinders a process; nothing is left running then.
    ///
    /// # Panics
    /// If Redis or PostgreSQL does not start.
    pub async fn start_all(layout: &Layout) -> Result<Self> {
        let temporary = match layout.folder {
            Some(_) => None,
            None => Some(temporary()?),
        };
        let folder = layout.folder.clone().or_else(|| Some(temporary.as_ref()?.path().to_owned())).unwrap_or_default();
        let (mut for_redis, mut ports) = (Vec::new(), Vec::new());
        let redis = Redis::start(layout, &folder, &mut for_redis);
        let database = Database::start(layout, &folder, &mut ports);
        let (redis, database) = futures_util::future::join(redis, database).await;
        ports.append(&mut for_redis);
        let mut cluster = Self {
            instances: Vec::new(),
            routers: Vec::new(),
            redis: redis?,
            database: database?,
            folder,
            _ports: Vec::new(),
            _temporary: temporary,
        };
        cluster.lay_out(layout, &mut ports)?;
        cluster._ports = ports;
        cluster.start_processes().await?;
        cluster.whole().await?;
        Ok(cluster)
    }

    /// Writes settings and certificates.
    fn lay_out(&mut self, layout: &Layout, ports: &mut Vec<Port>) -> Result<()> {
        let authority = Authority::new();
        let mut routers = Vec::new();
        for number in 0..layout.routers {
            let [listen, http] = layout.ports.router(number, ports);
            routers.push(listen.to_string());
            let (name, mut settings) = (Name::Router(number), Settings::open()?);
            settings.set("roles", r#"["router"]"#)?;
            settings.set_list("router.listen", &[listen.to_string()])?;
            let process =
                self.process(name, settings, &authority, "router.starling.internal", http, &layout.router_settings)?;
            self.routers.push(process);
        }
        for number in 0..layout.instances {
            let [starttls, direct_tls, http] = layout.ports.instance(number, ports);
            let (name, mut settings) = (Name::C2s(number), Settings::open()?);
            settings.set("roles", r#"["c2s", "session"]"#)?;
            settings.set_list("c2s.starttls.listen", &[starttls.to_string()])?;
            settings.set_list("c2s.direct_tls.listen", &[direct_tls.to_string()])?;
            settings.set_list("link.routers", &routers)?;
            self.redis.describe(&mut settings)?;
            self.database.describe(&mut settings)?;
            let process = self.process(name, settings, &authority, "instance.test", http, &layout.settings)?;
            self.instances.push(Instance { process, starttls, direct_tls });
        }
        Ok(())
    }

    fn process(
        &self,
        name: Name,
        mut settings: Settings,
        authority: &Authority,
        certified: &str,
        http: SocketAddr,
        changes: &[(String, String)],
    ) -> Result<Process> {
        let folder = self.folder.join(name.to_string());
        // Its data are in there.
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(Error::io(name.to_string()))?;
        let Identity { certificate, key, authorities } = authority.issue(&[certified], &folder);
        for (path, file) in [
            ("data", folder.join("data")),
            ("link.tls.certificate", certificate),
            ("link.tls.key", key),
            ("link.tls.ca", authorities),
        ] {
            settings.set_text(path, &file.display().to_string())?;
        }
        settings.set_text("http.listen", &http.to_string())?;
        for (path, value) in changes {
            settings.set(path, value)?;
        }
        let process = Process::new(name, folder, http);
        settings.write(&process.settings())?;
        Ok(process)
    }

    async fn start_processes(&mut self) -> Result<()> {
        try_join_all(self.routers.iter_mut().map(Process::start)).await?;
        // One makes the tables, and the certificate; the others take them.
        let mut instances = self.instances.iter_mut();
        if let Some(first) = instances.next() {
            first.process.start().await?;
        }
        try_join_all(instances.map(|instance| instance.process.start())).await?;
        let http: Vec<_> = self.instances.iter().map(|instance| instance.process.http()).collect();
        let clients = self.instances.iter().flat_map(|instance| [instance.starttls, instance.direct_tls]);
        starling_test_support::clustered(clients, &http.into());
        Ok(())
    }

    /// Ends everything in order: instances, routers, the database, Redis. What is paused goes on for that.
    ///
    /// # Errors
    /// The first that did not end well; all have ended then too.
    pub async fn end(mut self) -> Result<()> {
        let mut result = Ok(());
        for ended in join_all(self.instances.iter_mut().map(|instance| end(&mut instance.process))).await {
            result = result.and(ended);
        }
        for ended in join_all(self.routers.iter_mut().map(end)).await {
            result = result.and(ended);
        }
        if let Ok(server) = self.database.running() {
            server.resume().await;
            server.stop().await;
        }
        if let Ok(server) = self.redis.running() {
            server.resume().await;
            server.stop().await;
        }
        result
    }

    /// Where everything is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All parts, by name.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        let routers = (0..self.routers.len()).map(Name::Router);
        let instances = (0..self.instances.len()).map(Name::C2s);
        routers.chain(instances).chain([Name::Redis, Name::Postgres]).collect()
    }

    /// Instances.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    /// Where streams of this instance begin in the clear.
    ///
    /// # Panics
    /// If there is none of this number; so do the next.
    #[must_use]
    pub fn starttls(&self, instance: usize) -> SocketAddr {
        self.instances.get(instance).expect("an instance").starttls
    }

    /// Where TLS comes first.
    #[must_use]
    pub fn direct_tls(&self, instance: usize) -> SocketAddr {
        self.instances.get(instance).expect("an instance").direct_tls
    }

    /// Redis.
    #[must_use]
    pub const fn redis(&self) -> &Redis {
        &self.redis
    }

    /// The same, to break what is more than one server.
    pub const fn redis_mut(&mut self) -> &mut Redis {
        &mut self.redis
    }

    /// PostgreSQL.
    #[must_use]
    pub const fn postgres(&self) -> &Postgres {
        &self.database.server
    }

    /// The database, and the file with the password for it.
    #[must_use]
    pub fn database(&self) -> (String, &Path) {
        (self.database.url(), self.database.password_file())
    }
}

async fn end(process: &mut Process) -> Result<()> {
    if process.is_running() { process.term().await } else { Ok(()) }
}

/// A folder that the user `postgres` may enter, and that nobody else can look into.
fn temporary() -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = || Error::io("a temporary folder");
    let folder = tempfile::Builder::new().prefix("starling-cluster-").tempdir().map_err(failed())?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).map_err(failed())?;
    Ok(folder)
}
