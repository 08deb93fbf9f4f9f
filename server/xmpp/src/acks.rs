//! Stream management's counters and elements (XEP-0198) without I/O: what each end of a stream has counted, when the
//! client is told, and when it is asked. All counts are modulo 2^32 (§4).
//!
//! ```text
//!   the client's stanzas ─► Inbound    received ≥ safe ≥ recorded ≥ announced   ─► <a h/>, <resumed h/>
//!   our stanzas ──────────► Outbound   kept until the client's <a h/> covers them ─► <r/>
//!   first-level elements ─► nonza      <enable/>, <resume/>, <r/>, <a/> read; their answers written
//! ```

mod inbound;
pub mod nonza;
mod outbound;
#[cfg(test)]
mod tests;

pub use inbound::{ANNOUNCE_AT_MOST_EVERY, ANSWER_WITHIN, Inbound, Next};
pub use outbound::{ASK_AFTER, ASK_AFTER_BYTES, ASK_AFTER_STANZAS, Ask, Outbound, TooHigh};
