//! What came of settings that were read again.

use prometheus::{IntGauge, Registry};
use starling_metrics::Register as _;

use crate::error::Result;

/// Both are 0 as long as what is in the file is what runs.
#[derive(Debug)]
pub(crate) struct SettingsGauges {
    faulty: IntGauge,
    restart_needed: IntGauge,
}

impl SettingsGauges {
    /// Registers them.
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::error::Error::Metrics) when a name is taken, which is a fault of the program.
    pub(crate) fn new(registry: &Registry) -> Result<Self> {
        Ok(Self {
            faulty: registry.gauge(
                "starling_settings_faulty",
                "1 while the settings' file cannot be used as it is now: the old settings stay",
            )?,
            restart_needed: registry.gauge(
                "starling_settings_restart_needed",
                "1 while the settings' file says something that counts only after a restart",
            )?,
        })
    }

    /// The file is good, and something in it needs a restart, or nothing does.
    pub(crate) fn good(&self, restart_needed: bool) {
        self.faulty.set(0);
        self.restart_needed.set(restart_needed.into());
    }

    /// The file is not good. Whether a restart would change anything is not known anew.
    pub(crate) fn faulty(&self) {
        self.faulty.set(1);
    }
}
