//! What must hold whatever happens, shown by chance: many short lives of clients and servers, each made from one number.
//! A failing one is printed; `STARLING_SEED=n` lives exactly that one again, and prints what happens in it.
//!
//! - `counters`: XEP-0198's two ends over a wire that is cut in the middle of stanzas, by the parts without I/O alone.
//! - `service`: a whole process but for its sockets, killed and started again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a simulation does not expect is a failed test")]

mod simulation {
    mod counters;
    mod seeds;
    mod service;
}
