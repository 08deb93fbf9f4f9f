//! How many pods there are, and how many may be missing.

use k8s_openapi::{
    api::{
        autoscaling::v2::{
            CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
            HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget,
            PodsMetricSource, ResourceMetricSource,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

use crate::{names, validate::Validated};

use super::{Role, label_selector, metadata};

/// Clients that come back after a storm find the pods that the storm was there for.
const BEFORE_FEWER: i32 = 600;
/// One pod less in so many seconds: its clients go to the others, who must have taken them before the next.
const EACH_FEWER: i32 = 300;

/// Nodes are emptied one pod at a time. Of a single pod, a budget would hold up its node for ever.
pub(super) fn disruption_budget(server: &Validated, role: &Role) -> Option<PodDisruptionBudget> {
    (role.least() > 1).then(|| PodDisruptionBudget {
        metadata: metadata(&server.owner, names::of(&server.owner.name, role.component), Some(role.component)),
        spec: Some(PodDisruptionBudgetSpec {
            selector: Some(label_selector(&server.owner, role.component)),
            max_unavailable: Some(IntOrString::Int(1)),
            // Pods that are not ready serve nobody, and hold up nobody.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

/// Also where the cluster lacks the metric: it says so itself, and leaves the number of pods as it is.
pub(super) fn autoscaler(server: &Validated, role: &Role) -> Option<HorizontalPodAutoscaler> {
    let scaling = role.pods.autoscaling.as_ref()?;
    let name = names::of(&server.owner.name, role.component);
    let sessions = scaling.target_sessions.map(|target| MetricSpec {
        type_: "Pods".to_owned(),
        pods: Some(PodsMetricSource {
            metric: MetricIdentifier { name: "starling_sessions".to_owned(), selector: None },
            target: MetricTarget {
                type_: "AverageValue".to_owned(),
                average_value: Some(quantity(target)),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    });
    let cpu = scaling.target_cpu_percent.map(|target| MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(target),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    });
    let fewer = HPAScalingRules {
        stabilization_window_seconds: Some(BEFORE_FEWER),
        policies: Some(vec![HPAScalingPolicy { type_: "Pods".to_owned(), value: 1, period_seconds: EACH_FEWER }]),
        ..HPAScalingRules::default()
    };
    Some(HorizontalPodAutoscaler {
        metadata: metadata(&server.owner, name.clone(), Some(role.component)),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name,
            },
            min_replicas: Some(scaling.min_replicas),
            max_replicas: scaling.max_replicas,
            metrics: Some(sessions.into_iter().chain(cpu).collect()),
            behavior: Some(HorizontalPodAutoscalerBehavior { scale_down: Some(fewer), scale_up: None }),
        }),
        ..HorizontalPodAutoscaler::default()
    })
}

/// As Kubernetes itself writes it: what is written otherwise is written anew, and never the same.
fn quantity(mut number: i32) -> Quantity {
    let mut suffixes = ["", "k", "M", "G"].into_iter();
    let mut suffix = suffixes.next().unwrap_or_default();
    while number > 0 && number % 1000 == 0 {
        number /= 1000;
        suffix = suffixes.next().unwrap_or_default();
    }
    Quantity(format!("{number}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::quantity;

    #[test]
    fn numbers_are_written_as_kubernetes_writes_them() {
        for (number, written) in [(1, "1"), (1500, "1500"), (20_000, "20k"), (10_000_000, "10M"), (2_000_000_000, "2G")]
        {
            assert_eq!(quantity(number).0, written);
        }
    }
}
