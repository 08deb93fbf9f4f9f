//! SCRAM's primitives (RFC 5802 §2.2) for each hash function, by aws-lc.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq as _;

/// The longest output of a [`Hash`], in bytes.
pub(super) const MAX_HASH: usize = 64;

/// A hash function of SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1 (RFC 5802).
    Sha1,
    /// SHA-256 (RFC 7677).
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// All of them, strongest first.
    pub const ALL: [Self; 3] = [Self::Sha512, Self::Sha256, Self::Sha1];

    /// The name, as mechanisms have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        }
    }

    /// The length of its output, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a length of output, not of a collection")]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => MAX_HASH,
        }
    }

    /// `H(data)`.
    pub(super) fn digest(self, data: &[u8]) -> digest::Digest {
        ops::count(|ops| ops.digests += 1);
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data)
    }

    /// `HMAC(key, data)`.
    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> hmac::Tag {
        ops::count(|ops| ops.hmacs += 1);
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data)
    }

    /// `Hi(password, salt, iterations)`: one block of PBKDF2 (RFC 8018 §5.2). No iterations count as one.
    pub(super) fn salted_password(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        ops::count(|ops| ops.rounds += u64::from(iterations));
        let algorithm = match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut salted = vec![0; self.len()];
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }
}

/// Compares in a time that depends on the lengths only.
pub(super) fn equal(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// `one XOR other`, as long as the shorter.
pub(super) fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(a, b)| a ^ b).collect()
}

/// What a log-in costs, counted in tests: a known and an unknown account have to cost the same.
pub(super) mod ops {
    /// Counts since the last [`take`].
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub(in super::super) struct Ops {
        pub(in super::super) digests: u64,
        pub(in super::super) hmacs: u64,
        pub(in super::super) rounds: u64,
    }

    #[cfg(test)]
    thread_local! {
        static OPS: std::cell::Cell<Ops> = const { std::cell::Cell::new(Ops { digests: 0, hmacs: 0, rounds: 0 }) };
    }

    #[cfg(test)]
    pub(super) fn count(add: impl FnOnce(&mut Ops)) {
        let mut ops = OPS.get();
        add(&mut ops);
        OPS.set(ops);
    }

    #[cfg(not(test))]
    #[inline]
    pub(super) fn count(_: impl FnOnce(&mut Ops)) {}

    /// This thread's counts, which start again at nothing.
    #[cfg(test)]
    pub(in super::super) fn take() -> Ops {
        OPS.take()
    }
}
