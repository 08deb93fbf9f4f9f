//! What prometheus-operator reads: where metrics are, and when somebody is to be woken. Every metric that an alert asks for
//! is one of `starlingd metrics`.

use std::collections::BTreeMap;

use kube::{
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

use crate::{names, validate::Validated};

use super::metadata;

pub(super) fn all(server: &Validated) -> Vec<DynamicObject> {
    let (monitoring, cluster) = (&server.spec.monitoring, &server.cluster);
    let monitor = (monitoring.pod_monitor.enabled && cluster.pod_monitor).then(|| pod_monitor(server));
    let rule = (monitoring.prometheus_rule.enabled && cluster.prometheus_rule).then(|| prometheus_rule(server));
    monitor.into_iter().chain(rule).collect()
}

fn object(server: &Validated, kind: &str, labels: &BTreeMap<String, String>, data: Value) -> DynamicObject {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("monitoring.coreos.com", "v1", kind));
    let name = server.owner.name.clone();
    let mut object = DynamicObject::new(&name, &resource).data(data);
    object.metadata = metadata(&server.owner, name, None);
    let own = object.metadata.labels.get_or_insert_default();
    for (key, value) in labels {
        // Those by which the operator finds its objects stay.
        own.entry(key.clone()).or_insert_with(|| value.clone());
    }
    object
}

fn pod_monitor(server: &Validated) -> DynamicObject {
    let fields = &server.spec.monitoring.pod_monitor;
    object(
        server,
        "PodMonitor",
        &fields.labels,
        json!({
            "spec": {
                "selector": { "matchLabels": names::instance_selector(&server.owner.name) },
                "podTargetLabels": ["app.kubernetes.io/component"],
                "podMetricsEndpoints": [
                    { "port": "http", "path": "/metrics", "interval": format!("{}s", fields.interval_seconds) }
                ],
            }
        }),
    )
}

fn prometheus_rule(server: &Validated) -> DynamicObject {
    let (namespace, name) = (&server.owner.namespace, &server.owner.name);
    // Of this server's pods alone: `name` is a DNS label, and holds nothing that a regular expression takes for more.
    let names = format!("{name}-(c2s|session|router)-[a-z0-9]+-[a-z0-9]+|{name}-standalone-0");
    let pods = format!("namespace=\"{namespace}\",pod=~\"{names}\"");
    let rules: Vec<Value> = ALERTS.iter().map(|alert| alert.rule(&pods, namespace, name)).collect();
    object(
        server,
        "PrometheusRule",
        &server.spec.monitoring.prometheus_rule.labels,
        json!({ "spec": { "groups": [{ "name": format!("{namespace}.{name}"), "rules": rules }] } }),
    )
}

struct Alert {
    name: &'static str,
    /// `PODS` stands for the labels of this server's pods.
    expression: &'static str,
    lasting: &'static str,
    severity: &'static str,
    summary: &'static str,
}

impl Alert {
    fn rule(&self, pods: &str, namespace: &str, name: &str) -> Value {
        json!({
            "alert": self.name,
            "expr": self.expression.replace("PODS", pods),
            "for": self.lasting,
            "labels": { "severity": self.severity, "xmppserver": name, "namespace": namespace },
            "annotations": { "summary": self.summary },
        })
    }
}

const ALERTS: [Alert; 11] = [
    Alert {
        name: "StarlingPodDown",
        expression: "up{PODS} == 0",
        lasting: "5m",
        severity: "warning",
        summary: "A pod does not answer when it is asked for its metrics.",
    },
    Alert {
        name: "StarlingRedisAway",
        expression: "starling_registry_available{PODS} == 0",
        lasting: "1m",
        severity: "critical",
        summary: "A pod cannot bind new sessions: Redis does not answer.",
    },
    Alert {
        name: "StarlingNoRouter",
        expression: "starling_link_routers{PODS} == 0",
        lasting: "1m",
        severity: "critical",
        summary: "A pod is attached to no router: its users reach nobody on other pods.",
    },
    Alert {
        name: "StarlingMessagesNotKept",
        expression: "increase(starling_messages_not_kept_total{PODS}[5m]) > 0",
        lasting: "0m",
        severity: "critical",
        summary: "The database did not take messages in time; their senders got an error.",
    },
    Alert {
        name: "StarlingDatabaseFails",
        expression: "increase(starling_journal_failures_total{PODS}[5m]) > 0",
        lasting: "5m",
        severity: "warning",
        summary: "Commits fail again and again.",
    },
    Alert {
        name: "StarlingCertificateExpires",
        expression: "starling_certificates_next_expiry_timestamp_seconds{PODS} - time() < 14 * 86400 \
                     and starling_certificates_next_expiry_timestamp_seconds{PODS} > 0",
        lasting: "1h",
        severity: "warning",
        summary: "A certificate expires within two weeks.",
    },
    Alert {
        name: "StarlingCertificateFaulty",
        expression: "starling_certificates_faulty{PODS} > 0",
        lasting: "5m",
        severity: "critical",
        summary: "The files of a certificate cannot be used, or clients will refuse it.",
    },
    Alert {
        name: "StarlingSettingsFaulty",
        expression: "starling_settings_faulty{PODS} > 0",
        lasting: "15m",
        severity: "warning",
        summary: "A pod cannot use its settings as they are now, and goes on with those of before.",
    },
    Alert {
        name: "StarlingRestartNeeded",
        expression: "starling_settings_restart_needed{PODS} > 0",
        lasting: "1h",
        severity: "warning",
        summary: "A pod has settings that it takes up only when it is started again, and was not.",
    },
    Alert {
        name: "StarlingConnectionsRefused",
        expression: "rate(starling_c2s_refused_total{PODS}[5m]) > 1",
        lasting: "10m",
        severity: "warning",
        summary: "Client connections are turned away by a limit.",
    },
    Alert {
        name: "StarlingFilesRunOut",
        expression: "process_open_fds{PODS} / process_max_fds{PODS} > 0.8",
        lasting: "5m",
        severity: "warning",
        summary: "A pod has opened most of the files and connections that it may.",
    },
];
