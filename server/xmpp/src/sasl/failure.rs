//! Why a log-in failed, in the terms of RFC 6120 §6.5.

use thiserror::Error;

/// A SASL failure, as `<failure/>` says it (RFC 6120 §6.5). Which of the reasons for `NotAuthorized` it was is for
/// nobody to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Failure {
    /// §6.5.1: the initiating entity gave up.
    #[error("aborted")]
    Aborted,
    /// §6.5.2: the account is known and closed for now.
    #[error("account-disabled")]
    AccountDisabled,
    /// §6.5.3: the credentials were right once.
    #[error("credentials-expired")]
    CredentialsExpired,
    /// §6.5.4: this mechanism wants an encrypted stream.
    #[error("encryption-required")]
    EncryptionRequired,
    /// §6.5.5: the Base64 around the message is wrong.
    #[error("incorrect-encoding")]
    IncorrectEncoding,
    /// §6.5.6: the authorization identity is not the account's own.
    #[error("invalid-authzid")]
    InvalidAuthzid,
    /// §6.5.7: the mechanism was not offered.
    #[error("invalid-mechanism")]
    InvalidMechanism,
    /// §6.5.8: the message violates the mechanism's syntax.
    #[error("malformed-request")]
    MalformedRequest,
    /// §6.5.9: policy asks more of this account than the mechanism gives.
    #[error("mechanism-too-weak")]
    MechanismTooWeak,
    /// §6.5.10: wrong password, unknown account, broken channel binding.
    #[error("not-authorized")]
    NotAuthorized,
    /// §6.5.11: this end could not look; trying again makes sense.
    #[error("temporary-auth-failure")]
    TemporaryAuthFailure,
}

impl Failure {
    /// The name of the element inside `<failure/>`.
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::CredentialsExpired => "credentials-expired",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::MechanismTooWeak => "mechanism-too-weak",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }

    /// The failure of this name, as the initiating entity reads it.
    pub fn parse(condition: &str) -> Option<Self> {
        [
            Self::Aborted,
            Self::AccountDisabled,
            Self::CredentialsExpired,
            Self::EncryptionRequired,
            Self::IncorrectEncoding,
            Self::InvalidAuthzid,
            Self::InvalidMechanism,
            Self::MalformedRequest,
            Self::MechanismTooWeak,
            Self::NotAuthorized,
            Self::TemporaryAuthFailure,
        ]
        .into_iter()
        .find(|failure| failure.condition() == condition)
    }
}
