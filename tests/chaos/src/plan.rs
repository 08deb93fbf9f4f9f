//! What users are to do, as the seed chooses it.

use std::time::Duration;

use crate::random::Random;

/// What all users of a run do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Makes the choices.
    pub seed: u64,
    /// How many there are.
    pub users: u32,
    /// Messages a second of all together, as long as all are connected.
    pub rate: f64,
    /// Whether clients cut their connections, hang, log out and stay away.
    pub cuts: bool,
    /// Of 100 users, those without stream management.
    pub without_sm: u32,
    /// One user of so many stays away until all come to rest, 0: nobody does.
    pub one_sleeps_of: u32,
    /// Bytes that each body is filled up with.
    pub filling: usize,
}

/// When a client asks for acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// With each message.
    Always,
    /// With each fifth.
    Fifth,
    /// When it has waited for long.
    Seldom,
}

/// How a user's client behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Whether it uses stream management.
    pub(crate) sm: bool,
    pub(crate) asking: Asking,
    /// How long it takes to answer `<r/>`.
    pub(crate) answers_after: Duration,
    /// Stanzas after which it sends an `<a/>` that nobody asked for; 0: never.
    pub(crate) unasked: u32,
    /// `max` of `<enable/>`, in seconds: it stays away for longer now and then.
    pub(crate) max: Option<u32>,
}

/// How a stay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    Cut,
    Hang,
    LogOut,
}

/// From a connection to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stay {
    /// How long it is connected.
    pub(crate) online: Duration,
    pub(crate) leaving: Leaving,
    /// For how long before a cut nothing goes through any more, either way, without the client knowing.
    pub(crate) dead: Duration,
    /// How long it is not, afterwards.
    pub(crate) away: Duration,
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) to: u32,
    /// Sent to the full JID.
    pub(crate) full: bool,
    /// Until the next one.
    pub(crate) pause: Duration,
}

/// A network is gone for that long at most before a client notices. Shorter than [`crate::run::GRACE`]: what a client says
/// meanwhile is not taken for settled.
const DEAD: Duration = Duration::from_millis(800);
const HABITS: u64 = 1;
const STAYS: u64 = 2;
const MESSAGES: u64 = 3;
const PAIRS: u64 = 4;

impl Plan {
    /// Whether this user does without stream management.
    #[must_use]
    pub fn is_without_sm(&self, user: u32) -> bool {
        Random::of(&[self.seed, HABITS, u64::from(user)]).chance(self.without_sm)
    }

    /// Whether this user's sessions last as long as the server lets them.
    #[must_use]
    pub fn may_stay_away(&self, user: u32) -> bool {
        self.habits(user).max.is_none()
    }

    /// Whether this user stays away until all come to rest.
    #[must_use]
    pub const fn is_asleep(&self, user: u32) -> bool {
        self.one_sleeps_of > 0 && user % self.one_sleeps_of == self.one_sleeps_of - 1
    }

    pub(crate) fn habits(&self, user: u32) -> Habits {
        let mut random = Random::of(&[self.seed, HABITS, u64::from(user)]);
        let sm = !random.chance(self.without_sm);
        let asking = match random.below(3) {
            0 => Asking::Always,
            1 => Asking::Fifth,
            _ => Asking::Seldom,
        };
        let slow = random.chance(30);
        let answers_after = random.between(Duration::from_millis(50), Duration::from_millis(800));
        let answers_after = if slow { answers_after } else { Duration::ZERO };
        let unasked = if random.chance(25) { 1 + random.below(10) } else { 0 };
        let max = random.chance(20).then_some(2);
        Habits { sm, asking, answers_after, unasked, max }
    }

    pub(crate) fn stay(&self, user: u32, number: u32) -> Stay {
        let mut random = Random::of(&[self.seed, STAYS, u64::from(user), u64::from(number)]);
        let online = random.around(Duration::from_secs(4)) + Duration::from_millis(50);
        let leaving = match random.below(100) {
            0..65 => Leaving::Cut,
            65..85 => Leaving::Hang,
            _ => Leaving::LogOut,
        };
        let away = match random.below(10) {
            0..6 => random.between(Duration::ZERO, Duration::from_millis(500)),
            6..9 => random.between(Duration::from_millis(500), Duration::from_secs(3)),
            _ => random.between(Duration::from_secs(3), Duration::from_secs(6)),
        };
        let dead = if random.chance(50) { random.between(Duration::ZERO, DEAD) } else { Duration::ZERO };
        let dead = if leaving == Leaving::LogOut { Duration::ZERO } else { dead };
        Stay { online, leaving, dead, away }
    }

    /// The partner mostly, anybody else now and then.
    pub(crate) fn message(&self, user: u32, number: u32) -> Choice {
        let mut random = Random::of(&[self.seed, MESSAGES, u64::from(user), u64::from(number)]);
        let partner = if user ^ 1 < self.users { user ^ 1 } else { 0 };
        let other = (user + 1 + random.below(self.users.saturating_sub(1))) % self.users.max(1);
        let to = if random.chance(75) { partner } else { other };
        let mean = Duration::from_secs_f64(f64::from(self.users) / self.rate.max(0.01));
        // Now and then some in a row.
        let pause = if random.chance(30) { Duration::ZERO } else { random.around(mean.mul_f64(1.0 / 0.7)) };
        Choice { to, full: self.is_to_full(user, to), pause }
    }

    /// One form of the address for each pair: order holds between two addresses (RFC 6120 §10.1).
    fn is_to_full(&self, from: u32, to: u32) -> bool {
        Random::of(&[self.seed, PAIRS, u64::from(from), u64::from(to)]).chance(30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan { seed, users: 7, rate: 10.0, cuts: true, without_sm: 20, one_sleeps_of: 0, filling: 0 }
    }

    #[test]
    fn a_seed_repeats_what_users_do() {
        let choices = |seed| {
            let plan = plan(seed);
            let messages = (0..7).flat_map(|user| (0..20).map(move |number| (user, number)));
            let messages = messages.map(|(user, number)| format!("{:?}", plan.message(user, number)));
            messages
                .chain((0..7).map(|user| format!("{:?} {:?}", plan.habits(user), plan.stay(user, 3))))
                .collect::<Vec<_>>()
        };
        assert_eq!(choices(1), choices(1));
        assert_ne!(choices(1), choices(2));
    }

    #[test]
    fn nobody_writes_to_himself_or_to_nobody_and_the_rate_is_about_as_asked() {
        let plan = plan(3);
        let mut all = Duration::ZERO;
        for number in 0..2000 {
            for user in 0..plan.users {
                let choice = plan.message(user, number);
                assert!(choice.to != user && choice.to < plan.users);
                all += choice.pause;
            }
        }
        let rate = 2000.0 * 7.0 * 7.0 / all.as_secs_f64();
        assert!((9.0..11.0).contains(&rate), "{rate}");
    }

    #[test]
    fn some_do_without_stream_management_and_it_is_known_who() {
        let plan = Plan { users: 100, ..plan(4) };
        let without = (0..100).filter(|user| plan.is_without_sm(*user)).count();
        assert!((5..40).contains(&without), "{without}");
        assert!((0..100).all(|user| plan.is_without_sm(user) != plan.habits(user).sm));
    }
}
