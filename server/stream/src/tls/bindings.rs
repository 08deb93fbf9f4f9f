use aws_lc_rs::digest;
use rustls::SupportedCipherSuite;
use rustls::crypto::tls13::OkmBlock;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry::{
    OID_HASH_SHA1, OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// The label of `tls-exporter` (RFC 9266 §2).
pub(crate) const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// `tls-server-end-point` (RFC 5929 §4.1): the certificate's hash, by its signature's hash function; SHA-256 where that is
/// MD5 or SHA-1. `None` where the standard defines none (Ed25519), or when `certificate` is no DER certificate.
#[must_use]
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = end_point_hash(&parsed)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

fn end_point_hash(certificate: &X509Certificate<'_>) -> Option<&'static digest::Algorithm> {
    let signature = &certificate.signature_algorithm;
    let hash_of_pss = match SignatureAlgorithm::try_from(signature) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => Some(parameters.hash_algorithm_oid().to_id_string()),
        _ => None,
    };
    let is_any = |oids: &[Oid<'static>]| match &hash_of_pss {
        Some(hash) => oids.iter().any(|oid| oid.to_id_string() == *hash),
        None => oids.contains(&signature.algorithm),
    };
    if is_any(&[
        OID_PKCS1_SHA256WITHRSA,
        OID_SIG_ECDSA_WITH_SHA256,
        OID_NIST_HASH_SHA256,
        OID_PKCS1_MD5WITHRSAENC,
        OID_PKCS1_SHA1WITHRSA,
        OID_ECDSA_WITH_SHA1,
        OID_HASH_SHA1,
    ]) {
        Some(&digest::SHA256)
    } else if is_any(&[OID_PKCS1_SHA384WITHRSA, OID_SIG_ECDSA_WITH_SHA384, OID_NIST_HASH_SHA384]) {
        Some(&digest::SHA384)
    } else if is_any(&[OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA512, OID_NIST_HASH_SHA512]) {
        Some(&digest::SHA512)
    } else {
        None
    }
}

const OID_ECDSA_WITH_SHA1: Oid<'static> = x509_parser::der_parser::oid!(1.2.840.10045.4.1);

/// `tls-exporter` (RFC 9266) out of TLS 1.3's exporter secret, by RFC 8446 §7.5. rustls' unbuffered connections have no
/// exporter of their own, but hand the secret to the connection's key log. Not for TLS 1.2: RFC 9266 §4.2 wants its
/// extended master secret, and rustls does not say whether that was used.
pub(super) fn exporter(suite: SupportedCipherSuite, exporter_secret: &OkmBlock) -> Option<[u8; 32]> {
    let suite = suite.tls13()?;
    let nothing = suite.common.hash_provider.hash(&[]);
    let hash_length = suite.common.hash_provider.output_len();
    let mut derived = [0; OkmBlock::MAX_LEN];
    let derived = derived.get_mut(..hash_length)?;
    let expand = |secret: &OkmBlock, label: &[u8], out: &mut [u8]| {
        // HKDF-Expand-Label, RFC 8446 §7.1
        let length = u16::try_from(out.len()).ok()?.to_be_bytes();
        let label_length = [u8::try_from(label.len() + TLS13.len()).ok()?];
        let context_length = [u8::try_from(nothing.as_ref().len()).ok()?];
        let info = [&length[..], &label_length, TLS13, label, &context_length, nothing.as_ref()];
        suite.hkdf_provider.expander_for_okm(secret).expand_slice(&info, out).ok()
    };
    expand(exporter_secret, EXPORTER_LABEL, derived)?;
    let mut binding = [0; 32];
    expand(&OkmBlock::new(derived), b"exporter", &mut binding)?;
    Some(binding)
}

const TLS13: &[u8] = b"tls13 ";
