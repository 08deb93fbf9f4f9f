//! Objects that somebody else changes again and again, as fast as we change them back: each time it is left alone for
//! longer, and people are told. Bounded by what was changed back in the last [`MEMORY`].

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::inventory::{Key, ServerKey};

/// So many times in a row it is changed back at once: people try things.
const PATIENT: u32 = 4;
/// After that, for so long it is left alone, and twice as long each time.
const FIRST: Duration = Duration::from_secs(2);
/// No longer than that.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// What was at peace for so long is forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Default)]
pub(crate) struct Contest(HashMap<(ServerKey, Key), Record>);

#[derive(Clone, Copy, Debug)]
struct Record {
    times: u32,
    last: Instant,
}

impl Contest {
    /// Asks whether an object may be changed back now. If not: how long it is to be left alone.
    pub(crate) fn change_back(&mut self, server: &ServerKey, key: &Key, now: Instant) -> Result<(), Duration> {
        self.0.retain(|_, record| now < record.last + MEMORY);
        let record = self.0.entry((server.clone(), key.clone())).or_insert(Record { times: 0, last: now });
        let wait = match record.times.checked_sub(PATIENT) {
            None => Duration::ZERO,
            Some(doublings) => (FIRST * 2_u32.saturating_pow(doublings.min(16))).min(LONGEST),
        };
        let due = record.last + wait;
        if now < due {
            return Err(due - now);
        }
        *record = Record { times: record.times.saturating_add(1), last: now };
        Ok(())
    }

    pub(crate) fn forget(&mut self, server: &ServerKey) {
        self.0.retain(|(of, _), _| of != server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_insists_is_answered_more_and_more_slowly_and_forgotten_when_he_stops() {
        let mut contest = Contest::default();
        let server = ServerKey { namespace: "ns".to_owned(), name: "chat".to_owned() };
        let key = |name: &str| Key { kind: "Service".to_owned(), name: name.to_owned() };
        let mut now = Instant::now();
        for _ in 0..PATIENT {
            contest.change_back(&server, &key("a"), now).unwrap();
        }
        let mut waits = Vec::new();
        for _ in 0..12 {
            let wait = contest.change_back(&server, &key("a"), now).unwrap_err();
            contest.change_back(&server, &key("b"), now).unwrap_or_default();
            now += wait;
            contest.change_back(&server, &key("a"), now).unwrap();
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        now += MEMORY;
        contest.change_back(&server, &key("c"), now).unwrap();
        assert_eq!(contest.0.len(), 1, "a and b are forgotten");
        contest.forget(&server);
        assert!(contest.0.is_empty());
    }
}
