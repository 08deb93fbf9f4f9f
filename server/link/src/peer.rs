//! Everything between this instance and one other.
//!
//! ```text
//!   send ──► Outgoing ──► Body ═══════════════════════════════► Incoming ──► Sink::stanza ──► taken, or not
//!              ▲                                                                   │
//!              └── confirmed: it has answered ◄════════════════════ Body ◄── reports ◄──┘ (acknowledged, returned)
//! ```

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use starling_registry::{InstanceId, SessionId};
use starling_xmpp::error::StreamError;

use crate::{
    Envelope, Settled, Tracking,
    item::{Item, Report},
    paths::Path,
    window::{Arriving, Incoming, Outgoing},
    wire::{self, Head, Malformed, Payload, Stanza},
};

/// How long confirmations and reports wait for company.
pub(crate) const LAZY: Duration = Duration::from_millis(2);
/// How long somebody who asked something waits for it to arrive; then it has not.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(5);
/// Bytes of one body; the payload that goes over it is still in.
const BODY_BYTES: usize = 64 * 1024;
/// Credit that this release gives: bytes that may be on their way here from one instance.
pub(crate) const WINDOW: u32 = 1 << 20;
/// Reports of one payload.
const REPORTS: usize = 4096;

/// Sessions that did not take something and are remembered; with more, those are forgotten that all have heard of.
const REFUSED: usize = 4096;

/// What a link is for: where everything goes that comes out of it. Nothing of it waits.
pub(crate) trait Sink {
    /// A stanza for sessions, or for whoever speaks for a domain; not for those that `refuses` it. The report, if nobody here
    /// has it and somebody must know.
    fn stanza(
        &mut self,
        from: InstanceId,
        sequence: u64,
        stanza: &Stanza<'_>,
        refuses: &dyn Fn(&str) -> bool,
    ) -> Option<Report>;
    /// Another instance has returned messages. A number that rises, for whoever looks whether it has.
    fn returned(&mut self) -> u64;
    /// A payload came that its sender counted.
    fn taken(&mut self);
    /// Messages for a session's account wait in the store.
    fn poke(&mut self, full: &str, session: SessionId);
    /// A session is to end.
    fn close(&mut self, full: &str, session: SessionId, error: StreamError);
    /// Something that waits for an answer.
    fn request(&mut self, from: InstanceId, id: u64, content: prost::bytes::Bytes);
    /// An answer. `None`: it will not be answered.
    fn response(&mut self, id: u64, content: Option<prost::bytes::Bytes>);
    /// Something that is not answered.
    fn notice(&mut self, from: InstanceId, content: prost::bytes::Bytes);
    /// All instances that a kept message was sent to have said whether they took it.
    fn answered(&mut self, envelope: &Arc<Envelope>);
    /// Another instance let go of a kept message, and this is to be done.
    fn settled(&mut self, envelope: &Arc<Envelope>, settled: Settled);
    /// A stanza that nobody keeps did not arrive, or nobody knows whether it did.
    fn failed(&mut self, envelope: &Arc<Envelope>);
    /// What became of a kept message could not be told where it entered, for that instance is no more.
    fn orphaned(&mut self, report: Report);
    /// An instance is no more: nothing is to be sent to it.
    fn ended(&mut self, instance: InstanceId);
    /// An instance is no more, and so long ago that nothing of it will come.
    fn forgotten(&mut self, instance: InstanceId);
    /// So much no longer waits for this instance, and counts no longer against its bounds.
    fn freed(&mut self, instance: InstanceId, items: usize, bytes: usize);
}

#[derive(Debug)]
pub(crate) struct Peer {
    id: InstanceId,
    out: Outgoing<Item>,
    incoming: Incoming,
    path: Option<Path>,
    /// To be told.
    reports: Vec<Report>,
    /// Kept messages that were sent there, until they are settled, by their numbers.
    held: HashMap<u64, (Arc<Envelope>, usize)>,
    /// Sessions here that did not take a kept message from there, and the number of the report that says so, once it has one.
    /// What was sent before that report was known there would overtake what it returned.
    refused: HashMap<Box<str>, Option<u64>>,
    /// What [`Sink::returned`] said when the instance had returned something last.
    last_return: u64,
    /// When there is something to say that can wait no longer.
    say_at: Option<Instant>,
    /// When to look again for what is to be given up.
    expire_at: Option<Instant>,
    /// The timer that its owner has set for it.
    pub(crate) timer: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(id: InstanceId, path: Option<Path>) -> Self {
        Self {
            id,
            out: Outgoing::new(WINDOW as usize),
            incoming: Incoming::new(),
            path,
            reports: Vec::new(),
            held: HashMap::new(),
            refused: HashMap::new(),
            last_return: 0,
            say_at: None,
            expire_at: None,
            timer: None,
        }
    }

    pub(crate) const fn path(&self) -> Option<Path> {
        self.path
    }

    /// Whether nothing is on its way to it: a path may change without anything being sent again.
    pub(crate) const fn is_idle(&self) -> bool {
        self.out.is_idle()
    }

    /// Whether nothing at all is left between the two.
    pub(crate) fn is_settled(&self) -> bool {
        self.out.is_empty() && self.reports.is_empty() && self.held.is_empty() && !self.incoming.is_unconfirmed()
    }

    /// Another path, or none. What was on its way by the old one is sent again.
    pub(crate) fn set_path(&mut self, path: Option<Path>, now: Instant) {
        if self.path != path {
            self.path = path;
            self.out.rewind();
            self.say_at.get_or_insert(now);
        }
    }

    pub(crate) fn send(&mut self, item: Item, now: Instant) {
        if let Item::Request { .. } = item {
            // Whoever asks whether all that was said before has been taken means these as well.
            self.number_reports(now);
        }
        let weight = item.weight();
        if let Some(envelope) = item.kept() {
            let number = self.out.next_number() + self.out.waiting() as u64;
            self.held.insert(number, (Arc::clone(envelope), weight));
        }
        self.out.push(item, weight, now);
        self.expire_at.get_or_insert(now + GIVE_UP);
    }

    fn number_reports(&mut self, now: Instant) {
        while !self.reports.is_empty() {
            let rest = self.reports.split_off(self.reports.len().min(REPORTS));
            let reports = Item::Reports(std::mem::replace(&mut self.reports, rest));
            self.send(reports, now);
        }
        let number = self.out.next_number() + self.out.waiting() as u64 - 1;
        self.refused.values_mut().filter(|report| report.is_none()).for_each(|report| *report = Some(number));
    }

    /// Whether what comes for this session was sent before it was known there that an earlier message has been returned.
    fn refuses(&self, full: &str, confirmed: u64, stale: bool) -> bool {
        self.refused.get(full).is_some_and(|report| stale || report.is_none_or(|number| confirmed < number))
    }

    /// What became of a kept message that came from there.
    pub(crate) fn report(&mut self, report: Report, now: Instant) {
        self.reports.push(report);
        self.say_at.get_or_insert(now + LAZY);
    }

    /// Whether there is something to say now.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.path.is_some() && (self.out.may_transmit() || self.say_at.is_some_and(|at| at <= now))
    }

    /// When there is something to do, if nothing happens before.
    pub(crate) fn due(&self) -> Option<Instant> {
        let talks = self.path.is_some();
        let say = self.say_at.filter(|_| talks);
        let resend = self.out.resend_at().filter(|_| talks);
        [say, resend, self.expire_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant, sink: &mut dyn Sink) {
        if self.path.is_some() && self.out.resend_at().is_some_and(|at| at <= now) {
            self.out.resend();
        }
        if self.expire_at.is_some_and(|at| at <= now) {
            self.expire(now, sink);
        }
    }

    /// Gives up what was sent long ago and is of no use later.
    fn expire(&mut self, now: Instant, sink: &mut dyn Sink) {
        for sent in self.out.iter_mut() {
            if sent.since + GIVE_UP > now {
                break;
            }
            let (is_kept, weight) = (sent.item.kept().is_some(), sent.weight);
            match &sent.item {
                Item::Stanza(envelope, _) if !is_kept => sink.failed(envelope),
                Item::Request { id, .. } => sink.response(*id, None),
                Item::Notice(_) => {}
                Item::Stanza(..)
                | Item::Reports(_)
                | Item::Poke { .. }
                | Item::Close { .. }
                | Item::Response { .. }
                | Item::Void => continue,
            }
            sent.item = Item::Void;
            sink.freed(self.id, 1, weight);
        }
        let oldest = self.out.oldest();
        self.expire_at = oldest.map(|since| (since + GIVE_UP).max(now + GIVE_UP / 5));
    }

    /// The next body, if there is something to say.
    pub(crate) fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.is_ready(now) {
            return None;
        }
        self.number_reports(now);
        self.say_at = None;
        let first = self.out.next_number();
        let missing = self.incoming.told();
        let mut body = Vec::with_capacity(1024);
        Head { first, confirmed: self.incoming.taken(), window: WINDOW, missing }.write(&mut body);
        while body.len() < BODY_BYTES
            && let Some(item) = self.out.transmit(now)
        {
            let tracking = item.kept().and_then(|envelope| envelope.tracking.as_ref());
            let stale = tracking.is_some_and(|tracking| tracking.horizon < self.last_return);
            wire::write_item(item, stale, &mut body);
        }
        Some(body)
    }

    /// Takes what came from there.
    pub(crate) fn receive(&mut self, body: &[u8], now: Instant, sink: &mut dyn Sink) -> Result<(), Malformed> {
        let (head, payloads) = wire::read(body)?;
        self.out.grant(head.window as usize);
        if head.missing > 0 {
            self.out.rewind_to(head.missing);
        }
        let skipped = match self.incoming.arrive(head.first, payloads.len(), now) {
            Arriving::From(skipped) => skipped,
            Arriving::Gap => {
                if self.incoming.has_gap() {
                    self.say_at = Some(now);
                }
                return Ok(());
            }
        };
        for (number, payload) in (head.first..).zip(payloads).skip(skipped) {
            // What cannot be read has been taken all the same: it would never be otherwise.
            match wire::read_payload(payload) {
                Ok(payload) => self.take(number, payload, head.confirmed, now, sink),
                Err(Malformed) => tracing::warn!(from = %self.id, number, "A payload cannot be read"),
            }
        }
        if self.incoming.is_unconfirmed() {
            self.say_at.get_or_insert(now + LAZY);
        }
        let (mut items, mut bytes) = (0, 0);
        self.out.confirm(head.confirmed, now, |sent| match sent.item.kept() {
            // It counts until it is settled.
            Some(envelope) if envelope.tracking.as_ref().is_some_and(Tracking::answered) => sink.answered(envelope),
            Some(_) => {}
            None if sent.item.is_counted() => {
                items += 1;
                bytes += sent.weight;
            }
            None => {}
        });
        if items > 0 {
            sink.freed(self.id, items, bytes);
        }
        Ok(())
    }

    fn take(&mut self, number: u64, payload: Payload<'_>, confirmed: u64, now: Instant, sink: &mut dyn Sink) {
        if !matches!(payload, Payload::Reports { .. } | Payload::Nothing) {
            sink.taken();
        }
        match payload {
            Payload::Stanza(stanza) => self.take_stanza(number, &stanza, confirmed, now, sink),
            Payload::Reports { acknowledged, returned } => {
                let any = !returned.is_empty();
                for (numbers, acknowledged) in [(acknowledged, true), (returned, false)] {
                    for number in numbers {
                        self.settle(number, acknowledged, sink);
                    }
                }
                // Behind that: whoever sees the number rise sees what was returned.
                if any {
                    self.last_return = sink.returned();
                }
            }
            Payload::Poke { full, session } => sink.poke(&full, session),
            Payload::Close { full, session, error } => sink.close(&full, session, error),
            Payload::Request { id, content } => sink.request(self.id, id, content),
            Payload::Response { id, content } => sink.response(id, content),
            Payload::Notice(content) => sink.notice(self.id, content),
            Payload::Nothing => {}
        }
    }

    fn take_stanza(&mut self, number: u64, stanza: &Stanza<'_>, confirmed: u64, now: Instant, sink: &mut dyn Sink) {
        if stanza.id.is_none() {
            sink.stanza(self.id, number, stanza, &|_| false);
            return;
        }
        let report = sink.stanza(self.id, number, stanza, &|full| self.refuses(full, confirmed, stanza.stale));
        let to = [stanza.to];
        let targets = if stanza.targets.is_empty() { &to[..] } else { &stanza.targets[..] };
        match report {
            Some(report) => {
                if !report.acknowledged {
                    if self.refused.len() >= REFUSED {
                        self.refused.retain(|_, report| report.is_none_or(|number| number > confirmed));
                    }
                    self.refused.extend(targets.iter().map(|full| ((*full).into(), None)));
                }
                self.report(report, now);
            }
            None if self.refused.is_empty() => {}
            // What came was sent by one who knew.
            None => self.refused.retain(|full, _| !targets.contains(&&**full)),
        }
    }

    fn settle(&mut self, number: u64, acknowledged: bool, sink: &mut dyn Sink) {
        // Unknown: it was settled by something else.
        let Some((envelope, weight)) = self.held.remove(&number) else { return };
        sink.freed(self.id, 1, weight);
        let Some(tracking) = &envelope.tracking else { return };
        match tracking.let_go_at(self.id, acknowledged) {
            Settled::Nothing => {}
            settled => sink.settled(&envelope, settled),
        }
    }

    /// The instance is no more: nothing that was on its way, or that it held, will ever be heard of.
    pub(crate) fn end(mut self, sink: &mut dyn Sink) {
        let (mut items, mut bytes) = (0, 0);
        // In the order in which they were sent, as everything that is settled.
        let mut held: Vec<_> = self.held.keys().copied().collect();
        held.sort_unstable();
        for number in held {
            self.settle(number, false, sink);
        }
        for sent in self.out.drain() {
            let is_counted = sent.item.is_counted();
            match sent.item {
                Item::Stanza(envelope, _) => match &envelope.tracking {
                    Some(tracking) => {
                        if tracking.answered() {
                            sink.answered(&envelope);
                        }
                        continue;
                    }
                    None => sink.failed(&envelope),
                },
                Item::Reports(reports) => reports.into_iter().for_each(|report| sink.orphaned(report)),
                Item::Request { id, .. } => sink.response(id, None),
                Item::Poke { .. } | Item::Close { .. } | Item::Response { .. } | Item::Notice(_) | Item::Void => {}
            }
            if is_counted {
                items += 1;
                bytes += sent.weight;
            }
        }
        self.reports.drain(..).for_each(|report| sink.orphaned(report));
        if items > 0 {
            sink.freed(self.id, items, bytes);
        }
    }
}
