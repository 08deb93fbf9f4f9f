//! XMPP without I/O: what a stream says and what may be answered, as values and state machines. Nothing here opens a
//! socket, reads a clock or spawns a task; `stream`, `c2s` and `session` feed it and write what it puts out.
//!
//! ```text
//!   frames of starling-xml ──▶ stanza ──▶ header over the raw payload ──▶ session, link
//!            │                   │ jid     (RFC 7622, address cache)
//!            │                   └ error   (stanza and stream errors, RFC 6120 §8.3, §4.9)
//!            └──▶ negotiate::accept    features · STARTTLS · SASL · bind ──▶ Established
//!                 negotiate::initiate  the same from the other end; XEP-0114
//!                        └ sasl  (PLAIN, SCRAM, channel binding)
//!        acks: XEP-0198's counters: what is safe and announced, what is sent and not acknowledged
//! ```

pub mod acks;
pub mod error;
pub mod jid;
pub mod negotiate;
pub mod ns;
pub mod random;
pub mod sasl;
pub mod stanza;

pub use error::{Condition, ErrorType, StanzaError, StreamCondition, StreamError};
pub use random::{Random, SystemRandom};
pub use stanza::{IqType, Kind, Malformed, MessageType, PresenceType, Stanza};
