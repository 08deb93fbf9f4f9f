//! Certificates for clients: are they there, for the right names, and valid for long enough?

use std::time::Duration;

use crate::{
    crd::{ConditionType, XmppServer},
    dereference::{CertificateFacts, CertificateLookup, Dereferenced, certificate_secrets},
};

use super::{Note, Problem};

/// Less than this is too little for people to act in peace.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The Secrets, in the server's order. Those that cert-manager is to make may be missing still: pods wait for them.
pub(super) fn check(
    server: &XmppServer,
    found: &Dereferenced,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<Note>,
) -> Vec<String> {
    let is_made = server.spec.tls.as_ref().is_some_and(|tls| tls.issuer_ref.is_some());
    let secrets = certificate_secrets(server);
    let mut good = Vec::new();
    for secret in &secrets {
        match found.certificates.get(secret) {
            Some(CertificateLookup::Found(facts)) => {
                notes.extend(judge(secret, facts, found));
                good.push(facts);
            }
            Some(CertificateLookup::Unusable(reason)) => {
                problems.push(Problem::new(
                    "CertificateUnusable",
                    format!("the certificate in the Secret {secret}: {reason}"),
                ));
            }
            // It will not come: see below.
            Some(CertificateLookup::Missing) | None if is_made && !found.cluster.cert_manager => {}
            Some(CertificateLookup::Missing) | None if is_made => notes.push(note(
                "CertificatePending",
                format!("cert-manager has not put the certificate into the Secret {secret} yet: pods wait for it"),
            )),
            Some(CertificateLookup::Missing) | None => {
                let message = format!("there is no Secret {secret} in this namespace; its certificate is needed");
                problems.push(Problem::new("SecretMissing", message));
            }
        }
    }
    if is_made && !found.cluster.cert_manager {
        // Those that are there are as good as before.
        let about = if good.len() == secrets.len() { ConditionType::Degraded } else { ConditionType::TlsReady };
        let message =
            "tls.issuerRef needs cert-manager, which the cluster lacks: nobody makes certificates, or renews them";
        notes.push(Note { about, reason: "CertManagerMissing", message: message.to_owned() });
    }
    // Of what is not there yet, nothing can be said.
    if good.len() == secrets.len() && !secrets.is_empty() {
        let hosts =
            server.spec.domains.iter().flat_map(|domain| [&domain.name].into_iter().chain(&domain.service_hosts));
        let missing: Vec<_> =
            hosts.filter(|host| !good.iter().any(|facts| facts.is_for(host))).map(String::as_str).collect();
        if !missing.is_empty() {
            notes.push(note("NameMismatch", format!("no certificate is for {}", missing.join(", "))));
        }
    }
    secrets
}

fn judge(secret: &str, facts: &CertificateFacts, found: &Dereferenced) -> Option<Note> {
    let left = facts.not_after.duration_since(found.now).unwrap_or_default();
    if facts.not_before > found.now {
        Some(note("CertificateNotYetValid", format!("the certificate in the Secret {secret} is not valid yet")))
    } else if left.is_zero() {
        Some(note("CertificateExpired", format!("the certificate in the Secret {secret} has expired")))
    } else if left < SOON {
        // Days, not hours: a text that changes all the time would be written all the time.
        let days = left.as_secs() / (24 * 60 * 60);
        Some(note("CertificateExpiresSoon", format!("the certificate in the Secret {secret} expires in {days} days")))
    } else {
        None
    }
}

fn note(reason: &'static str, message: String) -> Note {
    Note { about: ConditionType::TlsReady, reason, message }
}
