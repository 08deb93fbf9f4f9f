//! Messages that go from one process to another, beside those that stay in one, in the same run.
//!
//! ```text
//!   in process   senders ──► starlingd ──► recipients
//!   routed       senders ──► instance ──► router ──► instance ──► recipients        Redis, PostgreSQL
//!   relay        senders ──► relay ──► recipients
//! ```
//!
//! For each way: CPU of every process per message, latency, and whether what should have been used was.

mod scenario;
mod table;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::{
    scenario::{Ground, SCENARIOS, Scenario, Sessions},
    table::{Row, Sample, Way},
};
use crate::{
    Failure,
    chat::{self, Chat, Ends, Pairs},
    client::Manner,
    cluster::{Backends, Cluster, Counters},
    compare::server_program,
    friends,
    process::{self, Watched},
    server::{Installation, Place, Relay, Server},
    sessions::Reading,
    target::Target,
};

/// Open files that a process has beside its connections.
const OTHER_FILES: usize = 200;
/// Messages to one of the commands that Redis is given for leases, at the least; there are hundreds.
const LEASES: u64 = 10;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Extent {
    duration: Duration,
    repetitions: usize,
    /// Sessions that are logged in, those that chat included.
    few: usize,
    many: usize,
}

impl Extent {
    const fn sessions(&self, sessions: Sessions) -> usize {
        match sessions {
            Sessions::Few => self.few,
            Sessions::Many => self.many,
        }
    }

    fn accounts(&self, scenario: &Scenario) -> usize {
        let others = match scenario.ground {
            Ground::Between | Ground::Across(_) => 0,
            Ground::Beside(sessions) => self.sessions(sessions),
        };
        others.max(2 * scenario.pairs)
    }
}

const LONG: Extent = Extent { duration: Duration::from_secs(10), repetitions: 3, few: 1_000, many: 10_000 };
const SHORT: Extent = Extent { duration: Duration::from_secs(1), repetitions: 1, few: 200, many: 1_000 };

/// What is asked for.
pub(crate) struct Wanted {
    /// The server's program; the one beside this if not given.
    pub(crate) program: Option<PathBuf>,
    /// About a second of each, once.
    pub(crate) short: bool,
    /// A Markdown table at the end.
    pub(crate) markdown: bool,
    /// Only scenarios with this in their names.
    pub(crate) only: Option<String>,
    pub(crate) repetitions: Option<usize>,
    /// Also as JSON, to this file.
    pub(crate) json: Option<PathBuf>,
}

/// Runs everything and prints the table.
///
/// # Errors
/// Something did not run at all; was lost, doubled, out of order, not acknowledged or not archived; went another way than it
/// should; or cost Redis something. The rest of the table was printed all the same.
pub(crate) async fn run(wanted: Wanted) -> Result<(), Failure> {
    let mut extent = if wanted.short { SHORT } else { LONG };
    extent.repetitions = wanted.repetitions.unwrap_or(extent.repetitions).max(1);
    let program = server_program(wanted.program)?;
    let is_wanted = |scenario: &&Scenario| wanted.only.as_ref().is_none_or(|only| scenario.name.contains(only));
    let scenarios: Vec<_> = SCENARIOS.iter().filter(is_wanted).collect();
    let accounts = scenarios.iter().map(|scenario| extent.accounts(scenario)).max();
    let backends = Backends::start(&program, accounts.ok_or("no such scenario")?).await?;
    let mut bench = Bench { extent, backends, program, alone: None, cluster: None, beside: Vec::new(), relay: None };
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    println!("{}", table::head());
    for scenario in scenarios {
        let done = bench.rows(scenario).await;
        let (done, wrong) = done.unwrap_or_else(|error| (Vec::new(), vec![error.to_string()]));
        for row in done {
            println!("{}", table::line(&row));
            rows.push(row);
        }
        if !wrong.is_empty() {
            println!("{:<34} wrong, see below", scenario.name);
            broken.extend(wrong.iter().map(|wrong| format!("{}: {wrong}", scenario.name)));
            // Whoever made it fail may not be fit for the next.
            bench.clear();
        }
    }
    if wanted.markdown {
        println!("\n{}", table::markdown(&rows));
    }
    if let Some(path) = wanted.json {
        let rows = Value::Array(rows.iter().map(Row::json).collect());
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n").into()) }
}

/// What runs.
struct Bench {
    extent: Extent,
    program: PathBuf,
    /// With the archive, or without.
    alone: Option<(bool, Server)>,
    /// Sessions that do nothing, at the cluster. They are gone before it is.
    beside: Vec<Reading>,
    cluster: Option<Cluster>,
    relay: Option<Relay>,
    backends: Backends,
}

impl Bench {
    fn clear(&mut self) {
        self.beside.clear();
        (self.alone, self.cluster, self.relay) = (None, None, None);
    }

    /// All repetitions, one way after the other in each; and what was wrong.
    async fn rows(&mut self, scenario: &Scenario) -> Result<(Vec<Row>, Vec<String>), Failure> {
        let mut ways = match scenario.ground {
            Ground::Between => vec![Way::InProcess, Way::Routed],
            Ground::Across(_) | Ground::Beside(_) => vec![Way::Routed],
        };
        if scenario.has_relay() {
            ways.push(Way::Relay);
        }
        let name = match scenario.ground {
            Ground::Beside(sessions) => format!("{} ({})", scenario.name, self.extent.sessions(sessions)),
            Ground::Between | Ground::Across(_) => scenario.name.to_owned(),
        };
        let row = |way: &Way| Row { scenario: name.clone(), way: *way, samples: Vec::new() };
        let mut rows: Vec<Row> = ways.iter().map(row).collect();
        let mut wrong = Vec::new();
        for _ in 0..self.extent.repetitions {
            for row in &mut rows {
                let (chat, faults) = match row.way {
                    Way::InProcess => self.in_process(scenario).await?,
                    Way::Routed => self.routed(scenario).await?,
                    Way::Relay => (self.relayed(scenario).await?, Vec::new()),
                };
                eprintln!("  {name}, {}: {chat}", row.way.as_str());
                wrong.extend(faults.into_iter().map(|fault| format!("{}: {fault}", row.way.as_str())));
                row.samples.push(Sample::new(&chat));
            }
        }
        Ok((rows, wrong))
    }

    async fn in_process(&mut self, scenario: &Scenario) -> Result<(Chat, Vec<String>), Failure> {
        let server = match self.alone.take() {
            Some((archive, server)) if archive == scenario.archive => server,
            before => {
                drop(before);
                let settings: &[_] = if scenario.archive { &[] } else { &[("ARCHIVE_ENABLED", "false")] };
                Installation::new(&self.program, Place::Disk, 2 * scenario.pairs, settings).await?.start().await?
            }
        };
        let (ends, watched) = (Ends::at(server.target(false)?), [Watched::Process(server.pid)]);
        let chat = chat::run(&ends, &watched, &scenario.shape(), self.extent.duration).await?;
        let mut wrong = broken(&chat);
        if scenario.archive && wrong.is_empty() {
            wrong.extend(chat.unarchived(&server.database(), scenario.pairs).await?);
        }
        self.alone = Some((scenario.archive, server));
        Ok((chat, wrong))
    }

    async fn relayed(&mut self, scenario: &Scenario) -> Result<Chat, Failure> {
        let relay = match self.relay.take() {
            Some(relay) => relay,
            None => Relay::start().await?,
        };
        let (ends, watched) = (Ends::at(relay.target(false)), [Watched::Process(relay.pid)]);
        let chat = chat::run(&ends, &watched, &scenario.shape(), self.extent.duration).await?;
        self.relay = Some(relay);
        Ok(chat)
    }

    async fn routed(&mut self, scenario: &Scenario) -> Result<(Chat, Vec<String>), Failure> {
        self.prepare(scenario).await?;
        let cluster = self.cluster.as_ref().ok_or("no cluster")?;
        let targets = cluster.targets()?;
        let ends = match (scenario.ground, &targets[..]) {
            (Ground::Between | Ground::Beside(_), [from, to]) => Ends::between(from.clone(), to.clone()),
            _ => Ends::across(targets),
        };
        let mut pairs = Pairs::log_in(&ends, &scenario.shape()).await?;
        // What follows log-ins, such as what a session adds to its record, is not the chat's.
        process::settled(&cluster.watched).await?;
        let (before, began) = (self.backends.counters(cluster).await?, Instant::now());
        let measured = pairs.chat(&cluster.watched, self.extent.duration).await?;
        let counters = self.backends.counters(cluster).await?.since(&before);
        let took = began.elapsed();
        let chat = pairs.close(measured).await?;
        eprintln!("  {}", told(&counters, chat.tally.received, took));
        let mut wrong = broken(&chat);
        wrong.extend(went_astray(&counters, scenario, chat.tally.received));
        if scenario.archive && wrong.is_empty() {
            let expected = 2 * chat.tally.sent;
            wrong.extend(chat.missing_rows(self.backends.archived(cluster, chat.began, expected).await?));
        }
        Ok((chat, wrong))
    }

    /// Sees to the cluster, and the sessions that are beside those that chat.
    async fn prepare(&mut self, scenario: &Scenario) -> Result<(), Failure> {
        let is_fit =
            |cluster: &Cluster| cluster.archive == scenario.archive && cluster.pods.len() == scenario.instances();
        let has_others = !self.beside.is_empty() && !matches!(scenario.ground, Ground::Beside(_));
        if has_others || !self.cluster.as_ref().is_some_and(is_fit) {
            self.beside.clear();
            self.cluster = None;
            self.cluster = Some(self.backends.cluster(scenario.instances(), scenario.archive).await?);
        }
        let Ground::Beside(sessions) = scenario.ground else { return Ok(()) };
        let wanted = self.extent.sessions(sessions);
        let files = process::open_files_limit()?;
        if files < wanted + OTHER_FILES {
            return Err(format!("{wanted} sessions, and only {files} open files are allowed (ulimit -n)").into());
        }
        let targets = self.cluster.as_ref().map_or_else(|| Ok(Vec::new()), Cluster::targets)?;
        let there = 2 * scenario.pairs + self.beside.iter().map(Reading::len).sum::<usize>();
        self.beside.push(log_in_beside(&targets, there, wanted).await?);
        Ok(())
    }
}

/// Sessions of the users from `first` on, until there are so many in all: each at the next of the targets.
async fn log_in_beside(targets: &[Target], first: usize, until: usize) -> Result<Reading, Failure> {
    let manner = Manner { presence: true, ..Manner::default() };
    let mut clients = Vec::with_capacity(until.saturating_sub(first));
    for (number, target) in targets.iter().enumerate() {
        let users = (first..until).filter(|user| user % targets.len() == number);
        clients.extend(friends::log_in(target, users, manner).await?);
    }
    Ok(Reading::new(clients))
}

fn broken(chat: &Chat) -> Vec<String> {
    if chat.tally.is_whole() { Vec::new() } else { vec![chat.to_string()] }
}

/// What did not go the way that it should, by what processes counted.
fn went_astray(counters: &Counters, scenario: &Scenario, messages: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    // The first message of each pair was before. Since then, keys that were kept alive may have been looked at again.
    let looked_up = counters.all_pods("starling_registry_cache_misses_total");
    if looked_up > scenario.pairs as u64 {
        wrong.push(format!("Redis was asked {looked_up} times where recipients are"));
    }
    // What leases need goes by the time, not by messages; counts of streams (XEP-0198) are written some times a second.
    let commands: u64 = counters.redis.iter().map(|(_, calls)| calls).sum();
    if scenario.managed.is_none() && commands > messages / LEASES {
        wrong.push(format!("Redis carried out {commands} commands for {messages} messages"));
    }
    if let Ground::Across(1) = scenario.ground {
        return wrong;
    }
    if counters.router.get("starling_router_forwarded_total") == 0 {
        wrong.push("the router forwarded nothing".to_owned());
    }
    let (sent, taken) = ("starling_link_sent_total", "starling_link_taken_total");
    if counters.all_pods(sent) < messages || counters.all_pods(taken) < messages {
        wrong.push(format!("{} sent and {} taken by the link", counters.all_pods(sent), counters.all_pods(taken)));
    }
    for (number, pod) in counters.pods.iter().enumerate() {
        let is_used = match (scenario.ground, number) {
            (Ground::Across(_), _) => pod.get(sent) > 0 && pod.get(taken) > 0,
            (_, 0) => pod.get(sent) >= messages,
            _ => pod.get(taken) >= messages,
        };
        if !is_used {
            wrong.push(format!("instance {number} sent {} and took {}", pod.get(sent), pod.get(taken)));
        }
    }
    wrong
}

/// What processes counted, per message.
fn told(counters: &Counters, messages: u64, took: Duration) -> String {
    let each = |count: u64, of: u64| count as f64 / of.max(1) as f64;
    let pods = |name: &str| counters.all_pods(&format!("starling_link_{name}_total"));
    let registry = |name: &str| counters.all_pods(&format!("starling_registry_{name}_total"));
    let (batches, frames) = (pods("batches"), pods("frames"));
    let forwarded = counters.router.get("starling_router_forwarded_total");
    let commands = counters.redis.iter().filter(|(name, _)| *name != "info");
    let commands: Vec<_> =
        commands.map(|(name, calls)| format!("{name} {:.1}", calls as f64 / took.as_secs_f64())).collect();
    format!(
        "link: {:.2} payloads and {:.0} bytes per batch, {:.2} batches per frame, {:.2} frames per message; router: {:.2} \
         batches per message; journal: {:.1} changes per group; registry: {} invalidations, {} misses, {} flushes, {} \
         announcements; Redis, commands a second: {}",
        each(pods("sent"), batches),
        each(pods("batch_bytes"), batches),
        each(batches, frames),
        each(frames, messages),
        each(forwarded, messages),
        each(counters.all_pods("starling_journal_records_total"), counters.all_pods("starling_journal_groups_total")),
        registry("cache_invalidations"),
        registry("cache_misses"),
        registry("cache_flushes"),
        registry("announcements"),
        commands.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Counted;

    fn pod(sent: u64, taken: u64) -> Counted {
        Counted::metrics(&format!("starling_link_sent_total {sent}\nstarling_link_taken_total {taken}\n"))
    }

    fn counters(pods: &[Counted], forwarded: u64) -> Counters {
        Counters {
            pods: pods.to_vec(),
            router: Counted::metrics(&format!("starling_router_forwarded_total {forwarded}\n")),
            redis: Counted::commands("cmdstat_evalsha:calls=10,usec=1\n"),
        }
    }

    const PAIRS: usize = 50;

    fn scenario(ground: Ground, managed: Option<u32>) -> Scenario {
        Scenario { name: "chat", archive: false, managed, pairs: PAIRS, pace: chat::Pace::Window(1), ground }
    }

    fn faults(counters: &Counters, ground: Ground) -> usize {
        went_astray(counters, &scenario(ground, None), 100).len()
    }

    #[test]
    fn messages_that_went_by_the_router_from_one_instance_to_the_other_went_as_they_should() {
        assert_eq!(faults(&counters(&[pod(100, 0), pod(0, 100)], 10), Ground::Between), 0);
        assert_eq!(faults(&counters(&[pod(34, 33), pod(33, 34), pod(33, 33)], 10), Ground::Across(3)), 0);
        assert_eq!(faults(&counters(&[pod(0, 0)], 0), Ground::Across(1)), 0);
    }

    #[test]
    fn a_router_or_an_instance_that_was_not_used_is_noticed() {
        let halves = [pod(100, 0), pod(0, 100)];
        assert_eq!(faults(&counters(&halves, 0), Ground::Between), 1);
        assert_eq!(faults(&counters(&[pod(100, 100), pod(0, 0)], 10), Ground::Between), 1);
        assert_eq!(faults(&counters(&halves, 10), Ground::Across(2)), 2);
        assert_eq!(faults(&counters(&[pod(99, 0), pod(0, 99)], 10), Ground::Between), 3);
    }

    #[test]
    fn look_ups_for_recipients_that_were_known_are_noticed() {
        let missed = |times| Counted::metrics(&format!("starling_registry_cache_misses_total {times}\n"));
        assert_eq!(faults(&counters(&[missed(PAIRS)], 0), Ground::Across(1)), 0);
        assert_eq!(faults(&counters(&[missed(PAIRS + 1)], 0), Ground::Across(1)), 1);
    }

    #[test]
    fn commands_to_redis_for_messages_are_noticed_unless_streams_are_counted_there() {
        let mut counters = counters(&[pod(0, 0)], 0);
        counters.redis = Counted::commands("cmdstat_evalsha:calls=100,usec=1\n");
        assert_eq!(faults(&counters, Ground::Across(1)), 1);
        assert_eq!(went_astray(&counters, &scenario(Ground::Across(1), Some(10)), 100).len(), 0);
    }
}
