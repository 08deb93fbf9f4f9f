//! What the journal counts.

use prometheus::{Histogram, IntCounter, IntGauge, Registry};
use starling_metrics::Register as _;

/// What the journal counts.
#[derive(Clone, Debug)]
pub struct JournalMetrics {
    pub(super) groups: IntCounter,
    pub(super) records: IntCounter,
    pub(super) failures: IntCounter,
    pub(super) given_up: IntCounter,
    pub(super) queued: IntGauge,
    pub(super) seconds: Histogram,
}

impl JournalMetrics {
    /// Registers everything with `registry`.
    ///
    /// # Errors
    /// If a name is taken there.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            groups: registry.counter("starling_journal_groups_total", "Groups of changes committed.")?,
            records: registry.counter("starling_journal_records_total", "Changes of messages committed.")?,
            failures: registry
                .counter("starling_journal_failures_total", "Commits that failed; they are tried again.")?,
            given_up: registry.counter(
                "starling_journal_given_up_total",
                "Messages that the database did not take in time, so that their senders are told.",
            )?,
            queued: registry.gauge("starling_journal_queue", "Changes of messages that wait to be written.")?,
            seconds: registry.histogram(
                "starling_journal_commit_seconds",
                "Time of a group's commit, in seconds.",
                &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0],
            )?,
        })
    }
}
