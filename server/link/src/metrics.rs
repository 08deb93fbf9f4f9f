//! What the link counts.

use prometheus::{IntCounter, IntGauge, Registry};
use starling_metrics::Register as _;

/// What the link counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) routers: IntGauge,
    pub(crate) instances: IntGauge,
    pub(crate) attachments: IntCounter,
    pub(crate) sent: IntCounter,
    pub(crate) frames: IntCounter,
    pub(crate) batches: IntCounter,
    pub(crate) batch_bytes: IntCounter,
    pub(crate) received: IntCounter,
    pub(crate) taken: IntCounter,
    pub(crate) queued: IntGauge,
    pub(crate) refused: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) returned: IntCounter,
    pub(crate) gone: IntCounter,
}

impl Metrics {
    /// Registers everything with `registry`.
    ///
    /// # Errors
    /// If a name is taken there.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            routers: registry.gauge("starling_link_routers", "Routers that this process is attached to.")?,
            instances: registry
                .gauge("starling_link_instances", "Other instances that are attached to a router of ours.")?,
            attachments: registry
                .counter("starling_link_attachments_total", "Times that a router has let this process in.")?,
            sent: registry.counter("starling_link_sent_total", "Stanzas and other payloads for other instances.")?,
            frames: registry
                .counter("starling_link_frames_total", "Messages to routers; each holds all batches of its moment.")?,
            batches: registry
                .counter("starling_link_batches_total", "Batches to other instances, those sent again included.")?,
            batch_bytes: registry.counter("starling_link_batch_bytes_total", "Bytes in these batches.")?,
            received: registry.counter("starling_link_received_total", "Batches from other instances.")?,
            taken: registry.counter("starling_link_taken_total", "Stanzas and other payloads from other instances.")?,
            queued: registry.gauge(
                "starling_link_queue",
                "Payloads that other instances have not taken, and kept messages that they have not settled.",
            )?,
            refused: registry.counter(
                "starling_link_refused_total",
                "Payloads that were not taken because too much waits for their instance.",
            )?,
            failed: registry.counter(
                "starling_link_failed_total",
                "Stanzas that nobody keeps and that did not arrive in time, or whose instance is no more.",
            )?,
            returned: registry
                .counter("starling_link_returned_total", "Kept messages that came here and that nobody here took.")?,
            gone: registry.counter("starling_link_gone_total", "Instances that ended, in order or not.")?,
        })
    }
}
