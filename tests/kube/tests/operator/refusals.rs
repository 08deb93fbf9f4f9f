//! What the API server refuses, and what it says to whoever asked for it. Everything is a dry run, but for what is there to be
//! changed.

use kube::{
    Api, Error,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use starling_operator::crd::XmppServer;

use crate::{
    common::{refusals::refusals, set, value},
    plane,
};

/// What the schema itself says, beside its rules.
fn of_the_schema() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("spec.profile", json!("Huge"), "supported values: \"Standalone\", \"Distributed\""),
        ("spec.domains", json!([]), "should have at least 1 items"),
        ("spec.domains", json!([{ "name": "a.example" }, { "name": "a.example" }]), "Duplicate value"),
        ("spec.domains.0.name", json!("a".repeat(254)), "253"),
        ("spec.c2s.replicas", json!(-1), "should be greater than or equal to 0"),
        ("spec.c2s.replicas", json!("many"), "must be of type integer"),
        ("spec.drain", json!({ "durationSeconds": 3601 }), "should be less than or equal to 3600"),
        ("spec.limits", json!({ "connections": "none" }), "spec.limits.connections"),
        ("spec.redis.secretRef", json!({ "key": "url" }), "spec.redis.secretRef.name: Required value"),
    ]
}

struct Servers(Api<DynamicObject>);

impl Servers {
    async fn new() -> Self {
        let plane = plane().await;
        let resource = ApiResource::erase::<XmppServer>(&());
        Self(Api::namespaced_with(plane.client().await, &plane.namespace().await, &resource))
    }

    async fn create(&self, resource: &Value, dry_run: bool) -> Result<DynamicObject, Error> {
        let params = PostParams { dry_run, field_manager: Some("tests".to_owned()) };
        self.0.create(&params, &serde_json::from_value(resource.clone()).unwrap()).await
    }

    /// Replaces one that is there.
    async fn change(&self, resource: &Value) -> Result<DynamicObject, Error> {
        let name = resource["metadata"]["name"].as_str().unwrap();
        let mut resource = resource.clone();
        resource["metadata"]["resourceVersion"] = json!(self.0.get(name).await.unwrap().metadata.resource_version);
        let params = PostParams { dry_run: true, field_manager: Some("tests".to_owned()) };
        self.0.replace(name, &params, &serde_json::from_value(resource).unwrap()).await
    }
}

fn resource(name: &str) -> Value {
    let mut resource = value(name);
    for field in ["uid", "namespace"] {
        resource["metadata"].as_object_mut().unwrap().remove(field);
    }
    resource
}

fn said(outcome: Result<DynamicObject, Error>) -> String {
    match outcome {
        Err(Error::Api(status)) => status.message.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_asks_for_what_cannot_be_is_told_why() {
    let servers = Servers::new().await;
    for name in ["standalone", "everything", "distributed"] {
        servers.create(&resource(name), false).await.unwrap();
    }
    for (name, changes, words) in refusals() {
        let mut changed = resource(name.trim_end_matches('|'));
        for (path, to) in &changes {
            set(&mut changed, path, to.clone());
        }
        let is_change = name.ends_with('|');
        let is_name = changes.iter().any(|(path, _)| *path == "metadata.name");
        if !is_change && !is_name {
            // Beside those that are there.
            changed["metadata"]["name"] = json!("other");
        }
        let outcome = if is_change { servers.change(&changed).await } else { servers.create(&changed, true).await };
        let said = said(outcome);
        // Of names that no resource can have, Kubernetes has its own words.
        assert!(said.contains(words) || (is_name && said.contains("metadata.name")), "{changes:?}: {said}");
    }
    for (path, to, words) in of_the_schema() {
        let mut changed = resource("distributed");
        changed["metadata"]["name"] = json!("other");
        set(&mut changed, path, to);
        let said = said(servers.create(&changed, true).await);
        assert!(said.contains(words), "{path}: {said}");
    }
    // As kubectl asks.
    let mut misspelt = resource("distributed");
    set(&mut misspelt, "spec.c2s.replica", json!(3));
    let params = PatchParams { dry_run: true, ..PatchParams::apply("tests").force().validation_strict() };
    let said = said(servers.0.patch("chat", &params, &Patch::Apply(&misspelt)).await);
    assert!(said.contains("spec.c2s.replica"), "{said}");
}
