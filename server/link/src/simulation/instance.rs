//! One instance: its mesh, what it sent, what came.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use prost::bytes::Bytes;
use starling_registry::{InstanceId, SessionId};
use starling_xmpp::{
    error::StreamError,
    stanza::{Kind, MessageType},
};

use super::world::Random;
use crate::{
    Arrival, Envelope, Settled, Tracking,
    item::{Addressees, Item, Report},
    mesh::Mesh,
    peer::Sink,
    wire::Stanza,
};

/// What a recipient does with a kept message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Acknowledged,
    Returned,
}

/// Everything that one instance knows.
pub(super) struct Instance {
    pub(super) id: InstanceId,
    pub(super) mesh: Mesh,
    pub(super) log: Log,
}

/// What came out of a mesh.
pub(super) struct Log {
    id: InstanceId,
    pub(super) random: Random,
    now: Instant,
    /// To whom which numbers were sent, in their order.
    pub(super) sent: BTreeMap<InstanceId, Vec<u64>>,
    /// Kept ones among them.
    pub(super) kept: BTreeMap<u64, Arc<Envelope>>,
    pub(super) answered: BTreeMap<u64, u32>,
    pub(super) settled: BTreeMap<u64, Settled>,
    pub(super) failed: BTreeSet<u64>,
    /// From whom which numbers came.
    pub(super) came: BTreeMap<InstanceId, Vec<u64>>,
    /// What was done with those that were kept.
    pub(super) fates: BTreeMap<u64, Fate>,
    /// To be reported at some time.
    pub(super) holding: Vec<(Instant, Report, InstanceId)>,
    pub(super) orphaned: BTreeSet<u64>,
    pub(super) notices: usize,
    /// Requests that wait, and what became of others.
    pub(super) asked: BTreeMap<u64, InstanceId>,
    pub(super) responses: BTreeMap<u64, Option<Bytes>>,
    requests: Vec<(InstanceId, u64, Bytes)>,
    /// By whom: items and bytes that wait.
    pub(super) waiting: HashMap<InstanceId, (i64, i64)>,
}

impl Instance {
    pub(super) fn new(id: InstanceId, seed: u64, now: Instant) -> Self {
        let log = Log {
            id,
            random: Random::new(seed ^ id.0),
            now,
            sent: BTreeMap::new(),
            kept: BTreeMap::new(),
            answered: BTreeMap::new(),
            settled: BTreeMap::new(),
            failed: BTreeSet::new(),
            came: BTreeMap::new(),
            fates: BTreeMap::new(),
            holding: Vec::new(),
            orphaned: BTreeSet::new(),
            notices: 0,
            asked: BTreeMap::new(),
            responses: BTreeMap::new(),
            requests: Vec::new(),
            waiting: HashMap::new(),
        };
        Self { id, mesh: Mesh::new(id), log }
    }

    pub(super) fn at(&mut self, now: Instant) -> &mut Self {
        self.log.now = now;
        self
    }

    /// Sends a stanza that has this number for a body.
    pub(super) fn say(&mut self, to: InstanceId, number: u64, kept: bool) {
        let now = self.log.now;
        let from = format!("{}@a/b", self.id).parse().unwrap();
        let most = if self.log.random.chance(2) { 200_000 } else { 300 };
        let size = self.log.random.below(most);
        let mut stanza = number.to_be_bytes().to_vec();
        stanza.resize(8 + size as usize, b' ');
        let tracking = kept.then(|| Tracking::new(number.into(), true, Arc::default()));
        let kind = Kind::Message(MessageType::Chat);
        let envelope = Arc::new(Envelope { to: None, from, kind, stanza, copied: false, tracking });
        self.log.sent.entry(to).or_default().push(number);
        if let Some(tracking) = &envelope.tracking {
            tracking.hold_at([to]);
            assert_eq!(tracking.release(), Settled::Nothing);
            self.log.kept.insert(number, Arc::clone(&envelope));
        }
        self.put(to, Item::Stanza(envelope, Addressees::Sessions(vec!["x@y/z".into()])), now);
    }

    pub(super) fn ask(&mut self, to: InstanceId, number: u64) {
        let now = self.log.now;
        self.log.asked.insert(number, to);
        let content = Bytes::copy_from_slice(&number.to_be_bytes());
        self.put(to, Item::Request { id: number, content }, now);
    }

    fn put(&mut self, to: InstanceId, item: Item, now: Instant) {
        let waiting = self.log.waiting.entry(to).or_default();
        waiting.0 += 1;
        waiting.1 += item.weight() as i64;
        self.mesh.send(to, item, now, &mut self.log);
    }

    /// Reports what is due, and answers what was asked.
    pub(super) fn work(&mut self, all: bool) {
        let now = self.log.now;
        for (from, id, content) in std::mem::take(&mut self.log.requests) {
            self.put(from, Item::Response { id, content: Some(content) }, now);
        }
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.log.holding).into_iter().partition(|(at, ..)| all || *at <= now);
        self.log.holding = later;
        for (_, report, to) in due {
            let number = number(&report.envelope.stanza);
            let fate = if report.acknowledged { Fate::Acknowledged } else { Fate::Returned };
            self.log.fates.insert(number, fate);
            self.mesh.report(to, report, now, &mut self.log);
        }
        self.mesh.tick(now, &mut self.log);
    }
}

fn number(stanza: &[u8]) -> u64 {
    u64::from_be_bytes(stanza[..8].try_into().unwrap())
}

impl Sink for Log {
    fn stanza(
        &mut self,
        from: InstanceId,
        sequence: u64,
        stanza: &Stanza<'_>,
        _: &dyn Fn(&str) -> bool,
    ) -> Option<Report> {
        let number = number(stanza.stanza);
        self.came.entry(from).or_default().push(number);
        let id = stanza.id?;
        let tracking = Tracking::arrived(id, stanza.archived, Arrival { from, sequence });
        let (to, sender) = (None, stanza.from.parse().unwrap());
        let kind = stanza.kind.unwrap();
        let envelope = Envelope {
            to,
            from: sender,
            kind,
            stanza: stanza.stanza.to_vec(),
            copied: false,
            tracking: Some(tracking),
        };
        let report = Report { sequence, acknowledged: !self.random.chance(30), envelope: Arc::new(envelope) };
        if self.random.chance(20) {
            // Nobody is there.
            self.fates.insert(number, Fate::Returned);
            return Some(Report { acknowledged: false, ..report });
        }
        let at = self.now + Duration::from_millis(self.random.below(3000));
        self.holding.push((at, report, from));
        None
    }

    fn poke(&mut self, _: &str, _: SessionId) {}

    fn close(&mut self, _: &str, _: SessionId, _: StreamError) {}

    fn request(&mut self, from: InstanceId, id: u64, content: Bytes) {
        self.requests.push((from, id, content));
    }

    fn response(&mut self, id: u64, content: Option<Bytes>) {
        // The first word counts, as for whoever waits for it.
        self.responses.entry(id).or_insert(content);
    }

    fn notice(&mut self, _: InstanceId, _: Bytes) {
        self.notices += 1;
    }

    fn answered(&mut self, envelope: &Arc<Envelope>) {
        *self.answered.entry(number(&envelope.stanza)).or_default() += 1;
    }

    fn settled(&mut self, envelope: &Arc<Envelope>, settled: Settled) {
        let before = self.settled.insert(number(&envelope.stanza), settled);
        assert_eq!(before, None, "{}: settled twice", self.id);
    }

    fn failed(&mut self, envelope: &Arc<Envelope>) {
        assert!(self.failed.insert(number(&envelope.stanza)), "{}: failed twice", self.id);
    }

    fn orphaned(&mut self, report: Report) {
        assert!(self.orphaned.insert(number(&report.envelope.stanza)), "{}: orphaned twice", self.id);
    }

    fn taken(&mut self) {}

    fn returned(&mut self) -> u64 {
        0
    }

    fn ended(&mut self, _: InstanceId) {}

    fn forgotten(&mut self, _: InstanceId) {}

    fn freed(&mut self, instance: InstanceId, items: usize, bytes: usize) {
        let waiting = self.waiting.entry(instance).or_default();
        waiting.0 -= items as i64;
        waiting.1 -= bytes as i64;
    }
}
