//! What this node obeys of a pod's spec. What it does not know must not pass in silence: a pod that asks for something new would
//! seem to run with it.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::Value;

/// Obeyed, or said to the scheduler, whose part nobody plays here; or without a meaning where there is one node.
const POD: [&str; 24] = [
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsPolicy",
    "enableServiceLinks",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "hostname",
    "restartPolicy",
    "schedulerName",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "hostUsers",
];

/// The same of a container. Of resources and seccomp it knows nothing.
const CONTAINER: [&str; 16] = [
    "args",
    "command",
    "env",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
];

const MOUNT: [&str; 3] = ["mountPath", "name", "readOnly"];

/// # Panics
/// If the pod asks for something else.
pub(super) fn assert_obeyed(pod: &Pod) {
    let name = pod.name_any();
    let spec = serde_json::to_value(pod.spec.as_ref().unwrap()).unwrap();
    let check = |value: &Value, known: &[&str]| {
        for field in value.as_object().unwrap().keys() {
            assert!(known.contains(&field.as_str()), "{name}: {field} is not known to this node");
        }
    };
    check(&spec, &POD);
    assert_eq!(spec["automountServiceAccountToken"], false, "{name}: this node has no tokens");
    assert_eq!(spec["enableServiceLinks"], false, "{name}: this node has no variables of Services");
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            check(container, &CONTAINER);
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            mounts.for_each(|mount| check(mount, &MOUNT));
        }
    }
}
