//! The settings of each component: the resource's fields under the server's names, extra settings over them, all checked
//! as the server checks them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use starling_settings::{
    Archive, C2s, C2sLimits, Certificate, Conflict, Database, DirectTls, Error, Http, Link, LinkTls, Log, LogFormat,
    Migrate, ProxyProtocol, Redis, Registration, Router, Session, Settings, StartTls, Tls,
};

use crate::{
    crd::{self, IpFamily, Limit, Pods, Profile, XmppServerSpec},
    names::{self, Component},
};

use super::{Owner, Problem, Written};

/// Settings that the operator decides: their objects and files are its own. What ends with a dot is all below it.
const RESERVED: [&str; 13] = [
    "data",
    "domains",
    "admins",
    "roles",
    "http.",
    "tls.",
    "c2s.starttls.listen",
    "c2s.direct_tls.listen",
    "c2s.stop_grace",
    "database.",
    "redis.",
    "link.",
    "router.",
];

/// What the settings point to.
pub(super) struct Backends<'a> {
    pub(super) redis: Option<&'a super::Redis>,
    pub(super) database: Option<&'a super::Database>,
    pub(super) certificates: &'a [String],
    pub(super) families: &'a BTreeSet<IpFamily>,
}

/// Those of every component that there is to be.
pub(super) fn of_all(
    owner: &Owner,
    spec: &XmppServerSpec,
    backends: &Backends<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<Component, Written> {
    let (session, router) = (spec.session.clone().unwrap_or_default(), spec.router.clone().unwrap_or_default());
    let none = Pods::default();
    let mut components = match spec.profile {
        Profile::Standalone => vec![(Component::Standalone, "c2s", &spec.c2s.pods)],
        Profile::Distributed => vec![
            (Component::C2s, "c2s", &spec.c2s.pods),
            (Component::Session, "session", &session.pods),
            (Component::Router, "router", &router.pods),
        ],
    };
    // Jobs come with no settings of somebody's own.
    if spec.database.as_ref().is_some_and(|database| database.migrate == crd::Migrate::Auto) {
        components.push((Component::Migrate, "", &none));
    }
    if spec.profile == Profile::Distributed && spec.first_admin.is_some() {
        components.push((Component::FirstAdmin, "", &none));
    }
    let mut all = BTreeMap::new();
    for (component, field, pods) in &components {
        let settings = of(*component, owner, spec, backends);
        match extended(settings, field, pods, problems).and_then(written) {
            Ok(written) => {
                all.insert(*component, written);
            }
            Err(problem) => problems.push(problem),
        }
    }
    all
}

/// Extra settings over the others.
fn extended(settings: Settings, field: &str, pods: &Pods, problems: &mut Vec<Problem>) -> Result<Settings, Problem> {
    let is_reserved = |path: &str| {
        RESERVED.iter().any(|reserved| match reserved.strip_suffix('.') {
            Some(section) => path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')),
            None => path == *reserved,
        })
    };
    for path in pods.settings.keys().filter(|path| is_reserved(path)) {
        let message = format!("{field}.settings: {path} is decided by the operator: use the field for it");
        problems.push(Problem::new("SettingReserved", message));
    }
    let extra = pods.settings.iter().filter(|(path, _)| !is_reserved(path));
    let extra = extra.map(|(path, value)| (path.as_str(), value.to_string()));
    let settings = settings.with(extra).map_err(|error| {
        let reason = if matches!(error, Error::UnknownVariable { .. }) { "SettingUnknown" } else { "SettingInvalid" };
        Problem::new(reason, format!("{field}.settings: {error}"))
    })?;
    for problem in settings.check() {
        problems.push(Problem::new("SettingInvalid", problem.to_string()));
    }
    Ok(settings)
}

/// Writes the file, and reads it again: what pods get is what was meant.
fn written(settings: Settings) -> Result<Written, Problem> {
    let text = settings.to_toml().map_err(|error| Problem::new("SettingInvalid", error.to_string()))?;
    match toml::from_str::<Settings>(&text) {
        Ok(read) if read == settings => Ok(Written { settings, text }),
        Ok(_) => Err(Problem::new("SettingInvalid", "the settings cannot be written as a file that says the same")),
        Err(error) => Err(Problem::new("SettingInvalid", error.message())),
    }
}

fn of(component: Component, owner: &Owner, spec: &XmppServerSpec, backends: &Backends<'_>) -> Settings {
    let mut settings = Settings {
        data: names::DATA.into(),
        roles: component.roles().to_vec(),
        log: log(component, &spec.log),
        ..Settings::default()
    };
    if !component.is_job() {
        settings.http = Http { listen: one_for_all(names::HTTP, backends.families) };
    }
    // Others know nothing of XMPP, and need no restart for it.
    if !matches!(component, Component::Router | Component::Migrate) {
        settings.domains = spec.domains.iter().map(|domain| domain.name.clone()).collect();
        auth(&mut settings, spec);
    }
    if matches!(component, Component::Standalone | Component::C2s | Component::Session) {
        settings.admins = admins(spec);
        settings.session = session(spec);
        settings.archive = Archive { enabled: spec.archive.enabled };
        settings.registration = registration(spec);
        // Sessions without a connection have queues as well.
        set(&mut settings.c2s.limits.queue_stanzas, spec.limits.queue_stanzas);
        set(&mut settings.c2s.limits.queue_bytes, spec.limits.queue_bytes);
    }
    // Nobody connects to the others.
    settings.c2s.starttls.listen = Vec::new();
    settings.c2s.direct_tls.listen = Vec::new();
    if component.takes_clients() {
        settings.c2s = c2s(spec, backends.families);
        settings.tls = tls(backends.certificates);
    }
    if component.needs_database() {
        settings.database = database(component, spec, backends);
    }
    if component.needs_redis() {
        settings.redis = redis(owner, spec, backends);
    }
    if component.needs_link() {
        settings.link = link(component, owner);
    }
    if component == Component::Router {
        settings.router = Router { listen: vec![one_for_all(names::ROUTER, backends.families)] };
    }
    settings
}

/// A Job's is always the same: it is not done again because somebody wants to read more of the others.
fn log(component: Component, fields: &crd::Log) -> Log {
    if component.is_job() {
        return Log { format: LogFormat::Json, ..Log::default() };
    }
    Log {
        level: fields.level.clone(),
        format: match fields.format {
            crd::LogFormat::Json => LogFormat::Json,
            crd::LogFormat::Human => LogFormat::Human,
        },
    }
}

fn set<T: Copy>(setting: &mut T, field: Option<T>) {
    if let Some(value) = field {
        *setting = value;
    }
}

fn limit(setting: &mut starling_settings::Limit, field: Option<Limit>) {
    set(setting, field.map(|Limit(limit)| limit));
}

/// All addresses of the pod, by one socket.
fn one_for_all(port: u16, families: &BTreeSet<IpFamily>) -> String {
    // A socket of IPv6 takes connections over IPv4 as well, where there is IPv6 at all.
    if families.contains(&IpFamily::V6) { format!("[::]:{port}") } else { format!("0.0.0.0:{port}") }
}

/// All addresses of the pod, each family by its own socket.
fn one_for_each(port: u16, families: &BTreeSet<IpFamily>) -> Vec<String> {
    let has = |family| families.contains(&family);
    let v4 = (has(IpFamily::V4) || families.is_empty()).then(|| format!("0.0.0.0:{port}"));
    let v6 = has(IpFamily::V6).then(|| format!("[::]:{port}"));
    v4.into_iter().chain(v6).collect()
}

fn admins(spec: &XmppServerSpec) -> Vec<String> {
    let first = spec.first_admin.iter().map(|admin| &admin.address);
    let all: BTreeSet<_> = spec.admins.iter().chain(first).cloned().collect();
    all.into_iter().collect()
}

fn session(spec: &XmppServerSpec) -> Session {
    let mut session = Session::default();
    let conflict = spec.sessions.conflict.map(|conflict| match conflict {
        crd::Conflict::Replace => Conflict::Replace,
        crd::Conflict::Refuse => Conflict::Refuse,
        crd::Conflict::Rename => Conflict::Rename,
    });
    set(&mut session.conflict, conflict);
    set(&mut session.resources_per_account, spec.sessions.resources_per_account);
    set(&mut session.resume_seconds, spec.sessions.resume_seconds);
    set(&mut session.offline_messages, spec.sessions.offline_messages);
    session
}

fn registration(spec: &XmppServerSpec) -> Registration {
    let mut registration = Registration { enabled: spec.registration.enabled, ..Registration::default() };
    limit(&mut registration.per_address_per_hour, spec.registration.per_address_per_hour);
    registration
}

fn auth(settings: &mut Settings, spec: &XmppServerSpec) {
    if let Some(mechanisms) = &spec.auth.mechanisms {
        settings.auth.mechanisms.clone_from(mechanisms);
    }
    set(&mut settings.auth.iterations, spec.auth.iterations);
    set(&mut settings.auth.max_attempts, spec.auth.max_attempts);
}

fn c2s(spec: &XmppServerSpec, families: &BTreeSet<IpFamily>) -> C2s {
    let trusted = spec.c2s.proxy_protocol.as_ref().map(|proxies| proxies.trusted.clone());
    C2s {
        starttls: StartTls { listen: one_for_each(names::STARTTLS, families), ..StartTls::default() },
        direct_tls: DirectTls { listen: one_for_each(names::DIRECT_TLS, families) },
        proxy_protocol: ProxyProtocol { trusted: trusted.unwrap_or_default() },
        limits: limits(&spec.limits),
        stop_grace: spec.drain.duration_seconds,
    }
}

fn limits(fields: &crd::Limits) -> C2sLimits {
    let mut limits = C2sLimits::default();
    set(&mut limits.authentication_time, fields.authentication_seconds);
    set(&mut limits.stanza_bytes_before_login, fields.stanza_bytes_before_login);
    set(&mut limits.stanza_bytes, fields.stanza_bytes);
    limit(&mut limits.connections, fields.connections);
    limit(&mut limits.connections_per_address, fields.connections_per_address);
    limit(&mut limits.accept_per_second, fields.accept_per_second);
    set(&mut limits.accept_burst, fields.accept_burst);
    limit(&mut limits.failed_logins_per_address, fields.failed_logins_per_address);
    limit(&mut limits.failed_logins_per_account, fields.failed_logins_per_account);
    limit(&mut limits.bytes_per_second, fields.bytes_per_second);
    set(&mut limits.bytes_burst, fields.bytes_burst);
    set(&mut limits.queue_stanzas, fields.queue_stanzas);
    set(&mut limits.queue_bytes, fields.queue_bytes);
    set(&mut limits.write_timeout, fields.write_timeout_seconds);
    limits
}

fn tls(secrets: &[String]) -> Tls {
    let files = secrets.iter().map(|secret| {
        let folder = Path::new(names::TLS).join(secret);
        Certificate { certificate: folder.join("tls.crt"), key: folder.join("tls.key") }
    });
    Tls { certificates: files.collect() }
}

fn database(component: Component, spec: &XmppServerSpec, backends: &Backends<'_>) -> Database {
    let (Some(field), Some(found)) = (&spec.database, backends.database) else { return Database::default() };
    Database {
        url: found.connection.url.clone(),
        password_file: file(found.connection.password.is_some(), names::DATABASE_PASSWORD),
        ca: file(found.ca.is_some(), names::DATABASE_CA),
        connections: field.connections,
        // Pods wait: a migration is the Job's, or somebody's own.
        migrate: if component == Component::Migrate { Migrate::Auto } else { Migrate::Wait },
    }
}

fn redis(owner: &Owner, spec: &XmppServerSpec, backends: &Backends<'_>) -> Redis {
    let (Some(field), Some(found)) = (&spec.redis, backends.redis) else { return Redis::default() };
    let default = Redis::default();
    let connection = &found.connection;
    Redis {
        servers: connection.servers.clone(),
        mode: connection.mode,
        primary: connection.primary.clone().unwrap_or(default.primary),
        username: connection.username.clone(),
        password_file: file(connection.password.is_some(), names::REDIS_PASSWORD),
        sentinel_password_file: file(connection.sentinel_password.is_some(), names::SENTINEL_PASSWORD),
        tls: connection.tls,
        ca: file(found.ca.is_some(), names::REDIS_CA),
        key_prefix: field.key_prefix.clone().unwrap_or_else(|| format!("{}/{}", owner.namespace, owner.name)),
    }
}

fn file(is_there: bool, name: &str) -> PathBuf {
    if is_there { Path::new(names::BACKENDS).join(name) } else { PathBuf::new() }
}

fn link(component: Component, owner: &Owner) -> Link {
    let folder = Path::new(names::LINK);
    // A name without dots is found in the pods' own namespace, by one question.
    let routers = format!("{}:{}", names::of(&owner.name, Component::Router), names::ROUTER);
    Link {
        routers: if component == Component::Router { Vec::new() } else { vec![routers] },
        tls: LinkTls {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            ca: folder.join("ca.crt"),
            ..LinkTls::default()
        },
        ..Link::default()
    }
}
