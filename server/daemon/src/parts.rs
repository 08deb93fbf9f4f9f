//! From settings to what the parts want: addresses parsed, names checked, with every mistake named at once.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use starling_c2s::{Config, Limits, Rules};
use starling_link::Bounds;
use starling_session::{Conflict, Policy};
use starling_settings::{Error, Limit, Problem, Settings};
use starling_stream::{CertificateFiles, Certificates, Networks};
use starling_xmpp::{
    jid::{self, BareJid},
    negotiate::{AcceptPolicy, TlsPolicy},
    sasl::Mechanism,
};

/// Settings that cannot be wrong any more.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) domains: Vec<String>,
    pub(crate) starttls: Vec<SocketAddr>,
    pub(crate) direct_tls: Vec<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) router: Vec<SocketAddr>,
    pub(crate) certificates: Vec<CertificateFiles>,
    pub(crate) iterations: u32,
    pub(crate) policy: Policy,
    /// Rounds of PBKDF2 for accounts that clients make and change themselves. `None`: they may not.
    pub(crate) registration: Option<u32>,
    trusted_proxies: Networks,
    mechanisms: Vec<Mechanism>,
    mechanisms_without_tls: Vec<Mechanism>,
    max_attempts: u32,
    tls_required: bool,
    limits: Limits,
}

/// Collects mistakes, so that all are told at once.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn each<T>(&mut self, key: &'static str, values: &[String], parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut parsed = Vec::new();
        for value in values {
            match parse(value) {
                Ok(value) => parsed.push(value),
                Err(reason) => self.0.push(Problem { key, reason: format!("{value:?}: {reason}") }),
            }
        }
        parsed
    }
}

impl Parts {
    /// Checks what `Settings::load` cannot.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let mut problems = Problems::default();
        let domain = |text: &str| match jid::parse_domain(text) {
            Ok(domain) => Ok(domain.as_str().to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let address = |text: &str| text.parse::<SocketAddr>().map_err(|_| "not an address and a port".to_owned());
        let mechanism = |text: &str| Mechanism::parse(text).ok_or_else(|| "no mechanism that is known".to_owned());
        let domains = problems.each("domains", &settings.domains, domain);
        let bare = |text: &str| jid::parse_bare(text).map_err(|error| error.to_string());
        let _admins: Vec<BareJid> = problems.each("admins", &settings.admins, bare);
        let http: Vec<String> =
            Some(settings.http.listen.clone()).filter(|listen| !listen.is_empty()).into_iter().collect();
        let http = problems.each("http.listen", &http, address);
        let starttls = problems.each("c2s.starttls.listen", &settings.c2s.starttls.listen, address);
        let direct_tls = problems.each("c2s.direct_tls.listen", &settings.c2s.direct_tls.listen, address);
        let router = problems.each("router.listen", &settings.router.listen, address);
        let mechanisms = problems.each("auth.mechanisms", &settings.auth.mechanisms, mechanism);
        let clear = &settings.auth.mechanisms_without_tls;
        let mechanisms_without_tls = problems.each("auth.mechanisms_without_tls", clear, mechanism);
        let trusted = &settings.c2s.proxy_protocol.trusted;
        problems.each("c2s.proxy_protocol.trusted", trusted, |text| {
            Networks::parse([text]).map(drop).map_err(|error| error.to_string())
        });
        if let Err(error) = crate::telemetry::parse_filter(&settings.log.level) {
            problems.0.push(Problem { key: "log.level", reason: error.to_string() });
        }
        if !problems.0.is_empty() {
            return Err(Error::Values(problems.0));
        }
        let certificates = settings.tls.certificates.iter();
        Ok(Self {
            domains,
            starttls,
            direct_tls,
            http: http.first().copied(),
            router,
            certificates: certificates
                .map(|pair| CertificateFiles { certificate: pair.certificate.clone(), key: pair.key.clone() })
                .collect(),
            iterations: settings.auth.iterations,
            policy: policy(settings),
            registration: settings.registration.enabled.then_some(settings.auth.iterations),
            trusted_proxies: Networks::parse(trusted).unwrap_or_default(),
            mechanisms,
            mechanisms_without_tls,
            max_attempts: settings.auth.max_attempts,
            tls_required: settings.c2s.starttls.required,
            limits: limits(settings),
        })
    }

    /// Whether the certificates' files can be used, which is not seen from the settings. It reads them.
    ///
    /// # Errors
    /// [`crate::Error::Tls`].
    pub(crate) fn check_files(&self) -> crate::Result<()> {
        match self.certificates.is_empty() {
            true => Ok(()),
            false => Certificates::open(self.certificates.clone()).map(drop).map_err(crate::Error::Tls),
        }
    }

    /// What `c2s` wants. `fake_salt_key` is the server's own secret.
    pub(crate) fn c2s(&self, fake_salt_key: [u8; 32]) -> Config {
        let rules = self.rules(fake_salt_key);
        Config { starttls: self.starttls.clone(), direct_tls: self.direct_tls.clone(), rules }
    }

    /// What of it can be changed while clients are connected.
    pub(crate) fn rules(&self, fake_salt_key: [u8; 32]) -> Rules {
        let policy = AcceptPolicy {
            domains: self.domains.clone(),
            tls: if self.tls_required { TlsPolicy::Required } else { TlsPolicy::Optional },
            mechanisms: self.mechanisms.clone(),
            mechanisms_without_tls: self.mechanisms_without_tls.clone(),
            max_attempts: self.max_attempts,
            fake_salt_key,
            fake_iterations: self.iterations,
            lang: "en".to_owned(),
            registration: self.registration.is_some(),
            more_features: String::new(),
        };
        Rules { trusted_proxies: self.trusted_proxies.clone(), policy: Arc::new(policy), limits: self.limits.clone() }
    }
}

fn policy(settings: &Settings) -> Policy {
    let limits = &settings.c2s.limits;
    Policy {
        conflict: match settings.session.conflict {
            starling_settings::Conflict::Replace => Conflict::Replace,
            starling_settings::Conflict::Refuse => Conflict::Refuse,
            starling_settings::Conflict::Rename => Conflict::Rename,
        },
        resources_per_account: settings.session.resources_per_account as usize,
        archive: settings.archive.enabled,
        offline_messages: settings.session.offline_messages,
        queue: Bounds { stanzas: limits.queue_stanzas as usize, bytes: limits.queue_bytes as usize },
    }
}

fn limits(settings: &Settings) -> Limits {
    let limits = &settings.c2s.limits;
    let rate = |Limit(rate): Limit, burst: u32| rate.map(|rate| (f64::from(rate), f64::from(burst)));
    Limits {
        resume_seconds: settings.session.resume_seconds,
        authentication_time: Duration::from_secs(limits.authentication_time.into()),
        stanza_bytes_before_log_in: limits.stanza_bytes_before_login as usize,
        stanza: starling_xml::Limits {
            stanza_bytes: limits.stanza_bytes as usize,
            depth: limits.depth as usize,
            attributes: limits.attributes as usize,
        },
        connections: limits.connections.0,
        connections_per_address: limits.connections_per_address.0,
        accept_rate: rate(limits.accept_per_second, limits.accept_burst),
        failed_log_ins_per_address: limits.failed_logins_per_address.0,
        failed_log_ins_per_account: limits.failed_logins_per_account.0,
        registrations_per_address: settings.registration.per_address_per_hour.0,
        bytes_rate: rate(limits.bytes_per_second, limits.bytes_burst),
        write_timeout: Duration::from_secs(limits.write_timeout.into()),
        closing_time: Duration::from_secs(settings.c2s.stop_grace.into()),
    }
}
