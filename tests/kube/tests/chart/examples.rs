//! `helm/examples`: taken by the API server, and by the operator.

use std::fs;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use serde_json::Value;
use starling_kube_tests::{Kubelet, Life, Namespace, until};
use starling_operator::{
    build::build,
    dereference::{Dereferenced, Hidden, Lookup, Reference, references},
    validate::validate,
};

use crate::{
    cluster::{api, apply, shared},
    common::{self, parse},
    file,
    helm::{documents, one},
};

fn example(name: &str) -> Vec<Value> {
    documents(&fs::read_to_string(file("examples").join(name)).unwrap())
}

/// What the operator makes of a server for which everything is there; what it names in Secrets is of `backends.yaml`.
fn built(server: &Value) -> usize {
    let server = parse(server);
    let secret = example("backends.yaml").into_iter().find(|object| object["kind"] == "Secret").unwrap();
    let value = |name: &str, key: &str| {
        assert_eq!(secret["metadata"]["name"], name);
        Lookup::Found(Hidden::new(secret["stringData"][key].as_str().unwrap_or_else(|| panic!("no key {key}"))))
    };
    let found = |reference: &Reference| match reference.key.as_str() {
        // The operator makes it.
        "password" => Lookup::Found(Hidden::new("s3cret")),
        key => value(&reference.name, key),
    };
    let values = references(&server).into_iter().map(|reference| (reference.clone(), found(&reference))).collect();
    let read = Dereferenced { values, ..common::cluster(&server) };
    let validated = validate(&server, &read).unwrap_or_else(|problems| panic!("{problems:?}"));
    build(&validated).iter().count()
}

#[tokio::test]
async fn a_server_in_one_pod_is_taken_by_the_api_server_and_by_the_operator() {
    let plane = shared().await;
    let at = Namespace::of(plane.client().await, plane.namespace().await);
    for name in ["standalone.yaml", "distributed.yaml"] {
        let objects = example(name);
        let applied = apply(&at, one(&objects, "XmppServer")).await;
        // With the schema's defaults, and the name that a server has.
        let applied = applied.unwrap_or_else(|error| panic!("{name}: {error}"));
        let applied = serde_json::to_value(&applied).unwrap();
        assert!(built(&applied) > 5, "{name}");
        api(&at, &applied).await.delete("chat", &Default::default()).await.unwrap();
    }
}

#[tokio::test]
async fn backends_for_a_trial_run_in_a_namespace_of_the_level_restricted() {
    let plane = shared().await;
    let namespace = plane.namespace_with(&[("pod-security.kubernetes.io/enforce", "restricted")]).await;
    let at = Namespace::of(plane.client().await, namespace);
    let _kubelet = Kubelet::start(at.client.clone(), Some(&at.namespace), Life::good).await;
    for object in example("backends.yaml") {
        apply(&at, &object).await.unwrap_or_else(|error| panic!("{}: {error}", object["kind"]));
    }
    let redis = at.api::<Deployment>();
    let has_one =
        |redis: Option<&Deployment>| redis.and_then(|redis| redis.status.as_ref()?.available_replicas) == Some(1);
    until(&redis, "starling-redis", has_one).await;
    let postgres = at.api::<StatefulSet>();
    let has_one = |postgres: Option<&StatefulSet>| {
        postgres.and_then(|postgres| postgres.status.as_ref()?.available_replicas) == Some(1)
    };
    until(&postgres, "starling-postgres", has_one).await;
}
