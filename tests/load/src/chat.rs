//! Pairs that chat.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Barrier, task::JoinSet, time::timeout};

use crate::{
    Failure, process,
    tally::Tally,
    target::{Connection, Target},
};

/// Of each message's body, in bytes.
const BODY: usize = 200;
/// Log-ins under way at one time.
const AT_ONCE: usize = 16;
/// For what is still under way when the time is over.
const LAST: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) tally: Tally,
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl fmt::Display for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { sent, received, doubled, disordered, errors, .. } = &self.tally;
        write!(
            f,
            "{:.1} us CPU per message; {:.0} messages/s; p50 {:.2} ms, p99 {:.2} ms; {sent} sent, {received} received, \
             {} lost, {doubled} doubled, {disordered} out of order, {errors} errors",
            self.cpu_us,
            self.per_second,
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3,
            self.tally.lost(),
        )
    }
}

/// `pairs` pairs, each with `window` messages under way, for `duration`. The CPU is that of the process `pid`.
pub(crate) async fn run(
    target: &Target,
    pid: u32,
    pairs: usize,
    window: usize,
    duration: Duration,
) -> Result<Chat, Failure> {
    let mut connected = Vec::with_capacity(pairs);
    for first in (0..pairs).step_by(AT_ONCE) {
        let mut connecting = JoinSet::new();
        for pair in first..(first + AT_ONCE).min(pairs) {
            let target = target.clone();
            connecting.spawn(async move {
                let (one, two) = (2 * pair, 2 * pair + 1);
                let (sender, receiver) = tokio::try_join!(target.connect(one, two), target.connect(two, one))?;
                Ok::<_, Failure>((target.full_jid(two), sender, receiver))
            });
        }
        while let Some(pair) = connecting.join_next().await {
            connected.push(pair??);
        }
    }
    let start = Arc::new(Barrier::new(pairs + 1));
    let mut chatting = JoinSet::new();
    for (to, sender, receiver) in connected {
        let start = Arc::clone(&start);
        chatting.spawn(async move {
            start.wait().await;
            pair(&to, sender, receiver, window, duration).await
        });
    }
    let before = process::cpu(pid)?;
    let began = Instant::now();
    start.wait().await;
    let mut tally = Tally::default();
    let mut connections = Vec::new();
    while let Some(done) = chatting.join_next().await {
        let (pair, sender, receiver) = done??;
        tally.add(pair);
        connections.push((sender, receiver));
    }
    let (took, cpu) = (began.elapsed(), process::cpu(pid)?.saturating_sub(before));
    for (sender, receiver) in connections {
        // At the relay each end waits for the other's: they are closed together.
        tokio::try_join!(sender.close(), receiver.close()).map(drop)?;
    }
    let (p50, p99) = (tally.latency(0.5), tally.latency(0.99));
    Ok(Chat {
        cpu_us: cpu.as_secs_f64() * 1e6 / (tally.received.max(1) as f64),
        per_second: tally.received as f64 / took.as_secs_f64(),
        p50,
        p99,
        tally,
    })
}

async fn pair(
    to: &str,
    mut sender: Connection,
    mut receiver: Connection,
    window: usize,
    duration: Duration,
) -> Result<(Tally, Connection, Connection), Failure> {
    let body = "Lorem ipsum ".repeat(BODY / 12 + 1);
    let body = body.get(..BODY).unwrap_or_default();
    let mut tally = Tally::default();
    let mut under_way: VecDeque<Instant> = VecDeque::with_capacity(window);
    let end = Instant::now() + duration;
    loop {
        while under_way.len() < window && Instant::now() < end {
            let stanza = format!("<message to='{to}' type='chat' id='{}'><body>{body}</body></message>", tally.sent);
            under_way.push_back(Instant::now());
            tally.sent += 1;
            sender.send(&stanza).await?;
        }
        if under_way.is_empty() {
            return Ok((tally, sender, receiver));
        }
        match timeout(LAST, receiver.message()).await {
            Ok(message) => {
                let (id, is_error) = message?;
                tally.errors += u64::from(is_error);
                let sent = under_way.pop_front().unwrap_or(end);
                tally.receive(id.parse()?, sent.elapsed());
            }
            // What did not come by now is lost, and counted so.
            Err(_) => return Ok((tally, sender, receiver)),
        }
    }
}
