//! From what was asked for and what was found to what can be built, or to all that is wrong, in words for people.
//!
//! ```text
//!   XmppServer + Dereferenced ──► connections (URLs taken apart) ─┐
//!                             ──► certificates (there? for us?)   ├─► Validated, with notes   or   problems
//!                             ──► settings of each component      ┘
//! ```
//!
//! A *problem* stands in the way: nothing is built, and what runs stays as it is. A *note* does not: what can be built is,
//! and status says the rest.

mod certificates;
mod settings;
pub mod url;

use std::collections::BTreeMap;

use starling_settings::Settings;

use crate::{
    crd::{ConditionType, Limit, Profile, XmppServer, XmppServerSpec},
    dereference::{Cluster, Dereferenced, Hidden, LinkCertificates, Lookup, Reference, first_admin_password},
    names::Component,
};

use self::url::{DatabaseConnection, RedisConnection};

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// One word, for conditions.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Problem {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What should be otherwise, and stands in nobody's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The condition that it speaks against.
    pub about: ConditionType,
    /// One word, for conditions.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Whose everything is that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The resource's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// Where it is.
    pub connection: RedisConnection,
    /// The authorities, as PEM.
    pub ca: Option<String>,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Where it is.
    pub connection: DatabaseConnection,
    /// The authorities, as PEM.
    pub ca: Option<String>,
}

/// An account that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its bare address.
    pub address: String,
    /// Its password.
    pub password: Hidden,
}

/// Settings, and the file that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The settings.
    pub settings: Settings,
    /// What the server reads them from.
    pub text: String,
}

/// What can be built.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Whose it is.
    pub owner: Owner,
    /// What was asked for.
    pub spec: XmppServerSpec,
    /// The server's image.
    pub image: String,
    /// What the cluster offers.
    pub cluster: Cluster,
    /// The settings of each component that there is to be.
    pub settings: BTreeMap<Component, Written>,
    /// Redis, if there is to be one.
    pub redis: Option<Redis>,
    /// The database, if there is to be one.
    pub database: Option<Database>,
    /// Secrets with certificates for clients, in the server's order.
    pub certificates: Vec<String>,
    /// For mutual TLS between pods, if there are several.
    pub link: Option<LinkCertificates>,
    /// The account to make.
    pub first_admin: Option<Account>,
    /// What should be otherwise.
    pub notes: Vec<Note>,
}

impl Validated {
    /// Whether it is one pod.
    #[must_use]
    pub fn is_standalone(&self) -> bool {
        self.spec.profile == Profile::Standalone
    }
}

/// Checks everything, and says all that is wrong at once.
///
/// # Errors
/// What stands in the way.
pub fn validate(server: &XmppServer, found: &Dereferenced) -> Result<Validated, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let owner = owner(server, &mut problems);
    check_profile(&server.spec, &mut problems);
    let redis = redis(server, found, &mut problems);
    let database = database(server, found, &mut problems);
    let first_admin = first_admin(server, found, &mut problems);
    let link = (server.spec.profile == Profile::Distributed).then(|| found.link.clone()).flatten();
    if server.spec.profile == Profile::Distributed && link.is_none() {
        problems.push(Problem::new(
            "InternalCertificatesMissing",
            "the certificates for the way between the pods are not there yet: the operator makes them",
        ));
    }
    check_admins(&server.spec, &mut problems);
    let certificates = certificates::check(server, found, &mut problems, &mut notes);
    check_cluster(&server.spec, &found.cluster, &mut notes);
    let backends = settings::Backends {
        redis: redis.as_ref(),
        database: database.as_ref(),
        certificates: &certificates,
        families: &found.cluster.families,
    };
    let settings = settings::of_all(&owner, &server.spec, &backends, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Validated {
        image: server.spec.image.clone().unwrap_or_else(|| found.image.clone()),
        spec: server.spec.clone(),
        cluster: found.cluster.clone(),
        owner,
        settings,
        redis,
        database,
        certificates,
        link,
        first_admin,
        notes,
    })
}

fn owner(server: &XmppServer, problems: &mut Vec<Problem>) -> Owner {
    let mut field = |value: &Option<String>, what: &str| {
        if value.is_none() {
            problems.push(Problem::new("InvalidSpec", format!("the resource has no {what}")));
        }
        value.clone().unwrap_or_default()
    };
    Owner {
        namespace: field(&server.metadata.namespace, "namespace"),
        name: field(&server.metadata.name, "name"),
        uid: field(&server.metadata.uid, "UID"),
    }
}

/// What the schema refuses as well; an older one may not have.
fn check_profile(spec: &XmppServerSpec, problems: &mut Vec<Problem>) {
    let mut demand = |holds: bool, message: &str| {
        if !holds {
            problems.push(Problem::new("InvalidSpec", message));
        }
    };
    demand(!spec.domains.is_empty(), "at least one domain is needed");
    match spec.profile {
        Profile::Standalone => {
            demand(spec.redis.is_none(), "a Standalone server needs no redis");
            demand(spec.database.is_none(), "a Standalone server keeps its data in its volume: it takes no database");
        }
        Profile::Distributed => {
            demand(spec.redis.is_some(), "a Distributed server needs redis");
            demand(spec.database.is_some(), "a Distributed server needs a database");
            demand(spec.tls.is_some(), "a Distributed server needs tls");
        }
    }
}

/// The value, if it is there.
fn value<'a>(reference: &Reference, found: &'a Dereferenced, problems: &mut Vec<Problem>) -> Option<&'a Hidden> {
    let Reference { source, name, key } = reference;
    let source = source.as_str();
    let (reason, message) = match found.values.get(reference) {
        Some(Lookup::Found(value)) => return Some(value),
        Some(Lookup::NoKey) => ("KeyMissing", format!("the {source} {name} has no key {key}")),
        Some(Lookup::NotText) => ("NotText", format!("the {source} {name} holds under {key} what is no UTF-8")),
        Some(Lookup::NoObject) | None => {
            let reason = if source == "Secret" { "SecretMissing" } else { "ConfigMapMissing" };
            (reason, format!("there is no {source} {name} in this namespace; its key {key} is needed"))
        }
    };
    problems.push(Problem::new(reason, message));
    None
}

fn ca(reference: Option<Reference>, found: &Dereferenced, problems: &mut Vec<Problem>) -> Option<String> {
    let reference = reference?;
    let text = value(&reference, found, problems)?.reveal();
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        problems.push(Problem::new("NoCertificate", format!("{reference}: no certificate in PEM in it")));
        return None;
    }
    Some(text.to_owned())
}

fn redis(server: &XmppServer, found: &Dereferenced, problems: &mut Vec<Problem>) -> Option<Redis> {
    let redis = server.spec.redis.as_ref()?;
    let reference = Reference::secret(&redis.secret_ref.name, &redis.secret_ref.key);
    let ca = ca(redis.ca.as_ref().and_then(Reference::ca), found, problems);
    let parsed = RedisConnection::parse(value(&reference, found, problems)?.reveal());
    match parsed {
        Ok(connection) => Some(Redis { connection, ca }),
        Err(error) => {
            problems.push(Problem::new("InvalidUrl", format!("the URL of Redis ({reference}): {error}")));
            None
        }
    }
}

fn database(server: &XmppServer, found: &Dereferenced, problems: &mut Vec<Problem>) -> Option<Database> {
    let database = server.spec.database.as_ref()?;
    let reference = Reference::secret(&database.secret_ref.name, &database.secret_ref.key);
    let ca = ca(database.ca.as_ref().and_then(Reference::ca), found, problems);
    match DatabaseConnection::parse(value(&reference, found, problems)?.reveal()) {
        Ok(connection) => Some(Database { connection, ca }),
        Err(error) => {
            problems.push(Problem::new("InvalidUrl", format!("the URL of the database ({reference}): {error}")));
            None
        }
    }
}

fn first_admin(server: &XmppServer, found: &Dereferenced, problems: &mut Vec<Problem>) -> Option<Account> {
    let address = server.spec.first_admin.as_ref()?.address.clone();
    let reference = first_admin_password(server)?;
    // Many Secrets end with a line break that nobody means.
    let password = value(&reference, found, problems)?.reveal().trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.chars().any(char::is_control) {
        let message = format!("{reference}: a password is one line of text, and not empty");
        problems.push(Problem::new("InvalidPassword", message));
        return None;
    }
    Some(Account { address, password: Hidden::new(password) })
}

fn check_admins(spec: &XmppServerSpec, problems: &mut Vec<Problem>) {
    let first = spec.first_admin.iter().map(|admin| &admin.address);
    for address in spec.admins.iter().chain(first) {
        let domain = address.rsplit_once('@').map_or(address.as_str(), |(_, domain)| domain);
        if !spec.domains.iter().any(|served| served.name == domain) {
            let message = format!("the administrator {address} is of no domain that is served: {domain} is not");
            problems.push(Problem::new("DomainNotServed", message));
        }
    }
}

/// What the cluster lacks is said, and does not stand in the way.
fn check_cluster(spec: &XmppServerSpec, cluster: &Cluster, notes: &mut Vec<Note>) {
    let mut note = |is_lacking: bool, about: ConditionType, reason: &'static str, message: &str| {
        if is_lacking {
            notes.push(Note { about, reason, message: message.to_owned() });
        }
    };
    let monitoring = &spec.monitoring;
    let is_lacking = (monitoring.pod_monitor.enabled && !cluster.pod_monitor)
        || (monitoring.prometheus_rule.enabled && !cluster.prometheus_rule);
    note(
        is_lacking,
        ConditionType::Degraded,
        "PrometheusOperatorMissing",
        "monitoring needs prometheus-operator, which the cluster lacks: neither metrics nor alerts are set up",
    );
    let by_sessions = spec.c2s.pods.autoscaling.as_ref().is_some_and(|scaling| scaling.target_sessions.is_some());
    note(
        by_sessions && !cluster.custom_metrics,
        ConditionType::Degraded,
        "CustomMetricsMissing",
        "c2s.autoscaling.targetSessions needs an adapter for custom metrics (such as prometheus-adapter), which the \
         cluster lacks: pods are not scaled by sessions",
    );
    let from_addresses = [
        ("connectionsPerAddress", spec.limits.connections_per_address),
        ("failedLoginsPerAddress", spec.limits.failed_logins_per_address),
    ];
    let is_hidden = spec.c2s.service.external_traffic_policy != Some(crate::crd::TrafficPolicy::Local)
        && spec.c2s.service.type_ != crate::crd::ServiceType::ClusterIp
        && spec.c2s.proxy_protocol.is_none();
    for (field, limit) in from_addresses {
        // Only of those that somebody chose: by default they are high.
        let is_chosen = matches!(limit, Some(Limit(starling_settings::Limit(Some(_)))));
        note(
            is_chosen && is_hidden,
            ConditionType::Degraded,
            "ClientAddressesHidden",
            &format!(
                "limits.{field} counts addresses of nodes, not of clients: set c2s.service.externalTrafficPolicy: Local, \
                 or c2s.proxyProtocol"
            ),
        );
    }
}

#[cfg(test)]
mod tests;
