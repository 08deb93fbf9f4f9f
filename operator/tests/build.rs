//! What is built is what was looked at and found good: `tests/golden`. `STARLING_GOLDEN=write` writes them anew.

#![allow(clippy::panic, clippy::unwrap_used, clippy::string_slice, reason = "what fails fails the test")]

mod common;

use std::collections::BTreeSet;

use serde_json::Value;
use starling_operator::{
    build::{Stage, termination_grace},
    crd::Drain,
    names::Component,
};
use starling_settings::Settings;

use common::{built, folder, sent, server, validated};

const RESOURCES: [&str; 4] = ["standalone", "standalone-full", "distributed", "everything"];

fn pod_templates(name: &str) -> Vec<(String, Value)> {
    let objects = sent(&built(&server(name)));
    let templates = objects.into_iter().filter_map(|object| {
        let name = object["metadata"]["name"].as_str()?.to_owned();
        let template = object.pointer("/spec/template")?.clone();
        Some((name, template))
    });
    templates.collect()
}

#[test]
fn the_objects_are_the_golden_ones() {
    for name in RESOURCES {
        let mut text = String::new();
        for (stage, object) in built(&server(name)).iter() {
            let value = object.to_value().unwrap();
            text.push_str(&format!("---\n# {stage:?}\n{}", serde_saphyr::to_string(&value).unwrap()));
        }
        let path = folder("golden").join(format!("{name}.yaml"));
        if std::env::var("STARLING_GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if golden != text {
            let line = golden.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
            let (a, b) = (golden.lines().nth(line), text.lines().nth(line));
            panic!(
                "{}, line {}: {a:?} is {b:?} now; STARLING_GOLDEN=write takes it as it is",
                path.display(),
                line + 1
            );
        }
    }
}

#[test]
fn the_same_comes_out_of_the_same() {
    for name in RESOURCES {
        assert_eq!(sent(&built(&server(name))), sent(&built(&server(name))), "{name}");
    }
}

#[test]
fn no_two_objects_are_the_same_and_each_goes_with_its_resource() {
    for name in RESOURCES {
        let (server, mut seen) = (server(name), BTreeSet::new());
        for object in sent(&built(&server)) {
            let key = (object["kind"].to_string(), object["metadata"]["name"].to_string());
            assert!(seen.insert(key.clone()), "{key:?}");
            let owner = &object["metadata"]["ownerReferences"][0];
            assert_eq!(owner["uid"].as_str(), server.metadata.uid.as_deref(), "{key:?}");
            assert_eq!((&owner["kind"], &owner["controller"]), (&Value::from("XmppServer"), &Value::from(true)));
            assert_eq!(object["metadata"]["namespace"].as_str(), server.metadata.namespace.as_deref());
            assert!(object["metadata"]["name"].as_str().unwrap().len() <= 63, "{key:?}");
        }
    }
}

#[test]
fn every_pod_is_of_the_restricted_kind_and_has_no_token() {
    for name in RESOURCES {
        for (workload, template) in pod_templates(name) {
            let spec = &template["spec"];
            assert_eq!(spec["automountServiceAccountToken"], false, "{workload}");
            assert_eq!(spec["enableServiceLinks"], false, "{workload}");
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{workload}");
            assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{workload}");
            let none = Vec::new();
            let containers = spec["containers"].as_array().unwrap();
            for container in containers.iter().chain(spec["initContainers"].as_array().unwrap_or(&none)) {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{workload}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{workload}");
                assert_eq!(security["capabilities"]["drop"][0], "ALL", "{workload}");
                assert!(container.get("env").is_none(), "{workload}: the server takes every STARLING_ for a setting");
                for mount in container["volumeMounts"].as_array().unwrap() {
                    assert!(mount.get("subPath").is_none(), "{workload}: such a mount never changes");
                }
            }
        }
    }
}

#[test]
fn every_volume_that_is_mounted_is_there_and_every_file_of_the_settings_is_mounted() {
    for name in RESOURCES {
        let server = server(name);
        let (validated, objects) = (validated(&server), sent(&built(&server)));
        for (workload, template) in pod_templates(name) {
            let component = template["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap();
            let (_, written) = validated.settings.iter().find(|(of, _)| of.as_str() == component).unwrap();
            let none = Vec::new();
            let volumes = template["spec"]["volumes"].as_array().unwrap_or(&none).iter();
            let volumes: BTreeSet<_> = volumes.map(|volume| volume["name"].to_string()).collect();
            let mounts = template["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
            for mount in mounts {
                let is_claimed = mount["name"] == "data" && component == "standalone";
                assert!(is_claimed || volumes.contains(&mount["name"].to_string()), "{workload}: {mount}");
            }
            let folders: Vec<_> = mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap()).collect();
            for path in written.text.split('"').filter(|text| text.starts_with('/')) {
                assert!(folders.iter().any(|folder| path.starts_with(folder)), "{workload}: {path} is nowhere");
            }
        }
        // Files that the operator's own Secrets are to hold are in them.
        for path in validated.settings.values().flat_map(|written| written.text.split('"')) {
            let Some(key) = path.strip_prefix("/etc/starling/backends/") else { continue };
            let secret = objects.iter().find(|object| {
                object["kind"] == "Secret" && object["metadata"]["name"].as_str().unwrap().ends_with("-backends")
            });
            assert!(secret.unwrap()["data"].get(key).is_some(), "{key}");
        }
    }
}

#[test]
fn the_servers_own_reader_finds_in_each_config_map_what_was_meant() {
    for name in RESOURCES {
        let server = server(name);
        let validated = validated(&server);
        let maps: Vec<_> = sent(&built(&server)).into_iter().filter(|object| object["kind"] == "ConfigMap").collect();
        assert_eq!(maps.len(), validated.settings.len(), "{name}");
        for map in maps {
            let component = map["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap();
            let (_, written) = validated.settings.iter().find(|(of, _)| of.as_str() == component).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), map["data"]["starling.toml"].as_str().unwrap()).unwrap();
            assert_eq!(Settings::load(Some(file.path()), []).unwrap(), written.settings, "{name}: {component}");
        }
    }
}

#[test]
fn passwords_stand_in_secrets_alone() {
    for name in RESOURCES {
        let server = server(name);
        let validated = validated(&server);
        let objects = built(&server);
        let others = sent(&objects).into_iter().filter(|object| object["kind"] != "Secret");
        let shown = others.map(|object| object.to_string()).collect::<String>();
        for text in [shown, format!("{objects:?}"), format!("{validated:?}")] {
            for secret in
                ["s3cret-redis", "s3cret-sentinel", "s3cret-database", "s3cret-admin", "router key", "instance key"]
            {
                assert!(!text.contains(secret), "{name}: {secret}");
            }
        }
    }
}

#[test]
fn a_pod_is_given_the_time_that_its_own_drain_takes() {
    // The bounds of `starlingd`, after its streams: 3 for clients to close, 5, 10, 5, 5, 5 for its parts.
    const OWN: i64 = 33;
    for (grace, duration) in [(0, 1), (5, 30), (300, 3600)] {
        let drain = Drain { grace_seconds: grace, duration_seconds: duration };
        let time = |component| termination_grace(&drain, component);
        for component in [Component::C2s, Component::Standalone] {
            assert!(time(component) >= i64::from(grace) + i64::from(duration) + OWN, "{component:?}");
        }
        assert!(time(Component::Router) >= i64::from(grace) + OWN);
        assert!(time(Component::Session) >= OWN);
    }
    let (_, template) = pod_templates("everything").into_iter().find(|(name, _)| name == "big-c2s").unwrap();
    assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 10 + 120 + 45);
    assert_eq!(template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
}

#[test]
fn stages_come_in_the_order_of_a_safe_roll_out() {
    let objects = built(&server("everything"));
    let workloads: Vec<_> = objects
        .iter()
        .filter(|(_, object)| ["Deployment", "Job"].contains(&object.resource().kind.as_str()))
        .map(|(stage, object)| (stage, object.name().to_owned()))
        .collect();
    let stages: Vec<_> = workloads.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(
        stages,
        [Stage::Migration, Stage::Migration, Stage::Routers, Stage::Sessions, Stage::C2s],
        "{workloads:?}"
    );
}

#[test]
fn a_deployment_that_something_else_scales_says_no_number() {
    let objects = sent(&built(&server("everything")));
    let find = |kind: &str, name: &str| {
        objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    };
    assert!(find("Deployment", "big-c2s").unwrap()["spec"].get("replicas").is_none());
    assert_eq!(find("HorizontalPodAutoscaler", "big-c2s").unwrap()["spec"]["minReplicas"], 3);
    assert_eq!(find("Deployment", "big-session").unwrap()["spec"]["replicas"], 3);
    assert!(find("HorizontalPodAutoscaler", "big-session").is_none());
}

#[test]
fn a_single_pod_has_no_disruption_budget_and_several_have() {
    for (replicas, is_there) in [(0, false), (1, false), (2, true)] {
        let mut server = server("distributed");
        server.spec.c2s.replicas = replicas;
        let objects = sent(&built(&server));
        let budget = objects
            .iter()
            .find(|object| object["kind"] == "PodDisruptionBudget" && object["metadata"]["name"] == "chat-c2s");
        assert_eq!(budget.is_some(), is_there, "{replicas}");
        if let Some(budget) = budget {
            assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
        }
    }
}

#[test]
fn what_the_cluster_lacks_is_not_built() {
    let server = server("everything");
    let mut found = common::cluster(&server);
    found.cluster = starling_operator::dereference::Cluster::default();
    let validated = starling_operator::validate::validate(&server, &found).unwrap();
    let kinds: BTreeSet<_> =
        starling_operator::build::build(&validated).iter().map(|(_, object)| object.resource().kind).collect();
    for kind in ["Certificate", "PodMonitor", "PrometheusRule"] {
        assert!(!kinds.contains(kind), "{kind}");
    }
    // It waits for its metric, and leaves the number of pods as it is: that is no reason to take it away.
    assert!(kinds.contains("HorizontalPodAutoscaler"));
}

#[test]
fn alerts_ask_for_metrics_that_the_server_has() {
    let objects = sent(&built(&server("everything")));
    let rule = objects.iter().find(|object| object["kind"] == "PrometheusRule").unwrap().to_string();
    let names: BTreeSet<_> = rule
        .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .filter(|word| word.starts_with("starling_") || word.starts_with("process_"))
        .collect();
    assert!(names.len() > 5, "{names:?}");
    let sources = folder("../../server");
    let source: String = files(&sources).into_iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for name in names {
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// Rust files below a folder.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
