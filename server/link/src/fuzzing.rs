//! What `tests/fuzz` drives: bytes that another instance claims to be a body, read by hand and by a peer's state machine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prost::{Message as _, bytes::Bytes};
use starling_proto::link as proto;
use starling_registry::{InstanceId, SessionId};
use starling_xmpp::error::StreamError;

use crate::{
    Envelope,
    item::{Item, Report},
    peer::{Peer, Sink},
    tracking::Settled,
    wire,
};

/// Bodies, each behind its length in two bytes, are taken by a peer that has things on their way. Panics if what is read by
/// hand differs from what the generated code reads, or if more is settled than was sent.
pub fn bodies(data: &[u8]) {
    let mut now = Instant::now();
    let mut peer = Peer::new(InstanceId(2), None);
    let mut sink = Counting::default();
    for id in 0..4 {
        peer.send(Item::Request { id, content: Bytes::from_static(b"content") }, now);
    }
    while peer.transmit(now).is_some() {}
    let mut rest = data;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (body, behind) = behind.split_at(behind.len().min(u16::from_be_bytes(*length).into()));
        rest = behind;
        same(body);
        // A body that cannot be read ends the stream in `driver`; here the next one is taken all the same.
        peer.receive(body, now, &mut sink).ok();
        now += Duration::from_millis(100);
        peer.tick(now, &mut sink);
        while peer.transmit(now).is_some() {}
    }
    peer.end(&mut sink);
    assert!(sink.freed <= 4, "{} of 4 were freed", sink.freed);
}

fn same(body: &[u8]) {
    let (Ok(decoded), Ok((head, payloads))) = (proto::Body::decode(body), wire::read(body)) else { return };
    let known = (decoded.first, decoded.confirmed, decoded.window, decoded.missing, decoded.payloads.len());
    assert_eq!((head.first, head.confirmed, head.window, head.missing, payloads.len()), known);
}

#[derive(Default)]
struct Counting {
    freed: usize,
    returned: u64,
}

impl Sink for Counting {
    fn stanza(
        &mut self,
        _: InstanceId,
        _: u64,
        stanza: &wire::Stanza<'_>,
        refuses: &dyn Fn(&str) -> bool,
    ) -> Option<Report> {
        refuses(stanza.to);
        None
    }

    fn returned(&mut self) -> u64 {
        self.returned += 1;
        self.returned
    }

    fn taken(&mut self) {}

    fn poke(&mut self, _: &str, _: SessionId) {}

    fn close(&mut self, _: &str, _: SessionId, _: StreamError) {}

    fn request(&mut self, _: InstanceId, _: u64, _: Bytes) {}

    fn response(&mut self, _: u64, _: Option<Bytes>) {}

    fn notice(&mut self, _: InstanceId, _: Bytes) {}

    fn answered(&mut self, _: &Arc<Envelope>) {}

    fn settled(&mut self, _: &Arc<Envelope>, _: Settled) {}

    fn failed(&mut self, _: &Arc<Envelope>) {}

    fn orphaned(&mut self, _: Report) {}

    fn ended(&mut self, _: InstanceId) {}

    fn forgotten(&mut self, _: InstanceId) {}

    fn freed(&mut self, _: InstanceId, items: usize, _: usize) {
        self.freed += items;
    }
}
