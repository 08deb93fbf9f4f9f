//! A token bucket that may run into debt: what has come is taken, and the next has to wait for it.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Full at `now`. A rate below one a second is held to one in 24 hours at least, so that no wait is endless.
    pub(crate) fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        let burst = burst.max(1.0);
        Self { per_second: per_second.max(1.0 / 86_400.0), burst, tokens: burst, at: now }
    }

    /// Takes `amount`, and says how long to wait until the debt is paid; zero if there is none.
    pub(crate) fn take(&mut self, amount: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst) - amount;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.tokens / self.per_second).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_what_comes_on_top_waits_for_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 3.0, start);
        for _ in 0..3 {
            assert_eq!(bucket.take(1.0, start), Duration::ZERO);
        }
        let wait = bucket.take(1.0, start);
        assert!((wait.as_secs_f64() - 0.1).abs() < 1e-6, "{wait:?}");
        assert_eq!(bucket.take(1.0, start + Duration::from_millis(200)), Duration::ZERO);
    }

    #[test]
    fn a_long_pause_fills_it_to_its_burst_and_no_further() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000.0, 5.0, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(bucket.take(5.0, later), Duration::ZERO);
        assert!(bucket.take(1.0, later) > Duration::ZERO);
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::new(1.0, 1.0, start);
        bucket.take(1.0, start);
        assert!(bucket.take(0.0, start - Duration::from_secs(5)).is_zero());
        assert!(bucket.take(1.0, start).as_secs_f64() > 0.99);
    }
}
