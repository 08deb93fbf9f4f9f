//! Connections: bytes in pieces, in order, late, until they are cut.

use starling_xml::{Frame, Limits, OwnedElement, Reader};

use crate::simulation::seeds::Dice;

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client = 0,
    Server = 1,
}

const HEADER: &[u8] =
    b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

/// One connection; what travels to each side.
pub(crate) struct Connection {
    ways: [Way; 2],
}

struct Way {
    /// When the last piece arrives, so that none overtakes.
    last: u64,
    sent: usize,
    arrived: usize,
    /// Bytes that arrive at all; the rest is lost.
    limit: usize,
    reader: Reader,
    /// The receiving end knows that the connection is gone, or has left it.
    deaf: bool,
}

impl Connection {
    pub(crate) fn new() -> Self {
        let way = || Way {
            last: 0,
            sent: 0,
            arrived: 0,
            limit: usize::MAX,
            reader: Reader::new(Limits::default()),
            deaf: false,
        };
        Self { ways: [way(), way()] }
    }

    /// Sends bytes to a side: the pieces with the times at which they arrive.
    pub(crate) fn send(&mut self, to: Side, now: u64, bytes: &[u8], dice: &mut Dice) -> Vec<(u64, Vec<u8>)> {
        let way = &mut self.ways[to as usize];
        let mut whole = Vec::new();
        if way.sent == 0 {
            whole.extend_from_slice(HEADER);
        }
        whole.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        let mut rest = whole.as_slice();
        while !rest.is_empty() {
            let length = if dice.chance(70) { rest.len() } else { 1 + dice.below(rest.len() as u64) as usize };
            let (piece, more) = rest.split_at(length);
            way.last = way.last.max(now + dice.mostly_small(80_000));
            way.sent += length;
            pieces.push((way.last, piece.to_vec()));
            rest = more;
        }
        pieces
    }

    /// A piece arrives, and with it these elements.
    pub(crate) fn arrive(&mut self, to: Side, piece: &[u8]) -> Vec<OwnedElement> {
        let mut found = Vec::new();
        let way = &mut self.ways[to as usize];
        let piece = &piece[..piece.len().min(way.limit - way.arrived)];
        way.arrived += piece.len();
        if way.deaf {
            return found;
        }
        let mut input = piece;
        while let Some(frame) = way.reader.read(&mut input).expect("both ends write XML") {
            if let Frame::Element(element) = &frame {
                found.push(element.to_owned());
            }
        }
        found
    }

    /// Cuts the connection somewhere in what is under way to each side. Nothing that is sent later arrives.
    pub(crate) fn cut(&mut self, dice: &mut Dice) {
        for way in &mut self.ways {
            let arrives = way.arrived + dice.below((way.sent - way.arrived) as u64 + 1) as usize;
            way.limit = way.limit.min(arrives);
        }
    }

    /// This side reads no more of it. `false`: it did not before.
    pub(crate) fn leave(&mut self, side: Side) -> bool {
        !std::mem::replace(&mut self.ways[side as usize].deaf, true)
    }
}
