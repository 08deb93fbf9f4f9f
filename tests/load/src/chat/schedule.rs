//! Turns on schedule, told by a thread of its own: the runtime's timers have a grain of a millisecond, which is more than what
//! is measured.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// How late a thread wakes from its sleep by the kernel's own leave; what is left then is waited for awake.
const SLACK: Duration = Duration::from_micros(60);

/// When each of the pairs sends, one after the other, with the same time between any two messages of all of them.
pub(super) struct Schedule {
    gap: Duration,
    pairs: Vec<mpsc::Sender<Instant>>,
    count: usize,
}

impl Schedule {
    /// `rate` messages a second of all `pairs` together, for `duration`; and what each pair is told its turns by. The queues
    /// have room for all turns: however late a pair is, the schedule stands.
    pub(super) fn new(rate: f64, duration: Duration, pairs: usize) -> (Self, Vec<mpsc::Receiver<Instant>>) {
        let count = (rate * duration.as_secs_f64()) as usize;
        let turns = count.div_ceil(pairs.max(1)).max(1);
        let (pairs, receivers) = (0..pairs).map(|_| mpsc::channel(turns)).unzip();
        (Self { gap: Duration::from_secs_f64(1.0 / rate), pairs, count }, receivers)
    }

    /// Keeps the schedule until its end, or until a pair has left. Blocks.
    pub(super) fn keep(self) {
        let began = Instant::now();
        for (number, pair) in (0..self.count).zip(self.pairs.iter().cycle()) {
            let due = began + self.gap.mul_f64(number as f64);
            let left = due.saturating_duration_since(Instant::now());
            if left > SLACK {
                std::thread::sleep(left - SLACK);
            }
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            if pair.try_send(due).is_err() {
                return;
            }
        }
    }
}

/// One turn, now.
pub(super) fn once() -> mpsc::Receiver<Instant> {
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(Instant::now()).ok();
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_its_turns_and_the_schedule_does_not_wait_for_who_is_late() {
        let (schedule, mut pairs) = Schedule::new(1000.0, Duration::from_millis(50), 3);
        schedule.keep();
        let turns: Vec<Vec<Instant>> =
            pairs.iter_mut().map(|pair| std::iter::from_fn(|| pair.try_recv().ok()).collect()).collect();
        assert_eq!(turns.iter().map(Vec::len).collect::<Vec<_>>(), [17, 17, 16]);
        for pair in &turns {
            assert!(pair.windows(2).all(|two| two[1] - two[0] == Duration::from_millis(3)), "{pair:?}");
        }
    }

    #[test]
    fn nothing_is_due_before_its_time_and_a_pair_that_has_left_ends_it() {
        let (schedule, mut pairs) = Schedule::new(100.0, Duration::from_secs(1000), 2);
        drop(pairs.pop());
        let began = Instant::now();
        schedule.keep();
        assert!(began.elapsed() >= Duration::from_millis(10));
        assert!(pairs[0].try_recv().is_ok());
    }
}
