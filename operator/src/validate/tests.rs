use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::*;
use crate::crd::IpFamily;
use crate::dereference::{
    CertificateFacts, CertificateLookup, KeyPair, Source, certificate_secrets, generated, references,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn server(changes: &[(&str, Value)]) -> XmppServer {
    let mut resource = json!({
        "apiVersion": "starling.im/v1alpha1",
        "kind": "XmppServer",
        "metadata": { "name": "chat", "namespace": "ns", "uid": "1" },
        "spec": {
            "domains": [{ "name": "example.com" }],
            "redis": { "secretRef": { "name": "redis" } },
            "database": { "secretRef": { "name": "database" } },
            "tls": { "secretRefs": [{ "name": "tls" }] },
        },
    });
    for (field, value) in changes {
        resource["spec"][field] = value.clone();
    }
    serde_json::from_value(resource).unwrap()
}

fn cluster(server: &XmppServer) -> Dereferenced {
    let value = |reference: &Reference| match reference.name.as_str() {
        "redis" => "redis://redis",
        "database" => "postgres://user:s3cret@db/name",
        _ => "word\n",
    };
    let found = |reference: Reference| (reference.clone(), Lookup::Found(Hidden::new(value(&reference))));
    let pair = || KeyPair { certificate: String::new(), key: Hidden::new("") };
    let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
    let facts =
        CertificateFacts { names: vec!["example.com".to_owned()], not_before: now - DAY, not_after: now + 60 * DAY };
    let secrets = certificate_secrets(server).into_iter();
    Dereferenced {
        now,
        image: "image".to_owned(),
        cluster: Cluster {
            cert_manager: true,
            pod_monitor: true,
            prometheus_rule: true,
            custom_metrics: true,
            ..Cluster::default()
        },
        values: references(server).into_iter().map(found).collect::<BTreeMap<_, _>>(),
        certificates: secrets.map(|secret| (secret, CertificateLookup::Found(facts.clone()))).collect(),
        link: Some(LinkCertificates { authorities: String::new(), router: pair(), instance: pair() }),
    }
}

fn problems(server: &XmppServer, found: &Dereferenced) -> Vec<(&'static str, String)> {
    let problems = validate(server, found).map(|validated| validated.notes).unwrap_err();
    problems.into_iter().map(|problem| (problem.reason, problem.message)).collect()
}

fn notes(server: &XmppServer, found: &Dereferenced) -> Vec<(ConditionType, &'static str)> {
    let validated = validate(server, found).unwrap();
    validated.notes.iter().map(|note| (note.about, note.reason)).collect()
}

#[track_caller]
fn refused(changes: &[(&str, Value)], change: impl FnOnce(&mut Dereferenced), reason: &str, words: &str) {
    let server = server(changes);
    let mut found = cluster(&server);
    change(&mut found);
    let said = problems(&server, &found);
    assert!(said.iter().any(|(of, message)| *of == reason && message.contains(words)), "{said:?}");
    assert!(said.iter().all(|(_, message)| !message.contains("s3cret")), "{said:?}");
}

fn lose(name: &'static str, lookup: Lookup) -> impl FnOnce(&mut Dereferenced) {
    move |found| {
        let value = found.values.iter_mut().find(|(reference, _)| reference.name == name);
        *value.unwrap().1 = lookup;
    }
}

#[test]
fn what_is_there_and_good_is_taken_without_a_word() {
    let server = server(&[]);
    assert_eq!(notes(&server, &cluster(&server)), []);
}

#[test]
fn what_is_named_and_not_there_is_said_by_its_name() {
    refused(&[], lose("redis", Lookup::NoObject), "SecretMissing", "there is no Secret redis");
    refused(&[], lose("database", Lookup::NoKey), "KeyMissing", "the Secret database has no key url");
    refused(&[], lose("database", Lookup::NotText), "NotText", "under url what is no UTF-8");
    let ca = json!({ "secretRef": { "name": "redis" }, "ca": { "configMapRef": { "name": "authorities" } } });
    refused(
        &[("redis", ca.clone())],
        lose("authorities", Lookup::NoObject),
        "ConfigMapMissing",
        "no ConfigMap authorities",
    );
    refused(&[("redis", ca)], |_| {}, "NoCertificate", "ConfigMap authorities, key ca.crt");
    refused(&[], |found| found.certificates.clear(), "SecretMissing", "there is no Secret tls");
    let unusable = CertificateLookup::Unusable("no key in it".to_owned());
    refused(&[], |found| drop(found.certificates.insert("tls".to_owned(), unusable)), "CertificateUnusable", "no key");
    refused(&[], |found| found.link = None, "InternalCertificatesMissing", "not there yet");
}

#[test]
fn a_url_that_cannot_be_used_is_said_and_not_shown() {
    let wrong = || Lookup::Found(Hidden::new("postgres://user:s3cret@db"));
    refused(&[], lose("database", wrong()), "InvalidUrl", "lacks the database's name");
    refused(&[], lose("redis", wrong()), "InvalidUrl", "does not begin with redis://");
}

#[test]
fn an_administrator_is_of_a_served_domain() {
    refused(&[("admins", json!(["root@example.org"]))], |_| {}, "DomainNotServed", "root@example.org");
    refused(&[("firstAdmin", json!({"address": "a@b"}))], |_| {}, "DomainNotServed", "a@b");
    let admin = json!({ "address": "admin@example.com" });
    let empty = Lookup::Found(Hidden::new("\n"));
    refused(&[("firstAdmin", admin)], lose("chat-first-admin", empty), "InvalidPassword", "one line of text");
}

#[test]
fn the_password_of_a_first_administrator_who_brings_none_is_made() {
    let server = server(&[("firstAdmin", json!({ "address": "admin@example.com" }))]);
    let made = Reference { source: Source::Secret, name: "chat-first-admin".to_owned(), key: "password".to_owned() };
    assert_eq!(generated(&server), [made]);
    let account = validate(&server, &cluster(&server)).unwrap().first_admin.unwrap();
    assert_eq!((account.address.as_str(), account.password.reveal()), ("admin@example.com", "word"));
}

#[test]
fn extra_settings_are_checked_as_the_server_checks_them() {
    let settings = |path: &str, value: Value| {
        let mut settings = serde_json::Map::new();
        settings.insert(path.to_owned(), value);
        [("c2s", json!({ "settings": settings }))]
    };
    refused(&settings("c2s.limits.dept", json!(9)), |_| {}, "SettingUnknown", "did you mean c2s.limits.depth?");
    refused(&settings("c2s.limits.depth", json!("deep")), |_| {}, "SettingInvalid", "c2s.limits.depth");
    refused(&settings("c2s.limits.depth", json!(5)), |_| {}, "SettingInvalid", "not from 8 to 500");
    for path in
        ["data", "roles", "redis.servers", "database.url", "link.tls.ca", "c2s.starttls.listen", "c2s.stop_grace"]
    {
        refused(&settings(path, json!("x")), |_| {}, "SettingReserved", path);
    }
    let good = server(&settings("c2s.starttls.required", json!("false")));
    let settings = &validate(&good, &cluster(&good)).unwrap().settings;
    assert!(!settings[&Component::C2s].settings.c2s.starttls.required);
    assert!(settings[&Component::Session].settings.c2s.starttls.required);
}

#[test]
fn what_an_older_schema_let_through_is_refused_here() {
    for (field, words) in [("redis", "needs redis"), ("database", "needs a database"), ("tls", "needs tls")] {
        refused(&[(field, Value::Null)], |_| {}, "InvalidSpec", words);
    }
    refused(&[("profile", json!("Standalone"))], |_| {}, "InvalidSpec", "needs no redis");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let server = server(&[("admins", json!(["root@example.org"]))]);
    let mut found = cluster(&server);
    found.values.clear();
    found.certificates.clear();
    let reasons: Vec<_> = problems(&server, &found).into_iter().map(|(reason, _)| reason).collect();
    assert!(reasons.len() >= 4, "{reasons:?}");
}

#[test]
fn a_certificate_that_is_not_as_it_should_be_is_said_and_hinders_nothing() {
    let server = server(&[]);
    let with = |change: fn(&mut CertificateFacts, SystemTime)| {
        let mut found = cluster(&server);
        let Some(CertificateLookup::Found(facts)) = found.certificates.get_mut("tls") else { panic!() };
        change(facts, found.now);
        notes(&server, &found)
    };
    let about = |reason| vec![(ConditionType::TlsReady, reason)];
    assert_eq!(with(|facts, now| facts.not_after = now - DAY), about("CertificateExpired"));
    assert_eq!(with(|facts, now| facts.not_after = now), about("CertificateExpired"));
    assert_eq!(with(|facts, now| facts.not_after = now + 13 * DAY), about("CertificateExpiresSoon"));
    assert_eq!(with(|facts, now| facts.not_after = now + 14 * DAY), []);
    assert_eq!(with(|facts, now| facts.not_before = now + DAY), about("CertificateNotYetValid"));
    assert_eq!(with(|facts, _| facts.names = vec!["example.org".to_owned()]), about("NameMismatch"));
}

#[test]
fn a_certificate_that_is_being_made_is_waited_for() {
    let server = server(&[("tls", json!({ "issuerRef": { "name": "ca" } }))]);
    let mut found = cluster(&server);
    found.certificates.clear();
    assert_eq!(notes(&server, &found), [(ConditionType::TlsReady, "CertificatePending")]);
    found.cluster.cert_manager = false;
    assert_eq!(notes(&server, &found), [(ConditionType::TlsReady, "CertManagerMissing")], "it will not come");
    let found = Dereferenced { cluster: found.cluster, ..cluster(&server) };
    assert_eq!(notes(&server, &found), [(ConditionType::Degraded, "CertManagerMissing")], "it is there, and good");
}

#[test]
fn what_the_cluster_lacks_is_said_where_it_was_asked_for() {
    let lacking = |changes: &[(&str, Value)]| {
        let server = server(changes);
        let mut found = cluster(&server);
        found.cluster = Cluster::default();
        notes(&server, &found)
    };
    assert_eq!(lacking(&[]), []);
    let degraded = |reason| [(ConditionType::Degraded, reason)];
    let monitoring = json!({ "podMonitor": { "enabled": true } });
    assert_eq!(lacking(&[("monitoring", monitoring)]), degraded("PrometheusOperatorMissing"));
    let scaling = json!({ "autoscaling": { "maxReplicas": 9, "targetSessions": 100 } });
    assert_eq!(lacking(&[("c2s", scaling)]), degraded("CustomMetricsMissing"));
}

#[test]
fn limits_by_address_that_count_nodes_are_said() {
    let limits = ("limits", json!({ "connectionsPerAddress": 10 }));
    let with = |service: Value| {
        let server = server(&[limits.clone(), ("c2s", service)]);
        notes(&server, &cluster(&server))
    };
    assert_eq!(with(json!({})), [(ConditionType::Degraded, "ClientAddressesHidden")]);
    assert_eq!(with(json!({ "service": { "externalTrafficPolicy": "Local" } })), []);
    assert_eq!(with(json!({ "proxyProtocol": { "trusted": ["10.0.0.0/8"] } })), []);
}

#[test]
fn servers_that_share_a_redis_do_not_share_keys() {
    let server = server(&[]);
    let settings = &validate(&server, &cluster(&server)).unwrap().settings;
    assert_eq!(settings[&Component::C2s].settings.redis.key_prefix, "ns/chat");
    assert_eq!(settings[&Component::C2s].settings.redis, settings[&Component::Session].settings.redis);
}

#[test]
fn pods_wait_for_the_schema_and_the_job_makes_it() {
    use starling_settings::Migrate;
    let server = server(&[("firstAdmin", json!({ "address": "admin@example.com" }))]);
    let settings = validate(&server, &cluster(&server)).unwrap().settings;
    for (component, written) in &settings {
        let expected = match component {
            Component::Migrate | Component::Router => Migrate::Auto,
            _ => Migrate::Wait,
        };
        assert_eq!(written.settings.database.migrate, expected, "{component:?}");
        assert_eq!(written.settings.database.url.is_empty(), *component == Component::Router, "{component:?}");
    }
}

#[test]
fn pods_listen_on_the_families_that_they_have() {
    let listens = |families: &[IpFamily]| {
        let server = server(&[]);
        let mut found = cluster(&server);
        found.cluster.families = families.iter().copied().collect();
        let settings = validate(&server, &found).unwrap().settings;
        let (c2s, router) = (&settings[&Component::C2s].settings, &settings[&Component::Router].settings);
        (c2s.c2s.starttls.listen.join(" "), c2s.http.listen.clone(), router.router.listen.join(" "))
    };
    let v4 = ("0.0.0.0:5222".to_owned(), "0.0.0.0:5280".to_owned(), "0.0.0.0:5270".to_owned());
    assert_eq!(listens(&[]), v4);
    assert_eq!(listens(&[IpFamily::V4]), v4);
    assert_eq!(listens(&[IpFamily::V6]), ("[::]:5222".to_owned(), "[::]:5280".to_owned(), "[::]:5270".to_owned()));
    assert_eq!(listens(&[IpFamily::V4, IpFamily::V6]).0, "0.0.0.0:5222 [::]:5222");
}
