//! What things are called: objects, labels, files in pods. In one place, so that who writes and who reads agree.

use std::collections::BTreeMap;

use starling_settings::Role;

/// The operator's field manager.
pub const MANAGER: &str = "starling-operator";
/// On pod templates: what of the settings needs a restart.
pub const SETTINGS_HASH: &str = "starling.im/settings-hash";
/// On the pod that makes the first administrator: whom.
pub const ACCOUNT: &str = "starling.im/account";

/// The port of STARTTLS, in pods and Services.
pub const STARTTLS: u16 = 5222;
/// The port of direct TLS.
pub const DIRECT_TLS: u16 = 5223;
/// The port of routers.
pub const ROUTER: u16 = 5270;
/// The port of metrics and probes.
pub const HTTP: u16 = 5280;

/// What a pod is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Everything, in the only pod.
    Standalone,
    /// Client connections.
    C2s,
    /// Accounts without a connection.
    Session,
    /// Forwarding.
    Router,
    /// A Job that changes the schema.
    Migrate,
    /// A Job that makes the first account.
    FirstAdmin,
}

impl Component {
    /// As in names and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::C2s => "c2s",
            Self::Session => "session",
            Self::Router => "router",
            Self::Migrate => "migrate",
            Self::FirstAdmin => "first-admin",
        }
    }

    /// What such a process does, by the settings; a Job's does none of it.
    #[must_use]
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::Standalone => &[Role::C2s, Role::Session],
            Self::C2s => &[Role::C2s],
            Self::Session | Self::Migrate | Self::FirstAdmin => &[Role::Session],
            Self::Router => &[Role::Router],
        }
    }

    /// Whether such a pod does its work once, and ends.
    #[must_use]
    pub const fn is_job(self) -> bool {
        matches!(self, Self::Migrate | Self::FirstAdmin)
    }

    /// Whether clients connect to such a pod.
    #[must_use]
    pub const fn takes_clients(self) -> bool {
        matches!(self, Self::Standalone | Self::C2s)
    }

    /// Whether such a pod needs the database.
    #[must_use]
    pub const fn needs_database(self) -> bool {
        matches!(self, Self::C2s | Self::Session | Self::Migrate | Self::FirstAdmin)
    }

    /// Whether such a pod needs Redis.
    #[must_use]
    pub const fn needs_redis(self) -> bool {
        matches!(self, Self::C2s | Self::Session)
    }

    /// Whether such a pod speaks with others, over mutual TLS.
    #[must_use]
    pub const fn needs_link(self) -> bool {
        matches!(self, Self::C2s | Self::Session | Self::Router)
    }
}

/// The labels by which the pods of a component are found. They never change.
#[must_use]
pub fn selector(server: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = instance_selector(server);
    labels.insert("app.kubernetes.io/component".to_owned(), component.as_str().to_owned());
    labels
}

/// The labels by which all pods of a server are found.
#[must_use]
pub fn instance_selector(server: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "starling"), ("app.kubernetes.io/instance", server)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The labels of everything that is made for a server.
#[must_use]
pub fn labels(server: &str, component: Option<Component>) -> BTreeMap<String, String> {
    let mut labels = instance_selector(server);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned());
    if let Some(component) = component {
        labels.insert("app.kubernetes.io/component".to_owned(), component.as_str().to_owned());
    }
    labels
}

/// Deployment, StatefulSet, ConfigMap, PodDisruptionBudget, HorizontalPodAutoscaler, NetworkPolicy of a component, and
/// the Service before it.
#[must_use]
pub fn of(server: &str, component: Component) -> String {
    format!("{server}-{}", component.as_str())
}

/// The headless Service by which metrics are found; also that of the StatefulSet.
#[must_use]
pub fn metrics_service(server: &str) -> String {
    format!("{server}-metrics")
}

/// The Service that clients connect to.
#[must_use]
pub fn c2s_service(server: &str) -> String {
    format!("{server}-c2s")
}

/// The ServiceAccount of all pods.
#[must_use]
pub fn service_account(server: &str) -> String {
    format!("{server}-server")
}

/// The Secret with the passwords of Redis and of the database, and their authorities.
#[must_use]
pub fn backends_secret(server: &str) -> String {
    format!("{server}-backends")
}

/// The Secret with the certificate that a router shows, or everybody else.
#[must_use]
pub fn link_secret(server: &str, component: Component) -> String {
    match component {
        Component::Router => format!("{server}-link-router"),
        _ => format!("{server}-link-instance"),
    }
}

/// The Secret with the password that the operator made for the first administrator, under the key `password`.
#[must_use]
pub fn first_admin_secret(server: &str) -> String {
    format!("{server}-first-admin")
}

/// The Secret with the accounts to import.
#[must_use]
pub fn accounts_secret(server: &str) -> String {
    format!("{server}-accounts")
}

/// The Secret into which cert-manager puts the certificate of a domain, and the `Certificate` that asks for it. Two domains
/// have two names, however long they are.
#[must_use]
pub fn certificate(server: &str, domain: &str) -> String {
    let readable: String = domain.chars().take(40).map(|c| if c == '.' { '-' } else { c }).collect();
    format!("{server}-tls-{readable}-{}", crate::hash::short(domain.as_bytes()))
}

/// The folder of the settings' file in a pod, and the file.
pub const CONFIG: &str = "/etc/starling/config";
/// See [`CONFIG`]: the key in the ConfigMap.
pub const CONFIG_FILE: &str = "starling.toml";
/// The folder of [`backends_secret`].
pub const BACKENDS: &str = "/etc/starling/backends";
/// The file with the database's password, below [`BACKENDS`].
pub const DATABASE_PASSWORD: &str = "database-password";
/// The file with the database's authorities.
pub const DATABASE_CA: &str = "database-ca.crt";
/// The file with the password of Redis.
pub const REDIS_PASSWORD: &str = "redis-password";
/// The file with the password of the sentinels.
pub const SENTINEL_PASSWORD: &str = "sentinel-password";
/// The file with the authorities of Redis.
pub const REDIS_CA: &str = "redis-ca.crt";
/// The folder of [`link_secret`].
pub const LINK: &str = "/etc/starling/link";
/// The folder of certificates for clients: below it, one for each Secret.
pub const TLS: &str = "/etc/starling/tls";
/// The folder of [`accounts_secret`].
pub const ACCOUNTS: &str = "/etc/starling/accounts";
/// The file in it.
pub const ACCOUNTS_FILE: &str = "accounts";
/// The data folder.
pub const DATA: &str = "/var/lib/starling";
