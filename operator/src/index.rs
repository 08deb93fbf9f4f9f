//! Who refers to which Secret or ConfigMap, so that a change of one is known to concern them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{dereference::Source, inventory::ServerKey};

/// An object of a namespace.
type Target = (Source, String, String);

/// Holds an entry for each object that somebody refers to, for as long as somebody does.
#[derive(Debug, Default)]
pub(crate) struct Index(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    by_target: HashMap<Target, Entry>,
    by_server: HashMap<ServerKey, BTreeSet<Target>>,
}

#[derive(Debug, Default)]
struct Entry {
    servers: BTreeSet<ServerKey>,
    /// As it was last heard of. `None`: it is not there, or was not heard of.
    version: Option<String>,
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what a server refers to, all of it. Said before it is read, so that no change in between is missed.
    pub(crate) fn set(&self, server: &ServerKey, sources: BTreeSet<(Source, String)>) {
        let targets: BTreeSet<Target> =
            sources.into_iter().map(|(source, name)| (source, server.namespace.clone(), name)).collect();
        let mut tables = self.lock();
        let before = tables.by_server.insert(server.clone(), targets.clone()).unwrap_or_default();
        for gone in before.difference(&targets) {
            tables.forget(server, gone);
        }
        for target in targets {
            tables.by_target.entry(target).or_default().servers.insert(server.clone());
        }
    }

    /// Forgets a server that is gone.
    pub(crate) fn remove(&self, server: &ServerKey) {
        let mut tables = self.lock();
        for target in tables.by_server.remove(server).unwrap_or_default() {
            tables.forget(server, &target);
        }
    }

    /// An object is there in this version, or is not there. Returns whom that concerns, if it is news.
    pub(crate) fn heard(&self, source: Source, namespace: &str, name: &str, version: Option<String>) -> Vec<ServerKey> {
        let mut tables = self.lock();
        let target = (source, namespace.to_owned(), name.to_owned());
        let Some(entry) = tables.by_target.get_mut(&target) else { return Vec::new() };
        if version.is_some() && entry.version == version {
            return Vec::new();
        }
        entry.version = version;
        entry.servers.iter().cloned().collect()
    }

    /// After a new list: those that were there and did not stand in it are gone. Returns whom that concerns.
    pub(crate) fn relisted(&self, source: Source, there: &BTreeSet<(String, String)>) -> Vec<ServerKey> {
        let mut tables = self.lock();
        let gone = tables.by_target.iter_mut().filter(|((of, namespace, name), entry)| {
            *of == source && entry.version.is_some() && !there.contains(&(namespace.clone(), name.clone()))
        });
        let concerned = gone.flat_map(|(_, entry)| {
            entry.version = None;
            entry.servers.iter().cloned()
        });
        concerned.collect()
    }
}

impl Tables {
    fn forget(&mut self, server: &ServerKey, target: &Target) {
        if let Some(entry) = self.by_target.get_mut(target) {
            entry.servers.remove(server);
            if entry.servers.is_empty() {
                self.by_target.remove(target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> ServerKey {
        ServerKey { namespace: "ns".to_owned(), name: name.to_owned() }
    }

    fn secrets(names: &[&str]) -> BTreeSet<(Source, String)> {
        names.iter().map(|name| (Source::Secret, (*name).to_owned())).collect()
    }

    #[test]
    fn a_change_concerns_those_who_refer_to_it_and_once() {
        let index = Index::default();
        let heard =
            |name: &str, version: Option<&str>| index.heard(Source::Secret, "ns", name, version.map(str::to_owned));
        assert!(heard("redis", Some("1")).is_empty(), "nobody refers to it yet");
        index.set(&server("a"), secrets(&["redis", "tls"]));
        index.set(&server("b"), secrets(&["redis"]));
        assert_eq!(heard("redis", Some("2")), [server("a"), server("b")]);
        assert!(heard("redis", Some("2")).is_empty(), "listed anew, and the same");
        assert_eq!(heard("redis", None), [server("a"), server("b")]);
        assert!(index.heard(Source::ConfigMap, "ns", "redis", None).is_empty());
        assert!(index.heard(Source::Secret, "other", "redis", None).is_empty());
        index.set(&server("a"), secrets(&["tls"]));
        assert_eq!(heard("redis", Some("3")), [server("b")]);
        assert_eq!(heard("tls", Some("1")), [server("a")]);
        let concerned: BTreeSet<_> = index.relisted(Source::Secret, &BTreeSet::new()).into_iter().collect();
        assert_eq!(concerned, [server("a"), server("b")].into());
        assert!(index.relisted(Source::Secret, &BTreeSet::new()).is_empty(), "they were gone already");
        index.remove(&server("a"));
        index.remove(&server("b"));
        assert!(index.lock().by_target.is_empty() && index.lock().by_server.is_empty());
    }
}
