//! The registry of many processes, in Redis: standalone, watched by sentinels, or a cluster; Valkey alike.
//!
//! ```text
//!              ┌── local ── this instance's own sessions: the truth about them ──┐
//!   calls ──►  │                                                                 ├─► wire ──► node ── link ──► Redis
//!  (sessions,  └── cache ── what others have, while Redis tracks it ◄──────────────── pushes ◄───────┘
//!   streams,                                                                          ▲
//!   membership)                                                     topology ─────────┘
//!
//!   tasks: discovery   who can be written to: topology, by which nodes come and go
//!          link        one for each connection: makes it again
//!          membership  the lease, each second
//!          announcer   makes Redis say what is true here, wherever it may not
//! ```
//!
//! | what | costs |
//! |---|---|
//! | `bind` | one round trip: index and script, in a pipeline (in a cluster: two nodes at once) |
//! | `update`, also of presence; `unbind` | one script; none where nothing changes |
//! | `cached` | nothing: no lock, no wait |
//! | `sessions` | one read (and a word to have it tracked) |
//! | `sessions_of` | one pipeline for each node, for all that is not cached |
//! | `with_presence` | one pipeline for each node, two reads for each account |
//! | `save_streams` | one pipeline for each node |
//! | `take_stream`, `settle_stream` | one round trip: index and script |
//! | an instance that does nothing | two commands a second, and one for each node of a cluster |
//!
//! **Redis away.** What fails once fails at once from then on, until the connection is back: nobody waits longer than the
//! time for an answer. `bind` fails; `update` and `unbind` change what is true here, and succeed; reads say what is true here,
//! and what was last known of others. When Redis is back: the lease, then all sessions of this instance, each where its place
//! is free or its own; those whose place was taken are lost ([`RedisRegistry::lost`]). Then `renewals()` counts up.
//!
//! A request that was not answered may still be carried out, later than what was sent after it by another connection. So
//! every change has a number, and scripts let none pass that is older than what is there; a session that appears by such a
//! ghost's hand is removed by whoever it names.

mod announcer;
mod cache;
mod config;
mod connect;
mod core;
mod discovery;
mod keys;
mod link;
mod local;
mod membership;
mod metrics;
mod record;
mod scripts;
mod sessions;
mod signals;
mod slots;
mod streams;
mod topology;
mod values;
mod wire;

use std::{fmt, sync::Arc};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    cache::Cache, connect::Connector, core::Core, discovery::Discovery, keys::Keys, link::Ground, local::Local,
    membership::Leaving, metrics::Metrics, signals::Signals,
};
pub use self::{
    config::{RedisConfig, RedisMode, RedisTimes},
    local::Lost,
    membership::Guard,
};
use crate::InstanceId;

/// See the module.
pub struct RedisRegistry {
    core: Arc<Core>,
    leaving: Arc<Leaving>,
}

impl RedisRegistry {
    /// Registers what [`RedisRegistry::start`] does, for a reference of all metrics.
    ///
    /// # Errors
    /// If a name is taken there.
    pub fn register_metrics(metrics: &prometheus::Registry) -> prometheus::Result<()> {
        Metrics::new(metrics).map(drop)
    }

    /// Begins to connect; whether Redis is there shows later ([`RedisRegistry::ready`]). Its tasks are among `tasks`, and end
    /// with `stop`, or after [`RedisRegistry::close`]. `instance` is this run of this process, and no other ever.
    ///
    /// # Errors
    /// If its metrics' names are taken.
    pub fn start(
        config: &RedisConfig,
        instance: InstanceId,
        guard: Arc<dyn Guard>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        metrics: &prometheus::Registry,
    ) -> prometheus::Result<Self> {
        let ground = Arc::new(Ground {
            connector: Connector::new(config),
            keys: Keys::new(&config.key_prefix),
            cache: Cache::new(config.cache_accounts, config.cache_bytes),
            signals: Signals::default(),
            metrics: Metrics::new(metrics)?,
            times: config.times.clone(),
        });
        let discovery = Arc::new(Discovery::new(config, Arc::clone(&ground)));
        let core = Arc::new(Core::new(ground, Arc::clone(&discovery), Local::new(instance)));
        let leaving = Arc::new(Leaving { leave: CancellationToken::new(), left: watch::Sender::new(false) });
        // Of its own: what is closed ends, whoever else goes on.
        let own = stop.child_token();
        tasks.spawn(discovery.run(tasks.clone(), own.clone()));
        tasks.spawn(announcer::announce(Arc::clone(&core), own.clone()));
        let lease = membership::keep_lease(Arc::clone(&core), guard, Arc::clone(&leaving), own.clone());
        tasks.spawn(async move {
            lease.await;
            own.cancel();
        });
        Ok(Self { core, leaving })
    }

    /// Waits until new sessions can be bound.
    pub async fn ready(&self) {
        loop {
            let mut told = std::pin::pin!(self.core.ground.signals.ready.notified());
            // From here on it is told, also while it looks for itself.
            told.as_mut().enable();
            if self.core.is_available() {
                return;
            }
            told.await;
        }
    }

    /// Waits until there are sessions of this instance whose resource somebody else had bound by the time that Redis was back,
    /// and returns them: they are to be ended, and are none of this registry's any more.
    pub async fn lost(&self) -> Vec<Lost> {
        self.core.local.lost().await
    }

    /// Gives the lease up, and forgets this instance if no session is left of it: the orderly end. Others need not wait for
    /// the lease to run out. Returns when that is done, or Redis does not answer. Nothing is written from then on.
    pub async fn close(&self) {
        self.leaving.leave.cancel();
        let mut left = self.leaving.left.subscribe();
        // The sender lives as long as this does.
        drop(left.wait_for(|left| *left).await);
    }
}

impl fmt::Debug for RedisRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRegistry").field("instance", &self.core.local.instance).finish_non_exhaustive()
    }
}
