//! XEP-0198 between one client and one server, by `starling_xmpp::acks` and real XML over a simulated wire, in virtual
//! time.
//!
//! ```text
//!   Client ══ bytes, in pieces, late, cut anywhere ══ Server ── journal, in groups, late ──► Store
//!      ▲                                                 │  ── record of h, late or failing ─►   │
//!      └── what it dropped as acknowledged is safe       └── crashes: only the store is left ────┘
//! ```

mod client;
mod server;
mod wire;
mod world;

use super::seeds::live;

/// How many lives; a debug build takes well under a minute for them.
const SEEDS: u64 = 10_000;

#[test]
fn nothing_acknowledged_is_lost_and_nothing_comes_twice_across_resumptions() {
    live("counters", SEEDS, world::live);
}
