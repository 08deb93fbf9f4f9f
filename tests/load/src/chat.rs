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

use crate::{Failure, archive, process, tally::Tally, target::Target};

mod talk;

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

/// What came of it.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) tally: Tally,
    /// Per delivery: with carbons there are three of each message.
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    began: SystemTime,
}

impl Chat {
    /// Whether a row for each end of each message is in the archive, of a server that has settled; what is wrong, if not.
    pub(crate) async fn unarchived(&self, database: &Path, pairs: usize) -> Result<Option<String>, Failure> {
        let (rows, expected) = (archive::count(database, 2 * pairs, self.began).await?, 2 * self.tally.sent);
        Ok((rows != expected).then(|| format!("{rows} rows came into the archive, not {expected}")))
    }
}

impl fmt::Display for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} us CPU per delivery; {:.0} deliveries/s; p50 {:.2} ms, p99 {:.2} ms; {}",
            self.cpu_us,
            self.per_second,
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3,
            self.tally,
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

/// Chats for `duration`. The CPU is that of the process `pid`.
pub(crate) async fn run(target: &Target, pid: u32, shape: &Shape, duration: Duration) -> Result<Chat, Failure> {
    let run = run_number();
    let mut talks = Vec::with_capacity(shape.pairs);
    for first in (0..shape.pairs).step_by(AT_ONCE) {
        let mut connecting = JoinSet::new();
        for pair in first..(first + AT_ONCE).min(shape.pairs) {
            let (target, shape) = (target.clone(), *shape);
            connecting.spawn(async move { Talk::new(&target, pair, &shape, run).await });
        }
        while let Some(talk) = connecting.join_next().await {
            talks.push(talk??);
        }
    }
    let start = Arc::new(Barrier::new(talks.len() + 1));
    let mut talking = JoinSet::new();
    let pairs = talks.len().max(1) as f64;
    for (number, mut talk) in talks.into_iter().enumerate() {
        let turn = match shape.pace {
            Pace::Window(window) => Turn::Window(window),
            Pace::Rate(rate) => {
                let period = Duration::from_secs_f64(pairs / rate);
                Turn::Schedule { period, phase: period.mul_f64(number as f64 / pairs) }
            }
        };
        let start = Arc::clone(&start);
        talking.spawn(async move {
            start.wait().await;
            talk.run(turn, duration).await?;
            Ok::<_, Failure>(talk)
        });
    }
    let before = process::settled_cpu(pid).await?;
    let (began, began_at) = (Instant::now(), SystemTime::now());
    start.wait().await;
    let mut talks = Vec::new();
    while let Some(done) = talking.join_next().await {
        talks.push(done??);
    }
    let took = began.elapsed();
    let cpu = process::settled_cpu(pid).await?.saturating_sub(before);
    let mut tally = Tally::default();
    for talk in talks {
        tally.add(talk.close().await?);
    }
    let (p50, p99) = (tally.latency(0.5), tally.latency(0.99));
    Ok(Chat {
        cpu_us: cpu.as_secs_f64() * 1e6 / (tally.received.max(1) as f64),
        per_second: tally.received as f64 / took.as_secs_f64(),
        p50,
        p99,
        tally,
        began: began_at,
    })
}
