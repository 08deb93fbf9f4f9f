//! Who is attached. No sockets and no clock: what it says is all that it does.

use std::collections::{BTreeMap, HashSet, VecDeque};

use starling_proto::link::{Hello, Member, Members, VERSION};

/// Revoked incarnations that are remembered. One that comes back after so many others finds the database closed to it all
/// the same.
const REVOKED: usize = 4096;
/// Instances that ended in order and are told of: whoever is attached has heard of each long before it is forgotten.
const LEFT: usize = 256;

/// One stream of an instance: an instance that comes again before its last stream was found dead has a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The instance.
    pub instance: u64,
    /// Counts the streams of this router.
    number: u64,
}

/// Why an instance is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was taken for dead, and others have taken over what it had.
    #[error("the incarnation was revoked")]
    Revoked,
    /// It speaks a version that is not spoken here.
    #[error("version {0} of the protocol is not spoken here")]
    Version(u32),
    /// It has no number.
    #[error("no instance")]
    Nobody,
}

/// See the module. Ordered, so that all say the same in the same order.
#[derive(Debug, Default)]
pub struct Table {
    members: BTreeMap<u64, (u64, Member)>,
    attached: u64,
    revoked: HashSet<u64>,
    revoked_order: VecDeque<u64>,
    left: VecDeque<u64>,
}

impl Table {
    /// Lets an instance in, in the place of an earlier stream of its own.
    ///
    /// # Errors
    /// Why not.
    pub fn attach(&mut self, hello: Hello) -> Result<Attached, Refusal> {
        let Hello { instance, version, features, roles, domains, name } = hello;
        if instance == 0 {
            return Err(Refusal::Nobody);
        }
        // Those that are newer speak ours as well.
        if version < VERSION {
            return Err(Refusal::Version(version));
        }
        if self.revoked.contains(&instance) {
            return Err(Refusal::Revoked);
        }
        self.attached += 1;
        let member = Member { instance, version, features, roles, domains, name, draining: false };
        self.members.insert(instance, (self.attached, member));
        Ok(Attached { instance, number: self.attached })
    }

    /// A stream has ended. Whether that makes a difference: not if its instance has come again.
    pub fn detach(&mut self, attached: Attached) -> bool {
        let is_current = self.is_current(attached);
        if is_current {
            self.members.remove(&attached.instance);
        }
        is_current
    }

    /// The instance wants no new work. Whether that is news.
    pub fn drain(&mut self, attached: Attached) -> bool {
        match self.members.get_mut(&attached.instance) {
            Some((number, member)) if *number == attached.number => !std::mem::replace(&mut member.draining, true),
            _ => false,
        }
    }

    /// The instance has ended in order. Whether that is news.
    pub fn leave(&mut self, attached: Attached) -> bool {
        if !self.detach(attached) {
            return false;
        }
        self.left.push_back(attached.instance);
        if self.left.len() > LEFT {
            self.left.pop_front();
        }
        true
    }

    /// Nothing of this incarnation is to be forwarded any more. Whether it was attached; then its stream is to be ended.
    pub fn revoke(&mut self, instance: u64) -> bool {
        if self.revoked.insert(instance) {
            self.revoked_order.push_back(instance);
            if self.revoked_order.len() > REVOKED
                && let Some(oldest) = self.revoked_order.pop_front()
            {
                self.revoked.remove(&oldest);
            }
        }
        self.members.remove(&instance).is_some()
    }

    /// Whether this stream is its instance's last one, and the instance has not been revoked.
    #[must_use]
    pub fn is_current(&self, attached: Attached) -> bool {
        self.members.get(&attached.instance).is_some_and(|(number, _)| *number == attached.number)
    }

    /// Everybody, as it is told to everybody.
    #[must_use]
    pub fn members(&self) -> Members {
        let members = self.members.values().map(|(_, member)| member.clone()).collect();
        Members { members, left: self.left.iter().copied().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(instance: u64) -> Hello {
        Hello { instance, version: VERSION, ..Hello::default() }
    }

    fn instances(table: &Table) -> Vec<u64> {
        table.members().members.iter().map(|member| member.instance).collect()
    }

    #[test]
    fn an_instance_that_comes_again_is_not_removed_by_the_end_of_its_last_stream() {
        let mut table = Table::default();
        let (first, other) = (table.attach(hello(7)).unwrap(), table.attach(hello(3)).unwrap());
        let second = table.attach(hello(7)).unwrap();
        assert!(!table.detach(first) && !table.is_current(first));
        assert_eq!(instances(&table), [3, 7]);
        assert!(!table.drain(first) && !table.leave(first));
        assert!(table.detach(second) && table.detach(other));
        assert_eq!(instances(&table), [0; 0]);
        assert_eq!(table.members().left, [0; 0], "it did not say goodbye");
    }

    #[test]
    fn who_ends_in_order_is_told_apart_from_who_is_gone() {
        let mut table = Table::default();
        let attached = table.attach(hello(7)).unwrap();
        assert!(table.drain(attached) && !table.drain(attached));
        assert!(table.members().members[0].draining);
        assert!(table.leave(attached) && !table.leave(attached));
        assert_eq!((instances(&table), table.members().left), (vec![], vec![7]));
        for instance in 100..100 + LEFT as u64 {
            let attached = table.attach(hello(instance)).unwrap();
            table.leave(attached);
        }
        assert_eq!(table.members().left.len(), LEFT);
    }

    #[test]
    fn who_was_revoked_is_put_out_and_never_comes_in_again() {
        let mut table = Table::default();
        let attached = table.attach(hello(7)).unwrap();
        assert!(table.revoke(7) && !table.revoke(7) && !table.is_current(attached));
        assert_eq!(table.attach(hello(7)), Err(Refusal::Revoked));
        table.revoke(8);
        assert_eq!(table.attach(hello(8)), Err(Refusal::Revoked));
        for instance in 100..100 + REVOKED as u64 {
            table.revoke(instance);
        }
        assert_eq!(table.revoked.len(), REVOKED);
    }

    #[test]
    fn a_stranger_without_a_number_or_with_another_language_is_refused() {
        let mut table = Table::default();
        assert_eq!(table.attach(hello(0)), Err(Refusal::Nobody));
        assert_eq!(table.attach(Hello { version: 0, ..hello(1) }), Err(Refusal::Version(0)));
        assert!(table.attach(Hello { version: VERSION + 1, ..hello(1) }).is_ok(), "who is newer speaks ours as well");
    }
}
