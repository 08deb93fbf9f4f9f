//! What is known of the certificates: alarms hang on them.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge};
use starling_stream::{CertificateStatus, Certificates};

use crate::error::Result;

/// Asks the certificates whenever the metrics are asked for.
pub(crate) struct CertificateCollector {
    certificates: Option<Certificates>,
    next_expiry: Gauge,
    faulty: IntGauge,
}

impl CertificateCollector {
    /// A collector for `certificates`; without them, for documentation.
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::error::Error::Metrics) when a name is not allowed, which is a fault of the program.
    pub(crate) fn new(certificates: Option<Certificates>) -> Result<Self> {
        Ok(Self {
            certificates,
            next_expiry: Gauge::new(
                "starling_certificates_next_expiry_timestamp_seconds",
                "When the first of the certificates that are shown expires, in seconds since 1970",
            )?,
            faulty: IntGauge::new(
                "starling_certificates_faulty",
                "Certificates whose files cannot be used as they are now, or that clients will refuse",
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 2] {
        [&self.next_expiry, &self.faulty]
    }

    fn refresh(&self, certificates: &[CertificateStatus]) {
        if let Some(first) = certificates.iter().map(|one| one.expires).min() {
            self.next_expiry.set(seconds(first));
        }
        let faulty = certificates.iter().filter(|one| one.failure.is_some()).count();
        self.faulty.set(i64::try_from(faulty).unwrap_or(i64::MAX));
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Collector for CertificateCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(certificates) = &self.certificates {
            self.refresh(&certificates.status().borrow().certificates);
        }
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_expiry_counts_and_every_fault() {
        let one = |expires, failure: Option<&str>| CertificateStatus {
            file: "a.crt".into(),
            names: Vec::new(),
            expires: UNIX_EPOCH + Duration::from_secs(expires),
            failure: failure.map(str::to_owned),
        };
        let collector = CertificateCollector::new(None).unwrap();
        collector.refresh(&[one(300, Some("expired")), one(200, None), one(400, Some("no key"))]);
        assert_eq!(collector.next_expiry.get(), 200.0);
        assert_eq!(collector.faulty.get(), 2);
    }
}
