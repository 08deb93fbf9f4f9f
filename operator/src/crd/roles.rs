//! Each role's pods.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{C2sService, ProxyProtocol, Scalar};

/// Pods that take client connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct C2s {
    /// How many, unless `autoscaling` says. A Standalone server has one, or with 0 none.
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// How they are run.
    #[serde(flatten)]
    pub pods: Pods,
    /// The Service that clients connect to.
    #[serde(default)]
    pub service: C2sService,
    /// Load balancers that say whose connection they forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Pods for accounts without a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.autoscaling) || !has(self.autoscaling.targetSessions)")
    .message("targetSessions is for c2s: these pods have no sessions"))]
#[serde(rename_all = "camelCase")]
pub struct SessionRole {
    /// How many, unless `autoscaling` says.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: i32,
    /// How they are run.
    #[serde(flatten)]
    pub pods: Pods,
}

/// Pods that forward between the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.autoscaling) || !has(self.autoscaling.targetSessions)")
    .message("targetSessions is for c2s: these pods have no sessions"))]
#[serde(rename_all = "camelCase")]
pub struct Router {
    /// How many, unless `autoscaling` says. Every other pod connects to all of them.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 64))]
    pub replicas: i32,
    /// How they are run.
    #[serde(flatten)]
    pub pods: Pods,
}

impl Default for C2s {
    fn default() -> Self {
        Self { replicas: two(), pods: Pods::default(), service: C2sService::default(), proxy_protocol: None }
    }
}

impl Default for SessionRole {
    fn default() -> Self {
        Self { replicas: two(), pods: Pods::default() }
    }
}

impl Default for Router {
    fn default() -> Self {
        Self { replicas: two(), pods: Pods::default() }
    }
}

const fn two() -> i32 {
    2
}

/// How the pods of a role are run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// Their number follows their load. `replicas` is not looked at then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// What each asks for, and may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// On which nodes they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// More labels. Those of the operator stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('starling.im/'))")
        .message("labels under app.kubernetes.io/ and starling.im/ are the operator's"))]
    pub pod_labels: BTreeMap<String, String>,
    /// More annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('starling.im/'))")
        .message("annotations under starling.im/ are the operator's"))]
    pub pod_annotations: BTreeMap<String, String>,
    /// Settings of the server that have no field of their own here, by their path (`c2s.limits.depth: 32`): see
    /// `starlingd config reference`, which also says what a running server takes up: other changes replace the pods. Those
    /// that the operator itself decides, it refuses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub settings: BTreeMap<String, Scalar>,
}

/// How the number of pods follows their load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas is more than maxReplicas"),
    validation = Rule::new("has(self.targetSessions) || has(self.targetCpuPercent)")
        .message("a target is needed: targetSessions, targetCpuPercent, or both")
)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Not fewer.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,
    /// Not more.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Sessions of each pod (the metric `starling_sessions`, which an adapter must offer as a custom metric).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub target_sessions: Option<i32>,
    /// Per cent of the CPU that each pod asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_percent: Option<i32>,
}

/// What a pod asks for, and may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is kept free for it: `cpu`, `memory`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What it cannot go beyond.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

/// On which nodes pods run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that nodes must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Rules by nodes and by other pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints that are no hindrance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// How pods are spread, in the place of the operator's own constraints: over nodes and zones, as far as it can be. Those
    /// without a `labelSelector` get that of the role's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// The class of their priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}
