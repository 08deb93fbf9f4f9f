//! The three files.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustls::server::VerifierBuilderError;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};

/// Where the certificates are, each as PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// What this process shows, and behind it those that sign it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whose certificates are believed.
    pub authorities: PathBuf,
}

/// Why certificates cannot be used: to be mended by whoever wrote the files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What is in them.
pub(crate) struct Read {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
}

/// Differs when a file may have changed: also where a link to a folder was turned to another, as with mounted secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp([Option<(u64, i64, i64, u64)>; 3]);

impl Files {
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp([&self.certificate, &self.key, &self.authorities].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
        }))
    }

    pub(crate) fn read(&self) -> Result<Read, Error> {
        let key = PrivateKeyDer::from_pem_slice(&bytes(&self.key)?).map_err(|error| wrong(&self.key, &error))?;
        Ok(Read { certificates: certificates(&self.certificate)?, key, authorities: certificates(&self.authorities)? })
    }

    pub(crate) fn mismatch(&self, source: rustls::Error) -> Error {
        Error::Content { path: self.certificate.clone(), reason: source.to_string() }
    }

    pub(crate) fn wrong_authority(&self, source: rustls::Error) -> Error {
        Error::Content { path: self.authorities.clone(), reason: source.to_string() }
    }

    pub(crate) fn no_authority(&self, source: &VerifierBuilderError) -> Error {
        Error::Content { path: self.authorities.clone(), reason: source.to_string() }
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = bytes(path)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| wrong(path, &error))?;
    if found.is_empty() {
        return Err(Error::Content { path: path.to_owned(), reason: "no certificate in it".to_owned() });
    }
    Ok(found)
}

fn wrong(path: &Path, error: &pem::Error) -> Error {
    Error::Content { path: path.to_owned(), reason: error.to_string() }
}
