//! Probes, as a kubelet does them: one for the start, and then for readiness and life.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::http::get;

/// What the probes say of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It is not to be sent anything.
    NotReady,
    /// It is.
    Ready,
    /// It is to be started again.
    Failed,
}

/// Probes for as long as it is awaited.
pub(super) async fn probe(container: Container, address: Ipv4Addr, says: watch::Sender<Health>) {
    let asked = |probe: Option<&Probe>| probe.map(|probe| Asked::new(probe, &container, address));
    if let Some(startup) = asked(container.startup_probe.as_ref())
        && !startup.until(true).await
    {
        says.send_replace(Health::Failed);
        return;
    }
    let ready = async {
        let Some(readiness) = asked(container.readiness_probe.as_ref()) else {
            says.send_replace(Health::Ready);
            return;
        };
        loop {
            readiness.until(true).await;
            says.send_replace(Health::Ready);
            readiness.until(false).await;
            says.send_replace(Health::NotReady);
        }
    };
    let alive = async {
        if let Some(liveness) = asked(container.liveness_probe.as_ref()) {
            liveness.until(false).await;
            says.send_replace(Health::Failed);
        }
    };
    tokio::join!(ready, alive);
}

struct Asked {
    path: String,
    address: SocketAddr,
    every: Duration,
    within: Duration,
    failures: i32,
    is_startup: bool,
}

impl Asked {
    fn new(probe: &Probe, container: &Container, address: Ipv4Addr) -> Self {
        let http = probe.http_get.as_ref().unwrap_or_else(|| panic!("{}: only HTTP is probed here", container.name));
        let port = match &http.port {
            IntOrString::Int(number) => *number,
            IntOrString::String(name) => {
                let mut ports = container.ports.iter().flatten();
                ports.find(|port| port.name.as_ref() == Some(name)).expect("a port of this name").container_port
            }
        };
        let seconds =
            |seconds: Option<i32>, default| Duration::from_secs(seconds.unwrap_or(default).try_into().unwrap());
        Self {
            path: http.path.clone().unwrap_or_else(|| "/".to_owned()),
            address: (address, port.try_into().unwrap()).into(),
            every: seconds(probe.period_seconds, 10),
            within: seconds(probe.timeout_seconds, 1),
            failures: probe.failure_threshold.unwrap_or(3),
            is_startup: container.startup_probe.as_ref() == Some(probe),
        }
    }

    /// Asks until it succeeds, or, with `false`, until it has failed so often in a row that it counts. Of a start, failures count
    /// as well: then it returns `false`.
    async fn until(&self, success: bool) -> bool {
        let mut failed = 0;
        loop {
            let succeeds = matches!(timeout(self.within, self.ask()).await, Ok(Ok(true)));
            failed = if succeeds { 0 } else { failed + 1 };
            if success && succeeds {
                return true;
            }
            if failed >= self.failures && (!success || self.is_startup) {
                return false;
            }
            // The period of a probe is what it is.
            sleep(self.every).await;
        }
    }

    async fn ask(&self) -> std::io::Result<bool> {
        let answer = get(self.address, &self.path).await?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        Ok(status.is_some_and(|status| (200..400).contains(&status)))
    }
}
