use std::time::{Duration, Instant};

mod inbound;
mod nonza;
mod outbound;

/// Beginnings of sessions: an ordinary one, and one whose counts wrap around soon.
const STARTS: [u32; 2] = [0, u32::MAX - 3];

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn start() -> Instant {
    Instant::now()
}
