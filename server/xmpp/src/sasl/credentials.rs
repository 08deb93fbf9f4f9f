//! What is kept of a password: SCRAM's verifiers (RFC 5802 §3), one per hash function. None of them is the password,
//! and none lets its thief log in.

use std::fmt;

use thiserror::Error;

use super::{
    MAX_ITERATIONS, MIN_ITERATIONS,
    hash::{self, Hash},
};
use crate::random::Random;

/// The length of new salts, in bytes. Made-up salts of unknown accounts have it too.
pub(super) const SALT_BYTES: usize = 16;

/// The longest password, in bytes, before and after SASLprep.
const MAX_PASSWORD: usize = 1024;

/// SCRAM's verifier for one hash function.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// The salt.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// `H(ClientKey)`.
    pub stored_key: Vec<u8>,
    /// `ServerKey`.
    pub server_key: Vec<u8>,
}

impl Verifier {
    /// Derives it from a password that SASLprep has prepared.
    pub(super) fn derive(hash: Hash, prepared: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = hash.salted_password(prepared, &salt, iterations);
        let stored_key = hash.digest(hash.hmac(&salted, b"Client Key").as_ref()).as_ref().to_vec();
        let server_key = hash.hmac(&salted, b"Server Key").as_ref().to_vec();
        Self { salt, iterations, stored_key, server_key }
    }

    /// One that no password fits, for accounts that do not exist.
    pub(super) fn fake(hash: Hash, salt: Vec<u8>, iterations: u32) -> Self {
        Self { salt, iterations, stored_key: vec![0; hash.len()], server_key: vec![0; hash.len()] }
    }

    /// Whether it has the form of one, so that it may be used.
    pub(super) fn is_sound(&self, hash: Hash) -> bool {
        !self.salt.is_empty()
            && self.iterations > 0
            && self.stored_key.len() == hash.len()
            && self.server_key.len() == hash.len()
    }

    /// Whether it was derived from this password, which SASLprep has prepared.
    pub(super) fn fits(&self, hash: Hash, prepared: &str) -> bool {
        let salted = hash.salted_password(prepared, &self.salt, self.iterations);
        let server_key = hash.hmac(&salted, b"Server Key");
        hash::equal(server_key.as_ref(), &self.server_key)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// What an account logs in by. A hash function without a verifier cannot be logged in with.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// For SCRAM-SHA-1 and SCRAM-SHA-1-PLUS.
    pub sha1: Option<Verifier>,
    /// For SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
    pub sha256: Option<Verifier>,
    /// For SCRAM-SHA-512 and SCRAM-SHA-512-PLUS.
    pub sha512: Option<Verifier>,
}

/// Why a password cannot be an account's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// Nothing, or nothing left after SASLprep.
    #[error("the password is empty")]
    Empty,
    /// More than 1024 bytes.
    #[error("the password is longer than {MAX_PASSWORD} bytes")]
    TooLong,
    /// SASLprep (RFC 4013 §2.3, §2.4, §2.5) refuses a character or the mixture of directions.
    #[error("the password has characters that SASLprep (RFC 4013) prohibits")]
    Prohibited,
}

/// SASLprep, with the bounds of passwords.
pub(super) fn prepare(password: &str) -> Result<std::borrow::Cow<'_, str>, PasswordError> {
    if password.is_empty() {
        return Err(PasswordError::Empty);
    }
    if password.len() > MAX_PASSWORD {
        return Err(PasswordError::TooLong);
    }
    let prepared = stringprep::saslprep(password).map_err(|_| PasswordError::Prohibited)?;
    match prepared.len() {
        0 => Err(PasswordError::Empty),
        length if length > MAX_PASSWORD => Err(PasswordError::TooLong),
        _ => Ok(prepared),
    }
}

impl Credentials {
    /// Derives the verifiers for every hash function, each with a salt of its own. `iterations` outside of
    /// [`MIN_ITERATIONS`] to [`MAX_ITERATIONS`] becomes the nearer of the two. Takes milliseconds: not for I/O threads.
    pub fn derive(password: &str, iterations: u32, random: &mut dyn Random) -> Result<Self, PasswordError> {
        let prepared = prepare(password)?;
        let iterations = iterations.clamp(MIN_ITERATIONS, MAX_ITERATIONS);
        let mut verifier = |hash| {
            let mut salt = vec![0; SALT_BYTES];
            random.fill(&mut salt);
            Some(Verifier::derive(hash, &prepared, salt, iterations))
        };
        Ok(Self { sha1: verifier(Hash::Sha1), sha256: verifier(Hash::Sha256), sha512: verifier(Hash::Sha512) })
    }

    /// The verifier for one hash function.
    pub const fn verifier(&self, hash: Hash) -> Option<&Verifier> {
        match hash {
            Hash::Sha1 => self.sha1.as_ref(),
            Hash::Sha256 => self.sha256.as_ref(),
            Hash::Sha512 => self.sha512.as_ref(),
        }
    }

    /// The verifier for one hash function, if it is fit for use.
    pub(super) fn take(self, hash: Hash) -> Option<Verifier> {
        match hash {
            Hash::Sha1 => self.sha1,
            Hash::Sha256 => self.sha256,
            Hash::Sha512 => self.sha512,
        }
        .filter(|verifier| verifier.is_sound(hash))
    }

    /// The verifier to check a password with. All are of the same password, so the one whose rounds are cheapest here
    /// does: SHA-256, which processors have instructions for.
    pub(super) fn for_password(self) -> Option<(Hash, Verifier)> {
        let found = FOR_PASSWORD.into_iter().find(|&hash| self.verifier(hash).is_some_and(|v| v.is_sound(hash)))?;
        Some((found, self.take(found)?))
    }

    /// Whether this is the password. Compares in constant time; takes a PBKDF2, milliseconds: not for I/O threads.
    pub fn check_password(&self, password: &str) -> bool {
        let Ok(prepared) = prepare(password) else { return false };
        self.clone().for_password().is_some_and(|(hash, verifier)| verifier.fits(hash, &prepared))
    }
}

/// The order in which verifiers are taken to check a password; unknown accounts cost what the first costs.
pub(super) const FOR_PASSWORD: [Hash; 3] = [Hash::Sha256, Hash::Sha512, Hash::Sha1];

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = Hash::ALL.into_iter().filter(|&hash| self.verifier(hash).is_some());
        f.write_str("Credentials")?;
        f.debug_list().entries(kept.map(Hash::name)).finish()
    }
}
