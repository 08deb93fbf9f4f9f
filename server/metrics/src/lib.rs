//! Metrics, made and registered in one step. Used by every part that counts something, and by the operator.
//!
//! ```text
//!   registry.counter("starling_…_total", "What it says.") ──► IntCounter: counted here, shown by the registry
//! ```

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result, core::Collector,
};

/// What makes metrics.
pub trait Register {
    /// Registers a collector.
    ///
    /// # Errors
    /// If a name is taken, or none: a fault of the program. So it is for all others.
    fn registered<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C>;

    /// A counter.
    ///
    /// # Errors
    /// See [`Self::registered`].
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.registered(IntCounter::new(name, help)?)
    }

    /// Counters that differ by the values of labels.
    ///
    /// # Errors
    /// See [`Self::registered`].
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// A gauge.
    ///
    /// # Errors
    /// See [`Self::registered`].
    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.registered(IntGauge::new(name, help)?)
    }

    /// Gauges that differ by the values of labels.
    ///
    /// # Errors
    /// See [`Self::registered`].
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// A histogram with these upper bounds, in seconds.
    ///
    /// # Errors
    /// See [`Self::registered`].
    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        self.registered(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }
}

impl Register for Registry {
    fn registered<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C> {
        self.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_what_the_registry_shows_and_no_name_is_given_twice() {
        let registry = Registry::new();
        registry.counter("a_total", "A.").unwrap().inc();
        registry.counters("b_total", "B.", &["kind"]).unwrap().with_label_values(&["one"]).inc_by(2);
        registry.gauge("c", "C.").unwrap().set(3);
        registry.gauges("e", "E.", &["kind"]).unwrap().with_label_values(&["one"]).set(4);
        registry.histogram("d_seconds", "D.", &[0.5, 1.0]).unwrap().observe(0.7);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "a_total 1",
            "b_total{kind=\"one\"} 2",
            "c 3",
            "d_seconds_bucket{le=\"0.5\"} 0",
            "d_seconds_count 1",
            "e{kind=\"one\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(registry.gauge("a_total", "Again.").is_err());
    }
}
