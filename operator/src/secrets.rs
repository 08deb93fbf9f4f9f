//! Secrets that the operator makes itself: once, and kept.
//!
//! - Passwords that nobody gave (`dereference::generated`) are made if they are not there. One that is there is never
//!   touched, whoever made it.
//! - The authority between the pods (`certificates`) is made once, and then goes on by its steps. Its Secret is written
//!   only as it was read: two operators that would both take a step do not lose a key.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use aws_lc_rs::rand;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, Error, Resource as _,
    api::{ObjectMeta, PostParams},
};
use tracing::info;

use crate::{
    certificates::{self, Kept},
    crd::XmppServer,
    dereference::{Hidden, LinkCertificates, generated, needs_link},
    inventory::{Key, ServerKey, Snapshot},
    names::{self, Component},
    validate::Problem,
};

/// 32 of them: each letter is five bits. None that are taken for another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 130 bits.
const LENGTH: usize = 26;
/// A rotation has three steps; leaves may be due beside them.
const MOST_STEPS: usize = 4;

/// The certificates between the pods, and when to look again.
#[derive(Debug)]
pub struct Link {
    /// What pods get.
    pub certificates: LinkCertificates,
    /// When the next step is due.
    pub due: SystemTime,
}

/// Secrets that are ours although `build` does not build them.
#[must_use]
pub fn kept(server: &XmppServer) -> BTreeSet<Key> {
    let own = needs_link(server).then(|| certificates::secret(server.metadata.name.as_deref().unwrap_or_default()));
    let all = generated(server).into_iter().map(|reference| reference.name).chain(own);
    all.map(|name| Key { kind: "Secret".to_owned(), name }).collect()
}

/// Makes the passwords that are not there.
///
/// # Errors
/// If the API server does not take them.
pub async fn make(client: &Client, server: &XmppServer, there: &Snapshot) -> Result<(), Error> {
    for reference in generated(server) {
        if there.state("Secret", &reference.name).is_some() {
            continue;
        }
        let Some(password) = password() else { return Err(no_randomness()) };
        let data = [(reference.key.clone(), Hidden::new(password))].into();
        match create(client, server, &reference.name, data).await {
            Ok(()) => {}
            // Somebody was faster, or gave one: it is read like any other.
            Err(Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `None`: the system gives no randomness.
fn password() -> Option<String> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).ok()?;
    bytes.iter().map(|byte| LETTERS.get(usize::from(byte % 32)).map(|letter| char::from(*letter))).collect()
}

fn no_randomness() -> Error {
    Error::Service("the system gives no randomness".into())
}

/// The certificates between the pods, as they are to be now. `None`: the server has but one pod.
///
/// # Errors
/// If the API server does not answer; inside, if what is kept cannot be used.
pub async fn link(
    client: &Client,
    server: &XmppServer,
    now: SystemTime,
) -> Result<Result<Option<Link>, Problem>, Error> {
    if !needs_link(server) {
        return Ok(Ok(None));
    }
    let ServerKey { namespace, name } = ServerKey::of(&server.metadata);
    let secret = certificates::secret(&name);
    let problem = |error: &certificates::Error| Problem {
        reason: "InternalCertificatesUnusable",
        message: format!(
            "the Secret {secret}, which the operator keeps, cannot be used: {error}. If nobody can mend it, delete it: \
             pods then lose sight of each other for some minutes"
        ),
    };
    let api = Api::<Secret>::namespaced(client.clone(), &namespace);
    let Some(found) = api.get_opt(&secret).await? else {
        let believed = believed(&api, &name).await?;
        let kept = match Kept::first(now, believed.as_deref()) {
            Ok(kept) => kept,
            Err(error) => return Ok(Err(problem(&error))),
        };
        create(client, server, &secret, kept.to_data()).await?;
        info!(server = %ServerKey { namespace, name }, "An authority between the pods is made");
        return Ok(Ok(Some(Link { certificates: kept.certificates(), due: kept.due() })));
    };
    match steps(&found, now) {
        Ok((kept, is_changed)) => {
            if is_changed {
                let data = Some(bytes(kept.to_data()));
                api.replace(&secret, &PostParams::default(), &Secret { data, ..found }).await?;
                info!(server = %ServerKey { namespace, name }, "Certificates between the pods are a step further");
            }
            Ok(Ok(Some(Link { certificates: kept.certificates(), due: kept.due() })))
        }
        Err(error) => Ok(Err(problem(&error))),
    }
}

fn steps(found: &Secret, now: SystemTime) -> Result<(Kept, bool), certificates::Error> {
    let text = |(name, value): (&String, &ByteString)| {
        let text = std::str::from_utf8(&value.0).ok()?;
        Some((name.clone(), Hidden::new(text)))
    };
    let data = found.data.iter().flatten().filter_map(text).collect();
    let mut kept = Kept::from_data(&data)?;
    let mut is_changed = false;
    for _ in 0..MOST_STEPS {
        let Some(next) = kept.step(now)? else { break };
        kept = next;
        is_changed = true;
    }
    Ok((kept, is_changed))
}

/// What pods believe still, if the authority was lost.
async fn believed(api: &Api<Secret>, name: &str) -> Result<Option<String>, Error> {
    let pods = api.get_opt(&names::link_secret(name, Component::Router)).await?;
    let data = pods.and_then(|secret| secret.data).unwrap_or_default();
    Ok(data.get("ca.crt").and_then(|value| String::from_utf8(value.0.clone()).ok()))
}

fn bytes(data: BTreeMap<String, Hidden>) -> BTreeMap<String, ByteString> {
    data.into_iter().map(|(name, text)| (name, ByteString(text.reveal().as_bytes().to_vec()))).collect()
}

async fn create(
    client: &Client,
    server: &XmppServer,
    secret: &str,
    data: BTreeMap<String, Hidden>,
) -> Result<(), Error> {
    let ServerKey { namespace, name } = ServerKey::of(&server.metadata);
    let object = Secret {
        metadata: ObjectMeta {
            name: Some(secret.to_owned()),
            namespace: Some(namespace.clone()),
            labels: Some(names::labels(&name, None)),
            owner_references: server.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(bytes(data)),
        ..Secret::default()
    };
    let params = PostParams { field_manager: Some(names::MANAGER.to_owned()), ..PostParams::default() };
    Api::<Secret>::namespaced(client.clone(), &namespace).create(&params, &object).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_differ() {
        let all: BTreeSet<_> = (0..1000).map(|_| password().unwrap()).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|password| password.len() == LENGTH && password.bytes().all(|b| LETTERS.contains(&b))));
        let letters: BTreeSet<_> = all.iter().flat_map(|password| password.bytes()).collect();
        assert_eq!(letters.len(), LETTERS.len(), "all letters come up");
    }
}
