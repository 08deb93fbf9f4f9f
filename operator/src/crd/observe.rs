//! What others see of the pods: logs, metrics, their network.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, also by part: `info,starling_c2s=debug`. A
    /// change is taken up without a restart.
    #[serde(default = "Log::level")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new(
        "self.matches('^([a-z0-9_:]+=)?(off|error|warn|info|debug|trace)(,([a-z0-9_:]+=)?(off|error|warn|info|debug|trace))*$')"
    ).message("levels are off, error, warn, info, debug and trace, also by part: info,starling_c2s=debug"))]
    pub level: String,
    /// What a line looks like.
    #[serde(default)]
    pub format: LogFormat,
}

impl Log {
    fn level() -> String {
        "info".to_owned()
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: Self::level(), format: LogFormat::default() }
    }
}

/// What a line of a log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For people.
    Human,
}

/// Metrics and alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// A PodMonitor, by which Prometheus finds the pods.
    #[serde(default)]
    pub pod_monitor: PodMonitor,
    /// A PrometheusRule with alerts.
    #[serde(default)]
    pub prometheus_rule: PrometheusRule,
}

/// A PodMonitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitor {
    /// Whether it is made.
    #[serde(default)]
    pub enabled: bool,
    /// Seconds between two readings.
    #[serde(default = "PodMonitor::interval")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: u32,
    /// More labels, by which a Prometheus chooses it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
}

impl PodMonitor {
    const fn interval() -> u32 {
        30
    }
}

impl Default for PodMonitor {
    fn default() -> Self {
        Self { enabled: false, interval_seconds: Self::interval(), labels: BTreeMap::new() }
    }
}

/// A PrometheusRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusRule {
    /// Whether it is made.
    #[serde(default)]
    pub enabled: bool,
    /// More labels, by which a Prometheus chooses it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
}

/// NetworkPolicies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicies {
    /// Whether they are made: clients reach the ports for clients, the server's own pods each other, and nobody else
    /// anything but metrics.
    #[serde(default = "NetworkPolicies::enabled")]
    pub enabled: bool,
    /// Who may read metrics. Empty: everybody in the cluster's network. If not, name the operator as well: it asks how many
    /// sessions pods have before some of them go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub metrics_from: Vec<NetworkPolicyPeer>,
    /// Whom the pods may reach, beside each other, name servers, and the ports of Redis and of the database. Without it,
    /// those ports are open to any address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub backends: Vec<NetworkPolicyPeer>,
}

impl NetworkPolicies {
    const fn enabled() -> bool {
        true
    }
}

impl Default for NetworkPolicies {
    fn default() -> Self {
        Self { enabled: true, metrics_from: Vec::new(), backends: Vec::new() }
    }
}
