//! Log-ins, and sessions that do nothing.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::task::JoinSet;

use crate::{
    Failure, process,
    target::{Connection, Target, relay_log_in},
};

/// Log-ins under way at one time while idle sessions are made.
const AT_ONCE: usize = 16;

/// What log-ins cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogIns {
    pub(crate) cpu_ms: f64,
    pub(crate) per_second: f64,
}

impl fmt::Display for LogIns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms CPU per log-in; {:.0} log-ins/s", self.cpu_ms, self.per_second)
    }
}

/// What idle sessions cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    pub(crate) kib: f64,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} KiB PSS per idle session", self.kib)
    }
}

/// Logs in and out `count` times, as different users.
pub(crate) async fn log_in(target: &Target, pid: u32, count: usize, at_once: usize) -> Result<LogIns, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let before = process::cpu(pid)?;
    let began = Instant::now();
    let mut working = JoinSet::new();
    for _ in 0..at_once.max(1) {
        let (next, target) = (Arc::clone(&next), target.clone());
        working.spawn(async move {
            loop {
                let user = next.fetch_add(1, Ordering::Relaxed);
                if user >= count {
                    return Ok::<_, Failure>(());
                }
                match &target {
                    Target::Xmpp { .. } => target.connect(user, user).await?.close().await?,
                    Target::Relay { address, tls } => relay_log_in(*address, *tls).await?,
                }
            }
        });
    }
    while let Some(done) = working.join_next().await {
        done??;
    }
    let (took, cpu) = (began.elapsed(), process::cpu(pid)?.saturating_sub(before));
    Ok(LogIns { cpu_ms: cpu.as_secs_f64() * 1e3 / count as f64, per_second: count as f64 / took.as_secs_f64() })
}

/// Holds `count` sessions and looks at the server's memory before and after.
pub(crate) async fn idle(target: &Target, pid: u32, count: usize) -> Result<Idle, Failure> {
    // What the first log-ins make the server allocate once is no session's.
    let mut warm = Vec::new();
    for user in 0..AT_ONCE {
        warm.push(target.connect(count + user, count + user).await?);
    }
    let before = process::pss_kib(pid)?;
    let mut sessions: Vec<Connection> = Vec::with_capacity(count);
    for first in (0..count).step_by(AT_ONCE) {
        let mut connecting = JoinSet::new();
        for user in first..(first + AT_ONCE).min(count) {
            let target = target.clone();
            connecting.spawn(async move { target.connect(user, user ^ 1).await });
        }
        while let Some(session) = connecting.join_next().await {
            sessions.push(session??);
        }
    }
    let kib = (process::pss_kib(pid)? - before) / count as f64;
    Ok(Idle { kib })
}
