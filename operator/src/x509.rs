//! What stands in a certificate, and whether a key is its key.

use std::time::{Duration, SystemTime};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::dereference::CertificateFacts;

/// Why a certificate cannot be used. Says nothing of what stands in the key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing in PEM that would be a certificate.
    #[error("there is no certificate in PEM in it")]
    NoCertificate,
    /// Nothing in PEM that would be a private key.
    #[error("there is no private key in PEM in it")]
    NoKey,
    /// A certificate that is none.
    #[error("the certificate cannot be read")]
    Certificate,
    /// A key of another certificate, or of a kind that is not supported.
    #[error("the key does not belong to the certificate, or is of a kind that is not supported")]
    Mismatch,
}

/// Reads a certificate (the first, if there are several) and checks that the key belongs to it.
///
/// # Errors
/// If they cannot be used.
pub fn pair(certificate: &str, key: &str) -> Result<CertificateFacts, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|_| Error::NoCertificate)?;
    let facts = facts(chain.first().ok_or(Error::NoCertificate)?)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| Error::NoKey)?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|_| Error::Mismatch)?;
    Ok(facts)
}

fn facts(certificate: &CertificateDer<'_>) -> Result<CertificateFacts, Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| Error::Certificate)?;
    let names = parsed.subject_alternative_name().map_err(|_| Error::Certificate)?;
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let validity = parsed.validity();
    Ok(CertificateFacts {
        names: names.collect(),
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
    })
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
