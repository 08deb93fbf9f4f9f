//! Resources, and a cluster in which everything that they name is there.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    clippy::unwrap_used,
    reason = "not every test uses all of it; what fails fails the test"
)]

pub mod refusals;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use starling_operator::{
    build::{Objects, build},
    crd::{IpFamily, XmppServer},
    dereference::{
        CertificateFacts, CertificateLookup, Cluster, Dereferenced, Hidden, KeyPair, LinkCertificates, Lookup,
        Reference, certificate_secrets, needs_link, references,
    },
    validate::{Validated, validate},
};

/// A folder of these tests, whoever uses it.
pub fn folder(name: &str) -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let top = above.find(|folder| folder.join("operator/tests").is_dir()).unwrap();
    top.join("operator/tests").join(name)
}

/// As it is written, without defaults.
pub fn value(name: &str) -> Value {
    let text = std::fs::read_to_string(folder("resources").join(format!("{name}.yaml"))).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

pub fn parse(value: &Value) -> XmppServer {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value:#}"))
}

pub fn server(name: &str) -> XmppServer {
    parse(&value(name))
}

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

/// A certificate for all of the resource's names.
pub fn facts(server: &XmppServer) -> CertificateFacts {
    let domains = server.spec.domains.iter();
    let names = domains.flat_map(|domain| [&domain.name].into_iter().chain(&domain.service_hosts)).cloned();
    CertificateFacts { names: names.collect(), not_before: now() - DAY, not_after: now() + 60 * DAY }
}

/// A value that fits where it is asked for.
pub fn content(reference: &Reference) -> Lookup {
    let text = match (reference.name.as_str(), reference.key.as_str()) {
        ("redis", "url") => "redis://starling:s3cret-redis@redis.db.svc:6379",
        ("redis", _) => {
            "rediss+sentinel://starling:s3cret-redis@s1.db.svc,s2.db.svc/primary?sentinel_password=s3cret-sentinel"
        }
        ("database", _) => "postgres://starling:s3cret-database@postgres.db.svc:5432/starling",
        ("authorities" | "database-ca", _) => "-----BEGIN CERTIFICATE-----\nauthority\n-----END CERTIFICATE-----\n",
        _ => "s3cret-admin\n",
    };
    Lookup::Found(Hidden::new(text))
}

/// Everything is there.
pub fn cluster(server: &XmppServer) -> Dereferenced {
    let pair = |name: &str| KeyPair {
        certificate: format!("{name} certificate\n"),
        key: Hidden::new(format!("{name} key\n")),
    };
    let facts = facts(server);
    let families = server.spec.c2s.service.ip_families.clone().unwrap_or_default();
    Dereferenced {
        now: now(),
        image: "ghcr.io/starling-im/starlingd:0.1.0".to_owned(),
        cluster: Cluster {
            cert_manager: true,
            pod_monitor: true,
            prometheus_rule: true,
            custom_metrics: true,
            families: families.into_iter().collect::<BTreeSet<IpFamily>>(),
        },
        values: references(server).into_iter().map(|reference| (reference.clone(), content(&reference))).collect(),
        certificates: certificate_secrets(server)
            .into_iter()
            .map(|secret| (secret, CertificateLookup::Found(facts.clone())))
            .collect::<BTreeMap<_, _>>(),
        link: needs_link(server).then(|| LinkCertificates {
            authorities: "authorities\n".to_owned(),
            router: pair("router"),
            instance: pair("instance"),
        }),
    }
}

pub fn validated(server: &XmppServer) -> Validated {
    validate(server, &cluster(server)).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub fn built(server: &XmppServer) -> Objects {
    build(&validated(server))
}

/// All objects as they are sent.
pub fn sent(objects: &Objects) -> Vec<Value> {
    objects.iter().map(|(_, object)| object.to_value().unwrap()).collect()
}

/// Sets what stands at `path` (`c2s.replicas`, `domains.0.name`); `null` takes it away.
pub fn set(value: &mut Value, path: &str, to: Value) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    if let (Value::Array(items), Ok(index)) = (&mut *value, first.parse::<usize>()) {
        match rest {
            Some(rest) => set(&mut items[index], rest, to),
            None => items[index] = to,
        }
        return;
    }
    if value.is_null() {
        *value = Value::Object(serde_json::Map::new());
    }
    let fields = value.as_object_mut().unwrap_or_else(|| panic!("{path}: nothing can be below it"));
    match rest {
        Some(rest) => set(fields.entry(first).or_insert(Value::Null), rest, to),
        None if to.is_null() => drop(fields.remove(first)),
        None => drop(fields.insert(first.to_owned(), to)),
    }
}
