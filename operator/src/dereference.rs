//! What was read from the cluster for one server, as plain data: everything that `validate` and `build` know beside the
//! resource itself.
//!
//! ```text
//!   references(server) ──► what to read ──► (a client reads) ──► Dereferenced
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::SystemTime,
};

use crate::{
    crd::{CaSource, IpFamily, Profile, XmppServer},
    names,
};

/// What is not shown: passwords, keys, URLs with passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Hides it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever writes it where it belongs.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A kind of object that is referred to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl Source {
    /// Its kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// A key of an object in the server's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Of which kind the object is.
    pub source: Source,
    /// The object's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

impl Reference {
    /// A key of a Secret.
    #[must_use]
    pub fn secret(name: &str, key: &str) -> Self {
        Self { source: Source::Secret, name: name.to_owned(), key: key.to_owned() }
    }

    /// Where authorities stand, if it says so.
    #[must_use]
    pub fn ca(ca: &CaSource) -> Option<Self> {
        let (source, key) = match (&ca.secret_ref, &ca.config_map_ref) {
            (Some(key), _) => (Source::Secret, key),
            (None, Some(key)) => (Source::ConfigMap, key),
            (None, None) => return None,
        };
        Some(Self { source, name: key.name.clone(), key: key.key.clone() })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, key {}", self.source.as_str(), self.name, self.key)
    }
}

/// What was found under a [`Reference`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The value.
    Found(Hidden),
    /// The object is there, without that key.
    NoKey,
    /// The object is not there.
    NoObject,
    /// The value is no UTF-8.
    NotText,
}

/// Everything that was read for one server.
#[derive(Clone, Debug)]
pub struct Dereferenced {
    /// When it was read: certificates are judged by it.
    pub now: SystemTime,
    /// The server's image of the operator's own release, for those that name none.
    pub image: String,
    /// What the cluster offers.
    pub cluster: Cluster,
    /// What was found under each of [`references`].
    pub values: BTreeMap<Reference, Lookup>,
    /// What was found in each of [`certificate_secrets`], by the Secret's name.
    pub certificates: BTreeMap<String, CertificateLookup>,
    /// For mutual TLS between the pods. `None`: there is none yet.
    pub link: Option<LinkCertificates>,
}

/// What the cluster offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// `Certificate` of cert-manager.
    pub cert_manager: bool,
    /// `PodMonitor` of prometheus-operator.
    pub pod_monitor: bool,
    /// `PrometheusRule` of prometheus-operator.
    pub prometheus_rule: bool,
    /// The API of custom metrics, which autoscaling by sessions reads.
    pub custom_metrics: bool,
    /// Families of addresses that pods have. Empty: not known, taken for IPv4.
    pub families: BTreeSet<IpFamily>,
}

/// What was found of a certificate for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateLookup {
    /// A certificate and a key.
    Found(CertificateFacts),
    /// The Secret is not there.
    Missing,
    /// The Secret is there, and what it holds cannot be used; says why.
    Unusable(String),
}

/// What stands in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// DNS names, also with `*` for the first part.
    pub names: Vec<String>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl CertificateFacts {
    /// Whether it is for this name.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(wild) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(wild)),
            None => name.eq_ignore_ascii_case(host),
        })
    }
}

/// Certificates for the way between the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkCertificates {
    /// Whose certificates are believed, as PEM; while they are replaced, the old and the new.
    pub authorities: String,
    /// What routers show.
    pub router: KeyPair,
    /// What everybody else shows.
    pub instance: KeyPair,
}

/// A certificate with its key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate, and behind it those that sign it.
    pub certificate: String,
    /// Its private key.
    pub key: Hidden,
}

/// All values that are to be read for a server. Whoever watches Secrets and ConfigMaps finds in it whom a change concerns.
#[must_use]
pub fn references(server: &XmppServer) -> BTreeSet<Reference> {
    let spec = &server.spec;
    let mut found = BTreeSet::new();
    if let Some(redis) = &spec.redis {
        found.insert(Reference::secret(&redis.secret_ref.name, &redis.secret_ref.key));
        found.extend(redis.ca.as_ref().and_then(Reference::ca));
    }
    if let Some(database) = &spec.database {
        found.insert(Reference::secret(&database.secret_ref.name, &database.secret_ref.key));
        found.extend(database.ca.as_ref().and_then(Reference::ca));
    }
    found.extend(first_admin_password(server));
    found
}

/// Where the first administrator's password stands.
#[must_use]
pub fn first_admin_password(server: &XmppServer) -> Option<Reference> {
    let admin = server.spec.first_admin.as_ref()?;
    Some(match &admin.password_secret_ref {
        Some(key) => Reference::secret(&key.name, &key.key),
        None => generated(server).into_iter().next()?,
    })
}

/// Values that the operator makes itself, once, if they are not there.
#[must_use]
pub fn generated(server: &XmppServer) -> Vec<Reference> {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let admin = server.spec.first_admin.as_ref().filter(|admin| admin.password_secret_ref.is_none());
    admin.map(|_| Reference::secret(&names::first_admin_secret(name), "password")).into_iter().collect()
}

/// The Secrets with certificates for clients, in the order in which the server gets them.
#[must_use]
pub fn certificate_secrets(server: &XmppServer) -> Vec<String> {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    match &server.spec.tls {
        Some(tls) if tls.issuer_ref.is_some() => {
            server.spec.domains.iter().map(|domain| names::certificate(name, &domain.name)).collect()
        }
        Some(tls) => tls.secret_refs.iter().flatten().map(|secret| secret.name.clone()).collect(),
        None => Vec::new(),
    }
}

/// Whether the pods speak with each other, and need [`LinkCertificates`].
#[must_use]
pub fn needs_link(server: &XmppServer) -> bool {
    server.spec.profile == Profile::Distributed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_not_shown() {
        let lookup = Lookup::Found(Hidden::new("redis://:s3cret@host"));
        assert_eq!(format!("{lookup:?}"), "Found((hidden))");
        let pair = KeyPair { certificate: "public".to_owned(), key: Hidden::new("private") };
        assert!(!format!("{pair:?}").contains("private"));
    }

    #[test]
    fn a_wildcard_stands_for_one_part_of_a_name() {
        let time = SystemTime::UNIX_EPOCH;
        let names = ["example.com", "*.example.com"].map(str::to_owned).to_vec();
        let facts = CertificateFacts { names, not_before: time, not_after: time };
        for name in ["example.com", "Example.com", "conference.example.com"] {
            assert!(facts.is_for(name), "{name}");
        }
        for name in ["a.b.example.com", "example.org", "com"] {
            assert!(!facts.is_for(name), "{name}");
        }
    }
}
