//! Pairs that chat: what it costs, how long it takes, what was lost, doubled or came out of order.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    Failure, archive,
    process::{self, Disturbance, Machine, Watched},
    tally::Tally,
    target::Target,
};

mod schedule;
mod talk;

use schedule::Schedule;
use talk::{Talk, Turn};

/// Log-ins under way at one time.
const AT_ONCE: usize = 16;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// The next when one came: so many of each pair are under way (a closed loop).
    Window(usize),
    /// So many a second of all pairs together, whatever came (an open loop).
    Rate(f64),
}

/// What is said by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) pairs: usize,
    pub(crate) pace: Pace,
    /// Stream management on both ends: `<r/>` of the clients goes after so many messages.
    pub(crate) managed: Option<u32>,
    /// Two sessions per user, with carbons.
    pub(crate) carbons: bool,
}

/// Where pairs log in.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    senders: Vec<Target>,
    receivers: Vec<Target>,
}

impl Ends {
    /// All at one.
    pub(crate) fn at(target: Target) -> Self {
        Self { senders: vec![target.clone()], receivers: vec![target] }
    }

    /// Senders at one, receivers at another.
    pub(crate) fn between(from: Target, to: Target) -> Self {
        Self { senders: vec![from], receivers: vec![to] }
    }

    /// Both everywhere, and the ends of no pair at the same, unless there is only one.
    pub(crate) fn across(targets: Vec<Target>) -> Self {
        let mut receivers = targets.clone();
        receivers.rotate_left(1);
        Self { senders: targets, receivers }
    }

    fn of(&self, pair: usize) -> Option<(Target, Target)> {
        Some((self.senders.iter().cycle().nth(pair)?.clone(), self.receivers.iter().cycle().nth(pair)?.clone()))
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) tally: Tally,
    /// Microseconds per delivery, of each that was watched. With carbons there are three deliveries of each message.
    pub(crate) cpu_us: Vec<f64>,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
    /// Of a schedule: how long after it was due a message was sent, half of the time at most. It is part of the latencies.
    lag: Duration,
    pub(crate) disturbance: Disturbance,
    /// When the first message was sent.
    pub(crate) began: SystemTime,
}

impl Chat {
    /// Of all that were watched together.
    pub(crate) fn all_cpu_us(&self) -> f64 {
        self.cpu_us.iter().sum()
    }

    /// Whether a row for each end of each message is in the archive, of a server that has settled; what is wrong, if not.
    pub(crate) async fn unarchived(&self, database: &Path, pairs: usize) -> Result<Option<String>, Failure> {
        Ok(self.missing_rows(archive::count(database, 2 * pairs, self.began).await?))
    }

    /// The same, of so many rows that are there.
    pub(crate) fn missing_rows(&self, rows: u64) -> Option<String> {
        let expected = 2 * self.tally.sent;
        (rows != expected).then(|| format!("{rows} rows came into the archive, not {expected}"))
    }
}

impl fmt::Display for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} us CPU per delivery; {:.0} deliveries/s; p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms (sent {:.2} ms after \
             it was due); {}; {}",
            self.all_cpu_us(),
            self.per_second,
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3,
            self.max.as_secs_f64() * 1e3,
            self.lag.as_secs_f64() * 1e3,
            self.tally,
            self.disturbance,
        )
    }
}

/// Tells the messages of one run from those that an earlier one left behind.
fn run_number() -> u32 {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    // Four digits at most, so that a message is as long in each run.
    0x1000 + (now * 8 + RUNS.fetch_add(1, Ordering::Relaxed)) % 0xf000
}

/// Chats for `duration`. The CPU is that of those that are watched.
pub(crate) async fn run(ends: &Ends, watched: &[Watched], shape: &Shape, duration: Duration) -> Result<Chat, Failure> {
    let mut pairs = Pairs::log_in(ends, shape).await?;
    let measured = pairs.chat(watched, duration).await?;
    pairs.close(measured).await
}

/// Pairs that have logged in, each of which has sent a message already.
pub(crate) struct Pairs {
    talks: Vec<Talk>,
    pace: Pace,
}

/// What a chat took.
pub(crate) struct Measured {
    cpu: Vec<Duration>,
    took: Duration,
    disturbance: Disturbance,
    began: SystemTime,
}

impl Pairs {
    pub(crate) async fn log_in(ends: &Ends, shape: &Shape) -> Result<Self, Failure> {
        let (first, run) = (run_number(), run_number());
        let mut talks = Vec::with_capacity(shape.pairs);
        let mut connecting = JoinSet::new();
        for pair in 0..shape.pairs {
            if connecting.len() == AT_ONCE
                && let Some(talk) = connecting.join_next().await
            {
                talks.push(talk??);
            }
            let ((from, to), shape) = (ends.of(pair).ok_or("no server")?, *shape);
            connecting.spawn(async move { Talk::new(&from, &to, pair, &shape, first).await });
        }
        while let Some(talk) = connecting.join_next().await {
            talks.push(talk??);
        }
        // Behind all log-ins: what is learnt of recipients while others log in may have to be learnt again.
        let mut warming = JoinSet::new();
        for mut talk in talks.drain(..) {
            warming.spawn(async move {
                talk.warm_up(run).await?;
                Ok::<_, Failure>(talk)
            });
        }
        while let Some(talk) = warming.join_next().await {
            talks.push(talk??);
        }
        Ok(Self { talks, pace: shape.pace })
    }

    /// Chats, once.
    pub(crate) async fn chat(&mut self, watched: &[Watched], duration: Duration) -> Result<Measured, Failure> {
        let talks = std::mem::take(&mut self.talks);
        let (schedule, mut turns) = match self.pace {
            Pace::Window(_) => (None, Vec::new()),
            Pace::Rate(rate) => {
                let (schedule, turns) = Schedule::new(rate, duration, talks.len());
                (Some(schedule), turns)
            }
        };
        let start = Arc::new(Barrier::new(talks.len() + 1));
        let mut talking = JoinSet::new();
        for mut talk in talks {
            let turn = match self.pace {
                Pace::Window(window) => Turn::Window(window, duration),
                Pace::Rate(_) => Turn::Schedule(turns.pop().ok_or("a pair without turns")?),
            };
            let start = Arc::clone(&start);
            talking.spawn(async move {
                start.wait().await;
                talk.run(turn).await?;
                Ok::<_, Failure>(talk)
            });
        }
        let before = process::settled(watched).await?;
        let (machine, began, began_at) = (Machine::now()?, Instant::now(), SystemTime::now());
        start.wait().await;
        let keeper = schedule.map(|schedule| tokio::task::spawn_blocking(|| schedule.keep()));
        while let Some(done) = talking.join_next().await {
            self.talks.push(done??);
        }
        let took = began.elapsed();
        if let Some(keeper) = keeper {
            keeper.await?;
        }
        let after = process::settled(watched).await?;
        let cpu: Vec<_> = after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before)).collect();
        let disturbance = machine.disturbance(cpu.iter().sum())?;
        Ok(Measured { cpu, took, disturbance, began: began_at })
    }

    /// Ends the sessions, and says what came of it.
    pub(crate) async fn close(self, measured: Measured) -> Result<Chat, Failure> {
        let Measured { cpu, took, disturbance, began } = measured;
        let mut tally = Tally::default();
        for talk in self.talks {
            tally.add(talk.close().await?);
        }
        let (p50, p99, max) = (tally.latency(0.5), tally.latency(0.99), tally.latency(1.0));
        let deliveries = tally.received.max(1) as f64;
        Ok(Chat {
            cpu_us: cpu.iter().map(|cpu| cpu.as_secs_f64() * 1e6 / deliveries).collect(),
            per_second: tally.received as f64 / took.as_secs_f64(),
            p50,
            p99,
            max,
            lag: tally.lag(0.5),
            tally,
            disturbance,
            began,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn target(port: u16) -> Target {
        Target::Relay { address: SocketAddr::from(([127, 0, 0, 1], port)), tls: false }
    }

    fn ports(ends: &Ends, pair: usize) -> (u16, u16) {
        let port = |target| match target {
            Target::Relay { address, .. } => address.port(),
            Target::Xmpp { .. } => 0,
        };
        let (from, to) = ends.of(pair).unwrap();
        (port(from), port(to))
    }

    #[test]
    fn no_pair_is_at_one_instance_where_there_are_more_and_each_has_senders_and_receivers() {
        for instances in 2..=3 {
            let ends = Ends::across((1..=instances).map(target).collect());
            let pairs: Vec<_> = (0..12).map(|pair| ports(&ends, pair)).collect();
            assert!(pairs.iter().all(|(from, to)| from != to), "{pairs:?}");
            for instance in 1..=instances {
                assert_eq!(pairs.iter().filter(|(from, _)| *from == instance).count(), 12 / usize::from(instances));
                assert_eq!(pairs.iter().filter(|(_, to)| *to == instance).count(), 12 / usize::from(instances));
            }
        }
        assert_eq!(ports(&Ends::across(vec![target(1)]), 5), (1, 1));
        assert_eq!(ports(&Ends::between(target(1), target(2)), 5), (1, 2));
    }
}
