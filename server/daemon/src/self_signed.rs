//! The certificate for a server that was given none: self-signed, for the served domains, under `<data>/tls/`.
//!
//! The key is made once and kept, so that a new certificate is one file put in place of another: whoever watches the files
//! never sees a certificate beside the wrong key.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use crate::data::replace_file;
use crate::error::{Error, Result};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a certificate is valid: what clients accept of public ones.
const LIFETIME: Duration = DAY.saturating_mul(397);
/// How long before its end it is renewed.
const RENEWAL: Duration = DAY.saturating_mul(30);
/// Clocks that are behind ours accept it as well.
const CLOCK_SKEW: Duration = DAY;

/// The two files, which exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SelfSigned {
    /// The certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM, mode 0600.
    pub(crate) key: PathBuf,
    /// When [`ensure`] should be called again.
    pub(crate) renew_at: SystemTime,
    /// Whether the certificate was made by this call.
    pub(crate) made: bool,
    /// SHA-256 of the certificate, as clients show it to whoever is asked whether to trust it: `AB:CD:…`.
    pub(crate) fingerprint: String,
}

/// Makes sure that `folder` holds a key, and a certificate of it for exactly `domains` with more than 30 days to go.
///
/// # Errors
/// [`Error::Certificate`] when a file cannot be read or written, the key is not one, or a domain cannot stand in a certificate.
pub(crate) fn ensure(folder: &Path, domains: &[String], now: SystemTime) -> Result<SelfSigned> {
    let (certificate, key) = (folder.join("self-signed.crt"), folder.join("self-signed.key"));
    let failed = |path: &Path, source: Box<dyn std::error::Error + Send + Sync>| Error::Certificate {
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed(folder, error.into()))?;
    let pair = key_pair(&key).map_err(|error| failed(&key, error))?;
    let names = names(domains).map_err(|error| failed(&certificate, error))?;
    let held = fs::read(&certificate).ok().and_then(|pem| Held::read(&pem));
    if let Some(held) = held
        && held.names == names
        && held.public_key == pair.public_key_raw()
        && let Some(renew_at) = held.not_after.checked_sub(RENEWAL)
        && now < renew_at
    {
        return Ok(SelfSigned { certificate, key, renew_at, made: false, fingerprint: held.fingerprint });
    }
    let not_after = now + LIFETIME;
    let pem = make(&pair, &names, now, not_after).map_err(|error| failed(&certificate, error.into()))?;
    replace_file(&certificate, pem.as_bytes(), 0o644).map_err(|error| failed(&certificate, error.into()))?;
    let fingerprint = Held::read(pem.as_bytes()).map(|held| held.fingerprint).unwrap_or_default();
    Ok(SelfSigned { certificate, key, renew_at: not_after - RENEWAL, made: true, fingerprint })
}

/// The key in `path`, made if there is none; nobody but its owner may read it afterwards.
fn key_pair(path: &Path) -> Result<KeyPair, Box<dyn std::error::Error + Send + Sync>> {
    match fs::read_to_string(path) {
        Ok(pem) => {
            if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            }
            KeyPair::from_pem(&pem).map_err(|error| {
                format!("this is no private key ({error}); remove the file to have a new one made").into()
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let pair = KeyPair::generate()?;
            replace_file(path, pair.serialize_pem().as_bytes(), 0o600)?;
            Ok(pair)
        }
        Err(error) => Err(error.into()),
    }
}

/// The domains as a certificate spells them: A-labels (RFC 6120 §13.7.1.2), addresses without brackets.
fn names(domains: &[String]) -> Result<BTreeSet<String>, Box<dyn std::error::Error + Send + Sync>> {
    domains
        .iter()
        .map(|domain| {
            let bare = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(domain);
            match bare.parse::<IpAddr>() {
                Ok(address) => Ok(address.to_string()),
                Err(_) => idna::domain_to_ascii(domain)
                    .map_err(|_| format!("the domain {domain} cannot stand in a certificate").into()),
            }
        })
        .collect()
}

fn make(
    pair: &KeyPair,
    names: &BTreeSet<String>,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<String, rcgen::Error> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    params.not_before = epoch + since_epoch(now - CLOCK_SKEW);
    params.not_after = epoch + since_epoch(not_after);
    params.distinguished_name = DistinguishedName::new();
    if let Some(first) = names.first() {
        // A common name holds 64 characters at most (RFC 5280, upper bounds); the names themselves stand in the extension.
        params.distinguished_name.push(DnType::CommonName, first.chars().take(64).collect::<String>());
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params.self_signed(pair)?.pem())
}

/// What matters of the certificate that is there.
struct Held {
    names: BTreeSet<String>,
    public_key: Vec<u8>,
    not_after: SystemTime,
    fingerprint: String,
}

impl Held {
    fn read(pem: &[u8]) -> Option<Self> {
        let (_, pem) = parse_x509_pem(pem).ok()?;
        let certificate = pem.parse_x509().ok()?;
        let digest = digest::digest(&digest::SHA256, &pem.contents);
        let names =
            certificate.subject_alternative_name().ok()??.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => match bytes.len() {
                    4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
                    _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
                },
                _ => None,
            });
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        Some(Self {
            names: names.collect(),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            not_after: UNIX_EPOCH.checked_add(Duration::from_secs(not_after))?,
            fingerprint: digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn it_is_made_once_and_only_its_owner_reads_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let names = domains(&["localhost", "bücher.example", "[::1]", "127.0.0.1"]);
        let first = ensure(folder.path(), &names, now).unwrap();
        assert!(first.made);
        assert_eq!(fs::metadata(&first.key).unwrap().permissions().mode() & 0o777, 0o600);
        let pem = fs::read(&first.certificate).unwrap();
        let held = Held::read(&pem).unwrap();
        assert!(held.names.contains("xn--bcher-kva.example"), "{:?}", held.names);
        let second = ensure(folder.path(), &names, now).unwrap();
        assert!(!second.made);
        assert_eq!(fs::read(&second.certificate).unwrap(), pem);
    }

    #[test]
    fn it_is_made_again_for_other_domains_with_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let first = ensure(folder.path(), &domains(&["localhost"]), now).unwrap();
        let key = fs::read(&first.key).unwrap();
        let second = ensure(folder.path(), &domains(&["localhost", "a.example"]), now).unwrap();
        assert!(second.made);
        assert_eq!(fs::read(&second.key).unwrap(), key);
    }

    #[test]
    fn it_is_made_again_thirty_days_before_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let names = domains(&["localhost"]);
        let first = ensure(folder.path(), &names, now).unwrap();
        let before = first.renew_at - DAY;
        assert!(!ensure(folder.path(), &names, before).unwrap().made);
        let renewed = ensure(folder.path(), &names, first.renew_at).unwrap();
        assert!(renewed.made);
        assert!(renewed.renew_at > first.renew_at);
    }

    #[test]
    fn a_key_that_others_could_read_is_closed_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let first = ensure(folder.path(), &domains(&["localhost"]), SystemTime::now()).unwrap();
        fs::set_permissions(&first.key, fs::Permissions::from_mode(0o644)).unwrap();
        ensure(folder.path(), &domains(&["localhost"]), SystemTime::now()).unwrap();
        assert_eq!(fs::metadata(&first.key).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_is_none_is_reported_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("self-signed.key"), "nonsense").unwrap();
        let error = ensure(folder.path(), &domains(&["localhost"]), SystemTime::now()).unwrap_err().to_string();
        assert!(error.contains("remove the file"), "{error}");
        assert_eq!(fs::read(folder.path().join("self-signed.key")).unwrap(), b"nonsense");
    }

    #[test]
    fn a_certificate_of_another_key_is_replaced() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let names = domains(&["localhost"]);
        let first = ensure(ours.path(), &names, SystemTime::now()).unwrap();
        let other = ensure(theirs.path(), &names, SystemTime::now()).unwrap();
        fs::copy(&other.certificate, &first.certificate).unwrap();
        assert!(ensure(ours.path(), &names, SystemTime::now()).unwrap().made);
    }
}
