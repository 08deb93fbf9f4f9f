//! What is measured, on which servers.

use crate::chat::{Pace, Shape};

/// Pairs that chat, where it is not said otherwise.
const PAIRS: usize = 50;
/// Messages a second, on schedule.
const RATE: f64 = 2000.0;
/// Messages after which a client asks for an acknowledgement (XEP-0198 §4).
const ASK_EVERY: Option<u32> = Some(10);

/// One line of the table, or one for each way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) archive: bool,
    pub(super) managed: Option<u32>,
    pub(super) pairs: usize,
    pub(super) pace: Pace,
    pub(super) ground: Ground,
}

/// Where it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Senders at one of two instances, recipients at the other; beside it one process alone, and the relay if it can do the
    /// same.
    Between,
    /// So many instances, senders and recipients at each; every pair is at two of them, where there are two.
    Across(usize),
    /// As [`Ground::Between`] without what is beside it, while more sessions are logged in at both.
    Beside(Sessions),
}

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sessions {
    Few,
    Many,
}

impl Scenario {
    const fn of(mut self, pairs: usize) -> Self {
        self.pairs = pairs;
        self
    }

    pub(super) const fn shape(&self) -> Shape {
        Shape { pairs: self.pairs, pace: self.pace, managed: self.managed, carbons: false }
    }

    pub(super) const fn instances(&self) -> usize {
        match self.ground {
            Ground::Between | Ground::Beside(_) => 2,
            Ground::Across(instances) => instances,
        }
    }

    /// Whether the relay can do the same.
    pub(super) const fn has_relay(&self) -> bool {
        matches!(self.ground, Ground::Between) && !self.archive && self.managed.is_none()
    }
}

const CHAT: Pace = Pace::Window(1);
const SCHEDULED: Pace = Pace::Rate(RATE);

const fn scenario(name: &'static str, archive: bool, managed: Option<u32>, pace: Pace, ground: Ground) -> Scenario {
    Scenario { name, archive, managed, pairs: PAIRS, pace, ground }
}

/// In the order in which they run: as few servers as possible are started. Sessions that are beside others come last on
/// theirs.
#[rustfmt::skip]
pub(super) const SCENARIOS: &[Scenario] = &{
    use Ground::{Across, Beside, Between};
    [
        scenario("chat", false, None, CHAT, Between),
        scenario("2,000/s", false, None, SCHEDULED, Between),
        scenario("chat, XEP-0198", false, ASK_EVERY, CHAT, Between),
        scenario("2,000/s, XEP-0198", false, ASK_EVERY, SCHEDULED, Between),
        scenario("chat beside few sessions", false, None, CHAT, Beside(Sessions::Few)),
        scenario("chat beside many sessions", false, None, CHAT, Beside(Sessions::Many)),
        scenario("chat, archive", true, None, CHAT, Between),
        scenario("2,000/s, archive", true, None, SCHEDULED, Between),
        scenario("chat, archive, XEP-0198", true, ASK_EVERY, CHAT, Between),
        scenario("2,000/s, archive, XEP-0198", true, ASK_EVERY, SCHEDULED, Between),
        scenario("chat, 1 instance", false, None, CHAT, Across(1)),
        scenario("chat, 2 instances", false, None, CHAT, Across(2)),
        scenario("chat, 3 instances", false, None, CHAT, Across(3)),
        // As many pairs at each instance as where there are two: batches are as full.
        scenario("chat, 3 instances, 75 pairs", false, None, CHAT, Across(3)).of(75),
    ]
};
