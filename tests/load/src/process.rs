//! What the kernel says of a process.

use std::time::Duration;

use crate::Failure;

/// CPU time of all its threads, those that ended included, in user and kernel mode. Granularity: 10 ms.
pub(crate) fn cpu(pid: u32) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no process")?.1.split_whitespace().collect();
    let ticks = |index: usize| -> Result<u64, Failure> { Ok(fields.get(index).ok_or("no such field")?.parse()?) };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
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
