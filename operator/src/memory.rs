//! What is remembered of each server between two looks, and forgotten with it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{Resource as _, api::ObjectMeta};

use crate::{
    crd::{XmppServer, XmppServerStatus},
    hash,
    inventory::ServerKey,
};

/// After the first failure; twice as long after each one more.
const FIRST: Duration = Duration::from_secs(1);
/// No longer than that.
const LONGEST: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<ServerKey, Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    /// Failures in a row.
    failures: u32,
    /// The status that we wrote last, and the version of the resource that it made.
    written: Option<(u64, XmppServerStatus)>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerKey, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is such a server. Of others nothing is remembered: a look may end after its server has.
    pub(crate) fn know(&self, key: &ServerKey) {
        self.lock().entry(key.clone()).or_default();
    }

    /// The server's status: what the watch told, unless it has not told yet what we wrote since.
    pub(crate) fn status(&self, key: &ServerKey, server: &XmppServer) -> Option<XmppServerStatus> {
        let mut all = self.lock();
        let written = all.get_mut(key).map(|remembered| &mut remembered.written);
        match written {
            Some(Some((version, status))) if version_of(server.meta()) < *version => Some(status.clone()),
            Some(written) => {
                *written = None;
                server.status.clone()
            }
            None => server.status.clone(),
        }
    }

    /// A status was written, which made this of the resource.
    pub(crate) fn written(&self, key: &ServerKey, meta: &ObjectMeta, status: XmppServerStatus) {
        if let Some(remembered) = self.lock().get_mut(key) {
            remembered.written = Some((version_of(meta), status));
        }
    }

    /// A look went well.
    pub(crate) fn succeeded(&self, key: &ServerKey) {
        if let Some(remembered) = self.lock().get_mut(key) {
            remembered.failures = 0;
        }
    }

    /// A look failed. Returns how long to wait for the next.
    pub(crate) fn failed(&self, key: &ServerKey, uid: &str) -> Duration {
        let mut all = self.lock();
        let Some(remembered) = all.get_mut(key) else { return LONGEST };
        let wait = backoff(remembered.failures, uid);
        remembered.failures = remembered.failures.saturating_add(1);
        wait
    }

    /// The server is gone.
    pub(crate) fn forget(&self, key: &ServerKey) {
        self.lock().remove(key);
    }
}

fn version_of(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// Twice as long each time, less up to a half that differs from server to server: those that failed together, because
/// what they all need was away, do not come back together.
fn backoff(failures: u32, uid: &str) -> Duration {
    let wait = (FIRST * 2_u32.saturating_pow(failures.min(16))).min(LONGEST);
    let digest = hash::short(format!("{uid}/{failures}").as_bytes());
    let share = u32::from_str_radix(&digest, 16).unwrap_or_default();
    wait - wait.mul_f64(f64::from(share) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ_from_server_to_server() {
        let mut seen = std::collections::BTreeSet::new();
        for uid in 0..100 {
            for failures in 0..40 {
                let wait = backoff(failures, &uid.to_string());
                let full = (FIRST * 2_u32.pow(failures.min(16))).min(LONGEST);
                assert!(wait <= full && wait >= full / 2, "{failures}: {wait:?}");
                seen.insert(wait);
            }
        }
        assert!(seen.len() > 3900, "{}", seen.len());
    }

    #[test]
    fn what_was_written_counts_until_the_watch_tells_it() {
        let memory = Memory::default();
        let key = ServerKey { namespace: "ns".to_owned(), name: "chat".to_owned() };
        let server = |version: &str, observed| {
            let mut server: XmppServer = serde_json::from_value(
                serde_json::json!({ "metadata": { "name": "chat" }, "spec": { "domains": [] } }),
            )
            .unwrap();
            server.metadata.resource_version = Some(version.to_owned());
            server.status = Some(XmppServerStatus { observed_generation: Some(observed), ..Default::default() });
            server
        };
        let observed =
            |version, generation| memory.status(&key, &server(version, generation)).unwrap().observed_generation;
        memory.know(&key);
        assert_eq!(observed("5", 1), Some(1));
        let status = XmppServerStatus { observed_generation: Some(2), ..Default::default() };
        memory.written(&key, server("7", 2).meta(), status);
        assert_eq!(observed("5", 1), Some(2));
        assert_eq!(observed("6", 1), Some(2));
        assert_eq!(observed("7", 2), Some(2));
        assert_eq!(observed("8", 3), Some(3));
        memory.forget(&key);
        memory.written(&key, server("9", 3).meta(), XmppServerStatus::default());
        assert_eq!((observed("5", 1), memory.failed(&key, "uid")), (Some(1), LONGEST));
        assert!(memory.lock().is_empty(), "a look that ends late leaves nothing behind");
    }
}
