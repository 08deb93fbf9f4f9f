//! What the cluster offers beside Kubernetes itself, asked for now and then: what is installed later is used later.

use std::{collections::BTreeSet, time::Duration};

use kube::{Client, Error};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{crd::IpFamily, dereference::Cluster};

/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(30);

/// Kinds that a cluster may lack, with group, version and plural.
pub(crate) const OPTIONAL: [(&str, &str, &str, &str); 3] = [
    ("cert-manager.io", "v1", "Certificate", "certificates"),
    ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
    ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
];

/// Whether the cluster has one of the [`OPTIONAL`] kinds.
pub(crate) fn has(cluster: &Cluster, kind: &str) -> bool {
    match kind {
        "Certificate" => cluster.cert_manager,
        "PodMonitor" => cluster.pod_monitor,
        "PrometheusRule" => cluster.prometheus_rule,
        _ => true,
    }
}

/// Asks what there is. `families` are those of the pods' network, which the API does not say.
///
/// # Errors
/// If the API server does not answer.
pub async fn discover(client: &Client, families: &BTreeSet<IpFamily>) -> Result<Cluster, Error> {
    let groups = client.list_api_groups().await?.groups;
    let serves = |group: &str, version: &str| {
        let group = groups.iter().find(|found| found.name == group);
        group.is_some_and(|group| group.versions.iter().any(|served| served.version == version))
    };
    let mut kinds = BTreeSet::new();
    let optional: BTreeSet<_> = OPTIONAL.map(|(group, version, ..)| (group, version)).into();
    for (group, version) in optional.into_iter().filter(|(group, version)| serves(group, version)) {
        match client.list_api_group_resources(&format!("{group}/{version}")).await {
            Ok(list) => kinds.extend(list.resources.into_iter().map(|resource| resource.kind)),
            // It has gone meanwhile.
            Err(Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Cluster {
        cert_manager: kinds.contains("Certificate"),
        pod_monitor: kinds.contains("PodMonitor"),
        prometheus_rule: kinds.contains("PrometheusRule"),
        custom_metrics: groups.iter().any(|group| group.name == "custom.metrics.k8s.io"),
        families: families.clone(),
    })
}

/// Waits until the API server has said it once. Returns `None` if it is told to stop before.
pub async fn first(client: &Client, families: &BTreeSet<IpFamily>, stop: &CancellationToken) -> Option<Cluster> {
    let mut wait = Duration::from_secs(1);
    loop {
        match stop.run_until_cancelled(discover(client, families)).await? {
            Ok(cluster) => return Some(cluster),
            Err(error) => warn!(%error, "The API server does not say what it offers; tried again"),
        }
        stop.run_until_cancelled(sleep(wait)).await?;
        wait = (wait * 2).min(AGAIN);
    }
}

/// Looks again and again, until dropped. One to three requests each time.
pub async fn keep_looking(client: Client, cluster: watch::Sender<Cluster>, interval: Duration) {
    loop {
        sleep(interval).await;
        let families = cluster.borrow().families.clone();
        match discover(&client, &families).await {
            Ok(found) => {
                let changed = cluster.send_if_modified(|known| {
                    let changed = *known != found;
                    known.clone_from(&found);
                    changed
                });
                if changed {
                    info!(?found, "The cluster offers something else than before");
                }
            }
            Err(error) => {
                warn!(%error, "The API server does not say what it offers");
                sleep(AGAIN).await;
            }
        }
    }
}
