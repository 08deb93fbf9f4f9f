//! Kinds of somebody else's, that servers may use.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::json;

/// What cert-manager and prometheus-operator bring.
#[must_use]
pub fn kinds_of_others() -> Vec<CustomResourceDefinition> {
    [vec![foreign("cert-manager.io", "Certificate", "certificates")], prometheus_operator()].concat()
}

/// What prometheus-operator brings.
#[must_use]
pub fn prometheus_operator() -> Vec<CustomResourceDefinition> {
    let group = "monitoring.coreos.com";
    vec![foreign(group, "PodMonitor", "podmonitors"), foreign(group, "PrometheusRule", "prometheusrules")]
}

/// A kind, version `v1`, without a schema: it takes everything.
fn foreign(group: &str, kind: &str, plural: &str) -> CustomResourceDefinition {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    serde_json::from_value(definition).unwrap()
}
