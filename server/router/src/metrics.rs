//! What the router counts.

use prometheus::{IntCounter, IntGauge, Registry};
use starling_metrics::Register as _;

/// Why a batch was not forwarded. Whoever misses it asks for it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Its destination is not attached here.
    NoDestination,
    /// Its destination does not keep up.
    Full,
}

impl Dropped {
    const ALL: [(Self, &'static str); 2] = [(Self::NoDestination, "no_destination"), (Self::Full, "full")];
}

/// Resolved once, so that counting is one atomic addition.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) attached: IntGauge,
    pub(crate) attachments: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) forwarded: IntCounter,
    pub(crate) forwarded_bytes: IntCounter,
    pub(crate) queued_bytes: IntGauge,
    dropped: [IntCounter; Dropped::ALL.len()],
}

impl Metrics {
    /// Registers everything with `registry`.
    ///
    /// # Errors
    /// If a name is taken there.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let dropped = registry.counters(
            "starling_router_dropped_total",
            "Batches that were not forwarded, by the reason; whoever misses them asks for them again.",
            &["reason"],
        )?;
        Ok(Self {
            attached: registry.gauge("starling_router_instances", "Instances attached to this router.")?,
            attachments: registry
                .counter("starling_router_attachments_total", "Streams that instances attached by.")?,
            refused: registry
                .counter("starling_router_refused_total", "Streams refused: revoked instances, other versions.")?,
            forwarded: registry.counter("starling_router_forwarded_total", "Batches forwarded.")?,
            forwarded_bytes: registry
                .counter("starling_router_forwarded_bytes_total", "Bytes in batches forwarded.")?,
            queued_bytes: registry
                .gauge("starling_router_queued_bytes", "Bytes that wait for instances to take them.")?,
            dropped: Dropped::ALL.map(|(_, name)| dropped.with_label_values(&[name])),
        })
    }

    pub(crate) fn dropped(&self, reason: Dropped) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        for (index, (reason, _)) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        let registry = Registry::new();
        Metrics::new(&registry).unwrap().dropped(Dropped::Full);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("starling_router_dropped_total{reason=\"full\"} 1"), "{text}");
    }
}
