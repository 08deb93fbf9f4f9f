use std::{collections::BTreeMap, time::SystemTime};

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    crd::Address,
    dereference::CertificateFacts,
    inventory::{Child, Key, Pod},
    rollout::plan,
    validate::Owner,
};

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn server(spec: Value) -> XmppServer {
    let mut whole = json!({
        "domains": [{ "name": "example.com" }],
        "redis": { "secretRef": { "name": "redis" } },
        "database": { "secretRef": { "name": "database" } },
        "tls": { "secretRefs": [{ "name": "tls" }] },
    });
    let fields = whole.as_object_mut().unwrap();
    fields.extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "metadata": { "name": "chat", "namespace": "ns", "uid": "uid", "generation": 3 }, "spec": whole,
    }))
    .unwrap()
}

fn validated(server: &XmppServer, notes: Vec<Note>) -> Validated {
    Validated {
        owner: Owner { namespace: "ns".to_owned(), name: "chat".to_owned(), uid: "uid".to_owned() },
        spec: server.spec.clone(),
        image: "registry:5000/starlingd:1.2.3".to_owned(),
        cluster: Default::default(),
        settings: BTreeMap::new(),
        redis: None,
        database: None,
        certificates: Vec::new(),
        link: None,
        first_admin: None,
        notes,
    }
}

fn read(certificate: CertificateLookup) -> Dereferenced {
    Dereferenced {
        now: now().into(),
        image: String::new(),
        cluster: Default::default(),
        values: BTreeMap::new(),
        certificates: [("tls".to_owned(), certificate)].into(),
        link: None,
    }
}

fn good() -> CertificateLookup {
    let time = SystemTime::from(now());
    CertificateLookup::Found(CertificateFacts {
        names: vec!["example.com".to_owned()],
        not_before: time,
        not_after: time,
    })
}

/// Roles with so many pods wanted, updated and available.
fn there(roles: &[(Component, [i32; 3])]) -> Snapshot {
    let mut there = Snapshot::default();
    for (component, [wanted, updated, available]) in roles {
        let (wanted, updated, available) = (*wanted, *updated, *available);
        let state = State::Workload(Workload {
            is_observed: true,
            wanted,
            replicas: updated.max(available),
            updated,
            ready: available,
            available,
            ..Workload::default()
        });
        let kind = if *component == Component::Standalone { "StatefulSet" } else { "Deployment" };
        put(&mut there, kind, &names::of("chat", *component), state);
    }
    there
}

fn put(there: &mut Snapshot, kind: &str, name: &str, state: State) {
    let meta = serde_json::from_value(json!({
        "name": name, "namespace": "ns",
        "ownerReferences": [{ "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer", "name": "chat", "uid": "uid" }],
    }))
    .unwrap();
    let (_, child) = Child::read(&meta, state).unwrap();
    there.children.insert(Key { kind: kind.to_owned(), name: name.to_owned() }, child);
}

fn ending(there: &mut Snapshot, component: Component, ends_by: Timestamp) {
    there.pods.insert("old-pod".to_owned(), Pod { component: component.as_str().to_owned(), ends_by: Some(ends_by) });
}

fn all(available: i32) -> Snapshot {
    there(&[
        (Component::Router, [2, 2, available]),
        (Component::Session, [2, 2, available]),
        (Component::C2s, [2, 2, available]),
    ])
}

fn lines(status: &XmppServerStatus) -> Vec<String> {
    let line = |condition: &Condition| format!("{}={} {}", condition.type_, condition.status, condition.reason);
    status.conditions.iter().map(line).collect()
}

fn going() -> Progress {
    Progress::Going { stage: Stage::Routers, message: "routers: 1 of 2".to_owned() }
}

fn stuck() -> Progress {
    Progress::Stuck { stage: Stage::Routers, reason: "RolloutStuck", message: "no image".to_owned() }
}

#[test]
fn each_finding_is_told_by_conditions() {
    let problem = [Problem { reason: "SecretMissing", message: "there is no Secret redis".to_owned() }];
    let succeeded = Some(&JobState::Succeeded);
    let failed = JobState::Failed(now(), "BackoffLimitExceeded".to_owned());
    let server = server(json!({}));
    let plain = validated(&server, Vec::new());
    let note = |about, reason| vec![Note { about, reason, message: "words".to_owned() }];
    let degraded = validated(&server, note(ConditionType::Degraded, "PrometheusOperatorMissing"));
    let soon = validated(&server, note(ConditionType::TlsReady, "CertificateExpiresSoon"));
    let wrong = validated(&server, note(ConditionType::TlsReady, "NameMismatch"));
    let mut draining = all(2);
    ending(&mut draining, Component::C2s, now() + SignedDuration::from_secs(60));
    let mut late = all(2);
    ending(&mut late, Component::C2s, now() - SignedDuration::from_secs(60));
    let applied = |server, progress, migration| Outcome::Applied { server, progress, migration, notes: &[] };
    let (complete, going, stuck) = (Progress::Complete, going(), stuck());
    let nothing = Snapshot::default();
    let (whole, some, none) = (all(2), all(1), all(0));
    let zero = there(&[(Component::Router, [2, 2, 2]), (Component::C2s, [0, 0, 0])]);
    let rows: Vec<(&str, &Snapshot, Outcome<'_>, [&str; 5])> = vec![
        (
            "settled",
            &whole,
            applied(&plain, &complete, succeeded),
            ["True AllAvailable", "False Complete", "False AsExpected", "True Valid", "True Migrated"],
        ),
        (
            "just begun",
            &nothing,
            applied(&plain, &going, Some(&JobState::Running)),
            ["False Starting", "True RollingOut", "False AsExpected", "True Valid", "False Migrating"],
        ),
        (
            "a Job fails",
            &nothing,
            applied(&plain, &stuck, Some(&failed)),
            ["False RolloutStuck", "False RolloutStuck", "True RolloutStuck", "True Valid", "False MigrationFailed"],
        ),
        (
            "an upgrade",
            &whole,
            applied(&plain, &going, succeeded),
            ["True AllAvailable", "True RollingOut", "False AsExpected", "True Valid", "True Migrated"],
        ),
        (
            "an upgrade that is stuck",
            &whole,
            applied(&plain, &stuck, succeeded),
            ["True AllAvailable", "False RolloutStuck", "True RolloutStuck", "True Valid", "True Migrated"],
        ),
        (
            "pods are lost",
            &some,
            applied(&plain, &going, succeeded),
            ["True SomeAvailable", "True RollingOut", "False AsExpected", "True Valid", "True Migrated"],
        ),
        (
            "all pods are lost",
            &none,
            applied(&plain, &going, succeeded),
            ["False NoPodAvailable", "True RollingOut", "False AsExpected", "True Valid", "True Migrated"],
        ),
        (
            "pods drain",
            &draining,
            applied(&plain, &complete, succeeded),
            ["True AllAvailable", "True Draining", "False AsExpected", "True Valid", "True Migrated"],
        ),
        (
            "a pod does not end",
            &late,
            applied(&plain, &complete, succeeded),
            ["True AllAvailable", "True Draining", "True PodStuckTerminating", "True Valid", "True Migrated"],
        ),
        (
            "no pods are wanted",
            &zero,
            applied(&plain, &complete, succeeded),
            ["False ScaledToZero", "False Complete", "False AsExpected", "True Valid", "True Migrated"],
        ),
        (
            "invalid from the start",
            &nothing,
            Outcome::Invalid(&problem),
            ["False SecretMissing", "False SecretMissing", "True SecretMissing", "True Valid", "Unknown NotKnownYet"],
        ),
        (
            "invalid while it runs",
            &whole,
            Outcome::Invalid(&problem),
            ["True AllAvailable", "False SecretMissing", "True SecretMissing", "True Valid", "Unknown NotKnownYet"],
        ),
        (
            "something is not taken",
            &whole,
            Outcome::Refused { server: &plain, message: "denied".to_owned() },
            ["True AllAvailable", "False ApplyRefused", "True ApplyRefused", "True Valid", "Unknown NotKnownYet"],
        ),
        (
            "the cluster lacks something",
            &whole,
            applied(&degraded, &complete, succeeded),
            ["True AllAvailable", "False Complete", "True PrometheusOperatorMissing", "True Valid", "True Migrated"],
        ),
        (
            "a certificate ends soon",
            &whole,
            applied(&soon, &complete, succeeded),
            ["True AllAvailable", "False Complete", "False AsExpected", "True CertificateExpiresSoon", "True Migrated"],
        ),
        (
            "a certificate is for others",
            &whole,
            applied(&wrong, &complete, succeeded),
            ["True AllAvailable", "False Complete", "False AsExpected", "False NameMismatch", "True Migrated"],
        ),
    ];
    let read = read(good());
    for (name, there, outcome, expected) in rows {
        let (status, _) = status(&server, &Finding { now: now(), there, read: Some(&read), outcome });
        let expected: Vec<_> = ["Ready", "Progressing", "Degraded", "TLSReady", "Migrated"]
            .into_iter()
            .zip(expected)
            .map(|(type_, said)| format!("{type_}={said}"))
            .chain(["Paused=False NotPaused".to_owned()])
            .collect();
        assert_eq!(lines(&status), expected, "{name}");
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)), "{name}");
    }
}

#[test]
fn who_asks_why_nobody_is_served_is_told_what_does_not_get_on() {
    let server = server(json!({}));
    let (plain, stuck, none) = (validated(&server, Vec::new()), stuck(), all(0));
    let outcome = Outcome::Applied { server: &plain, progress: &stuck, migration: None, notes: &[] };
    let (status, _) = status(&server, &Finding { now: now(), there: &none, read: None, outcome });
    assert_eq!(status.conditions[0].message, "no pod for clients is available; no image");
}

#[test]
fn while_it_is_paused_what_was_said_of_the_schema_stays() {
    let mut server = server(json!({ "paused": true }));
    let there = all(2);
    let plain = validated(&server, Vec::new());
    let read = read(good());
    let outcome = Outcome::Applied {
        server: &plain,
        progress: &Progress::Complete,
        migration: Some(&JobState::Succeeded),
        notes: &[],
    };
    let (before, _) = status(&server, &Finding { now: now(), there: &there, read: Some(&read), outcome });
    server.status = Some(before);
    let paused = Finding { now: now(), there: &there, read: None, outcome: Outcome::Paused };
    assert_eq!(
        lines(&status(&server, &paused).0),
        [
            "Ready=True AllAvailable",
            "Progressing=False Paused",
            "Degraded=False AsExpected",
            "TLSReady=True Valid",
            "Migrated=True Migrated",
            "Paused=True Paused"
        ]
    );
}

#[test]
fn the_same_finding_later_makes_the_same_status() {
    let mut server = server(json!({}));
    let (there, read, plain) = (all(2), read(good()), validated(&server, Vec::new()));
    let finding = |now| Finding {
        now,
        there: &there,
        read: Some(&read),
        outcome: Outcome::Applied { server: &plain, progress: &Progress::Complete, migration: None, notes: &[] },
    };
    let (first, _) = status(&server, &finding(now()));
    // As it is written, and read again.
    server.status = Some(serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap());
    let (second, _) = status(&server, &finding(now() + SignedDuration::from_millis(86_400_123)));
    assert_eq!(server.status, Some(second));
}

#[test]
fn pods_that_stay_away_are_missed_after_a_while() {
    let mut server = server(json!({}));
    let (there, plain) = (all(1), validated(&server, Vec::new()));
    let going = going();
    let outcome = || Outcome::Applied { server: &plain, progress: &going, migration: None, notes: &[] };
    let (first, again) = status(&server, &Finding { now: now(), there: &there, read: None, outcome: outcome() });
    assert!(lines(&first).contains(&"Degraded=False AsExpected".to_owned()));
    let again = again.unwrap();
    assert_eq!(again, now() + SignedDuration::try_from(PATIENCE).unwrap());
    server.status = Some(first);
    let (second, _) = status(&server, &Finding { now: again, there: &there, read: None, outcome: outcome() });
    assert!(lines(&second).contains(&"Degraded=True PodsMissing".to_owned()), "{:?}", lines(&second));
}

#[test]
fn records_lead_to_what_the_load_balancer_has() {
    let address = |type_, value: &str| Address { type_, value: value.to_owned() };
    let ports = vec![("starttls".to_owned(), 30_522), ("direct-tls".to_owned(), 30_523)];
    let records = |type_: &str, addresses: Vec<Address>| {
        let server = server(json!({ "c2s": { "service": { "type": type_ } } }));
        let mut there = Snapshot::default();
        let clients = State::Clients(Clients { addresses, node_ports: ports.clone() });
        put(&mut there, "Service", "chat-c2s", clients);
        let finding = Finding { now: now(), there: &there, read: None, outcome: Outcome::Paused };
        let records = status(&server, &finding).0.dns_records.into_iter();
        records.map(|record| format!("{} {:?} {}", record.name, record.type_, record.value)).collect::<Vec<_>>()
    };
    use crate::crd::AddressType::{Hostname, IpAddress};
    let (starttls, direct) = ("_xmpp-client._tcp.example.com Srv", "_xmpps-client._tcp.example.com Srv");
    assert_eq!(records("ClusterIP", Vec::new()), [""; 0]);
    assert_eq!(
        records("NodePort", Vec::new()),
        [format!("{starttls} 0 5 30522 xmpp.example.com."), format!("{direct} 0 5 30523 xmpp.example.com.")]
    );
    assert_eq!(
        records("LoadBalancer", vec![address(IpAddress, "192.0.2.1"), address(IpAddress, "2001:db8::1")]),
        [
            format!("{starttls} 0 5 5222 xmpp.example.com."),
            format!("{direct} 0 5 5223 xmpp.example.com."),
            "xmpp.example.com A 192.0.2.1".to_owned(),
            "xmpp.example.com Aaaa 2001:db8::1".to_owned(),
        ]
    );
    assert_eq!(
        records("LoadBalancer", vec![address(Hostname, "lb.example.net")]),
        [format!("{starttls} 0 5 5222 lb.example.net."), format!("{direct} 0 5 5223 lb.example.net.")]
    );
}

#[test]
fn a_release_is_what_stands_behind_the_images_name() {
    for (image, expected) in [
        ("ghcr.io/starling-im/starlingd:0.1.0", "0.1.0"),
        ("registry:5000/starlingd:1.2.3@sha256:abc", "1.2.3"),
        ("registry:5000/starlingd@sha256:abc", "sha256:abc"),
        ("registry:5000/starlingd", "registry:5000/starlingd"),
    ] {
        assert_eq!(release(image), expected);
    }
}

#[test]
fn what_cannot_be_understood_changes_nothing_that_was_said_of_what_runs() {
    let problem = Problem { reason: "Undecodable", message: "words".to_owned() };
    let new = undecodable(&[], &problem, Some(4), now());
    let status = XmppServerStatus { conditions: new.clone(), ..Default::default() };
    assert_eq!(
        lines(&status),
        ["Ready=False Undecodable", "Progressing=False Undecodable", "Degraded=True Undecodable"]
    );
    assert_eq!(undecodable(&new, &problem, Some(4), now() + SignedDuration::from_secs(5)), new);
    let mut served = new;
    served[0].status = "True".to_owned();
    served[0].reason = "AllAvailable".to_owned();
    let again = XmppServerStatus { conditions: undecodable(&served, &problem, Some(5), now()), ..Default::default() };
    assert_eq!(lines(&again)[0], "Ready=True AllAvailable");
}

#[test]
fn a_stage_that_waits_says_so_in_its_condition() {
    use crate::rollout::{Health, Standing, Template};
    let stages = [
        Standing {
            stage: Stage::Migration,
            template: Template::Current,
            health: Health::Waiting("at work".to_owned()),
        },
        Standing { stage: Stage::Routers, template: Template::Other, health: Health::Complete },
    ];
    let server = server(json!({}));
    let (plan, plain, there) = (plan(&stages), validated(&server, Vec::new()), all(2));
    let outcome = Outcome::Applied { server: &plain, progress: &plan.progress, migration: None, notes: &[] };
    let (status, _) = status(&server, &Finding { now: now(), there: &there, read: None, outcome });
    assert_eq!(status.conditions[1].message, "at work");
}
