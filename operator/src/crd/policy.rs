//! What the server lets people do, and how much of it. What is left out is as the server has it by default.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Limit;

/// Log-in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// SASL mechanisms that are offered, the strongest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 32)))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Set,
        validation = Rule::new("self.all(name, name.matches('^(SCRAM-SHA-(1|256|512)(-PLUS)?|PLAIN)$'))")
            .message("mechanisms are SCRAM-SHA-1, SCRAM-SHA-256, SCRAM-SHA-512, each also with -PLUS, and PLAIN")
    )]
    pub mechanisms: Option<Vec<String>>,
    /// Rounds of PBKDF2 for new passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4096, max = 10_000_000))]
    pub iterations: Option<u32>,
    /// Attempts to log in on one connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<u32>,
}

/// The first administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirstAdmin {
    /// The account's address, of a served domain: `admin@example.com`.
    #[schemars(length(max = 2047))]
    #[x_kube(validation = Rule::new(r#"self.matches("^[^@/ \"&'<>:]+@[^@/ ]+$")"#)
        .message("it is a bare address, like admin@example.com"))]
    pub address: String,
    /// The key of a Secret in this namespace that holds the password. Without it, the operator makes a password, and keeps
    /// it in the Secret `<name>-first-admin`. A password that is changed there later changes no account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<PasswordKeyRef>,
}

/// A key of a Secret that holds a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[serde(default = "PasswordKeyRef::password")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl PasswordKeyRef {
    fn password() -> String {
        "password".to_owned()
    }
}

/// In-band registration (XEP-0077).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Whether clients may make accounts, change the password of their own, and remove it.
    #[serde(default)]
    pub enabled: bool,
    /// Attempts per hour to make an account from one IPv4 address or IPv6 /64, or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_address_per_hour: Option<Limit>,
}

/// Sessions of accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sessions {
    /// What happens to a resource that is asked for while it is in use: the older session ends, the newer gets an error, or
    /// the newer gets another resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// Resources of one account at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub resources_per_account: Option<u32>,
    /// Seconds in which a client whose connection was cut can resume its session (XEP-0198). 0: it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub resume_seconds: Option<u32>,
    /// Messages that wait for one account while nobody is there to take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub offline_messages: Option<u32>,
}

/// What happens to a resource that is asked for while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Conflict {
    /// The older session ends.
    Replace,
    /// The newer gets an error.
    Refuse,
    /// The newer gets another resource.
    Rename,
}

/// The archive of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// Whether messages stay in the database for both sides after they were delivered.
    #[serde(default = "Archive::enabled")]
    pub enabled: bool,
}

impl Archive {
    const fn enabled() -> bool {
        true
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Bounds of client connections, for each pod by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "!has(self.stanzaBytes) || !has(self.stanzaBytesBeforeLogin) || self.stanzaBytesBeforeLogin <= self.stanzaBytes"
).message("stanzaBytesBeforeLogin is more than stanzaBytes"))]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Seconds from the connection to the bound resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub authentication_seconds: Option<u32>,
    /// Bytes of one element before log-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4096, max = 1_073_741_824))]
    pub stanza_bytes_before_login: Option<u32>,
    /// Bytes of one stanza.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10_000, max = 1_073_741_824))]
    pub stanza_bytes: Option<u32>,
    /// Connections of a pod, or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Limit>,
    /// Connections from one IPv4 address or IPv6 /64, or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_address: Option<Limit>,
    /// Connections taken per second by each listener of a pod, or `off`; more wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_per_second: Option<Limit>,
    /// Connections taken at once before that rate counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accept_burst: Option<u32>,
    /// Failed log-ins per minute from one address, after which it is turned away for the rest of the minute; or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_logins_per_address: Option<Limit>,
    /// Failed log-ins per minute for one account, after which nobody logs in to it for the rest of the minute; or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_logins_per_account: Option<Limit>,
    /// Bytes per second read from one client, which is slowed down to that; or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Limit>,
    /// Bytes read at once before that rate counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub bytes_burst: Option<u32>,
    /// Stanzas that may wait for one client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue_stanzas: Option<u32>,
    /// Bytes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub queue_bytes: Option<u32>,
    /// Seconds that a client may take nothing of what is written to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub write_timeout_seconds: Option<u32>,
}

/// How a pod ends. Kubernetes' own bound (`terminationGracePeriodSeconds`) is made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Seconds that it goes on as before, for load balancers to learn that it ends.
    #[serde(default = "Drain::grace")]
    #[schemars(range(min = 0, max = 300))]
    pub grace_seconds: u32,
    /// Seconds at most in which its streams end, each with what waits for its client.
    #[serde(default = "Drain::duration")]
    #[schemars(range(min = 1, max = 3600))]
    pub duration_seconds: u32,
}

impl Drain {
    const fn grace() -> u32 {
        5
    }

    const fn duration() -> u32 {
        30
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace_seconds: Self::grace(), duration_seconds: Self::duration() }
    }
}
