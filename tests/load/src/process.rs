//! What the kernel says of a process.

use std::time::{Duration, Instant};

use crate::Failure;

/// A process that took no CPU for so long does nothing.
const STILL: Duration = Duration::from_millis(300);
/// Busier for longer: what it does has nothing to do with what it was asked.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// CPU time of all its threads, those that ended included, in user and kernel mode. Granularity: 10 ms.
pub(crate) fn cpu(pid: u32) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no process")?.1.split_whitespace().collect();
    let ticks = |index: usize| -> Result<u64, Failure> { Ok(fields.get(index).ok_or("no such field")?.parse()?) };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// Waits until the process does nothing more, at most [`SETTLED_WITHIN`]; then its CPU time. What it puts off, such as
/// writing to its database, belongs to what made it do so.
pub(crate) async fn settled_cpu(pid: u32) -> Result<Duration, Failure> {
    let end = Instant::now() + SETTLED_WITHIN;
    let mut last = cpu(pid)?;
    loop {
        // The kernel tells nobody that a process has become idle.
        tokio::time::sleep(STILL).await;
        let now = cpu(pid)?;
        if now == last || Instant::now() >= end {
            return Ok(now);
        }
        last = now;
    }
}

/// Proportional set size in KiB: memory of its own, and its part of what it shares.
pub(crate) fn pss_kib(pid: u32) -> Result<f64, Failure> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no PSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// How many files this process, and those that it starts, may have open.
pub(crate) fn open_files_limit() -> Result<usize, Failure> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).ok_or("no limit")?;
    Ok(line.split_whitespace().next().ok_or("no limit")?.parse().unwrap_or(usize::MAX))
}
