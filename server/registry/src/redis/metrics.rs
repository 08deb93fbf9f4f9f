//! What the registry counts.

use prometheus::{Histogram, IntCounter, IntGauge, Registry};
use starling_metrics::Register as _;

/// What the registry counts.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) available: IntGauge,
    pub(super) round_trip: Histogram,
    pub(super) failures: IntCounter,
    pub(super) sessions: IntGauge,
    pub(super) dirty: IntGauge,
    pub(super) announced: IntCounter,
    pub(super) renewals: IntCounter,
    pub(super) lost: IntCounter,
    pub(super) pauses: IntCounter,
    pub(super) cache_accounts: IntGauge,
    pub(super) cache_bytes: IntGauge,
    pub(super) cache_hits: IntCounter,
    pub(super) cache_misses: IntCounter,
    pub(super) cache_invalidations: IntCounter,
    pub(super) cache_flushes: IntCounter,
}

impl Metrics {
    /// Registers everything with `registry`.
    ///
    /// # Errors
    /// If a name is taken there.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            available: registry.gauge("starling_registry_available", "Whether new sessions can be bound: 1 or 0.")?,
            round_trip: registry.histogram(
                "starling_registry_round_trip_seconds",
                "Time from a request to Redis, or several sent together, to its answer, in seconds.",
                &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0],
            )?,
            failures: registry.counter(
                "starling_registry_failures_total",
                "Requests to Redis that were not answered, or by an error.",
            )?,
            sessions: registry.gauge("starling_registry_accounts", "Accounts that have sessions at this instance.")?,
            dirty: registry.gauge(
                "starling_registry_dirty_accounts",
                "Accounts of which Redis may say something else than this instance, to be written again.",
            )?,
            announced: registry.counter(
                "starling_registry_announcements_total",
                "Sessions that were written again, because Redis had been away or had lost them.",
            )?,
            renewals: registry.counter(
                "starling_registry_renewals_total",
                "Times that all sessions of this instance were written again.",
            )?,
            lost: registry.counter(
                "starling_registry_lost_sessions_total",
                "Sessions whose resource somebody else had bound by the time that they were written again.",
            )?,
            pauses: registry.counter(
                "starling_registry_pauses_total",
                "Times that this process was found not to have run for longer than it may, or to have lost its lease.",
            )?,
            cache_accounts: registry.gauge("starling_registry_cache_accounts", "Accounts in the cache.")?,
            cache_bytes: registry
                .gauge("starling_registry_cache_bytes", "What the cache holds, in bytes, as it counts them.")?,
            cache_hits: registry.counter("starling_registry_cache_hits_total", "Look-ups that the cache answered.")?,
            cache_misses: registry.counter("starling_registry_cache_misses_total", "Look-ups that it did not.")?,
            cache_invalidations: registry
                .counter("starling_registry_cache_invalidations_total", "Accounts that Redis said have changed.")?,
            cache_flushes: registry.counter(
                "starling_registry_cache_flushes_total",
                "Times that the whole cache was given up: after a lost connection, or when slots moved.",
            )?,
        })
    }
}
