//! Brings requests to the nodes that serve them: all of one node in one pipeline, all nodes at once.
//!
//! ```text
//!   requests ──► by slot ─┬─► node 1       MOVED, READONLY: the servers are looked for, and it is tried there
//!                         └─► node 2       ASK: one question elsewhere     NOSCRIPT: again, with its source
//! ```
//!
//! An answer that takes too long ends the connection to its node: from then on whoever asks that node is told at once that
//! it is away, until it can be connected again. Nothing is sent twice that may have been done.

use std::sync::Arc;

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, ServerError, Value, cmd};
use tokio::time::{Instant, sleep};

use super::{
    connect::Address,
    discovery::Discovery,
    link::{Ground, Live, ends_connection},
    scripts::Script,
    slots,
    topology::Node,
};
use crate::Error;

/// How often a request is sent on to somewhere else, or again because nothing was done.
const TRIES: u32 = 4;

/// A command or script, for the node that serves its slot.
#[derive(Debug)]
pub(super) struct Request {
    slot: u16,
    what: What,
}

#[derive(Debug)]
enum What {
    Plain(Cmd),
    /// A read of which Redis is to say when it is no longer true.
    Tracked(Cmd),
    Script {
        script: &'static Script,
        keys: usize,
        arguments: Vec<Vec<u8>>,
        with_source: bool,
    },
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) result: Result<Value, Failure>,
    /// Redis will say when what was read is no longer true.
    pub(super) tracked: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody serves it now. Whether something was done is not known.
    #[error("{0}")]
    Away(String),
    /// Redis is there, and cannot make sense of what lies under this key: somebody else's.
    #[error("{0}")]
    Garbage(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Away(failure.to_string())
    }
}

/// Reads a whole hash.
pub(super) fn all_of(key: &str) -> Cmd {
    let mut read = cmd("HGETALL");
    read.arg(key);
    read
}

impl Request {
    pub(super) fn plain(key: &str, command: Cmd) -> Self {
        Self { slot: slots::of_key(key.as_bytes()), what: What::Plain(command) }
    }

    pub(super) fn tracked(key: &str, command: Cmd) -> Self {
        Self { slot: slots::of_key(key.as_bytes()), what: What::Tracked(command) }
    }

    /// A script; its keys are of one slot.
    pub(super) fn script(script: &'static Script, keys: &[&str], arguments: Arguments) -> Self {
        let slot = keys.first().map_or(0, |key| slots::of_key(key.as_bytes()));
        let mut all: Vec<_> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let keys = all.len();
        all.extend(arguments.0);
        Self { slot, what: What::Script { script, keys, arguments: all, with_source: false } }
    }

    /// Writes itself into a pipeline; how many answers to skip is returned.
    fn write(&self, pipeline: &mut Pipeline, tracks: bool) -> usize {
        match &self.what {
            What::Plain(command) => {
                pipeline.add_command(command.clone());
                0
            }
            What::Tracked(command) => {
                if tracks {
                    pipeline.cmd("CLIENT").arg("CACHING").arg("YES");
                }
                pipeline.add_command(command.clone());
                usize::from(tracks)
            }
            What::Script { script, keys, arguments, with_source } => {
                let (name, script) = if *with_source { ("EVAL", script.source()) } else { ("EVALSHA", script.hash()) };
                pipeline.cmd(name).arg(script).arg(*keys);
                for argument in arguments {
                    pipeline.arg(argument.as_slice());
                }
                0
            }
        }
    }
}

/// What a script is told beside its keys.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<Vec<u8>>);

impl Arguments {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.push(bytes.into());
        self
    }

    pub(super) fn text(self, text: impl ToString) -> Self {
        self.bytes(text.to_string())
    }

    pub(super) fn flag(self, flag: bool) -> Self {
        self.bytes(if flag { b"1" } else { b"0" })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Wire {
    ground: Arc<Ground>,
    discovery: Arc<Discovery>,
}

/// What goes to one node.
struct Part<'a> {
    node: Option<&'a Arc<Node>>,
    requests: Vec<(usize, &'a Request)>,
}

impl Part<'_> {
    /// Nobody took it.
    fn all(self, reason: &str, next: impl Fn(String) -> Next) -> Vec<(usize, Next)> {
        self.requests.into_iter().map(|(index, _)| (index, next(reason.to_owned()))).collect()
    }
}

/// What is to happen with a request that got an answer.
enum Next {
    Done(Reply),
    /// Nothing was done; where to now is to be found out.
    Elsewhere(String),
    /// Nothing was done; it is to be done at this node, once.
    Ask(Address),
    /// Nothing was done, for now.
    Later(String),
    WithSource,
}

impl Next {
    fn away(reason: String) -> Self {
        Self::Done(away(reason))
    }
}

impl Wire {
    pub(super) const fn new(ground: Arc<Ground>, discovery: Arc<Discovery>) -> Self {
        Self { ground, discovery }
    }

    /// Carries out one request.
    pub(super) async fn one(&self, request: Request) -> Result<Value, Failure> {
        let reply = self.run(vec![request]).await.pop();
        reply.map_or_else(|| Err(Failure::Away("nothing was asked".to_owned())), |reply| reply.result)
    }

    /// Carries out requests, and returns what came of each, in their order. Those of one node are carried out in their order,
    /// except for those that were moved meanwhile.
    pub(super) async fn run(&self, mut requests: Vec<Request>) -> Vec<Reply> {
        let mut replies: Vec<Option<Reply>> = requests.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..requests.len()).collect();
        let deadline = Instant::now() + self.ground.times.response;
        for attempt in 1..=TRIES {
            let last = attempt == TRIES || Instant::now() >= deadline;
            let (mut again, mut moved, mut later) = (Vec::new(), false, false);
            for (index, next) in self.round(&requests, &open).await {
                let reply = match next {
                    Next::Done(reply) => reply,
                    Next::Elsewhere(reason) | Next::Later(reason) if last => away(reason),
                    Next::WithSource if last => away("the script is gone".to_owned()),
                    Next::Ask(address) => self.ask(&requests, index, &address).await,
                    Next::Elsewhere(_) => {
                        moved = true;
                        again.push(index);
                        continue;
                    }
                    Next::Later(_) => {
                        later = true;
                        again.push(index);
                        continue;
                    }
                    Next::WithSource => {
                        if let Some(What::Script { with_source, .. }) =
                            requests.get_mut(index).map(|request| &mut request.what)
                        {
                            *with_source = true;
                        }
                        again.push(index);
                        continue;
                    }
                };
                if let Some(place) = replies.get_mut(index) {
                    *place = Some(reply);
                }
            }
            open = again;
            if open.is_empty() {
                break;
            }
            if moved {
                self.discovery.look_again(deadline.saturating_duration_since(Instant::now())).await;
            } else if later {
                // A slot in the middle of its move, or a node that is being connected, does not say when that is over.
                sleep(self.ground.times.retry.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
        }
        replies.into_iter().map(|reply| reply.unwrap_or_else(|| away("not answered".to_owned()))).collect()
    }

    /// Sends the open requests, those of each node together.
    async fn round(&self, requests: &[Request], open: &[usize]) -> Vec<(usize, Next)> {
        let topology = self.discovery.topology();
        let mut parts: Vec<Part<'_>> = Vec::new();
        for index in open {
            let Some(request) = requests.get(*index) else { continue };
            let node = topology.node_of(request.slot);
            let same = |part: &&mut Part<'_>| part.node.map(Arc::as_ptr) == node.map(Arc::as_ptr);
            match parts.iter_mut().find(same) {
                Some(part) => part.requests.push((*index, request)),
                None => parts.push(Part { node, requests: vec![(*index, request)] }),
            }
        }
        join_all(parts.into_iter().map(|part| self.send(part))).await.into_iter().flatten().collect()
    }

    async fn send(&self, part: Part<'_>) -> Vec<(usize, Next)> {
        let Some(node) = part.node else {
            self.ground.signals.discover.notify_one();
            return part.all("no server is known", Next::away);
        };
        let Some(live) = node.link.live() else {
            let reason = format!("{} does not answer", node.address);
            // One that was just found is being connected for the first time.
            let next = if node.link.has_failed() { Next::away } else { Next::Later };
            return part.all(&reason, next);
        };
        match self.exchange(&live, &part.requests).await {
            Ok(values) => {
                let judge = |((index, request), value): (&(usize, &Request), _)| {
                    (*index, self.judge(node, request, value, live.tracks))
                };
                part.requests.iter().zip(values).map(judge).collect()
            }
            Err(error) => {
                let reason = format!("{}: {error}", node.address);
                if ends_connection(&error) {
                    node.link.fail(&live, &reason);
                }
                part.all(&reason, Next::away)
            }
        }
    }

    async fn exchange(&self, live: &Live, part: &[(usize, &Request)]) -> redis::RedisResult<Vec<Value>> {
        let mut pipeline = Pipeline::with_capacity(part.len());
        let skips: Vec<_> = part.iter().map(|(_, request)| request.write(&mut pipeline, live.tracks)).collect();
        let began = Instant::now();
        let values = live.connection.clone().send_packed_commands(&pipeline, 0, pipeline.len()).await?;
        self.ground.metrics.round_trip.observe(began.elapsed().as_secs_f64());
        let mut values = values.into_iter();
        // The last of those that a request has.
        Ok(skips.into_iter().map(|skip| values.nth(skip).unwrap_or_default()).collect())
    }

    fn judge(&self, node: &Node, request: &Request, value: Value, tracks: bool) -> Next {
        let tracked = tracks && matches!(request.what, What::Tracked(_));
        let error = match value {
            Value::ServerError(error) => error,
            value => return Next::Done(Reply { result: Ok(value), tracked }),
        };
        let reason = format!("{}: {} {}", node.address, error.code(), error.details().unwrap_or_default());
        match error.code() {
            "MOVED" => Next::Elsewhere(reason),
            "ASK" => redirected(&error).map_or_else(|| Next::away(reason), Next::Ask),
            "TRYAGAIN" => Next::Later(reason),
            "NOSCRIPT" => Next::WithSource,
            // A script that fails does so for what it found under its keys.
            "WRONGTYPE" | "ERR" => Next::Done(Reply { result: Err(Failure::Garbage(reason)), tracked: false }),
            code => {
                if code == "READONLY" {
                    // A primary that was made a replica: whoever is the primary now is to be found.
                    node.link.drop_connection(&reason);
                }
                self.ground.signals.discover.notify_one();
                Next::away(reason)
            }
        }
    }

    /// One request at the node that takes over its slot.
    async fn ask(&self, requests: &[Request], index: usize, address: &Address) -> Reply {
        let topology = self.discovery.topology();
        let live = topology.nodes.iter().find(|node| node.address == *address).and_then(|node| node.link.live());
        let (Some(live), Some(request)) = (live, requests.get(index)) else {
            self.ground.signals.discover.notify_one();
            return away(format!("{address} is not known"));
        };
        let mut pipeline = Pipeline::new();
        pipeline.add_command(cmd("ASKING"));
        request.write(&mut pipeline, false);
        let values = live.connection.clone().send_packed_commands(&pipeline, 0, pipeline.len()).await;
        match values.map(|mut values| values.pop().unwrap_or_default()) {
            Ok(Value::ServerError(error)) => away(format!("{address}: {}", error.code())),
            Ok(value) => Reply { result: Ok(value), tracked: false },
            Err(error) => away(format!("{address}: {error}")),
        }
    }
}

fn away(reason: String) -> Reply {
    Reply { result: Err(Failure::Away(reason)), tracked: false }
}

/// The node that `ASK` names: slot, host and port.
fn redirected(error: &ServerError) -> Option<Address> {
    Address::parse(error.details()?.split_whitespace().nth(1)?)
}
