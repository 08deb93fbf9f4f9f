//! What sessions stand on, by the settings: the store, the registry, the link.
//!
//! | settings | store | registry | link |
//! |---|---|---|---|
//! | as they are | SQLite | this process's memory | this process |
//! | `database.url` | PostgreSQL | | |
//! | `redis.servers`, `link.routers` | PostgreSQL | Redis | routers |

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use prometheus::Registry as Metrics;
use starling_link::{Config, Link, LocalLink, RoutedLink, Undriven};
use starling_mtls::{Files, MutualTls};
use starling_registry::{
    InstanceId, MemoryRegistry, RedisConfig, RedisMode, RedisRegistry, Registry, SessionRecord, redis::Guard,
};
use starling_settings::{Database, Link as LinkSettings, Migrate, Redis, Role, Settings};
use starling_store::{
    Store,
    postgres::{self, PgConfig, PgStore},
    sqlite::SqliteStore,
};
use starling_xmpp::{Random, SystemRandom, error::StreamCondition};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{Error, Result, data::DataFolder};

/// Messages in flight that one transaction makes pending.
const RELEASED_AT_ONCE: u32 = 10_000;
/// How long a store that does not answer is left alone.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A number that no run of any process had before.
pub(crate) fn incarnation() -> InstanceId {
    loop {
        let mut bytes = [0; 8];
        SystemRandom.fill(&mut bytes);
        // 0 is nobody.
        if let instance @ 1.. = u64::from_be_bytes(bytes) {
            return InstanceId(instance);
        }
    }
}

/// Opens the store.
pub(crate) async fn store(settings: &Settings, data: &DataFolder, instance: InstanceId) -> Result<Arc<dyn Store>> {
    match postgres(&settings.database, instance) {
        Some(config) => Ok(Arc::new(PgStore::open(&config).await?)),
        None => Ok(Arc::new(SqliteStore::open(&data.database()).await?)),
    }
}

/// How the PostgreSQL database is opened. `None`: there is none.
pub(crate) fn postgres(database: &Database, instance: InstanceId) -> Option<PgConfig> {
    if database.url.is_empty() {
        return None;
    }
    let file = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
    Some(PgConfig {
        url: database.url.clone(),
        password_file: file(&database.password_file),
        ca: file(&database.ca),
        connections: database.connections,
        instance: instance.0,
        migrate: match database.migrate {
            Migrate::Auto => postgres::Migrate::Auto,
            Migrate::Wait => postgres::Migrate::Wait,
        },
    })
}

/// Certificates for the way between processes.
pub(crate) fn tls(link: &LinkSettings) -> Result<Arc<MutualTls>> {
    let files = Files {
        certificate: link.tls.certificate.clone(),
        key: link.tls.key.clone(),
        authorities: link.tls.ca.clone(),
    };
    Ok(Arc::new(MutualTls::open(files)?))
}

/// What is known of who is where.
pub(crate) enum Registered {
    Memory(Arc<MemoryRegistry>),
    Redis(Arc<RedisRegistry>),
}

impl Registered {
    pub(crate) fn registry(&self) -> Arc<dyn Registry> {
        match self {
            Self::Memory(memory) => memory.clone(),
            Self::Redis(redis) => redis.clone(),
        }
    }

    /// By the settings. Redis is waited for.
    pub(crate) async fn open(
        settings: &Settings,
        instance: InstanceId,
        store: &Arc<dyn Store>,
        revoked: &CancellationToken,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        metrics: &Metrics,
    ) -> Result<Self> {
        if settings.redis.servers.is_empty() {
            return Ok(Self::Memory(Arc::new(MemoryRegistry::new())));
        }
        let guard = Arc::new(Sentry { store: store.clone(), revoked: revoked.clone() });
        let redis = RedisRegistry::start(&config(&settings.redis), instance, guard, tasks, stop, metrics)?;
        redis.ready().await;
        Ok(Self::Redis(Arc::new(redis)))
    }
}

fn config(redis: &Redis) -> RedisConfig {
    RedisConfig {
        servers: redis.servers.clone(),
        mode: match redis.mode {
            starling_settings::RedisMode::Standalone => RedisMode::Standalone,
            starling_settings::RedisMode::Sentinel => RedisMode::Sentinel,
            starling_settings::RedisMode::Cluster => RedisMode::Cluster,
        },
        primary: redis.primary.clone(),
        username: redis.username.clone(),
        password_file: redis.password_file.clone(),
        sentinel_password_file: redis.sentinel_password_file.clone(),
        tls: redis.tls,
        ca: redis.ca.clone(),
        key_prefix: redis.key_prefix.clone(),
        ..RedisConfig::default()
    }
}

/// After a pause, or without a lease, others may have taken this instance for dead: the store knows.
struct Sentry {
    store: Arc<dyn Store>,
    revoked: CancellationToken,
}

#[async_trait]
impl Guard for Sentry {
    async fn may_go_on(&self) -> bool {
        loop {
            match self.store.is_revoked().await {
                Ok(false) => return true,
                Ok(true) => {
                    self.revoked.cancel();
                    return false;
                }
                Err(error) => warn!(%error, "Not known whether this process was taken for dead; asked again"),
            }
            sleep(ASK_AGAIN).await;
        }
    }
}

/// The way to other sessions.
pub(crate) enum Linked {
    Alone(Arc<LocalLink>),
    Routed(Arc<RoutedLink>),
}

impl Linked {
    /// By the settings; what is undriven is to be driven.
    pub(crate) fn open(
        settings: &Settings,
        instance: InstanceId,
        metrics: &Metrics,
    ) -> Result<(Self, Option<Undriven>)> {
        let link = &settings.link;
        if link.routers.is_empty() {
            return Ok((Self::Alone(Arc::new(LocalLink::new())), None));
        }
        let roles = settings.roles.iter().map(|role| role.as_str().to_owned());
        let config = Config {
            instance,
            roles: roles.collect(),
            name: std::env::var("HOSTNAME").unwrap_or_else(|_| format!("process {}", std::process::id())),
            routers: link.routers.iter().filter_map(|router| router.parse().ok()).collect(),
            name_servers: link.name_servers.iter().filter_map(|server| server.parse().ok()).collect(),
            tls: tls(link)?,
            router_name: link.tls.router_name.clone(),
        };
        let (routed, undriven) = RoutedLink::new(config, starling_link::Metrics::new(metrics)?);
        Ok((Self::Routed(routed), Some(undriven)))
    }

    pub(crate) fn link(&self) -> Arc<dyn Link> {
        match self {
            Self::Alone(local) => local.clone(),
            Self::Routed(routed) => routed.clone(),
        }
    }

    /// The sessions of this process.
    pub(crate) fn local(&self) -> Arc<LocalLink> {
        match self {
            Self::Alone(local) => local.clone(),
            Self::Routed(routed) => routed.local().clone(),
        }
    }
}

/// What an earlier run of the only process had when it ended without a word, it has no more.
pub(crate) async fn release_all(store: &dyn Store, is_ours_alone: bool) -> Result<(), Error> {
    if !is_ours_alone {
        // Others may be alive: whoever finds one dead releases what it had.
        return Ok(());
    }
    let mut accounts = 0;
    for holder in [0].into_iter().chain(store.others().await?) {
        store.revoke(holder).await?;
        while let released = store.release(holder, RELEASED_AT_ONCE).await?.len()
            && released > 0
        {
            accounts += released;
        }
    }
    if accounts > 0 {
        info!(accounts, "Messages that were on their way when the server ended wait for their recipients");
    }
    Ok(())
}

/// Ends sessions whose resource somebody else had bound by the time that Redis was back.
pub(crate) async fn end_lost(redis: Arc<RedisRegistry>, link: Arc<dyn Link>, own: InstanceId) {
    loop {
        for lost in redis.lost().await {
            warn!(full = %lost.full, "Session lost to another while Redis was away");
            let record = SessionRecord::new(lost.full, lost.id, own);
            link.close(&record, StreamCondition::Conflict.into());
        }
    }
}

/// Whether this process runs sessions, or forwards alone.
pub(crate) fn has_sessions(settings: &Settings) -> bool {
    settings.roles.iter().any(|role| *role != Role::Router)
}
