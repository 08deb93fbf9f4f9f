//! Errors that XMPP sends: of a stream (RFC 6120 §4.9), which ends it, and of a stanza (RFC 6120 §8.3), which answers it.

mod stanza;
mod stream;

pub use stanza::{Condition, ErrorType, StanzaError};
pub use stream::{StreamCondition, StreamError};
