//! Failed log-ins, counted by whom they came from or whom they were meant for, over a minute.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// How long a failure counts.
const WINDOW: Duration = Duration::from_secs(60);
/// Keys that are remembered. Beyond it those whose minute is over go, then whichever comes to hand: an attacker with
/// so many addresses is not stopped by counting them.
const REMEMBERED: usize = 65_536;

#[derive(Debug)]
struct Window {
    count: u32,
    since: Instant,
}

/// Counts per key and minute.
#[derive(Debug)]
pub(crate) struct Failures<K> {
    /// Failures within a minute after which the key is turned away; `None`: never.
    limit: Option<u32>,
    windows: HashMap<K, Window>,
}

impl<K: Hash + Eq + Clone> Failures<K> {
    pub(crate) fn new(limit: Option<u32>) -> Self {
        Self { limit, windows: HashMap::new() }
    }

    /// Another limit from now on, also for what was counted before.
    pub(crate) fn set_limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
        if limit.is_none() {
            self.windows = HashMap::new();
        }
    }

    /// Counts one.
    pub(crate) fn record(&mut self, key: K, now: Instant) {
        if self.limit.is_none() {
            return;
        }
        if self.windows.len() >= REMEMBERED && !self.windows.contains_key(&key) {
            self.make_room(now);
        }
        let window = self.windows.entry(key).or_insert(Window { count: 0, since: now });
        if is_over(window, now) {
            *window = Window { count: 0, since: now };
        }
        window.count = window.count.saturating_add(1);
    }

    /// Whether the key has failed too often.
    pub(crate) fn is_barred<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Instant) -> bool
    where
        K: Borrow<Q>,
    {
        let Some(limit) = self.limit else { return false };
        self.windows.get(key).is_some_and(|window| window.count >= limit && !is_over(window, now))
    }

    fn make_room(&mut self, now: Instant) {
        self.windows.retain(|_, window| !is_over(window, now));
        if self.windows.len() >= REMEMBERED
            && let Some(any) = self.windows.keys().next().cloned()
        {
            self.windows.remove(&any);
        }
    }
}

fn is_over(window: &Window, now: Instant) -> bool {
    now.saturating_duration_since(window.since) >= WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_is_barred_until_the_minute_is_over() {
        let start = Instant::now();
        let mut failures = Failures::new(Some(2));
        failures.record("mallory".to_owned(), start);
        assert!(!failures.is_barred("mallory", start));
        failures.record("mallory".to_owned(), start);
        assert!(failures.is_barred("mallory", start));
        assert!(!failures.is_barred("juliet", start));
        assert!(!failures.is_barred("mallory", start + WINDOW));
        failures.record("mallory".to_owned(), start + WINDOW);
        assert!(!failures.is_barred("mallory", start + WINDOW));
    }

    #[test]
    fn memory_is_bounded_however_many_keys_fail() {
        let start = Instant::now();
        let mut failures = Failures::new(Some(1));
        for key in 0..(REMEMBERED + 1000) {
            failures.record(key, start);
        }
        assert!(failures.windows.len() <= REMEMBERED);
        assert!(failures.is_barred(&(REMEMBERED + 999), start), "the newest is remembered");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let mut failures = Failures::new(None);
        for _ in 0..100 {
            failures.record(1, Instant::now());
        }
        assert!(failures.windows.is_empty() && !failures.is_barred(&1, Instant::now()));
    }
}
