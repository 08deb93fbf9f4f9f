//! A whole process but for its sockets: a real `Service` with registry, link and journal, real `Session`s, and clients that
//! chat, are cut, resume, log in and out, while the store is slow or away and the process is killed and starts again.
//!
//! ```text
//!   Client ══ stanzas, late, lost where the wire is cut ══ Served (Session, XEP-0198) ── Service ── Journal ── Store ─► Disk
//!      └──────────── Facts: what was sent, acknowledged, received, refused ─────────────────────────────────────────────┘
//! ```
//!
//! Time is tokio's, paused: it goes on when nobody has anything to do. The disk is what is left after a kill.

mod client;
mod facts;
/// The very code that `c2s` manages a stream with: it has no sockets in it.
#[path = "../../../c2s/src/managed.rs"]
#[allow(dead_code, reason = "not all of it is asked for here")]
mod managed;
mod process;
mod served;
mod store;
mod wire;
mod world;

use super::seeds::live;

/// How many lives. Each has some hundred messages, and takes a debug build some 50 ms.
const SEEDS: u64 = 300;

#[test]
fn every_acknowledged_message_is_delivered_or_stored_or_refused_and_nothing_is_stuck() {
    live("service", SEEDS, world::live);
}
