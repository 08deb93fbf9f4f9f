//! The whole table in one run: Starling, the relay beside it, and what is aimed at.

mod scenario;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use self::scenario::{Load, SCENARIOS, Scenario, Setup};
use crate::{
    Failure,
    chat::{self, Ends, Pace, Shape},
    client::Manner,
    friends::{self, Ring},
    presence,
    process::Watched,
    server::{Installation, Place, Relay, Server},
    sessions,
    target::Target,
};

/// How much of everything.
struct Extent {
    log_ins: usize,
    duration: Duration,
    many_pairs: usize,
    idle: usize,
    ring: Ring,
}

const LONG: Extent = Extent {
    log_ins: 2000,
    duration: Duration::from_secs(10),
    many_pairs: 500,
    idle: 2000,
    ring: Ring { users: 200, contacts: 20 },
};
const SHORT: Extent = Extent {
    log_ins: 100,
    duration: Duration::from_secs(1),
    many_pairs: 100,
    idle: 200,
    ring: Ring { users: 44, contacts: 20 },
};

/// Beyond those that log in, for sessions that are there before memory is looked at.
const SPARE_ACCOUNTS: usize = 100;
/// Log-ins under way at one time.
const AT_ONCE: usize = 8;

/// What a scenario came to.
struct Figure {
    /// In the scenario's unit.
    cost: f64,
    /// Milliseconds, where latency counts: a half, and 99 of 100, were faster.
    latency: Option<(f64, f64)>,
    /// What is wrong, if something was lost, doubled, out of order or not acknowledged.
    wrong: Option<String>,
}

/// Runs everything and prints the table. Also writes it as JSON, if a file is given.
///
/// # Errors
/// Something did not run at all, or was lost, doubled or out of order; the rest of the table was printed all the same.
pub(crate) async fn run(
    program: Option<PathBuf>,
    short: bool,
    only: Option<&str>,
    json_file: Option<&Path>,
) -> Result<(), Failure> {
    let program = server_program(program)?;
    let mut bench = Bench { program, extent: if short { SHORT } else { LONG }, server: None, relay: None };
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    println!("{:<36} {:>9} {:<17} {:>8} {:>8}", "scenario", "starling", "", "relay", "aim");
    for scenario in SCENARIOS.iter().filter(|scenario| only.is_none_or(|only| scenario.name.contains(only))) {
        match bench.row(scenario).await {
            Ok((ours, beside)) => {
                let mark = if ours.wrong.is_some() { "   wrong, see below" } else { "" };
                println!("{}{mark}", line(scenario, &ours, beside.as_ref()));
                rows.push(json(scenario, &ours, beside.as_ref()));
                for figure in [Some(ours), beside].into_iter().flatten() {
                    broken.extend(figure.wrong.map(|wrong| format!("{}: {wrong}", scenario.name)));
                }
            }
            Err(error) => {
                println!("{:<36} failed: {error}", scenario.name);
                broken.push(format!("{}: {error}", scenario.name));
                // Whoever made it fail may not be fit for the next.
                (bench.server, bench.relay) = (None, None);
            }
        }
    }
    if let Some(path) = json_file {
        std::fs::write(path, serde_json::to_string_pretty(&Value::Array(rows))?)?;
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n").into()) }
}

/// The program that was given, or the one that the same build has made.
pub(crate) fn server_program(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    Ok(given.map_or_else(|| starling_backends::program("starlingd"), Ok)?)
}

fn line(scenario: &Scenario, ours: &Figure, beside: Option<&Figure>) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let mut line = format!(
        "{:<36} {:>9.2} {:<17} {:>8} {:>8}",
        scenario.name,
        ours.cost,
        scenario.unit,
        number(beside.map(|figure| figure.cost)),
        number(scenario.aim),
    );
    let latency = |latency: Option<(f64, f64)>| latency.map(|(p50, p99)| format!("{p50:.2} / {p99:.2}"));
    if let Some(ours) = latency(ours.latency) {
        let beside = latency(beside.and_then(|figure| figure.latency)).unwrap_or_else(|| "-".to_owned());
        let aim = latency(scenario.aim_latency).unwrap_or_else(|| "-".to_owned());
        line.push_str(&format!("   p50 / p99 ms {ours}, relay {beside}, aim {aim}"));
    }
    line
}

fn json(scenario: &Scenario, ours: &Figure, beside: Option<&Figure>) -> Value {
    let latency = |latency: Option<(f64, f64)>| latency.map(|(p50, p99)| json!({ "p50_ms": p50, "p99_ms": p99 }));
    json!({
        "scenario": scenario.name,
        "unit": scenario.unit,
        "starling": ours.cost,
        "relay": beside.map(|figure| figure.cost),
        "aim": scenario.aim,
        "latency": {
            "starling": latency(ours.latency),
            "relay": latency(beside.and_then(|figure| figure.latency)),
            "aim": latency(scenario.aim_latency),
        },
    })
}

/// What runs.
struct Bench {
    program: PathBuf,
    extent: Extent,
    server: Option<(Setup, Server)>,
    relay: Option<Relay>,
}

impl Bench {
    async fn row(&mut self, scenario: &Scenario) -> Result<(Figure, Option<Figure>), Failure> {
        // What earlier sessions left in the heap would be used again, and sessions seem to cost nothing.
        let fresh = matches!(scenario.load, Load::Idle { .. });
        let mut server = match self.server.take() {
            Some((setup, server)) if setup == scenario.setup && !fresh => server,
            before => {
                drop(before);
                self.install(scenario.setup).await?.start().await?
            }
        };
        if let Load::Idle { friends: true, .. } = scenario.load {
            friends::befriend(&server.target(false)?, self.extent.ring).await?;
            server = server.end().await?.start().await?;
        }
        let archive = (scenario.setup == Setup::Archive).then(|| server.database());
        let ours = self.figure(scenario, &server.target(scenario.tls)?, server.pid, archive.as_deref()).await?;
        self.server = Some((scenario.setup, server));
        if !scenario.relay {
            return Ok((ours, None));
        }
        let relay = match self.relay.take() {
            Some(relay) if !fresh => relay,
            before => {
                drop(before);
                Relay::start().await?
            }
        };
        let beside = self.figure(scenario, &relay.target(scenario.tls), relay.pid, None).await;
        let mut beside = beside.map_err(|error| format!("relay: {error}"))?;
        beside.wrong = beside.wrong.map(|wrong| format!("relay: {wrong}"));
        // It is there for what it costs: what it should lose is not the server's fault.
        let beside = Figure { wrong: None, ..beside };
        self.relay = Some(relay);
        Ok((ours, Some(beside)))
    }

    async fn install(&self, setup: Setup) -> Result<Installation, Failure> {
        let Extent { log_ins, many_pairs, idle, ring, .. } = self.extent;
        let accounts = (2 * many_pairs).max(idle).max(log_ins).max(ring.users) + SPARE_ACCOUNTS;
        let place = if setup == Setup::Friends { Place::Memory } else { Place::Disk };
        Installation::new(&self.program, place, accounts, setup.settings()).await
    }

    async fn figure(
        &self,
        scenario: &Scenario,
        target: &Target,
        pid: u32,
        archive: Option<&Path>,
    ) -> Result<Figure, Failure> {
        let Extent { log_ins, duration, many_pairs, idle, ring } = self.extent;
        let cost = |cost| Figure { cost, latency: None, wrong: None };
        match scenario.load {
            Load::LogIn => Ok(cost(sessions::log_in(target, pid, log_ins, AT_ONCE).await?.cpu_ms)),
            Load::LogInAmongFriends => {
                Ok(cost(sessions::log_in_among_friends(target, pid, log_ins, AT_ONCE, ring).await?.cpu_ms))
            }
            Load::Chat { many, managed, carbons } => {
                let pairs = if many { many_pairs } else { scenario::FEW_PAIRS };
                let shape = Shape { pairs, pace: Pace::Window(1), managed, carbons };
                self.chat(target, pid, &shape, archive).await
            }
            Load::Scheduled { managed } => {
                let pace = Pace::Rate(scenario::RATE);
                let shape = Shape { pairs: scenario::FEW_PAIRS, pace, managed, carbons: false };
                self.chat(target, pid, &shape, archive).await
            }
            Load::Presence => {
                let fan_out = presence::run(target, pid, ring, duration).await?;
                eprintln!("  {fan_out}");
                let wrong = (!fan_out.tally.is_whole()).then(|| fan_out.to_string());
                Ok(Figure { cost: fan_out.cpu_us, latency: None, wrong })
            }
            Load::Idle { managed, friends } => {
                let manner = Manner { managed, roster: friends, presence: friends, carbons: false };
                let (count, ring) = if friends { (ring.users, Some(ring)) } else { (idle, None) };
                Ok(cost(sessions::idle(target, pid, count, manner, ring).await?.kib))
            }
        }
    }

    async fn chat(&self, target: &Target, pid: u32, shape: &Shape, archive: Option<&Path>) -> Result<Figure, Failure> {
        let chat = chat::run(&Ends::at(target.clone()), &[Watched::Process(pid)], shape, self.extent.duration).await?;
        eprintln!("  {chat}");
        let millis = |latency: Duration| latency.as_secs_f64() * 1e3;
        let latency = matches!(shape.pace, Pace::Rate(_)).then(|| (millis(chat.p50), millis(chat.p99)));
        let mut wrong = (!chat.tally.is_whole()).then(|| chat.to_string());
        if let (Some(database), None) = (archive, &wrong) {
            wrong = chat.unarchived(database, shape.pairs).await?;
        }
        Ok(Figure { cost: chat.all_cpu_us(), latency, wrong })
    }
}
