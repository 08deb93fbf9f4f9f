//! What only a process with client connections has: the connections, certificates, and the secret for salts of accounts that
//! do not exist.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::Registry as Metrics;
use starling_c2s::C2s;
use starling_session::Service;
use starling_store::Store;
use starling_stream::{CertificateFiles, Certificates};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{Error, Result, backends::Linked, data::DataFolder, parts::Parts, self_signed};

/// Bytes of the secret from which salts of accounts that do not exist are made.
const FAKE_SALT_KEY: usize = 32;

/// Client connections, and what they alone need.
pub(super) struct Clients {
    pub(super) c2s: C2s,
    certificates: Certificates,
    fake_salt_key: [u8; FAKE_SALT_KEY],
}

impl Clients {
    /// Binds the listeners, and accepts nothing yet.
    pub(super) async fn bind(
        parts: &Parts,
        certificates: Certificates,
        store: &Arc<dyn Store>,
        service: &Arc<Service>,
        linked: &Linked,
        metrics: &Metrics,
    ) -> Result<Self> {
        let secret = store.secret("fake-salt-key", FAKE_SALT_KEY).await?;
        let mut fake_salt_key = [0; FAKE_SALT_KEY];
        fake_salt_key.copy_from_slice(&secret);
        let parts = starling_c2s::Parts {
            config: parts.c2s(fake_salt_key),
            certificates: Some(certificates.clone()),
            accounts: store.clone(),
            service: service.clone(),
            local: linked.local(),
        };
        Ok(Self { c2s: C2s::bind(parts, metrics)?, certificates, fake_salt_key })
    }

    /// Other rules, from the next connection on.
    pub(super) fn take_up(&self, parts: &Parts) {
        self.c2s.set_rules(parts.rules(self.fake_salt_key));
    }

    /// Reads the certificates' files again.
    pub(super) async fn reload_certificates(&self) {
        let certificates = self.certificates.clone();
        match tokio::task::spawn_blocking(move || certificates.reload()).await {
            Ok(Ok(status)) if status.is_good() => info!("Certificates read again"),
            Ok(Ok(_)) => warn!("Certificates read again; of those that are faulty the old ones stay"),
            Ok(Err(error)) => warn!(%error, "Certificates not read again; the old ones stay"),
            Err(error) => warn!(%error, "Certificates not read again; the old ones stay"),
        }
    }
}

/// Those that are configured, or one of our own.
pub(super) async fn certificates(
    parts: &Parts,
    data: &DataFolder,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Certificates> {
    let files = if parts.certificates.is_empty() {
        let made = self_signed::ensure(&data.tls(), &parts.domains, SystemTime::now())?;
        warn!(
            certificate = %made.certificate.display(),
            made = made.made,
            sha256 = made.fingerprint,
            "No certificate is configured: a self-signed one is served, which clients will question"
        );
        renew(data.tls(), parts.domains.clone(), made.renew_at, tasks, stop.clone());
        vec![CertificateFiles { certificate: made.certificate, key: made.key }]
    } else {
        parts.certificates.clone()
    };
    let certificates = Certificates::open(files).map_err(Error::Tls)?;
    certificates.watch(tasks, stop.clone()).map_err(Error::Tls)?;
    Ok(certificates)
}

/// Makes a new self-signed certificate in time; whoever watches the file takes it up.
fn renew(folder: PathBuf, domains: Vec<String>, mut at: SystemTime, tasks: &TaskTracker, stop: CancellationToken) {
    /// A clock that was set is noticed after this.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    tasks.spawn(async move {
        loop {
            let wait = at.duration_since(SystemTime::now()).unwrap_or_default().clamp(Duration::from_secs(60), LONGEST);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match self_signed::ensure(&folder, &domains, SystemTime::now()) {
                Ok(made) => at = made.renew_at,
                Err(error) => warn!(%error, "Self-signed certificate not renewed"),
            }
        }
    });
}
