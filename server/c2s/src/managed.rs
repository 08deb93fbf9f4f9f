//! Stream management of one session (XEP-0198): what was sent and not acknowledged, what was received, when to say so.
//!
//! ```text
//!   stanzas out ──► acks::Outbound: kept until <a h/>  ──► acknowledged: Service::acknowledged
//!   stanzas in  ──► acks::Inbound: received · safe (the session's ledger) · recorded · announced <a h/>
//!                   └ fingerprints of what is not safe: sent again after a resumption, it is not handled twice
//! ```

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
    time::Instant,
};

use starling_link::{Envelope, Inbox};
use starling_session::Service;
use starling_xml::{Limits, Scope};
use starling_xmpp::acks::{Ask, Inbound, Next, Outbound, TooHigh, nonza};

/// Our own answers (not from the inbox, whose bounds hold for what came through it) that a client may leave
/// unacknowledged. One that leaves more does not manage its stream.
const OWN_UNACKNOWLEDGED: usize = 4096;

/// What was sent.
pub(crate) enum Item {
    /// A stanza that others may have been sent as well.
    Shared(Arc<Envelope>),
    /// An answer of the server.
    Own(Box<[u8]>),
}

/// Where it is written down how many of the client's stanzas are safe, if somebody else may need to know.
pub(crate) trait Record: Send + Sync {
    /// Writes it down; what became of that is said by [`Record::recorded`].
    fn record(&self, h: u32);

    /// What was written since this was asked last.
    fn recorded(&self) -> Option<Recorded>;
}

/// What became of a number that was to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It is written.
    Written(u32),
    /// It could not be.
    Not,
}

/// See the module.
pub(crate) struct Managed {
    /// By which the session is resumed; `None`: it cannot be.
    pub(crate) id: Option<u128>,
    inbound: Inbound,
    outbound: Outbound<Item>,
    /// Of `outbound`, those that are [`Item::Own`].
    own: usize,
    /// The session's count when it began to be managed.
    base: u64,
    /// Fingerprints of the stanzas that were handled and are not safe, oldest first.
    fingerprints: VecDeque<u64>,
    /// Of them, those that the client was told to send again.
    repeats: VecDeque<u64>,
    /// Stanzas that were safe at another instance, which died before its client could be told: their numbers, and what is
    /// the same in one that is sent again.
    known: Vec<(u32, u64)>,
    record: Option<Box<dyn Record>>,
    /// Errors for what could not be kept, which the client has not acknowledged: where each stands in the stream, and how many
    /// of the client's stanzas were safe before it.
    refusals: VecDeque<(u32, u64)>,
}

/// What a stanza that comes in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// To be handled.
    New,
    /// It was handled before the stream was resumed.
    Repeated,
    /// It was handled by another instance, and is safe; the session does not know of it.
    Known,
}

/// A stream that was another instance's until now.
pub(crate) struct Moved {
    /// By which it is resumed.
    pub(crate) id: u128,
    /// How many of the client's stanzas are safe, as is written down.
    pub(crate) safe: u32,
    /// How many stanzas the client has.
    pub(crate) handled: u32,
    /// Stanzas behind `safe` that are safe all the same: their numbers, and what is the same in one that is sent again.
    pub(crate) known: Vec<(u32, u64)>,
    /// What the client does not have.
    pub(crate) unacknowledged: Vec<Item>,
}

impl Managed {
    /// `handled`: the session's count.
    pub(crate) fn new(id: Option<u128>, handled: u64) -> Self {
        Self {
            id,
            inbound: Inbound::new(),
            outbound: Outbound::new(),
            own: 0,
            base: handled,
            fingerprints: VecDeque::new(),
            repeats: VecDeque::new(),
            known: Vec::new(),
            record: None,
            refusals: VecDeque::new(),
        }
    }

    /// The session's count is 0.
    pub(crate) fn moved(moved: Moved) -> Self {
        let mut managed = Self::new(Some(moved.id), 0);
        managed.inbound = Inbound::resume_at(moved.safe);
        managed.outbound = Outbound::resume_at(moved.handled);
        // Of 32 bits, as everything that it is compared with.
        managed.base = 0u64.wrapping_sub(moved.safe.into());
        managed.known = moved.known;
        for item in moved.unacknowledged {
            match item {
                Item::Shared(envelope) => managed.sent(envelope),
                Item::Own(bytes) => managed.sent_own(&bytes),
            }
        }
        managed
    }

    /// The id by which it can be resumed.
    pub(crate) const fn id(&self) -> Option<u128> {
        self.id
    }

    /// How many stanzas the client has acknowledged, modulo 2^32.
    pub(crate) const fn acknowledged_count(&self) -> u32 {
        self.outbound.acknowledged_count()
    }

    /// Writes down elsewhere what is safe, before the client is told.
    pub(crate) fn record_by(&mut self, record: Box<dyn Record>) {
        self.record = Some(record);
    }

    /// The number of the last stanza that came.
    pub(crate) const fn number(&self) -> u32 {
        self.inbound.received_count()
    }

    /// Counts a stanza that the client sent. `essence`: what is the same in one that is sent again, if it is a message.
    pub(crate) fn received(&mut self, stanza: &str, essence: impl FnOnce() -> Option<u64>) -> Incoming {
        let number = self.inbound.received();
        if self.id.is_none() {
            return Incoming::New;
        }
        if let Some(at) = self.known.iter().position(|(known, _)| *known == number) {
            let (_, expected) = self.known.swap_remove(at);
            if essence() == Some(expected) {
                return Incoming::Known;
            }
            // It does not send again what it was told to: nothing can be taken for a repetition by its number any more.
            self.known.clear();
        }
        let fingerprint = fingerprint(stanza);
        if let Some(repeated) = self.repeats.pop_front() {
            if repeated == fingerprint {
                return Incoming::Repeated;
            }
            // It did not send again what it was told to: nothing after it can be taken for a repetition, and what it
            // keeps to itself has no number any more.
            self.base = self.base.wrapping_add(self.repeats.len() as u64 + 1);
            self.repeats.clear();
        }
        self.fingerprints.push_back(fingerprint);
        Incoming::New
    }

    /// The session's ledger says that everything up to `safe` is.
    pub(crate) fn safe(&mut self, safe: u64) {
        // Modulo 2^32, as everything here.
        self.inbound.safe(safe.wrapping_sub(self.base) as u32);
        let not_safe = self.inbound.unsafe_count() as usize + self.repeats.len();
        let surplus = self.fingerprints.len().saturating_sub(not_safe);
        self.fingerprints.drain(..surplus);
        if self.fingerprints.is_empty() && self.fingerprints.capacity() > 64 {
            self.fingerprints = VecDeque::new();
        }
    }

    /// `<r/>` came.
    pub(crate) fn requested(&mut self, now: Instant) {
        self.inbound.requested(now);
    }

    /// Writes what is due: answers to the client and questions. When to ask again, if nothing happens before.
    pub(crate) fn write(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Instant> {
        let answer = loop {
            match self.record.as_ref().and_then(|record| record.recorded()) {
                Some(Recorded::Written(h)) => self.inbound.recorded(h),
                Some(Recorded::Not) => self.inbound.not_recorded(),
                None => {}
            }
            match self.inbound.next(now) {
                Next::Record(h) => match &self.record {
                    Some(record) => record.record(h),
                    // The record of a session that nobody else can have is the session itself.
                    None => self.inbound.recorded(h),
                },
                Next::Announce(h) => nonza::write_answer(h, out),
                Next::Wait(until) => break until,
            }
        };
        let ask = match self.outbound.should_ask(now) {
            Ask::Now => {
                nonza::write_request(out);
                None
            }
            Ask::Wait(until) => until,
        };
        [answer, ask].into_iter().flatten().min()
    }

    /// A stanza goes out.
    pub(crate) fn sent(&mut self, envelope: Arc<Envelope>) {
        let bytes = envelope.stanza.len();
        self.outbound.sent(Item::Shared(envelope), bytes);
    }

    /// Answers of the server go out, any number of stanzas.
    pub(crate) fn sent_own(&mut self, bytes: &[u8]) {
        for stanza in stanzas(bytes) {
            let length = stanza.len();
            self.own += 1;
            self.outbound.sent(Item::Own(stanza), length);
        }
    }

    /// The same for errors that answer what could not be kept; `before`: what was safe before, as the ledger counts.
    pub(crate) fn sent_errors(&mut self, bytes: &[u8], before: u64) {
        if !bytes.is_empty() {
            self.sent_own(bytes);
            self.refusals.push_back((self.outbound.sent_count(), before));
        }
    }

    /// What was sent has been put before the socket. `urgent`: its sender waits for the acknowledgement.
    pub(crate) fn wrote(&mut self, urgent: bool, now: Instant) {
        self.outbound.wrote(urgent, now);
    }

    /// Whether the client leaves too much unacknowledged.
    pub(crate) const fn is_overdrawn(&self) -> bool {
        self.own > OWN_UNACKNOWLEDGED
    }

    /// `<a h/>` came, or the `h` of `<resume/>`.
    pub(crate) fn acknowledged(&mut self, h: u32, service: &Service, inbox: &Inbox) -> Result<(), TooHigh> {
        let (mut stanzas, mut bytes, mut own) = (0, 0, 0);
        let result = self.outbound.acknowledge(h, |item| match item {
            Item::Shared(envelope) => {
                stanzas += 1;
                bytes += envelope.stanza.len();
                service.acknowledged(&envelope);
            }
            Item::Own(_) => own += 1,
        });
        self.own -= own;
        self.forget_refusals();
        if stanzas > 0 {
            inbox.left(stanzas, bytes);
        }
        result
    }

    /// The stream is about to be resumed, everything up to `safe` being so: the `h` that is to be written down before
    /// [`Managed::resumed`].
    pub(crate) fn will_resume(&mut self, safe: u64) -> u32 {
        self.safe(safe);
        self.inbound.safe_count()
    }

    /// The stream is resumed: the `h` for `<resumed/>`, as it was written down. What is written next is
    /// [`Managed::unacknowledged`].
    pub(crate) fn resumed(&mut self, recorded: u32) -> u32 {
        self.inbound.recorded(recorded);
        let h = self.inbound.resumed();
        // All that was received and is not safe is to come again, and was handled already.
        self.repeats = self.fingerprints.clone();
        self.outbound.resumed();
        h
    }

    /// What the client has not acknowledged, oldest first.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = &Item> {
        self.outbound.unacknowledged()
    }

    /// Those that the client has by now.
    fn forget_refusals(&mut self) {
        let acknowledged = self.outbound.acknowledged_count();
        while self.refusals.front().is_some_and(|(at, _)| acknowledged.wrapping_sub(*at) <= u32::MAX / 2) {
            self.refusals.pop_front();
        }
    }

    /// How many of the client's stanzas are safe.
    pub(crate) const fn safe_count(&self) -> u32 {
        self.inbound.safe_count()
    }

    /// The same for `<failed/>` after the session's end, or for whoever goes on with it and does not get what is left here: an
    /// error that the client may not have is no answer then.
    pub(crate) fn final_count(&self) -> u32 {
        let before = self.refusals.front().map(|(_, before)| before.wrapping_sub(self.base) as u32);
        before.unwrap_or_else(|| self.safe_count())
    }

    /// The session is over: what the client has not acknowledged.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Item> + use<> {
        self.own = 0;
        self.outbound.drain()
    }
}

fn fingerprint(stanza: &str) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one(stanza)
}

/// Our own answers, one by one.
fn stanzas(bytes: &[u8]) -> Vec<Box<[u8]>> {
    const OPEN: &str = "<own xmlns='jabber:client'>";
    const CLOSE: &str = "</own>";
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    let wrapped = [OPEN, text, CLOSE].concat();
    let limits = Limits { stanza_bytes: usize::MAX, depth: usize::MAX, attributes: usize::MAX };
    match starling_xml::parse(&wrapped, &Scope::client(), limits) {
        Ok(own) => own.as_raw().children().map(|child| child.as_str().as_bytes().into()).collect(),
        Err(_) => vec![bytes.into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(managed: &mut Managed, now: Instant) -> String {
        let mut out = Vec::new();
        managed.write(now, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn resume(managed: &mut Managed, safe: u64) -> u32 {
        let h = managed.will_resume(safe);
        managed.resumed(h)
    }

    fn message(number: u32) -> String {
        format!("<message><body>{number}</body></message>")
    }

    /// Stanzas 1 to 4 are handled, of which 2 are safe when the connection is cut.
    fn cut() -> (Managed, u64) {
        let mut managed = Managed::new(Some(7), 10);
        for number in 1..=4 {
            assert_eq!(managed.received(&message(number), || None), Incoming::New);
        }
        managed.safe(12);
        (managed, 14)
    }

    #[test]
    fn an_error_that_the_client_may_not_have_answers_nothing_once_the_session_is_over() {
        let mut managed = Managed::new(Some(1), 10);
        for n in 0..3 {
            managed.received(&format!("<message id='{n}'/>"), || None);
        }
        managed.sent_errors(b"", 10);
        managed.sent_errors(b"<message type='error'/>", 11);
        managed.safe(13);
        assert_eq!((managed.safe_count(), managed.final_count()), (3, 1));
        managed.outbound.acknowledge(1, drop).unwrap();
        managed.forget_refusals();
        assert_eq!(managed.final_count(), 3);
    }

    #[test]
    fn xep0198_4_only_what_is_safe_is_acknowledged() {
        let (mut managed, _) = cut();
        let now = Instant::now();
        managed.requested(now);
        assert_eq!(written(&mut managed, now), "");
        managed.safe(14);
        assert_eq!(written(&mut managed, now), "<a xmlns='urn:xmpp:sm:3' h='4'/>");
    }

    #[test]
    fn xep0198_5_what_is_sent_again_is_counted_and_not_handled_twice() {
        let (mut managed, handled) = cut();
        assert_eq!(resume(&mut managed, 12), 2);
        assert_eq!(managed.received(&message(3), || None), Incoming::Repeated);
        assert_eq!(managed.received(&message(4), || None), Incoming::Repeated);
        assert_eq!(managed.received(&message(4), || None), Incoming::New, "the same text, but one more");
        let now = Instant::now();
        managed.requested(now);
        managed.safe(handled + 1);
        assert_eq!(written(&mut managed, now), "<a xmlns='urn:xmpp:sm:3' h='5'/>");
    }

    #[test]
    fn a_client_that_does_not_send_again_what_it_was_told_to_loses_nothing_else() {
        let (mut managed, handled) = cut();
        assert_eq!(resume(&mut managed, 12), 2);
        assert_eq!(managed.received(&message(9), || None), Incoming::New);
        assert_eq!(managed.received(&message(3), || None), Incoming::New, "out of turn");
        let now = Instant::now();
        managed.requested(now);
        // Those that it kept to itself were 3 and 4 of the session; these are 5 and 6, and 3 and 4 of the stream.
        managed.safe(handled + 1);
        assert_eq!(written(&mut managed, now), "");
        managed.safe(handled + 2);
        assert_eq!(written(&mut managed, now), "<a xmlns='urn:xmpp:sm:3' h='4'/>");
    }

    #[test]
    fn a_second_cut_in_the_middle_of_the_repetition_is_told_the_same() {
        let (mut managed, _) = cut();
        assert_eq!(resume(&mut managed, 12), 2);
        assert_eq!(managed.received(&message(3), || None), Incoming::Repeated);
        assert_eq!(resume(&mut managed, 12), 2);
        for number in [3, 4] {
            assert_eq!(managed.received(&message(number), || None), Incoming::Repeated);
        }
    }

    fn moved() -> Managed {
        let moved = Moved { id: 7, safe: 10, handled: 3, known: vec![(12, 120), (13, 130)], unacknowledged: vec![] };
        Managed::moved(moved)
    }

    #[test]
    fn what_a_dead_instance_had_made_safe_is_counted_and_not_handled_twice() {
        let mut managed = moved();
        let mut come = |essence| managed.received("<message/>", || Some(essence));
        assert_eq!(
            [come(110), come(120), come(130), come(140)].map(|come| come == Incoming::Known),
            [false, true, true, false]
        );
        let now = Instant::now();
        managed.requested(now);
        // The session counts what it is told to skip.
        managed.safe(3);
        assert_eq!(written(&mut managed, now), "");
        managed.safe(4);
        assert_eq!(written(&mut managed, now), "<a xmlns='urn:xmpp:sm:3' h='14'/>");
    }

    #[test]
    fn what_is_not_the_same_stanza_is_handled_whatever_its_number() {
        let mut managed = moved();
        let mut come = |essence| managed.received("<message/>", || Some(essence));
        assert_eq!([come(110), come(130), come(130)], [Incoming::New; 3]);
    }

    struct Slow(std::sync::Mutex<(Vec<u32>, Option<Recorded>)>);

    impl Record for Arc<Slow> {
        fn record(&self, h: u32) {
            self.0.lock().unwrap().0.push(h);
        }

        fn recorded(&self) -> Option<Recorded> {
            self.0.lock().unwrap().1.take()
        }
    }

    #[test]
    fn nothing_is_announced_before_it_is_written_down() {
        let mut managed = Managed::new(Some(7), 0);
        let record = Arc::new(Slow(std::sync::Mutex::new((Vec::new(), None))));
        managed.record_by(Box::new(Arc::clone(&record)));
        managed.received(&message(1), || None);
        managed.safe(1);
        let now = Instant::now();
        managed.requested(now);
        assert_eq!(written(&mut managed, now), "");
        assert_eq!(record.0.lock().unwrap().0, [1]);
        record.0.lock().unwrap().1 = Some(Recorded::Not);
        assert_eq!(written(&mut managed, now), "");
        let later = now + std::time::Duration::from_millis(60);
        assert_eq!(written(&mut managed, later), "");
        assert_eq!(record.0.lock().unwrap().0, [1, 1], "tried again");
        record.0.lock().unwrap().1 = Some(Recorded::Written(1));
        assert_eq!(written(&mut managed, later), "<a xmlns='urn:xmpp:sm:3' h='1'/>");
    }

    #[test]
    fn answers_are_counted_one_by_one() {
        let mut managed = Managed::new(None, 0);
        managed.sent_own(b"<iq type='result' id='1'/><presence from='a@b/c'><show>away</show></presence>");
        managed.sent_own(b"");
        assert_eq!(managed.outbound.sent_count(), 2);
        let own: Vec<_> = managed.drain().map(|item| matches!(item, Item::Own(_))).collect();
        assert_eq!(own, [true, true]);
    }
}
