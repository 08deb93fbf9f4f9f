//! A cluster that has the kinds which the chart is about, and applying anything to it.

use kube::{
    Api, Error,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{Scope, oneshot::pinned_kind},
};
use serde_json::{Value, json};
use starling_kube_tests::{ControlPlane, Namespace, Options, prometheus_operator};
use tokio::sync::OnceCell;

/// One that has XmppServer, and kinds of prometheus-operator without a schema.
pub(crate) async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let start = || async {
        let crds = [vec![starling_operator::crd::definition()], prometheus_operator()].concat();
        ControlPlane::start(Options { crds, ..Options::default() }).await
    };
    SHARED.get_or_init(start).await
}

/// The API of an object's kind, in the object's namespace, or else in this one.
pub(crate) async fn api(at: &Namespace, object: &Value) -> Api<DynamicObject> {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
    let (resource, capabilities) = pinned_kind(&at.client, &kind).await.unwrap();
    match capabilities.scope {
        Scope::Cluster => Api::all_with(at.client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&at.namespace);
            Api::namespaced_with(at.client.clone(), namespace, &resource)
        }
    }
}

/// Applies it; fields that its kind does not have are refused.
pub(crate) async fn apply(at: &Namespace, object: &Value) -> Result<DynamicObject, Error> {
    patch(at, object, PatchParams::apply("tests").force().validation_strict()).await
}

/// Asks what applying it would do.
pub(crate) async fn dry_run(at: &Namespace, object: &Value) -> Result<DynamicObject, Error> {
    patch(at, object, PatchParams::apply("tests").force().validation_strict().dry_run()).await
}

async fn patch(at: &Namespace, object: &Value, params: PatchParams) -> Result<DynamicObject, Error> {
    let name = object["metadata"]["name"].as_str().unwrap();
    api(at, object).await.patch(name, &params, &Patch::Apply(object)).await
}

/// The pod that a Deployment or StatefulSet would make.
pub(crate) fn pod_of(workload: &Value) -> Value {
    let mut pod = workload["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("pod");
    // What a StatefulSet adds.
    for claim in workload["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
        let name = &claim["metadata"]["name"];
        let volume = json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    }
    pod
}
