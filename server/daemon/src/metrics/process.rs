//! What the kernel says of this process, under the names that Prometheus' own libraries use.

use std::fs;
use std::str::FromStr;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge};

use crate::error::Result;

/// Clock ticks per second in `/proc`: `USER_HZ`, which is part of the kernel's interface.
const TICKS: f64 = 100.0;

/// Reads `/proc/self` whenever the metrics are asked for. What cannot be read keeps its last value.
#[derive(Debug)]
pub(crate) struct ProcessCollector {
    cpu: Counter,
    resident: IntGauge,
    virtual_size: IntGauge,
    threads: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    start_time: Gauge,
}

impl ProcessCollector {
    /// A collector for the calling process.
    ///
    /// # Errors
    /// [`Error::Metrics`](crate::error::Error::Metrics) when a name is not allowed, which is a fault of the program.
    pub(crate) fn new() -> Result<Self> {
        let this = Self {
            cpu: Counter::new("process_cpu_seconds_total", "Processor time spent, user and system, in seconds")?,
            resident: IntGauge::new("process_resident_memory_bytes", "Resident memory in bytes")?,
            virtual_size: IntGauge::new("process_virtual_memory_bytes", "Virtual memory in bytes")?,
            threads: IntGauge::new("process_threads", "Threads")?,
            open_fds: IntGauge::new("process_open_fds", "Open file descriptors")?,
            max_fds: IntGauge::new("process_max_fds", "Most file descriptors that may be open")?,
            start_time: Gauge::new("process_start_time_seconds", "When the process started, in seconds since 1970")?,
        };
        if let Some(start) = start_time() {
            this.start_time.set(start);
        }
        Ok(this)
    }

    fn all(&self) -> [&dyn Collector; 7] {
        [&self.cpu, &self.resident, &self.virtual_size, &self.threads, &self.open_fds, &self.max_fds, &self.start_time]
    }

    fn refresh(&self) {
        if let Some(seconds) = cpu_seconds() {
            // Two scrapes at once may have read in the other order: a counter never falls.
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let kib = |key| field::<i64>(&status, key);
            if let Some(value) = kib("VmRSS:") {
                self.resident.set(value * 1024);
            }
            if let Some(value) = kib("VmSize:") {
                self.virtual_size.set(value * 1024);
            }
            if let Some(value) = field(&status, "Threads:") {
                self.threads.set(value);
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // The folder that is being read has a descriptor as well.
            let count = entries.count().saturating_sub(1);
            self.open_fds.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if let Some(most) =
            fs::read_to_string("/proc/self/limits").ok().and_then(|limits| field(&limits, "Max open files"))
        {
            self.max_fds.set(most);
        }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

/// The first number after `key` at the start of a line.
fn field<T: FromStr>(text: &str, key: &str) -> Option<T> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// The `number`th field of `/proc/self/stat`, counted from 1 as proc(5) does. The second, the program's name, may hold anything,
/// so counting starts behind its closing parenthesis; it and the first cannot be asked for.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    Some((stat_field(&stat, 14)? + stat_field(&stat, 15)?) / TICKS)
}

fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot: f64 = field(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    Some(boot + stat_field(&stat, 22)? / TICKS)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn stat_fields_are_found_behind_any_program_name() {
        let stat = "1 (a) (b 7) S 4 5 6";
        assert_eq!(stat_field(stat, 4), Some(4.0));
        assert_eq!(stat_field(stat, 6), Some(6.0));
        assert_eq!(stat_field(stat, 7), None);
        assert_eq!(stat_field(stat, 1), None);
    }

    #[test]
    fn this_process_has_memory_files_and_a_recent_start() {
        let collector = ProcessCollector::new().unwrap();
        assert_eq!(collector.collect().len(), 7);
        assert!(collector.resident.get() > 1 << 20);
        assert!(collector.open_fds.get() >= 3);
        assert!(collector.max_fds.get() >= collector.open_fds.get());
        assert!(collector.threads.get() >= 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - collector.start_time.get();
        assert!((-1.0..3600.0).contains(&age), "{age}");
    }
}
