//! Which pods a change of each field replaces: no more than must be.

#![allow(clippy::panic, clippy::unwrap_used, reason = "what fails fails the test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use starling_operator::crd::definition;

use common::{built, parse, sent, set, value};

/// A field, what it becomes, and the components whose pods are others then.
///
/// What only `starlingd` could take up while it runs, and does not yet, is marked by a star: see `build::RELOADED`.
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
        // *
        ("c2s.settings", json!({"c2s.limits.depth": 33, "log.level": "debug"}), "c2s"),
        ("c2s.service.annotations.note", json!("other"), ""),
        ("c2s.service.type", json!("LoadBalancer"), ""),
        ("c2s.service.loadBalancerClass", json!("example.com/other"), ""),
        ("c2s.service.loadBalancerSourceRanges", json!(["198.51.100.0/24"]), ""),
        ("c2s.service.externalTrafficPolicy", json!("Cluster"), ""),
        ("c2s.service.ipFamilies", json!(["IPv4"]), "c2s session router"),
        ("c2s.service.ipFamilyPolicy", json!("PreferDualStack"), ""),
        // *
        ("c2s.proxyProtocol.trusted", json!(["10.1.0.0/16"]), "c2s"),
        ("session.replicas", json!(4), ""),
        ("session.autoscaling", json!({"maxReplicas": 9, "targetCpuPercent": 50}), ""),
        ("session.resources.requests.cpu", json!("200m"), "session migrate first-admin"),
        ("session.scheduling", json!({"nodeSelector": {"pool": "other"}}), "session migrate first-admin"),
        ("session.podLabels", json!({"team": "other"}), "session migrate first-admin"),
        ("session.podAnnotations", json!({"note": "other"}), "session migrate first-admin"),
        ("session.settings", json!({"session.offline_messages": 400}), "session"),
        ("router.replicas", json!(4), ""),
        ("router.autoscaling.maxReplicas", json!(5), ""),
        ("router.resources", json!({"requests": {"cpu": "1"}}), "router"),
        ("router.scheduling", json!({"nodeSelector": {"pool": "other"}}), "router"),
        ("router.podLabels.team", json!("other"), "router"),
        ("router.podAnnotations", json!({"note": "other"}), "router"),
        ("router.settings", json!({"log.level": "debug"}), "router"),
        ("auth.mechanisms", json!(["SCRAM-SHA-256"]), "c2s session first-admin"),
        ("auth.iterations", json!(30000), "c2s session first-admin"),
        ("auth.maxAttempts", json!(4), "c2s session first-admin"),
        ("admins", json!(["other@example.org"]), sessions),
        ("firstAdmin.address", json!("boss@example.com"), "c2s session first-admin"),
        ("firstAdmin.passwordSecretRef.key", json!("other"), ""),
        ("registration.enabled", json!(false), sessions),
        ("registration.perAddressPerHour", json!(3), sessions),
        ("sessions.conflict", json!("Rename"), sessions),
        ("sessions.resourcesPerAccount", json!(9), sessions),
        ("sessions.resumeSeconds", json!(60), sessions),
        // The role's own setting stands over it.
        ("sessions.offlineMessages", json!(100), "c2s"),
        ("archive.enabled", json!(true), sessions),
        // * all of them
        ("limits.authenticationSeconds", json!(21), "c2s"),
        ("limits.stanzaBytesBeforeLogin", json!(8001), "c2s"),
        ("limits.stanzaBytes", json!(100_001), "c2s"),
        ("limits.connections", json!(50_001), "c2s"),
        ("limits.connectionsPerAddress", json!(51), "c2s"),
        ("limits.acceptPerSecond", json!(301), "c2s"),
        ("limits.acceptBurst", json!(601), "c2s"),
        ("limits.failedLoginsPerAddress", json!(5), "c2s"),
        ("limits.failedLoginsPerAccount", json!(61), "c2s"),
        ("limits.bytesPerSecond", json!("off"), "c2s"),
        ("limits.bytesBurst", json!(524_289), "c2s"),
        ("limits.queueStanzas", json!(501), sessions),
        ("limits.queueBytes", json!(2_000_001), sessions),
        ("limits.writeTimeoutSeconds", json!(46), "c2s"),
        ("drain.graceSeconds", json!(11), "c2s router"),
        ("drain.durationSeconds", json!(121), "c2s"),
        // * of c2s, its own setting stands over it
        ("log.level", json!("warn"), "session router"),
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
fn of_a_standalone_server_a_change_of_what_it_reads_replaces_the_pod_and_a_new_service_does_not() {
    let base = value("standalone");
    let before = pods(&base);
    for (path, to, is_replaced) in [
        ("spec.log", json!({"level": "debug"}), true),
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
