//! A certificate authority of a test's own, for the connections between processes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Signs certificates. Its key is in memory alone.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What one process is given.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, which only its owner may read.
    pub key: PathBuf,
    /// The authority, PEM.
    pub authorities: PathBuf,
}

impl Authority {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes a certificate for `names`, which may be addresses, its key, and the authority's certificate into `folder`.
    #[must_use]
    pub fn issue(&self, names: &[&str], folder: &Path) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let at = |name: &str| folder.join(name);
        let identity = Identity { certificate: at("tls.crt"), key: at("tls.key"), authorities: at("ca.crt") };
        fs::write(&identity.certificate, certificate.pem()).unwrap();
        fs::write(&identity.authorities, self.0.pem()).unwrap();
        write_secret(&identity.key, key.serialize_pem().as_bytes());
        identity
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn write_secret(path: &Path, content: &[u8]) {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(content).unwrap();
}
