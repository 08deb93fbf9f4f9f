//! The settings themselves. Their documentation is what the reference says.
//!
//! `x-reloaded` marks what a running server takes up when its file changes: a setting, or all of a table. Whoever marks
//! one sees to it in `daemon`'s `Server::apply`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Limit;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The folder for everything that must last. Made with mode 0700 if it is missing; relative to the working folder.
    pub data: PathBuf,
    /// The domains that are served. The first is named to clients that ask for none.
    pub domains: Vec<String>,
    /// Accounts of administrators, as bare JIDs.
    #[schemars(extend("x-reloaded" = true))]
    pub admins: Vec<String>,
    /// What this process does: `c2s` (client connections and their sessions), `session` (what is to be done for accounts
    /// without a connection: cleaning up behind processes that died), `router` (forwards between the processes of a
    /// cluster).
    pub roles: Vec<Role>,
    /// Threads that do the work; 0: as many as the process may use processors. One is the cheapest for a process that seldom
    /// has more to do than one processor can: nothing is handed from one to another.
    pub threads: u32,
    /// Logs, on standard error.
    pub log: Log,
    /// The HTTP port: `/metrics`, `/healthz`, `/readyz`.
    pub http: Http,
    /// Certificates.
    pub tls: Tls,
    /// Log-in.
    #[schemars(extend("x-reloaded" = true))]
    pub auth: Auth,
    /// Client connections.
    pub c2s: C2s,
    /// Sessions.
    pub session: Session,
    /// The database for what must last. Without it, everything is in a file under `<data>`, for one process alone.
    pub database: Database,
    /// Redis, for who is where. Without it, this is known to one process alone.
    pub redis: Redis,
    /// The way to the other processes of a cluster.
    pub link: Link,
    /// The router, for processes with that role.
    pub router: Router,
    /// The archive of messages.
    pub archive: Archive,
    /// In-band registration (XEP-0077).
    #[schemars(extend("x-reloaded" = true))]
    pub registration: Registration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: "data".into(),
            domains: vec!["localhost".to_owned()],
            admins: Vec::new(),
            roles: vec![Role::C2s, Role::Session],
            threads: 0,
            log: Log::default(),
            http: Http::default(),
            tls: Tls::default(),
            auth: Auth::default(),
            c2s: C2s::default(),
            session: Session::default(),
            database: Database::default(),
            redis: Redis::default(),
            link: Link::default(),
            router: Router::default(),
            archive: Archive::default(),
            registration: Registration::default(),
        }
    }
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `human` or `json`.
    pub format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, also by part: `info,starling_c2s=debug`.
    #[schemars(extend("x-reloaded" = true))]
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".to_owned() }
    }
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where to listen: address and port. Empty: nowhere.
    pub listen: String,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:5280".to_owned() }
    }
}

/// TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM files, one pair for each certificate: `[{ certificate = "…", key = "…" }]`. A client gets the one for the name
    /// that it asks for, else the first. Changed files are taken up at once. With none, the server makes a self-signed
    /// certificate under `<data>/tls`.
    pub certificates: Vec<Certificate>,
}

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Certificate {
    /// The certificate, and behind it those that sign it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Log-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// SASL mechanisms offered over TLS, the strongest first.
    pub mechanisms: Vec<String>,
    /// SASL mechanisms offered without TLS. Only for tests and for networks that are encrypted otherwise.
    pub mechanisms_without_tls: Vec<String>,
    /// Rounds of PBKDF2 for new passwords, 4096 to 10000000. More makes stolen verifiers harder to use, and log-in
    /// slower: for the client with SCRAM, for the server with PLAIN.
    pub iterations: u32,
    /// Attempts to log in on one connection.
    pub max_attempts: u32,
}

impl Default for Auth {
    fn default() -> Self {
        let mechanisms = [
            "SCRAM-SHA-512-PLUS",
            "SCRAM-SHA-256-PLUS",
            "SCRAM-SHA-1-PLUS",
            "SCRAM-SHA-512",
            "SCRAM-SHA-256",
            "SCRAM-SHA-1",
            "PLAIN",
        ];
        Self {
            mechanisms: mechanisms.map(str::to_owned).to_vec(),
            mechanisms_without_tls: Vec::new(),
            iterations: 10_000,
            max_attempts: 3,
        }
    }
}

/// Client connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct C2s {
    /// Streams that begin in the clear.
    pub starttls: StartTls,
    /// Streams that are encrypted from the first byte (XEP-0368).
    pub direct_tls: DirectTls,
    /// Load balancers that say whose connection they forward.
    #[schemars(extend("x-reloaded" = true))]
    pub proxy_protocol: ProxyProtocol,
    /// Bounds. What can be switched off takes `"off"`. Where a bound is read again, connections that are there keep theirs,
    /// unless it says otherwise.
    #[schemars(extend("x-reloaded" = true))]
    pub limits: C2sLimits,
    /// Seconds that a stop waits for clients to take what is left for them.
    #[schemars(extend("x-reloaded" = true))]
    pub stop_grace: u32,
}

impl Default for C2s {
    fn default() -> Self {
        Self {
            starttls: StartTls::default(),
            direct_tls: DirectTls::default(),
            proxy_protocol: ProxyProtocol::default(),
            limits: C2sLimits::default(),
            stop_grace: 10,
        }
    }
}

/// STARTTLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StartTls {
    /// Where to listen: addresses and ports.
    pub listen: Vec<String>,
    /// Whether clients must use TLS before they log in.
    #[schemars(extend("x-reloaded" = true))]
    pub required: bool,
}

impl Default for StartTls {
    fn default() -> Self {
        Self { listen: vec!["127.0.0.1:5222".to_owned()], required: true }
    }
}

/// Direct TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DirectTls {
    /// Where to listen: addresses and ports.
    pub listen: Vec<String>,
}

impl Default for DirectTls {
    fn default() -> Self {
        Self { listen: vec!["127.0.0.1:5223".to_owned()] }
    }
}

/// PROXY protocol, versions 1 and 2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyProtocol {
    /// Networks (`10.0.0.0/8`, `fd00::/8`) whose connections must begin with a PROXY header. Nobody else's header is
    /// looked at. A change counts for the next connection.
    pub trusted: Vec<String>,
}

/// Bounds of client connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct C2sLimits {
    /// Seconds from the connection to the bound resource.
    pub authentication_time: u32,
    /// Bytes of one element before log-in.
    pub stanza_bytes_before_login: u32,
    /// Bytes of one stanza. RFC 6120 asks for 10000 at least.
    pub stanza_bytes: u32,
    /// Elements inside each other in one stanza, 8 to 500.
    pub depth: u32,
    /// Attributes of one element.
    pub attributes: u32,
    /// Connections of this process. Those above a bound that was lowered stay.
    pub connections: Limit,
    /// Connections from one IPv4 address or IPv6 /64.
    pub connections_per_address: Limit,
    /// Connections taken per second by each listener; more wait.
    pub accept_per_second: Limit,
    /// Connections taken at once before that rate counts.
    pub accept_burst: u32,
    /// Failed log-ins per minute from one address, after which it is turned away for the rest of the minute. A changed bound
    /// counts for failures that were counted before.
    pub failed_logins_per_address: Limit,
    /// Failed log-ins per minute for one account, wherever they come from, after which nobody logs in to it for the rest
    /// of the minute.
    pub failed_logins_per_account: Limit,
    /// Bytes per second read from one client; it is slowed down to that.
    pub bytes_per_second: Limit,
    /// Bytes read at once before that rate counts.
    pub bytes_burst: u32,
    /// Stanzas that may wait for one client; a sender is told `resource-constraint` for more.
    pub queue_stanzas: u32,
    /// Bytes of them.
    pub queue_bytes: u32,
    /// Seconds that a client may take nothing of what is written to it. A changed bound counts for connections that are
    /// there, from the next time that they have to be waited for.
    pub write_timeout: u32,
}

impl Default for C2sLimits {
    fn default() -> Self {
        Self {
            authentication_time: 30,
            stanza_bytes_before_login: 10_000,
            stanza_bytes: 262_144,
            depth: 64,
            attributes: 64,
            connections: Limit::at(100_000),
            connections_per_address: Limit::at(100),
            accept_per_second: Limit::at(500),
            accept_burst: 1_000,
            failed_logins_per_address: Limit::at(20),
            failed_logins_per_account: Limit::at(100),
            bytes_per_second: Limit::at(65_536),
            bytes_burst: 1_048_576,
            queue_stanzas: 1_000,
            queue_bytes: 4_194_304,
            write_timeout: 60,
        }
    }
}

/// Sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// What happens to a resource that is asked for while it is in use: `replace` (the older session ends), `refuse` (the
    /// newer gets an error) or `rename` (the newer gets another resource).
    #[schemars(extend("x-reloaded" = true))]
    pub conflict: Conflict,
    /// Resources of one account at a time.
    #[schemars(extend("x-reloaded" = true))]
    pub resources_per_account: u32,
    /// Seconds in which a client whose connection was cut can resume its session (XEP-0198). 0: it cannot.
    #[schemars(extend("x-reloaded" = true))]
    pub resume_seconds: u32,
    /// Messages that wait for one account while nobody is there to take them; a sender is told `resource-constraint` for
    /// more.
    #[schemars(extend("x-reloaded" = true))]
    pub offline_messages: u32,
}

impl Default for Session {
    fn default() -> Self {
        Self { conflict: Conflict::Replace, resources_per_account: 16, resume_seconds: 300, offline_messages: 1_000 }
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Role {
    /// Client connections and their sessions.
    C2s,
    /// What is to be done for accounts without a connection.
    Session,
    /// Forwards between processes.
    Router,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::C2s => "c2s",
            Self::Session => "session",
            Self::Router => "router",
        }
    }
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// A PostgreSQL database: `postgres://user@host:5432/name`. Empty: SQLite, in `<data>/starling.db`. All processes of a
    /// cluster have the same.
    pub url: String,
    /// A file with the password, and nothing else. Read again when it changes. A password in `database.url` would stand in
    /// process lists and logs.
    pub password_file: PathBuf,
    /// A file with the certificate authorities (PEM) that the server's certificate is checked against. Empty: `sslmode` in
    /// `database.url` decides, by default `prefer`.
    pub ca: PathBuf,
    /// Connections of this process at most, 4 or more. Of them, two are for writing messages, and one for log-ins, so that
    /// no storm of the one stops the others.
    pub connections: u32,
    /// Whether a process that starts brings the schema up to date (`auto`), or waits until somebody else has (`wait`): another
    /// process, or `starlingd migrate`.
    pub migrate: Migrate,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: PathBuf::new(),
            ca: PathBuf::new(),
            connections: 12,
            migrate: Migrate::Auto,
        }
    }
}

/// Who changes the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Migrate {
    /// Whoever starts first.
    Auto,
    /// Somebody else.
    Wait,
}

/// Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Hosts and ports: of the server, of the sentinels, or of some nodes of the cluster. Empty: no Redis. All processes of
    /// a cluster have the same.
    pub servers: Vec<String>,
    /// `standalone`, `sentinel` (the servers are sentinels, and say which is the primary) or `cluster`.
    pub mode: RedisMode,
    /// The name by which the sentinels know the primary.
    pub primary: String,
    /// An ACL user. Empty: the default user.
    pub username: String,
    /// A file with the password, and nothing else. Read again when it changes.
    pub password_file: PathBuf,
    /// A file with the password of the sentinels. Empty: they have none.
    pub sentinel_password_file: PathBuf,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// A file with the certificate authorities (PEM) that the servers' certificates are checked against. Empty: those of the
    /// system.
    pub ca: PathBuf,
    /// Keys begin with it: servers for different domains can share a Redis.
    pub key_prefix: String,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            mode: RedisMode::Standalone,
            primary: "mymaster".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
            sentinel_password_file: PathBuf::new(),
            tls: false,
            ca: PathBuf::new(),
            key_prefix: "starling".to_owned(),
        }
    }
}

/// How Redis is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum RedisMode {
    /// One server.
    Standalone,
    /// Servers that sentinels watch.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

/// The way to the other processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Routers, as `host:port`. A name is looked up again and again, and stands for all addresses that it has, as that of a
    /// headless Service does. Empty: this process is alone.
    pub routers: Vec<String>,
    /// Name servers (`address:port`) to ask about them. Empty: those of the system.
    pub name_servers: Vec<String>,
    /// Certificates for both ends: every process shows one, and believes only those of the same authority.
    pub tls: LinkTls,
}

/// Mutual TLS between processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkTls {
    /// The certificate (PEM) that this process shows, and behind it those that sign it. Read again when it changes.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities (PEM) whose certificates are believed. While they are replaced, the old and the new.
    pub ca: PathBuf,
    /// The name that stands in the routers' certificates, whatever they are found by.
    pub router_name: String,
}

impl Default for LinkTls {
    fn default() -> Self {
        Self {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            ca: PathBuf::new(),
            router_name: "router.starling.internal".to_owned(),
        }
    }
}

/// The router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Router {
    /// Where to listen: addresses and ports.
    pub listen: Vec<String>,
}

impl Default for Router {
    fn default() -> Self {
        Self { listen: vec!["127.0.0.1:5270".to_owned()] }
    }
}

/// The archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// Whether messages stay in the database for both sides after they were delivered. Without it, only those are there
    /// that wait for their recipient.
    pub enabled: bool,
}

impl Default for Archive {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// RFC 6120 §7.7.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Conflict {
    /// The older session ends.
    Replace,
    /// The newer gets an error.
    Refuse,
    /// The newer gets another resource.
    Rename,
}

/// In-band registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Registration {
    /// Whether clients may make accounts, change the password of their own, and remove it. Only where a password may be
    /// sent: under TLS, or without it if `auth.mechanisms_without_tls` has PLAIN.
    pub enabled: bool,
    /// Attempts per hour to make an account from one IPv4 address or IPv6 /64; more are told to wait.
    pub per_address_per_hour: Limit,
}

impl Default for Registration {
    fn default() -> Self {
        Self { enabled: false, per_address_per_hour: Limit::at(5) }
    }
}
