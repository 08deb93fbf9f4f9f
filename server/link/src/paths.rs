//! Which router what goes to an instance takes: of those that both are attached to, the one that a hash prefers, so that the
//! paths of many instances spread over many routers, and few of them change when one comes or goes.

use std::collections::{BTreeMap, BTreeSet};

use starling_registry::InstanceId;

/// A router, as this process counts its connections: a connection that was lost and made again has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Path(pub(crate) u64);

/// The routers that this instance is attached to.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    routers: BTreeMap<Path, Router>,
}

#[derive(Debug)]
struct Router {
    /// The router's own number, which all instances know it by.
    id: u64,
    members: BTreeSet<InstanceId>,
}

impl Paths {
    /// A router has let this instance in.
    pub(crate) fn open(&mut self, path: Path, id: u64) {
        self.routers.insert(path, Router { id, members: BTreeSet::new() });
    }

    /// It is gone. Whether it was there.
    pub(crate) fn close(&mut self, path: Path) -> bool {
        self.routers.remove(&path).is_some()
    }

    /// Who is attached to it.
    pub(crate) fn set_members(&mut self, path: Path, members: BTreeSet<InstanceId>) {
        if let Some(router) = self.routers.get_mut(&path) {
            router.members = members;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.routers.is_empty()
    }

    /// Whether the instance is attached to this router.
    pub(crate) fn leads_to(&self, path: Path, instance: InstanceId) -> bool {
        self.routers.get(&path).is_some_and(|router| router.members.contains(&instance))
    }

    /// Whether the instance is attached to any of them.
    pub(crate) fn lead_to(&self, instance: InstanceId) -> bool {
        self.routers.values().any(|router| router.members.contains(&instance))
    }

    /// Everybody who is attached to any of them.
    pub(crate) fn members(&self) -> BTreeSet<InstanceId> {
        self.routers.values().flat_map(|router| router.members.iter().copied()).collect()
    }

    /// The path from `own` to `instance` (highest random weight).
    pub(crate) fn choose(&self, own: InstanceId, instance: InstanceId) -> Option<Path> {
        let leading = self.routers.iter().filter(|(_, router)| router.members.contains(&instance));
        leading.max_by_key(|(path, router)| (weight(own, instance, router.id), **path)).map(|(path, _)| *path)
    }
}

/// How much an instance is preferred for an address, by everybody alike.
pub(crate) fn preference(instance: InstanceId, address: &str) -> u64 {
    let hash = address.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
    mix(hash ^ mix(instance.0))
}

const fn weight(own: InstanceId, instance: InstanceId, router: u64) -> u64 {
    mix(mix(mix(own.0) ^ instance.0) ^ router)
}

/// Murmur's finalizer.
const fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: InstanceId = InstanceId(1);

    fn instances() -> impl Iterator<Item = InstanceId> {
        (2..1002).map(InstanceId)
    }

    fn paths(routers: u64) -> Paths {
        let mut paths = Paths::default();
        for number in 0..routers {
            paths.open(Path(number), 100 + number);
            paths.set_members(Path(number), instances().collect());
        }
        paths
    }

    #[test]
    fn paths_spread_over_the_routers_and_only_those_of_a_lost_one_change() {
        let mut paths = paths(4);
        let before: Vec<_> = instances().map(|instance| paths.choose(OWN, instance).unwrap()).collect();
        for number in 0..4 {
            let share = before.iter().filter(|path| **path == Path(number)).count();
            assert!((200..300).contains(&share), "{share}");
        }
        assert!(paths.close(Path(2)) && !paths.close(Path(2)));
        for (instance, before) in instances().zip(before) {
            let now = paths.choose(OWN, instance).unwrap();
            assert!(now == before || before == Path(2), "{instance}");
        }
    }

    #[test]
    fn only_a_router_that_both_are_attached_to_is_a_path() {
        let mut paths = paths(2);
        let there = InstanceId(2000);
        assert_eq!((paths.choose(OWN, there), paths.lead_to(there)), (None, false));
        paths.set_members(Path(1), [there].into());
        assert_eq!(paths.choose(OWN, there), Some(Path(1)));
        assert!(paths.leads_to(Path(1), there) && !paths.leads_to(Path(0), there) && paths.lead_to(there));
        assert_eq!(paths.choose(OWN, InstanceId(7)), Some(Path(0)));
        paths.close(Path(1));
        assert_eq!((paths.choose(OWN, there), paths.is_open()), (None, true));
    }
}
