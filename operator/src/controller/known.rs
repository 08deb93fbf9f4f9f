//! What servers there are, and which of them a look is worth.

use std::{
    collections::{BTreeSet, HashMap},
    mem::take,
};

use kube::{Resource as _, runtime::watcher::Event};

use super::Guarded;
use crate::{hash, inventory::ServerKey};

/// What of each server was seen last that a look is worth. Our own writes to status are not.
#[derive(Debug, Default)]
pub(super) struct Known {
    servers: HashMap<ServerKey, String>,
    /// While a list is read: what stood in it.
    relisted: Option<BTreeSet<ServerKey>>,
    /// News of a list. Whoever looks finds them only once it has been read to its end, by this list or, if it breaks off, by
    /// the next.
    news: BTreeSet<ServerKey>,
}

impl Known {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Takes an event that the store has taken. Returns whom it concerns, and who is gone.
    pub(super) fn take(&mut self, event: &Event<Guarded>) -> (Vec<ServerKey>, Vec<ServerKey>) {
        match event {
            Event::Init => {
                self.relisted = Some(BTreeSet::new());
                (Vec::new(), Vec::new())
            }
            Event::InitApply(server) => {
                let key = ServerKey::of(server.meta());
                if self.is_news(&key, server) {
                    self.news.insert(key.clone());
                }
                self.relisted.get_or_insert_default().insert(key);
                (Vec::new(), Vec::new())
            }
            Event::InitDone => {
                let there = self.relisted.take().unwrap_or_default();
                let gone: Vec<_> = self.servers.extract_if(|key, _| !there.contains(key)).map(|(key, _)| key).collect();
                let news = take(&mut self.news);
                (news.into_iter().filter(|key| there.contains(key)).collect(), gone)
            }
            Event::Apply(server) => {
                let key = ServerKey::of(server.meta());
                (if self.is_news(&key, server) { vec![key] } else { Vec::new() }, Vec::new())
            }
            Event::Delete(server) => {
                let key = ServerKey::of(server.meta());
                self.servers.remove(&key);
                (Vec::new(), vec![key])
            }
        }
    }

    fn is_news(&mut self, key: &ServerKey, server: &Guarded) -> bool {
        let meta = server.meta();
        let seen = hash::long(format!("{:?} {:?} {:?}", meta.uid, meta.generation, meta.annotations).as_bytes());
        self.servers.insert(key.clone(), seen.clone()) != Some(seen)
    }
}

#[cfg(test)]
mod tests;
