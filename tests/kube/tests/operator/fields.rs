//! Every field of the spec, in what the API server has at the end.

use std::net::{Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    scheduling::v1::PriorityClass,
};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use starling_kube_tests::certificate;
use starling_operator::{
    apply,
    crd::XmppServer,
    dereference::{Lookup, Source, certificate_secrets, generated, references},
};

use crate::{
    common::{built, cluster, content, facts, parse, sent, value},
    plane,
    world::World,
};

/// What `common::cluster` says that there is.
async fn make_what_it_refers_to(world: &World, server: &XmppServer) {
    let apply = PatchParams::apply("tests").force();
    let own = generated(server);
    for reference in references(server).into_iter().filter(|reference| !own.contains(reference)) {
        let Lookup::Found(text) = content(&reference) else { panic!("{reference}") };
        let data = json!({ reference.key.as_str(): text.reveal() });
        let object = |field: &str| {
            let kind = reference.source.as_str();
            json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": reference.name }, field: data })
        };
        match reference.source {
            Source::Secret => {
                let patch = Patch::Apply(object("stringData"));
                drop(world.api::<Secret>().patch(&reference.name, &apply, &patch).await.unwrap());
            }
            Source::ConfigMap => {
                let patch = Patch::Apply(object("data"));
                drop(world.api::<ConfigMap>().patch(&reference.name, &apply, &patch).await.unwrap());
            }
        }
    }
    // Of the whole cluster.
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": "high" }, "value": 1000,
    });
    Api::<PriorityClass>::all(world.client.clone()).patch("high", &apply, &Patch::Apply(class)).await.unwrap();
    let facts = facts(server);
    let names: Vec<_> = facts.names.iter().map(String::as_str).collect();
    for name in certificate_secrets(server) {
        let (certificate, key) = certificate(&names);
        world.secret(&name, &[("tls.crt", &certificate), ("tls.key", &key)]).await;
    }
}

/// Asserts that everything of `wanted` is there, whatever is there beside it.
fn assert_within(wanted: &Value, found: &Value, path: &str) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, wanted) in wanted {
                let none = Value::Null;
                assert_within(wanted, found.get(name).unwrap_or(&none), &format!("{path}.{name}"));
            }
        }
        (Value::Array(wanted), Value::Array(found)) => {
            assert_eq!(wanted.len(), found.len(), "{path}: {found:?}");
            for (at, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                assert_within(wanted, found, &format!("{path}[{at}]"));
            }
        }
        _ => assert_eq!(wanted, found, "{path}"),
    }
}

#[tokio::test]
async fn all_that_is_built_is_what_the_api_server_has() {
    for name in ["everything", "standalone-full"] {
        let world = World::without_operator(plane().await).await;
        let mut resource = value(name);
        let metadata = resource["metadata"].as_object_mut().unwrap();
        metadata.remove("uid");
        metadata.insert("namespace".to_owned(), json!(world.namespace));
        let server = parse(&resource);
        make_what_it_refers_to(&world, &server).await;
        let _operator = world
            .start_operator_with("operator", |arguments| {
                arguments.server_image = cluster(&server).image;
                arguments.pod_ips = vec![Ipv4Addr::LOCALHOST.into()];
                if name == "everything" {
                    arguments.pod_ips.push(Ipv6Addr::LOCALHOST.into());
                }
            })
            .await;
        world.create::<XmppServer>(resource).await;
        let server = world.settled(server.metadata.name.as_deref().unwrap()).await;

        for mut object in sent(&built(&server)) {
            let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
            let path = format!("{kind} {name}");
            let resource = apply::resource(kind).unwrap();
            let api = Api::<DynamicObject>::namespaced_with(world.client.clone(), &world.namespace, &resource);
            let found = api.get(name).await.unwrap_or_else(|error| panic!("{path}: {error}"));
            let found = serde_json::to_value(&found).unwrap();
            if kind == "Secret" {
                // Keys are made by chance; their names are not.
                let names = |object: &Value| -> Vec<String> {
                    object["data"].as_object().into_iter().flat_map(|data| data.keys().cloned()).collect()
                };
                assert_eq!(names(&object), names(&found), "{path}");
                object.as_object_mut().unwrap().remove("data");
            }
            assert_within(&object, &found, &path);
        }
    }
}
