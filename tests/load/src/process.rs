//! What the kernel says of processes, and of the machine.

use std::{
    fmt, fs,
    process::Command,
    time::{Duration, Instant},
};

use crate::Failure;

/// A process that took no CPU for so long does nothing.
const STILL: Duration = Duration::from_millis(300);
/// Busier for longer: what it does has nothing to do with what it was asked.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// In which the kernel counts CPU time for others to see.
const TICK_MS: u64 = 10;

/// What CPU is counted for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watched {
    /// One process.
    Process(u32),
    /// One process, and those that it starts and waits for.
    Family(u32),
}

impl Watched {
    /// CPU time so far.
    fn cpu(self) -> Result<Duration, Failure> {
        let pid = match self {
            Self::Process(pid) => return cpu(pid),
            Self::Family(pid) => pid,
        };
        // Children that have ended are in the parent's count; one that ends meanwhile is in neither for this once.
        let mut all = Stat::of(pid)?.with_waited_for();
        for entry in fs::read_dir("/proc")? {
            let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Ok(stat) = Stat::of(number)
                && stat.parent == pid
            {
                all += stat.own();
            }
        }
        Ok(all)
    }
}

/// From `/proc/PID/stat`, times in ticks.
struct Stat {
    parent: u32,
    own: u64,
    waited_for: u64,
}

impl Stat {
    fn of(pid: u32) -> Result<Self, Failure> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no process")?.1.split_whitespace().collect();
        let number = |index: usize| -> Result<u64, Failure> { Ok(fields.get(index).ok_or("no such field")?.parse()?) };
        let parent = u32::try_from(number(1)?)?;
        Ok(Self { parent, own: number(11)? + number(12)?, waited_for: number(13)? + number(14)? })
    }

    const fn own(&self) -> Duration {
        Duration::from_millis(self.own * TICK_MS)
    }

    const fn with_waited_for(&self) -> Duration {
        Duration::from_millis((self.own + self.waited_for) * TICK_MS)
    }
}

/// CPU time of all its threads, those that ended included, in user and kernel mode. Granularity: 10 ms.
pub(crate) fn cpu(pid: u32) -> Result<Duration, Failure> {
    Ok(Stat::of(pid)?.own())
}

/// Waits until none of them does anything more, at most [`SETTLED_WITHIN`]; then the CPU time of each. What they put off,
/// such as writing to a database, belongs to what made them do so.
pub(crate) async fn settled(watched: &[Watched]) -> Result<Vec<Duration>, Failure> {
    let all = || watched.iter().map(|watched| watched.cpu()).collect::<Result<Vec<_>, _>>();
    let end = Instant::now() + SETTLED_WITHIN;
    let mut last = all()?;
    loop {
        // The kernel tells nobody that a process has become idle.
        tokio::time::sleep(STILL).await;
        let now = all()?;
        if now == last || Instant::now() >= end {
            return Ok(now);
        }
        last = now;
    }
}

/// The same for one.
pub(crate) async fn settled_cpu(pid: u32) -> Result<Duration, Failure> {
    Ok(settled(&[Watched::Process(pid)]).await?.into_iter().sum())
}

/// Proportional set size in KiB: memory of its own, and its part of what it shares.
pub(crate) fn pss_kib(pid: u32) -> Result<f64, Failure> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no PSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// How many files this process, and those that it starts, may have open: as many as it may allow itself.
pub(crate) fn open_files_limit() -> Result<usize, Failure> {
    let read = || -> Result<[usize; 2], Failure> {
        let limits = fs::read_to_string("/proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).ok_or("no limit")?;
        let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap_or(usize::MAX));
        Ok([numbers.next().ok_or("no limit")?, numbers.next().ok_or("no limit")?])
    };
    let [soft, hard] = read()?;
    if soft < hard {
        let own = std::process::id().to_string();
        // Where that cannot be, the limit stays.
        Command::new("prlimit").args(["--pid", &own, &format!("--nofile={hard}:")]).status().ok();
    }
    let [soft, _] = read()?;
    Ok(soft)
}

/// What the whole machine has done so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// All processors' time, in ticks.
    all: u64,
    idle: u64,
    stolen: u64,
    own: Duration,
}

/// What others did on the machine while something was measured: figures wobble with it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Disturbance {
    /// Parts of all processors' time.
    pub(crate) others: f64,
    pub(crate) stolen: f64,
}

impl Machine {
    pub(crate) fn now() -> Result<Self, Failure> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).ok_or("no CPU")?;
        // user nice system idle iowait irq softirq steal; guests are counted within.
        let times = line.split_whitespace().take(8).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [user, nice, system, idle, waiting, irq, softirq, stolen] = times[..] else { return Err("no CPU".into()) };
        let all = user + nice + system + idle + waiting + irq + softirq + stolen;
        Ok(Self { all, idle: idle + waiting, stolen, own: cpu(std::process::id())? })
    }

    /// What others did since then; `measured` is what those that are under load took.
    pub(crate) fn disturbance(self, measured: Duration) -> Result<Disturbance, Failure> {
        let now = Self::now()?;
        let all = (now.all - self.all).max(1) as f64;
        let stolen = (now.stolen - self.stolen) as f64;
        let ours = (now.own - self.own + measured).as_millis() as f64 / TICK_MS as f64;
        let busy = all - (now.idle - self.idle) as f64 - stolen;
        Ok(Disturbance { others: ((busy - ours) / all).max(0.0), stolen: stolen / all })
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "others took {:.0} % of the machine, {:.0} % were stolen", self.others * 1e2, self.stolen * 1e2)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::Stdio,
    };

    use super::*;

    #[test]
    fn a_family_has_what_its_children_took_also_those_that_have_ended() {
        let own = std::process::id();
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; read _"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let (alone, took) = (cpu(own).unwrap(), cpu(child.id()).unwrap());
        let with_child = Watched::Family(own).cpu().unwrap();
        assert!(took > Duration::ZERO && with_child >= alone + took, "{alone:?} {took:?} {with_child:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(Watched::Family(own).cpu().unwrap() >= with_child, "what has ended is not forgotten");
    }

    #[test]
    fn the_machine_counts_this_process_as_no_other() {
        let before = Machine::now().unwrap();
        let Disturbance { others, stolen } = before.disturbance(Duration::ZERO).unwrap();
        assert!((0.0..=1.0).contains(&others) && (0.0..=1.0).contains(&stolen), "{others} {stolen}");
    }
}
