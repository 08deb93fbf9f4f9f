//! Between the socket's messages and the store's types.

use starling_proto::admin;
use starling_store::{Account, PutMode};
use starling_xmpp::{
    jid,
    sasl::{Credentials, Verifier},
};

pub(super) fn to_message(account: &Account) -> admin::Account {
    let verifier = |verifier: &Option<Verifier>| {
        verifier.as_ref().map(|verifier| admin::Verifier {
            salt: verifier.salt.clone(),
            iterations: verifier.iterations,
            stored_key: verifier.stored_key.clone(),
            server_key: verifier.server_key.clone(),
        })
    };
    admin::Account {
        jid: account.jid.to_string(),
        sha1: verifier(&account.credentials.sha1),
        sha256: verifier(&account.credentials.sha256),
        sha512: verifier(&account.credentials.sha512),
    }
}

/// `Err`: why it cannot be an account.
pub(super) fn from_message(message: admin::Account) -> Result<Account, String> {
    let verifier = |verifier: Option<admin::Verifier>, length| match verifier {
        None => Ok(None),
        Some(verifier) => {
            let admin::Verifier { salt, iterations, stored_key, server_key } = verifier;
            if salt.is_empty() || iterations == 0 || stored_key.len() != length || server_key.len() != length {
                return Err("a verifier of the wrong size".to_owned());
            }
            Ok(Some(Verifier { salt, iterations, stored_key, server_key }))
        }
    };
    let credentials = Credentials {
        sha1: verifier(message.sha1, 20)?,
        sha256: verifier(message.sha256, 32)?,
        sha512: verifier(message.sha512, 64)?,
    };
    let jid = jid::parse_bare(&message.jid).map_err(|error| format!("{:?}: {error}", message.jid))?;
    Ok(Account { jid, credentials })
}

pub(super) const fn mode_to_message(mode: PutMode) -> admin::PutMode {
    match mode {
        PutMode::Create => admin::PutMode::Create,
        PutMode::Replace => admin::PutMode::Replace,
        PutMode::Upsert => admin::PutMode::Upsert,
    }
}

pub(super) const fn mode_from_message(mode: admin::PutMode) -> Option<PutMode> {
    match mode {
        admin::PutMode::Unspecified => None,
        admin::PutMode::Create => Some(PutMode::Create),
        admin::PutMode::Replace => Some(PutMode::Replace),
        admin::PutMode::Upsert => Some(PutMode::Upsert),
    }
}
