//! Certificates for the way between the pods: an authority for each server, and two certificates that it signs.
//!
//! ```text
//!   authority A ────────────────────────────────┐ due          signs           believed
//!   1. Stable                                    │              A               A
//!   2. Announced: B is made, pods learn of it ◄──┘              A               A, B
//!   3. Signing: an overlap later                                B               A, B
//!   1. Stable: an overlap later                                 B               B
//! ```
//!
//! Pods read changed files when they next connect, so that no step drops a stream: whatever a pod has read last, it
//! believes what the others show. The overlap is much longer than a kubelet takes to bring a Secret into its pods.
//!
//! Pure but for the keys, which come from the system's generator: the clock is passed in.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose,
};
use starling_settings::LinkTls;

use crate::{
    dereference::{Hidden, KeyPair, LinkCertificates},
    x509,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority is good for.
const AUTHORITY_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);
/// It is replaced so long before its end: much longer than what it signs lives, and than anybody is away.
const AUTHORITY_REST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long what it signs is good for.
const LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// It is replaced so long before its end.
const LEAF_REST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Between two steps of a rotation: a kubelet brings a changed Secret into its pods within two minutes.
pub const OVERLAP: Duration = Duration::from_secs(60 * 60);
/// Clocks of nodes differ.
const SKEW: Duration = Duration::from_secs(60 * 60);
/// The name in the certificates of all but routers. Nobody asks for it.
const INSTANCE: &str = "instance.starling.internal";

/// Why no certificate could be made, or what was kept cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was kept lacks something.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// What was kept cannot be read.
    #[error("its {what}: {source}")]
    Unreadable {
        /// What.
        what: &'static str,
        /// Why not.
        source: x509::Error,
    },
    /// Signing failed.
    #[error("no certificate could be signed: {0}")]
    Signing(#[from] rcgen::Error),
}

/// The Secret in which they are kept. Pods do not see it.
#[must_use]
pub fn secret(server: &str) -> String {
    format!("{server}-link-authority")
}

/// All that is kept of a server's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    signing: Pair,
    other: Option<Other>,
    router: Pair,
    instance: Pair,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    certificate: String,
    key: Hidden,
    ends: SystemTime,
}

/// The second authority, while there are two.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Other {
    /// It is to sign, from an overlap after this time on.
    Next(Pair, SystemTime),
    /// It signed before, and is believed until an overlap after this time.
    Previous(String, SystemTime),
}

impl Kept {
    /// The first ones. `believed`: authorities, as PEM, of which pods may still have something, because what was kept was lost.
    ///
    /// # Errors
    /// If nothing can be signed.
    pub fn first(now: SystemTime, believed: Option<&str>) -> Result<Self, Error> {
        let signing = authority(now)?;
        let (router, instance) = leaves(&signing, now)?;
        let other = believed.map(|believed| Other::Previous(believed.to_owned(), now));
        Ok(Self { signing, other, router, instance })
    }

    /// One step further, if one is due. `None`: there is nothing to do yet.
    ///
    /// # Errors
    /// If nothing can be signed.
    pub fn step(&self, now: SystemTime) -> Result<Option<Self>, Error> {
        if now < self.due() {
            return Ok(None);
        }
        let mut next = self.clone();
        match &self.other {
            None if self.signing.ends <= now + AUTHORITY_REST => next.other = Some(Other::Next(authority(now)?, now)),
            Some(Other::Next(authority, since)) if *since + OVERLAP <= now => {
                next.signing = authority.clone();
                (next.router, next.instance) = leaves(&next.signing, now)?;
                next.other = Some(Other::Previous(self.signing.certificate.clone(), now));
            }
            Some(Other::Previous(_, since)) if *since + OVERLAP <= now => next.other = None,
            _ => (next.router, next.instance) = leaves(&self.signing, now)?,
        }
        Ok(Some(next))
    }

    /// When the next step is due.
    #[must_use]
    pub fn due(&self) -> SystemTime {
        let leaves = self.router.ends.min(self.instance.ends) - LEAF_REST;
        let authorities = match &self.other {
            None => self.signing.ends - AUTHORITY_REST,
            Some(Other::Next(_, since) | Other::Previous(_, since)) => *since + OVERLAP,
        };
        leaves.min(authorities)
    }

    /// What pods get.
    #[must_use]
    pub fn certificates(&self) -> LinkCertificates {
        let other = match &self.other {
            None => "",
            Some(Other::Next(pair, _)) => &pair.certificate,
            Some(Other::Previous(certificate, _)) => certificate,
        };
        let pair = |pair: &Pair| KeyPair { certificate: pair.certificate.clone(), key: pair.key.clone() };
        LinkCertificates {
            authorities: format!("{}{other}", self.signing.certificate),
            router: pair(&self.router),
            instance: pair(&self.instance),
        }
    }

    /// As it is kept in a Secret.
    #[must_use]
    pub fn to_data(&self) -> BTreeMap<String, Hidden> {
        let mut data = BTreeMap::new();
        let mut put = |name: &str, text: &str| data.insert(name.to_owned(), Hidden::new(text));
        for (name, pair) in [("ca", &self.signing), ("router", &self.router), ("instance", &self.instance)] {
            put(&format!("{name}.crt"), &pair.certificate);
            put(&format!("{name}.key"), pair.key.reveal());
        }
        match &self.other {
            None => {}
            Some(Other::Next(pair, since)) => {
                put("next-ca.crt", &pair.certificate);
                put("next-ca.key", pair.key.reveal());
                put("since", &seconds(*since).to_string());
            }
            Some(Other::Previous(certificate, since)) => {
                put("previous-ca.crt", certificate);
                put("since", &seconds(*since).to_string());
            }
        }
        data
    }

    /// From what was kept.
    ///
    /// # Errors
    /// If it was not written by [`Self::to_data`], or was changed since.
    pub fn from_data(data: &BTreeMap<String, Hidden>) -> Result<Self, Error> {
        let get = |name: &'static str| data.get(name).map(Hidden::reveal).ok_or(Error::Missing(name));
        let pair = |certificate, key| {
            let (certificate, key) = (get(certificate)?, get(key)?);
            let facts =
                x509::pair(certificate, key).map_err(|source| Error::Unreadable { what: "certificates", source })?;
            Ok::<_, Error>(Pair { certificate: certificate.to_owned(), key: Hidden::new(key), ends: facts.not_after })
        };
        let since = || {
            let seconds = get("since")?.trim().parse().map_err(|_| Error::Missing("time under \"since\""))?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(Error::Missing("possible time"))
        };
        let other = if data.contains_key("next-ca.crt") {
            Some(Other::Next(pair("next-ca.crt", "next-ca.key")?, since()?))
        } else if data.contains_key("previous-ca.crt") {
            Some(Other::Previous(get("previous-ca.crt")?.to_owned(), since()?))
        } else {
            None
        };
        Ok(Self {
            signing: pair("ca.crt", "ca.key")?,
            other,
            router: pair("router.crt", "router.key")?,
            instance: pair("instance.crt", "instance.key")?,
        })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn authority(now: SystemTime) -> Result<Pair, Error> {
    let mut params = params("Starling: between pods", now, AUTHORITY_LIFE);
    // It signs certificates, and no other authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: Hidden::new(key.serialize_pem()), ends: params.not_after.into() })
}

/// What a router shows, and what all others show.
fn leaves(authority: &Pair, now: SystemTime) -> Result<(Pair, Pair), Error> {
    let key = rcgen::KeyPair::from_pem(authority.key.reveal())?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, key)?;
    let leaf = |name: &str, usages: &[ExtendedKeyUsagePurpose]| {
        let mut params = params(name, now, LEAF_LIFE);
        params.subject_alt_names = CertificateParams::new(vec![name.to_owned()])?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let key = rcgen::KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let (certificate, key) = (certificate.pem(), Hidden::new(key.serialize_pem()));
        Ok::<_, Error>(Pair { certificate, key, ends: params.not_after.into() })
    };
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    // An instance's certificate is of no use to whoever would pass for a router.
    Ok((leaf(&LinkTls::default().router_name, &[ServerAuth, ClientAuth])?, leaf(INSTANCE, &[ClientAuth])?))
}

fn params(name: &str, now: SystemTime, life: Duration) -> CertificateParams {
    // Certificates know seconds.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds(now));
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name;
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
    params
}

const _: () = assert!(LEAF_LIFE.as_secs() < AUTHORITY_REST.as_secs() && OVERLAP.as_secs() < DAY.as_secs());

#[cfg(test)]
mod tests;
