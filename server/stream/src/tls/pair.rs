use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use aws_lc_rs::digest;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::{bindings, provider};
use crate::Error;

/// Where a certificate and its key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain in PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// The bytes of both files, as one reading found them.
pub(super) struct PairBytes {
    certificate: io::Result<Vec<u8>>,
    key: io::Result<Vec<u8>>,
}

/// A certificate with its key, checked, and what is known about it.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    /// Lower case; a wildcard as `*.example.org`.
    pub(super) names: Vec<String>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) end_point: Option<Arc<[u8]>>,
}

impl PairBytes {
    pub(super) fn read(files: &CertificateFiles) -> Self {
        Self { certificate: fs::read(&files.certificate), key: fs::read(&files.key) }
    }

    /// Tells one content from another; what cannot be read has one as well.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&self.certificate, &self.key] {
            match part {
                Ok(bytes) => {
                    context.update(&[1]);
                    context.update(&bytes.len().to_be_bytes());
                    context.update(bytes);
                }
                Err(error) => {
                    context.update(&[0]);
                    context.update(error.to_string().as_bytes());
                }
            }
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    /// # Errors
    /// [`Error::Certificate`]: a file cannot be read or is not PEM of its kind, or the key is not the certificate's.
    pub(super) fn check(self, files: &CertificateFiles) -> Result<Pair, Error> {
        let bad_certificate = |reason: String| Error::Certificate { path: files.certificate.clone(), reason };
        let bad_key = |reason: String| Error::Certificate { path: files.key.clone(), reason };
        let certificate = self.certificate.map_err(|error| bad_certificate(error.to_string()))?;
        let key = self.key.map_err(|error| bad_key(error.to_string()))?;
        let chain = CertificateDer::pem_slice_iter(&certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad_certificate(format!("not a PEM certificate chain: {error}")))?;
        let Some(own) = chain.first() else {
            return Err(bad_certificate("no certificate in it".to_owned()));
        };
        let own = own.clone();
        let (_, parsed) = X509Certificate::from_der(&own)
            .map_err(|error| bad_certificate(format!("not an X.509 certificate: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| bad_key(format!("not a private key in PEM: {error}")))?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                bad_key(format!("the key is not that of {}", files.certificate.display()))
            }
            other => bad_key(other.to_string()),
        })?;
        Ok(Pair {
            certified: Arc::new(certified),
            names: names(&parsed),
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            end_point: bindings::end_point(&own).map(Into::into),
        })
    }
}

impl Pair {
    pub(super) fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Why it is not valid at `now`, for a person.
    pub(super) fn invalidity(&self, now: SystemTime) -> Option<String> {
        if now < self.not_before {
            Some("the certificate is not valid yet".to_owned())
        } else if now >= self.not_after {
            Some("the certificate has expired".to_owned())
        } else {
            None
        }
    }
}

/// The DNS names that a certificate is for (RFC 6125 §6.4: those of subjectAltName).
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

fn time(timestamp: i64) -> SystemTime {
    let distance = Duration::from_secs(timestamp.unsigned_abs());
    if timestamp < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
        .unwrap_or(UNIX_EPOCH)
}
