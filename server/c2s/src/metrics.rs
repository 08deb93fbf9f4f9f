//! What `c2s` counts.

use prometheus::{Histogram, IntCounter, IntGauge, Registry};
use starling_metrics::Register as _;

use crate::limits::Refusal;

/// How a log-in ended that did not end in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogInEnd {
    /// The client's credentials did not hold.
    Failed,
    /// The stream ended with an error of the client's making.
    StreamError,
    /// The client went away.
    Gone,
    /// The TLS handshake failed.
    Tls,
    /// The time to authenticate was over.
    TimedOut,
}

impl LogInEnd {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Failed, "failed"),
        (Self::StreamError, "stream_error"),
        (Self::Gone, "gone"),
        (Self::Tls, "tls"),
        (Self::TimedOut, "timed_out"),
    ];
}

/// Resolved once, so that counting is one atomic addition.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) connections: IntGauge,
    pub(crate) accepted: IntCounter,
    pub(crate) accept_errors: IntCounter,
    refused: [IntCounter; Refusal::ALL.len()],
    pub(crate) proxy_errors: IntCounter,
    pub(crate) log_ins: IntCounter,
    ends: [IntCounter; LogInEnd::ALL.len()],
    pub(crate) log_in_seconds: Histogram,
    pub(crate) received_bytes: IntCounter,
    pub(crate) slowed: IntCounter,
    pub(crate) write_timeouts: IntCounter,
    pub(crate) resumed: IntCounter,
    pub(crate) not_resumed: IntCounter,
    pub(crate) handed_over: IntCounter,
    pub(crate) taken_over: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let refused = registry.counters(
            "starling_c2s_refused_total",
            "Client connections turned away, by the limit that did it.",
            &["limit"],
        )?;
        let ends = registry.counters(
            "starling_c2s_log_ins_failed_total",
            "Log-ins that ended without a session, by their end.",
            &["end"],
        )?;
        Ok(Self {
            connections: registry.gauge("starling_c2s_connections", "Client connections now.")?,
            accepted: registry.counter("starling_c2s_accepted_total", "Client connections accepted.")?,
            accept_errors: registry.counter(
                "starling_c2s_accept_errors_total",
                "Connections that the system could not hand over, as when files run out.",
            )?,
            refused: Refusal::ALL.map(|refusal| refused.with_label_values(&[refusal.as_str()])),
            proxy_errors: registry.counter(
                "starling_c2s_proxy_errors_total",
                "Connections from trusted networks without a usable PROXY header.",
            )?,
            log_ins: registry.counter("starling_c2s_log_ins_total", "Log-ins that ended in a bound resource.")?,
            ends: LogInEnd::ALL.map(|(_, name)| ends.with_label_values(&[name])),
            log_in_seconds: registry.histogram(
                "starling_c2s_log_in_seconds",
                "Time from the accepted connection to the bound resource, in seconds.",
                &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0],
            )?,
            received_bytes: registry.counter(
                "starling_c2s_received_bytes_total",
                "Bytes of XML read from clients with a bound resource.",
            )?,
            slowed: registry.counter(
                "starling_c2s_slowed_total",
                "Pauses in reading from a client that sends faster than its limit.",
            )?,
            write_timeouts: registry.counter(
                "starling_c2s_write_timeouts_total",
                "Connections cut because their client took nothing for too long.",
            )?,
            resumed: registry
                .counter("starling_c2s_resumed_total", "Sessions resumed on a new connection (XEP-0198).")?,
            handed_over: registry.counter(
                "starling_c2s_handed_over_total",
                "Sessions whose clients resumed them at another instance, which was given what was left here.",
            )?,
            taken_over: registry.counter(
                "starling_c2s_taken_over_total",
                "Sessions that clients resumed here, and that were at another instance before.",
            )?,
            not_resumed: registry.counter(
                "starling_c2s_not_resumed_total",
                "Sessions whose connection was cut, and that ended without being resumed.",
            )?,
        })
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal as usize) {
            counter.inc();
        }
    }

    pub(crate) fn log_in_ended(&self, end: LogInEnd) {
        if let Some(counter) = self.ends.get(end as usize) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_own_counter() {
        for (index, (end, _)) in LogInEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index);
        }
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.log_in_ended(LogInEnd::TimedOut);
        metrics.refused(Refusal::Address);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("starling_c2s_log_ins_failed_total{end=\"timed_out\"} 1"), "{text}");
        assert!(text.contains("starling_c2s_refused_total{limit=\"connections_per_address\"} 1"), "{text}");
    }
}
