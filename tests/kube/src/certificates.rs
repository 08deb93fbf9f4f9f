//! Certificates and keys of the servers and of who administers them.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use starling_backends::Authority;

/// A certificate's file and that of its key.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Files.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// Of the authority that signed all of them.
    pub(crate) ca: PathBuf,
    pub(crate) server: Pair,
    /// In the group `system:masters`, who may do everything.
    pub(crate) admin: Pair,
    pub(crate) controllers: Pair,
    /// By which tokens of service accounts are signed.
    pub(crate) token_key: PathBuf,
    /// By which they are checked.
    pub(crate) token_public_key: PathBuf,
}

impl Certificates {
    pub(crate) fn write(folder: &Path) -> Self {
        let authority = Authority::new();
        let sign = |name: &str, params: CertificateParams| {
            let (certificate, key) = authority.sign(params);
            Pair {
                certificate: write(folder, &format!("{name}.crt"), &certificate),
                key: write(folder, &format!("{name}.key"), &key),
            }
        };
        let tokens = KeyPair::generate().unwrap();
        Self {
            ca: write(folder, "ca.crt", &authority.certificate()),
            server: sign("server", server()),
            admin: sign("admin", client("admin", Some("system:masters"))),
            controllers: sign("controllers", client("system:kube-controller-manager", None)),
            token_key: write(folder, "tokens.key", &tokens.serialize_pem()),
            token_public_key: write(folder, "tokens.pub", &tokens.public_key_pem()),
        }
    }
}

fn server() -> CertificateParams {
    let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned).to_vec();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// Kubernetes takes the common name for the user and the organisation for the group.
fn client(user: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A certificate for these names that has signed itself, and its key, PEM.
#[must_use]
pub fn certificate(names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

/// For nobody else to read.
pub(crate) fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    path
}
