//! The counting of messages: what was lost, doubled, or came out of order.

use std::{fmt, time::Duration};

/// One way of one pair, and later the sum of many.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) doubled: u64,
    pub(crate) disordered: u64,
    pub(crate) errors: u64,
    /// Sent and not acknowledged (XEP-0198).
    pub(crate) unacknowledged: u64,
    /// Sent after they were due. Nobody's fault but the machine's: nothing is wrong with them.
    pub(crate) late: u64,
    /// How long after they were due.
    pub(crate) lags: Vec<Duration>,
    seen: Vec<u64>,
    last: Option<u64>,
    latencies: Vec<Duration>,
}

impl Tally {
    /// The one with this number came in. Whether it did so for the first time.
    pub(crate) fn receive(&mut self, number: u64, latency: Duration) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if let Some(word) = self.seen.get_mut(word) {
            if *word & bit != 0 {
                self.doubled += 1;
                return false;
            }
            *word |= bit;
        }
        if self.last.is_some_and(|last| number < last) {
            self.disordered += 1;
        }
        self.last = self.last.max(Some(number));
        self.received += 1;
        self.latencies.push(latency);
        true
    }

    pub(crate) const fn lost(&self) -> u64 {
        self.sent - self.received
    }

    /// Whether there was anything, and all of it came once, in order, and was acknowledged.
    pub(crate) const fn is_whole(&self) -> bool {
        let wrong = self.lost() + self.doubled + self.disordered + self.errors + self.unacknowledged;
        self.received > 0 && wrong == 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.errors += other.errors;
        self.unacknowledged += other.unacknowledged;
        self.late += other.late;
        self.lags.extend(other.lags);
        self.latencies.extend(other.latencies);
    }

    /// The latency that this part of the messages did not pass: 0.5, 0.99, 1.
    pub(crate) fn latency(&mut self, part: f64) -> Duration {
        quantile(&mut self.latencies, part)
    }

    /// The same of how late they were sent.
    pub(crate) fn lag(&mut self, part: f64) -> Duration {
        quantile(&mut self.lags, part)
    }
}

fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    let index = (times.len() as f64 * part) as usize;
    times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, received, doubled, disordered, errors, unacknowledged, late, .. } = self;
        write!(
            f,
            "{sent} expected, {received} received, {} lost, {doubled} doubled, {disordered} out of order, {errors} \
             errors, {unacknowledged} unacknowledged, {late} late",
            self.lost()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(sent: u64, received: &[u64]) -> Tally {
        let mut tally = Tally { sent, ..Tally::default() };
        for number in received {
            tally.receive(*number, Duration::from_millis(*number));
        }
        tally
    }

    #[test]
    fn what_never_came_is_lost() {
        assert_eq!(tally(100, &(0..100).collect::<Vec<_>>()).lost(), 0);
        assert_eq!(tally(100, &[0, 1, 70, 99]).lost(), 96);
        assert!(tally(2, &[0, 1]).is_whole());
        assert!(!tally(2, &[0]).is_whole());
        assert!(!tally(0, &[]).is_whole());
    }

    #[test]
    fn what_came_twice_is_doubled_and_not_received_twice() {
        let tally = tally(3, &[0, 1, 1, 2, 0]);
        assert_eq!((tally.received, tally.doubled, tally.lost()), (3, 2, 0));
        assert!(!tally.is_whole());
    }

    #[test]
    fn what_came_after_a_later_one_is_out_of_order() {
        let tally = tally(5, &[0, 2, 1, 4, 3]);
        assert_eq!((tally.disordered, tally.lost()), (2, 0));
    }

    #[test]
    fn latencies_are_taken_from_the_sorted_whole() {
        let mut tally = tally(101, &(0..=100).rev().collect::<Vec<_>>());
        assert_eq!(tally.latency(0.5), Duration::from_millis(50));
        assert_eq!(tally.latency(0.99), Duration::from_millis(99));
        assert_eq!(Tally::default().latency(0.5), Duration::ZERO);
    }
}
