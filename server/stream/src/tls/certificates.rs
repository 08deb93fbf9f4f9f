use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use tokio::sync::watch;

use super::pair::{CertificateFiles, Pair, PairBytes};
use super::server::TlsAcceptor;
use crate::Error;

/// The certificates that a server shows, chosen by the name that a client asks for (SNI), and read again by
/// [`reload`](Self::reload) or by the task of [`watch`](Self::watch). Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Certificates(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) files: Vec<CertificateFiles>,
    acceptor: ArcSwap<TlsAcceptor>,
    /// What was last read, good or bad: reading the same again changes nothing. Held while reading, so that one reading
    /// never overtakes another.
    last: Mutex<Vec<[u8; 32]>>,
    status: watch::Sender<Arc<Status>>,
}

/// What is known about the certificates: for health, metrics and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How often changed files were read, the first time included.
    pub readings: u64,
    /// One for each pair of files, in their order.
    pub certificates: Vec<CertificateStatus>,
}

/// What is known about one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The certificate's file.
    pub file: PathBuf,
    /// The DNS names of the certificate that is shown, lower case.
    pub names: Vec<String>,
    /// When the certificate that is shown expires.
    pub expires: SystemTime,
    /// Why what lies in the files now is not shown, or is shown though clients will refuse it. `None`: all is well.
    pub failure: Option<String>,
}

/// The certificates of one moment.
#[derive(Debug)]
pub(super) struct Set {
    pairs: Vec<Arc<Pair>>,
    /// Positions in `pairs`, those given first first.
    exact: HashMap<String, Vec<usize>>,
    /// The same by what follows `*.`.
    wildcard: HashMap<String, Vec<usize>>,
}

impl Certificates {
    /// Reads certificates and keys. The first is shown to clients that ask for no name, or for one that no certificate has.
    /// Certificates outside of their time are shown all the same, with a warning: there is nothing better yet.
    ///
    /// # Errors
    /// [`Error::NoCertificate`]; [`Error::Certificate`] for the first pair that cannot be used.
    pub fn open(files: Vec<CertificateFiles>) -> Result<Self, Error> {
        if files.is_empty() {
            return Err(Error::NoCertificate);
        }
        let now = SystemTime::now();
        let mut pairs = Vec::with_capacity(files.len());
        let mut last = Vec::with_capacity(files.len());
        let mut failures = Vec::with_capacity(files.len());
        for files in &files {
            let bytes = PairBytes::read(files);
            last.push(bytes.hash());
            let pair = bytes.check(files)?;
            let failure = pair.invalidity(now);
            if let Some(reason) = &failure {
                tracing::warn!(file = %files.certificate.display(), reason, "clients will refuse a certificate");
            }
            failures.push(failure);
            pairs.push(Arc::new(pair));
        }
        let status = status(1, &files, &pairs, failures);
        let acceptor = ArcSwap::from_pointee(TlsAcceptor::new(Arc::new(Set::new(pairs)))?);
        let status = watch::Sender::new(Arc::new(status));
        Ok(Self(Arc::new(Shared { files, acceptor, last: Mutex::new(last), status })))
    }

    /// What accepts connections with the certificates of this moment: take it for each connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::clone(&self.0.acceptor.load())
    }

    /// The latest status, and notice of each change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.0.status.subscribe()
    }

    /// Reads the files again, and shows from now on what changed and can be used; connections made before are not
    /// touched. A pair that cannot be used, or is outside of its time while the one shown is not, is reported and the one
    /// shown is kept. It reads files: on a runtime's thread, call it by `spawn_blocking`.
    ///
    /// # Errors
    /// The system has no randomness for the new keys of session tickets. Bad files are not an error here: see
    /// [`Status`].
    pub fn reload(&self) -> Result<Arc<Status>, Error> {
        let shared = &*self.0;
        let mut last = shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<_> = shared.files.iter().map(PairBytes::read).collect();
        let hashes: Vec<_> = bytes.iter().map(PairBytes::hash).collect();
        let before = Arc::clone(&shared.status.borrow());
        if *last == hashes {
            return Ok(before);
        }
        let shown = shared.acceptor.load();
        let now = SystemTime::now();
        let mut pairs = shown.set().pairs.clone();
        let mut failures: Vec<_> = before.certificates.iter().map(|one| one.failure.clone()).collect();
        let parts =
            shared.files.iter().zip(bytes).zip(last.iter().zip(&hashes)).zip(pairs.iter_mut().zip(&mut failures));
        for (((files, bytes), (old_hash, new_hash)), (pair, failure)) in parts {
            if old_hash == new_hash {
                continue;
            }
            *failure = match bytes.check(files) {
                Ok(new) => match new.invalidity(now) {
                    Some(reason) if pair.is_valid_at(now) => Some(reason),
                    reason => {
                        *pair = Arc::new(new);
                        reason
                    }
                },
                Err(error) => Some(error.to_string()),
            };
            let file = files.certificate.display();
            match failure {
                Some(reason) => tracing::error!(%file, reason, "a changed certificate cannot be used"),
                None => tracing::info!(%file, "a changed certificate is used from now on"),
            }
        }
        let status = Arc::new(status(before.readings + 1, &shared.files, &pairs, failures));
        if pairs.iter().zip(&shown.set().pairs).any(|(new, old)| !Arc::ptr_eq(new, old)) {
            shared.acceptor.store(Arc::new(TlsAcceptor::new(Arc::new(Set::new(pairs)))?));
        }
        *last = hashes;
        shared.status.send_replace(Arc::clone(&status));
        Ok(status)
    }
}

impl Status {
    /// The first certificate's end, for an alarm.
    #[must_use]
    pub fn next_expiry(&self) -> Option<SystemTime> {
        self.certificates.iter().map(|one| one.expires).min()
    }

    /// Whether every pair of files is good and shown.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.certificates.iter().all(|one| one.failure.is_none())
    }
}

fn status(readings: u64, files: &[CertificateFiles], pairs: &[Arc<Pair>], failures: Vec<Option<String>>) -> Status {
    let certificates = files.iter().zip(pairs).zip(failures).map(|((files, pair), failure)| CertificateStatus {
        file: files.certificate.clone(),
        names: pair.names.clone(),
        expires: pair.not_after,
        failure,
    });
    Status { readings, certificates: certificates.collect() }
}

impl Set {
    fn new(pairs: Vec<Arc<Pair>>) -> Self {
        let mut exact = HashMap::<String, Vec<usize>>::new();
        let mut wildcard = HashMap::<String, Vec<usize>>::new();
        for (position, pair) in pairs.iter().enumerate() {
            for name in &pair.names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(position),
                    None => exact.entry(name.clone()).or_default().push(position),
                }
            }
        }
        Self { pairs, exact, wildcard }
    }

    /// The certificate for a name in lower case: one that has it, else one with a wildcard for its first label
    /// (RFC 6125 §6.4.3), else the first; among several, the first whose key can sign for the client.
    pub(super) fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<Pair>> {
        let can_sign = |pair: &&Arc<Pair>| pair.certified.key.choose_scheme(schemes).is_some();
        let named = name.and_then(|name| {
            let exact = || self.exact.get(name);
            let wildcard = || self.wildcard.get(name.split_once('.')?.1);
            [exact().map(Vec::as_slice), wildcard().map(Vec::as_slice)]
                .into_iter()
                .flatten()
                .find_map(|positions| positions.iter().filter_map(|at| self.pairs.get(*at)).find(can_sign))
        });
        named.or_else(|| self.pairs.iter().find(can_sign)).or_else(|| self.pairs.first())
    }
}
