//! What is asked of Redis, counted by Redis: by log-ins, presence, messages and log-outs, and that it does not depend on how many
//! sessions there are.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, process::Stdio};

use starling_cluster::{Cluster, Layout, PATIENCE, Redis, redis};
use starling_test_support::{RawClient, befriend, body};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Accounts whose log-ins and so on are counted, each step by all of them.
const COUNTED: usize = 20;
const MESSAGES: usize = 1000;
const SESSIONS: [usize; 2] = [10, 200];
const INSTANCES: usize = 3;
/// Each step, and what it costs at most for each time that it is done.
const STEPS: [(&str, f64); 7] = [
    // Index and session.
    ("log-in, to the bound resource", 2.0),
    // The session, and whom it concerns: presence and sessions of the account, and a word to have these tracked.
    ("first presence", 4.0),
    ("presence that changes", 1.0),
    ("presence that changes, one contact", 1.0),
    // Where the recipient is, and a word to have that tracked.
    ("first message between two accounts", 2.0),
    ("message after that", 0.0),
    // Presence, whom it concerns, a word to have that tracked, the session; and the index, once for all that log out at an
    // instance within a second.
    ("log-out", 5.0),
];

/// Shows every command as Redis carries it out.
struct Monitor {
    lines: Lines<BufReader<ChildStdout>>,
    windows: usize,
    _child: Child,
}

impl Monitor {
    async fn start(server: &redis::Redis) -> Self {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &server.port().to_string(), "monitor"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut monitor = Self { lines, windows: 0, _child: child };
        assert_eq!(monitor.line().await, "OK");
        monitor
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap().unwrap()
    }

    /// The commands since the last time, those aside by which instances renew their leases and look for others that died. What an instance still has to
    /// ask when this is called it has asked by its next renewal, or, if it is what waits for that, by the one after it.
    async fn window(&mut self, server: &redis::Redis) -> Vec<String> {
        self.windows += 1;
        let marker = format!("\"ECHO\" \"window {}\"", self.windows);
        server.command(&["ECHO", &format!("window {}", self.windows)]).await;
        let (mut commands, mut renewed, mut marked) = (Vec::new(), BTreeMap::<_, usize>::new(), false);
        while renewed.values().filter(|times| **times >= 2).count() < INSTANCES {
            let line = self.line().await;
            // What a script does is part of the command that runs it.
            if line.contains(" lua] ") {
                continue;
            }
            let command = line.split_once("] ").unwrap().1;
            if command == marker {
                marked = true;
            } else if let Some((_, key)) = command.split_once("{members}:") {
                if let Some((_, lease)) = key.split_once("{members}:instance:").filter(|_| marked) {
                    *renewed.entry(lease.split('"').next().unwrap().to_owned()).or_default() += 1;
                }
            } else if !(command.starts_with("\"PEXPIRE\"") && command.contains(":index:{")) {
                commands.push(command.to_owned());
            }
        }
        commands
    }
}

fn name(kind: &str, number: usize) -> String {
    format!("{kind}{number}@localhost")
}

async fn logged_in(cluster: &Cluster, kind: &str, number: usize) -> RawClient {
    let mut client = RawClient::connect(cluster.starttls(number % INSTANCES)).await;
    client.log_in(&name(kind, number), "secret", "r").await;
    client
}

async fn change_presence(client: &mut RawClient, show: &str) {
    client.send(&format!("<presence><show>{show}</show></presence>")).await;
    let own = client.full().to_owned();
    client.until_presence(&own, None).await;
}

async fn say(from: &mut RawClient, to: &mut RawClient, text: &str) {
    let address = to.full().to_owned();
    from.send(&format!("<message to='{address}' type='chat'><body>{text}</body></message>")).await;
    assert_eq!(body(&to.message().await), text);
}

/// Two that see each other's presence, at two instances.
async fn friends(cluster: &Cluster) -> (RawClient, RawClient) {
    let (mut one, mut other) = (logged_in(cluster, "friend", 0).await, logged_in(cluster, "friend", 1).await);
    one.become_available(0).await;
    other.become_available(0).await;
    (one, other)
}

/// Takes every step; the commands of each, and how often it was taken.
async fn take_steps(cluster: &Cluster, server: &redis::Redis, monitor: &mut Monitor) -> Vec<(Vec<String>, usize)> {
    let idle = monitor.window(server).await;
    let idle_too = monitor.window(server).await;
    assert!(idle.is_empty() && idle_too.is_empty(), "asked by nobody: {idle:?} {idle_too:?}");
    let mut steps = Vec::new();
    let mut clients = Vec::new();
    for number in 0..COUNTED {
        clients.push(logged_in(cluster, "counted", number).await);
    }
    steps.push((monitor.window(server).await, COUNTED));
    for client in &mut clients {
        client.become_available(0).await;
    }
    steps.push((monitor.window(server).await, COUNTED));
    for client in &mut clients {
        change_presence(client, "away").await;
    }
    steps.push((monitor.window(server).await, COUNTED));
    let (mut one, mut other) = friends(cluster).await;
    // Where the contact is, is asked once.
    change_presence(&mut one, "away").await;
    monitor.window(server).await;
    for show in ["dnd", "xa"].into_iter().cycle().take(COUNTED) {
        change_presence(&mut one, show).await;
        let address = one.full().to_owned();
        other.until_presence(&address, None).await;
    }
    steps.push((monitor.window(server).await, COUNTED));
    one.close().await;
    other.close().await;
    let [first, second, ..] = clients.as_mut_slice() else { panic!("two clients") };
    monitor.window(server).await;
    say(first, second, "The first.").await;
    say(second, first, "The first.").await;
    steps.push((monitor.window(server).await, 2));
    for number in 0..MESSAGES / 2 {
        say(first, second, &format!("There {number}")).await;
        say(second, first, &format!("And back {number}")).await;
    }
    steps.push((monitor.window(server).await, MESSAGES));
    for client in clients {
        client.close().await;
    }
    steps.push((monitor.window(server).await, COUNTED));
    steps
}

#[tokio::test]
async fn redis_is_asked_little_never_for_messages_and_not_more_where_there_are_more_sessions() {
    let mut cluster = Cluster::start_all(&Layout { instances: INSTANCES, ..Layout::default() }).await.unwrap();
    let most = SESSIONS.into_iter().max().unwrap();
    let others = (0..most).map(|number| name("other", number));
    let users = others.chain((0..COUNTED).map(|number| name("counted", number)));
    let users: Vec<_> = users.chain((0..2).map(|number| name("friend", number))).collect();
    let users: Vec<_> = users.iter().map(|user| (user.as_str(), "secret")).collect();
    cluster.add_users(&users).await.unwrap();
    let (mut one, mut other) = friends(&cluster).await;
    befriend(&mut one, &mut other).await;
    one.close().await;
    other.close().await;
    let Redis::One(server) = cluster.redis() else { panic!("one server") };
    let mut monitor = Monitor::start(server).await;
    let (mut others, mut counted) = (Vec::new(), Vec::new());
    for sessions in SESSIONS {
        while others.len() < sessions {
            let mut client = logged_in(&cluster, "other", others.len()).await;
            client.become_available(0).await;
            others.push(client);
        }
        monitor.window(server).await;
        counted.push(take_steps(&cluster, server, &mut monitor).await);
    }
    let [few, many] = &counted[..] else { panic!("two") };
    println!("commands of Redis for each     {:>4} sessions  {:>4} sessions", SESSIONS[0], SESSIONS[1]);
    let each = |(commands, times): &(Vec<String>, usize)| commands.len() as f64 / *times as f64;
    for ((step, _), (few, many)) in STEPS.iter().zip(few.iter().zip(many)) {
        println!("{step:<36}{:>8.2}{:>15.2}", each(few), each(many));
    }
    for ((step, most), (few, many)) in STEPS.iter().zip(few.iter().zip(many)) {
        for counted in [few, many] {
            assert!(each(counted) <= *most, "{step}: {:.2}, like {:#?}", each(counted), counted.0.first_chunk::<8>());
        }
    }
}
