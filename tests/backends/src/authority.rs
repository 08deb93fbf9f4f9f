//! A certificate authority of a test's own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Signs certificates. Its key is in memory alone.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What one process is given: files.
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
        // A name other than that of what it signs: that would seem to have signed itself.
        params.distinguished_name.push(DnType::CommonName, "Starling's tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate of these parameters, for a key of its own. Returns both, PEM.
    #[must_use]
    pub fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Writes a certificate for `names`, which may be addresses, its key, and the authority's certificate into `folder`.
    #[must_use]
    pub fn issue(&self, names: &[&str], folder: &Path) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let (certificate, key) = self.sign(CertificateParams::new(names).unwrap());
        let at = |name: &str| folder.join(name);
        let identity = Identity { certificate: at("tls.crt"), key: at("tls.key"), authorities: at("ca.crt") };
        fs::write(&identity.certificate, certificate).unwrap();
        fs::write(&identity.authorities, self.certificate()).unwrap();
        write_secret(&identity.key, key.as_bytes());
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
