//! Which pods a change of each field replaces: no more than must be.

#![allow(clippy::panic, clippy::unwrap_used, reason = "what fails fails the test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use starling_operator::crd::definition;

use common::{built, parse, sent, set, value};

/// A field, what it becomes, and the components whose pods are others then: of settings, only of those that a running
/// `starlingd` does not take up.
fn table() -> Vec<(&'static str, Value, &'static str)> {
    let everybody = "c2s session router migrate first-admin";
    let sessions = "c2s session";
    vec![
        ("profile", Value::Null, ""),
        ("domains.2.name", json!("example.info"), "c2s session first-admin"),
        ("domains.2.serviceHosts", json!(["upload.example.com"]), ""),
        ("image", json!("registry.example/starlingd:1.2.4"), everybody),
        ("imagePullPolicy", json!("IfNotPresent"), everybody),
        ("imagePullSecrets", json!([{"name": "other"}]), everybody),
        ("tls.secretRefs.1.name", json!("other"), "c2s"),
        ("tls.issuerRef", json!({"name": "ca"}), "c2s"),
        ("redis.secretRef.key", json!("other"), ""),
        ("redis.ca", Value::Null, sessions),
        ("redis.keyPrefix", json!("other"), sessions),
        ("database.secretRef.key", json!("other"), ""),
        ("database.ca", Value::Null, "c2s session migrate first-admin"),
        ("database.migrate", json!("Manual"), "migrate"),
        ("database.connections", json!(30), "c2s session migrate first-admin"),
        ("c2s.replicas", json!(7), ""),
        ("c2s.autoscaling.maxReplicas", json!(50), ""),
        ("c2s.resources.limits.memory", json!("3Gi"), "c2s"),
        ("c2s.scheduling.priorityClassName", json!("low"), "c2s"),
        ("c2s.podLabels.team", json!("other"), "c2s"),
        ("c2s.podAnnotations.note", json!("other"), "c2s"),
        ("c2s.settings", json!({"c2s.limits.depth": 33, "log.level": "debug"}), ""),
        ("c2s.settings", json!({"log.format": "json"}), "c2s"),
        ("c2s.service.annotations.note", json!("other"), ""),
        ("c2s.service.type", json!("NodePort"), ""),
        ("c2s.service.loadBalancerClass", json!("example.com/other"), ""),
        ("c2s.service.loadBalancerSourceRanges", json!(["198.51.100.0/24"]), ""),
        ("c2s.service.externalTrafficPolicy", json!("Cluster"), ""),
        ("c2s.service.ipFamilies", json!(["IPv4"]), "c2s session router"),
        ("c2s.service.ipFamilyPolicy", json!("PreferDualStack"), ""),
        ("c2s.proxyProtocol.trusted", json!(["10.1.0.0/16"]), ""),
        ("session.replicas", json!(4), ""),
        ("session.autoscaling", json!({"maxReplicas": 9, "targetCpuPercent": 50}), ""),
        ("session.resources.requests.cpu", json!("200m"), "session migrate first-admin"),
        ("session.scheduling", json!({"nodeSelector": {"pool": "other"}}), "session migrate first-admin"),
        ("session.podLabels", json!({"team": "other"}), "session migrate first-admin"),
        ("session.podAnnotations", json!({"note": "other"}), "session migrate first-admin"),
        ("session.settings", json!({"session.offline_messages": 400}), ""),
        ("router.replicas", json!(4), ""),
        ("router.autoscaling.maxReplicas", json!(5), ""),
        ("router.resources", json!({"requests": {"cpu": "1"}}), "router"),
        ("router.scheduling", json!({"nodeSelector": {"pool": "other"}}), "router"),
        ("router.podLabels.team", json!("other"), "router"),
        ("router.podAnnotations", json!({"note": "other"}), "router"),
        ("router.settings", json!({"log.level": "debug"}), ""),
        ("auth.mechanisms", json!(["SCRAM-SHA-256"]), ""),
        ("auth.iterations", json!(30000), ""),
        ("auth.maxAttempts", json!(4), ""),
        ("admins", json!(["other@example.org"]), ""),
        ("firstAdmin.address", json!("boss@example.com"), "first-admin"),
        ("firstAdmin.passwordSecretRef.key", json!("other"), ""),
        ("registration.enabled", json!(false), ""),
        ("registration.perAddressPerHour", json!(3), ""),
        ("sessions.conflict", json!("Rename"), ""),
        ("sessions.resourcesPerAccount", json!(9), ""),
        ("sessions.resumeSeconds", json!(60), ""),
        ("sessions.offlineMessages", json!(100), ""),
        ("archive.enabled", json!(true), sessions),
        ("limits.authenticationSeconds", json!(21), ""),
        ("limits.stanzaBytesBeforeLogin", json!(8001), ""),
        ("limits.stanzaBytes", json!(100_001), ""),
        ("limits.connections", json!(50_001), ""),
        ("limits.connectionsPerAddress", json!(51), ""),
        ("limits.acceptPerSecond", json!(301), ""),
        ("limits.acceptBurst", json!(601), ""),
        ("limits.failedLoginsPerAddress", json!(5), ""),
        ("limits.failedLoginsPerAccount", json!(61), ""),
        ("limits.bytesPerSecond", json!("off"), ""),
        ("limits.bytesBurst", json!(524_289), ""),
        ("limits.queueStanzas", json!(501), ""),
        ("limits.queueBytes", json!(2_000_001), ""),
        ("limits.writeTimeoutSeconds", json!(46), ""),
        ("drain.graceSeconds", json!(11), "c2s router"),
        // The setting is taken up, but Kubernetes' own bound stands in the pod.
        ("drain.durationSeconds", json!(121), "c2s"),
        ("log.level", json!("warn"), ""),
        ("log.format", json!("Json"), "c2s session router"),
        ("monitoring.podMonitor", json!({"enabled": false}), ""),
        ("monitoring.prometheusRule", json!({"enabled": false}), ""),
        ("networkPolicy.enabled", json!(false), ""),
        ("networkPolicy.metricsFrom", json!([]), ""),
        ("networkPolicy.backends", json!([]), ""),
        ("paused", json!(true), ""),
    ]
}

/// The pod templates by component; of a Job, with its name.
fn pods(resource: &Value) -> BTreeMap<String, Value> {
    let objects = sent(&built(&parse(resource))).into_iter();
    let pods = objects.filter_map(|object| {
        let template = object.pointer("/spec/template")?;
        let component = template.pointer("/metadata/labels/app.kubernetes.io~1component")?.as_str()?;
        Some((component.to_owned(), template.clone()))
    });
    pods.collect()
}

#[test]
fn a_change_of_a_field_replaces_only_the_pods_that_it_must() {
    let base = value("everything");
    let before = pods(&base);
    assert_eq!(before.len(), 5);
    for (path, to, expected) in table() {
        let mut changed = base.clone();
        if path.starts_with("tls.issuerRef") {
            set(&mut changed, "spec.tls.secretRefs", Value::Null);
        }
        set(&mut changed, &format!("spec.{path}"), to);
        let after = pods(&changed);
        let others: BTreeSet<&str> = before
            .keys()
            .filter(|component| before.get(*component) != after.get(*component))
            .map(String::as_str)
            .collect();
        assert_eq!(others, expected.split_whitespace().collect(), "{path}");
    }
}

#[test]
fn every_field_is_seen_in_what_comes_out() {
    let base = value("everything");
    let before = sent(&built(&parse(&base)));
    let mut wrong = Vec::new();
    for (path, to, _) in table() {
        let mut changed = base.clone();
        set(&mut changed, &format!("spec.{path}"), to);
        let is_seen = match path {
            // It is what it was by default; the names are in certificates of cert-manager alone; and nothing is built.
            "profile" | "domains.2.serviceHosts" | "paused" => continue,
            "tls.issuerRef" => {
                set(&mut changed, "spec.tls.secretRefs", Value::Null);
                true
            }
            // Their Secrets hold the same under each key.
            "redis.secretRef.key" | "database.secretRef.key" | "firstAdmin.passwordSecretRef.key" => false,
            // An autoscaler counts.
            "c2s.replicas" | "router.replicas" => false,
            _ => true,
        };
        if (sent(&built(&parse(&changed))) != before) != is_seen {
            wrong.push(path);
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn the_table_has_every_field() {
    let definition = serde_json::to_value(definition()).unwrap();
    let spec = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
    let table = table();
    let has = |path: &str| table.iter().any(|(of, ..)| *of == path || of.starts_with(&format!("{path}.")));
    for (name, field) in spec.as_object().unwrap() {
        // Of the other profile.
        if name == "storage" {
            continue;
        }
        let fields = field.get("properties").or_else(|| field.pointer("/items/properties"));
        let Some(fields) = fields.and_then(Value::as_object) else {
            assert!(has(name), "{name}");
            continue;
        };
        for (inner, field) in fields {
            let path = match field {
                _ if name == "domains" => format!("domains.2.{inner}"),
                _ if name == "imagePullSecrets" => name.clone(),
                _ => format!("{name}.{inner}"),
            };
            assert!(has(&path), "{path}");
            for third in field.get("properties").and_then(Value::as_object).into_iter().flat_map(|fields| fields.keys())
            {
                let is_own = ["c2s.service", "c2s.proxyProtocol"].contains(&path.as_str());
                assert!(!is_own || has(&format!("{path}.{third}")), "{path}.{third}");
            }
        }
    }
}

#[test]
fn of_a_standalone_server_only_what_it_does_not_take_up_while_it_runs_replaces_the_pod() {
    let base = value("standalone");
    let before = pods(&base);
    for (path, to, is_replaced) in [
        ("spec.log", json!({"format": "Human"}), true),
        ("spec.log", json!({"level": "debug"}), false),
        ("spec.limits", json!({"connections": 10}), false),
        ("spec.firstAdmin", json!({"address": "admin@example.com"}), true),
        ("spec.c2s", json!({"service": {"type": "ClusterIP"}}), false),
        ("spec.networkPolicy", json!({"enabled": false}), false),
    ] {
        let mut changed = base.clone();
        set(&mut changed, path, to);
        assert_eq!(pods(&changed) != before, is_replaced, "{path}");
    }
}

#[test]
fn new_contents_of_secrets_replace_no_pod() {
    use starling_operator::{
        build::build,
        dereference::{Hidden, Lookup},
        validate::validate,
    };
    let server = common::server("everything");
    let mut found = common::cluster(&server);
    for lookup in found.values.values_mut() {
        let Lookup::Found(text) = lookup else { panic!("{lookup:?}") };
        *text = Hidden::new(text.reveal().replace("s3cret", "other").replace("authority", "other"));
    }
    let link = found.link.as_mut().unwrap();
    link.authorities = "other".to_owned();
    link.router.certificate = "other".to_owned();
    link.instance.key = Hidden::new("other");
    let objects = sent(&build(&validate(&server, &found).unwrap()));
    let before = sent(&built(&server));
    assert_eq!(objects.len(), before.len());
    for (after, before) in objects.iter().zip(&before) {
        assert!(after["kind"] == "Secret" || after == before, "{after:#}");
    }
    assert_ne!(objects, before);
}
